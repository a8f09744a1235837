import copy
from pathlib import Path

import pytest
import torch

from hyenadna import ByteTokenizer, CharacterTokenizer, HyenaConfig, HyenaForCausalLM
from hyenadna.errors import BackendUnavailableError, CheckpointError, ConfigError
from hyenadna.inference.runtime import choose_device, load_language_model, weights_checksum


def test_auto_takes_the_gpu_where_there_is_one() -> None:
    assert choose_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda"):
        choose_device(name)


def test_absent_devices_are_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="'cuda:99' is not there"):
        choose_device("cuda:99")


def test_the_tokenizer_beside_the_model_is_used(
    tmp_path: Path, small_model: HyenaForCausalLM
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    small_model.save_pretrained(run / "model", CharacterTokenizer(case_sensitive=True))
    for source in (run, run / "model", run / "model" / "model.safetensors"):
        model, tokenizer = load_language_model(source)
        assert tokenizer.case_sensitive
        assert weights_checksum(model) == weights_checksum(small_model)


def test_a_model_of_text_is_refused(tmp_path: Path, small_model: HyenaForCausalLM) -> None:
    small_model.save_pretrained(tmp_path / "text", ByteTokenizer())
    with pytest.raises(CheckpointError, match="byte tokenizer"):
        load_language_model(tmp_path / "text")
    HyenaForCausalLM(
        HyenaConfig(d_model=8, n_layers=1, vocab_size=5, max_seq_len=8)
    ).save_pretrained(tmp_path / "five")
    with pytest.raises(CheckpointError, match="has 8 token ids"):
        load_language_model(tmp_path / "five")


def test_no_model_no_hub_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model at"):
        load_language_model(tmp_path / "none")


def test_a_hub_model_brings_its_tokenizer(
    tmp_path: Path, small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = tmp_path / "snapshot"
    small_model.save_pretrained(snapshot, CharacterTokenizer(case_sensitive=True))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(snapshot))
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda _, name: str(snapshot / name)
    )
    assert load_language_model("owner/name").tokenizer.case_sensitive
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    assert not load_language_model("owner/name").tokenizer.case_sensitive


def test_the_checksum_sees_every_weight(small_model: HyenaForCausalLM) -> None:
    changed = copy.deepcopy(small_model)
    assert weights_checksum(changed) == weights_checksum(small_model)
    with torch.no_grad():
        changed.backbone.layers[1].mixer.filter.bias[3] += 1e-6
    assert weights_checksum(changed) != weights_checksum(small_model)
