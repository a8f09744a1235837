"""norm, fc1, GELU, fc2 and the residual sum in one kernel each way, for widths D whose rows fit on chip.

A program takes M tokens; the hidden layer passes through registers, C of its H columns at a time, and never through memory forward. Backward
it is computed again and written, with its gradient, for the products over tokens that make the weights' gradients.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.block.kernels import _normalise

__all__ = ["mlp_backward", "mlp_forward"]


@triton.jit
def _logistic(x):
    """s with gelu(x) = x · s in its tanh form: the logistic function of 2u, u = √(2/π)·(x + 0.044715·x³)."""
    return tl.sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * x * x))


@triton.jit
def _hidden(h, w1_p, b1_p, first, D: tl.constexpr, C: tl.constexpr):
    """Columns `first` … of fc1(h), and those rows of its weight, (C, D)."""
    c, d = first + tl.arange(0, C), tl.arange(0, D)
    w1 = tl.load(w1_p + c[:, None] * D + d[None, :])
    return tl.dot(h, tl.trans(w1)) + tl.load(b1_p + c)[None, :], w1


@triton.jit
def mlp_forward(
    x_p, gamma_p, beta_p, w1_p, b1_p, w2_p, b2_p, y_p, rows, eps,
    D: tl.constexpr, H: tl.constexpr, M: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y = x + fc2(gelu(fc1(norm(x)))) for M rows of x (rows, D); w1 (H, D), w2 (D, H)."""
    row, d = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M), tl.arange(0, D)
    inside = (row < rows)[:, None] & (d < D)[None, :]
    at = row[:, None] * D + d[None, :]
    unit, _ = _normalise(tl.load(x_p + at, mask=inside, other=0.0), inside, eps, D)
    h = (unit * tl.load(gamma_p + d)[None, :] + tl.load(beta_p + d)[None, :]).to(w1_p.dtype.element_ty)  # fmt: skip
    total = tl.zeros([M, D], tl.float32)
    for first in tl.range(0, H, C, num_stages=STAGES):
        x, w1 = _hidden(h, w1_p, b1_p, first, D, C)
        c = first + tl.arange(0, C)
        w2 = tl.load(w2_p + d[:, None] * H + c[None, :])
        total = tl.dot((x * _logistic(x)).to(w2.dtype), tl.trans(w2), total)
    y = total + tl.load(b2_p + d)[None, :] + tl.load(x_p + at, mask=inside, other=0.0)
    tl.store(y_p + at, y, mask=inside)


@triton.jit
def mlp_backward(
    x_p, dy_p, gamma_p, beta_p, w1_p, b1_p, w2_p, dx_p, h_p, out_p, act_p, dpre_p, sum_d_p, sum_h_p, rows, eps,
    D: tl.constexpr, H: tl.constexpr, M: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """dx of M rows; for the weights norm(x) and dy in half precision, the hidden layer and its gradient; and the rows' sums.

    Sums of a program: (3, D) of dy, of the gradients of gamma and of beta; (H,) of the hidden layer's.
    """
    program, d = tl.program_id(0), tl.arange(0, D)
    row = program.to(tl.int64) * M + tl.arange(0, M)
    live = row < rows
    inside = live[:, None] & (d < D)[None, :]
    at = row[:, None] * D + d[None, :]
    half = w1_p.dtype.element_ty
    gamma = tl.load(gamma_p + d)[None, :]
    unit, _ = _normalise(tl.load(x_p + at, mask=inside, other=0.0), inside, eps, D)
    h = tl.where(inside, unit * gamma + tl.load(beta_p + d)[None, :], 0.0).to(half)
    dy = tl.load(dy_p + at, mask=inside, other=0.0)
    tl.store(sum_d_p + program * 3 * D + d, tl.sum(dy, 0))
    out = dy.to(half)
    tl.store(h_p + at, h, mask=inside)
    tl.store(out_p + at, out, mask=inside)
    dh = tl.zeros([M, D], tl.float32)
    for first in tl.range(0, H, C, num_stages=STAGES):
        x, w1 = _hidden(h, w1_p, b1_p, first, D, C)
        c = first + tl.arange(0, C)
        dact = tl.dot(out, tl.load(w2_p + d[:, None] * H + c[None, :]))
        s = _logistic(x)
        dpre = dact * (s + x * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * x * x))
        to = row[:, None] * H + c[None, :]
        tl.store(act_p + to, (x * s).to(half), mask=live[:, None])
        tl.store(sum_h_p + program * H + c, tl.sum(dpre, 0))
        rounded = dpre.to(half)
        tl.store(dpre_p + to, rounded, mask=live[:, None])
        dh = tl.dot(rounded, w1, dh)
    # Once more from memory: registers are short above.
    unit, scale = _normalise(tl.load(x_p + at, mask=inside, other=0.0), inside, eps, D)
    tl.store(sum_d_p + program * 3 * D + D + d, tl.sum(dh * unit, 0))
    tl.store(sum_d_p + program * 3 * D + 2 * D + d, tl.sum(dh, 0))
    g = dh * gamma
    dx = (g - (tl.sum(g, 1) / D)[:, None] - unit * (tl.sum(g * unit, 1) / D)[:, None]) * scale
    tl.store(dx_p + at, dx + tl.load(dy_p + at, mask=inside, other=0.0), mask=inside)
