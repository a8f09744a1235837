import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")

from transformers import AutoTokenizer

from hyenadna import CharacterTokenizer, HyenaConfig, HyenaForCausalLM, load_tokenizer
from hyenadna.errors import SequenceError
from hyenadna.tokenizers.hf import HyenaDNATokenizer


def test_ids_are_those_of_the_character_tokenizer() -> None:
    letters = "ACGTUNacgtunRYK"
    tokenizer = HyenaDNATokenizer()
    assert tokenizer(letters)["input_ids"] == CharacterTokenizer().encode(letters).tolist()
    assert tokenizer(letters)["attention_mask"] == [1] * len(letters)
    assert tokenizer.get_vocab() == {t: i for i, t in enumerate(CharacterTokenizer().tokens)}
    assert (len(tokenizer), tokenizer.vocab_size) == (12, 12)


def test_special_tokens_have_the_published_ids() -> None:
    tokenizer = HyenaDNATokenizer()
    found = [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.bos_token_id, tokenizer.mask_token_id,
             tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id]  # fmt: skip
    assert found == [0, 1, 2, 3, 4, 6, 1]
    assert tokenizer("AC[MASK]T")["input_ids"] == [7, 8, 3, 10]


def test_a_saved_model_folder_loads_through_auto_tokenizer(tmp_path: Path) -> None:
    model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=16))
    model.save_pretrained(tmp_path, CharacterTokenizer(case_sensitive=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert type(tokenizer) is HyenaDNATokenizer
    assert tokenizer("ACgt")["input_ids"] == [7, 8, 6, 6]


@pytest.mark.parametrize(
    "settings", [{}, {"case_sensitive": True, "ambiguous": "unk"}, {"append_sep": True}]
)
def test_saving_and_loading_keeps_the_policy(tmp_path: Path, settings: dict[str, object]) -> None:
    before = HyenaDNATokenizer(**settings)  # type: ignore[arg-type]
    before.save_pretrained(tmp_path)
    after = AutoTokenizer.from_pretrained(tmp_path)
    text = "ACgtNRn"
    assert after(text)["input_ids"] == before(text)["input_ids"]
    ours = load_tokenizer(tmp_path)
    assert after(text, add_special_tokens=False)["input_ids"] == ours.encode(text).tolist()
    assert (
        json.loads((tmp_path / "tokenizer_config.json").read_text())["tokenizer_class"]
        == "HyenaDNATokenizer"
    )


def test_batches_pad_on_the_right() -> None:
    batch = HyenaDNATokenizer()(["ACGT", "A"], padding=True, return_tensors="np")
    assert np.asarray(batch["input_ids"]).tolist() == [[7, 8, 9, 10], [7, 4, 4, 4]]
    assert np.asarray(batch["attention_mask"]).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_sep_is_appended_only_where_asked_for() -> None:
    assert HyenaDNATokenizer()("AC")["input_ids"] == [7, 8]
    assert HyenaDNATokenizer(append_sep=True)("AC")["input_ids"] == [7, 8, 1]


def test_decoding_inverts_encoding() -> None:
    tokenizer = HyenaDNATokenizer(append_sep=True)
    ids = tokenizer("ACGTNNA")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ACGTNNA"
    assert tokenizer.decode(ids) == "ACGTNNA[SEP]"
    assert tokenizer.convert_tokens_to_string(["A", "[UNK]"]) == "AN"


def test_letters_that_are_no_nucleotides_are_refused() -> None:
    with pytest.raises(SequenceError, match="no nucleotide code"):
        HyenaDNATokenizer()("ACXG")
