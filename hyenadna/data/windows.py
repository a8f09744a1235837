"""Windows of packed genomes as token ids: random ones to train on, tiled ones to validate on.

Which intervals are trained on is the matter of `splits`; batches for a model are put together by the training room.

The one idea to know: the random window of number ``index`` is a pure function of (seed, index, seq_len). There is no
generator whose state must be saved or divided: a run that resumes, a worker process and a device among many all ask
for the numbers they need and get the windows that one uninterrupted process would have got.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.data.genome import Genome
from hyenadna.data.twobit import Runs
from hyenadna.errors import DataError
from hyenadna.sequence import Interval, require_inside

TokenIds = npt.NDArray[np.uint8]
_PAD_TOKEN_ID = 4


class GenomeSource(NamedTuple):
    """Where random windows come from.

    Parameters
    ----------
    genome
        The packed genome.
    intervals
        Spans that windows lie in; None for all contigs.
    weight
        How often windows come from this genome, relative to the other sources; positive.
    """

    genome: Genome
    intervals: Sequence[Interval] | None = None
    weight: float = 1.0


class _Starts(NamedTuple):
    """The admissible window starts of one source: spans of equal standing, laid end to end."""

    spans: list[tuple[str, int]]
    """Contig and first start of each span."""
    ends: list[int]
    """Number of starts up to the end of each span."""


class RandomWindows:
    """Windows at random places of one or several genomes.

    Within a genome every admissible start position is equally likely; a window is admissible where it lies inside one
    interval and not too much of it is N. The admissible starts are computed, not searched for, so no window is ever
    redrawn and none that is all N can slip through.

    Parameters
    ----------
    sources
        Genomes with their intervals and weights.
    table
        Token id of each base code: uint8, shape (5,), a tokenizer's ``code_table``.
    seed
        Any integer; another seed gives unrelated windows.
    rc_probability
        Probability that a window is read from the opposite strand, 0…1.
    max_n_fraction
        Largest part of a window that may be N, 0…1 (1 excludes windows that are all N, too).

    Raises
    ------
    DataError
        There is no source, or a weight, probability or fraction is out of range.
    IntervalError
        An interval leaves its genome.
    """

    def __init__(
        self,
        sources: Sequence[GenomeSource],
        *,
        table: TokenIds,
        seed: int,
        rc_probability: float = 0.5,
        max_n_fraction: float = 0.5,
    ) -> None:
        if not sources:
            raise DataError("random windows need at least one genome")
        for name, value in (("rc_probability", rc_probability), ("max_n_fraction", max_n_fraction)):
            if not 0 <= value <= 1:
                raise DataError(f"{name} is {value}; expected a number from 0 to 1")
        weights = np.array([source.weight for source in sources], dtype=np.float64)
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise DataError(f"genome weights are {weights.tolist()}; expected positive numbers")
        self.table = table
        self.seed = seed
        self._genomes = [source.genome for source in sources]
        self._intervals = [_merged(source.genome, source.intervals) for source in sources]
        self._shares = (np.cumsum(weights) / weights.sum()).tolist()
        self._shares[-1] = 1.0
        self._rc_below = int(rc_probability * 2**32)
        self._max_n_fraction = max_n_fraction
        self._key = hashlib.sha256(str(seed).encode()).digest()
        self._starts_of: dict[int, list[_Starts]] = {}

    def location(self, index: int, seq_len: int) -> tuple[int, Interval]:
        """Return where a window lies: the number of its genome, and its interval with the strand it is read from.

        Parameters
        ----------
        index
            Number of the window, 0…2^63 - 1.
        seq_len
            Length of the window in bases.

        Raises
        ------
        DataError
            A genome has no admissible window of this length.
        """
        starts_of = self._starts_of.get(seq_len) or self._prepare(seq_len)
        # A cryptographic hash of the number is as good as any random generator, and has no state to set up.
        digest = hashlib.blake2b(struct.pack("<2Q", index, seq_len), key=self._key, digest_size=16)
        place, share, strand = struct.unpack("<Q2I", digest.digest())
        genome = bisect_right(self._shares, share / 2**32) if len(self._shares) > 1 else 0
        spans, ends = starts_of[genome]
        number = (place * ends[-1]) >> 64
        span = bisect_right(ends, number)
        chrom, first = spans[span]
        start = first + number - (ends[span - 1] if span else 0)
        return genome, Interval(
            chrom, start, start + seq_len, "-" if strand < self._rc_below else "+"
        )

    def window(self, index: int, seq_len: int) -> TokenIds:
        """Return the token ids of a window: uint8, shape (seq_len,), a new array.

        Raises
        ------
        DataError
            As `location`.
        """
        genome, interval = self.location(index, seq_len)
        return self._genomes[genome].token_ids(interval, self.table)

    def soft_mask_window(self, index: int, seq_len: int) -> npt.NDArray[np.bool_]:
        """Return where the window of the same number is soft-masked: bool, shape (seq_len,)."""
        genome, interval = self.location(index, seq_len)
        return self._genomes[genome].soft_mask(interval)

    def batch(self, indices: Iterable[int], seq_len: int) -> TokenIds:
        """Return the token ids of several windows: uint8, shape (B, seq_len)."""
        places = [self.location(index, seq_len) for index in indices]
        ids = np.empty((len(places), seq_len), dtype=np.uint8)
        for number, genome in enumerate(self._genomes):
            rows = [row for row, (owner, _) in enumerate(places) if owner == number]
            if rows:
                ids[rows] = genome.token_id_rows([places[row][1] for row in rows], self.table)
        return ids

    def n_starts(self, seq_len: int) -> tuple[int, ...]:
        """Return the number of admissible windows of each genome.

        Raises
        ------
        DataError
            As `location`.
        """
        return tuple(
            starts.ends[-1] for starts in self._starts_of.get(seq_len) or self._prepare(seq_len)
        )

    def _prepare(self, seq_len: int) -> list[_Starts]:
        if seq_len < 1:
            raise DataError(
                f"a window of {seq_len} bases is impossible; seq_len must be at least 1"
            )
        # At most this many N, and never all of a window: it would hold nothing to learn from.
        max_n = min(int(self._max_n_fraction * seq_len), seq_len - 1)
        prepared = []
        for genome, intervals in zip(self._genomes, self._intervals, strict=True):
            spans: list[tuple[str, int]] = []
            counts: list[int] = []
            for interval in intervals:
                for low, high in _admissible_starts(
                    interval, genome.n_runs(interval.chrom), seq_len, max_n
                ):
                    spans.append((interval.chrom, low))
                    counts.append(high - low)
            if not spans:
                raise DataError(_why_none(genome, intervals, seq_len, self._max_n_fraction))
            prepared.append(_Starts(spans, np.cumsum(counts).tolist()))
        self._starts_of[seq_len] = prepared
        return prepared


class TiledWindows:
    """Consecutive windows over some intervals, the same in every run.

    The last window of an interval is padded on the right. Windows without any base but N are left out.

    Parameters
    ----------
    genome
        The packed genome.
    intervals
        Spans to tile, in this order; None for all contigs.
    seq_len
        Length of a window in bases.
    table
        Token id of each base code: uint8, shape (5,), a tokenizer's ``code_table``.
    overlap
        Bases that a window shares with the one before it, 0…seq_len - 1. With 1, every base of an interval but its
        first is a target of next-base prediction exactly once.
    pad_token_id
        What stands beyond an interval's end.
    limit
        Largest number of windows: evenly spread ones are kept. None keeps all.

    Raises
    ------
    DataError
        There is no window, or a number is out of range.
    IntervalError
        An interval leaves the genome.
    """

    def __init__(
        self,
        genome: Genome,
        intervals: Sequence[Interval] | None,
        seq_len: int,
        *,
        table: TokenIds,
        overlap: int = 0,
        pad_token_id: int = _PAD_TOKEN_ID,
        limit: int | None = None,
    ) -> None:
        if seq_len < 1 or not 0 <= overlap < seq_len or (limit is not None and limit < 1):
            raise DataError(
                f"tiled windows need seq_len >= 1, 0 <= overlap < seq_len and limit >= 1; found seq_len={seq_len}, "
                f"overlap={overlap}, limit={limit}"
            )
        self.genome, self.table, self.seq_len, self.pad_token_id = (
            genome,
            table,
            seq_len,
            pad_token_id,
        )
        spans = _checked(genome, intervals)
        self._tiles = [tile for span in spans for tile in _tiles(genome, span, seq_len, overlap)]
        if not self._tiles:
            raise DataError(
                f"there is no window to tile in {genome.path}: "
                + (
                    f"the {len(spans)} interval(s) given are all N"
                    if spans
                    else "no interval is given"
                )
            )
        if limit is not None and limit < len(self._tiles):
            # The middle of each of `limit` equal parts, so that neither end of the genome is favoured.
            places = (2 * np.arange(limit) + 1) * len(self._tiles) // (2 * limit)
            self._tiles = [self._tiles[place] for place in places]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._tiles)

    def location(self, index: int) -> Interval:
        """Return where a window lies, without its padding."""
        return self._tiles[index]

    def window(self, index: int) -> TokenIds:
        """Return the token ids of a window: uint8, shape (seq_len,)."""
        ids = np.full(self.seq_len, self.pad_token_id, dtype=np.uint8)
        tile = self._tiles[index]
        ids[: len(tile)] = self.genome.token_ids(tile, self.table)
        return ids

    def soft_mask_window(self, index: int) -> npt.NDArray[np.bool_]:
        """Return where a window is soft-masked: bool, shape (seq_len,), False in the padding."""
        mask = np.zeros(self.seq_len, dtype=np.bool_)
        tile = self._tiles[index]
        mask[: len(tile)] = self.genome.soft_mask(tile)
        return mask

    def batch(self, indices: Iterable[int]) -> TokenIds:
        """Return the token ids of several windows: uint8, shape (B, seq_len)."""
        return np.stack([self.window(index) for index in indices])


def _checked(genome: Genome, intervals: Sequence[Interval] | None) -> list[Interval]:
    if intervals is None:
        return [Interval(chrom, 0, size) for chrom, size in genome.contigs.items() if size]
    for interval in intervals:
        require_inside(interval, genome.contigs)
    return list(intervals)


def _merged(genome: Genome, intervals: Sequence[Interval] | None) -> list[Interval]:
    """Unite overlapping intervals: a base given twice is no more likely than others."""
    merged: list[Interval] = []
    for interval in sorted(_checked(genome, intervals), key=lambda span: (span.chrom, span.start)):
        if merged and merged[-1].chrom == interval.chrom and interval.start < merged[-1].end:
            last = merged.pop()
            interval = Interval(last.chrom, last.start, max(last.end, interval.end))
        merged.append(Interval(interval.chrom, interval.start, interval.end))
    return merged


def _runs_within(runs: Runs, start: int, end: int) -> Runs:
    if not len(runs):
        return runs
    first = int(np.searchsorted(runs[:, 1], start, side="right"))
    last = int(np.searchsorted(runs[:, 0], end, side="left"))
    return np.clip(runs[first:last], start, end)


def _admissible_starts(
    interval: Interval, runs: Runs, seq_len: int, max_n: int
) -> list[tuple[int, int]]:
    """Return the half-open spans of starts whose window lies in the interval and holds at most ``max_n`` N.

    As a window slides, its number of N is linear between the places where one of its edges passes the edge of a run, with
    slope -1, 0 or 1: between two such places the admissible starts are one span, found from the numbers at its ends.
    """
    low, high = interval.start, interval.end - seq_len + 1
    if high <= low:
        return []
    within = _runs_within(runs, interval.start, interval.end)
    if int((within[:, 1] - within[:, 0]).sum()) <= max_n:
        return [(low, high)]
    edges = within.ravel()
    places = np.concatenate([[low, high - 1], edges, edges - seq_len])
    places = np.unique(places[(places >= low) & (places < high)])
    n_before = np.concatenate([[0], np.cumsum(within[:, 1] - within[:, 0])])

    def n_up_to(position: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        run = np.searchsorted(within[:, 0], position, side="right")
        overhang = np.minimum(position, within[run - 1, 1]) - within[run - 1, 0]
        counted: npt.NDArray[np.int64] = np.where(run > 0, n_before[run - 1] + overhang, 0)
        return counted

    excess = n_up_to(places + seq_len) - n_up_to(places) - max_n
    spans: list[tuple[int, int]] = []
    if len(places) == 1:
        return [(low, high)] if excess[0] <= 0 else []
    for left, right, at_left, at_right in zip(
        places[:-1].tolist(),
        places[1:].tolist(),
        excess[:-1].tolist(),
        excess[1:].tolist(),
        strict=True,
    ):
        if at_left > 0 and at_right > 0:
            continue
        first = left if at_left <= 0 else left + at_left
        last = right if at_right <= 0 else right - at_right
        if spans and spans[-1][1] >= first:
            spans[-1] = (spans[-1][0], last + 1)
        else:
            spans.append((first, last + 1))
    return spans


def _tiles(genome: Genome, span: Interval, seq_len: int, overlap: int) -> list[Interval]:
    runs = genome.n_runs(span.chrom)
    tiles = []
    for start in range(span.start, max(span.end - overlap, span.start + 1), seq_len - overlap):
        end = min(start + seq_len, span.end)
        within = _runs_within(runs, start, end)
        if int((within[:, 1] - within[:, 0]).sum()) < end - start:
            tiles.append(Interval(span.chrom, start, end))
    return tiles


def _why_none(genome: Genome, intervals: Sequence[Interval], seq_len: int, fraction: float) -> str:
    longest = max((len(interval) for interval in intervals), default=0)
    if longest < seq_len:
        return (
            f"no window of {seq_len:,} bases fits in {genome.path}: the longest of the {len(intervals)} interval(s) to "
            f"draw from has {longest:,} bases; choose a smaller seq_len"
        )
    return (
        f"no window of {seq_len:,} bases of {genome.path} can be used: in the {len(intervals)} interval(s) to draw from, "
        f"all N or more than {fraction:.0%} N everywhere; choose other intervals, or a larger max_n_fraction"
    )
