"""Launches for rows that fit on chip."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from hyenadna.ops.fftconv.launching import precision, present, strides, working_dtype
from hyenadna.ops.fftconv.plan import TilePlan
from hyenadna.ops.fftconv.tables import tile_tables
from hyenadna.ops.fftconv.tile_kernels import (
    tile_adjoint,
    tile_backward,
    tile_forward,
    tile_spectrum,
)

__all__ = ["backward", "forward"]


def forward(
    plan: TilePlan, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, y: torch.Tensor
) -> None:  # fmt: skip
    """Fill y."""
    batch, width, length = v.shape
    tables, meta = _setup(plan, v)
    spectrum, gain = _spectra(plan, v, k, bias, tables, meta)
    tile_forward[(width * triton.cdiv(batch, plan.walk),)](
        *present(v, x0, x1), v, y, spectrum, gain, *tables,
        plan.walk, batch, width, length, *strides(*present(v, x0, x1), v),
        GATED=x0 is not None, HOIST=plan.hoist, STAGES=plan.stages, **meta,
    )  # fmt: skip


def backward(
    plan: TilePlan, dy: torch.Tensor, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor,
    dx0: Any, dx1: Any, dv: torch.Tensor, dk: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Fill the gradients, and return that of the bias."""
    batch, width, length = v.shape
    tables, meta = _setup(plan, v)
    spectrum, gain = _spectra(plan, v, k, bias, tables, meta)
    chunks = triton.cdiv(batch, plan.walk)
    shares = v.new_empty(chunks, width, 2, plan.n1, plan.n2, dtype=torch.float32)
    dbias = v.new_empty(chunks, width, dtype=torch.float32)
    limit = {"maxnreg": plan.registers} if plan.registers else {}
    tile_backward[(width * chunks,)](
        dy, *present(v, x0, x1), v, *present(dv, dx0, dx1), dv, shares, dbias, spectrum, gain, *tables,
        plan.walk, batch, width, length, *strides(dy, *present(v, x0, x1), v),
        GATED=x0 is not None, HOIST=plan.hoist, STAGES=plan.stages, **meta, **limit,
    )  # fmt: skip
    tile_adjoint[(width,)](
        shares, dk, *tables, 1, width, length, chunks, math.sqrt(plan.length),
        DT=tl.float32 if spectrum.dtype == torch.float32 else tl.float16, **meta,
    )  # fmt: skip
    return dbias.sum(0)


def _setup(plan: TilePlan, v: torch.Tensor) -> tuple[Any, dict[str, Any]]:
    tables = tile_tables(plan.n1, plan.n2, working_dtype(v.dtype), v.device, stacked=plan.stacked)
    meta = {
        "N1": plan.n1,
        "N2": plan.n2,
        "STACKED": plan.stacked,
        "PREC": precision(v.dtype),
        "num_warps": plan.num_warps,
    }
    return tables, meta


def _spectra(
    plan: TilePlan, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, tables: Any, meta: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    width, length = k.shape
    spectrum = v.new_empty(width, 2, plan.length, dtype=working_dtype(v.dtype))
    gain = v.new_empty(width, dtype=torch.float32)
    tile_spectrum[(width,)](
        k, bias, spectrum, gain, *tables, 1, width, length, math.sqrt(plan.length), **meta
    )
    return spectrum, gain
