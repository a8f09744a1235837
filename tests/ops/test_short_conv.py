"""The short convolution equals a sum over taps, is causal, and has right gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hyenadna.ops.short_conv import short_conv
from hyenadna.testing import assert_close


def _sum_over_taps(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, ahead: int = 0
) -> torch.Tensor:
    taps = weight.shape[-1]
    padded = nn.functional.pad(x, (taps - 1 - ahead, ahead))
    terms = [weight[:, 0, j, None] * padded[..., j : j + x.shape[-1]] for j in range(taps)]
    return torch.stack(terms).sum(0) + bias[:, None]


def _draw(length: int, taps: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(length * 10 + taps)
    shapes = ((2, 5, length), (5, 1, taps), (5,))
    return [torch.randn(s, generator=draw, dtype=dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize("taps", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 64])
def test_values_and_gradients_are_those_of_the_sum(length: int, taps: int) -> None:
    inputs = _draw(length, taps)
    y, expected = short_conv(*inputs), _sum_over_taps(*inputs)
    assert y.shape == (2, 5, length)
    assert_close(y, expected, tolerance=1e-12)
    dy = torch.randn_like(y)
    found = torch.autograd.grad(y, inputs, dy)
    for mine, theirs in zip(found, torch.autograd.grad(expected, inputs, dy), strict=True):
        assert mine.shape == theirs.shape
        assert_close(mine, theirs, tolerance=1e-12)
    with torch.no_grad():
        assert_close(short_conv(*inputs), expected, tolerance=1e-12)


@pytest.mark.parametrize(("taps", "ahead"), [(2, 1), (3, 1), (4, 1), (7, 3), (7, 6)])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 64])
def test_what_is_ahead_is_seen_as_far_as_asked(length: int, taps: int, ahead: int) -> None:
    inputs = _draw(length, taps)
    y, expected = short_conv(*inputs, ahead=ahead), _sum_over_taps(*inputs, ahead)
    assert_close(y, expected, tolerance=1e-12)
    dy = torch.randn_like(y)
    found = torch.autograd.grad(y, inputs, dy)
    for mine, theirs in zip(found, torch.autograd.grad(expected, inputs, dy), strict=True):
        assert_close(mine, theirs, tolerance=1e-12)


def test_it_has_no_need_of_a_bias() -> None:
    x, weight, _ = _draw(20, 3)
    assert_close(short_conv(x, weight), _sum_over_taps(x, weight, torch.zeros(5).double()), tolerance=1e-12)  # fmt: skip


def test_the_future_does_not_matter() -> None:
    x, weight, bias = (t.detach() for t in _draw(30, 3))
    later = x.clone()
    later[..., 20:] += 1
    one, other = short_conv(x, weight, bias), short_conv(later, weight, bias)
    assert torch.equal(one[..., :20], other[..., :20])
    assert not torch.equal(one[..., 20:], other[..., 20:])


def test_gradients_of_some_inputs_only() -> None:
    x, weight, bias = _draw(30, 3)
    y = short_conv(x.detach(), weight, bias.detach())
    (found,) = torch.autograd.grad(y.sum(), weight)
    (expected,) = torch.autograd.grad(_sum_over_taps(x.detach(), weight, bias.detach()).sum(), weight)  # fmt: skip
    assert_close(found, expected, tolerance=1e-12)
