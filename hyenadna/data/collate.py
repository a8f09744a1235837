"""Batches of unequal sequences: right padding with an exact mask, and batches of similar lengths.

Padding goes to the right because the models are causal: no real position can see it, so that a masked result is the
result of the sequence alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class PaddedBatch(NamedTuple):
    """Sequences of unequal length as one array.

    Parameters
    ----------
    token_ids
        uint8, shape (B, L), L the longest length in the batch.
    mask
        bool, shape (B, L), True at real tokens.
    """

    token_ids: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def pad_right(sequences: Sequence[npt.NDArray[np.uint8]], *, pad_token_id: int) -> PaddedBatch:
    """Stack token ids, each of shape (L_i,) with L_i ≥ 1, padding on the right to the longest.

    Raises
    ------
    ValueError
        There is no sequence, or one is empty.
    """
    lengths = np.array([len(ids) for ids in sequences])
    if lengths.size == 0 or lengths.min() == 0:
        raise ValueError(
            "a batch needs at least one sequence, and every sequence at least one token"
        )
    mask = np.arange(lengths.max()) < lengths[:, None]
    token_ids = np.full(mask.shape, pad_token_id, dtype=np.uint8)
    token_ids[mask] = np.concatenate(sequences)
    return PaddedBatch(token_ids, mask)


def bucketed_batches(
    lengths: npt.ArrayLike,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    pool_batches: int = 50,
) -> list[npt.NDArray[np.int64]]:
    """Shuffle rows into batches of similar length; a pure function of its arguments.

    Rows are shuffled, sorted by length inside pools of ``pool_batches × batch_size`` rows, cut into batches, and the
    batches shuffled. Where all lengths are equal this is a plain shuffle.

    Parameters
    ----------
    lengths
        Integers, shape (n,), in tokens.
    batch_size
        Rows in a batch, ≥ 1; the last batch may have fewer.
    seed, epoch
        Non-negative; each epoch has its own order.
    pool_batches
        Batches in a pool, ≥ 1: a larger pool pads less and shuffles less.

    Returns
    -------
    list
        int64 arrays of row indices, which together hold every row once.
    """
    sizes = np.asarray(lengths)
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(sizes.size)
    if sizes.size and sizes.min() != sizes.max():
        pool = batch_size * pool_batches
        order = np.concatenate(
            [
                rows[np.argsort(sizes[rows], kind="stable")]
                for rows in (order[i : i + pool] for i in range(0, order.size, pool))
            ]
        )
    batches = [order[i : i + batch_size] for i in range(0, order.size, batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def sorted_batches(lengths: npt.ArrayLike, batch_size: int) -> list[npt.NDArray[np.int64]]:
    """Cut rows, sorted by length, shape (n,), into batches for prediction, where their order has no effect."""
    order = np.argsort(np.asarray(lengths), kind="stable")
    return [order[i : i + batch_size] for i in range(0, order.size, batch_size)]
