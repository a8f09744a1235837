"""Random sequences that are like given ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hyenadna.sequence import base_codes, bases

__all__ = ["dinucleotide_shuffle", "dinucleotide_shuffles"]

Codes = npt.NDArray[np.uint8]
_LETTERS = 5  # A, C, G, T, N


def dinucleotide_shuffle(sequence: str, rng: np.random.Generator) -> str:
    """Return the letters ACGT in a random order with the same first and last letter and as many of each dinucleotide."""
    return bases(dinucleotide_shuffles(base_codes(sequence)[None], rng)[0])


def dinucleotide_shuffles(codes: Codes, rng: np.random.Generator) -> Codes:
    """Shuffle rows; each keeps its first and last letter and its number of every dinucleotide.

    Each is a random Eulerian path through its letters' graph (Altschul and Erickson 1985, doi 10.1093/oxfordjournals.molbev.a040370): the ways out
    of every letter are put in a random order, which is drawn again until the last ways out lead to the row's last letter from everywhere.
    All rows are walked at once, a position at a time.

    Parameters
    ----------
    codes
        Base codes 0…4, uint8, shape (n, L).
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        uint8, shape (n, L).
    """
    n, length = codes.shape
    if n == 0 or length < 4:
        return codes.copy()
    rows = np.arange(n)
    ends = np.cumsum(_counts(codes[:, :-1]), axis=1)
    ways = np.empty((n, length - 1), dtype=np.uint8)
    todo = rows
    while todo.size:
        leaving = codes[todo, :-1]
        order = np.argsort(leaving + rng.random(leaving.shape), axis=1)  # by letter, then at random
        ways[todo] = np.take_along_axis(codes[todo, 1:], order, axis=1)
        todo = todo[~_all_lead_to_the_end(codes[todo], ways[todo], ends[todo])]
    at = codes[:, 0].astype(np.int64)
    position = np.hstack([np.zeros((n, 1), dtype=np.int64), ends[:, :-1]])
    shuffled = codes.copy()
    for step in range(1, length):
        which = position[rows, at]
        position[rows, at] += 1
        at = ways[rows, which].astype(np.int64)
        shuffled[:, step] = at
    return shuffled


def _counts(codes: Codes) -> npt.NDArray[np.int64]:
    """Count each letter of each row: (n, 5)."""
    return np.stack([(codes == letter).sum(1) for letter in range(_LETTERS)], axis=1)


def _all_lead_to_the_end(
    codes: Codes, ways: Codes, ends: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Say for each row whether the last way out of every letter it leaves leads, in the end, to its last letter."""
    n = len(codes)
    goal = codes[:, -1].astype(np.int64)[:, None]
    letters = np.arange(_LETTERS)[None]
    leaves = np.diff(ends, axis=1, prepend=0) > 0
    last = np.take_along_axis(ways, np.maximum(ends - 1, 0), axis=1).astype(np.int64)
    last = np.where(leaves & (letters != goal), last, letters)  # stay where there is no way to take
    at = np.broadcast_to(letters, (n, _LETTERS))
    for _ in range(_LETTERS - 1):
        at = np.take_along_axis(last, at, axis=1)
    return np.asarray(((at == goal) | ~leaves).all(axis=1))
