"""Random changes to training sequences that leave the label as it is: the other strand, substitutions, shifts, hidden spans.

All of them work on token ids, before padding, and are pure functions of their random generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.uint8]


def random_reverse_complement(
    sequences: Sequence[TokenIds],
    *,
    complement: TokenIds,
    probability: float,
    rng: np.random.Generator,
) -> list[TokenIds]:
    """Replace each sequence by its reverse complement with the given probability.

    Parameters
    ----------
    sequences
        Token ids, each of shape (L_i,); the arrays given are not changed.
    complement
        uint8, shape (V,) or longer: the id of the complementary token of each id.
    probability
        In [0, 1].
    rng
        Source of randomness; one number is drawn for each sequence.
    """
    flips = rng.random(len(sequences)) < probability
    return [
        complement[ids[::-1]] if flip else ids
        for ids, flip in zip(sequences, flips.tolist(), strict=True)
    ]


def random_substitution(
    sequences: Sequence[TokenIds],
    *,
    base_token_ids: Sequence[int],
    probability: float,
    rng: np.random.Generator,
) -> list[TokenIds]:
    """Replace each A, C, G or T by a base drawn uniformly from the four with the given probability.

    A quarter of the draws leave the base as it was, so that the rate of changed bases is ¾ of `probability`. N and
    special tokens stay.

    Parameters
    ----------
    sequences
        Token ids, each of shape (L_i,); the arrays given are not changed.
    base_token_ids
        The ids of A, C, G and T.
    probability
        In [0, 1]; 0 returns the sequences and draws nothing.
    rng
        Source of randomness.
    """
    if probability == 0:
        return list(sequences)
    bases = np.asarray(base_token_ids, dtype=np.uint8)
    changed = []
    for ids in sequences:
        hit = (rng.random(ids.size) < probability) & np.isin(ids, bases)
        changed.append(np.where(hit, rng.choice(bases, ids.size), ids))
    return changed


def random_shift(
    sequences: Sequence[TokenIds], *, most: int, fill: int, rng: np.random.Generator
) -> list[TokenIds]:
    """Move each sequence by up to `most` bases to either side within its length; what comes free is filled.

    Parameters
    ----------
    sequences
        Token ids, each of shape (L_i,); the arrays given are not changed.
    most
        Bases, ≥ 0; 0 returns the sequences and draws nothing.
    fill
        Token id of free places: that of N.
    rng
        Source of randomness; one number is drawn for each sequence.
    """
    if most == 0:
        return list(sequences)
    moved = []
    for ids, shift in zip(
        sequences, rng.integers(-most, most + 1, len(sequences)).tolist(), strict=True
    ):
        result = np.full_like(ids, fill)
        if shift >= 0:
            result[shift:] = ids[: max(ids.size - shift, 0)]
        else:
            result[:shift] = ids[-shift:]
        moved.append(result)
    return moved


def random_span_mask(
    sequences: Sequence[TokenIds], *, span: int, fill: int, rng: np.random.Generator
) -> list[TokenIds]:
    """Hide `span` bases in a row at a random place of each sequence; spans are cut at its end.

    Parameters
    ----------
    sequences
        Token ids, each of shape (L_i,), L_i ≥ 1; the arrays given are not changed.
    span
        Bases, ≥ 0; 0 returns the sequences and draws nothing.
    fill
        Token id of what is hidden: that of N.
    rng
        Source of randomness; one number is drawn for each sequence.
    """
    if span == 0:
        return list(sequences)
    hidden = []
    for ids, share in zip(sequences, rng.random(len(sequences)).tolist(), strict=True):
        start = int(share * ids.size)
        result = ids.copy()
        result[start : start + span] = fill
        hidden.append(result)
    return hidden
