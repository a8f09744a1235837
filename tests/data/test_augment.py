from __future__ import annotations

import numpy as np

from hyenadna.data.augment import (
    random_reverse_complement,
    random_shift,
    random_span_mask,
    random_substitution,
)
from hyenadna.data.collate import pad_right
from hyenadna.tokenizers import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
COMPLEMENT = TOKENIZER.complement(np.arange(12, dtype=np.uint8))
PAD = TOKENIZER.pad_token_id


def batch(*sequences: str) -> tuple[np.ndarray, np.ndarray]:
    ids, _ = pad_right([TOKENIZER.encode(s) for s in sequences], pad_token_id=PAD)
    return ids, np.array([len(s) for s in sequences])


def text(ids: np.ndarray) -> list[str]:
    return [TOKENIZER.decode(row[row != PAD]) for row in ids]


def test_reverse_complement_is_the_tokenizers() -> None:
    ids, lengths = batch("AACGN", "TTG")
    rng = np.random.default_rng(0)
    flipped = random_reverse_complement(
        ids, lengths, complement=COMPLEMENT, probability=1.0, rng=rng
    )
    assert text(flipped) == ["NCGTT", "CAA"]
    assert (flipped[1, 3:] == PAD).all()
    assert text(ids) == ["AACGN", "TTG"]
    kept = random_reverse_complement(ids, lengths, complement=COMPLEMENT, probability=0.0, rng=rng)
    assert kept is ids


def test_about_half_are_flipped_at_one_half() -> None:
    ids, lengths = batch(*["AAAA"] * 1000)
    flipped = random_reverse_complement(
        ids, lengths, complement=COMPLEMENT, probability=0.5, rng=np.random.default_rng(0)
    )
    assert 400 < (flipped[:, 0] == 10).sum() < 600
    assert set(text(flipped)) == {"AAAA", "TTTT"}


def test_substitution_changes_three_quarters_of_its_rate_and_no_n() -> None:
    ids, _ = batch("A" * 10_000 + "N" * 100, "A")
    changed = random_substitution(
        ids, base_token_ids=TOKENIZER.base_token_ids, probability=0.2, rng=np.random.default_rng(0)
    )
    assert 0.13 < (changed[0, :10_000] != 7).mean() < 0.17
    assert (changed[0, 10_000:] == 11).all()
    assert set(changed[0].tolist()) == {7, 8, 9, 10, 11}
    assert (changed[1, 1:] == PAD).all()
    assert (ids[0, :10_000] == 7).all()


def test_no_substitution_at_rate_zero() -> None:
    ids, _ = batch("ACGT")
    rng = np.random.default_rng(0)
    assert random_substitution(ids, base_token_ids=(7, 8, 9, 10), probability=0.0, rng=rng) is ids


def test_a_shift_moves_bases_and_fills_with_n() -> None:
    ids, lengths = batch(*["ACGTAC"] * 200, *["A"] * 50)
    moved = random_shift(ids, lengths, most=2, fill=11, rng=np.random.default_rng(0))
    assert set(text(moved)[:200]) == {"GTACNN", "CGTACN", "ACGTAC", "NACGTA", "NNACGT"}
    assert set(text(moved)[200:]) == {"A", "N"}
    assert random_shift(ids, lengths, most=0, fill=11, rng=np.random.default_rng(0)) is ids


def test_a_hidden_span_is_one_row_of_n() -> None:
    ids, lengths = batch(*["ACGT" * 5] * 100, "AC")
    found = random_span_mask(ids, lengths, span=4, fill=11, rng=np.random.default_rng(0))
    for row in text(found)[:100]:
        assert 1 <= row.count("N") <= 4
        assert "N" * row.count("N") in row
        assert all(a in (b, "N") for a, b in zip(row, "ACGT" * 5, strict=True))
    assert len({row.find("N") for row in text(found)[:100]}) > 10
    assert "N" in text(found)[100]
    assert (found[100, 2:] == PAD).all()
    assert random_span_mask(ids, lengths, span=0, fill=11, rng=np.random.default_rng(0)) is ids
