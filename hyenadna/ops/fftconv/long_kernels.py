"""Kernels for long rows (L > 8,192): three passes over a workspace that holds a few channels at a time.

N = N1·N2, N2 = NA·NB. **Outer** passes transform the columns of (N1, N2) over n1, **inner** passes its rows over n2 in two stages.
Forward: outer, inner with the product in the spectrum and back, outer back with the gate. The filter takes the same way first.

Half-precision intermediates carry a power-of-two exponent for each column tile, found on the way; the inner pass brings them to one
scale per row. Workspace: (channels, batch, 2, N1, N2), real and imaginary plane.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.fftconv.transforms import (
    left,
    load_planes,
    multiply,
    power,
    right,
    row_exponents,
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
def _outer_twiddle(tc_p, tj_p, t, f1, M1: tl.constexpr, N2: tl.constexpr, T: tl.constexpr):
    """Twiddles of rows f1 and of the columns of tile t, from a column factor and a tile factor."""
    tcr = tl.load(tc_p + t * M1 + f1)[:, None]
    tci = tl.load(tc_p + (N2 // T) * M1 + t * M1 + f1)[:, None]
    tjr, tji = load_planes(tj_p, f1[:, None] * T + tl.arange(0, T)[None, :], M1 * T)
    return multiply(tjr, tji, tcr, tci)


@triton.jit(do_not_specialize=["first", "rows"])
def outer_forward(
    p_p,
    q_p,
    skip_p,
    r_p,
    s_p,
    dot_p,
    work_p,
    exponent_p,
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
    BLK: tl.constexpr,
    N2: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform p∘q over n1: one column tile of `rows` of the `total` rows (channel, b) from channel `first` on.

    With DOT, dot_p takes the sum of (p∘q)·(r∘s) over each tile: with the gradient in p∘q, parts of that of the skip weight.
    """
    TILES: tl.constexpr = N2 // T
    t = tl.program_id(0) % TILES
    first_row = tl.program_id(0) // TILES * rows
    i = tl.arange(0, BLK)
    j = tl.arange(0, BLK)
    n2 = t * T + tl.arange(0, T)
    n = i[:, None] * N2 + n2[None, :]
    if M1 == BLK:
        f1r = tl.load(f1_p + i[:, None] * M1 + j[None, :])
        f1i = tl.load(f1_p + M1 * M1 + i[:, None] * M1 + j[None, :])
        twr, twi = _outer_twiddle(tc_p, tj_p, t, i, M1, N2, T)
    for r in tl.range(0, rows, num_stages=STAGES):
        row = first_row + r
        d = _wide(first + row // B)
        b = _wide(row % B)
        p = p_p + b * p_b + d * p_d
        q = q_p + b * q_b + d * q_d
        work = work_p + _wide(row) * (2 * N1 * N2)
        live = row < total
        length = tl.where(live, L, 0)
        height = tl.where(live, N1, 0)
        skip = 0.0
        if SKIP:
            skip = tl.load(skip_p + d, mask=live, other=0.0)
        w = _signal(p, q, n, n < length, skip, PAIR, SKIP)
        e = row_exponents(w, 1, 1)
        if DOT:
            other = r_p + b * r_b + d * r_d
            factor = s_p + b * s_b + d * s_d
            dot = tl.sum(
                tl.sum(w * _signal(other, factor, n, n < length, skip, PAIR, False), axis=1), axis=0
            )
        if M1 == BLK:
            x = scaled(w, e, DT, 1)
            ar = tl.dot(f1r, x, input_precision=PREC)
            ai = tl.dot(f1i, x, input_precision=PREC)
            tr, ti = multiply(ar, ai, twr, twi)
            alive = (i < height)[:, None]
            tl.store(work + n, tr.to(DT), mask=alive)
            tl.store(work + N1 * N2 + n, ti.to(DT), mask=alive)
        else:
            for block in range(1, M1 // BLK):
                more = n + block * BLK * N2
                w = _signal(p, q, more, more < length, skip, PAIR, False)
                e = tl.maximum(e, row_exponents(w, 1, 1))
                if DOT:
                    u = _signal(other, factor, more, more < length, skip, PAIR, False)
                    dot += tl.sum(tl.sum(w * u, axis=1), axis=0)
            for fb in range(M1 // BLK):
                f1 = fb * BLK + i
                ar = tl.zeros([BLK, T], tl.float32)
                ai = tl.zeros([BLK, T], tl.float32)
                for kb in range(M1 // BLK):
                    more = n + kb * BLK * N2
                    x = scaled(_signal(p, q, more, more < length, skip, PAIR, SKIP), e, DT, 1)
                    o = f1[:, None] * M1 + (kb * BLK + j)[None, :]
                    ar = tl.dot(tl.load(f1_p + o), x, ar, input_precision=PREC)
                    ai = tl.dot(tl.load(f1_p + M1 * M1 + o), x, ai, input_precision=PREC)
                twr, twi = _outer_twiddle(tc_p, tj_p, t, f1, M1, N2, T)
                tr, ti = multiply(ar, ai, twr, twi)
                alive = (f1 < height)[:, None]
                place = work + f1[:, None] * N2 + n2[None, :]
                tl.store(place, tr.to(DT), mask=alive)
                tl.store(place + N1 * N2, ti.to(DT), mask=alive)
        tl.store(exponent_p + row * TILES + t, e, mask=live)
        if DOT:
            tl.store(dot_p + row * TILES + t, dot, mask=live)


@triton.jit
def _outer_back(vr, vi, fr, fi, twr, twi, y, PREC: tl.constexpr):
    """Add the real part of the inverse of one block of frequencies f1."""
    ur, ui = multiply(vr.to(tl.float32), vi.to(tl.float32), twr, -twi)
    y = tl.dot(tl.trans(fr), ur.to(fr.dtype), y, input_precision=PREC)
    return tl.dot(tl.trans(fi), ui.to(fr.dtype), y, input_precision=PREC)


@triton.jit(do_not_specialize=["first", "rows"])
def outer_inverse(
    work_p,
    top_p,
    gain_p,
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
    BLK: tl.constexpr,
    N2: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform back over f1 to the real signal y: out_a = y, or a∘y with one gate; out_a = a∘y and out_b = b∘y with two."""
    TILES: tl.constexpr = N2 // T
    BLOCKS: tl.constexpr = M1 // BLK
    t = tl.program_id(0) % TILES
    kb = tl.program_id(0) // TILES % BLOCKS
    first_row = tl.program_id(0) // (TILES * BLOCKS) * rows
    i = tl.arange(0, BLK)
    j = tl.arange(0, BLK)
    n2 = t * T + tl.arange(0, T)
    n = (kb * BLK + i)[:, None] * N2 + n2[None, :]
    if M1 == BLK:
        f1r = tl.load(f1_p + i[:, None] * M1 + j[None, :])
        f1i = tl.load(f1_p + M1 * M1 + i[:, None] * M1 + j[None, :])
        twr, twi = _outer_twiddle(tc_p, tj_p, t, i, M1, N2, T)
    for r in tl.range(0, rows, num_stages=STAGES):
        row = first_row + r
        d = _wide(first + row // B)
        b = _wide(row % B)
        live = row < total
        mask = n < tl.where(live, L, 0)
        height = tl.where(live, N1, 0)
        work = work_p + _wide(row) * (2 * N1 * N2)
        y = tl.zeros([BLK, T], tl.float32)
        if M1 == BLK:
            o = i[:, None] * N2 + n2[None, :]
            alive = (i < height)[:, None]
            vr = tl.load(work + o, mask=alive, other=0.0)
            vi = tl.load(work + N1 * N2 + o, mask=alive, other=0.0)
            y = _outer_back(vr, vi, f1r, f1i, twr, twi, y, PREC)
        else:
            for fb in range(BLOCKS):
                f1 = fb * BLK + i
                o = f1[:, None] * N2 + n2[None, :]
                alive = (f1 < height)[:, None]
                vr = tl.load(work + o, mask=alive, other=0.0)
                vi = tl.load(work + N1 * N2 + o, mask=alive, other=0.0)
                twr, twi = _outer_twiddle(tc_p, tj_p, t, f1, M1, N2, T)
                of1 = f1[:, None] * M1 + (kb * BLK + j)[None, :]
                y = _outer_back(
                    vr, vi, tl.load(f1_p + of1), tl.load(f1_p + M1 * M1 + of1), twr, twi, y, PREC
                )
        e = tl.load(top_p + row, mask=live, other=127)
        y *= power(e) * tl.load(gain_p + row // B, mask=live, other=0.0)
        out = (b * D + d) * L + n
        if GATES == 0:
            tl.store(out_a_p + out, y.to(out_a_p.dtype.element_ty), mask=mask)
        else:
            a = tl.load(a_p + b * a_b + d * a_d + n, mask=mask, other=0.0)
            tl.store(out_a_p + out, (y * a.to(tl.float32)).to(out_a_p.dtype.element_ty), mask=mask)
        if GATES == 2:
            g = tl.load(b_p + b * b_b + d * b_d + n, mask=mask, other=0.0)
            tl.store(out_b_p + out, (y * g.to(tl.float32)).to(out_b_p.dtype.element_ty), mask=mask)


@triton.jit
def _load_inner(fa_p, tw_p, fb_p, NA: tl.constexpr, C: tl.constexpr):
    oa = tl.arange(0, NA)[:, None] * NA + tl.arange(0, NA)[None, :]
    ob = tl.arange(0, C)[:, None] * C + tl.arange(0, C)[None, :]
    ot = tl.arange(0, NA)[:, None] * C + tl.arange(0, C)[None, :]
    return (
        tl.load(fa_p + oa),
        tl.load(fa_p + NA * NA + oa),
        tl.load(fa_p + 2 * NA * NA + oa),
        tl.load(fb_p + ob),
        tl.load(fb_p + C * C + ob),
        tl.load(fb_p + 2 * C * C + ob),
        tl.load(tw_p + ot).to(tl.float32),
        tl.load(tw_p + NA * C + ot).to(tl.float32),
    )


@triton.jit
def _top(exponent_p, COUNT: tl.constexpr):
    """Return the largest of the exponents of a row's tiles."""
    return tl.max(tl.load(exponent_p + tl.arange(0, COUNT)), axis=0)


@triton.jit
def _load_rows(
    work, exponent_p, top, o, alive, plane, NA: tl.constexpr, NB: tl.constexpr, T: tl.constexpr, DT: tl.constexpr
):  # fmt: skip
    """Load inner rows and bring the tiles of the outer pass to the scale 2^(top − 127)."""
    e = tl.load(exponent_p + tl.arange(0, NA) * NB // T) + 127 - top
    factor = tl.where(e > 0, power(tl.maximum(e, 1)), 0.0)[:, None].to(DT)
    xr = tl.load(work + o, mask=alive, other=0.0) * factor
    xi = tl.load(work + plane + o, mask=alive, other=0.0) * factor
    return xr, xi


@triton.jit
def _inner_dft(xr, xi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC: tl.constexpr):
    ar, ai = left(far, fai, nfai, xr, xi, False, PREC)
    tr, ti = multiply(ar, ai, twr, twi)
    return right(tr, ti, fbr, fbi, nfbi, False, PREC)


@triton.jit
def _inner_back(pr, pi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC: tl.constexpr):
    vr, vi = right(pr, pi, fbr, fbi, nfbi, True, PREC)
    ur, ui = multiply(vr, vi, twr, -twi)
    return left(far, fai, nfai, ur, ui, True, PREC)


@triton.jit(do_not_specialize=["rows"])
def inner_spectrum(
    work_p,
    exponent_p,
    top_p,
    fa_p,
    tw_p,
    fb_p,
    rows,
    total,
    N1,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Filters (channels, 2, N1, N2): transform inner rows of `rows` of the `total` filters in place; top_p (channels, tiles) takes each tile's largest exponent."""
    N2: tl.constexpr = NA * NB
    C: tl.constexpr = R * NB
    tiles = (N1 + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * rows
    c = tl.arange(0, C)
    o = q * R * N2 + tl.arange(0, NA)[:, None] * NB + ((c // NB) * N2 + c % NB)[None, :]
    far, fai, nfai, fbr, fbi, nfbi, twr, twi = _load_inner(fa_p, tw_p, fb_p, NA, C)
    for r in range(rows):
        live = first + r < total
        channel = _wide(tl.minimum(first + r, total - 1))
        alive = (q * R + c // NB < tl.where(live, N1, 0))[None, :]
        work = work_p + channel * (2 * N1 * N2)
        of = exponent_p + channel * (N2 // T)
        xr, xi = _load_rows(work, of, _top(of, N2 // T), o, alive, N1 * N2, NA, NB, T, DT)
        zr, zi = _inner_dft(xr, xi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
        # Magnitudes are at most √N times the filter's largest, which float16 holds up to N = 2^30.
        tl.store(work + o, zr.to(DT), mask=alive)
        tl.store(work + N1 * N2 + o, zi.to(DT), mask=alive)
        h = row_exponents(tl.maximum(tl.abs(zr), tl.abs(zi)), 1, 1)
        tl.store(top_p + channel * tiles + q, h, mask=live)


@triton.jit
def filter_gain(
    exponent_p, top_p, shrink_p, gain_p, tiles, root, COUNT: tl.constexpr, SIZE: tl.constexpr
):
    """Scale of each filter's spectrum: shrink brings it to magnitudes below 2, gain takes √N and the scales back."""
    channel = tl.program_id(0)
    ek = _top(exponent_p + channel * COUNT, COUNT)
    i = tl.arange(0, SIZE)
    eh = tl.max(tl.load(top_p + channel * tiles + i, mask=i < tiles, other=1), axis=0)
    tl.store(shrink_p + channel, power(tl.where(eh == 255, 255, 254 - eh)))
    tl.store(gain_p + channel, power(ek) * power(eh) * root)


@triton.jit
def _load_spectrum(spectrum_p, shrink_p, channel, o, alive, plane):
    shrink = tl.load(shrink_p + channel)
    kr = tl.load(spectrum_p + channel * 2 * plane + o, mask=alive, other=0.0).to(tl.float32)
    ki = tl.load(spectrum_p + channel * 2 * plane + plane + o, mask=alive, other=0.0).to(tl.float32)
    return kr * shrink, ki * shrink


@triton.jit(do_not_specialize=["rows"])
def inner_product(
    work_p,
    spectrum_p,
    shrink_p,
    exponent_p,
    top_p,
    fa_p,
    tw_p,
    fb_p,
    rows,
    total,
    B,
    N1,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Inner rows to the spectrum, times the filter's, and back, in place, for `rows` of the `total` rows (channel, b)."""
    N2: tl.constexpr = NA * NB
    C: tl.constexpr = R * NB
    COUNT: tl.constexpr = N2 // T
    tiles = (N1 + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * rows
    c = tl.arange(0, C)
    o = q * R * N2 + tl.arange(0, NA)[:, None] * NB + ((c // NB) * N2 + c % NB)[None, :]
    far, fai, nfai, fbr, fbi, nfbi, twr, twi = _load_inner(fa_p, tw_p, fb_p, NA, C)
    for r in tl.range(0, rows, num_stages=STAGES):
        live = first + r < total
        row = _wide(tl.minimum(first + r, total - 1))
        alive = (q * R + c // NB < tl.where(live, N1, 0))[None, :]
        work = work_p + row * (2 * N1 * N2)
        top = _top(exponent_p + row * COUNT, COUNT)
        xr, xi = _load_rows(work, exponent_p + row * COUNT, top, o, alive, N1 * N2, NA, NB, T, DT)
        zr, zi = _inner_dft(xr, xi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
        kr, ki = _load_spectrum(spectrum_p, shrink_p, row // B, o, alive, N1 * N2)
        pr, pi = multiply(zr, zi, kr, ki)
        yr, yi = _inner_back(pr, pi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
        tl.store(work + o, yr.to(DT), mask=alive)
        tl.store(work + N1 * N2 + o, yi.to(DT), mask=alive)
        tl.store(top_p + row, top, mask=live)


@triton.jit(do_not_specialize=["channels"])
def inner_backward(
    work_p,
    spectrum_p,
    shrink_p,
    exponent_p,
    top_p,
    share_p,
    rank_p,
    fa_p,
    tw_p,
    fb_p,
    channels,
    total,
    B,
    N1,
    slab,
    GATED: tl.constexpr,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    STAGES: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Backward in the spectrum, for `channels` of the `total` channels and all their rows: Ŵ·K̂ and conj(K̂)·Ĝ go back in place, Σ conj(Ŵ)·Ĝ is kept.

    The workspaces of w and g lie `slab` rows apart; share_p (channels, 2, N1, N2) is float32, rank_p (channels, tiles) its exponents.
    """
    N2: tl.constexpr = NA * NB
    C: tl.constexpr = R * NB
    COUNT: tl.constexpr = N2 // T
    tiles = (N1 + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * channels
    c = tl.arange(0, C)
    o = q * R * N2 + tl.arange(0, NA)[:, None] * NB + ((c // NB) * N2 + c % NB)[None, :]
    plane = N1 * N2
    far, fai, nfai, fbr, fbi, nfbi, twr, twi = _load_inner(fa_p, tw_p, fb_p, NA, C)
    for i in range(channels):
        live = first + i < total
        channel = _wide(tl.minimum(first + i, total - 1))
        alive = (q * R + c // NB < tl.where(live, N1, 0))[None, :]
        sr = tl.zeros([NA, C], tl.float32)
        si = tl.zeros([NA, C], tl.float32)
        for b in tl.range(0, B, num_stages=STAGES):
            row = channel * B + b
            work = work_p + row * (2 * plane)
            work_g = work + slab.to(tl.int64) * (2 * plane)
            of_w = exponent_p + row * COUNT
            of_g = of_w + slab * COUNT
            top_w = _top(of_w, COUNT)
            top_g = _top(of_g, COUNT)
            tl.store(top_p + row, top_w)
            tl.store(top_p + row + slab, top_g)
            kr, ki = _load_spectrum(spectrum_p, shrink_p, channel, o, alive, plane)
            xr, xi = _load_rows(work, of_w, top_w, o, alive, plane, NA, NB, T, DT)
            zr, zi = _inner_dft(xr, xi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
            wr = zr.to(DT)
            wi = zi.to(DT)
            if GATED:
                pr, pi = multiply(zr, zi, kr, ki)
                yr, yi = _inner_back(pr, pi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
                tl.store(work + o, yr.to(DT), mask=alive)
                tl.store(work + plane + o, yi.to(DT), mask=alive)
            xr, xi = _load_rows(work_g, of_g, top_g, o, alive, plane, NA, NB, T, DT)
            gr, gi = _inner_dft(xr, xi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
            cr, ci = multiply(wr.to(tl.float32), -wi.to(tl.float32), gr, gi)
            back = power(top_w) * power(top_g)
            sr += cr * back
            si += ci * back
            qr, qi = multiply(gr, gi, kr, -ki)
            yr, yi = _inner_back(qr, qi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
            tl.store(work_g + o, yr.to(DT), mask=alive)
            tl.store(work_g + plane + o, yi.to(DT), mask=alive)
        share = share_p + channel * (2 * plane)
        tl.store(share + o, sr, mask=alive)
        tl.store(share + plane + o, si, mask=alive)
        h = row_exponents(tl.maximum(tl.abs(sr), tl.abs(si)), 1, 1)
        tl.store(rank_p + channel * tiles + q, h, mask=live)


@triton.jit(do_not_specialize=["rows"])
def inner_adjoint(
    share_p,
    rank_p,
    work_p,
    top_p,
    fa_p,
    tw_p,
    fb_p,
    rows,
    total,
    N1,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    SIZE: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """The spectrum of dk (channels, 2, N1, N2) float32: inner rows of `rows` of the `total` channels back, into a workspace of the working dtype."""
    N2: tl.constexpr = NA * NB
    C: tl.constexpr = R * NB
    tiles = (N1 + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * rows
    c = tl.arange(0, C)
    o = q * R * N2 + tl.arange(0, NA)[:, None] * NB + ((c // NB) * N2 + c % NB)[None, :]
    i = tl.arange(0, SIZE)
    far, fai, nfai, fbr, fbi, nfbi, twr, twi = _load_inner(fa_p, tw_p, fb_p, NA, C)
    for r in range(rows):
        live = first + r < total
        channel = _wide(tl.minimum(first + r, total - 1))
        alive = (q * R + c // NB < tl.where(live, N1, 0))[None, :]
        e = tl.max(tl.load(rank_p + channel * tiles + i, mask=i < tiles, other=1), axis=0)
        share = share_p + channel * (2 * N1 * N2)
        pr = scaled(tl.load(share + o, mask=alive, other=0.0), e, DT, 1)
        pi = scaled(tl.load(share + N1 * N2 + o, mask=alive, other=0.0), e, DT, 1)
        yr, yi = _inner_back(pr, pi, far, fai, nfai, fbr, fbi, nfbi, twr, twi, PREC)
        work = work_p + channel * (2 * N1 * N2)
        tl.store(work + o, yr.to(DT), mask=alive)
        tl.store(work + N1 * N2 + o, yi.to(DT), mask=alive)
        tl.store(top_p + channel, e, mask=live)
