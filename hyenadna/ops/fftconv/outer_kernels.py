"""Kernels of long rows, outer and middle passes: transforms along the columns of a row seen as a matrix.

N = N1·N2. The **outer** pass transforms the columns of (N1, N2) over n1 on the way in, and back with the gates on the way out. Very long
rows have N2 = NM·N3, and a **middle** pass for the columns of each (NM, N3), complex and in place. Workspace: (channels, batch, 2, N1, N2),
real and imaginary plane.

The outer pass scales column tiles by powers of two found on the way; the pass after it brings them to one scale for each signal.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.fftconv.transforms import (
    exponent,
    left,
    left_real,
    load_matrix,
    load_planes,
    multiply,
    power,
    scaled,
)


@triton.jit
def _wide(i):
    """Return an index as int64: a tensor may hold more than 2^31 elements."""
    return tl.full([], 0, tl.int64) + i


@triton.jit
def _signal(p, q, n, mask, skip, PAIR: tl.constexpr, SKIP: tl.constexpr):
    """Load p∘q (or p alone) as float32; with SKIP the skip weight is added at n = 0."""
    w = tl.load(p + n, mask=mask, other=0.0).to(tl.float32)
    if PAIR:
        w *= tl.load(q + n, mask=mask, other=0.0).to(tl.float32)
    if SKIP:
        w += tl.where(n == 0, skip, 0.0)
    return w


@triton.jit
def _twiddles(column_p, tile_p, t, TILES: tl.constexpr, M: tl.constexpr, T: tl.constexpr):
    """Twiddles of M rows and the T columns of tile t, from a factor of the tile's first column and a factor within tiles."""
    f = tl.arange(0, M)
    cr, ci = load_planes(column_p, t * M + f, TILES * M)
    jr, ji = load_planes(tile_p, f[:, None] * T + tl.arange(0, T)[None, :], M * T)
    return multiply(jr, ji, cr[:, None], ci[:, None])


