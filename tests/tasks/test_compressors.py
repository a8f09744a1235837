from __future__ import annotations

import numpy as np
import pytest

from hyenadna.tasks.compressors import WRITINGS, bz2_bits, lzma_bits


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, n).astype(np.uint8)


@pytest.mark.parametrize("bits", [lzma_bits, bz2_bits])
def test_random_bases_cost_two_bits_and_repeats_hardly_any(bits) -> None:  # type: ignore[no-untyped-def]
    noise = random_codes(200_000)
    repeat = np.tile(random_codes(700), 300)
    assert bits(noise, "packed") / len(noise) == pytest.approx(2.0, abs=0.04)
    assert 2.0 < bits(noise, "letters") / len(noise) < 2.3
    for writing in WRITINGS:
        assert bits(repeat, writing) / len(repeat) < 0.1


@pytest.mark.parametrize("writing", WRITINGS)
def test_lzma_pays_less_for_what_it_has_read_before(writing: str) -> None:
    text, other = random_codes(4000, 1), random_codes(4000, 2)
    alone = lzma_bits(text, writing)
    assert lzma_bits(np.concatenate([text, text]), writing, first=4000) < 0.05 * alone
    unrelated = lzma_bits(np.concatenate([other, text]), writing, first=4000)
    assert unrelated == pytest.approx(2 * len(text), rel=0.15)  # negative control
    assert lzma_bits(text, writing, first=4000) == 0


def test_prices_of_consecutive_parts_sum_to_the_whole() -> None:
    text = random_codes(8000)
    whole = lzma_bits(text, "packed")
    parts = lzma_bits(text[:4000], "packed") + lzma_bits(text, "packed", first=4000)
    assert parts == whole


def test_bases_that_fill_no_whole_byte_are_counted() -> None:
    assert [lzma_bits(random_codes(n), "packed") for n in (4001, 4002, 4003)] == pytest.approx(
        [lzma_bits(random_codes(4004), "packed")] * 3, abs=32
    )
