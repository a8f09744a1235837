from __future__ import annotations

import numpy as np

from hyenadna.data.augment import (
    random_reverse_complement,
    random_shift,
    random_span_mask,
    random_substitution,
)
from hyenadna.tokenizers import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
COMPLEMENT = TOKENIZER.complement(np.arange(12, dtype=np.uint8))


def test_reverse_complement_is_the_tokenizers() -> None:
    ids = [TOKENIZER.encode("AACGN"), TOKENIZER.encode("TTG")]
    rng = np.random.default_rng(0)
    flipped = random_reverse_complement(ids, complement=COMPLEMENT, probability=1.0, rng=rng)
    assert [TOKENIZER.decode(x) for x in flipped] == ["NCGTT", "CAA"]
    kept = random_reverse_complement(ids, complement=COMPLEMENT, probability=0.0, rng=rng)
    assert [TOKENIZER.decode(x) for x in kept] == ["AACGN", "TTG"]


def test_about_half_are_flipped_at_one_half() -> None:
    ids = [TOKENIZER.encode("AAAA")] * 1000
    flipped = random_reverse_complement(
        ids, complement=COMPLEMENT, probability=0.5, rng=np.random.default_rng(0)
    )
    assert 400 < sum(x[0] == 10 for x in flipped) < 600


def test_substitution_changes_three_quarters_of_its_rate_and_no_n() -> None:
    ids = TOKENIZER.encode("A" * 10_000 + "N" * 100)
    (changed,) = random_substitution(
        [ids],
        base_token_ids=TOKENIZER.base_token_ids,
        probability=0.2,
        rng=np.random.default_rng(0),
    )
    assert 0.13 < (changed[:10_000] != 7).mean() < 0.17
    assert (changed[10_000:] == 11).all()
    assert set(changed.tolist()) == {7, 8, 9, 10, 11}
    assert (ids[:10_000] == 7).all()


def test_no_substitution_at_rate_zero() -> None:
    ids = [TOKENIZER.encode("ACGT")]
    rng = np.random.default_rng(0)
    (same,) = random_substitution(ids, base_token_ids=(7, 8, 9, 10), probability=0.0, rng=rng)
    assert same is ids[0]


def test_a_shift_moves_bases_and_fills_with_n() -> None:
    ids = [TOKENIZER.encode("ACGTAC")] * 200
    moved = {
        TOKENIZER.decode(x)
        for x in random_shift(ids, most=2, fill=11, rng=np.random.default_rng(0))
    }
    assert moved == {"GTACNN", "CGTACN", "ACGTAC", "NACGTA", "NNACGT"}
    short = random_shift(
        [TOKENIZER.encode("A")] * 50, most=3, fill=11, rng=np.random.default_rng(0)
    )
    assert {TOKENIZER.decode(x) for x in short} == {"A", "N"}
    assert random_shift(ids, most=0, fill=11, rng=np.random.default_rng(0))[0] is ids[0]


def test_a_hidden_span_is_one_row_of_n() -> None:
    ids = TOKENIZER.encode("ACGT" * 5)
    for hidden in random_span_mask([ids] * 100, span=4, fill=11, rng=np.random.default_rng(0)):
        text = TOKENIZER.decode(hidden)
        assert 1 <= text.count("N") <= 4
        assert "N" * text.count("N") in text
        assert all(a in (b, "N") for a, b in zip(text, "ACGT" * 5, strict=True))
    assert random_span_mask([ids], span=0, fill=11, rng=np.random.default_rng(0))[0] is ids
