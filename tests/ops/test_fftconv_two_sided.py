"""The two-sided convolution against the direct sum over every lag, and what it is not: circular, or causal."""

import pytest
import torch

from hyenadna.ops.fftconv import fftconv, fftconv_direct, gated_fftconv
from hyenadna.ops.fftconv.reference import fft_length
from hyenadna.testing import assert_close, relative_error

LENGTHS = (1, 2, 63, 64, 65, 1000, 1023)


def _inputs(length: int, *, batch: int = 2, width: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(length)
    u = torch.randn(batch, width, length, generator=generator)
    k, k_back = torch.randn(2, width, length, generator=generator)
    return u, k, torch.randn(width, generator=generator), k_back


def _circular(u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, k_back: torch.Tensor) -> torch.Tensor:  # fmt: skip
    spectrum = torch.fft.rfft(k) + torch.fft.rfft(k_back).conj()
    return torch.fft.irfft(torch.fft.rfft(u) * spectrum, n=u.shape[-1]) + bias[:, None] * u


def _written_out(u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, k_back: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """The sum as it stands in the definition, in loops."""
    y = bias[:, None] * u
    for t in range(u.shape[-1]):
        for s in range(u.shape[-1]):
            if s <= t:
                y[..., t] += k[:, t - s] * u[..., s]
            if s >= t:
                y[..., t] += k_back[:, s - t] * u[..., s]
    return y


@pytest.mark.parametrize("length", [1, 2, 9])
def test_the_direct_sum_is_the_definition(length: int) -> None:
    u, k, bias, k_back = (t.double() for t in _inputs(length))
    expected = _written_out(u, k, bias, k_back)
    assert_close(fftconv_direct(u, k, bias, k_back), expected, tolerance=1e-14)
    assert_close(fftconv(u, k, bias, k_back=k_back), expected, tolerance=1e-13)


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_direct_sum(length: int) -> None:
    u, k, bias, k_back = _inputs(length)
    expected = fftconv_direct(u, k, bias, k_back)
    assert_close(fftconv(u, k, bias, k_back=k_back).double(), expected, tolerance=2e-6)
    double = fftconv(u.double(), k.double(), bias.double(), k_back=k_back.double())
    assert_close(double, expected, tolerance=1e-13)


@pytest.mark.parametrize("length", [2, 64, 1000])
def test_control_circular_one_sided_and_turned_filters_fail_the_same_comparison(
    length: int,
) -> None:
    u, k, bias, k_back = _inputs(length)
    expected = fftconv_direct(u, k, bias, k_back)
    for wrong in (
        _circular(u, k, bias, k_back),
        fftconv(u, k, bias),
        fftconv(u, k_back, bias, k_back=k),
    ):
        assert relative_error(wrong, expected) > 0.1


@pytest.mark.parametrize("length", [50, 53, 64])
def test_the_ends_do_not_see_each_other(length: int) -> None:
    assert (fft_length(53) == 53) is False  # rings of the signal's length, and longer ones
    u = torch.zeros(1, 1, length)
    u[0, 0, 0], u[0, 0, -1] = 3.0, 5.0
    k, k_back = torch.zeros(2, 1, length)
    k[0, 1] = k_back[0, 1] = 1.0  # the next neighbours, of which the ends have one each
    expected = torch.zeros(1, 1, length)
    expected[0, 0, 1], expected[0, 0, -2] = 3.0, 5.0
    found = fftconv(u, k, torch.zeros(1), k_back=k_back)
    assert (found - expected).abs().max() < 1e-5
    circular = _circular(u, k, torch.zeros(1), k_back)
    assert (circular - expected).abs().max() > 2.0  # the control


def test_the_farthest_lags_of_both_sides_share_a_place_and_stay_apart() -> None:
    length = 64
    u = torch.randn(1, 1, length)
    for lag in (1, 31, 32, 33, 63):
        k, k_back = torch.zeros(2, 1, length)
        k[0, lag], k_back[0, length - lag] = 2.0, -3.0
        expected = torch.zeros_like(u)
        expected[..., lag:] += 2.0 * u[..., : length - lag]
        expected[..., :lag] -= 3.0 * u[..., length - lag :]
        assert_close(fftconv(u, k, torch.zeros(1), k_back=k_back), expected, tolerance=1e-6)


def test_exchanging_the_sides_turns_the_signal_round() -> None:
    u, k, bias, k_back = (t.double() for t in _inputs(100))
    turned = fftconv(u.flip(-1), k_back, bias, k_back=k).flip(-1)
    assert_close(turned, fftconv(u, k, bias, k_back=k_back), tolerance=1e-13)


def test_without_a_filter_behind_it_is_the_causal_one() -> None:
    u, k, bias, k_back = _inputs(129)
    two_sided = fftconv(u, k, bias, k_back=torch.zeros_like(k_back))
    assert_close(two_sided, fftconv(u, k, bias), tolerance=1e-6)


@pytest.mark.parametrize("length", [1, 7, 63, 64])
def test_all_gradients_equal_those_of_the_direct_sum(length: int) -> None:
    v, k, bias, k_back = _inputs(length)
    tensors = [torch.randn_like(v), torch.randn_like(v), v, k, bias, k_back]
    ours = [t.double().requires_grad_() for t in tensors]
    direct = [t.double().requires_grad_() for t in tensors]
    weight = torch.randn_like(v).double()
    gated_fftconv(*ours[:5], k_back=ours[5]).backward(weight)
    x0, x1, w, k2, b2, back2 = direct
    (x0 * fftconv_direct(x1 * w, k2, b2, back2)).backward(weight)
    for mine, theirs in zip(ours, direct, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert_close(mine.grad, theirs.grad, tolerance=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2.2e-3), (torch.float16, 3e-4)])
def test_half_precision_costs_only_the_output_rounding(
    dtype: torch.dtype, tolerance: float
) -> None:
    v, k, bias, k_back = _inputs(1000)
    x0, x1, v = torch.randn_like(v).to(dtype), torch.randn_like(v).to(dtype), v.to(dtype)
    y = gated_fftconv(x0, x1, v, k, bias, k_back=k_back)
    assert y.dtype == dtype
    expected = x0.double() * fftconv_direct(x1.double() * v.double(), k, bias, k_back)
    assert_close(y.double(), expected, tolerance=tolerance)


def test_a_filter_of_another_shape_is_refused() -> None:
    u, k, bias, k_back = _inputs(8)
    with pytest.raises(ValueError, match=r"filter has the shape \(3, 7\)"):
        fftconv(u, k, bias, k_back=k_back[:, :7])
    with pytest.raises(ValueError, match=r"filter has the shape \(2, 8\)"):
        gated_fftconv(u, u, u, k, bias, k_back=k_back[:2])
