"""Launches for long rows: a few channels at a time through the passes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton

from hyenadna.ops.fftconv.inner_kernels import (
    inner_adjoint,
    inner_backward,
    inner_product,
    inner_spectrum,
)
from hyenadna.ops.fftconv.launching import precision, present, strides, working_dtype
from hyenadna.ops.fftconv.outer_kernels import middle, outer_forward, outer_inverse
from hyenadna.ops.fftconv.plan import LongPlan
from hyenadna.ops.fftconv.tables import inner_tables, outer_tables

__all__ = ["backward", "forward"]


def forward(
    plan: LongPlan, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor, y: torch.Tensor
) -> None:  # fmt: skip
    """Fill y."""
    run = _Run(plan, v, backward=False)
    for first, channels in run.chunks():
        run.start(first, channels)
        run.transform_filters(k, bias)
        run.transform(run.signals, v, x1)
        run.product()
        run.inverse(run.signals, [] if x0 is None else [x0], [y])


def backward(
    plan: LongPlan, dy: torch.Tensor, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor,
    dx0: Any, dx1: Any, dv: torch.Tensor, dk: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Fill the gradients, and return that of the bias."""
    run = _Run(plan, v, backward=True)
    dbias = v.new_empty(run.width, dtype=torch.float32)
    for first, channels in run.chunks():
        run.start(first, channels)
        run.transform_filters(k, bias)
        run.transform(run.signals, v, x1)
        run.transform(run.gradients, dy, x0, other=(v, x1))
        torch.sum(run.dots[: channels * run.batch].view(channels, -1), 1, out=dbias[first : first + channels])  # fmt: skip
        run.gradient_products(gated=x0 is not None)
        if x0 is None:
            run.inverse(run.gradients, [], [dv])
        else:
            run.inverse(run.signals, [dy], [dx0])
            run.inverse(run.gradients, [v, x1], [dx1, dv])
        run.filter_gradient(dk)
    return dbias


class _Slab(NamedTuple):
    """A workspace of `batch` signals for each channel: spectra on their way, their scales in between, the scale of the result."""

    batch: int
    work: torch.Tensor
    exponents: torch.Tensor
    tops: torch.Tensor
    scales: torch.Tensor


