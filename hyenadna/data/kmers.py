"""The k-mers that sequences share, on either strand: who overlaps whom.

Of large sets only a fixed part of all k-mers is kept, chosen by a hash, so that shared ones are kept on both sides (a FracMinHash sketch,
doi 10.1101/2022.01.11.475838).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hyenadna.sequence import base_codes

__all__ = ["OVERLAPPING", "KmerIndex", "sketch_size"]

OVERLAPPING = 0.1
"""Share of a sequence's 20-mers from which on another one that holds them counts as overlapping."""

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

_MOST_KMERS = 2 * 10**7
_MOST_COPIES = (
    50  # a k-mer of more sequences is a repeat of the genome, and says nothing of overlap
)
_BLOCK = 4096  # sequences that are compared at a time


def sketch_size(sequences: Iterable[str]) -> int:
    """Return of how many k-mers one has to be kept, so that at most 20 million are (1 keeps all)."""
    return max(1, -(-sum(map(len, sequences)) // _MOST_KMERS))


class KmerIndex:
    """The distinct canonical k-mers of each of n sequences.

    Parameters
    ----------
    sequences
        IUPAC nucleotide letters; k-mers with ambiguous ones are left out.
    k
        Length of k-mers, 1 … 31.
    sketched
        One of so many k-mers is kept.
    """

    def __init__(self, sequences: Sequence[str], k: int, sketched: int = 1) -> None:
        self.n_rows = len(sequences)
        parts = [
            _hashes(sequences[first : first + _BLOCK], first, k, sketched)
            for first in range(0, self.n_rows, _BLOCK)
        ]
        self._hashes = np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in parts)])
        self._rows = np.concatenate([np.zeros(0, np.int64), *(rows for _, rows in parts)])
        self._counts = np.bincount(self._rows, minlength=self.n_rows)

    def nearest_in(self, other: KmerIndex) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Return for each sequence which of another index holds most of its k-mers, and their share; 0 and 0.0 where none holds any."""
        best, share = np.zeros(self.n_rows, np.int64), np.zeros(self.n_rows)
        for mine, theirs, shared in self._pairs(other):
            # The last of ascending counts stays: most shared k-mers, and of equals the first sequence.
            order = np.lexsort((-theirs, shared))
            mine, theirs, shared = mine[order], theirs[order], shared[order]
            best[mine] = theirs
            share[mine] = shared / self._counts[mine]
        return best, share

    def overlaps(self, other: KmerIndex, share: float) -> npt.NDArray[np.bool_]:
        """Tell of each sequence whether one of another index shares at least `share` (0 … 1) of the k-mers of the one that has fewer."""
        found = np.zeros(self.n_rows, dtype=bool)
        for mine, theirs, shared in self._pairs(other):
            fewer = np.minimum(self._counts[mine], other._counts[theirs])
            found[mine[shared >= share * fewer]] = True
        return found

    def clusters(self, share: float, joined: Ints) -> Ints:
        """Number groups of sequences such that members of different groups share fewer k-mers than `share` of the shorter one's.

        Parameters
        ----------
        share
            0 … 1.
        joined
            Shape (m, 2): pairs that belong together whatever they share.

        Returns
        -------
        numpy.ndarray
            The group of each sequence, int64, shape (n,).
        """
        links = [joined]
        for mine, theirs, shared in self._pairs(self):
            close = shared >= share * np.minimum(self._counts[mine], self._counts[theirs])
            links.append(np.stack([mine[close], theirs[close]], axis=1))
        one, other = np.concatenate(links).T
        graph = coo_array((np.ones(len(one), np.int8), (one, other)), (self.n_rows, self.n_rows))
        return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)

    def _pairs(self, other: KmerIndex) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield pairs of sequences that share k-mers, and how many, all pairs of a sequence in one block."""
        order = np.argsort(other._hashes, kind="stable")
        hashes, rows = other._hashes[order], other._rows[order]
        low = hashes.searchsorted(self._hashes, side="left")
        copies = hashes.searchsorted(self._hashes, side="right") - low
        copies[copies > _MOST_COPIES] = 0
        edges = np.searchsorted(self._rows, np.arange(0, self.n_rows + _BLOCK, _BLOCK))
        for begin, end in itertools.pairwise(edges):
            n = copies[begin:end]
            within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
            mine = np.repeat(self._rows[begin:end], n)
            theirs = rows[np.repeat(low[begin:end], n) + within]
            pair, shared = np.unique(mine * max(other.n_rows, 1) + theirs, return_counts=True)
            yield pair // max(other.n_rows, 1), pair % max(other.n_rows, 1), shared


def _hashes(sequences: Sequence[str], first: int, k: int, sketched: int) -> tuple[Hashes, Ints]:
    """Return the distinct hashes of each sequence's k-mers without ambiguous letters, and their rows, ascending."""
    lengths = np.array([len(s) for s in sequences])
    codes = base_codes("".join(sequences)).astype(np.uint64)
    n = len(codes) - k + 1
    if n <= 0:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    forward, backward = np.zeros(n, np.uint64), np.zeros(n, np.uint64)
    for j in range(k):
        code = codes[j : j + n]
        forward = (forward << np.uint64(2)) | (code & np.uint64(3))
        backward |= ((np.uint64(3) - code) & np.uint64(3)) << np.uint64(2 * j)
    rows = np.repeat(np.arange(first, first + len(sequences)), lengths)
    ambiguous = np.concatenate([[0], np.cumsum(codes > 3)])
    whole = (rows[:n] == rows[k - 1 : k - 1 + n]) & (ambiguous[k : k + n] == ambiguous[:n])
    hashes = _mixed(np.minimum(forward, backward)[whole])
    kept = hashes % np.uint64(sketched) == 0
    hashes, rows = hashes[kept], rows[:n][whole][kept]
    order = np.lexsort((hashes, rows))
    hashes, rows = hashes[order], rows[order]
    new = np.ones(len(hashes), dtype=bool)
    new[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
    return hashes[new], rows[new]


def _mixed(x: Hashes) -> Hashes:
    """Spread numbers over 64 bits, one to one (the finalizer of MurmurHash3, public domain)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ (x >> np.uint64(33))) * np.uint64(factor)
    return x ^ (x >> np.uint64(33))