@triton.jit(do_not_specialize=["first", "rows", "total", "B", "D", "N1"])
def outer_forward(
    p_p,
    q_p,
    skip_p,
    r_p,
    s_p,
    dot_p,
    work_p,
    exponent_p,
    top_p,
    f1_p,
    tc_p,
    tj_p,
    first,
    rows,
    total,
    B,
    L,
    N1,
    p_b,
    p_d,
    q_b,
    q_d,
    r_b,
    r_d,
    s_b,
    s_d,
    PAIR: tl.constexpr,
    SKIP: tl.constexpr,
    DOT: tl.constexpr,
    M1: tl.constexpr,
    N2: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform p∘q over n1: one column tile of `rows` of the `total` signals (channel, b) from channel `first` on; top_p takes the largest exponent of each.

    With DOT, dot_p takes the sum of (p∘q)·(r∘s) over each tile: with the gradient in p∘q, parts of that of the skip weight.
    """
    TILES: tl.constexpr = N2 // T
    DT: tl.constexpr = work_p.dtype.element_ty
    t = tl.program_id(0) % TILES
    first_signal = tl.program_id(0) // TILES * rows
    i = tl.arange(0, M1)
    n = i[:, None] * N2 + (t * T + tl.arange(0, T))[None, :]
    if M1 >= 64:
        f1 = load_matrix(f1_p, 2 * M1, M1)
    else:
        # Too few rows for the larger tensor core instructions: two products are faster than one with twice the rows.
        f1r = load_matrix(f1_p, M1, M1)
        f1i = load_matrix(f1_p + M1 * M1, M1, M1)
    twr, twi = _twiddles(tc_p, tj_p, t, TILES, M1, T)
    for k in tl.range(0, rows, num_stages=STAGES):
        signal = first_signal + k
        d = _wide(first + signal // B)
        b = _wide(signal % B)
        live = signal < total
        mask = n < tl.where(live, L, 0)
        skip = 0.0
        if SKIP:
            skip = tl.load(skip_p + d, mask=live, other=0.0)
        w = _signal(p_p + b * p_b + d * p_d, q_p + b * q_b + d * q_d, n, mask, skip, PAIR, SKIP)
        e = exponent(w)
        if DOT:
            u = _signal(
                r_p + b * r_b + d * r_d, s_p + b * s_b + d * s_d, n, mask, skip, PAIR, False
            )
            dot = tl.sum(tl.sum(w * u, axis=1), axis=0)
            tl.store(dot_p + signal * TILES + t, dot, mask=live)
        x = scaled(w, e, DT)
        if M1 >= 64:
            ar, ai = left_real(f1, x, PREC)
        else:
            ar = tl.dot(f1r, x, input_precision=PREC)
            ai = tl.dot(f1i, x, input_precision=PREC)
        tr, ti = multiply(ar, ai, twr, twi)
        work = work_p + _wide(signal) * (2 * N1 * N2)
        alive = (i < tl.where(live, N1, 0))[:, None]
        tl.store(work + n, tr.to(DT), mask=alive)
        tl.store(work + N1 * N2 + n, ti.to(DT), mask=alive)
        tl.store(exponent_p + signal * TILES + t, e, mask=live)
        tl.atomic_max(top_p + signal, e, mask=live, sem="relaxed")


@triton.jit(do_not_specialize=["first", "rows", "total", "B", "D", "N1"])
def outer_inverse(
    work_p,
    scale_p,
    a_p,
    b_p,
    out_a_p,
    out_b_p,
    f1_p,
    tc_p,
    tj_p,
    first,
    rows,
    total,
    B,
    D,
    L,
    N1,
    a_b,
    a_d,
    b_b,
    b_d,
    GATES: tl.constexpr,
    M1: tl.constexpr,
    N2: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform back over f1 to the real signal y: out_a = y, or a∘y with one gate; out_a = a∘y and out_b = b∘y with two."""
    TILES: tl.constexpr = N2 // T
    t = tl.program_id(0) % TILES
    first_signal = tl.program_id(0) // TILES * rows
    i = tl.arange(0, M1)
    n = i[:, None] * N2 + (t * T + tl.arange(0, T))[None, :]
    f1r = load_matrix(f1_p, M1, M1)
    f1i = load_matrix(f1_p + M1 * M1, M1, M1)
    twr, twi = _twiddles(tc_p, tj_p, t, TILES, M1, T)
    for k in tl.range(0, rows, num_stages=STAGES):
        signal = first_signal + k
        d = _wide(first + signal // B)
        b = _wide(signal % B)
        live = signal < total
        work = work_p + _wide(signal) * (2 * N1 * N2)
        alive = (i < tl.where(live, N1, 0))[:, None]
        vr = tl.load(work + n, mask=alive, other=0.0).to(tl.float32)
        vi = tl.load(work + N1 * N2 + n, mask=alive, other=0.0).to(tl.float32)
        ur, ui = multiply(vr, vi, twr, -twi)
        y = tl.dot(tl.trans(f1r), ur.to(f1r.dtype), input_precision=PREC)
        y = tl.dot(tl.trans(f1i), ui.to(f1r.dtype), y, input_precision=PREC)
        y *= tl.load(scale_p + signal, mask=live, other=0.0)
        mask = n < tl.where(live, L, 0)
        out = (b * D + d) * L + n
        if GATES == 0:
            tl.store(out_a_p + out, y.to(out_a_p.dtype.element_ty), mask=mask)
        else:
            a = tl.load(a_p + b * a_b + d * a_d + n, mask=mask, other=0.0)
            tl.store(out_a_p + out, (y * a.to(tl.float32)).to(out_a_p.dtype.element_ty), mask=mask)
        if GATES == 2:
            g = tl.load(b_p + b * b_b + d * b_d + n, mask=mask, other=0.0)
            tl.store(out_b_p + out, (y * g.to(tl.float32)).to(out_b_p.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows", "total", "N1"])
def middle(
    work_p,
    exponent_p,
    top_p,
    fm_p,
    mc_p,
    mj_p,
    rows,
    total,
    N1,
    INVERSE: tl.constexpr,
    NM: tl.constexpr,
    N3: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform the columns of (NM, N3) matrices in place, or back: one column tile of `rows` of the `total` matrices (signal, f1)."""
    TILES: tl.constexpr = N3 // T
    t = tl.program_id(0) % TILES
    first = tl.program_id(0) // TILES * rows
    i = tl.arange(0, NM)
    o = i[:, None] * N3 + (t * T + tl.arange(0, T))[None, :]
    fm = load_matrix(fm_p, 2 * NM, NM)
    twr, twi = _twiddles(mc_p, mj_p, t, TILES, NM, T)
    for k in tl.range(0, rows, num_stages=STAGES):
        live = first + k < total
        matrix = _wide(tl.minimum(first + k, total - 1))
        signal = matrix // N1
        work = work_p + signal * (2 * N1 * NM * N3) + matrix % N1 * (NM * N3)
        plane = N1 * NM * N3
        alive = (i < tl.where(live, NM, 0))[:, None]
        xr = tl.load(work + o, mask=alive, other=0.0)
        xi = tl.load(work + plane + o, mask=alive, other=0.0)
        if INVERSE:
            ur, ui = multiply(xr.to(tl.float32), xi.to(tl.float32), twr, -twi)
            yr, yi = left(fm, ur, ui, True, PREC)
        else:
            e = tl.load(exponent_p + signal * (NM * TILES) + i * TILES + t)
            e += 127 - tl.load(top_p + signal)
            factor = tl.where(e > 0, power(tl.maximum(e, 1)), 0.0)[:, None].to(xr.dtype)
            ar, ai = left(fm, xr * factor, xi * factor, False, PREC)
            yr, yi = multiply(ar, ai, twr, twi)
        tl.store(work + o, yr.to(xr.dtype), mask=alive)
        tl.store(work + plane + o, yi.to(xr.dtype), mask=alive)