class _Run:
    """One call: workspaces, and the passes over the `channels` channels from `first` on."""

    def __init__(self, plan: LongPlan, v: torch.Tensor, *, backward: bool) -> None:
        self.plan = plan
        self.batch, self.width, self.length = v.shape
        self.root = math.sqrt(plan.length)
        self.first = self.channels = 0
        working, tile = working_dtype(v.dtype), plan.tile
        n3 = plan.na * plan.nb
        self.outer_tables = outer_tables(plan.n1, plan.m1, plan.columns, tile, working, v.device, twist=True)  # fmt: skip
        self.middle_tables = outer_tables(plan.nm, plan.nm, n3, tile, working, v.device, twist=False)  # fmt: skip
        self.inner_tables = inner_tables(plan.na, plan.nb, plan.rows, working, v.device)

        rows, filters, slabs = plan.channels * self.batch, plan.channels, 2 if backward else 1
        # Largest exponents, gathered by maxima: they start at zero.
        self.tops = v.new_empty(slabs * rows + 3 * filters, dtype=torch.int32)
        tops = self.tops[: slabs * rows].view(slabs, rows)
        of_filters, self.peaks, self.share_tops = self.tops[slabs * rows :].view(3, filters)
        work = v.new_empty(slabs, rows, 2, plan.length, dtype=working)
        exponents = v.new_empty(slabs, rows, plan.outer_tiles, dtype=torch.int32)
        scales = v.new_empty(slabs, rows, dtype=torch.float32)
        each = [_Slab(self.batch, work[i], exponents[i], tops[i], scales[i]) for i in range(slabs)]
        self.signals, self.gradients = each[0], each[-1]
        self.filters = _Slab(
            1,
            v.new_empty(filters, 2, plan.length, dtype=working),
            v.new_empty(filters, plan.outer_tiles, dtype=torch.int32),
            of_filters,
            v.new_empty(filters, dtype=torch.float32),
        )
        self.share_exponents = v.new_empty(filters, plan.inner_tiles if backward else 1, dtype=torch.int32)  # fmt: skip
        self.dots = v.new_empty(rows if backward else 1, plan.outer_tiles, dtype=torch.float32)
        self.precision = precision(v.dtype)

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield the first channel and the number of channels of each part."""
        for first in range(0, self.width, self.plan.channels):
            yield first, min(self.plan.channels, self.width - first)

    def start(self, first: int, channels: int) -> None:
        """Turn to the next channels."""
        self.first, self.channels = first, channels
        self.tops.zero_()

    def transform(self, slab: _Slab, p: torch.Tensor, q: Any, *, skip: Any = None, other: Any = None) -> None:  # fmt: skip
        """Take p∘q through the outer and the middle pass; `dots` takes its products with those of `other`, tile by tile."""
        plan = self.plan
        pair, others = present(p, p, q), present(p, *(other or (None, None)))
        outer_forward[self._outer_grid(slab)](
            *pair, p if skip is None else skip, *others, self.dots, slab.work, slab.exponents, slab.tops, *self.outer_tables,
            self.first, plan.walk, self.channels * slab.batch, slab.batch, self.length, plan.n1, *strides(*pair, *others),
            PAIR=q is not None, SKIP=skip is not None, DOT=other is not None, **self._outer(),
        )  # fmt: skip
        self._middle(slab, inverse=False)

    def transform_filters(self, k: torch.Tensor, bias: torch.Tensor) -> None:
        """Take the filters, with the skip weights in k[0], all the way to their spectra."""
        slab = self.filters
        self.transform(slab, k[None], None, skip=bias)
        inner_spectrum[self._inner_grid(slab)](
            slab.work, slab.exponents, slab.tops, self.peaks, *self.inner_tables,
            self.plan.walk, self.channels, self.plan.height, SCALED=self._scaled, **self._tiles(), **self._inner(),
        )  # fmt: skip

    def product(self) -> None:
        """Multiply the spectra of signals with those of the filters."""
        slab, plan = self.signals, self.plan
        inner_product[self._inner_grid(slab)](
            slab.work, self.filters.work, slab.exponents, slab.tops, self.filters.tops, self.peaks, slab.scales, *self.inner_tables,
            plan.walk, self.channels * slab.batch, slab.batch, plan.height, self.root,
            SCALED=self._scaled, STAGES=plan.inner_stages, **self._tiles(), **self._inner(limited=True),
        )  # fmt: skip
        self._middle(slab, inverse=True)

    def gradient_products(self, *, gated: bool) -> None:
        """Make the spectra of dx0 and dw, and that of dk in the place of the filters'."""
        slab, plan = self.signals, self.plan
        inner_backward[(plan.inner_tiles * self.channels,)](
            slab.work, self.filters.work, slab.exponents, slab.tops, self.filters.tops, self.peaks, slab.scales,
            self.share_exponents, self.share_tops, *self.inner_tables,
            1, self.channels, slab.batch, plan.height, self.root, slab.work.shape[0],
            GATED=gated, SCALED=self._scaled, STAGES=plan.inner_stages, **self._tiles(), **self._inner(limited=True),
        )  # fmt: skip
        if gated:
            self._middle(slab, inverse=True)
        self._middle(self.gradients, inverse=True)

    def filter_gradient(self, dk: torch.Tensor) -> None:
        """Take the spectrum of dk back."""
        slab, plan = self.filters, self.plan
        inner_adjoint[self._inner_grid(slab)](
            slab.work, self.share_exponents, self.share_tops, slab.scales, *self.inner_tables,
            plan.walk, self.channels, plan.height, self.root, **self._inner(),
        )  # fmt: skip
        self._middle(slab, inverse=True)
        self.inverse(slab, [], [dk[None]])

    def inverse(self, slab: _Slab, gates: list[torch.Tensor], outs: list[torch.Tensor]) -> None:
        """Take a workspace through the last pass, times each gate."""
        plan = self.plan
        gate_a, gate_b = (gates + [outs[0]] * 2)[:2]
        outer_inverse[self._outer_grid(slab)](
            slab.work, slab.scales, gate_a, gate_b, outs[0], outs[-1], *self.outer_tables,
            self.first, plan.walk, self.channels * slab.batch, slab.batch, self.width, self.length, plan.n1, *strides(gate_a, gate_b),
            GATES=len(gates), **self._outer(),
        )  # fmt: skip

    def _middle(self, slab: _Slab, *, inverse: bool) -> None:
        plan = self.plan
        if plan.nm == 1:
            return
        matrices = self.channels * slab.batch * plan.n1
        n3 = plan.na * plan.nb
        middle[(n3 // plan.tile * triton.cdiv(matrices, plan.walk),)](
            slab.work, slab.exponents, slab.tops, *self.middle_tables, plan.walk, matrices, plan.n1,
            INVERSE=inverse, NM=plan.nm, N3=n3, T=plan.tile, STAGES=plan.outer_stages, PREC=self.precision, num_stages=1,
        )  # fmt: skip

    @property
    def _scaled(self) -> bool:
        """Whether column tiles still have scales of their own before the inner pass."""
        return self.plan.nm == 1

    def _outer_grid(self, slab: _Slab) -> tuple[int]:
        return (self.plan.outer_tiles * triton.cdiv(self.channels * slab.batch, self.plan.walk),)

    def _inner_grid(self, slab: _Slab) -> tuple[int]:
        return (self.plan.inner_tiles * triton.cdiv(self.channels * slab.batch, self.plan.walk),)

    def _outer(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "M1": plan.m1,
            "N2": plan.columns,
            "T": plan.tile,
            "STAGES": plan.outer_stages,
            "PREC": self.precision,
            "num_warps": plan.outer_warps,
            "num_stages": 1,
        }

    def _tiles(self) -> dict[str, int]:
        return {"COUNT": self.plan.outer_tiles, "T": self.plan.tile}

    def _inner(self, *, limited: bool = False) -> dict[str, Any]:
        plan = self.plan
        return {
            "NA": plan.na,
            "NB": plan.nb,
            "R": plan.rows,
            "PREC": self.precision,
            "num_warps": plan.inner_warps,
            "num_stages": 1,
        } | ({"maxnreg": plan.inner_registers} if limited and plan.inner_registers else {})
