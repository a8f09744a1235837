"""The convolution against the direct sum, never against another FFT."""

import pytest
import torch

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops.fftconv import fftconv, fftconv_direct, gated_fftconv
from hyenadna.ops.fftconv.reference import fft_length
from hyenadna.testing import assert_close, relative_error

LENGTHS = (1, 2, 63, 64, 65, 1000, 1023, 4097)


def _inputs(
    length: int, *, batch: int = 2, width: int = 3, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed + length)
    u = torch.randn(batch, width, length, generator=generator)
    k = torch.randn(width, length, generator=generator)
    bias = torch.randn(width, generator=generator)
    return u, k, bias


@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_direct_sum(length: int) -> None:
    u, k, bias = _inputs(length)
    expected = fftconv_direct(u, k, bias)
    assert_close(fftconv(u, k, bias).double(), expected, tolerance=2e-6)
    assert_close(fftconv(u.double(), k.double(), bias.double()), expected, tolerance=1e-13)


def test_the_check_can_fail_a_circular_convolution_is_caught() -> None:
    u, k, bias = _inputs(64)
    circular = torch.fft.irfft(torch.fft.rfft(u) * torch.fft.rfft(k), n=64) + bias[:, None] * u
    assert relative_error(circular, fftconv_direct(u, k, bias)) > 0.1


@pytest.mark.parametrize("length", [1, 63, 100])
def test_gated_equals_gates_around_the_direct_sum(length: int) -> None:
    v, k, bias = _inputs(length)
    x0, x1, _ = (torch.randn_like(v) for _ in range(3))
    expected = x0.double() * fftconv_direct(x1.double() * v.double(), k, bias)
    assert_close(gated_fftconv(x0, x1, v, k, bias).double(), expected, tolerance=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2.2e-3), (torch.float16, 3e-4)])
def test_half_precision_costs_only_the_output_rounding(
    dtype: torch.dtype, tolerance: float
) -> None:
    v, k, bias = _inputs(1000)
    x0, x1 = torch.randn_like(v), torch.randn_like(v)
    x0, x1, v = x0.to(dtype), x1.to(dtype), v.to(dtype)
    y = gated_fftconv(x0, x1, v, k, bias)
    assert y.dtype == dtype
    expected = x0.double() * fftconv_direct(x1.double() * v.double(), k, bias)
    assert_close(y.double(), expected, tolerance=tolerance)


@pytest.mark.parametrize("length", [1, 7, 64])
def test_all_gradients_equal_those_of_the_direct_sum(length: int) -> None:
    v, k, bias = _inputs(length)
    tensors = [torch.randn_like(v), torch.randn_like(v), v, k, bias]
    ours = [t.double().requires_grad_() for t in tensors]
    direct = [t.double().requires_grad_() for t in tensors]
    grad = torch.randn_like(v).double()
    gated_fftconv(*ours).backward(grad)
    x0, x1, w, k2, b2 = direct
    (x0 * fftconv_direct(x1 * w, k2, b2)).backward(grad)
    for mine, theirs in zip(ours, direct, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert_close(mine.grad, theirs.grad, tolerance=1e-12)


def test_past_outputs_do_not_depend_on_the_future() -> None:
    u, k, bias = _inputs(257)
    changed = u.clone()
    changed[..., 100:] = 7.0
    difference = (fftconv(u, k, bias) - fftconv(changed, k, bias)).abs()
    assert difference[..., :100].max() < 1e-4
    assert difference[..., 100:].max() > 1.0


def test_nothing_wraps_around() -> None:
    k = torch.zeros(1, 50)
    k[0, 49] = 1.0
    u = torch.zeros(1, 1, 50)
    u[0, 0, 1:] = 1.0
    assert fftconv(u, k, torch.zeros(1)).abs().max() < 1e-5


def test_nan_stays_in_its_row() -> None:
    u, k, bias = _inputs(100)
    u[1, 2, 50] = torch.nan
    y = fftconv(u, k, bias)
    assert torch.isnan(y[1, 2]).any()
    y[1, 2] = 0.0
    assert torch.isfinite(y).all()


def test_strides_do_not_matter() -> None:
    u, k, bias = _inputs(65)
    strided = u.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(fftconv(strided, k, bias), fftconv(u, k, bias))


def test_autocast_does_not_lower_the_precision() -> None:
    u, k, bias = _inputs(200)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fftconv(u, k, bias)
    assert torch.equal(y, fftconv(u, k, bias))


def test_fft_lengths_are_smooth_and_close() -> None:
    for length in [*range(1, 300), 1026, 160_002, 1_000_002]:
        n = fft_length(length)
        assert length <= n <= max(length * 1.15, length + 2)
        for prime in (2, 3, 5, 7):
            while n % prime == 0:
                n //= prime
        assert n == 1


def test_wrong_shapes_are_refused() -> None:
    u, k, bias = _inputs(8)
    with pytest.raises(ValueError, match="L ≥ 1"):
        fftconv(u[..., :0], k[..., :0], bias)
    with pytest.raises(ValueError, match=r"filter has the shape"):
        fftconv(u, k[:, :7], bias)
    with pytest.raises(ValueError, match="bias has the shape"):
        fftconv(u, k, bias[:2])
    with pytest.raises(ValueError, match="one shape"):
        gated_fftconv(u, u[:1], u, k, bias)


def test_a_backend_that_cannot_run_is_refused_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    u, k, bias = _inputs(8)
    message = "'triton' is not available on cpu: (Triton kernels need an NVIDIA GPU|triton is not installed)"
    with pytest.raises(BackendUnavailableError, match=message):
        fftconv(u, k, bias, backend="triton")
    with pytest.raises(BackendUnavailableError, match=message):
        gated_fftconv(u, u, u, k, bias, backend="triton")


def test_an_unknown_backend_is_refused() -> None:
    u, k, bias = _inputs(8)
    with pytest.raises(BackendUnavailableError, match="backend 'nonsense' is not known"):
        fftconv(u, k, bias, backend="nonsense")
