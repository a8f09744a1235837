"""A recorded pass replays what was recorded, with new inputs, new weights and seeded dropout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForCausalLM, HyenaForMaskedLM
from hyenadna.tasks.causal_lm import next_base_loss
from hyenadna.tasks.masked_lm import Masking
from hyenadna.tasks.objectives import MaskedBases
from hyenadna.training.recorded import RecordedPass

pytestmark = pytest.mark.gpu

Pass = Callable[[torch.Tensor], tuple[torch.Tensor]]


def _model(*, dropout: float = 0.0) -> tuple[HyenaForCausalLM, Pass]:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=64, n_layers=2, max_seq_len=1026, embed_dropout=dropout, resid_dropout=0.0)  # fmt: skip
    model = HyenaForCausalLM(config).cuda().train()

    def compute(ids: torch.Tensor) -> tuple[torch.Tensor]:
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            loss = next_base_loss(model(ids), ids)
        (loss.weighted / loss.weight).backward()  # type: ignore[no-untyped-call]
        return (loss.nats,)

    return model, compute


def _bases(seed: int) -> torch.Tensor:
    draw = torch.Generator("cuda").manual_seed(seed)
    return torch.randint(7, 11, (3, 1024), generator=draw, device="cuda", dtype=torch.uint8)


def _eager(model: HyenaForCausalLM, compute: Pass, *inputs: torch.Tensor) -> list[torch.Tensor]:
    for parameter in model.parameters():
        parameter.grad = None
    nats = [compute(ids)[0].clone() for ids in inputs]
    return [*nats, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_replay_equals_eager_bit_for_bit_and_adds_up(dropout: float) -> None:
    model, compute = _model(dropout=dropout)
    one, two = _bases(1), _bases(2)
    torch.manual_seed(5)
    expected = [t.clone() for t in _eager(model, compute, one, two)]
    recorded = RecordedPass(compute, [_bases(3)], list(model.parameters()))
    for _ in range(2):  # the second time shows that gradients were zeroed in place
        torch.manual_seed(5)
        nats = [recorded(ids)[0].clone() for ids in (one, two)]
        found = [*nats, *(p.grad for p in model.parameters() if p.grad is not None)]
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine, theirs)
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()


@pytest.mark.parametrize("equivariant", [False, True])
def test_a_masked_pass_is_replayed_bit_for_bit(equivariant: bool) -> None:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=64, n_layers=2, max_seq_len=1026, embed_dropout=0.0, bidirectional=True, equivariant=equivariant)  # fmt: skip
    model = HyenaForMaskedLM(config).cuda().train()
    objective = MaskedBases(Masking(mean_span=3.0), seed=1)

    def compute(*examples: torch.Tensor) -> tuple[torch.Tensor]:
        with torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False):
            loss = objective.loss(model, *examples)
        (loss.weighted / loss.weight).backward()  # type: ignore[no-untyped-call]
        return (loss.nats,)

    one, other = (objective.examples(_bases(seed), None, seed) for seed in (1, 2))
    on_cpu = objective.examples(_bases(1).cpu(), None, 1)
    assert all(torch.equal(mine.cpu(), theirs) for mine, theirs in zip(one, on_cpu, strict=True))
    (eager,) = (t.clone() for t in compute(*one))
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    recorded = RecordedPass(compute, other, list(model.parameters()))
    (replayed,) = recorded(*one)
    assert torch.equal(replayed, eager)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    for mine, theirs in zip(found, gradients, strict=True):
        assert torch.equal(mine, theirs)


def test_replay_sees_new_weights() -> None:
    model, compute = _model()
    ids = _bases(1)
    recorded = RecordedPass(compute, [ids], list(model.parameters()))
    before = recorded(ids)[0].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    after = recorded(ids)[0].clone()
    assert not torch.equal(before, after)
    assert torch.equal(after, _eager(model, compute, ids)[0])


def test_other_shapes_and_moved_gradients_do_not_fit() -> None:
    model, compute = _model()
    ids = _bases(1)
    recorded = RecordedPass(compute, [ids], list(model.parameters()))
    assert recorded.fits([ids])
    assert not recorded.fits([ids[:2]])
    assert not recorded.fits([ids.int()])
    model.zero_grad(set_to_none=True)
    assert not recorded.fits([ids])
