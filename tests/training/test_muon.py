from __future__ import annotations

import copy

import pytest
import torch

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig, HyenaForCausalLM
from hyenadna.training.config import OptimizerConfig
from hyenadna.training.muon import Muon, orthogonalized
from hyenadna.training.optim import build_optimizer, parameter_groups


@pytest.mark.parametrize("shape", [(3, 32, 96), (2, 96, 32), (1, 48, 48)])
def test_singular_values_become_about_one_and_their_vectors_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[-1]))
    found = orthogonalized(matrices)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert torch.linalg.svdvals(matrices).max() > 2  # the control: they were not so before
    u, s, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ found @ v.mT
    assert (inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3
    assert torch.equal(s, s.sort(dim=-1, descending=True).values)


def test_the_size_of_a_step_does_not_depend_on_that_of_the_gradient() -> None:
    steps = []
    for scale in (1.0, 1e-3):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.zeros(64, 32))
        weight.grad = scale * torch.randn(64, 32)
        Muon([{"params": [weight], "orthogonal": True}], lr=1e-2, weight_decay=0.0).step()
        steps.append(weight.detach().clone())
    assert torch.allclose(steps[0], steps[1], rtol=1e-3, atol=1e-6)
    rms = steps[0].square().mean().sqrt()
    assert 0.5 * 0.2e-2 < rms < 1.5 * 0.2e-2  # a fifth of the learning rate, as of AdamW


def test_other_groups_are_adamw_to_the_bit() -> None:
    torch.manual_seed(0)
    mine, plain = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    muon = Muon([{"params": [mine]}], lr=1e-2, weight_decay=0.1)
    adamw = torch.optim.AdamW([plain], lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        mine.grad = torch.randn(5)
        plain.grad = mine.grad.clone()
        muon.step()
        adamw.step()
    assert torch.equal(mine, plain)


def test_blocks_linear_layers_are_orthogonal_and_nothing_else() -> None:
    model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=2, filter_dim=4, max_seq_len=16))
    groups = {g["name"]: g for g in parameter_groups(model, OptimizerConfig(name="muon"))}
    members = {id(p) for p in groups["orthogonal"]["params"]}
    expected = {
        id(p) for name, p in model.named_parameters()
        if name.endswith(("in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight"))
    }  # fmt: skip
    assert members == expected
    every = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(every) == sorted(id(p) for p in model.parameters())


def test_a_restored_optimizer_goes_on_as_if_it_had_not_stopped() -> None:
    config = OptimizerConfig(name="muon", lr=1e-2)
    shape = HyenaConfig(d_model=8, n_layers=1, filter_dim=4, max_seq_len=16)
    model = HyenaForCausalLM(shape)
    optimizer = build_optimizer(parameter_groups(model, config), config)

    def step(model: HyenaForCausalLM, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        model(torch.randint(7, 11, (2, 16))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(model.eval(), optimizer, 0)
    other = copy.deepcopy(model)
    restored = build_optimizer(parameter_groups(other, config), config)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer, 1)
    step(other, restored, 1)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.name"):
        OptimizerConfig(name="sgd")
