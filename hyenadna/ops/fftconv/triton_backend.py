"""Launches of the Triton kernels, forward and backward; everything here works on checked, possibly strided tensors."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch

from hyenadna.ops.fftconv import long_path, tile_path
from hyenadna.ops.fftconv.plan import (
    DeviceLimits,
    LongPlan,
    TilePlan,
    device_limits,
    plan_fftconv,
)

__all__ = ["Gradients", "backward", "forward"]


class Gradients(NamedTuple):
    """Gradients of the inputs; those of the gates are None where there are none."""

    dx0: torch.Tensor | None
    dx1: torch.Tensor | None
    dv: torch.Tensor
    dk: torch.Tensor
    dbias: torch.Tensor


def forward(
    x0: torch.Tensor | None,
    x1: torch.Tensor | None,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    *,
    limits: DeviceLimits | None = None,
) -> torch.Tensor:
    """Compute x0 ∘ (k ⊛ (x1 ∘ v) + bias · (x1 ∘ v)); without gates, k ⊛ v + bias · v."""
    x0, x1, v = (_rows(t) for t in (x0, x1, v))
    y = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    if y.numel() == 0:
        return y
    plan = _plan(v, limits, backward=False)
    path = tile_path if isinstance(plan, TilePlan) else long_path
    with _on(v.device):
        path.forward(plan, x0, x1, v, k, bias, y)
    return y


def backward(
    dy: torch.Tensor,
    x0: torch.Tensor | None,
    x1: torch.Tensor | None,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    limits: DeviceLimits | None = None,
) -> Gradients:
    """Compute the gradients of `forward`; dk and dbias are float32. Those of x0, x1, v fill `out` (3, B, D, L), if given."""
    dy, x0, x1, v = (_rows(t) for t in (dy, x0, x1, v))
    dx0: torch.Tensor | None
    dx1: torch.Tensor | None
    if out is None:
        dv = torch.empty(v.shape, dtype=v.dtype, device=v.device)
        dx0, dx1 = (None if t is None else torch.empty_like(dv) for t in (x0, x1))
    else:
        dx0, dx1, dv = out.unbind()
    dk = torch.empty(k.shape, dtype=torch.float32, device=k.device)
    if dv.numel() == 0:
        return Gradients(dx0, dx1, dv, dk.zero_(), torch.zeros_like(bias, dtype=torch.float32))
    plan = _plan(v, limits, backward=True)
    path = tile_path if isinstance(plan, TilePlan) else long_path
    with _on(v.device):
        dbias = path.backward(plan, dy, x0, x1, v, k, bias, dx0, dx1, dv, dk)
    return Gradients(dx0, dx1, dv, dk, dbias)


def _plan(v: torch.Tensor, limits: DeviceLimits | None, *, backward: bool) -> TilePlan | LongPlan:
    batch, width, length = v.shape
    return plan_fftconv(
        batch, width, length, v.dtype, limits or device_limits(v.device), backward=backward
    )


def _rows(t: Any) -> Any:
    """Return a tensor whose rows are contiguous: itself, or one copy."""
    if t is None or t.stride(-1) == 1 or t.shape[-1] == 1:
        return t
    return t.contiguous()


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
