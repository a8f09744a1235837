"""Per-base tracks of whole contigs or regions: log-probability of each base, and entropy of its prediction, on one strand or both.

A span is cut into blocks, which are read and written at once, and blocks into steps. On the forward strand a step is predicted by a window that begins `context`
bases before it, on the reverse strand by one that begins as far after it; every base is predicted once on each strand, from at least `context` bases but at the
ends of the contig. Blocks come out in order, so that memory does not grow with the chromosome.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError
from hyenadna.inference.batching import Piece, automatic_batch_tokens, batches, collate
from hyenadna.inference.forward import BatchSize, forward_passes, require_scoring, to_device
from hyenadna.inference.likelihood import resolve_windows
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval, require_inside
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["TrackBlock", "cut_blocks", "resolve_context", "score_tracks"]

Values = npt.NDArray[np.float32]
_BLOCK = 1 << 16  # bases of a block, but for long windows: enough that Python's part in it is small


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
        None where it was not asked for, else float32, shape (B,): entropy of the prediction over A, C, G and T, normalised to them, nats (ln 4 at most); NaN where no strand predicts.
    """

    interval: Interval
    log_p: Values
    entropy: Values | None


def resolve_context(max_seq_len: int, window: int | None, context: int | None) -> tuple[int, int]:
    """Return window and context in bases, with defaults filled in: `hyenadna.inference.likelihood.default_window`, and half of it.

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
    """Yield the blocks of spans, which are whole numbers of steps but for a span's last one; a block alone is itself again."""
    step = window - context
    size = step * max(1, _BLOCK // step)
    for interval in intervals:
        for start in range(interval.start, interval.end, size):
            yield Interval(interval.chrom, start, min(start + size, interval.end))


def score_tracks(
    model: HyenaForCausalLM,
    reference: ReferenceSequence,
    intervals: Iterable[Interval],
    *,
    tokenizer: CharacterTokenizer | None = None,
    rc: bool = False,
    window: int | None = None,
    context: int | None = None,
    entropy: bool = True,
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
    entropy
        Find the entropies, too.
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
        The model answers with NaN or infinity.
    """
    tokenizer = require_scoring(model, tokenizer, batch_size)
    window, context = resolve_context(model.config.max_seq_len, window, context)
    max_rows = None if batch_size == "auto" else batch_size
    run = _Run(model, tokenizer, reference, window, context, rc, entropy, max_rows, half)
    return run.blocks(intervals, progress)


class _Waiting:
    """A block whose results are due next, or later.

    Parameters
    ----------
    interval
        The block of B bases.
    is_base
        bool, shape (B,): where its letters are A, C, G or T.
    values
        float32, shape (strands, 1 or 2, B): log-probabilities and entropies as they come, in reading direction; NaN before.
    """

    __slots__ = ("interval", "is_base", "n_left", "values")

    def __init__(self, interval: Interval, is_base: npt.NDArray[np.bool_], values: Values) -> None:
        self.interval, self.is_base, self.values = interval, is_base, values
        self.n_left = 0  # windows without a result

    def result(self) -> TrackBlock:
        found = self.values[0]
        if len(self.values) == 2:
            found = _mean_known(found, self.values[1, :, ::-1])
        found[0, ~self.is_base] = np.nan
        return TrackBlock(self.interval, found[0], found[1] if len(found) == 2 else None)


class _Part(NamedTuple):
    """Where the new bases of a window belong: their block and strand, and the place there of the first one in reading direction."""

    block: _Waiting
    strand: int
    at: int


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
        entropy: bool,
        max_rows: int | None,
        half: bool,
    ) -> None:
        self.model, self.tokenizer, self.reference = model, tokenizer, reference
        self.window, self.context, self.half = window, context, half
        self.n_strands, self.n_values = 2 if rc else 1, 2 if entropy else 1
        self.device = next(model.parameters()).device
        self.max_rows = max_rows
        self.max_tokens = automatic_batch_tokens(model.config, self.device)
        self.base_ids = torch.tensor(tokenizer.base_token_ids, device=self.device)
        self.is_base = np.zeros(256, dtype=np.bool_)
        self.is_base[list(tokenizer.base_token_ids)] = True
        self.contigs = reference.contigs
        self.waiting: deque[_Waiting] = deque()  # in the order of the input

    def blocks(
        self, intervals: Iterable[Interval], progress: Callable[[int], None] | None
    ) -> Iterator[TrackBlock]:
        """Yield the blocks, each as soon as it and those before it are known."""
        blocks = cut_blocks(map(self._inside, intervals), self.window, self.context)
        cut = batches(
            map(self._pieces, blocks), limit=self.window, max_tokens=self.max_tokens, max_rows=self.max_rows
        )  # fmt: skip
        for batch, found in forward_passes(self.model, cut, self._forward, half=self.half):
            if batch:
                self._add(batch, found)
            while self.waiting and not self.waiting[0].n_left:
                block = self.waiting.popleft().result()
                if progress is not None:
                    progress(len(block.interval))
                yield block

    def _inside(self, interval: Interval) -> Interval:
        require_inside(interval, self.contigs)
        return interval

    def _pieces(self, block: Interval) -> list[Piece]:
        """Read a block with its context, once, and cut its windows."""
        low = max(0, block.start - self.context)
        high = min(self.contigs[block.chrom], block.end + self.context)
        ids = self.tokenizer.encode(self.reference.sequence(Interval(block.chrom, low, high)))
        is_base = self.is_base[ids[block.start - low : block.end - low]]
        shape = self.n_strands, self.n_values, len(block)
        waiting = _Waiting(block, is_base, np.full(shape, np.nan, np.float32))
        edges = range(block.start, block.end, self.window - self.context)
        steps = list(zip(edges, [*edges[1:], block.end], strict=True))
        pieces = []
        for start, end in steps:
            first = min(self.context, start)
            part = _Part(waiting, 0, start - block.start)
            pieces.append(Piece(part, ids[start - first - low : end - low], first))
        if self.n_strands == 2:
            other = self.tokenizer.reverse_complement(ids)
            for start, end in steps:
                first = min(self.context, self.contigs[block.chrom] - end)
                part = _Part(waiting, 1, block.end - end)
                pieces.append(Piece(part, other[high - end - first : high - start], first))
        waiting.n_left = len(pieces)
        self.waiting.append(waiting)
        return pieces

    def _add(self, batch: Sequence[Piece], found: Sequence[npt.NDArray[Any]]) -> None:
        """Put what the model says of windows, (B, L − 1) each, from the second base on, where it belongs."""
        for number, values in enumerate(found):
            is_fine = np.isfinite(values)
            if not is_fine.all():
                block = batch[int(np.argmin(is_fine.all(axis=1)))].owner.block
                raise DataError(
                    f"the model answers {block.interval} with NaN or infinity: its weights are damaged, or its training diverged; use another one"
                )
            for piece, row in zip(batch, values, strict=True):
                block, strand, at = piece.owner
                unknown = 0 if piece.first else 1  # nothing predicts a contig's first base
                new = row[piece.first + unknown - 1 : len(piece) - 1]
                block.values[strand, number, at + unknown : at + unknown + len(new)] = new
        for piece in batch:
            piece.owner.block.n_left -= 1

    def _forward(self, batch: Sequence[Piece]) -> tuple[torch.Tensor, ...]:
        """Return log-probabilities and, where they are wanted, entropies of all bases but the first: (B, L − 1) each."""
        stacked = collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)
        token_ids = to_device(stacked, self.device)
        log_all = self.model(token_ids)[:, :-1].float().log_softmax(-1)
        log_p = log_all.gather(-1, token_ids[:, 1:, None].long())[..., 0]
        if self.n_values == 1:
            return (log_p,)
        of_bases = log_all[..., self.base_ids].log_softmax(-1)
        return log_p, -(of_bases.exp() * of_bases).sum(-1)


def _mean_known(one: Values, other: Values) -> Values:
    """Return the mean of two strands, or the number of the one that has it."""
    mean = (one + other) / 2
    return np.where(np.isnan(one), other, np.where(np.isnan(other), one, mean)).astype(np.float32)
