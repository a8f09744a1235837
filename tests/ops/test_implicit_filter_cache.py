"""A model in evaluation keeps its filters, and never an old one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForCausalLM
from hyenadna.models import filter as filter_module
from hyenadna.models.filter import ImplicitFilter

CONFIG = HyenaConfig(d_model=4, max_seq_len=50, filter_dim=8, filter_learned_positions=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the filters that were evaluated."""
    lengths: list[int] = []
    evaluate = filter_module.implicit_filter

    def counted(features, *args, **options):
        lengths.append(len(features))
        return evaluate(features, *args, **options)

    monkeypatch.setattr(filter_module, "implicit_filter", counted)
    return lengths


def _model() -> ImplicitFilter:
    torch.manual_seed(0)
    return ImplicitFilter(CONFIG).eval()


def _fresh(model: ImplicitFilter, length: int) -> torch.Tensor:
    return model._evaluate(length).reshape(1, -1, length)


def test_evaluation_computes_a_filter_once(calls: list[int]) -> None:
    model = _model()
    with torch.no_grad():
        first = model(30)[0]
        assert torch.equal(model(30)[0], first)
    with torch.inference_mode():
        assert torch.equal(model(30)[0], first)
    assert calls == [30]


def test_a_model_computes_each_filter_once(calls: list[int]) -> None:
    model = HyenaForCausalLM(HyenaConfig(d_model=4, n_layers=3, max_seq_len=50)).eval()
    ids = torch.full((1, 20), 7)
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
    assert calls == [20] * 3
    model.train()
    model(ids).sum().backward()
    assert calls == [20] * 6


@pytest.mark.parametrize("training", [True, False])
def test_with_gradients_nothing_is_kept(calls: list[int], training: bool) -> None:
    model = _model().train(training)
    for _ in range(2):
        assert model(30)[0].requires_grad
    if training:
        with torch.no_grad():
            model(30)
            model(30)
    assert len(calls) == (4 if training else 2)


def test_another_length_is_another_filter(calls: list[int]) -> None:
    model = _model()
    with torch.no_grad():
        for length in (30, 20, 30):
            assert torch.equal(model(length)[0], _fresh(model, length))
            assert model(length)[0].shape == (1, 4, length)


def _in_place(model: ImplicitFilter) -> None:
    model.linears[1].weight.mul_(1.1)  # type: ignore[union-attr]


def _position(model: ImplicitFilter) -> None:
    assert model.positions is not None
    model.positions[3, 1] += 0.1


def _frequency(model: ImplicitFilter) -> None:
    model.freq.fill_(3.0)


def _decay(model: ImplicitFilter) -> None:
    model.decay.neg_().mul_(2)


def _load(model: ImplicitFilter) -> None:
    torch.manual_seed(1)
    model.load_state_dict(ImplicitFilter(CONFIG).state_dict())


def _assign(model: ImplicitFilter) -> None:
    torch.manual_seed(1)
    model.load_state_dict(ImplicitFilter(CONFIG).state_dict(), assign=True)


def _replace(model: ImplicitFilter) -> None:
    model.freq = torch.nn.Parameter(model.freq * 2)


def _swap_data(model: ImplicitFilter) -> None:
    model.freq.data = model.freq.data * 2


def _half(model: ImplicitFilter) -> None:
    model.to(torch.bfloat16)


def _setting(model: ImplicitFilter) -> None:
    model.shift = 0.5


def _optimizer(model: ImplicitFilter) -> None:
    with torch.enable_grad():
        model(30)[0].square().sum().backward()
    torch.optim.AdamW(model.parameters(), lr=0.1).step()


def _data_in_place(model: ImplicitFilter) -> None:
    model.freq.data.mul_(2)  # torch does not record it
    model.eval()


CHANGES = [
    _in_place, _position, _frequency, _decay, _load, _assign, _replace, _swap_data, _half, _setting, _optimizer, _data_in_place
]  # fmt: skip


@pytest.mark.parametrize("inference", [False, True], ids=["no_grad", "inference_mode"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change: Callable[[ImplicitFilter], None], inference: bool) -> None:
    model = _model()
    mode = torch.inference_mode if inference else torch.no_grad
    with mode():
        old = model(30)[0].clone()
    with torch.no_grad():
        change(model)
    with mode():
        new = model(30)[0]
        assert not torch.equal(new, old)
        assert torch.equal(new, _fresh(model, 30))


def test_reused_memory_is_not_taken_for_the_old_weights() -> None:
    model = _model()
    with torch.no_grad():
        for _ in range(20):
            model(30)
            model.freq.data = torch.zeros(1)  # frees the old values, were they not held
            model.freq.data = torch.rand(1, 8) * 10
            assert torch.equal(model(30)[0], _fresh(model, 30))


def test_switching_to_training_and_back_forgets(calls: list[int]) -> None:
    model = _model()
    with torch.no_grad():
        model(30)
        model.train()
        assert model._cached is None
        model.eval()
        model(30)
    assert calls == [30, 30]


def test_moving_to_another_device_forgets() -> None:
    model = _model()
    with torch.no_grad():
        model(30)
        k = model.to("meta")(30)[0]
    assert k.is_meta


def test_large_filters_are_not_kept(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "MOST_KEPT_BYTES", 4 * 4 * 30)
    model = _model()
    with torch.no_grad():
        for length in (30, 30, 31, 31, 30):
            model(length)
    assert calls == [30, 31, 31, 30]


def test_weights_made_in_inference_mode_are_never_trusted(calls: list[int]) -> None:
    with torch.inference_mode():
        model = _model()
        model(30)
        model.freq.fill_(1.0)
        assert torch.equal(model(30)[0], _fresh(model, 30))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_do_not_carry_the_filters(duplicate: Callable[[ImplicitFilter], ImplicitFilter]) -> None:  # fmt: skip
    model = _model()
    with torch.no_grad():
        k = model(30)[0]
        other = duplicate(model)
        assert other._cached is None
        assert torch.equal(other(30)[0], k)
        other.freq.fill_(2.0)
        assert torch.equal(model(30)[0], k)
        assert not torch.equal(other(30)[0], k)


def test_keys_of_the_state_are_those_of_the_weights() -> None:
    model = _model()
    before = list(model.state_dict())
    with torch.no_grad():
        model(30)
    assert list(model.state_dict()) == before
    assert set(before) == {
        "freq", "bias", "decay", "positions", *(f"linears.{i}.weight" for i in range(4)), *(f"linears.{i}.bias" for i in range(3))
    }  # fmt: skip
