"""The convolution in plain torch: the right-angle ring, and the direct sum that everything is tested against.

Multiply both signals by θⁿ with θ = exp(iπ/2N): the causal linear convolution of two real signals of length L ≤ N is then the
real part of a *circular* complex convolution of length N. No zero padding to 2L is needed; README.md has the proof.
"""

from __future__ import annotations

import functools
import math

import torch

from hyenadna.ops._backend import no_autocast


@functools.lru_cache(maxsize=256)
def fft_length(length: int) -> int:
    """Return the least N ≥ length without a prime factor beyond 7: FFT libraries are fast there.

    The excess is at most 7 % for L ≥ 128 and about 1 % beyond 20,000.

    Examples
    --------
    >>> [fft_length(n) for n in (1, 7, 11, 1000, 1026, 160002)]
    [1, 7, 12, 1000, 1029, 161280]
    """
    n = length
    while not _is_seven_smooth(n):
        n += 1
    return n


def _is_seven_smooth(n: int) -> bool:
    for prime in (2, 3, 5, 7):
        while n % prime == 0:
            n //= prime
    return n == 1


@functools.lru_cache(maxsize=16)
def _ring(n: int, length: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return θ^0 … θ^(length−1), computed in float64 and rounded once."""
    # The table outlives the call: made inside somebody's inference mode, it could never serve a backward pass.
    with torch.inference_mode(False):
        angle = torch.arange(length, dtype=torch.float64) * (math.pi / (2 * n))
        return torch.polar(torch.ones_like(angle), angle).to(device=device, dtype=dtype)


def _convolution(w: torch.Tensor, k: torch.Tensor, k_back: torch.Tensor | None) -> torch.Tensor:
    """Return k ⊛ w, two-sided where there is a k_back, for real w (B, D, L) and filters (D, L) of one dtype."""
    length = w.shape[-1]
    n = fft_length(length)
    theta = _ring(
        n, length, w.device, torch.complex128 if w.dtype == torch.float64 else torch.complex64
    )
    of_filter = torch.fft.fft(k * theta, n=n)
    if k_back is not None:
        # k_back[j]·θ^−j belongs at place −j, which is where conjugation puts the conjugate of k_back[j]·θ^j.
        of_filter = of_filter + torch.fft.fft(k_back * theta, n=n).conj_physical()
    spectrum = torch.fft.fft(w * theta, n=n) * of_filter
    tail: torch.Tensor = torch.fft.ifft(spectrum)[..., :length] * theta.conj_physical()
    return tail.real


def _working_dtype(*tensors: torch.Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def fftconv_reference(
    u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, k_back: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute `hyenadna.ops.fftconv.fftconv` in plain torch; differentiable, any device."""
    dtype = _working_dtype(u, k)
    with no_autocast(u.device):
        w = u.to(dtype)
        y = _convolution(w, k.to(dtype), _cast(k_back, dtype)) + bias.to(dtype)[:, None] * w
    return y.to(u.dtype)


def gated_fftconv_reference(
    x0: torch.Tensor,
    x1: torch.Tensor,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    k_back: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute `hyenadna.ops.fftconv.gated_fftconv` in plain torch; the gates are applied before any rounding."""
    dtype = _working_dtype(v, k)
    with no_autocast(v.device):
        w = x1.to(dtype) * v.to(dtype)
        y = _convolution(w, k.to(dtype), _cast(k_back, dtype)) + bias.to(dtype)[:, None] * w
        y = x0.to(dtype) * y
    return y.to(v.dtype)


def _cast(k_back: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if k_back is None else k_back.to(dtype)


def fftconv_direct(
    u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, k_back: torch.Tensor | None = None
) -> torch.Tensor:
    """Compute the convolution as the O(L²) float64 sum; the oracle of the tests, for L up to a few thousand.

    Parameters and shapes are those of `hyenadna.ops.fftconv.fftconv`; the result is float64.
    """
    w, k = u.double(), k.double()
    length = w.shape[-1]
    lag = torch.arange(length, device=w.device)
    lag = lag[:, None] - lag[None, :]

    def matrix(d: int) -> torch.Tensor:
        ahead = torch.where(lag >= 0, k[d][lag.clamp(min=0)], 0.0)
        if k_back is None:
            return ahead
        return ahead + torch.where(lag <= 0, k_back[d].double()[(-lag).clamp(min=0)], 0.0)

    y = torch.stack([matrix(d) @ w[:, d].T for d in range(w.shape[1])])
    return y.permute(2, 0, 1) + bias.double()[:, None] * w
