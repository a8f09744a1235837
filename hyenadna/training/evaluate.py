"""Bits per base of a language model on held-out regions, beside Markov models that were fitted on the training regions.

Model and baselines are scored on exactly the same bases with exactly the same left context, tile by tile.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.genome import Genome
from hyenadna.data.windows import TiledWindows
from hyenadna.errors import ConfigError
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval
from hyenadna.tasks.causal_lm import BASE_TOKEN_IDS, bits_per_base
from hyenadna.tasks.markov import MarkovModel
from hyenadna.tokenizers import CharacterTokenizer

Progress = Callable[[int], None]


class EvaluatedRegions(NamedTuple):
    """A genome and the regions of it that are evaluated, or that baselines are fitted on."""

    genome: Genome
    intervals: Sequence[Interval]

    def spans(self) -> Sequence[Interval]:
        """Return the intervals; where none is given, all contigs."""
        return self.intervals or [Interval(c, 0, n) for c, n in self.genome.contigs.items() if n]


class LanguageModelEvaluation(NamedTuple):
    """Numbers of one evaluation.

    Parameters
    ----------
    n_scored
        Number of scored bases: A, C, G and T, without the first base of every region.
    loss_nats
        Mean −log p of the model, nats per base.
    bits_per_base
        The same in bits.
    markov_bits_per_base
        Bits per base of the Markov models of order 0 … K; empty where none was fitted.
    window, context
        Longest input in tokens, and the least number of bases before a scored one, except at the start of a region.
    """

    n_scored: int
    loss_nats: float
    bits_per_base: float
    markov_bits_per_base: tuple[float, ...]
    window: int
    context: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the best baseline named."""
        plain = self._asdict()
        plain["markov_bits_per_base"] = list(self.markov_bits_per_base)
        if self.markov_bits_per_base:
            best = int(np.argmin(self.markov_bits_per_base))
            plain["best_markov"] = {"order": best, "bits_per_base": self.markov_bits_per_base[best]}
        return plain


def fit_markov(training: Iterable[EvaluatedRegions], *, max_order: int) -> MarkovModel:
    """Fit Markov models on regions, both strands.

    Raises
    ------
    DataError
        The regions hold too few bases in a row.
    """
    return MarkovModel.fit(
        (regions.genome.codes(interval) for regions in training for interval in regions.intervals),
        max_order=max_order,
    )


