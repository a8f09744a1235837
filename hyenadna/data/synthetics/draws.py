"""Random numbers that are a pure function of a row's name, for many rows at once.

The numbers of a row come from a counter: number i is a hash of the row's key and i. Nothing has a state, so a row is the same alone and in any batch, in
any process, and a hundred rows are drawn by the same few array operations as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Draws", "Ints", "fingerprints", "first_occurrences", "row_keys"]

Ints: TypeAlias = npt.NDArray[Any]
_Words: TypeAlias = npt.NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ divided by the golden ratio
_MOST_TABLED = 1024  # symbols of a row for which a table is faster than sorting


def _mix(words: _Words) -> _Words:
    """Scramble 64-bit words in place: the last step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    spare = np.empty_like(words)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        np.right_shift(words, np.uint64(shift), out=spare)
        np.bitwise_xor(words, spare, out=words)
        np.multiply(words, np.uint64(factor), out=words)
    np.right_shift(words, np.uint64(31), out=spare)
    np.bitwise_xor(words, spare, out=words)
    return words


def _absorb(state: _Words, value: _Words | int) -> _Words:
    return _mix((state + np.asarray(value, dtype=np.uint64) + np.uint64(1)) * _STEP)


def row_keys(names: Sequence[int], indices: Ints) -> _Words:
    """Return a key for each row, uint64, shape (B,).

    Parameters
    ----------
    names
        What the rows share, such as a seed and a split, integers ≥ 0.
    indices
        Numbers of the rows, ≥ 0, shape (B,).
    """
    key = np.zeros(1, dtype=np.uint64)
    for name in names:
        key = _absorb(key, name)
    return _absorb(key, np.asarray(indices, dtype=np.uint64))


class Draws:
    """The random numbers of some rows; each call takes new ones.

    Parameters
    ----------
    keys
        From `row_keys`, shape (B,).

    Examples
    --------
    >>> keys = row_keys((0, 1), np.arange(5))
    >>> together, alone = Draws(keys).below(10, 4), Draws(keys[3:4]).below(10, 4)
    >>> bool((together[3] == alone[0]).all())
    True
    """

    def __init__(self, keys: _Words) -> None:
        self._keys = keys
        self._calls = 0

    def __len__(self) -> int:
        """Return the number of rows B."""
        return len(self._keys)

    def words(self, n: int) -> _Words:
        """Return uniform 64-bit words, shape (B, n)."""
        self._calls += 1
        start = _absorb(self._keys, self._calls)
        return _mix(start[:, None] + _STEP * np.arange(1, n + 1, dtype=np.uint64))

    def below(self, bound: int | Ints, n: int) -> Ints:
        """Return uniform integers in 0…bound − 1, int64, shape (B, n).

        Parameters
        ----------
        bound
            1…2³¹, one number or one for each row, shape (B, 1). No number is more likely than another by a share above bound / 2³².
        """
        halves = self.words((n + 1) // 2).view(np.uint32)[:, :n].astype(np.uint64)
        halves *= np.asarray(bound, dtype=np.uint64)
        halves >>= np.uint64(32)
        return halves.view(np.int64)

    def uniform(self, n: int) -> npt.NDArray[np.float64]:
        """Return uniform numbers in (0, 1], shape (B, n)."""
        return ((self.words(n) >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53

    def arrangement(self, n: int, k: int) -> Ints:
        """Return k different integers of 0…n − 1 in random order, every arrangement equally likely, int64, shape (B, k).

        Floyd's sampling (CACM 30, 1987), then a shuffle: the work does not grow with n.
        """
        chosen = np.empty((len(self), k), dtype=np.int64)
        for i in range(k):
            last = n - k + i
            drawn = self.below(last + 1, 1)
            taken = (chosen[:, :i] == drawn).any(axis=1)
            chosen[:, i] = np.where(taken, last, drawn[:, 0])
        return np.take_along_axis(chosen, np.argsort(self.words(k), axis=1), axis=1)


def first_occurrences(symbols: Ints, n_symbols: int) -> Ints:
    """Return for every entry the column at which its symbol stands first in its row.

    Parameters
    ----------
    symbols
        Integers in 0…n_symbols − 1, shape (B, n).
    n_symbols
        Number of symbols.

    Returns
    -------
    numpy.ndarray
        int64, shape (B, n); at most the entry's own column.
    """
    rows, columns = symbols.shape
    flat = symbols + n_symbols * np.arange(rows, dtype=np.int64)[:, None]
    if n_symbols > _MOST_TABLED:
        _, index, inverse = np.unique(flat, return_index=True, return_inverse=True)
        found: Ints = index[inverse.reshape(flat.shape)] % columns
        return found
    first = np.empty(rows * n_symbols, dtype=np.int64)
    # Backwards, so that the first is what is written last.
    order = np.broadcast_to(np.arange(columns - 1, -1, -1), (rows, columns))
    first[flat[:, ::-1]] = order
    return first[flat]


def fingerprints(rows: Ints) -> _Words:
    """Return a 64-bit hash of each row's content, shape (B,); equal rows have equal ones, whatever else differs.

    Parameters
    ----------
    rows
        Integers, shape (B, L).
    """
    width = -rows.shape[1] * rows.itemsize % 8
    padded = np.zeros((len(rows), rows.shape[1] + width // rows.itemsize), dtype=rows.dtype)
    padded[:, : rows.shape[1]] = rows
    words = padded.view(np.uint64)
    factors = _mix(_STEP * np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    return _absorb((words * factors).sum(axis=1, dtype=np.uint64), rows.shape[1])
