"""The torch path on a CUDA device: the same numbers at odd lengths and in every dtype."""

import pytest
import torch

from hyenadna.ops.fftconv import fftconv_direct, gated_fftconv
from hyenadna.testing import assert_close

pytestmark = pytest.mark.gpu
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2.2e-3, torch.float16: 3e-4}


def _inputs(length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(length)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device="cuda")

    return [*(draw(2, 3, length).to(dtype) for _ in range(3)), draw(3, length), draw(3)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [1, 2, 63, 100, 1000, 1023, 1025, 4097])
def test_equals_the_direct_sum(length: int, dtype: torch.dtype) -> None:
    x0, x1, v, k, bias = _inputs(length, dtype)
    y = gated_fftconv(x0, x1, v, k, bias)
    assert y.dtype == dtype
    expected = x0.double() * fftconv_direct(x1.double() * v.double(), k, bias)
    assert_close(y.double(), expected, tolerance=TOLERANCE[dtype])


@pytest.mark.parametrize("length", [160_000, 1_000_003])
def test_equals_a_float64_transform_at_long_lengths(length: int) -> None:
    x0, x1, v, k, bias = _inputs(length, torch.float32)
    w = x1.double() * v.double()
    n = 2 * length
    conv = torch.fft.irfft(torch.fft.rfft(w, n=n) * torch.fft.rfft(k.double(), n=n), n=n)[
        ..., :length
    ]
    expected = x0.double() * (conv + bias.double()[:, None] * w)
    assert_close(gated_fftconv(x0, x1, v, k, bias).double(), expected, tolerance=2e-6)


def test_gradients_equal_those_of_the_cpu() -> None:
    tensors = _inputs(1000, torch.float32)
    here = [t.clone().requires_grad_() for t in tensors]
    there = [t.cpu().double().requires_grad_() for t in tensors]
    gated_fftconv(*here).sum().backward()
    gated_fftconv(*there).sum().backward()
    for mine, theirs in zip(here, there, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert_close(mine.grad.cpu().double(), theirs.grad, tolerance=1e-5)
