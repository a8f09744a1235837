"""The kernels around the matrix products and the long convolution of a block: norms, short convolutions, GELU, sums.

Each reads and writes every number once. Sums over tokens are made by programs that walk over many tokens, one row of partial sums each, in a
fixed order. Rows are tokens, columns channels, unless a kernel says otherwise.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "add_rows",
    "gelu_backward",
    "norm_backward",
    "norm_forward",
    "round_and_sum",
    "short_backward",
    "short_forward",
]


@triton.jit
def _normalise(x, inside, eps, D: tl.constexpr):
    """Rows of x with mean 0 and variance 1, and the reciprocals of their deviations."""
    centred = tl.where(inside, x - (tl.sum(x, 1) / D)[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)[:, None]
    return centred * scale, scale


@triton.jit
def norm_forward(x_p, gamma_p, beta_p, y_p, rows, eps, D: tl.constexpr, W: tl.constexpr, R: tl.constexpr):  # fmt: skip
    """y = gamma ∘ (x − mean) / √(variance + eps) + beta for R rows of D channels, padded to W."""
    row, column = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R), tl.arange(0, W)
    inside = (row < rows)[:, None] & (column < D)[None, :]
    at = row[:, None] * D + column[None, :]
    x = tl.load(x_p + at, mask=inside, other=0.0).to(tl.float32)
    unit, _ = _normalise(x, inside, eps, D)
    gamma = tl.load(gamma_p + column, mask=column < D, other=0.0)
    beta = tl.load(beta_p + column, mask=column < D, other=0.0)
    y = unit * gamma[None, :] + beta[None, :]
    tl.store(y_p + at, y.to(y_p.dtype.element_ty), mask=inside)


@triton.jit
def norm_backward(
    x_p, dy_p, more_p, gamma_p, dx_p, dgamma_p, dbeta_p, rows, steps, eps,
    MORE: tl.constexpr, D: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """dx = more + the gradient of the norm; a program walks `steps` times over R rows, and leaves its sums for gamma and beta."""
    program, column = tl.program_id(0), tl.arange(0, W)
    gamma = tl.load(gamma_p + column, mask=column < D, other=0.0)[None, :]
    dgamma = tl.zeros([W], tl.float32)
    dbeta = tl.zeros([W], tl.float32)
    for step in range(steps):
        row = (program * steps + step).to(tl.int64) * R + tl.arange(0, R)
        inside = (row < rows)[:, None] & (column < D)[None, :]
        at = row[:, None] * D + column[None, :]
        x = tl.load(x_p + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_p + at, mask=inside, other=0.0).to(tl.float32)
        unit, scale = _normalise(x, inside, eps, D)
        dgamma += tl.sum(dy * unit, 0)
        dbeta += tl.sum(dy, 0)
        g = dy * gamma
        dx = (g - (tl.sum(g, 1) / D)[:, None] - unit * (tl.sum(g * unit, 1) / D)[:, None]) * scale
        if MORE:
            dx += tl.load(more_p + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx_p + at, dx.to(dx_p.dtype.element_ty), mask=inside)
    tl.store(dgamma_p + program * D + column, dgamma, mask=column < D)
    tl.store(dbeta_p + program * D + column, dbeta, mask=column < D)


@triton.jit
def add_rows(x_p, y_p, bias_p, out_p, n, D: tl.constexpr, BIAS: tl.constexpr, T: tl.constexpr):
    """out = x + y + bias of n numbers, T a program; bias is one row of D."""
    at = tl.program_id(0).to(tl.int64) * T + tl.arange(0, T)
    inside = at < n
    total = tl.load(x_p + at, mask=inside).to(tl.float32) + tl.load(y_p + at, mask=inside).to(tl.float32)  # fmt: skip
    if BIAS:
        total += tl.load(bias_p + at % D)
    tl.store(out_p + at, total.to(out_p.dtype.element_ty), mask=inside)


@triton.jit
def round_and_sum(
    x_p, y_p, sum_p, rows, steps, D: tl.constexpr, W: tl.constexpr, R: tl.constexpr
):
    """y = x in another dtype, and each program's sums of the columns over `steps` times R rows."""
    program, column = tl.program_id(0), tl.arange(0, W)
    total = tl.zeros([W], tl.float32)
    for step in range(steps):
        row = (program * steps + step).to(tl.int64) * R + tl.arange(0, R)
        inside = (row < rows)[:, None] & (column < D)[None, :]
        at = row[:, None] * D + column[None, :]
        x = tl.load(x_p + at, mask=inside, other=0.0).to(tl.float32)
        total += tl.sum(x, 0)
        tl.store(y_p + at, x.to(y_p.dtype.element_ty), mask=inside)
    tl.store(sum_p + program * D + column, total, mask=column < D)


