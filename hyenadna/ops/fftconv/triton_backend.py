"""Launches of the Triton kernels, forward and backward; everything here works on checked, possibly strided tensors."""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from hyenadna.ops.fftconv.group_kernels import group_convolution
from hyenadna.ops.fftconv.plan import (
    DeviceLimits,
    GroupPlan,
    TilePlan,
    device_limits,
    plan_fftconv,
)
from hyenadna.ops.fftconv.tables import group_tables, tile_tables
from hyenadna.ops.fftconv.tile_kernels import (
    tile_adjoint,
    tile_backward,
    tile_forward,
    tile_spectrum,
)

__all__ = ["INTERPRETED", "backward", "forward"]

INTERPRETED = triton.knobs.runtime.interpret if hasattr(triton, "knobs") else False


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
    plan = plan_fftconv(*v.shape, v.dtype, limits or device_limits(v.device))
    with _on(v.device):
        if isinstance(plan, TilePlan):
            run = _TileRun(plan, v, k, bias)
            run.forward(x0, x1, v, y)
        else:
            _group(plan, x0, x1, v, k, bias, y=y)
    return y


def backward(
    dy: torch.Tensor,
    x0: torch.Tensor | None,
    x1: torch.Tensor | None,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
    *,
    limits: DeviceLimits | None = None,
) -> Gradients:
    """Compute the gradients of `forward`; dk and dbias are float32."""
    dy, x0, x1, v = (_rows(t) for t in (dy, x0, x1, v))
    dv = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    dx0, dx1 = (None if t is None else torch.empty_like(dv) for t in (x0, x1))
    dk = torch.empty(k.shape, dtype=torch.float32, device=k.device)
    if dv.numel() == 0:
        return Gradients(dx0, dx1, dv, dk.zero_(), torch.zeros_like(bias, dtype=torch.float32))
    plan = plan_fftconv(
        *v.shape, v.dtype, limits or device_limits(v.device), backward=True
    )
    with _on(v.device):
        if isinstance(plan, TilePlan):
            run = _TileRun(plan, v, k, bias)
            run.backward(dy, x0, x1, v, dx0, dx1, dv, dk)
        else:
            _group(plan, x0, x1, v, k, bias, dy=dy, dx0=dx0, dx1=dx1, dv=dv, dk=dk)
    # The skip term is part of the filter at lag 0, and so is its gradient.
    return Gradients(dx0, dx1, dv, dk, dk[:, 0].clone())


def _rows(t: Any) -> Any:
    """Return a tensor whose rows are contiguous: itself, or one copy."""
    if t is None or t.stride(-1) == 1 or t.shape[-1] == 1:
        return t
    return t.contiguous()


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def arithmetic(dtype: torch.dtype) -> dict[str, Any]:
    """Return the kernels' working dtype and how float32 products are made: three tf32 ones, good to about 1e-7."""
    exact = dtype == torch.float32
    return {"DT": tl.float32 if exact else tl.float16, "PREC": "tf32x3" if exact else "tf32"}


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float32 else torch.float16


