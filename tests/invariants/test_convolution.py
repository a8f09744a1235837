"""The whole Hyena operator against sums written out in float64, never against another FFT: values and all gradients."""

import copy
from collections.abc import Callable

import pytest
import torch

import hyenadna.models.hyena as hyena
from hyenadna import HyenaConfig
from hyenadna.models import HyenaOperator
from hyenadna.ops.fftconv import fftconv_direct
from hyenadna.testing import assert_close, relative_error

LENGTHS = (1, 2, 63, 64, 65, 1000, 1023, 4097)


def _operator(order: int, width: int = 2) -> HyenaOperator:
    torch.manual_seed(order)
    return HyenaOperator(
        HyenaConfig(d_model=width, n_layers=1, max_seq_len=5000, filter_dim=8, hyena_order=order)
    )


def _signal(length: int, width: int = 2) -> torch.Tensor:
    return torch.randn(2, length, width, generator=torch.Generator().manual_seed(length))


def _written_out(operator: HyenaOperator, x: torch.Tensor) -> torch.Tensor:
    """Compute the recurrence with the O(L²) sum and a short convolution that is a sum of shifts, in float64."""
    operator, x = copy.deepcopy(operator).double(), x.double()
    length = x.shape[1]
    k, bias = (t.double() for t in operator.filter(length))
    z = operator.in_proj(x).transpose(1, 2)
    taps, smooth = operator.short_conv.weight[:, 0], torch.zeros_like(z)
    for lag in range(min(taps.shape[1], length)):
        smooth[..., lag:] += taps[:, -1 - lag, None] * z[..., : length - lag]
    *gates, v = (smooth + operator.short_conv.bias[:, None]).chunk(operator.order + 1, dim=1)
    for j in range(operator.order - 1):
        v = fftconv_direct(gates[operator.order - 1 - j] * v, k[j], bias[j])
    result: torch.Tensor = operator.out_proj((gates[0] * v).transpose(1, 2))
    return result


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_written_out_sum(length: int) -> None:
    operator, x = _operator(2), _signal(length)
    with torch.no_grad():
        assert_close(operator(x).double(), _written_out(operator, x), tolerance=5e-6)


@pytest.mark.parametrize("order", [3, 4])
def test_higher_orders_equal_the_written_out_sum(order: int) -> None:
    operator, x = _operator(order), _signal(129)
    with torch.no_grad():
        assert_close(operator(x).double(), _written_out(operator, x), tolerance=5e-6)


@pytest.mark.parametrize("order", [2, 3])
def test_every_gradient_equals_that_of_the_written_out_sum(order: int) -> None:
    operator = _operator(order)
    x = _signal(65).requires_grad_()
    weight = torch.randn(2, 65, 2, generator=torch.Generator().manual_seed(0))
    names, parameters = zip(*operator.named_parameters(), strict=True)
    ours = torch.autograd.grad((operator(x) * weight).sum(), [x, *parameters])
    theirs = torch.autograd.grad(
        (_differentiable(operator, x) * weight.double()).sum(), [x, *parameters]
    )
    for name, mine, other in zip(("x", *names), ours, theirs, strict=True):
        assert relative_error(mine, other) < 2e-4, name


def _differentiable(operator: HyenaOperator, x: torch.Tensor) -> torch.Tensor:
    """Compute `_written_out` on the operator's own parameters, so that gradients reach them."""
    length = x.shape[1]
    k, bias = (t.double() for t in operator.filter(length))
    z = torch.nn.functional.linear(
        x.double(), operator.in_proj.weight.double(), operator.in_proj.bias.double()
    )
    padded = torch.nn.functional.pad(z.transpose(1, 2), (2, 0))
    taps = operator.short_conv.weight[:, 0].double()
    smooth = sum(taps[:, t, None] * padded[..., t : t + length] for t in range(3))
    assert isinstance(smooth, torch.Tensor)
    *gates, v = (smooth + operator.short_conv.bias.double()[:, None]).chunk(
        operator.order + 1, dim=1
    )
    for j in range(operator.order - 1):
        v = fftconv_direct(gates[operator.order - 1 - j] * v, k[j], bias[j])
    return torch.nn.functional.linear(
        (gates[0] * v).transpose(1, 2),
        operator.out_proj.weight.double(),
        operator.out_proj.bias.double(),
    )


def _circular(
    x0: torch.Tensor,
    x1: torch.Tensor,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    k_back: None = None,
) -> torch.Tensor:
    w = x1 * v
    n = w.shape[-1]
    return x0 * (torch.fft.irfft(torch.fft.rfft(w) * torch.fft.rfft(k), n=n) + bias[:, None] * w)


def _one_late(
    x0: torch.Tensor,
    x1: torch.Tensor,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    k_back: None = None,
) -> torch.Tensor:
    return (x0.double() * fftconv_direct(x1 * v, torch.roll(k, 1, dims=-1), bias)).float()


@pytest.mark.parametrize("mistake", [_circular, _one_late])
def test_control_wrong_convolutions_are_caught(
    mistake: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, x = _operator(2), _signal(64)
    with torch.no_grad():
        expected = _written_out(operator, x)
        monkeypatch.setattr(hyena, "gated_fftconv", mistake)
        assert relative_error(operator(x), expected) > 1e-3


def test_nothing_wraps_around() -> None:
    """An impulse in the last quarter of the input leaves the first three quarters as zeros leave them."""
    operator = _operator(2).double()
    quiet = torch.zeros(1, 400, 2, dtype=torch.float64)
    loud = quiet.clone()
    loud[:, 300:] = 100.0
    with torch.no_grad():
        change = (operator(loud) - operator(quiet)).abs()
    assert change[:, :300].max() < 1e-12 * change[:, 300:].max()
    assert change[:, 300:].max() > 1.0


def test_control_wrapping_around_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyena, "gated_fftconv", _circular)
    with pytest.raises(AssertionError):
        test_nothing_wraps_around()


def test_a_length_first_seen_in_inference_mode_can_be_trained_on_later() -> None:
    operator, x = _operator(2), _signal(337)
    with torch.inference_mode():
        operator(x)
    operator(x).sum().backward()
    assert operator.in_proj.weight.grad is not None
