"""A packed genome: any span of it as base codes, token ids or letters, from the page cache.

A genome is a ``.2bit`` file (`hyenadna.data.twobit`); a FASTA file is packed into the cache once
(`hyenadna.data.packing`). Which spans make a training set is the matter of `windows` and `splits`.

The one idea to know: one byte of the file holds four bases, so a table of 256 entries turns it into four token ids at
once, and another table into the four ids of the opposite strand. N and soft mask are painted over from run lists.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hyenadna.data.packing import cached_twobit, is_twobit, pack
from hyenadna.data.twobit import PackSummary, Runs, TwoBitFile
from hyenadna.io.fasta import FastaFile
from hyenadna.io.streams import compression
from hyenadna.resources import resolve
from hyenadna.sequence import COMPLEMENT_OF_CODE, N_CODE, Interval, require_inside

__all__ = ["Genome", "PackSummary", "ReferenceSequence", "open_reference", "pack"]

_CODES = np.arange(5, dtype=np.uint8)
_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)


class ReferenceSequence(Protocol):
    """Anything that knows its contigs and gives the letters of a span: `Genome` and `io.fasta.FastaFile`."""

    @property
    def contigs(self) -> dict[str, int]:
        """Bases of each contig, by name."""

    def sequence(self, interval: Interval) -> str:
        """Return the letters of a span; ``strand="-"`` gives the reverse complement."""


_LONG_ROW = 4096  # bases from which a span alone is as fast


class _Decoder(NamedTuple):
    """Lookup tables from a packed byte to four values: uint32 (four bytes each), shape (256,)."""

    forward: npt.NDArray[np.uint32]
    reverse: npt.NDArray[np.uint32]
    n_forward: int
    n_reverse: int


@functools.lru_cache(maxsize=64)
def _decoder(values: bytes) -> _Decoder:
    """Build the tables for the values of base codes 0…4, one byte each."""
    complements = np.frombuffer(values, dtype=np.uint8)[COMPLEMENT_OF_CODE].tobytes()
    code_of_number = np.array([3, 1, 0, 2])  # T C A G as base codes
    numbers = (np.arange(256)[:, None] >> np.array([6, 4, 2, 0])) & 3
    codes = code_of_number[numbers]
    forward = np.frombuffer(values, dtype=np.uint8)[codes]
    reverse = np.frombuffer(complements, dtype=np.uint8)[codes[:, ::-1]]
    return _Decoder(
        np.ascontiguousarray(forward).view(np.uint32).ravel(),
        np.ascontiguousarray(reverse).view(np.uint32).ravel(),
        values[N_CODE],
        complements[N_CODE],
    )


class Genome:
    """A genome on disk, memory-mapped; all spans are 0-based half-open `Interval` values.

    Safe to share between threads and across `fork`; `pickle` carries the path, not the bases. ``strand="-"`` gives
    the reverse complement of a span everywhere.

    Parameters
    ----------
    path
        A ``.2bit`` file. `Genome.open` takes FASTA files too.

    Raises
    ------
    FileFormatError
        The file is missing, malformed or truncated.

    Examples
    --------
    >>> from hyenadna.sequence import Interval
    >>> genome = Genome.open("bundled:scerevisiae/genome.2bit")
    >>> genome.sequence(Interval("chrI", 0, 12))
    'CCACACCACACC'
    >>> genome.sequence(Interval("chrI", 0, 12, "-"))
    'GGTGTGGTGTGG'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = TwoBitFile(resolve(path))
        self._contigs = self._file.contigs

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, progress: Callable[[int], None] | None = None
    ) -> Genome:
        """Open a genome in any format.

        Parameters
        ----------
        path
            ``.2bit``, or FASTA (plain, gzip, bgzip), which is packed into the cache on first use and again after the
            file has changed; ``bundled:…`` names packaged data.
        progress
            Called with the number of bases packed since the last call, while a FASTA file is packed.

        Raises
        ------
        FileFormatError, SequenceError
            The file is missing or malformed.
        OutputError, ConfigError
            The cache cannot be written.
        """
        found = resolve(path)
        return cls(found if is_twobit(found) else cached_twobit(found, progress=progress))

    @property
    def path(self) -> Path:
        """The ``.2bit`` file."""
        return self._file.path

    @property
    def contigs(self) -> dict[str, int]:
        """Bases of each contig by name, in the file's order."""
        return self._contigs

    @functools.cached_property
    def checksum(self) -> str:
        """SHA-256 of the ``.2bit`` file, in hexadecimal."""
        digest = hashlib.sha256()
        with self.path.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def codes(self, interval: Interval) -> npt.NDArray[np.uint8]:
        """Return the base codes of a span: uint8, shape (L,), A 0 C 1 G 2 T 3 N 4, as a new array.

        Raises
        ------
        IntervalError
            The contig is unknown or the span leaves it.
        """
        return self._decode(interval, _decoder(_CODES.tobytes()))

    def token_ids(self, interval: Interval, table: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return the token ids of a span.

        Parameters
        ----------
        interval
            Span; on strand "-" the reverse complement is given.
        table
            Token id of each base code: uint8, shape (5,), a tokenizer's ``code_table``.

        Returns
        -------
        numpy.ndarray
            uint8, shape (L,), a new array. O(L) time; about 10 µs for 32,768 bases in the page cache.

        Raises
        ------
        IntervalError
            The contig is unknown or the span leaves it.
        ValueError
            The table is no uint8 array of five.
        """
        _require_table(table)
        return self._decode(interval, _decoder(table.tobytes()))

    def token_id_rows(
        self, intervals: Sequence[Interval], table: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]:
        """Return the token ids of spans of one length L, row by row: uint8, shape (B, L), a new array.

        The same as `token_ids` of each, but short spans come many at a time: a few µs each become a fraction of one.

        Raises
        ------
        IntervalError
            As `token_ids`.
        ValueError
            The spans differ in length, or the table is no uint8 array of five.
        """
        if len(intervals) == 0 or len({len(interval) for interval in intervals}) > 1:
            raise ValueError("the spans of rows need one common length, and there must be some")
        _require_table(table)
        length = len(intervals[0])
        if length > _LONG_ROW:
            return np.stack([self.token_ids(interval, table) for interval in intervals])
        decoder = _decoder(table.tobytes())
        ids = np.empty((len(intervals), length), dtype=np.uint8)
        groups: dict[tuple[str, int, bool], list[int]] = {}
        for row, interval in enumerate(intervals):
            require_inside(interval, self._contigs)
            group = interval.chrom, interval.start % 4, interval.strand == "-"
            groups.setdefault(group, []).append(row)
        n_bytes = length // 4 + 2
        for (chrom, offset, reverse), rows in groups.items():
            packed, runs = self._file.packed(chrom), self._file.n_runs(chrom)
            starts = np.array([intervals[row].start for row in rows])
            # Bytes beyond the contig are cut off again below.
            at = np.minimum(starts[:, None] // 4 + np.arange(n_bytes), len(packed) - 1)
            if reverse:
                values = decoder.reverse.take(packed[at[:, ::-1]], mode="clip").view(np.uint8)
                ids[rows] = values[:, 4 * n_bytes - offset - length : 4 * n_bytes - offset]
            else:
                values = decoder.forward.take(packed[at], mode="clip").view(np.uint8)
                ids[rows] = values[:, offset : offset + length]
            n_value = decoder.n_reverse if reverse else decoder.n_forward
            # Most spans meet no run of N: equally many begin before their end as have ended by their start.
            begun = runs[:, 0].searchsorted(starts + length, side="left")
            ended = runs[:, 1].searchsorted(starts, side="right")
            for i in np.flatnonzero(begun > ended).tolist():
                _paint(ids[rows[i]], runs, intervals[rows[i]], n_value)
        return ids

    def sequence(self, interval: Interval) -> str:
        """Return the letters ACGTN of a span, lower case where the genome is soft-masked.

        Raises
        ------
        IntervalError
            The contig is unknown or the span leaves it.
        """
        letters = self._decode(interval, _decoder(_LETTERS.tobytes()))
        letters |= self.soft_mask(interval).view(np.uint8) << np.uint8(5)
        return letters.tobytes().decode("ascii")

    def soft_mask(self, interval: Interval) -> npt.NDArray[np.bool_]:
        """Return where a span is soft-masked: bool, shape (L,); reversed on strand "-".

        Raises
        ------
        IntervalError
            The contig is unknown or the span leaves it.
        """
        require_inside(interval, self._contigs)
        mask = np.zeros(len(interval), dtype=np.bool_)
        _paint(mask, self._file.mask_runs(interval.chrom), interval, True)
        return mask

    def n_runs(self, chrom: str) -> Runs:
        """Return the spans of N of a contig: int64, shape (k, 2), starts and ends, ascending and disjoint."""
        return self._file.n_runs(chrom)

    def soft_mask_runs(self, chrom: str) -> Runs:
        """Return the soft-masked spans of a contig: int64, shape (k, 2), starts and ends."""
        return self._file.mask_runs(chrom)

    def __reduce__(self) -> tuple[type[Genome], tuple[Path]]:
        return type(self), (self.path,)

    def __repr__(self) -> str:
        return f"Genome({str(self.path)!r}, {len(self._contigs)} contigs, {sum(self._contigs.values()):,} bases)"

    def _decode(self, interval: Interval, decoder: _Decoder) -> npt.NDArray[np.uint8]:
        require_inside(interval, self._contigs)
        start, end = interval.start, interval.end
        first, last = start // 4, (end + 3) // 4
        packed = self._file.packed(interval.chrom)[first:last]
        # mode="clip" spares a bounds check that 256 entries cannot fail; it halves the time.
        if interval.strand == "-":
            out = decoder.reverse.take(packed[::-1], mode="clip").view(np.uint8)
            out, n_value = out[4 * last - end :], decoder.n_reverse
        else:
            out = decoder.forward.take(packed, mode="clip").view(np.uint8)
            out, n_value = out[start - 4 * first :], decoder.n_forward
        out = out[: end - start]
        _paint(out, self._file.n_runs(interval.chrom), interval, n_value)
        return out


def _require_table(table: npt.NDArray[np.uint8]) -> None:
    if table.dtype != np.uint8 or table.shape != (5,):
        raise ValueError(f"the table has {table.dtype} {table.shape}; expected uint8 (5,)")


def _paint(out: npt.NDArray[np.generic], runs: Runs, interval: Interval, value: int) -> None:
    """Set the part of ``out``, the values of ``interval`` in reading direction, that lies in ``runs``."""
    if not len(runs):
        return
    start, end = interval.start, interval.end
    first = runs[:, 1].searchsorted(start, side="right")
    if first == len(runs) or runs[first, 0] >= end:
        return
    last = runs[:, 0].searchsorted(end, side="left")
    for low, high in runs[first:last].tolist():
        low, high = max(low, start), min(high, end)
        if interval.strand == "-":
            out[end - high : end - low] = value
        else:
            out[low - start : high - start] = value


def open_reference(path: str | os.PathLike[str]) -> ReferenceSequence:
    """Open a reference for random access without packing it unless that is needed.

    Parameters
    ----------
    path
        ``.2bit`` and plain-gzip FASTA become a `Genome` (the latter packed into the cache, as gzip cannot be entered
        in the middle); plain and bgzip FASTA an indexed `FastaFile`.

    Raises
    ------
    FileFormatError, SequenceError
        The file is missing or malformed.
    """
    found = resolve(path)
    if is_twobit(found) or compression(found) == "gzip":
        return Genome.open(found)
    return FastaFile(found)
