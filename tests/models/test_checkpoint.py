"""Folders of every layout load to the same model, and bad ones are refused by name."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from hyenadna.errors import CheckpointError, OutputError
from hyenadna.models import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    load_model,
)
from hyenadna.models.checkpoint import write_hf_folder
from hyenadna.models.filter import positional_features

CONFIG = HyenaConfig(d_model=16, n_layers=2, max_seq_len=34, filter_dim=8)
IDS = torch.arange(60).reshape(2, 30) % 4 + 7


@pytest.fixture
def model() -> HyenaForCausalLM:
    torch.manual_seed(0)
    return HyenaForCausalLM(CONFIG).eval()


def _published_state(model: HyenaForCausalLM, tmp_path: Path) -> dict[str, torch.Tensor]:
    """The model under the published names, as the -hf writer gives them, without its prefix."""
    from safetensors.torch import load_file

    write_hf_folder(tmp_path / "hf", model)
    state = load_file(tmp_path / "hf" / "model.safetensors")
    return {k.removeprefix("hyena."): v for k, v in state.items()}


ORIGINAL_CONFIG = {
    "d_model": 16, "n_layer": 2, "d_inner": 64, "vocab_size": 12, "resid_dropout": 0.0, "embed_dropout": 0.1,
    "pad_vocab_size_multiple": 8,
    "layer": {"_name_": "hyena", "emb_dim": 5, "filter_order": 8, "local_order": 3, "l_max": 34, "w": 10, "lr": 6e-4},
}  # fmt: skip


def test_our_layout_round_trips_bit_for_bit(model: HyenaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    loaded = HyenaForCausalLM.from_pretrained(tmp_path / "m")
    assert loaded.config == model.config
    assert torch.equal(loaded(IDS), model(IDS))
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "config.json", "model.safetensors", "tokenizer_config.json",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".m*"))
    modes = {p.stat().st_mode for p in (tmp_path / "m").iterdir()}
    assert modes == {(tmp_path / "m" / "config.json").stat().st_mode}


def test_saving_twice_replaces_the_weights(model: HyenaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    with torch.no_grad():
        model.backbone.final_norm.bias += 1
    model.save_pretrained(tmp_path / "m")
    assert torch.equal(load_model(tmp_path / "m")(IDS), model(IDS))


def test_hf_layout_round_trips(model: HyenaForCausalLM, tmp_path: Path) -> None:
    write_hf_folder(tmp_path / "hf", model)
    settings = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (settings["n_layer"], settings["filter_order"], settings["activation_freq"]) == (
        2,
        8,
        10.0,
    )
    loaded = load_model(tmp_path / "hf")
    assert torch.equal(loaded(IDS), model(IDS))
    assert "score.weight" not in loaded.state_dict()


def test_hf_classifier_round_trips(tmp_path: Path) -> None:
    model = HyenaForSequenceClassification(
        CONFIG, labels=["no", "yes"], pooling="last", head_bias=False
    ).eval()
    write_hf_folder(tmp_path / "hf", model)
    loaded = load_model(tmp_path / "hf")
    assert isinstance(loaded, HyenaForSequenceClassification)
    assert loaded.labels == ("no", "yes")
    assert torch.equal(loaded(IDS), model(IDS))


@pytest.mark.parametrize("renamed", [False, True])
def test_lightning_checkpoint_loads_with_and_without_checkpointing_names(
    model: HyenaForCausalLM, tmp_path: Path, renamed: bool
) -> None:
    state = {f"model.{k}": v for k, v in _published_state(model, tmp_path).items()}
    if renamed:
        state = {
            k.replace(".mixer.", ".mixer.layer.").replace(".mlp.", ".mlp.layer."): v
            for k, v in state.items()
        }
    state["train_torchmetrics.count"] = torch.zeros(1)
    folder = tmp_path / "published"
    folder.mkdir()
    hyper = OmegaConf.create({"model": {"layer": {"l_max": 34}}, "list": [1, 2]})
    checkpoint = {"state_dict": state, "hyper_parameters": hyper, "optimizer_states": [{}]}
    torch.save(checkpoint, folder / "weights.ckpt")
    (folder / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    assert torch.equal(load_model(folder)(IDS), model(IDS))


class _Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["EVIL_TARGET"],)


def test_code_in_a_pickle_never_runs(
    model: HyenaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "pwned"
    monkeypatch.setenv("EVIL_TARGET", str(target))
    folder = tmp_path / "evil"
    folder.mkdir()
    torch.save(
        {"state_dict": model.state_dict(), "hyper_parameters": _Evil()}, folder / "weights.ckpt"
    )
    model.save_pretrained(tmp_path / "m")
    (folder / "config.json").write_bytes((tmp_path / "m" / "config.json").read_bytes())
    assert torch.equal(load_model(folder)(IDS), model(IDS))
    assert not target.exists()
    torch.load(folder / "weights.ckpt", weights_only=False)  # the control: the pickle does bite
    assert target.exists()


def test_learned_positions_are_kept(model: HyenaForCausalLM, tmp_path: Path) -> None:
    state = _published_state(model, tmp_path)
    for key in list(state):
        if key.endswith("pos_emb.z"):
            state[key] = state[key] + 0.01
    torch.save(state, tmp_path / "trained.pt")
    (tmp_path / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    loaded = load_model(tmp_path / "trained.pt")
    assert loaded.config.filter_learned_positions
    assert not torch.allclose(loaded(IDS), model(IDS))
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(load_model(tmp_path / "again")(IDS), loaded(IDS))


def test_an_untied_head_is_kept(model: HyenaForCausalLM, tmp_path: Path) -> None:
    state = _published_state(model, tmp_path)
    state["lm_head.weight"] = state["lm_head.weight"] * 2
    torch.save(state, tmp_path / "w.pt")
    (tmp_path / "config.json").write_text(json.dumps(ORIGINAL_CONFIG))
    assert torch.allclose(load_model(tmp_path / "w.pt")(IDS), 2 * model(IDS))


def test_published_positions_follow_from_the_grid() -> None:
    z = positional_features(1026, 1026, 5)
    assert z.shape == (1026, 5)
    assert z[0].tolist() == [0.0, 1.0, 1.0, -0.0, -0.0]
    assert z[-1, 0] == 1.0


@pytest.mark.parametrize("shift", [0.0, 0.05])
@pytest.mark.parametrize("length", [64, 200, 1024])
def test_official_layout_gives_the_reference_outputs(
    test_data: Path, shift: float, length: int
) -> None:
    folder = test_data / "checkpoints"
    reference = np.load(folder / "tiny1k_reference.npz")
    model = HyenaForSequenceClassification.from_pretrained(
        folder / "tiny1k_finetuned.pt", config=folder / "tiny1k_config.json", filter_shift=shift
    )
    token_ids = torch.from_numpy(reference[f"token_ids_{length}"])
    with torch.no_grad():
        hidden, logits = model.backbone(token_ids), model(token_ids)
    hidden = hidden[:, :: 8 if length == 1024 else 1]
    expected = torch.from_numpy(reference[f"hidden_shift{shift}_{length}"])
    assert (hidden - expected).abs().max() <= 1e-4
    expected = torch.from_numpy(reference[f"class_logits_shift{shift}_{length}"])
    assert (logits - expected).abs().max() <= 1e-4


def test_the_two_shifts_are_told_apart(test_data: Path) -> None:
    reference = np.load(test_data / "checkpoints" / "tiny1k_reference.npz")
    difference = reference["hidden_shift0.0_200"] - reference["hidden_shift0.05_200"]
    assert np.abs(difference).max() > 1e-2


def test_a_language_model_gets_a_new_classification_head(
    model: HyenaForCausalLM, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "m")
    classifier = HyenaForSequenceClassification.from_pretrained(tmp_path / "m", n_classes=3)
    assert classifier(IDS).shape == (2, 3)
    assert torch.equal(classifier.backbone(IDS), model.backbone(IDS))
    with pytest.raises(CheckpointError, match="say n_classes"):
        HyenaForSequenceClassification.from_pretrained(tmp_path / "m")


def test_a_saved_head_is_kept_unless_replaced_on_purpose(tmp_path: Path) -> None:
    model = HyenaForSequenceClassification(
        CONFIG, labels=["a", "b", "c"], pooling="attention"
    ).eval()
    model.save_pretrained(tmp_path / "m")
    loaded = HyenaForSequenceClassification.from_pretrained(tmp_path / "m")
    assert loaded.labels == ("a", "b", "c")
    assert torch.equal(loaded(IDS), model(IDS))
    with pytest.raises(CheckpointError, match="head of 3 classes where 2"):
        HyenaForSequenceClassification.from_pretrained(tmp_path / "m", n_classes=2)
    fresh = HyenaForSequenceClassification.from_pretrained(
        tmp_path / "m", n_classes=2, new_head=True
    )
    assert fresh(IDS).shape == (2, 2)
    with pytest.raises(CheckpointError, match="sequence classifier, not a language model"):
        HyenaForCausalLM.from_pretrained(tmp_path / "m")


def test_missing_and_unexpected_keys_are_listed(model: HyenaForCausalLM, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    state = load_file(file)
    state["extra.weight"] = state.pop("backbone.final_norm.bias")
    save_file(state, file)
    with pytest.raises(CheckpointError) as e:
        load_model(tmp_path / "m")
    assert e.value.missing == ("backbone.final_norm.bias",)
    assert e.value.unexpected == ("extra.weight",)
    assert "backbone.final_norm.bias" in str(e.value)


def test_another_shape_is_refused_with_both_shapes(model: HyenaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    settings = json.loads(file.read_text())
    settings["d_model"], settings["d_inner"] = 32, 64
    file.write_text(json.dumps(settings))
    with pytest.raises(
        CheckpointError, match=r"\(16, 16\) in the file and \(16, 32\) in the model"
    ):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "no JSON object"),
        ('{"d_model": 16}', "does not describe a HyenaDNA model: the key 'n_layer' is missing"),
        ('{"n_layers": 2, "width": 3}', "unknown model settings: width"),
        ('{"n_layers": "two"}', "n_layers='two' is impossible"),
    ],
)
def test_broken_configs_are_refused(
    model: HyenaForCausalLM, tmp_path: Path, config: str, message: str
) -> None:
    model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(config)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "m")


def test_damaged_and_missing_weights_are_refused(model: HyenaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="no readable weights"):
        load_model(tmp_path / "m")
    weights.unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "weights.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="no readable weights"):
        load_model(tmp_path / "m")
    with pytest.raises(CheckpointError, match="no model at"):
        load_model(tmp_path / "nothing")


def test_a_run_folder_leads_to_its_model(model: HyenaForCausalLM, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "run" / "model")
    assert torch.equal(load_model(tmp_path / "run")(IDS), model(IDS))


def test_longer_inputs_need_an_explicit_choice_and_continue_the_filter(
    model: HyenaForCausalLM, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "m")
    longer = HyenaForCausalLM.from_pretrained(tmp_path / "m", max_seq_len=100)
    assert torch.allclose(longer(IDS), model(IDS), atol=1e-5)
    assert longer(torch.full((1, 100), 7)).shape == (1, 100, 16)


def test_an_unwritable_folder_is_said(model: HyenaForCausalLM, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file" / "m")


def test_what_hf_cannot_express_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="pool the last token"):
        write_hf_folder(tmp_path / "hf", HyenaForSequenceClassification(CONFIG))
    assert not (tmp_path / "hf").exists()
