from __future__ import annotations

from typing import Any

import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForCausalLM
from hyenadna.training.config import OptimizerConfig
from hyenadna.training.optim import build_optimizer, parameter_groups


def tiny() -> HyenaForCausalLM:
    return HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=2, filter_dim=4, max_seq_len=16))


def test_every_trainable_parameter_is_in_one_group() -> None:
    model = tiny()
    groups = parameter_groups(model, OptimizerConfig())
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(members) == len(set(members))


def test_filters_biases_and_norms_are_not_decayed_but_matrices_are() -> None:
    model = tiny()
    groups = {g["name"]: g for g in parameter_groups(model, OptimizerConfig(filter_lr=1e-4))}
    assert {id(p) for p in groups["filter"]["params"]} == {
        id(p) for p in model.filter_parameters() if p.requires_grad
    }
    assert (groups["filter"]["weight_decay"], groups["filter"]["lr"]) == (0.0, 1e-4)
    assert groups["vector"]["weight_decay"] == 0.0
    assert all(p.ndim == 1 for p in groups["vector"]["params"])
    assert groups["matrix"]["weight_decay"] == 0.1
    assert id(model.backbone.embedding.weight) in {id(p) for p in groups["matrix"]["params"]}


@pytest.mark.parametrize("mixers", ["attention", "conv", ["hyena", "attention"]])
def test_other_mixers_are_matrices_and_vectors(mixers: Any) -> None:
    model = HyenaForCausalLM(HyenaConfig(d_model=16, mixers=mixers, filter_dim=4, max_seq_len=16))
    groups = parameter_groups(model, OptimizerConfig(name="muon"))
    names = {id(p): n for n, p in model.named_parameters()}
    members = {g["name"]: {names[id(p)] for p in g["params"]} for g in groups}
    assert ("filter" in members) == (mixers == ["hyena", "attention"])
    last = "backbone.layers.1.mixer."
    assert {last + "in_proj.weight", last + "out_proj.weight"} <= members["orthogonal"]
    assert last + "out_proj.bias" in members["vector"]
    if mixers == "conv":
        assert last + "conv.weight" in members["matrix"]
    assert sum(map(len, members.values())) == len(names)


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    model = tiny()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("out_proj.weight")
    groups = parameter_groups(model, OptimizerConfig())
    assert [g["name"] for g in groups] == ["matrix"]
    assert len(groups[0]["params"]) == 2


def test_optimizer_has_the_settings() -> None:
    config = OptimizerConfig(lr=2e-3, betas=[0.8, 0.9], eps=1e-6)
    optimizer = build_optimizer(parameter_groups(tiny(), config), config)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.8, 0.9)
    assert optimizer.defaults["eps"] == 1e-6
    assert optimizer.param_groups[0]["lr"] == 2e-3
