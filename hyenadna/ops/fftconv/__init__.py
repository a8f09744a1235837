"""The long convolution, causal or two-sided, plain and gated; README.md beside this file derives it.

One entry point for every device: `backend="auto"` takes the fastest that is usable here, a named backend is used or
refused, never replaced.
"""

from __future__ import annotations

from typing import Literal

import torch

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops._backend import interpreted, triton_unavailable
from hyenadna.ops.fftconv.autograd import triton_fftconv
from hyenadna.ops.fftconv.plan import device_limits, unplannable
from hyenadna.ops.fftconv.reference import (
    fftconv_direct,
    fftconv_reference,
    gated_fftconv_reference,
)

__all__ = [
    "Backend",
    "explain_backend",
    "fftconv",
    "fftconv_direct",
    "gated_fftconv",
    "resolve_backend",
]

Backend = Literal["auto", "torch", "triton"]
_SHORTEST = 64


def resolve_backend(
    backend: str,
    device: torch.device,
    *,
    dtype: torch.dtype = torch.bfloat16,
    length: int = 1024,
) -> str:
    """Return the name of the backend that runs, ``"triton"`` or ``"torch"``.

    ``"auto"`` is Triton on NVIDIA GPUs from Ampere on, for bfloat16 and float16 of 64 to 4,194,304 positions, and torch elsewhere: for
    float32 it is as fast or faster, and below 64 positions there is little to win. Under Triton's interpreter it stays torch.

    Raises
    ------
    BackendUnavailableError
        The backend that was asked for does not exist, or cannot run here; the message says why.
    """
    if backend not in ("auto", "torch", "triton"):
        raise BackendUnavailableError(
            f"backend {backend!r} is not known; choose 'auto', 'torch' or 'triton'"
        )
    if backend == "torch":
        return "torch"
    reason = triton_unavailable(device) or unplannable(length, dtype, device_limits(device))
    if backend == "triton" and reason is not None:
        raise BackendUnavailableError(
            f"backend 'triton' is not available on {device.type}: {reason}; use backend='auto' or 'torch'"
        )
    if backend == "auto" and (
        reason is not None or interpreted() or dtype == torch.float32 or length < _SHORTEST
    ):
        return "torch"
    return "triton"


def explain_backend(device: torch.device) -> str:
    """Return what ``"auto"`` runs on a device, and why: one line for people."""
    reason = triton_unavailable(device)
    return "triton" if reason is None else f"torch ({reason})"


def fftconv(
    u: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    *,
    k_back: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Convolve each channel with its own long filter, causally or to both sides, and add a skip term.

    y[b, d, t] = Σ_{s ≤ t} k[d, t−s] · u[b, d, s] + bias[d] · u[b, d, t]   (Hyena, arXiv 2302.10866, §3.1), and with `k_back` also
    + Σ_{s ≥ t} k_back[d, s−t] · u[b, d, s].

    Parameters
    ----------
    u
        Signal, shape (B, D, L), floating point.
    k
        Filters, shape (D, L), float32 (float64 with float64 signals).
    bias
        Skip weights, shape (D,).
    k_back
        Filters of the other side, as `k`: entry j weighs what stands j positions ahead. Entry 0 adds to k[0], so that exchanging `k` and
        `k_back` is the same as turning the signal round. None is causal.
    backend
        ``"auto"``, ``"torch"`` or ``"triton"``; see `resolve_backend`.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L), dtype of `u`. In torch, arithmetic is float32 (float64 for float64 signals) whatever the dtype of `u`, with three
        complex temporaries of the signal's shape. In Triton, float32 signals have float32 accuracy, half-precision ones are transformed
        with float16 operands and float32 sums (relative L2 error below 1e-3 before the output is rounded). O(B·D·L·log L) time. Two sides cost one more
        transform of filters in torch, and a second convolution in Triton.

    Raises
    ------
    ValueError
        The shapes do not belong together.
    BackendUnavailableError
        The named backend cannot run here.
    """
    _check_shapes(u, k, bias, k_back)
    if _choose(backend, u, k) == "triton":
        return _on_triton(None, None, u, k, bias, k_back)
    return fftconv_reference(u, k, bias, k_back)


def gated_fftconv(
    x0: torch.Tensor,
    x1: torch.Tensor,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    *,
    k_back: torch.Tensor | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Gate, convolve, gate: y = x0 ∘ (k ⊛ (x1 ∘ v) + bias · (x1 ∘ v)), the order-2 Hyena recurrence.

    Parameters
    ----------
    x0, x1, v
        Gates and values, shape (B, D, L), floating point, of one dtype.
    k
        Filters, shape (D, L), float32.
    bias
        Skip weights, shape (D,).
    k_back, backend
        As for `fftconv`.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L), dtype of `v`.

    Raises
    ------
    ValueError
        The shapes do not belong together.
    BackendUnavailableError
        The named backend cannot run here.
    """
    if not x0.shape == x1.shape == v.shape:
        raise ValueError(
            f"x0, x1 and v have the shapes {tuple(x0.shape)}, {tuple(x1.shape)} and {tuple(v.shape)}; "
            "one shape (B, D, L) is needed"
        )
    _check_shapes(v, k, bias, k_back)
    if _choose(backend, v, k) == "triton":
        return _on_triton(x0.to(v.dtype), x1.to(v.dtype), v, k, bias, k_back)
    return gated_fftconv_reference(x0, x1, v, k, bias, k_back)


def _choose(backend: str, v: torch.Tensor, k: torch.Tensor) -> str:
    dtype = torch.float64 if k.dtype == torch.float64 else v.dtype
    return resolve_backend(backend, v.device, dtype=dtype, length=v.shape[-1])


def _on_triton(
    x0: torch.Tensor | None,
    x1: torch.Tensor | None,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    k_back: torch.Tensor | None,
) -> torch.Tensor:
    y: torch.Tensor = triton_fftconv(x0, x1, v, k.float().contiguous(), bias.float().contiguous())
    if k_back is None:
        return y
    turned = (None if x is None else x.flip(-1) for x in (x0, x1, v))
    no_skip = torch.zeros_like(bias, dtype=torch.float32)
    other: torch.Tensor = triton_fftconv(*turned, k_back.float().contiguous(), no_skip)
    return y + other.flip(-1)


def _check_shapes(
    u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, k_back: torch.Tensor | None
) -> None:
    if u.dim() != 3 or u.shape[-1] == 0:
        raise ValueError(
            f"the signal has the shape {tuple(u.shape)}; (B, D, L) with L ≥ 1 is needed"
        )
    for filters in (k,) if k_back is None else (k, k_back):
        if tuple(filters.shape) != tuple(u.shape[1:]):
            raise ValueError(
                f"the filter has the shape {tuple(filters.shape)}; (D, L) = {tuple(u.shape[1:])} is needed"
            )
    if tuple(bias.shape) != (u.shape[1],):
        raise ValueError(
            f"the bias has the shape {tuple(bias.shape)}; (D,) = ({u.shape[1]},) is needed"
        )
