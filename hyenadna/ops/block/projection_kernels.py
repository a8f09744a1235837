"""The projections around the long convolution with what touches them: norm before, residual sum after, and the change of layout.

For widths D whose rows fit on chip; a program takes M tokens. Tokens are rows of D on the residual side, and columns of (channels, L) on the
side of the convolution.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.block.kernels import _normalise

__all__ = ["norm_project", "norm_project_backward", "project_add", "project_add_backward"]


@triton.jit
def norm_project(
    x_p, gamma_p, beta_p, w_p, y_p, rows, eps,
    D: tl.constexpr, N: tl.constexpr, M: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y (N, rows) = w · norm(x)ᵀ for M rows of x (rows, D); w (N, D)."""
    row, d = tl.program_id(0) * M + tl.arange(0, M), tl.arange(0, D)
    inside = (row < rows)[:, None] & (d < D)[None, :]
    x = tl.load(x_p + row[:, None].to(tl.int64) * D + d[None, :], mask=inside, other=0.0)
    unit, _ = _normalise(x, inside, eps, D)
    half = w_p.dtype.element_ty
    h = (unit * tl.load(gamma_p + d)[None, :] + tl.load(beta_p + d)[None, :]).to(half)
    for first in tl.range(0, N, C, num_stages=STAGES):
        c = first + tl.arange(0, C)
        y = tl.dot(tl.load(w_p + c[:, None] * D + d[None, :]), tl.trans(h))
        to = c[:, None].to(tl.int64) * rows + row[None, :]
        tl.store(y_p + to, y.to(half), mask=(row < rows)[None, :])


@triton.jit
def norm_project_backward(
    x_p, more_p, gamma_p, beta_p, w_p, dy_p, dx_p, h_p, sum_p, rows, eps,
    D: tl.constexpr, N: tl.constexpr, M: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dx = more + the gradient of norm_project, from dy (N, rows); norm(x) in half precision; sums (2, D) for gamma and beta."""
    program, d = tl.program_id(0), tl.arange(0, D)
    row = program * M + tl.arange(0, M)
    inside = (row < rows)[:, None] & (d < D)[None, :]
    dh = tl.zeros([M, D], tl.float32)
    for first in tl.range(0, N, C, num_stages=STAGES):
        c = first + tl.arange(0, C)
        at = c[:, None].to(tl.int64) * rows + row[None, :]
        dy = tl.load(dy_p + at, mask=(row < rows)[None, :], other=0.0)
        dh = tl.dot(tl.trans(dy), tl.load(w_p + c[:, None] * D + d[None, :]), dh)
    at = row[:, None].to(tl.int64) * D + d[None, :]
    unit, scale = _normalise(tl.load(x_p + at, mask=inside, other=0.0), inside, eps, D)
    gamma = tl.load(gamma_p + d)[None, :]
    h = unit * gamma + tl.load(beta_p + d)[None, :]
    tl.store(h_p + at, h.to(h_p.dtype.element_ty), mask=inside)
    tl.store(sum_p + program * 2 * D + d, tl.sum(dh * unit, 0))
    tl.store(sum_p + program * 2 * D + D + d, tl.sum(dh, 0))
    g = dh * gamma
    dx = (g - (tl.sum(g, 1) / D)[:, None] - unit * (tl.sum(g * unit, 1) / D)[:, None]) * scale
    tl.store(dx_p + at, dx + tl.load(more_p + at, mask=inside, other=0.0), mask=inside)


@triton.jit
def project_add(
    x_p, y_p, w_p, b_p, out_p, length,
    D: tl.constexpr, M: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """out = x + yᵀ · wᵀ + b for M tokens of one sequence; x and out (B, L, D), y (B, D, L), w (D, D)."""
    t, d = tl.program_id(0) * M + tl.arange(0, M), tl.arange(0, D)
    sequence = tl.program_id(1).to(tl.int64) * length * D
    live = t < length
    y = tl.load(y_p + sequence + d[:, None].to(tl.int64) * length + t[None, :], mask=live[None, :], other=0.0)  # fmt: skip
    for first in tl.range(0, D, C, num_stages=STAGES):
        c = first + tl.arange(0, C)
        product = tl.dot(tl.trans(y), tl.trans(tl.load(w_p + c[:, None] * D + d[None, :])))
        at = sequence + t[:, None].to(tl.int64) * D + c[None, :]
        x = tl.load(x_p + at, mask=live[:, None], other=0.0)
        tl.store(out_p + at, x + product + tl.load(b_p + c)[None, :], mask=live[:, None])


@triton.jit
def project_add_backward(
    dout_p, w_p, dy_p, half_p, sum_p, length,
    D: tl.constexpr, M: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dy (B, D, L) of M tokens of one sequence from dout (B, L, D); dout in half precision; its sums (D,)."""
    t, d = tl.program_id(0) * M + tl.arange(0, M), tl.arange(0, D)
    sequence = tl.program_id(1).to(tl.int64) * length * D
    live = t < length
    at = sequence + t[:, None].to(tl.int64) * D + d[None, :]
    dout = tl.load(dout_p + at, mask=live[:, None], other=0.0)
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    tl.store(sum_p + program * D + d, tl.sum(dout, 0))
    half = dout.to(w_p.dtype.element_ty)
    tl.store(half_p + at, half, mask=live[:, None])
    for first in tl.range(0, D, C, num_stages=STAGES):
        c = first + tl.arange(0, C)
        dy = tl.dot(tl.trans(tl.load(w_p + d[:, None] * D + c[None, :])), tl.trans(half))
        to = sequence + c[:, None].to(tl.int64) * length + t[None, :]
        tl.store(dy_p + to, dy.to(dy_p.dtype.element_ty), mask=live[None, :])