@triton.jit
def gelu_backward(
    x_p, dy_p, sum_p, rows, steps, D: tl.constexpr, W: tl.constexpr, R: tl.constexpr
):
    """x becomes gelu(x) in its tanh form, dy the gradient of x; and each program's sums of that, W columns a program."""
    program, column = tl.program_id(0), tl.program_id(1) * W + tl.arange(0, W)
    total = tl.zeros([W], tl.float32)
    for step in range(steps):
        row = (program * steps + step).to(tl.int64) * R + tl.arange(0, R)
        inside = (row < rows)[:, None] & (column < D)[None, :]
        at = row[:, None] * D + column[None, :]
        x = tl.load(x_p + at, mask=inside, other=0.0).to(tl.float32)
        dy = tl.load(dy_p + at, mask=inside, other=0.0).to(tl.float32)
        # gelu(x) = x · s(2u) with u = √(2/π)·(x + 0.044715·x³), for (1 + tanh u)/2 = s(2u), s the logistic function.
        square = x * x
        s = tl.sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * square))
        slope = s + x * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * square)
        dx = dy * slope
        total += tl.sum(dx, 0)
        tl.store(x_p + at, (x * s).to(x_p.dtype.element_ty), mask=inside)
        tl.store(dy_p + at, dx.to(dy_p.dtype.element_ty), mask=inside)
    tl.store(sum_p + program * D + column, total, mask=column < D)


@triton.jit
def _signal(x_p, bias, t, L):
    """x[t] + bias inside the signal, 0 before its beginning and after its end."""
    inside = (t >= 0) & (t < L)
    return tl.where(inside, tl.load(x_p + t, mask=inside, other=0.0).to(tl.float32) + bias, 0.0)


@triton.jit
def short_forward(
    x_p, in_bias_p, weight_p, bias_p, y_p, first, width, batch, L,
    x_signal, x_channel, x_batch, y_signal, y_channel, y_batch, WIDTH, K: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """y[t] = bias + Σ_j weight[j] · (x[t − (K − 1 − j)] + in_bias) for T positions of one row (signal, channel, b).

    Rows of y are those of `width` channels from `first` on; weights are those of WIDTH channels a signal.
    """
    row = tl.program_id(0)
    b, channel, signal = row % batch, row // batch % width, row // batch // width
    of = signal * WIDTH + first + channel
    x_p += signal.to(tl.int64) * x_signal + (first + channel).to(tl.int64) * x_channel + b.to(tl.int64) * x_batch  # fmt: skip
    y_p += signal.to(tl.int64) * y_signal + channel.to(tl.int64) * y_channel + b.to(tl.int64) * y_batch  # fmt: skip
    in_bias = tl.load(in_bias_p + of)
    t = tl.program_id(1) * T + tl.arange(0, T)
    y = tl.zeros([T], tl.float32) + tl.load(bias_p + of)
    for j in tl.static_range(K):
        y += tl.load(weight_p + of * K + j) * _signal(x_p, in_bias, t - (K - 1 - j), L)
    tl.store(y_p + t, y.to(y_p.dtype.element_ty), mask=t < L)


@triton.jit
def short_backward(
    x_p, dy_p, in_bias_p, weight_p, dx_p, sum_p, first, width, batch, L, steps,
    x_signal, x_channel, x_batch, dy_signal, dy_channel, dy_batch, WIDTH, K: tl.constexpr, S: tl.constexpr, T: tl.constexpr,
):  # fmt: skip
    """dx of one row, laid out as x is, and its sums: K for the weights, then those for bias and in_bias; S ≥ K + 2 a row."""
    row = tl.program_id(0)
    b, channel, signal = row % batch, row // batch % width, row // batch // width
    of = signal * WIDTH + first + channel
    offset = signal.to(tl.int64) * x_signal + (first + channel).to(tl.int64) * x_channel + b.to(tl.int64) * x_batch  # fmt: skip
    x_p += offset
    dx_p += offset
    dy_p += signal.to(tl.int64) * dy_signal + channel.to(tl.int64) * dy_channel + b.to(tl.int64) * dy_batch  # fmt: skip
    in_bias = tl.load(in_bias_p + of)
    slot = tl.arange(0, S)
    sums = tl.zeros([S], tl.float32)
    for step in range(steps):
        t = step * T + tl.arange(0, T)
        dy = _signal(dy_p, 0.0, t, L)
        dx = tl.zeros([T], tl.float32)
        for j in tl.static_range(K):
            sums += tl.where(slot == j, tl.sum(dy * _signal(x_p, in_bias, t - (K - 1 - j), L), 0), 0.0)  # fmt: skip
            dx += tl.load(weight_p + of * K + j) * _signal(dy_p, 0.0, t + (K - 1 - j), L)
        dx = tl.where(t < L, dx, 0.0)
        sums += tl.where(slot == K, tl.sum(dy, 0), 0.0) + tl.where(slot == K + 1, tl.sum(dx, 0), 0.0)  # fmt: skip
        tl.store(dx_p + t, dx.to(dx_p.dtype.element_ty), mask=t < L)
    tl.store(sum_p + (b * 3 * WIDTH + of) * S + slot, sums)
