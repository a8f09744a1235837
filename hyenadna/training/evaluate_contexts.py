"""Bits per base of a language model by the length of its context, beside Markov models and compressors.

The one idea to know: a curve over contexts compares only if every point is about the same bases. So the scored bases are
chosen first, blocks that lie far enough inside their regions for the longest context. At context c every block is cut into
pieces of c/4 bases (or the block, if that is shorter), and each piece is read at the end of a window of c bases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.errors import ConfigError, DataError
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval
from hyenadna.tasks.compressors import WRITINGS, bz2_bits, lzma_bits
from hyenadna.tasks.markov import MAX_ORDER, MarkovModel
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.evaluate import EvaluatedRegions, evaluating, nats_of_rows

Codes = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.float64]

MIN_CONTEXT = 16  # three quarters of it are the 12 bases that the highest Markov order looks back
_MIN_BLOCKS = 16
_WINDOW = 4096
_MAX_TRAINING = 1 << 27  # bases that LZMA reads of the training regions: 32 MiB, a minute or so


class ContextTargets(NamedTuple):
    """The bases that are scored at every context. Made by `choose_targets`.

    Parameters
    ----------
    regions
        Where they lie.
    blocks
        Number of the entry of `regions`, and place, of every block; disjoint and equally long.
    contexts
        Window lengths, bases, ascending powers of two.
    block_len
        Bases of a block, a power of two, at most a quarter of the longest context.
    """

    regions: Sequence[EvaluatedRegions]
    blocks: Sequence[tuple[int, Interval]]
    contexts: tuple[int, ...]
    block_len: int

    @property
    def n_bases(self) -> int:
        """Number of bases of all blocks, N among them."""
        return len(self.blocks) * self.block_len

    def piece_len(self, context: int) -> int:
        """Return how many bases at the end of each window are scored at a context."""
        return min(context // 4, self.block_len)

    def codes(self, block: tuple[int, Interval], before: int) -> Codes:
        """Return the base codes of a block behind those of so many bases before it."""
        part, place = block
        genome = self.regions[part].genome
        return genome.codes(Interval(place.chrom, place.start - before, place.end))

    def text(self) -> Codes:
        """Return the scored bases, those of all blocks in their order: codes 0…3."""
        return np.concatenate([_known(self.codes(block, 0)) for block in self.blocks])


class ContextScore(NamedTuple):
    """What the bases cost at one context.

    Parameters
    ----------
    context
        Length of the windows, bases.
    bits_per_base
        Of the model.
    gain, gain_error
        Bits per base less than at the shortest context, and the standard error of that over the blocks; None for one block.
    compressors
        Bits per base of LZMA after the same bases, by the way of writing.
    """

    context: int
    bits_per_base: float
    gain: float
    gain_error: float | None
    compressors: dict[str, float]


class ContextEvaluation(NamedTuple):
    """Numbers of one evaluation by context.

    Parameters
    ----------
    scores
        One for each context, ascending.
    markov_bits_per_base
        Of order 0 … K; empty where none was fitted.
    compressors
        From `compress_targets`.
    n_scored, n_blocks, block_len
        Number of scored bases (A, C, G and T), of blocks, and of bases in a block.
    """

    scores: tuple[ContextScore, ...]
    markov_bits_per_base: tuple[float, ...]
    compressors: Mapping[str, float]
    n_scored: int
    n_blocks: int
    block_len: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        plain = self._asdict()
        plain["compressors"] = dict(self.compressors)
        plain["markov_bits_per_base"] = list(self.markov_bits_per_base)
        plain["contexts"] = [score._asdict() for score in plain.pop("scores")]
        return plain


def default_contexts(max_seq_len: int, longest: int) -> tuple[int, ...]:
    """Return powers of two, each four times the one before, up to what a model reads and a quarter of a region holds.

    Parameters
    ----------
    max_seq_len
        Longest input of the model, tokens.
    longest
        Bases of the longest region.

    Examples
    --------
    >>> default_contexts(32_770, 6_000_000)
    (128, 512, 2048, 8192, 32768)
    """
    lengths = [1 << max(min(max_seq_len, longest // 4), MIN_CONTEXT).bit_length() - 1]
    while lengths[-1] >= 256:
        lengths.append(lengths[-1] // 4)
    return tuple(reversed(lengths))


def choose_targets(
    regions: Sequence[EvaluatedRegions], contexts: Sequence[int], *, max_bases: int | None = None
) -> ContextTargets:
    """Choose the bases that are scored at every context.

    Parameters
    ----------
    regions
        Where to look. No window leaves its region, so of each the first bases are context only.
    contexts
        Window lengths, bases: different powers of two from 16 on.
    max_bases
        Choose evenly spread blocks of about so many bases together; None takes all.

    Raises
    ------
    ConfigError
        A context is no power of two or too short, or given twice.
    DataError
        No region holds the longest context, or what lies behind it is all N.
    """
    lengths = tuple(sorted(contexts))
    if len(set(lengths)) < max(1, len(contexts)) or any(
        c < MIN_CONTEXT or c & (c - 1) for c in lengths
    ):
        raise ConfigError(
            f"contexts of {', '.join(map(str, contexts)) or 'no length'} are impossible; different powers of two from {MIN_CONTEXT} on are needed"
        )
    longest = lengths[-1]
    block_len = longest // 4
    if max_bases is not None:  # several places say more than one long one
        block_len = min(block_len, 1 << max(2, (max_bases // _MIN_BLOCKS).bit_length() - 1))
    spans = [(part, span) for part, r in enumerate(regions) for span in r.spans()]
    starts = [_block_starts(regions[p], span, longest, block_len) for p, span in spans]
    ends = np.cumsum([len(s) for s in starts])
    total = int(ends[-1]) if len(ends) else 0
    if not total:
        most = max((len(span) for _, span in spans), default=0)
        raise DataError(
            f"no base of the regions has a context of {longest:,}: the longest region has {most:,} bases, N among them; choose shorter contexts"
        )
    limit = total if max_bases is None else min(total, max(1, max_bases // block_len))
    places = (2 * np.arange(limit) + 1) * total // (2 * limit)  # the middles of equal parts
    blocks = []
    for place in places.tolist():
        number = int(ends.searchsorted(place, side="right"))
        part, span = spans[number]
        start = int(starts[number][place - ends[number]])
        blocks.append((part, Interval(span.chrom, start, start + block_len)))
    return ContextTargets(regions, blocks, lengths, block_len)


def _block_starts(
    regions: EvaluatedRegions, span: Interval, longest: int, block_len: int
) -> npt.NDArray[np.int64]:
    """Return where blocks begin that have their longest context inside the span and are not all N."""
    starts = np.arange(span.start + longest - block_len, span.end - block_len + 1, block_len)
    known = np.ones(len(starts), dtype=bool)
    for low, high in regions.genome.n_runs(span.chrom).tolist():
        known[starts.searchsorted(low) : starts.searchsorted(high - block_len, side="right")] = (
            False
        )
    return starts[known]


def compress_targets(
    targets: ContextTargets, training: Sequence[EvaluatedRegions] = ()
) -> dict[str, float]:
    """Return what compressors pay for the scored bases as one text, bits per base by compressor and way of writing.

    Parameters
    ----------
    targets
        From `choose_targets`.
    training
        Regions that LZMA reads before, four bases a byte and one strand, at most the first 134,217,728 bases of them: that is
        ``"lzma packed, trained"``. The other numbers are of compressors that saw nothing before.
    """
    text = targets.text()
    bits = {f"lzma {writing}": lzma_bits(text, writing) for writing in WRITINGS}
    bits |= {f"bz2 {writing}": bz2_bits(text, writing) for writing in WRITINGS}
    before: list[Codes] = []
    room = _MAX_TRAINING
    for genome, span in ((r.genome, span) for r in training for span in r.intervals):
        if room > 0:
            before.append(_known(genome.codes(span))[:room])
            room -= len(before[-1])
    if before:
        # whole bytes before the text: what it is written as must not depend on what came before
        read = np.concatenate(before)
        read = read[: len(read) // 4 * 4]
        bits["lzma packed, trained"] = lzma_bits(
            np.concatenate([read, text]), "packed", first=len(read)
        )
    return {name: total / len(text) for name, total in bits.items()}


def evaluate_contexts(
    model: HyenaForCausalLM,
    targets: ContextTargets,
    *,
    markov: MarkovModel | None = None,
    compressors: Mapping[str, float] | None = None,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> ContextEvaluation:
    """Score the same bases at every context.

    At context c the model reads, and LZMA compresses, windows of c bases of which the last are scored: a scored base has at
    least c − `targets.piece_len(c)` bases before it, three quarters of c or more, and at most c − 1. N is read by the model as
    the token that it is, and left out for the compressors.

    Parameters
    ----------
    model
        Used on `device` in evaluation mode; both are as before afterwards.
    targets
        From `choose_targets`.
    markov
        From `fit_markov`; None leaves the Markov models out.
    compressors
        From `compress_targets`, to be had with the other numbers.
    batch_size
        Windows of 4,096 bases per forward pass; of shorter ones as many more, of longer ones fewer.
    device
        Where the model computes.
    progress
        Called with the number of bases scored since the last call, in all `targets.n_bases` for each context.

    Raises
    ------
    ConfigError
        The longest context exceeds the model's longest input.
    """
    if targets.contexts[-1] > model.config.max_seq_len:
        raise ConfigError(
            f"a context of {targets.contexts[-1]} is impossible; the model reads at most {model.config.max_seq_len} tokens"
        )
    blocks = [targets.codes(block, MAX_ORDER) for block in targets.blocks]
    n = np.array([len(_known(codes[MAX_ORDER:])) for codes in blocks], dtype=np.float64)
    n_scored, per_bit = int(n.sum()), n.sum() * math.log(2)
    scores: list[ContextScore] = []
    shortest: Sums | None = None
    with evaluating(model, device):
        for context in targets.contexts:
            nats, compressed = _at_context(
                model, targets, context, max(1, batch_size * _WINDOW // context), device, progress
            )
            shortest = nats if shortest is None else shortest
            gain, error = _ratio((shortest - nats) / math.log(2), n)
            bits = {name: total / n_scored for name, total in compressed.items()}
            scores.append(ContextScore(context, nats.sum() / per_bit, gain, error, bits))
    markov_nats = np.zeros(markov.max_order + 1 if markov else 0)
    if markov is not None:
        for codes in blocks:
            markov_nats += markov.score(codes, first=MAX_ORDER).nats
    return ContextEvaluation(
        scores=tuple(scores),
        markov_bits_per_base=tuple((markov_nats / per_bit).tolist()),
        compressors=compressors or {},
        n_scored=n_scored,
        n_blocks=len(blocks),
        block_len=targets.block_len,
    )


def _at_context(
    model: HyenaForCausalLM,
    targets: ContextTargets,
    context: int,
    n_rows: int,
    device: torch.device | str,
    progress: Callable[[int], None] | None,
) -> tuple[Sums, dict[str, float]]:
    """Return the model's nats of every block, and the bits of LZMA altogether."""
    piece = targets.piece_len(context)
    per_block = targets.block_len // piece
    table = CharacterTokenizer().code_table
    nats: list[float] = []
    compressed = {f"lzma {writing}": 0.0 for writing in WRITINGS}
    for rows in _windows(targets, context, max(1, n_rows // per_block)):
        for part in np.split(rows, range(n_rows, len(rows), n_rows)):
            found, _ = nats_of_rows(model, table[part], [context - piece] * len(part), device)
            nats.extend(found)
            for row in part:
                before = len(_known(row[:-piece]))
                for writing in WRITINGS:
                    compressed[f"lzma {writing}"] += lzma_bits(_known(row), writing, first=before)
            if progress is not None:
                progress(len(part) * piece)
    return np.array(nats).reshape(-1, per_block).sum(axis=1), compressed


def _windows(targets: ContextTargets, context: int, n_blocks: int) -> Iterator[Codes]:
    """Yield the windows of some blocks at a time: base codes, shape (R, context), in the order of the scored bases."""
    piece = targets.piece_len(context)
    for start in range(0, len(targets.blocks), n_blocks):
        yield np.concatenate(
            [
                np.lib.stride_tricks.sliding_window_view(
                    targets.codes(block, context - piece), context
                )[::piece]
                for block in targets.blocks[start : start + n_blocks]
            ]
        )


def _known(codes: Codes) -> Codes:
    return codes[codes < 4]


def _ratio(sums: Sums, n: Sums) -> tuple[float, float | None]:
    """Return Σ sums / Σ n, and its standard error over the blocks (that of a ratio estimator); None for one block."""
    mean = float(sums.sum() / n.sum())
    if len(n) < 2:
        return mean, None
    spread = float(np.square(sums - mean * n).sum()) * len(n) / (len(n) - 1)
    return mean, math.sqrt(spread) / float(n.sum())
