import json
from pathlib import Path

import pytest
import torch

from hyenadna import (
    CharacterTokenizer,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    load_model,
    load_tokenizer,
)
from hyenadna.cli import main
from hyenadna.models import HyenaModel, checkpoint

CONFIG = HyenaConfig(d_model=16, n_layers=2, max_seq_len=66, filter_dim=8)


def _saved(folder: Path, model: HyenaModel) -> str:
    torch.manual_seed(0)
    model.save_pretrained(folder, CharacterTokenizer(case_sensitive=True))
    return str(folder)


def _refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(["convert", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def _same_logits(one: HyenaModel, other: HyenaModel) -> bool:
    ids = torch.randint(7, 11, (2, 60))
    return torch.equal(one(ids), other(ids))


@pytest.mark.parametrize(
    "model",
    [
        HyenaForCausalLM(CONFIG),
        HyenaForSequenceClassification(
            CONFIG, labels=["no", "yes", "perhaps"], pooling="last", head_bias=False
        ),
    ],
)
def test_to_hf_and_back_changes_nothing(
    tmp_path: Path, model: HyenaModel, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _saved(tmp_path / "ours", model)
    assert main(["convert", source, "-o", str(tmp_path / "hf"), "--to", "hf"]) == 0
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (settings["n_layer"], settings["max_seq_len"]) == (2, 66)
    assert main(["convert", str(tmp_path / "hf"), "-o", str(tmp_path / "back")]) == 0
    back = load_model(tmp_path / "back")
    assert type(back) is type(model)
    assert _same_logits(back, load_model(source))
    assert back.head_settings() == model.head_settings()
    tokenizer = load_tokenizer(tmp_path / "back")
    assert isinstance(tokenizer, CharacterTokenizer)
    assert tokenizer.case_sensitive
    assert capsys.readouterr().out == ""


def test_what_hf_cannot_express_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _saved(tmp_path / "lm", HyenaForCausalLM(CONFIG))
    target = ("-o", str(tmp_path / "hf"), "--to", "hf")
    message = _refused(capsys, source, *target, "--filter-shift", "0.0")
    assert "filter_shift=0.0 would read 0.05" in message
    classifier = _saved(tmp_path / "cls", HyenaForSequenceClassification(CONFIG))
    assert "pool the last token" in _refused(capsys, classifier, *target)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cls", "lm"]


def test_existing_folders_are_kept_without_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _saved(tmp_path / "lm", HyenaForCausalLM(CONFIG))
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    assert "not empty" in _refused(capsys, source, "-o", str(target))
    assert main(["convert", source, "-o", str(target), "--force"]) == 0
    assert (target / "notes.txt").read_text() == "mine"
    assert _same_logits(load_model(target), load_model(source))


def test_missing_and_damaged_models_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ("-o", str(tmp_path / "out"))
    assert "no model at" in _refused(capsys, str(tmp_path / "none"), *target)
    source = _saved(tmp_path / "lm", HyenaForCausalLM(CONFIG))
    (tmp_path / "lm" / "model.safetensors").write_bytes(b"broken")
    assert "no readable weights" in _refused(capsys, source, *target)
    assert not (tmp_path / "out").exists()


def test_weights_that_change_on_the_way_are_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _saved(tmp_path / "lm", HyenaForCausalLM(CONFIG))
    honest = checkpoint.to_hf

    def careless(model: HyenaModel) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
        settings, state = honest(model)
        state["hyena.backbone.ln_f.weight"] = state["hyena.backbone.ln_f.weight"] + 1e-6
        return settings, state

    monkeypatch.setattr(checkpoint, "to_hf", careless)
    message = _refused(capsys, source, "-o", str(tmp_path / "hf"), "--to", "hf")
    assert "did not survive the conversion; missing keys: backbone.final_norm.weight" in message
    assert not (tmp_path / "hf").exists()


def test_a_bare_state_dict_with_its_config(tmp_path: Path, test_data: Path) -> None:
    files = test_data / "checkpoints"
    argv = [
        "convert",
        str(files / "tiny1k_finetuned.pt"),
        "--config",
        str(files / "tiny1k_config.json"),
    ]
    assert main([*argv, "-o", str(tmp_path / "out")]) == 0
    model = load_model(tmp_path / "out")
    assert isinstance(model, HyenaForSequenceClassification)
    assert model.config.d_model == 128
