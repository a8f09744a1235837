"""Per-base tracks of whole contigs or regions: log-probability of each base, and entropy of its prediction, on one strand or both.

A span is cut into blocks. On the forward strand a block is predicted by a window that begins `context` bases before it, on the reverse strand by one that begins
as far after it; every base is predicted once on each strand, from at least `context` bases but at the ends of the contig. Blocks come out in
order, so that memory does not grow with the chromosome.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError
from hyenadna.inference.batching import Piece, automatic_batch_tokens, collate, padded_length
from hyenadna.inference.forward import BatchSize, in_fitting_batches, require_scoring, scoring_mode
from hyenadna.inference.likelihood import resolve_windows
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval, require_inside
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["TrackBlock", "cut_blocks", "resolve_context", "score_tracks"]

Values = npt.NDArray[np.float32]


class TrackBlock(NamedTuple):
    """Numbers of a stretch of B bases.

    Parameters
    ----------
    interval
        The stretch.
    log_p
        float32, shape (B,): log-probability of each base, nats; mean of the strands that predict it. NaN at N and other ambiguous letters, and where no strand
        predicts.
    entropy
        float32, shape (B,): entropy of the prediction over A, C, G and T, normalised to them, nats (ln 4 at most); NaN where no strand predicts.
    """

    interval: Interval
    log_p: Values
    entropy: Values


def resolve_context(max_seq_len: int, window: int | None, context: int | None) -> tuple[int, int]:
    """Return window and context in bases, with defaults filled in: the model's longest input, and half of it.

    Raises
    ------
    ConfigError
        They are out of range.
    """
    window, _ = resolve_windows(max_seq_len, window, None)
    if context is None:
        context = window // 2
    if not 1 <= context < window:
        raise ConfigError(
            f"context is {context:,}; expected 1 to {window - 1:,}, less than the window of {window:,}"
        )
    return window, context


def cut_blocks(intervals: Iterable[Interval], window: int, context: int) -> Iterator[Interval]:
    """Yield the blocks that are predicted at once; a block alone is itself again."""
    for interval in intervals:
        for start in range(interval.start, interval.end, window - context):
            end = min(start + window - context, interval.end)
            yield Interval(interval.chrom, start, end)


def score_tracks(
    model: HyenaForCausalLM,
    reference: ReferenceSequence,
    intervals: Iterable[Interval],
    *,
    tokenizer: CharacterTokenizer | None = None,
    rc: bool = False,
    window: int | None = None,
    context: int | None = None,
    batch_size: BatchSize = "auto",
    half: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[TrackBlock]:
    """Score every base of spans of a genome.

    Parameters
    ----------
    model
        The language model; used where it is and as it is.
    reference
        The genome.
    intervals
        Spans; their strand does not matter. Context is read from the whole contig.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    rc
        Average over both strands: the reverse strand predicts a base from what follows it.
    window, context
        Bases that the model reads at once, and of these at least how many before each base that is predicted; see `resolve_context`.
    batch_size
        Windows per forward pass, or ``"auto"``.
    half
        Matrix products in bfloat16; see `score_sequences`.
    progress
        Called with the number of bases dealt with since the last call.

    Returns
    -------
    Iterator of TrackBlock
        The blocks of each span, in order.

    Raises
    ------
    ConfigError
        A setting is out of range, or one window does not fit into memory.
    IntervalError
        A span leaves its contig.
    DataError
        The model answers with NaN.
    """
    tokenizer = require_scoring(model, tokenizer, batch_size)
    window, context = resolve_context(model.config.max_seq_len, window, context)
    run = _Run(model, tokenizer, reference, window, context, rc, half)
    tokens = automatic_batch_tokens(model.config, run.device)
    rows = batch_size if batch_size != "auto" else max(1, tokens // padded_length(window, window))
    return run.blocks(intervals, max(1, rows // (2 if rc else 1)), progress)


class _Run:
    """One run over spans of one genome."""

    def __init__(
        self,
        model: HyenaForCausalLM,
        tokenizer: CharacterTokenizer,
        reference: ReferenceSequence,
        window: int,
        context: int,
        rc: bool,
        half: bool,
    ) -> None:
        self.model, self.tokenizer, self.reference = model, tokenizer, reference
        self.window, self.context, self.rc, self.half = window, context, rc, half
        self.device = next(model.parameters()).device
        self.base_ids = torch.tensor(tokenizer.base_token_ids, device=self.device)
        self.is_base = np.zeros(256, dtype=np.bool_)
        self.is_base[list(tokenizer.base_token_ids)] = True

    def blocks(
        self, intervals: Iterable[Interval], at_once: int, progress: Callable[[int], None] | None
    ) -> Iterator[TrackBlock]:
        """Yield blocks, some windows at a time."""
        spans = cut_blocks(map(self._inside, intervals), self.window, self.context)
        while batch := list(itertools.islice(spans, at_once)):
            for block in self._score(batch):
                if progress is not None:
                    progress(len(block.interval))
                yield block

    def _inside(self, interval: Interval) -> Interval:
        require_inside(interval, self.reference.contigs)
        return interval

    def _score(self, blocks: Sequence[Interval]) -> Iterator[TrackBlock]:
        pieces: list[Piece] = []
        for block in blocks:
            size = self.reference.contigs[block.chrom]
            low = max(0, block.start - self.context)
            pieces.append(self._piece(Interval(block.chrom, low, block.end), block.start - low))
            if self.rc:
                high = min(size, block.end + self.context)
                pieces.append(self._piece(Interval(block.chrom, block.start, high, "-"), high - block.end))  # fmt: skip
        # Pieces of one padded length to a pass, so that numbers do not depend on neighbours.
        found: dict[int, tuple[Values, Values]] = {}
        numbered = sorted(enumerate(pieces), key=lambda item: len(item[1].token_ids))
        for _, group in itertools.groupby(numbered, key=lambda item: padded_length(len(item[1].token_ids), self.window)):  # fmt: skip
            numbers, members = zip(*group, strict=True)
            found.update(zip(numbers, in_fitting_batches(members, self._forward, self.device), strict=True))  # fmt: skip
        n_strands = 2 if self.rc else 1
        for i, block in enumerate(blocks):
            log_p, entropy = found[n_strands * i]
            if self.rc:
                other = [values[::-1] for values in found[2 * i + 1]]
                log_p, entropy = (_mean_known(*pair) for pair in ((log_p, other[0]), (entropy, other[1])))  # fmt: skip
            if not (np.isfinite(entropy) | np.isnan(entropy)).all() or np.isinf(log_p).any():
                raise DataError(
                    f"the model answers {block} with infinity: its weights are damaged, or its training diverged; use another one"
                )
            yield TrackBlock(block, log_p, entropy)

    def _piece(self, span: Interval, first: int) -> Piece:
        ids = self.tokenizer.encode(self.reference.sequence(span))
        return Piece(0, ids, first)

    def _forward(self, batch: Sequence[Piece]) -> list[tuple[Values, Values]]:
        stacked = collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)
        token_ids = torch.from_numpy(stacked).to(self.device)
        with scoring_mode(self.model, half=self.half):
            log_all = self.model(token_ids)[:, :-1].float().log_softmax(-1)
            log_p = log_all.gather(-1, token_ids[:, 1:, None].long())[..., 0]
            of_bases = log_all[..., self.base_ids].log_softmax(-1)
            entropy = -(of_bases.exp() * of_bases).sum(-1)
            if bool(entropy.isnan().any()):
                raise DataError(
                    "the model answers with NaN: its weights are damaged, or its training diverged; use another one"
                )
            rows = [np.pad(t.cpu().numpy(), ((0, 0), (1, 0)), constant_values=math.nan) for t in (log_p, entropy)]  # fmt: skip
        results = []
        for i, piece in enumerate(batch):
            where = slice(piece.first, len(piece.token_ids))
            one = np.where(self.is_base[stacked[i, where]], rows[0][i, where], np.float32(math.nan))
            results.append((one, rows[1][i, where]))
        return results


def _mean_known(one: Values, other: Values) -> Values:
    """Return the mean of two strands, or the number of the one that has it."""
    mean = (one + other) / 2
    return np.where(np.isnan(one), other, np.where(np.isnan(other), one, mean)).astype(np.float32)
