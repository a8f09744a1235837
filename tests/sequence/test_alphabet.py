import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyenadna.errors import SequenceError
from hyenadna.sequence import (
    base_codes,
    bases,
    reverse_complement,
    reverse_complement_codes,
    validate_dna,
)

IUPAC = "ACGTURYSWKMBDHVNacgturyswkmbdhvn"


def test_base_codes_ignore_case_and_read_u_as_t() -> None:
    assert base_codes("ACGTUacgtu").tolist() == [0, 1, 2, 3, 3, 0, 1, 2, 3, 3]


def test_ambiguity_codes_become_four() -> None:
    assert set(base_codes("NRYSWKMBDHVn").tolist()) == {4}


def test_bytes_and_text_agree() -> None:
    assert np.array_equal(base_codes(b"ACGTN"), base_codes("ACGTN"))


def test_ambiguity_can_be_refused_with_its_place() -> None:
    with pytest.raises(
        SequenceError, match=r"'chr1' has the ambiguous letter 'R' at position 3"
    ) as e:
        base_codes("ACRT", ambiguous="error", record="chr1")
    assert (e.value.position, e.value.character, e.value.record) == (2, "R", "chr1")


def test_empty_sequence_has_no_codes() -> None:
    assert base_codes("").shape == (0,)


@pytest.mark.parametrize(
    ("sequence", "position"), [("ACGTX", 4), ("MKVLEA", 3), ("AC-GT", 2), ("AC GT", 2), ("AC\n", 2)]
)
def test_letters_that_are_no_nucleotides_are_refused(sequence: str, position: int) -> None:
    with pytest.raises(SequenceError) as e:
        validate_dna(sequence)
    assert e.value.position == position


def test_protein_is_suspected_aloud() -> None:
    with pytest.raises(SequenceError, match="is this protein"):
        validate_dna("MKLEV")


def test_non_ascii_letters_are_refused_with_their_place() -> None:
    with pytest.raises(SequenceError, match="'é' at position 2"):
        base_codes("AéC")


def test_reverse_complement_keeps_case_and_pairs_iupac_codes() -> None:
    assert reverse_complement("AaCcRrBbN") == "NvVyYgGtT"


@given(st.text(IUPAC.replace("U", "").replace("u", ""), max_size=50))
def test_reverse_complement_is_an_involution(sequence: str) -> None:
    assert reverse_complement(reverse_complement(sequence)) == sequence


@given(st.text(IUPAC, max_size=50))
def test_codes_and_letters_reverse_complement_alike(sequence: str) -> None:
    there = base_codes(reverse_complement(sequence))
    assert np.array_equal(there, reverse_complement_codes(base_codes(sequence)))


@given(st.text("ACGTN", max_size=50))
def test_decoding_undoes_encoding(sequence: str) -> None:
    assert bases(base_codes(sequence)) == sequence
