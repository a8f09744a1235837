"""Linear layers on a CPU equal torch's, in every layout and mode, and keep out of what is torch's business."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hyenadna.ops import linear
from hyenadna.ops.linear import Linear, linear_gelu
from hyenadna.testing import assert_close

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


def _pair(width: int, out: int, *, bias: bool = True) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    mine, theirs = Linear(width, out, bias=bias), nn.Linear(width, out, bias=bias)
    theirs.load_state_dict(mine.state_dict())
    return mine, theirs


def _with_gradients(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, (x, *layer.parameters()), dy)]


@settings(deadline=None, max_examples=40)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    width=st.integers(1, 40),
    out=st.integers(1, 40),
    bias=st.booleans(),
)
def test_products_and_gradients_equal_torchs(
    shape: list[int], width: int, out: int, bias: bool
) -> None:
    mine, theirs = _pair(width, out, bias=bias)
    x, dy = torch.randn(*shape, width), torch.randn(*shape, out)
    for a, b in zip(_with_gradients(mine, x, dy), _with_gradients(theirs, x, dy), strict=True):
        assert a.shape == b.shape
        assert_close(a, b, tolerance=1e-5)


@pytest.mark.parametrize("layout", ["transposed", "gaps", "expanded"])
def test_any_layout_will_do(layout: str) -> None:
    mine, theirs = _pair(24, 40)
    x = torch.randn(3, 24, 50).transpose(1, 2)
    dy = torch.randn(3, 40, 52)[..., :50].transpose(1, 2)
    if layout == "gaps":
        x = torch.randn(3, 50, 30)[..., 3:27]
    if layout == "expanded":
        x, dy = torch.randn(24).expand(3, 50, 24), torch.ones(()).expand(3, 50, 40)
    for a, b in zip(_with_gradients(mine, x, dy), _with_gradients(theirs, x, dy), strict=True):
        assert_close(a, b, tolerance=1e-5)


def test_gradients_with_gaps_between_their_rows_are_not_slow() -> None:
    # oneDNN was seen to take 67 s where 0.1 s is enough.
    mine, _ = _pair(256, 768)
    x = torch.randn(1, 4096, 256)
    dy = torch.randn(1, 768, 4098)[..., :4096].transpose(1, 2)
    start = time.perf_counter()
    _with_gradients(mine, x, dy)
    assert time.perf_counter() - start < 3


def test_gelu_in_one_step_equals_gelu_after_it() -> None:
    mine, theirs = _pair(24, 40)
    x = torch.randn(5, 24)
    expected = nn.functional.gelu(theirs(x), approximate="tanh")
    with torch.no_grad():
        assert_close(linear_gelu(mine, x), expected, tolerance=1e-5)
    assert_close(linear_gelu(mine, x).detach(), expected, tolerance=1e-5)
    assert linear_gelu(mine, x).requires_grad
    # Not the other gelu.
    assert not torch.equal(linear_gelu(mine, x), nn.functional.gelu(mine(x)))


def test_an_adapters_layer_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    class Adapted(nn.Module):
        def __init__(self, layer: Linear) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + 1

    mine, _ = _pair(8, 8)
    x = torch.randn(2, 8)
    with torch.no_grad():
        expected = nn.functional.gelu(mine(x) + 1, approximate="tanh")
        assert_close(linear_gelu(Adapted(mine), x), expected, tolerance=1e-6)


def test_autocast_gives_bfloat16_with_and_without_gradients() -> None:
    mine, theirs = _pair(64, 64)
    x = torch.randn(9, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        trained = mine(x)
        with torch.no_grad():
            scored = mine(x)
            activated = linear_gelu(mine, x)
    for found in (trained, scored, activated):
        assert found.dtype == torch.bfloat16
    assert_close(scored.float(), theirs(x), tolerance=1e-2)
    assert_close(trained.float(), theirs(x), tolerance=1e-2)
    assert_close(activated.float(), nn.functional.gelu(theirs(x), approximate="tanh"), tolerance=2e-2)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_torchs(dtype: torch.dtype) -> None:
    mine, theirs = _pair(16, 8)
    x = torch.randn(4, 16, dtype=dtype)
    assert torch.equal(mine.to(dtype)(x), theirs.to(dtype)(x))


def test_without_onednn_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = _pair(16, 8)
    x = torch.randn(4, 16)
    monkeypatch.setattr(linear, "_product", None)  # would fail if it were called
    with pytest.raises(TypeError):
        mine(x)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert torch.equal(mine(x), theirs(x))


def test_an_empty_batch_gives_an_empty_result() -> None:
    mine, _ = _pair(16, 8)
    assert mine(torch.empty(0, 16)).shape == (0, 8)
