"""Random changes to training sequences that leave the label as it is: the other strand, substitutions, shifts, hidden spans.

All of them work on a batch of token ids, right-padded, shape (B, L), of which row i has `lengths[i]` real tokens, the first ones. They are pure
functions of their random generator, change nothing in place, and leave padding alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.uint8]
Lengths = npt.NDArray[np.int64]


def random_reverse_complement(
    ids: TokenIds,
    lengths: Lengths,
    *,
    complement: TokenIds,
    probability: float,
    rng: np.random.Generator,
) -> TokenIds:
    """Replace each sequence by its reverse complement with the given probability.

    Parameters
    ----------
    complement
        uint8, shape (V,) or longer: the id of the complementary token of each id.
    probability
        In [0, 1]; 0 returns the batch and draws nothing.
    """
    if probability == 0:
        return ids
    flipped = rng.random(len(ids)) < probability
    source = lengths[:, None] - 1 - np.arange(ids.shape[1])
    other = complement[np.take_along_axis(ids, np.maximum(source, 0), axis=1)]
    return np.where(flipped[:, None] & (source >= 0), other, ids)


def random_substitution(
    ids: TokenIds,
    *,
    base_token_ids: Sequence[int],
    probability: float,
    rng: np.random.Generator,
) -> TokenIds:
    """Replace each A, C, G or T by a base drawn uniformly from the four with the given probability.

    A quarter of the draws leave the base as it was, so that the rate of changed bases is ¾ of `probability`. N and
    special tokens stay.

    Parameters
    ----------
    base_token_ids
        The ids of A, C, G and T.
    probability
        In [0, 1]; 0 returns the batch and draws nothing.
    """
    if probability == 0:
        return ids
    bases = np.asarray(base_token_ids, dtype=np.uint8)
    hit = (rng.random(ids.shape, dtype=np.float32) < probability) & np.isin(ids, bases)
    return np.where(hit, bases[rng.integers(4, size=ids.shape)], ids)


def random_shift(
    ids: TokenIds, lengths: Lengths, *, most: int, fill: int, rng: np.random.Generator
) -> TokenIds:
    """Move each sequence by up to `most` bases to either side within its length; what comes free is filled.

    Parameters
    ----------
    most
        Bases, ≥ 0; 0 returns the batch and draws nothing.
    fill
        Token id of free places: that of N.
    """
    if most == 0:
        return ids
    places = np.arange(ids.shape[1])
    source = places - rng.integers(-most, most + 1, (len(ids), 1))
    real = places < lengths[:, None]
    inside = (source >= 0) & (source < lengths[:, None])
    moved = np.take_along_axis(ids, source.clip(0, ids.shape[1] - 1), axis=1)
    return np.where(real, np.where(inside, moved, np.uint8(fill)), ids)


def random_span_mask(
    ids: TokenIds, lengths: Lengths, *, span: int, fill: int, rng: np.random.Generator
) -> TokenIds:
    """Hide `span` bases in a row at a random place of each sequence; spans are cut at its end.

    Parameters
    ----------
    span
        Bases, ≥ 0; 0 returns the batch and draws nothing.
    fill
        Token id of what is hidden: that of N.
    """
    if span == 0:
        return ids
    places = np.arange(ids.shape[1])
    start = (rng.random(len(ids)) * lengths).astype(np.int64)[:, None]
    hidden = (places >= start) & (places < np.minimum(start + span, lengths[:, None]))
    return np.where(hidden, np.uint8(fill), ids)
