"""Order-k Markov models of DNA: the baseline that a language model has to beat.

All orders 0 … K are fitted in one pass over the training bases. Each order is smoothed towards the one below, so a context
that was never seen costs what a shorter one would:

    p_k(b | c) = (n(c, b) + α_k · p_{k−1}(b | c′)) / (n(c) + α_k),     p_{−1} = 1/4,

where c′ is c without its oldest base. The weight α_k is the one that predicts the training bases best when each base is
left out of its own counts (leave-one-out), so there is no free parameter and no look at held-out data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import DataError

Codes = npt.NDArray[np.uint8]
FloatTable = npt.NDArray[np.float32]

MAX_ORDER = 12
_CHUNK = 1 << 22
_BLOCK = 1 << 20
_ALPHAS = tuple(float(2**power) for power in range(-2, 14))


class MarkovScore(NamedTuple):
    """What Markov models of order 0 … K pay for some bases.

    Parameters
    ----------
    nats
        float64, shape (K + 1,): Σ −log p of the scored bases, by order.
    n_scored
        Number of scored bases.
    """

    nats: npt.NDArray[np.float64]
    n_scored: int


class MarkovModel:
    """Smoothed Markov models of all orders up to a highest one. Made by `fit`.

    Parameters
    ----------
    tables
        For order k = 0 … K: float32, shape (4^(k+1),), −log p in nats; the index is the (k+1)-mer in base 4, oldest base
        first.
    alphas
        The smoothing weight of each order.
    n_bases
        Number of bases that were counted, both strands together.
    """

    def __init__(self, tables: list[FloatTable], alphas: list[float], n_bases: int) -> None:
        self.tables = tables
        self.alphas = alphas
        self.n_bases = n_bases

    @property
    def max_order(self) -> int:
        """The highest order K."""
        return len(self.tables) - 1

    @classmethod
    def fit(
        cls, sequences: Iterable[Codes], *, max_order: int = MAX_ORDER, both_strands: bool = True
    ) -> MarkovModel:
        """Count and smooth.

        Parameters
        ----------
        sequences
            Base codes 0…4, uint8, each shape (L,); nothing is counted across N (4) or from one sequence to the next.
        max_order
            K, 0…12. Order 12 takes about 0.7 GB while it is fitted, and 0.4 GB afterwards.
        both_strands
            Count the reverse complement too, as for a model that trains on both strands.

        Raises
        ------
        DataError
            The sequences hold no K + 1 bases in a row, or K is out of range.
        """
        if not 0 <= max_order <= MAX_ORDER:
            raise DataError(
                f"a Markov order of {max_order} is impossible; 0 to {MAX_ORDER} can be fitted"
            )
        counts = _count(sequences, max_order)
        if not counts.any():
            raise DataError(
                f"there are no {max_order + 1} bases in a row to fit a Markov model of order {max_order}"
            )
        if both_strands:
            counts += _reverse_complement_counts(counts, max_order)
        by_order = [counts]
        for order in range(max_order, 0, -1):
            by_order.append(by_order[-1].reshape(4, 4**order).sum(axis=0, dtype=counts.dtype))
        tables: list[FloatTable] = []
        alphas: list[float] = []
        lower = np.full(1, 0.25, dtype=np.float32)
        lower_without = lower
        n_bases = int(by_order[-1].sum(dtype=np.int64))
        place = 0
        while by_order:
            n = by_order.pop()
            place = _best_alpha(n, lower_without, place)
            alphas.append(_ALPHAS[place])
            if by_order:
                lower_without = _smoothed(n, lower_without, alphas[-1], less=1.0)
            lower = _smoothed(n, lower, alphas[-1])
            nats = np.log(lower, out=None if by_order else lower)  # the last is the largest by far
            tables.append(np.negative(nats, out=nats))
        return cls(tables, alphas, n_bases)

    def score(self, codes: Codes, *, first: int = 1) -> MarkovScore:
        """Sum the nats of a sequence's bases, by order.

        Parameters
        ----------
        codes
            Base codes 0…4, uint8, shape (L,). N is neither scored nor used as context: after one, the order is as high as the
            bases since then allow.
        first
            Position of the first scored base; those before it are context only.

        Returns
        -------
        MarkovScore
            Sums of float64.
        """
        position = np.arange(len(codes))
        known = codes < 4
        last_n = np.maximum.accumulate(np.where(known, -1, position))
        context = position - last_n - 1  # number of known bases right before
        scored = known & (position >= first)
        where = position[scored]
        context = context[scored]
        nats = np.zeros(self.max_order + 1)
        index = codes[where].astype(np.int64)
        current = self.tables[0][index].astype(np.float64)
        nats[0] = current.sum()
        for order in range(1, self.max_order + 1):
            enough = context >= order
            index[enough] += codes[where[enough] - order].astype(np.int64) << (2 * order)
            current[enough] = self.tables[order][index[enough]]
            nats[order] = current.sum()
        return MarkovScore(nats, len(where))


def _count(sequences: Iterable[Codes], order: int) -> npt.NDArray[np.unsignedinteger]:
    """Count (order + 1)-mers; 32 bits hold every count where there are many cells."""
    width = order + 1
    counts = np.zeros(4**width, dtype=np.uint32 if order > 6 else np.uint64)
    for codes in sequences:
        for start in range(0, len(codes) - order, _CHUNK):
            part = codes[start : start + _CHUNK + order]
            n = len(part) - order
            index = np.zeros(n, dtype=np.int64)
            known = np.ones(n, dtype=bool)
            for offset in range(width):
                column = part[offset : offset + n]
                index <<= 2
                index += column & 3
                known &= column < 4
            np.add.at(
                counts, index[known], counts.dtype.type(1)
            )  # bincount would fill 8 bytes a cell
    return counts


def _reverse_complement_counts(
    counts: npt.NDArray[np.unsignedinteger], order: int
) -> npt.NDArray[np.unsignedinteger]:
    axes = order + 1
    # complementing a code is 3 − code, so each axis is flipped; reversing the k-mer reverses the axes
    turned = np.flip(counts.reshape((4,) * axes).transpose(tuple(reversed(range(axes)))))
    return np.ascontiguousarray(turned).reshape(-1)


def _mixed(
    n: npt.NDArray[np.unsignedinteger], lower: FloatTable, alpha: float, less: float
) -> FloatTable:
    """Return (n − less + α · lower) / (n(c) − less + α) for cells whose lower-order probabilities are aligned with them."""
    table = n.astype(np.float32).reshape(-1, 4)
    context = table.sum(axis=1, keepdims=True)
    table -= np.float32(less)
    table += np.float32(alpha) * lower.reshape(-1, 4)
    np.maximum(table, 0, out=table)
    table /= np.maximum(context + np.float32(alpha - less), np.float32(1e-9))
    return table.reshape(-1)


def _blocks(
    n: npt.NDArray[np.unsignedinteger], lower: FloatTable
) -> Iterator[tuple[slice, FloatTable]]:
    """Yield parts of a table of counts, each with the probabilities of the order below for the same cells."""
    aligned = np.repeat(lower, 4) if len(lower) == 1 else lower
    size = min(len(aligned), _BLOCK)
    for start in range(0, len(n), size):
        # the oldest base is the leading digit: the lower order repeats with the period of its own length
        below = start % len(aligned)
        yield slice(start, start + size), aligned[below : below + size]


def _smoothed(
    n: npt.NDArray[np.unsignedinteger], lower: FloatTable, alpha: float, *, less: float = 0.0
) -> FloatTable:
    table = np.empty(len(n), dtype=np.float32)
    for cells, below in _blocks(n, lower):
        table[cells] = _mixed(n[cells], below, alpha, less)
    return table


def _best_alpha(n: npt.NDArray[np.unsignedinteger], lower_without: FloatTable, start: int) -> int:
    """Return the place in `_ALPHAS` of the best weight, walking downhill from a first guess: the curve has one valley."""
    known: dict[int, float] = {}

    def nats(place: int) -> float:
        if not 0 <= place < len(_ALPHAS):
            return np.inf
        if place not in known:
            known[place] = _leave_one_out_nats(n, lower_without, _ALPHAS[place])
        return known[place]

    place = start
    step = 1 if nats(start + 1) < nats(start) else -1
    while nats(place + step) < nats(place):
        place += step
    return place


def _leave_one_out_nats(
    n: npt.NDArray[np.unsignedinteger], lower_without: FloatTable, alpha: float
) -> float:
    """Return the nats of all counted bases, each left out of its own counts at every order."""
    total = 0.0
    for cells, below in _blocks(n, lower_without):
        part = n[cells]
        logarithm = np.log(np.maximum(_mixed(part, below, alpha, 1.0), np.float32(1e-12)))
        total -= float(np.dot(part.astype(np.float64), logarithm.astype(np.float64)))
    return total
