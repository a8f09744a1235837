"""The kernels of a block beside its large matrix products and the long convolution: norms, short convolutions, sums, the hidden layer backward.

Each reads and writes every number once. Sums over tokens are made by programs that walk over many tokens, one row of partial sums each, in a
fixed order. Rows are tokens, columns channels, unless a kernel says otherwise.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "add_rows",
    "hidden_backward",
    "norm_backward",
    "norm_forward",
    "round_and_sum",
    "short_backward",
    "short_forward",
    "sum_by_token",
]


@triton.jit
def _normalise(x, inside, eps, D: tl.constexpr):
    """Rows of x with mean 0 and variance 1, and the reciprocals of their deviations."""
    centred = tl.where(inside, x - (tl.sum(x, 1) / D)[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)[:, None]
    return centred * scale, scale


@triton.jit
def norm_forward(x_p, gamma_p, beta_p, y_p, rows, eps, D: tl.constexpr, W: tl.constexpr, R: tl.constexpr):  # fmt: skip
    """Norms: y = gamma ∘ (x − mean) / √(variance + eps) + beta for R rows of D channels, padded to W."""
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
    """The way back: dx = more + the gradient of the norm; a program walks `steps` times over R rows, and leaves its sums for gamma and beta."""
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
    """Sums: out = x + y + bias of n numbers, T a program; bias is one row of D."""
    at = tl.program_id(0).to(tl.int64) * T + tl.arange(0, T)
    inside = at < n
    total = tl.load(x_p + at, mask=inside).to(tl.float32) + tl.load(y_p + at, mask=inside).to(tl.float32)  # fmt: skip
    if BIAS:
        total += tl.load(bias_p + at % D)
    tl.store(out_p + at, total.to(out_p.dtype.element_ty), mask=inside)


@triton.jit
def sum_by_token(
    dy_p, id_p, sum_p, rows, steps,
    D: tl.constexpr, V: tl.constexpr, W: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Each program's sums of the rows of dy (rows, D) that belong to each of V tokens, over `steps` times R rows and W columns."""
    program, column = tl.program_id(0), tl.program_id(1) * W + tl.arange(0, W)
    token = tl.arange(0, V)
    total = tl.zeros([V, W], tl.float32)
    for step in range(steps):
        row = (program * steps + step).to(tl.int64) * R + tl.arange(0, R)
        ids = tl.load(id_p + row, mask=row < rows, other=V)
        inside = (row < rows)[:, None] & (column < D)[None, :]
        dy = tl.load(dy_p + row[:, None] * D + column[None, :], mask=inside, other=0.0)
        # Ones and zeros are exact; three products carry all digits of dy.
        mine = (token[:, None] == ids[None, :]).to(tl.float32)
        total = tl.dot(mine, dy, total, input_precision="tf32x3")
    to = program * V * D + token[:, None] * D + column[None, :]
    tl.store(sum_p + to, total, mask=(column < D)[None, :])


@triton.jit
def round_and_sum(x_p, y_p, sum_p, rows, steps, D: tl.constexpr, W: tl.constexpr, R: tl.constexpr):
    """Copies x to y in another dtype, and leaves each program's sums of the columns over `steps` times R rows."""
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
def hidden_backward(
    h_p, dy_p, w1_p, b1_p, w2_p, act_p, dpre_p, sum_p, rows,
    D: tl.constexpr, H: tl.constexpr, M: tl.constexpr, C: tl.constexpr, K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The hidden layer gelu(h · w1ᵀ + b1) of M rows and C of its H columns, the gradient before GELU from dy · w2, and sums of that.

    h and dy (rows, D), w1 (H, D), w2 (D, H), K of the D columns at a time; a row of sums for each M rows.
    """
    columns = tl.cdiv(H, C)
    tile, c = tl.program_id(0) // columns, tl.program_id(0) % columns * C + tl.arange(0, C)
    row = tile.to(tl.int64) * M + tl.arange(0, M)
    live, wanted = (row < rows)[:, None], c < H
    x = tl.zeros([M, C], tl.float32)
    dact = tl.zeros([M, C], tl.float32)
    for first in tl.range(0, D, K, num_stages=STAGES):
        k = first + tl.arange(0, K)
        inside = k < D
        at = row[:, None] * D + k[None, :]
        h = tl.load(h_p + at, mask=live & inside[None, :], other=0.0)
        w1 = tl.load(w1_p + c[:, None] * D + k[None, :], mask=wanted[:, None] & inside[None, :], other=0.0)  # fmt: skip
        x = tl.dot(h, tl.trans(w1), x)
        dy = tl.load(dy_p + at, mask=live & inside[None, :], other=0.0)
        w2 = tl.load(w2_p + k[:, None] * H + c[None, :], mask=inside[:, None] & wanted[None, :], other=0.0)  # fmt: skip
        dact = tl.dot(dy, w2, dact)
    x += tl.load(b1_p + c, mask=wanted, other=0.0)[None, :]
    # gelu(x) = x · s(2u) with u = √(2/π)·(x + 0.044715·x³), for (1 + tanh u)/2 = s(2u), s the logistic function.
    square = x * x
    s = tl.sigmoid(1.5957691216057308 * x * (1.0 + 0.044715 * square))
    dpre = dact * (s + x * s * (1.0 - s) * 1.5957691216057308 * (1.0 + 0.134145 * square))
    to = row[:, None] * H + c[None, :]
    tl.store(act_p + to, (x * s).to(act_p.dtype.element_ty), mask=live & wanted[None, :])
    tl.store(dpre_p + to, dpre.to(dpre_p.dtype.element_ty), mask=live & wanted[None, :])
    tl.store(sum_p + tile * H + c, tl.sum(dpre, 0), mask=wanted)


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
    """The gradient dx of one row, laid out as x is, and its sums: K for the weights, then those for bias and in_bias; S ≥ K + 2 a row."""
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
