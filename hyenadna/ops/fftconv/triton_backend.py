"""Launches of the Triton kernels, forward and backward; everything here works on checked, possibly strided tensors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from hyenadna.ops.fftconv.long_kernels import (
    filter_gain,
    inner_adjoint,
    inner_backward,
    inner_product,
    inner_spectrum,
    outer_forward,
    outer_inverse,
)
from hyenadna.ops.fftconv.plan import (
    DeviceLimits,
    LongPlan,
    TilePlan,
    device_limits,
    plan_fftconv,
)
from hyenadna.ops.fftconv.tables import long_tables, tile_tables
from hyenadna.ops.fftconv.tile_kernels import (
    tile_adjoint,
    tile_backward,
    tile_forward,
    tile_spectrum,
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
    with _on(v.device):
        if isinstance(plan, TilePlan):
            run = _TileRun(plan, v, k, bias)
            run.forward(x0, x1, v, y)
        else:
            _long_forward(plan, x0, x1, v, k, bias, y)
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
    plan = _plan(v, limits, backward=True)
    with _on(v.device):
        if isinstance(plan, TilePlan):
            run = _TileRun(plan, v, k, bias)
            dbias = run.backward(dy, x0, x1, v, dx0, dx1, dv, dk)
        else:
            dbias = _long_backward(plan, dy, x0, x1, v, k, bias, dx0, dx1, dv, dk)
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
        self.spectrum = torch.empty(self.width, 2, plan.n1, plan.n2, dtype=working, device=v.device)
        self.gain = torch.empty(self.width, dtype=torch.float32, device=v.device)
        tile_spectrum[(triton.cdiv(self.width, plan.rows),)](
            k, bias, self.spectrum, self.gain, *self.tables,
            1, self.width, self.length, self.root, **self.shape,
        )  # fmt: skip

    def chunks(self, tiles: int) -> int:
        return -(-self.batch // (tiles * self.plan.rows))

    def forward(self, x0: Any, x1: Any, v: torch.Tensor, y: torch.Tensor) -> None:
        plan = self.plan
        tile_forward[(self.width * self.chunks(plan.walk),)](
            *_or(v, x0, x1), v, y, self.spectrum, self.gain, *self.tables,
            plan.walk, self.batch, self.width, self.length, *_strides(*_or(v, x0, x1), v),
            GATED=x0 is not None, STAGES=plan.stages, **self.shape,
        )  # fmt: skip

    def backward(
        self, dy: torch.Tensor, x0: Any, x1: Any, v: torch.Tensor, dx0: Any, dx1: Any, dv: torch.Tensor, dk: torch.Tensor
    ) -> torch.Tensor:  # fmt: skip
        plan = self.plan
        chunks = self.chunks(plan.walk)
        shares = torch.empty(
            chunks, self.width, 2, plan.n1, plan.n2 * plan.rows,
            dtype=torch.float32, device=v.device,
        )  # fmt: skip
        dbias = torch.empty(chunks, self.width, dtype=torch.float32, device=v.device)
        tile_backward[(self.width * chunks,)](
            dy, *_or(v, x0, x1), v, *_or(dv, dx0, dx1), dv, shares, dbias, self.spectrum, self.gain, *self.tables,
            plan.walk, self.batch, self.width, self.length, *_strides(dy, *_or(v, x0, x1), v),
            GATED=x0 is not None, STAGES=plan.stages, **self.shape,
        )  # fmt: skip
        tile_adjoint[(triton.cdiv(self.width, plan.rows),)](
            shares, dk, *self.tables, 1, self.width, self.length, chunks, self.root, **self.shape
        )  # fmt: skip
        return dbias.sum(0)


def _or(default: torch.Tensor, *tensors: Any) -> list[torch.Tensor]:
    """Return the tensors, with a stand-in that is never read or written for those that are None."""
    return [default if t is None else t for t in tensors]


def _strides(*tensors: torch.Tensor) -> list[int]:
    return [t.stride(i) for t in tensors for i in (0, 1)]


class _LongRun:
    """One call on long rows: channel after channel, a few at a time, through the three passes."""

    def __init__(self, plan: LongPlan, v: torch.Tensor, *, backward: bool) -> None:
        self.plan = plan
        self.batch, self.width, self.length = v.shape
        self.root = math.sqrt(plan.length)
        self.device = v.device
        self.working = _working(v.dtype)
        self.tables = long_tables(
            plan.n1, plan.m1, plan.na, plan.nb, plan.rows, plan.tile, self.working, v.device
        )
        self.math = arithmetic(v.dtype)
        slabs = 2 if backward else 1
        rows = plan.channels * self.batch
        self.work = self._empty(slabs, rows, 2, plan.length)
        self.exponents = self._empty(slabs, rows, plan.outer_tiles, dtype=torch.int32)
        self.tops = self._empty(slabs, rows, dtype=torch.int32)
        self.dots = self._empty(rows if backward else 1, plan.outer_tiles, dtype=torch.float32)
        self.spectrum = self._empty(plan.channels, 2, plan.length)
        self.share = (
            self._empty(plan.channels, 2, plan.length, dtype=torch.float32) if backward else None
        )
        self.of_filter = self._empty(plan.channels, plan.outer_tiles, dtype=torch.int32)
        self.ranks = self._empty(plan.channels, plan.inner_tiles, dtype=torch.int32)
        self.shrink = self._empty(plan.channels, dtype=torch.float32)
        self.gain = self._empty(plan.channels, dtype=torch.float32)

    def _empty(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype or self.working, device=self.device)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield the first channel and the number of channels of each part."""
        for first in range(0, self.width, self.plan.channels):
            yield first, min(self.plan.channels, self.width - first)

    def transform_filters(
        self, k: torch.Tensor, bias: torch.Tensor, first: int, channels: int
    ) -> None:
        plan = self.plan
        self._outer(k[None], None, bias, self.spectrum, self.of_filter, first, channels, batch=1)
        _, _, _, fa, tw, fb = self.tables
        inner_spectrum[self._inner_grid(channels)](
            self.spectrum,
            self.of_filter,
            self.ranks,
            fa,
            tw,
            fb,
            plan.walk,
            channels,
            plan.n1,
            T=plan.tile,
            **self._inner(),
        )
        filter_gain[(channels,)](
            self.of_filter, self.ranks, self.shrink, self.gain, plan.inner_tiles, self.root,
            COUNT=plan.outer_tiles, SIZE=triton.next_power_of_2(plan.inner_tiles), num_warps=1,
        )  # fmt: skip

    def transform(
        self, p: torch.Tensor, q: Any, slab: int, first: int, channels: int, *, other: tuple[Any, Any] | None = None
    ) -> None:  # fmt: skip
        """Take signals p∘q through the outer pass into workspace `slab`; `dots` takes their products with `other`, tile by tile."""
        self._outer(
            p, q, None, self.work[slab], self.exponents[slab], first, channels, batch=self.batch, other=other
        )  # fmt: skip

    def product(self, channels: int) -> None:
        plan = self.plan
        _, _, _, fa, tw, fb = self.tables
        inner_product[self._inner_grid(channels * self.batch)](
            self.work, self.spectrum, self.shrink, self.exponents, self.tops, fa, tw, fb, plan.walk, channels * self.batch, self.batch, plan.n1,
            T=plan.tile, STAGES=plan.inner_stages, **self._inner(),
        )  # fmt: skip

    def gradient_products(self, channels: int, *, gated: bool) -> None:
        plan = self.plan
        _, _, _, fa, tw, fb = self.tables
        inner_backward[(plan.inner_tiles * channels,)](
            self.work, self.spectrum, self.shrink, self.exponents, self.tops, self.share, self.ranks, fa, tw, fb,
            1, channels, self.batch, plan.n1, plan.channels * self.batch, GATED=gated, T=plan.tile, STAGES=1, **self._inner(),
        )  # fmt: skip

    def inverse(
        self, slab: int, gates: list[Any], outs: list[torch.Tensor], first: int, channels: int
    ) -> None:
        """Take workspace `slab` back to signals, times each gate."""
        self._outer_inverse(
            self.work[slab],
            self.tops[slab],
            self.gain,
            gates,
            outs,
            first,
            channels,
            batch=self.batch,
        )

    def filter_gradient(self, dk: torch.Tensor, first: int, channels: int) -> None:
        plan = self.plan
        _, _, _, fa, tw, fb = self.tables
        # The spectrum has done its work; its memory takes the gradient's way back.
        inner_adjoint[self._inner_grid(channels)](
            self.share, self.ranks, self.spectrum, self.tops, fa, tw, fb, plan.walk, channels, plan.n1,
            SIZE=triton.next_power_of_2(plan.inner_tiles), **self._inner(),
        )  # fmt: skip
        self.gain.fill_(self.root)
        self._outer_inverse(
            self.spectrum, self.tops, self.gain, [], [dk[None]], first, channels, batch=1
        )

    def _inner_grid(self, rows: int) -> tuple[int]:
        return (self.plan.inner_tiles * triton.cdiv(rows, self.plan.walk),)

    def _inner(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "NA": plan.na,
            "NB": plan.nb,
            "R": plan.rows,
            "num_warps": plan.inner_warps,
            "num_stages": 1,
            **self.math,
        }

    def _outer(
        self, p: torch.Tensor, q: Any, skip: Any, work: torch.Tensor, exponents: torch.Tensor, first: int, channels: int, *,
        batch: int, other: tuple[Any, Any] | None = None,
    ) -> None:  # fmt: skip
        plan = self.plan
        rows = [p if t is None else t for t in (p, q)]
        others = _or(rows[0], *(other or (None, None)))
        outer_forward[(plan.outer_tiles * triton.cdiv(channels * batch, plan.walk),)](
            *rows, p if skip is None else skip, *others, self.dots, work, exponents, *self.tables[:3], first, plan.walk, channels * batch, batch, self.length, plan.n1,
            *_strides(*rows, *others), PAIR=q is not None, SKIP=skip is not None, DOT=other is not None, M1=plan.m1, BLK=plan.block,
            N2=plan.na * plan.nb, T=plan.tile, STAGES=plan.outer_stages, num_warps=plan.outer_warps, num_stages=1, **self.math,
        )  # fmt: skip

    def _outer_inverse(
        self, work: torch.Tensor, tops: torch.Tensor, gain: torch.Tensor, gates: list[Any], outs: list[torch.Tensor],
        first: int, channels: int, *, batch: int,
    ) -> None:  # fmt: skip
        plan = self.plan
        gate_a, gate_b = (gates + [outs[0]] * 2)[:2]
        blocks = plan.m1 // plan.block
        outer_inverse[(plan.outer_tiles * blocks * triton.cdiv(channels * batch, plan.walk),)](
            work, tops, gain, gate_a, gate_b, outs[0], outs[-1], *self.tables[:3],
            first, plan.walk, channels * batch, batch, self.width, self.length, plan.n1, *_strides(gate_a, gate_b),
            GATES=len(gates), M1=plan.m1, BLK=plan.block, N2=plan.na * plan.nb, T=plan.tile,
            STAGES=plan.outer_stages, num_warps=plan.outer_warps, num_stages=1, PREC=self.math["PREC"],
        )  # fmt: skip