class _TileRun:
    """One call on rows that fit on chip: the tables, and the filter's spectrum."""

    def __init__(
        self, plan: TilePlan, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor
    ) -> None:
        self.plan = plan
        self.batch, self.width, self.length = v.shape
        self.root = math.sqrt(plan.length)
        working = _working(v.dtype)
        self.tables = tile_tables(plan.n1, plan.n2, plan.rows, working, v.device)
        self.shape = {
            "N1": plan.n1,
            "N2": plan.n2,
            "R": plan.rows,
            "num_warps": plan.num_warps,
            **arithmetic(v.dtype),
        }
        self.spectrum = torch.empty(
            self.width, 2, plan.n1, plan.n2, dtype=working, device=v.device
        )
        self.gain = torch.empty(self.width, dtype=torch.float32, device=v.device)
        tile_spectrum[(triton.cdiv(self.width, plan.rows),)](
            k, bias, self.spectrum, self.gain, *self.tables,
            self.width, self.length, self.root, **self.shape,
        )  # fmt: skip

    def chunks(self, tiles: int) -> int:
        return triton.cdiv(self.batch, tiles * self.plan.rows)

    def forward(self, x0: Any, x1: Any, v: torch.Tensor, y: torch.Tensor) -> None:
        plan = self.plan
        tile_forward[(self.width * self.chunks(plan.forward_rows),)](
            *_or(v, x0, x1), v, y, self.spectrum, self.gain, *self.tables,
            self.batch, self.width, self.length, *_strides(*_or(v, x0, x1), v),
            GATED=x0 is not None, ROWS=plan.forward_rows, STAGES=plan.forward_stages, **self.shape,
        )  # fmt: skip

    def backward(
        self, dy: torch.Tensor, x0: Any, x1: Any, v: torch.Tensor, dx0: Any, dx1: Any, dv: torch.Tensor, dk: torch.Tensor
    ) -> None:  # fmt: skip
        plan = self.plan
        chunks = self.chunks(plan.backward_rows)
        shares = torch.empty(
            chunks, self.width, 2, plan.n1, plan.n2 * plan.rows,
            dtype=torch.float32, device=v.device,
        )  # fmt: skip
        tile_backward[(self.width * chunks,)](
            dy, *_or(v, x0, x1), v, *_or(dv, dx0, dx1), dv, shares, self.spectrum, self.gain, *self.tables,
            self.batch, self.width, self.length, *_strides(dy, *_or(v, x0, x1), v),
            GATED=x0 is not None, ROWS=plan.backward_rows, STAGES=plan.backward_stages, HOLD=plan.hold, **self.shape,
        )  # fmt: skip
        tile_adjoint[(triton.cdiv(self.width, plan.rows),)](
            shares, dk, *self.tables, self.width, self.length, chunks, self.root, **self.shape
        )


def _or(default: torch.Tensor, *tensors: Any) -> list[torch.Tensor]:
    """Return the tensors, with a stand-in that is never read or written for those that are None."""
    return [default if t is None else t for t in tensors]


def _strides(*tensors: torch.Tensor) -> list[int]:
    return [t.stride(i) for t in tensors for i in (0, 1)]


def _group(
    plan: GroupPlan, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, *,
    y: Any = None, dy: Any = None, dx0: Any = None, dx1: Any = None, dv: Any = None, dk: Any = None,
) -> None:  # fmt: skip
    """Run the persistent kernel: forward with `y`, backward with `dy` and the gradients' tensors."""
    back = dy is not None
    members, groups = (1, min(plan.groups, 2)) if INTERPRETED else (plan.members, plan.groups)
    working = _working(v.dtype)
    device = v.device
    tables = group_tables(
        plan.n1, plan.m1, plan.na, plan.nb, plan.rows, plan.tile, working, device
    )
    slots = triton.next_power_of_2(max(plan.na * plan.nb // plan.tile, -(-plan.n1 // plan.rows)))
    work = torch.empty(
        groups, 2 if back else 1, 2, plan.n1, plan.na * plan.nb, dtype=working, device=device
    )
    spectrum = torch.empty(groups, 2, plan.n1, plan.na * plan.nb, dtype=working, device=device)
    share = torch.empty_like(spectrum, dtype=torch.float32) if back else spectrum
    exponents = torch.empty(groups, 7, slots, dtype=torch.int32, device=device)
    counters = torch.zeros(groups, dtype=torch.int32, device=device)
    out = v if y is None else y
    options = {} if INTERPRETED or members == 1 else {"launch_cooperative_grid": True}
    group_convolution[(groups * members,)](
        *_or(v, dy, x0, x1), v, k, bias, *_or(out, y, dx0, dx1, dv), dk if back else k,
        work, spectrum, share, exponents, counters, *tables,
        *v.shape, math.sqrt(plan.length), groups, plan.n1,
        *_strides(*_or(v, dy, x0, x1), v),
        BACKWARD=back, GATED=x0 is not None, G=members, M1=plan.m1, BLK=plan.block, NA=plan.na, NB=plan.nb,
        R=plan.rows, T=plan.tile, SLOTS=slots, num_warps=plan.num_warps, **arithmetic(v.dtype), **options,
    )  # fmt: skip
