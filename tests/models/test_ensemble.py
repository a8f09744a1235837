"""Several classifiers as one: its answer is the mean of theirs, and its folder brings them all back."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from hyenadna.errors import CheckpointError
from hyenadna.inference.runtime import load_encoder
from hyenadna.models import (
    ClassifierEnsemble,
    HyenaConfig,
    HyenaForSequenceClassification,
    load_model,
)
from hyenadna.models.checkpoint import write_hf_folder

SMALL = HyenaConfig(d_model=16, n_layers=1, max_seq_len=66, filter_dim=8)


def _member(seed: int, config: HyenaConfig = SMALL, labels: tuple[str, ...] = ("no", "yes")) -> HyenaForSequenceClassification:  # fmt: skip
    torch.manual_seed(seed)
    member = HyenaForSequenceClassification(config, labels=labels, pooling="attention_max")
    for parameter in member.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return member.eval()


def _ids() -> torch.Tensor:
    return torch.randint(7, 11, (5, 40), generator=torch.Generator().manual_seed(0))


def test_it_answers_with_the_mean_of_its_members_probabilities() -> None:
    members = [_member(seed) for seed in range(3)]
    ensemble = ClassifierEnsemble(members)
    for both in (False, True):
        each = torch.stack([m(_ids(), both_strands=both).softmax(-1) for m in members])
        found = ensemble(_ids(), both_strands=both).softmax(-1)
        torch.testing.assert_close(found, each.mean(0))
        assert (each.std(0) > 0.01).any()  # otherwise any member would do
    assert ensemble.n_parameters() == 3 * members[0].n_parameters()


def test_a_folder_brings_back_every_member(tmp_path: Path) -> None:
    ensemble = ClassifierEnsemble([_member(seed) for seed in range(2)])
    ensemble.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert isinstance(loaded, ClassifierEnsemble)
    assert loaded.labels == ("no", "yes")
    assert torch.equal(loaded(_ids()), ensemble(_ids()))
    single = load_model(_saved(tmp_path / "one", _member(0)))
    assert isinstance(single, HyenaForSequenceClassification)


def test_where_a_single_model_is_needed_it_is_refused(tmp_path: Path) -> None:
    ensemble = ClassifierEnsemble([_member(seed) for seed in range(2)])
    ensemble.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match="ensemble of 2 classifiers.*a single model is needed"
    ):
        HyenaForSequenceClassification.from_pretrained(tmp_path, new_head=True, n_classes=2)
    with pytest.raises(CheckpointError, match="ensemble of 2 classifiers, each with vectors"):
        load_encoder(tmp_path)
    with pytest.raises(CheckpointError, match="only single classifiers"):
        write_hf_folder(tmp_path / "hf", ensemble)


def test_a_missing_member_is_noticed(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    ClassifierEnsemble([_member(seed) for seed in range(2)]).save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    kept = {k: v for k, v in state.items() if not k.startswith("members.1.")}
    save_file(kept, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(tmp_path)


def test_members_that_differ_in_more_than_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        ClassifierEnsemble([_member(0)])
    other = dataclasses.replace(SMALL, max_seq_len=130)
    for odd in (_member(1, other), _member(1, labels=("a", "b"))):
        with pytest.raises(ValueError, match="differ"):
            ClassifierEnsemble([_member(0), odd])


def _saved(folder: Path, model: HyenaForSequenceClassification) -> Path:
    model.save_pretrained(folder)
    return folder
