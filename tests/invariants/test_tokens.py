"""Letters and token ids: encoding loses nothing, and commutes with reading the other strand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyenadna import ByteTokenizer, CharacterTokenizer
from hyenadna.sequence import base_codes, reverse_complement, reverse_complement_codes

TOKENIZER = CharacterTokenizer()
LETTERS = "ACGTUNRYSWKMBDHVacgtunryswkmbdhv"


@given(st.text("ACGTN", max_size=200))
def test_decode_undoes_encode(sequence: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(sequence)) == sequence


@given(st.text(max_size=100).filter(lambda text: "\0" not in text))
def test_decode_undoes_encode_for_text(text: str) -> None:
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@given(st.text(LETTERS, max_size=200))
def test_encoding_the_other_strand_is_complementing_ids_backwards(sequence: str) -> None:
    ids = TOKENIZER.encode(sequence)
    other = TOKENIZER.encode(reverse_complement(sequence))
    assert np.array_equal(other, TOKENIZER.complement(ids)[::-1])
    assert np.array_equal(other, TOKENIZER.reverse_complement(ids))


@given(st.text(LETTERS, max_size=200))
def test_letters_codes_and_ids_agree(sequence: str) -> None:
    codes = base_codes(sequence)
    assert np.array_equal(TOKENIZER.encode_codes(codes), TOKENIZER.encode(sequence))
    assert np.array_equal(base_codes(reverse_complement(sequence)), reverse_complement_codes(codes))


def test_control_the_published_case_policy_loses_letters() -> None:
    published = CharacterTokenizer(case_sensitive=True)
    assert published.decode(published.encode("ACgt")) == "ACNN"


def test_control_complementing_without_reversing_is_caught() -> None:
    ids = TOKENIZER.encode("AACG")
    assert not np.array_equal(
        TOKENIZER.encode(reverse_complement("AACG")), TOKENIZER.complement(ids)
    )
    assert not np.array_equal(TOKENIZER.encode(reverse_complement("AACG")), ids[::-1])
