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


def pad_right(
    sequences: Sequence[npt.NDArray[np.uint8]], *, pad_token_id: int, length: int | None = None
) -> PaddedBatch:
    """Stack token ids, each of shape (L_i,) with L_i ≥ 1, padding on the right.

    Parameters
    ----------
    sequences
        At least one.
    pad_token_id
        What fills the rows.
    length
        L of the result, at least the longest length; None takes the longest.

    Raises
    ------
    ValueError
        There is no sequence, one is empty, or one is longer than `length`.
    """
    lengths = np.array([len(ids) for ids in sequences])
    if lengths.size == 0 or lengths.min() == 0:
        raise ValueError(
            "a batch needs at least one sequence, and every sequence at least one token"
        )
    if length is not None and length < lengths.max():
        raise ValueError(f"a sequence of {lengths.max()} tokens does not fit into {length}")
    mask = np.arange(length or lengths.max()) < lengths[:, None]
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


def padded_length(length: int, limit: int) -> int:
    """Return the length to which a sequence is padded for prediction; it follows from its own length alone.

    Parameters
    ----------
    length
        In tokens, 1…limit.
    limit
        Longest input of the model.

    Returns
    -------
    int
        The least of eight lengths an octave that holds it, at most `limit`.

    Examples
    --------
    >>> [padded_length(n, 1026) for n in (1, 16, 17, 70, 1000, 1025)]
    [1, 16, 18, 72, 1024, 1026]
    """
    step = 1 << max(0, (length - 1).bit_length() - 4)
    return min(-(-length // step) * step, limit)


def prediction_batches(
    lengths: npt.ArrayLike, batch_size: int, *, limit: int
) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Cut rows into batches of one padded length each, so that no row's rounding depends on the company it is in.

    Parameters
    ----------
    lengths
        Integers, shape (n,), in tokens, each in 1…limit.
    batch_size
        Rows in a batch, ≥ 1.
    limit
        Longest input of the model.

    Returns
    -------
    list
        Padded length and row indices of each batch, from short to long; together they hold every row once.
    """
    padded = np.array([padded_length(int(n), limit) for n in np.asarray(lengths)], dtype=np.int64)
    batches = []
    for length in np.unique(padded):
        rows = np.flatnonzero(padded == length)
        batches += [
            (int(length), rows[i : i + batch_size]) for i in range(0, rows.size, batch_size)
        ]
    return batches
