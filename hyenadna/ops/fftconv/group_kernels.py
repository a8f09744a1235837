"""Kernels for long rows (L > 8,192): persistent groups of programs whose intermediates stay in the L2 cache.

N = N1·N2, N2 = NA·NB. Each group takes a channel at a time: the filter's spectrum first, then row after row of the batch in two steps
with a barrier of the group after each: **outer**, on column tiles (the last row's inverse and this row's transform), and **inner**, on
rows f1. A group's workspace holds one row, so that device memory sees little but the inputs and outputs.

Half-precision intermediates carry a power-of-two exponent for each tile; the inner step brings them to one scale per row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.fftconv.transforms import (
    clamp_exponent,
    exponents,
    left,
    load_planes,
    multiply,
    power,
    right,
    scaled,
)


@triton.jit
def _barrier(counter_p, arrivals, G: tl.constexpr):
    """Wait until all G programs of the group have come here; their stores are visible afterwards."""
    tl.debug_barrier()
    if G > 1:
        tl.atomic_add(counter_p, 1, sem="release", scope="gpu")
        while tl.atomic_add(counter_p, 0, sem="acquire", scope="gpu") < arrivals:
            pass
        tl.debug_barrier()


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


@triton.jit
def _outer_forward(
    p,
    q,
    skip,
    work_p,
    exponent_p,
    f1_p,
    tc_p,
    tj_p,
    t,
    L,
    N1,
    PAIR: tl.constexpr,
    SKIP: tl.constexpr,
    M1: tl.constexpr,
    BLK: tl.constexpr,
    N2: tl.constexpr,
    T: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform the columns of tile t over n1, apply the twiddles, and store them with the tile's exponent."""
    i = tl.arange(0, BLK)
    j = tl.arange(0, BLK)
    n2 = t * T + tl.arange(0, T)
    n = i[:, None] * N2 + n2[None, :]
    w = _signal(p, q, n, n < L, skip, PAIR, SKIP)
    e = tl.max(exponents(w), axis=0)
    for block in range(1, M1 // BLK):
        more = n + block * BLK * N2
        e = tl.maximum(e, tl.max(exponents(_signal(p, q, more, more < L, skip, PAIR, False)), axis=0))
    e = clamp_exponent(e)
    tl.store(exponent_p + t, e)
    for fb in range(M1 // BLK):
        f1 = fb * BLK + i
        ar = tl.zeros([BLK, T], tl.float32)
        ai = tl.zeros([BLK, T], tl.float32)
        for kb in range(M1 // BLK):
            if M1 > BLK:
                more = n + kb * BLK * N2
                w = _signal(p, q, more, more < L, skip, PAIR, SKIP)
            x = scaled(w, e, DT)
            o = f1[:, None] * M1 + (kb * BLK + j)[None, :]
            ar = tl.dot(tl.load(f1_p + o), x, ar, input_precision=PREC)
            ai = tl.dot(tl.load(f1_p + M1 * M1 + o), x, ai, input_precision=PREC)
        twr, twi = _outer_twiddle(tc_p, tj_p, t, f1, M1, N2, T)
        tr, ti = multiply(ar, ai, twr, twi)
        place = work_p + f1[:, None] * N2 + n2[None, :]
        alive = (f1 < N1)[:, None] & (n2 < N2)[None, :]
        tl.store(place, tr.to(DT), mask=alive)
        tl.store(place + N1 * N2, ti.to(DT), mask=alive)


@triton.jit
def _outer_inverse(
    work_p,
    f1_p,
    tc_p,
    tj_p,
    t,
    kb,
    N1,
    M1: tl.constexpr,
    BLK: tl.constexpr,
    N2: tl.constexpr,
    T: tl.constexpr,
    PREC: tl.constexpr,
):
    """Return the real signal at positions n1 in block kb of the columns of tile t, (BLK, T) float32."""
    i = tl.arange(0, BLK)
    j = tl.arange(0, BLK)
    n2 = t * T + tl.arange(0, T)
    y = tl.zeros([BLK, T], tl.float32)
    for fb in range(M1 // BLK):
        f1 = fb * BLK + i
        place = work_p + f1[:, None] * N2 + n2[None, :]
        alive = (f1 < N1)[:, None] & (n2 < N2)[None, :]
        vr = tl.load(place, mask=alive, other=0.0).to(tl.float32)
        vi = tl.load(place + N1 * N2, mask=alive, other=0.0).to(tl.float32)
        twr, twi = _outer_twiddle(tc_p, tj_p, t, f1, M1, N2, T)
        ur, ui = multiply(vr, vi, twr, -twi)
        # The transposed block F1[f1, n1], read row by row and turned on chip.
        o = f1[:, None] * M1 + (kb * BLK + j)[None, :]
        fr = tl.load(f1_p + o)
        fi = tl.load(f1_p + M1 * M1 + o)
        y = tl.dot(tl.trans(fr), ur.to(fr.dtype), y, input_precision=PREC)
        y = tl.dot(tl.trans(fi), ui.to(fr.dtype), y, input_precision=PREC)
    return y


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
        tl.load(tw_p + ot),
        tl.load(tw_p + NA * C + ot),
    )


@triton.jit
def _inner_forward(
    work_p,
    exponent_p,
    top,
    o,
    alive,
    plane,
    far,
    fai,
    nfai,
    fbr,
    fbi,
    nfbi,
    twr,
    twi,
    NA: tl.constexpr,
    NB: tl.constexpr,
    T: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Load inner rows, bring the tiles of the outer step to the scale 2^(top − 127), and transform."""
    e = tl.load(exponent_p + tl.arange(0, NA) * NB // T) + 127 - top
    factor = tl.where(e > 0, power(tl.maximum(e, 1)), 0.0)[:, None].to(DT)
    xr = tl.load(work_p + o, mask=alive, other=0.0) * factor
    xi = tl.load(work_p + plane + o, mask=alive, other=0.0) * factor
    ar, ai = left(far, fai, nfai, xr, xi, False, PREC)
    tr, ti = multiply(ar, ai, twr.to(tl.float32), twi.to(tl.float32))
    return right(tr, ti, fbr, fbi, nfbi, False, PREC)


@triton.jit
def _inner_inverse(
    pr,
    pi,
    work_p,
    o,
    alive,
    plane,
    far,
    fai,
    nfai,
    fbr,
    fbi,
    nfbi,
    twr,
    twi,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Transform back and store where the inner rows were."""
    vr, vi = right(pr, pi, fbr, fbi, nfbi, True, PREC)
    ur, ui = multiply(vr, vi, twr.to(tl.float32), -twi.to(tl.float32))
    yr, yi = left(far, fai, nfai, ur, ui, True, PREC)
    tl.store(work_p + o, yr.to(DT), mask=alive)
    tl.store(work_p + plane + o, yi.to(DT), mask=alive)


@triton.jit
def _top(exponent_p, count, SIZE: tl.constexpr):
    """Return the largest of `count` exponents."""
    i = tl.arange(0, SIZE)
    return tl.max(tl.load(exponent_p + i, mask=i < count, other=1), axis=0)


@triton.jit
def group_convolution(
    dy_p,
    x0_p,
    x1_p,
    v_p,
    k_p,
    bias_p,
    y_p,
    dx0_p,
    dx1_p,
    dv_p,
    dk_p,
    work_p,
    spectrum_p,
    share_p,
    exponent_p,
    counter_p,
    f1_p,
    tc_p,
    tj_p,
    fa_p,
    tw_p,
    fb_p,
    B,
    D,
    L,
    root,
    groups,
    N1,
    dy_b,
    dy_d,
    x0_b,
    x0_d,
    x1_b,
    x1_d,
    v_b,
    v_d,
    BACKWARD: tl.constexpr,
    GATED: tl.constexpr,
    G: tl.constexpr,
    M1: tl.constexpr,
    BLK: tl.constexpr,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    SLOTS: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Convolve (forward) or give all gradients (backward) for channels group, group + groups, …

    Workspace of a group: work (1 or 2, 2, N1, N2) and spectrum (2, N1, N2) of the working dtype, share (2, N1, N2) float32 in the backward
    pass, exponents (7, SLOTS) int32, and a counter that starts at zero.
    """
    N2: tl.constexpr = NA * NB
    C: tl.constexpr = R * NB
    TILES: tl.constexpr = N2 // T
    group = tl.program_id(0) // G
    member = tl.program_id(0) % G
    plane = N1 * N2
    inner_tiles = (N1 + R - 1) // R
    group64 = _wide(group)
    if BACKWARD:
        work_p += group64 * 4 * plane
    else:
        work_p += group64 * 2 * plane
    work_g_p = work_p + 2 * plane
    spectrum_p += group64 * 2 * plane
    share_p += group64 * 2 * plane
    exponent_p += group * 7 * SLOTS
    # Exponents: w and g for even and odd rows, k, its spectrum, the spectrum of dk.
    of_k = exponent_p + 4 * SLOTS
    of_spectrum = exponent_p + 5 * SLOTS
    of_share = exponent_p + 6 * SLOTS
    counter_p += group

    i = tl.arange(0, BLK)
    c = tl.arange(0, C)
    inner = tl.arange(0, NA)[:, None] * NB + ((c // NB) * N2 + c % NB)[None, :]
    far, fai, nfai, fbr, fbi, nfbi, twr, twi = _load_inner(fa_p, tw_p, fb_p, NA, C)
    arrivals = 0

    for d in range(group, D, groups):
        d64 = _wide(d)
        k_row = k_p + d64 * L
        skip = tl.load(bias_p + d)
        for t in range(member, TILES, G):
            tl.debug_barrier()
            _outer_forward(
                k_row, k_row, skip, work_p, of_k, f1_p, tc_p, tj_p, t, L, N1,
                False, True, M1, BLK, N2, T, DT, PREC,
            )  # fmt: skip
        arrivals += G
        _barrier(counter_p, arrivals, G)
        ek = _top(of_k, TILES, SLOTS)
        for q in range(member, inner_tiles, G):
            o = q * R * N2 + inner
            alive = (q * R + c // NB < N1)[None, :]
            zr, zi = _inner_forward(
                work_p, of_k, ek, o, alive, plane,
                far, fai, nfai, fbr, fbi, nfbi, twr, twi, NA, NB, T, DT, PREC,
            )  # fmt: skip
            h = tl.max(exponents(tl.maximum(tl.abs(zr), tl.abs(zi))), axis=0)
            tl.store(of_spectrum + q, clamp_exponent(h))
            # Magnitudes are at most √N times the filter's largest: in range of float16 up to N = 2^30.
            tl.store(spectrum_p + o, zr.to(DT), mask=alive)
            tl.store(spectrum_p + plane + o, zi.to(DT), mask=alive)
        arrivals += G
        _barrier(counter_p, arrivals, G)
        eh = _top(of_spectrum, inner_tiles, SLOTS)
        shrink = power(tl.where(eh == 255, 255, 254 - eh))
        gain = power(ek) * power(eh) * root

        for b in range(B + 1):
            b64 = _wide(b)
            of_w = exponent_p + (b % 2) * SLOTS
            of_g = of_w + 2 * SLOTS
            # Outer: the last row's way back, this row's way in.
            for t in range(member, TILES, G):
                tl.debug_barrier()
                if b > 0:
                    back_w = exponent_p + ((b + 1) % 2) * SLOTS
                    last = (b64 - 1) * D + d64
                    ew = _top(back_w, TILES, SLOTS)
                    if BACKWARD:
                        eg = _top(back_w + 2 * SLOTS, TILES, SLOTS)
                    for kb in range(M1 // BLK):
                        n = (kb * BLK + i)[:, None] * N2 + (t * T + tl.arange(0, T))[None, :]
                        mask = n < L
                        if BACKWARD:
                            dw = _outer_inverse(work_g_p, f1_p, tc_p, tj_p, t, kb, N1, M1, BLK, N2, T, PREC)
                            dw *= power(eg) * gain
                            if GATED:
                                v = tl.load(v_p + (b64 - 1) * v_b + d64 * v_d + n, mask=mask, other=0.0)
                                tl.store(dx1_p + last * L + n, (dw * v.to(tl.float32)).to(dx1_p.dtype.element_ty), mask=mask)
                                x1 = tl.load(x1_p + (b64 - 1) * x1_b + d64 * x1_d + n, mask=mask, other=0.0)
                                dw *= x1.to(tl.float32)
                            tl.store(dv_p + last * L + n, dw.to(dv_p.dtype.element_ty), mask=mask)
                            if GATED:
                                y = _outer_inverse(work_p, f1_p, tc_p, tj_p, t, kb, N1, M1, BLK, N2, T, PREC)
                                dy = tl.load(dy_p + (b64 - 1) * dy_b + d64 * dy_d + n, mask=mask, other=0.0)
                                y *= power(ew) * gain * dy.to(tl.float32)
                                tl.store(dx0_p + last * L + n, y.to(dx0_p.dtype.element_ty), mask=mask)
                        else:
                            y = _outer_inverse(work_p, f1_p, tc_p, tj_p, t, kb, N1, M1, BLK, N2, T, PREC)
                            y *= power(ew) * gain
                            if GATED:
                                x0 = tl.load(x0_p + (b64 - 1) * x0_b + d64 * x0_d + n, mask=mask, other=0.0)
                                y *= x0.to(tl.float32)
                            tl.store(y_p + last * L + n, y.to(y_p.dtype.element_ty), mask=mask)
                    tl.debug_barrier()
                if b < B:
                    _outer_forward(
                        v_p + b64 * v_b + d64 * v_d, x1_p + b64 * x1_b + d64 * x1_d, 0.0, work_p, of_w,
                        f1_p, tc_p, tj_p, t, L, N1, GATED, False, M1, BLK, N2, T, DT, PREC,
                    )  # fmt: skip
                    if BACKWARD:
                        _outer_forward(
                            dy_p + b64 * dy_b + d64 * dy_d, x0_p + b64 * x0_b + d64 * x0_d, 0.0, work_g_p, of_g,
                            f1_p, tc_p, tj_p, t, L, N1, GATED, False, M1, BLK, N2, T, DT, PREC,
                        )  # fmt: skip
            arrivals += G
            _barrier(counter_p, arrivals, G)
            if b < B:
                # Inner: to the spectrum, the product, and back.
                ew = _top(of_w, TILES, SLOTS)
                if BACKWARD:
                    eg = _top(of_g, TILES, SLOTS)
                    back = power(ew) * power(eg)
                for q in range(member, inner_tiles, G):
                    o = q * R * N2 + inner
                    alive = (q * R + c // NB < N1)[None, :]
                    zr, zi = _inner_forward(
                        work_p, of_w, ew, o, alive, plane,
                        far, fai, nfai, fbr, fbi, nfbi, twr, twi, NA, NB, T, DT, PREC,
                    )  # fmt: skip
                    kr = tl.load(spectrum_p + o, mask=alive, other=0.0).to(tl.float32) * shrink
                    ki = tl.load(spectrum_p + plane + o, mask=alive, other=0.0).to(tl.float32) * shrink
                    if GATED or not BACKWARD:
                        pr, pi = multiply(zr, zi, kr, ki)
                        _inner_inverse(
                            pr, pi, work_p, o, alive, plane,
                            far, fai, nfai, fbr, fbi, nfbi, twr, twi, DT, PREC,
                        )  # fmt: skip
                    if BACKWARD:
                        wr = zr.to(DT)
                        wi = zi.to(DT)
                        gr, gi = _inner_forward(
                            work_g_p, of_g, eg, o, alive, plane,
                            far, fai, nfai, fbr, fbi, nfbi, twr, twi, NA, NB, T, DT, PREC,
                        )  # fmt: skip
                        qr, qi = multiply(gr, gi, kr, -ki)
                        cr, ci = multiply(wr.to(tl.float32), -wi.to(tl.float32), gr * back, gi * back)
                        if b > 0:
                            cr += tl.load(share_p + o, mask=alive, other=0.0)
                            ci += tl.load(share_p + plane + o, mask=alive, other=0.0)
                        tl.store(share_p + o, cr, mask=alive)
                        tl.store(share_p + plane + o, ci, mask=alive)
                        if b == B - 1:
                            h = tl.max(exponents(tl.where(alive, tl.maximum(tl.abs(cr), tl.abs(ci)), 0.0)), axis=0)
                            tl.store(of_share + q, clamp_exponent(h))
                        _inner_inverse(
                            qr, qi, work_g_p, o, alive, plane,
                            far, fai, nfai, fbr, fbi, nfbi, twr, twi, DT, PREC,
                        )  # fmt: skip
                arrivals += G
                _barrier(counter_p, arrivals, G)

        if BACKWARD:
            # The filter's gradient: its spectrum's way back. The barrier after the last outer step has been passed.
            es = _top(of_share, inner_tiles, SLOTS)
            for q in range(member, inner_tiles, G):
                o = q * R * N2 + inner
                alive = (q * R + c // NB < N1)[None, :]
                cr = tl.load(share_p + o, mask=alive, other=0.0)
                ci = tl.load(share_p + plane + o, mask=alive, other=0.0)
                _inner_inverse(
                    scaled(cr, es, DT), scaled(ci, es, DT), work_p, o, alive, plane,
                    far, fai, nfai, fbr, fbi, nfbi, twr, twi, DT, PREC,
                )  # fmt: skip
            arrivals += G
            _barrier(counter_p, arrivals, G)
            for t in range(member, TILES, G):
                for kb in range(M1 // BLK):
                    n = (kb * BLK + i)[:, None] * N2 + (t * T + tl.arange(0, T))[None, :]
                    dk = _outer_inverse(work_p, f1_p, tc_p, tj_p, t, kb, N1, M1, BLK, N2, T, PREC)
                    tl.store(dk_p + d64 * L + n, dk * (power(es) * root), mask=n < L)
