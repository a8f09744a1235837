import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyenadna.errors import ConfigError, FileFormatError, SequenceError
from hyenadna.sequence import base_codes, reverse_complement
from hyenadna.tokenizers import ByteTokenizer, CharacterTokenizer, load_tokenizer

TOKENIZER = CharacterTokenizer()


def test_ids_are_those_of_the_published_checkpoints() -> None:
    assert TOKENIZER.tokens == (
        "[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]", "A", "C", "G", "T", "N",
    )  # fmt: skip
    assert TOKENIZER.encode("ACGTN").tolist() == [7, 8, 9, 10, 11]
    assert TOKENIZER.vocab_size == 12


def test_case_is_ignored_unless_asked() -> None:
    assert TOKENIZER.encode("acgtun").tolist() == [7, 8, 9, 10, 10, 11]
    assert CharacterTokenizer(case_sensitive=True).encode("acGT").tolist() == [6, 6, 9, 10]


def test_ambiguity_codes_follow_the_policy() -> None:
    assert TOKENIZER.encode("RN").tolist() == [11, 11]
    assert CharacterTokenizer(ambiguous="unk").encode("RNr").tolist() == [6, 11, 6]
    with pytest.raises(SequenceError, match=r"'s' has the ambiguous letter 'Y' at position 4"):
        CharacterTokenizer(ambiguous="error").encode("ANGY", record="s")


def test_non_nucleotides_are_refused_not_hidden() -> None:
    with pytest.raises(SequenceError, match="position 2"):
        TOKENIZER.encode("A*C", record="p")


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="ambiguous"):
        CharacterTokenizer(ambiguous="maybe")  # type: ignore[arg-type]


@given(st.text("ACGTN", max_size=60))
def test_decode_undoes_encode(sequence: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(sequence)) == sequence


@given(st.text("ACGTNacgtn", max_size=60))
def test_reverse_complement_commutes_with_encoding(sequence: str) -> None:
    there = TOKENIZER.encode(reverse_complement(sequence))
    assert np.array_equal(there, TOKENIZER.reverse_complement(TOKENIZER.encode(sequence)))


def test_complement_leaves_special_tokens_alone() -> None:
    assert TOKENIZER.complement(np.arange(12, dtype=np.uint8)).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        10,
        9,
        8,
        7,
        11,
    ]


def test_special_tokens_decode_to_their_names() -> None:
    assert TOKENIZER.decode([0, 7, 6, 4]) == "[CLS]AN[PAD]"
    assert TOKENIZER.decode([7, 6]) == "AN"


@pytest.mark.parametrize("bad", [[12], [-1], [255]])
def test_ids_outside_the_vocabulary_are_refused(bad: list[int]) -> None:
    with pytest.raises(SequenceError, match="cannot be decoded"):
        TOKENIZER.decode(bad)


def test_codes_and_letters_encode_alike() -> None:
    assert np.array_equal(TOKENIZER.encode_codes(base_codes("ACGTNR")), TOKENIZER.encode("ACGTNR"))


def test_encode_of_a_megabase_is_a_table_lookup() -> None:
    sequence = "ACGTN" * 200_000
    times = []
    for _ in range(5):
        start = time.perf_counter()
        TOKENIZER.encode(sequence)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02  # measured 2.5 ms; a Python loop takes 60 ms


def test_settings_survive_saving(tmp_path: Path) -> None:
    CharacterTokenizer(case_sensitive=True, ambiguous="unk").save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, CharacterTokenizer)
    assert loaded.encode("aR").tolist() == [6, 6]


def test_a_folder_without_tokenizer_has_the_default(tmp_path: Path) -> None:
    assert load_tokenizer(tmp_path).encode("a").tolist() == [7]


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "bpe"}'])
def test_broken_settings_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(text)
    with pytest.raises(FileFormatError, match="tokenizer_config.json"):
        load_tokenizer(tmp_path)


def test_byte_tokenizer_round_trips_utf8(tmp_path: Path) -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode("naïve ☕")) == "naïve ☕"
    assert tokenizer.vocab_size == 256
    tokenizer.save_pretrained(tmp_path)
    assert isinstance(load_tokenizer(tmp_path), ByteTokenizer)


def test_byte_tokenizer_refuses_its_own_padding() -> None:
    with pytest.raises(SequenceError, match="byte 0 at position 2"):
        ByteTokenizer().encode("a\0b")
