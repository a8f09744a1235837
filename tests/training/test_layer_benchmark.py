"""The gate of the layer benchmark: right layers pass, and each way to be wrong is seen by a comparison that is there for it."""

from __future__ import annotations

import pytest
import torch

from hyenadna.ops.bench import Shape
from hyenadna.training import layer_benchmark as bench

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", bench.LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_right_layers_pass(kind: str, dtype: torch.dtype, monkeypatch) -> None:
    monkeypatch.setattr(bench, "_SHORT", 64)
    found = bench.check_layer(kind, Shape(3, 128, 150), dtype, CPU)
    assert found.correct, found.errors
    assert all(error > 0 for error in found.errors.values())


def _mixed_up(block, x):
    """See one position ahead."""
    return block.mix(x.roll(-1, 1)) - x.roll(-1, 1) + x


def _forgetful(block, x):
    """Be right up to 64 positions, and forget what is further back."""
    y = block.mix(x)
    if x.shape[1] <= 64:
        return y
    return torch.cat([y[:, :64], block.mix(x[:, 64:])], dim=1)


def _overflowing(block, x):
    """Be right but for large inputs, whose first sequence is spoilt."""
    y = block.mix(x)
    if x.numel() > 3 * 128 * 100:
        y = torch.cat([y[:1] * 1.1, y[1:]])
    return y


def _leaking(block, x):
    """Be right in its results, and let gradients of one position reach another."""
    y = block.mix(x)
    return y + (x.roll(1, 1) - x.roll(1, 1).detach())


def _nothing(block, x):
    return block.mix(x) * float("nan")


@pytest.mark.parametrize("wrong", [_mixed_up, _forgetful, _overflowing, _leaking, _nothing])
def test_wrong_layers_do_not_pass(wrong, monkeypatch) -> None:
    monkeypatch.setattr(bench, "_SHORT", 64)
    monkeypatch.setattr(bench, "_NARROW", 16)
    found = bench.check_layer("hyena", Shape(3, 128, 150), torch.float32, CPU, layer=wrong)
    assert not found.correct


def test_later_positions_that_change_earlier_ones_do_not_pass_where_only_the_prefix_sees_it(
    monkeypatch,
) -> None:
    monkeypatch.setattr(bench, "_SHORT", 64)
    monkeypatch.setattr(bench, "_against_float64", lambda *_: (0.0, 0.0, 0.0))
    right = bench.check_layer("hyena", Shape(3, 128, 150), torch.float32, CPU)
    assert right.correct
    wrong = bench.check_layer("hyena", Shape(3, 128, 150), torch.float32, CPU, layer=_overflowing)
    assert not wrong.correct


@pytest.mark.parametrize(("kind", "kernel"), [("hyena", None), ("attention", "flash")])
def test_both_parts_are_timed_within_their_limit(kind: str, kernel: str | None) -> None:
    shape = Shape(2, 64, 64)
    found = bench.measure_layer(kind, shape, torch.bfloat16, CPU, repeats=3, seconds=10.0, kernel=kernel)  # fmt: skip
    assert set(found) == {"forward", "forward_backward"}
    assert found["forward"].median_ms > 0
    assert found["forward"].q20_ms <= found["forward"].median_ms <= found["forward"].q80_ms


def test_the_filter_is_evaluated_in_every_call() -> None:
    block = bench.build_layer("hyena", 64, 64, CPU)
    with torch.no_grad():
        block.mix(torch.zeros(1, 64, 64))
    assert block.mixer.filter._cached is None
