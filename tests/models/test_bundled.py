"""The models that come with the package are what was packaged, or say so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from hyenadna import HyenaForCausalLM, HyenaForSequenceClassification, load_model
from hyenadna import resources as places
from hyenadna.errors import CheckpointError, FileFormatError
from hyenadna.inference.runtime import load_language_model, tokenizer_folder, weights_checksum
from hyenadna.models.bundled import CARD, bundled_models, find_bundled
from hyenadna.resources import DEFAULT_MODEL, weights_dir

MODELS = bundled_models()
TINY = weights_dir() / "human-tiny-1k"


def _copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a copy of the bundled models in their place, and return the folder of the default one."""
    folder = tmp_path / "weights"
    shutil.copytree(weights_dir(), folder)
    real = places._resource_dir
    monkeypatch.setattr(places, "_resource_dir", lambda n: folder if n == "weights" else real(n))
    return folder / "human-tiny-1k"


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_every_model_loads_whole_and_has_a_card(model: object) -> None:
    name, title, folder = model  # type: ignore[misc]
    assert find_bundled(f"bundled:{name}") == folder
    loaded = load_model(f"bundled:{name}")
    assert not loaded.training
    card = (folder / CARD).read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert title
    assert weights_checksum(loaded) in card
    assert f"{loaded.n_parameters():,} parameters" in card
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.name for p in folder.iterdir()} - {CARD, "SHA256SUMS"}


def test_the_default_is_bundled_and_small() -> None:
    assert DEFAULT_MODEL in {f"bundled:{model.name}" for model in MODELS}
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 2_000_000
    for model in MODELS:  # every wheel carries them
        assert sum(path.stat().st_size for path in model.folder.iterdir()) < 4_000_000


def test_the_name_gives_the_model_that_the_folder_gives() -> None:
    by_name, by_folder = (HyenaForCausalLM.from_pretrained(s) for s in (DEFAULT_MODEL, TINY))
    assert weights_checksum(by_name) == weights_checksum(by_folder)
    assert load_language_model(DEFAULT_MODEL).tokenizer.kind == "character"
    assert tokenizer_folder(DEFAULT_MODEL) == TINY
    tuned = HyenaForSequenceClassification.from_pretrained(DEFAULT_MODEL, n_classes=3)
    assert torch.equal(
        tuned.backbone.embedding.weight, by_name.backbone.embedding.weight
    )  # the backbone under a new head


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_the_report_and_the_card_hold_no_place_of_a_machine(model: object) -> None:
    name, _, folder = model  # type: ignore[misc]
    for file in ("report.json", CARD):
        text = (folder / file).read_text(encoding="utf-8")
        assert not [place for place in ("/work", "/tmp", "/home", "/root") if place in text]
    report = json.loads((folder / "report.json").read_text())
    assert report["n_parameters"] == load_model(f"bundled:{name}").n_parameters()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer_config.json"])
def test_one_changed_byte_is_noticed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _copied(tmp_path, monkeypatch)
    assert load_model(DEFAULT_MODEL) is not None  # the copy itself is sound
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"damaged \({name} in .*reinstall"):
        load_model(DEFAULT_MODEL)


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _copied(tmp_path, monkeypatch)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors in .*reinstall"):
        load_model(DEFAULT_MODEL)
    (folder / "SHA256SUMS").write_text("")
    with pytest.raises(CheckpointError, match="SHA256SUMS in "):
        load_model(DEFAULT_MODEL)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(CheckpointError, match="SHA256SUMS in "):
        load_model(DEFAULT_MODEL)


def test_other_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(FileFormatError, match=r"bundled models: .*human-tiny-1k"):
        load_model("bundled:nothing")
    for name in ("bundled:scerevisiae", "bundled:human-tiny-1k/model.safetensors", "bundled:"):
        with pytest.raises(
            CheckpointError, match=r"no model; bundled models: .*bundled:human-tiny-1k"
        ):
            load_model(name)