def resolve_window(max_seq_len: int, window: int | None, context: int | None) -> tuple[int, int]:
    """Return window and context of `evaluate_language_model`, with defaults filled in.

    Raises
    ------
    ConfigError
        The window or context is impossible for a model of this longest input.
    """
    window = min(max_seq_len, 32_768) if window is None else window
    if not 2 <= window <= max_seq_len:
        raise ConfigError(
            f"a window of {window} is impossible; the model reads 2 to {max_seq_len} tokens"
        )
    context = max(1, window // 4) if context is None else context
    if not 1 <= context < window:
        raise ConfigError(
            f"a context of {context} is impossible; 1 to {window - 1} fit the window of {window}"
        )
    return window, context


def evaluate_language_model(
    model: HyenaForCausalLM,
    regions: Sequence[EvaluatedRegions],
    *,
    markov: MarkovModel | None = None,
    window: int | None = None,
    context: int | None = None,
    max_bases: int | None = None,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> LanguageModelEvaluation:
    """Score every A, C, G, T of some regions once, with the model and with the Markov models.

    Parameters
    ----------
    model
        Used on `device` in evaluation mode; both are as before afterwards.
    regions
        What is scored.
    markov
        From `fit_markov`; None leaves the baselines out.
    window
        Length of an input, tokens; None takes the model's longest, at most 32,768.
    context
        Bases at the front of each window that are only read, but at a region's start: 1 … window − 1. None takes a quarter of
        the window.
    max_bases
        Score evenly thinned windows of about so many bases; None scores all.
    batch_size
        Windows per forward pass.
    device
        Where the model computes.
    progress
        Called with the number of bases scored since the last call.

    Raises
    ------
    ConfigError
        The window or context is impossible for the model.
    DataError
        The regions hold no base.
    """
    window, context = resolve_window(model.config.max_seq_len, window, context)
    tokenizer = CharacterTokenizer()
    limit = None
    if max_bases is not None:
        limit = max(1, max_bases // ((window - context) * len(regions)))
    tiles = [
        TiledWindows(
            r.genome, r.intervals, window, table=tokenizer.code_table, overlap=context,
            pad_token_id=tokenizer.pad_token_id, limit=limit,
        )
        for r in regions
    ]  # fmt: skip
    region_starts = [{(i.chrom, i.start) for i in r.spans()} for r in regions]
    nats, n_scored = 0.0, 0
    markov_nats = np.zeros(markov.max_order + 1 if markov else 0)
    with evaluating(model, device):
        for numbers in _batches(tiles, batch_size):
            places = [tiles[part].location(i) for part, i in numbers]
            firsts = [
                1 if (place.chrom, place.start) in region_starts[part] else context
                for place, (part, _) in zip(places, numbers, strict=True)
            ]
            ids = np.stack([tiles[part].window(i) for part, i in numbers])
            ids = ids[:, : max(len(place) for place in places)]
            batch_nats, n_batch = nats_of_rows(model, ids, firsts, device)
            nats += sum(batch_nats)
            n_scored += n_batch
            if markov is not None:
                for place, first, (part, _) in zip(places, firsts, numbers, strict=True):
                    markov_nats += markov.score(regions[part].genome.codes(place), first=first).nats
            if progress is not None:
                progress(n_batch)
    mean = nats / max(n_scored, 1)
    return LanguageModelEvaluation(
        n_scored=n_scored,
        loss_nats=mean,
        bits_per_base=bits_per_base(mean),
        markov_bits_per_base=tuple(markov_nats / max(n_scored, 1) / math.log(2)),
        window=window,
        context=context,
    )


def _batches(tiles: Sequence[TiledWindows], batch_size: int) -> Iterator[list[tuple[int, int]]]:
    numbers = [(part, i) for part, tiled in enumerate(tiles) for i in range(len(tiled))]
    for start in range(0, len(numbers), batch_size):
        yield numbers[start : start + batch_size]


def nats_of_rows(
    model: HyenaForCausalLM,
    ids: npt.NDArray[np.uint8],
    firsts: Sequence[int],
    device: torch.device | str,
) -> tuple[list[float], int]:
    """Return what a model pays for the A, C, G and T of some rows.

    Parameters
    ----------
    model
        On `device`, in evaluation mode.
    ids
        Token ids, shape (B, L).
    firsts
        For each row the place of its first scored base, 1 … L; those before it are only read.
    device
        Where the model is.

    Returns
    -------
    tuple
        Σ −log p of each row, nats, and the number of scored bases of all.

    Raises
    ------
    ConfigError
        The model is bidirectional.
    """
    if model.config.bidirectional:
        raise ConfigError(
            "a bidirectional model has no likelihood of a next base; evaluate a causal one"
        )
    with torch.inference_mode():
        token_ids = torch.from_numpy(ids).to(device)
        log_p = torch.log_softmax(model(token_ids)[:, :-1].float(), dim=-1)
        targets = token_ids[:, 1:].long()
        chosen = log_p.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        position = torch.arange(1, token_ids.shape[1], device=device)
        scored = (targets >= BASE_TOKEN_IDS[0]) & (targets <= BASE_TOKEN_IDS[-1])
        scored &= position >= torch.tensor(firsts, device=device)[:, None]
        nats = -torch.where(scored, chosen, 0.0).double().sum(dim=1)
        return nats.tolist(), int(scored.sum())


@contextlib.contextmanager
def evaluating(model: torch.nn.Module, device: torch.device | str) -> Iterator[None]:
    """Put a model on a device in evaluation mode, and back."""
    training, former = model.training, next(model.parameters()).device
    model.eval().to(device)
    try:
        yield
    finally:
        model.train(training).to(former)
