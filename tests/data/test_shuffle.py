from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyenadna.data.shuffle import dinucleotide_shuffle, dinucleotide_shuffles


def dinucleotides(row: list[int]) -> Counter[tuple[int, int]]:
    return Counter(pairwise(row))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_every_row_keeps_its_ends_and_its_dinucleotides(
    seed: int, length: int, rows: int, letters: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, letters, (rows, length)).astype(np.uint8)
    before = codes.copy()
    shuffled = dinucleotide_shuffles(codes, rng)
    assert np.array_equal(codes, before)
    for row, new in zip(codes.tolist(), shuffled.tolist(), strict=True):
        assert dinucleotides(row) == dinucleotides(new)
        assert (row[0], row[-1]) == (new[0], new[-1])


def test_all_sequences_of_the_same_dinucleotides_are_equally_likely() -> None:
    codes = np.tile(np.array([0, 1, 0, 2, 0, 1, 2, 0], dtype=np.uint8), (12_000, 1))
    found = Counter(map(tuple, dinucleotide_shuffles(codes, np.random.default_rng(0)).tolist()))
    assert len(found) == 6
    assert all(1_800 < count < 2_200 for count in found.values())


def test_longer_sequences_are_really_shuffled() -> None:
    sequence = "".join(np.random.default_rng(3).choice(list("ACGT"), 300))
    other = dinucleotide_shuffle(sequence, np.random.default_rng(0))
    assert np.mean([a == b for a, b in zip(sequence, other, strict=True)]) < 0.5
    assert Counter(sequence) == Counter(other)


@pytest.mark.parametrize("sequence", ["", "A", "ACG", "AAAAAAAA"])
def test_what_has_one_order_stays(sequence: str) -> None:
    assert dinucleotide_shuffle(sequence, np.random.default_rng(0)) == sequence