def _long_forward(
    plan: LongPlan, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, y: torch.Tensor
) -> None:  # fmt: skip
    run = _LongRun(plan, v, backward=False)
    for first, channels in run.chunks():
        run.transform_filters(k, bias, first, channels)
        run.transform(v, x1, 0, first, channels)
        run.product(channels)
        run.inverse(0, [] if x0 is None else [x0], [y], first, channels)


def _long_backward(
    plan: LongPlan, dy: torch.Tensor, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor,
    dx0: Any, dx1: Any, dv: torch.Tensor, dk: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    run = _LongRun(plan, v, backward=True)
    dbias = torch.empty(run.width, dtype=torch.float32, device=v.device)
    for first, channels in run.chunks():
        run.transform_filters(k, bias, first, channels)
        run.transform(v, x1, 0, first, channels)
        run.transform(dy, x0, 1, first, channels, other=(v, x1))
        dbias[first : first + channels] = run.dots[: channels * run.batch].view(channels, -1).sum(1)
        run.gradient_products(channels, gated=x0 is not None)
        if x0 is None:
            run.inverse(1, [], [dv], first, channels)
        else:
            run.inverse(0, [dy], [dx0], first, channels)
            run.inverse(1, [v, x1], [dx1, dv], first, channels)
        run.filter_gradient(dk, first, channels)
    return dbias
