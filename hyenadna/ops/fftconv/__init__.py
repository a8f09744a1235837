"""The long causal convolution, plain and gated; README.md beside this file derives it.

One entry point for every device: `backend="auto"` takes the fastest that is usable here, a named backend is used or
refused, never replaced.
"""

from __future__ import annotations

from typing import Literal

import torch

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops.fftconv.reference import (
    fftconv_direct,
    fftconv_reference,
    gated_fftconv_reference,
)

__all__ = ["Backend", "fftconv", "fftconv_direct", "gated_fftconv", "resolve_backend"]

Backend = Literal["auto", "torch"]


def resolve_backend(backend: str, device: torch.device) -> str:
    """Return the name of the backend that runs on a device, today ``"torch"`` everywhere.

    Raises
    ------
    BackendUnavailableError
        The backend that was asked for does not exist.
    """
    if backend in ("auto", "torch"):
        return "torch"
    raise BackendUnavailableError(
        f"backend {backend!r} is not available on {device.type}: this version of hyenadna has "
        "'torch'; use backend='auto' or 'torch'"
    )


def fftconv(
    u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, *, backend: str = "auto"
) -> torch.Tensor:
    """Convolve each channel causally with its own long filter, and add a skip term.

    y[b, d, t] = Σ_{s ≤ t} k[d, t−s] · u[b, d, s] + bias[d] · u[b, d, t]   (Hyena, arXiv 2302.10866, §3.1)

    Parameters
    ----------
    u
        Signal, shape (B, D, L), floating point.
    k
        Filters, shape (D, L), float32 (float64 with float64 signals).
    bias
        Skip weights, shape (D,).
    backend
        ``"auto"`` or ``"torch"``.

    Returns
    -------
    torch.Tensor
        Shape (B, D, L), dtype of `u`. Arithmetic is float32 (float64 for float64 signals), whatever the dtype of `u`.
        O(B·D·L·log L) time; three complex temporaries of the signal's shape.

    Raises
    ------
    ValueError
        The shapes do not belong together.
    BackendUnavailableError
        The named backend cannot run here.
    """
    _check_shapes(u, k, bias)
    resolve_backend(backend, u.device)
    return fftconv_reference(u, k, bias)


def gated_fftconv(
    x0: torch.Tensor,
    x1: torch.Tensor,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    *,
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
    backend
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
    _check_shapes(v, k, bias)
    resolve_backend(backend, v.device)
    return gated_fftconv_reference(x0, x1, v, k, bias)


def _check_shapes(u: torch.Tensor, k: torch.Tensor, bias: torch.Tensor) -> None:
    if u.dim() != 3 or u.shape[-1] == 0:
        raise ValueError(
            f"the signal has the shape {tuple(u.shape)}; (B, D, L) with L ≥ 1 is needed"
        )
    if tuple(k.shape) != tuple(u.shape[1:]):
        raise ValueError(
            f"the filter has the shape {tuple(k.shape)}; (D, L) = {tuple(u.shape[1:])} is needed"
        )
    if tuple(bias.shape) != (u.shape[1],):
        raise ValueError(
            f"the bias has the shape {tuple(bias.shape)}; (D,) = ({u.shape[1]},) is needed"
        )
