"""Saturation mutagenesis: the effect of every substitution, and of every single-base deletion, in a region of a genome.

The exact form scores each as a variant (`hyenadna.inference.variants`). The gradient form needs one forward and backward pass for each window: of the log-likelihood
of a window it takes the change of the base's own probability as it is, and that of what follows to first order in the base's embedding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError
from hyenadna.inference.forward import BatchSize, require_scoring, scoring_mode
from hyenadna.inference.variants import DEFAULT_RADIUS, resolve_window, score_variants
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval, Variant, require_inside
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["Method", "Mutagenesis", "mutate_region", "require_bases"]

Method = Literal["exact", "gradient"]
_BASES = "ACGT"


class Mutagenesis(NamedTuple):
    """Effects of all single changes in a region of L bases, on the forward strand.

    Parameters
    ----------
    interval
        The region.
    letters
        Its bases, upper case.
    llr
        float64, shape (L, 4): log p(with A, C, G, T there) − log p(as it is), nats; 0 at the base itself, NaN where the base is ambiguous.
    deletion
        The same of taking the base away, shape (L,); NaN where it was not asked for, or has no score.
    """

    interval: Interval
    letters: str
    llr: npt.NDArray[np.float64]
    deletion: npt.NDArray[np.float64]

    @property
    def importance(self) -> npt.NDArray[np.float64]:
        """How much each base is missed where it is replaced, nats: minus the mean of its three substitutions, shape (L,)."""
        return -np.asarray(self.llr.sum(axis=1) / 3)


def mutate_region(
    model: HyenaForCausalLM,
    reference: ReferenceSequence,
    interval: Interval,
    *,
    tokenizer: CharacterTokenizer | None = None,
    method: Method = "exact",
    deletions: bool = False,
    rc: bool = True,
    window: int | None = None,
    radius: int | None = None,
    batch_size: BatchSize = "auto",
    half: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Mutagenesis:
    """Find the effect of every single change in a region.

    Parameters
    ----------
    model
        The language model.
    reference
        The genome.
    interval
        The region; its strand does not matter.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    method
        ``"exact"``, or ``"gradient"``: some thousand times as fast, and only a sketch of effects that are not small.
    deletions
        Score single-base deletions, too (exact form).
    rc
        Average over both strands.
    window
        Bases of a window; see `resolve_window` for the default.
    radius
        Sum only to so many bases beyond the change (exact form); None sums to the end of the window.
    batch_size, half
        As for `score_variants`.
    progress
        Called with the number of bases of the region dealt with since the last call.

    Raises
    ------
    ConfigError
        A setting is out of range, or deletions are asked of gradients.
    IntervalError
        The region is not in the genome.
    DataError
        It has no base that could be changed.
    """
    if method not in get_args(Method):
        raise ConfigError(f"method {method!r} is unknown; expected {' or '.join(get_args(Method))}")
    if method == "gradient" and (deletions or radius is not None):
        raise ConfigError(
            "deletions and a radius are of method 'exact'; leave them out, or choose it"
        )
    tokenizer = require_scoring(model, tokenizer, batch_size)
    require_inside(interval, reference.contigs)
    interval = Interval(interval.chrom, interval.start, interval.end)
    letters = require_bases(reference, interval)
    llr = np.full((len(letters), 4), np.nan)
    deletion = np.full(len(letters), np.nan)
    if method == "gradient":
        window = resolve_window(model.config.max_seq_len, window)
        _fill_by_gradients(model, tokenizer, reference, interval, llr, rc, window, progress)
    else:
        cells: deque[tuple[int, int]] = deque()  # of the variants whose scores are to come

        def variants() -> Iterator[Variant]:
            for at, code, variant in _variants(reference, interval, letters, deletions):
                cells.append((at, code))
                yield variant

        scores = score_variants(
            model, variants(), reference, tokenizer=tokenizer, rc=rc, window=window,
            radius=DEFAULT_RADIUS if radius is None else radius, batch_size=batch_size, half=half,
        )  # fmt: skip
        done = 0
        for score in scores:
            at, code = cells.popleft()
            value = score.llr if radius is None else score.llr_local
            if code < 4:
                llr[at, code] = value
            else:
                deletion[at] = value
            if progress is not None and at > done:
                progress(at - done)
                done = at
        if progress is not None:
            progress(len(letters) - done)
    for at, letter in enumerate(letters):
        if letter in _BASES:
            llr[at, _BASES.index(letter)] = 0.0
        else:
            llr[at] = np.nan
    return Mutagenesis(interval, letters, llr, deletion)


def require_bases(reference: ReferenceSequence, interval: Interval) -> str:
    """Return the letters of a region on the forward strand, upper case.

    Raises
    ------
    DataError
        It has no base that could be changed.
    """
    place = Interval(interval.chrom, interval.start, interval.end)
    letters = reference.sequence(place).upper()
    if not set(letters) & set(_BASES):
        raise DataError(f"none of the {len(letters):,} bases of {place.chrom}:{place.start + 1}-{place.end} is A, C, G or T; choose another region")  # fmt: skip
    return letters


def _variants(
    reference: ReferenceSequence, interval: Interval, letters: str, deletions: bool
) -> Iterator[tuple[int, int, Variant]]:
    """Yield offset, code of the new base (4 for a deletion), and the variant; a deletion is anchored at the base before."""
    chrom, size = interval.chrom, reference.contigs[interval.chrom]
    for at, letter in enumerate(letters):
        if letter not in _BASES:
            continue
        start = interval.start + at
        for code, other in enumerate(_BASES):
            if other != letter:
                yield at, code, Variant(chrom, start, letter, other)
        if deletions:
            if start > 0:
                before = reference.sequence(Interval(chrom, start - 1, start)).upper()
                yield at, 4, Variant(chrom, start - 1, before + letter, before)
            elif size > 1:
                after = reference.sequence(Interval(chrom, 1, 2)).upper()
                yield at, 4, Variant(chrom, 0, letter + after, after)


def _fill_by_gradients(
    model: HyenaForCausalLM, tokenizer: CharacterTokenizer, reference: ReferenceSequence, interval: Interval, llr: npt.NDArray[np.float64],
    rc: bool, window: int, progress: Callable[[int], None] | None,
) -> None:  # fmt: skip
    size, tile = reference.contigs[interval.chrom], max(1, window // 2)
    for first in range(interval.start, interval.end, tile):
        end = min(first + tile, interval.end)
        low = max(0, min(first - (window - (end - first)) // 2, size - window))
        place = Interval(interval.chrom, low, min(low + window, size))
        ids = tokenizer.encode(reference.sequence(place).upper())
        found = _gradient_effects(model, tokenizer, ids)
        if rc:
            other = _gradient_effects(model, tokenizer, tokenizer.reverse_complement(ids))
            found = (found + other[::-1, ::-1]) / 2  # the complement turns A, C, G, T round
        llr[first - interval.start : end - interval.start] = found[first - low : end - low]
        if progress is not None:
            progress(end - first)


def _gradient_effects(
    model: HyenaForCausalLM, tokenizer: CharacterTokenizer, ids: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """Return for each token of a window, and each base, the change of its log-likelihood to first order: (L, 4)."""
    device = next(model.parameters()).device
    tokens = torch.from_numpy(ids).to(device).long()[None]
    bases = torch.tensor(tokenizer.base_token_ids, device=device)
    backbone, seen = model.backbone, []

    def remember(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        leaf: torch.Tensor = output.detach().requires_grad_()
        seen.append(leaf)
        return leaf

    with scoring_mode(model, half=False), torch.inference_mode(False), torch.enable_grad():
        handle = backbone.embedding.register_forward_hook(remember)
        try:
            log_p = model(tokens).float().log_softmax(-1)[0, :-1]
        finally:
            handle.remove()
        scored = torch.isin(tokens[0, 1:], bases)
        total = log_p.gather(-1, tokens[0, 1:, None])[scored].sum()
        (slope,) = torch.autograd.grad(total, seen)
        weight = backbone.embedding.weight.detach()
        steps = weight[bases][None] - weight[tokens[0]][:, None]  # (L, 4, D)
        effects = (steps * slope[0][:, None]).sum(-1).double()
        own = log_p.detach()[:, bases] - log_p.detach().gather(-1, tokens[0, 1:, None])
        effects[1:] += own.double()
        if not bool(effects.isfinite().all()):
            raise DataError(
                "the model answers with NaN or infinity: its weights are damaged, or its training diverged; use another one"
            )
    found: npt.NDArray[np.float64] = effects.cpu().numpy()
    return found
