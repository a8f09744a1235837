"""Random changes to training sequences that leave the label as it is: the other strand, and point substitutions.

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
