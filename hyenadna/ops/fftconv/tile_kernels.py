"""Kernels for rows that fit on chip (L ≤ 8,192): one read of the inputs, one write of the outputs.

A program owns one channel and walks over rows of the batch, R rows to a tile. Filter spectra come from `tile_spectrum`, once per call;
the backward kernel gathers the spectrum of dk over its rows, and `tile_adjoint` sums these partial ones in a fixed order.
The skip term is part of the filter: bias is added to k[0].
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.fftconv.transforms import (
    load_planes,
    multiply,
    power,
    row_exponents,
    scaled,
    tile_dft,
    tile_inverse,
)


@triton.jit
def _load_tables(f1_p, f2_p, N1: tl.constexpr, C: tl.constexpr):
    o1 = tl.arange(0, N1)[:, None] * N1 + tl.arange(0, N1)[None, :]
    o2 = tl.arange(0, C)[:, None] * C + tl.arange(0, C)[None, :]
    return (
        tl.load(f1_p + o1),
        tl.load(f1_p + N1 * N1 + o1),
        tl.load(f2_p + o2),
        tl.load(f2_p + C * C + o2),
        tl.load(f2_p + 2 * C * C + o2),
    )


@triton.jit(do_not_specialize=["rounds"])
def tile_spectrum(
    k_p,
    bias_p,
    spectrum_p,
    gain_p,
    f1_p,
    tw_p,
    f2_p,
    rounds,
    D,
    L,
    root,
    N1: tl.constexpr,
    N2: tl.constexpr,
    R: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Spectra (D, 2, N1, N2) of filters, scaled to magnitudes in 1…2; gain (D,) takes √N and the scales back.

    A program takes `rounds` tiles of R filters.
    """
    C: tl.constexpr = N2 * R
    i1 = tl.arange(0, N1)
    c = tl.arange(0, C)
    n = i1[:, None] * N2 + (c % N2)[None, :]
    o = i1[:, None] * C + c[None, :]
    f1r, f1i, f2r, f2i, nf2i = _load_tables(f1_p, f2_p, N1, C)
    twr, twi = load_planes(tw_p, o, N1 * C)
    for i in range(rounds):
        d = ((tl.program_id(0) * rounds + i) * R + c // N2).to(tl.int64)
        alive = d < D
        k = tl.load(k_p + (d * L)[None, :] + n, mask=(n < L) & alive[None, :], other=0.0)
        bias = tl.load(bias_p + d, mask=alive, other=0.0)
        k += tl.where(n == 0, bias[None, :], 0.0)
        e = row_exponents(k, R, N2)
        zr, zi = tile_dft(scaled(k, e, DT, R), f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
        h = row_exponents(tl.maximum(tl.abs(zr), tl.abs(zi)), R, N2)
        place = (d * 2 * N1 * N2)[None, :] + n
        tl.store(spectrum_p + place, scaled(zr, h, DT, R), mask=alive[None, :])
        tl.store(spectrum_p + N1 * N2 + place, scaled(zi, h, DT, R), mask=alive[None, :])
        take_back = power(e) * power(h) * root + tl.zeros([1, C], tl.float32)
        tl.store(gain_p + d[None, :], take_back, mask=((c % N2 == 0) & alive)[None, :])


@triton.jit(do_not_specialize=["rows"])
def tile_forward(
    x0_p,
    x1_p,
    v_p,
    y_p,
    spectrum_p,
    gain_p,
    f1_p,
    tw_p,
    f2_p,
    rows,
    B,
    D,
    L,
    x0_b,
    x0_d,
    x1_b,
    x1_d,
    v_b,
    v_d,
    GATED: tl.constexpr,
    N1: tl.constexpr,
    N2: tl.constexpr,
    R: tl.constexpr,
    STAGES: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Compute y = x0 ∘ (k ⊛ (x1 ∘ v)) for one channel and rows·R rows of the batch."""
    C: tl.constexpr = N2 * R
    d = (tl.program_id(0) % D).to(tl.int64)
    first_row = (tl.program_id(0) // D).to(tl.int64) * (rows * R)
    i1 = tl.arange(0, N1)
    c = tl.arange(0, C)
    n = i1[:, None] * N2 + (c % N2)[None, :]
    o = i1[:, None] * C + c[None, :]
    f1r, f1i, f2r, f2i, nf2i = _load_tables(f1_p, f2_p, N1, C)
    gain = tl.load(gain_p + d)
    for i in tl.range(0, rows, num_stages=STAGES):
        b = first_row + i * R + c // N2
        mask = (n < L) & (b < B)[None, :]
        w = tl.load(v_p + (b * v_b + d * v_d)[None, :] + n, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            w *= tl.load(x1_p + (b * x1_b + d * x1_d)[None, :] + n, mask=mask, other=0.0).to(
                tl.float32
            )
        e = row_exponents(w, R, N2)
        twr, twi = load_planes(tw_p, o, N1 * C)
        zr, zi = tile_dft(scaled(w, e, DT, R), f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
        kr, ki = load_planes(spectrum_p + d * 2 * N1 * N2, n, N1 * N2)
        pr, pi = multiply(zr, zi, kr, ki)
        y = tile_inverse(pr, pi, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC) * (power(e) * gain)
        if GATED:
            y *= tl.load(x0_p + (b * x0_b + d * x0_d)[None, :] + n, mask=mask, other=0.0).to(
                tl.float32
            )
        tl.store(y_p + ((b * D + d) * L)[None, :] + n, y.to(y_p.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows"])
def tile_backward(
    dy_p,
    x0_p,
    x1_p,
    v_p,
    dx0_p,
    dx1_p,
    dv_p,
    dspectrum_p,
    dbias_p,
    spectrum_p,
    gain_p,
    f1_p,
    tw_p,
    f2_p,
    rows,
    B,
    D,
    L,
    dy_b,
    dy_d,
    x0_b,
    x0_d,
    x1_b,
    x1_d,
    v_b,
    v_d,
    GATED: tl.constexpr,
    N1: tl.constexpr,
    N2: tl.constexpr,
    R: tl.constexpr,
    STAGES: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Gradients of the signals, and this program's share Σ conj(Ŵ)·Ĝ of the filter's spectrum, (programs, 2, N1, C) float32, and of dbias."""
    C: tl.constexpr = N2 * R
    d = (tl.program_id(0) % D).to(tl.int64)
    first_row = (tl.program_id(0) // D).to(tl.int64) * (rows * R)
    i1 = tl.arange(0, N1)
    c = tl.arange(0, C)
    n = i1[:, None] * N2 + (c % N2)[None, :]
    o = i1[:, None] * C + c[None, :]
    f1r, f1i, f2r, f2i, nf2i = _load_tables(f1_p, f2_p, N1, C)
    gain = tl.load(gain_p + d)
    share_p = dspectrum_p + tl.program_id(0).to(tl.int64) * (2 * N1 * C) + o
    sr = tl.zeros([N1, C], tl.float32)
    si = tl.zeros([N1, C], tl.float32)
    skip = 0.0
    for i in tl.range(0, rows, num_stages=STAGES):
        b = first_row + i * R + c // N2
        mask = (n < L) & (b < B)[None, :]
        out = ((b * D + d) * L)[None, :] + n
        at_v = v_p + (b * v_b + d * v_d)[None, :] + n
        at_x1 = x1_p + (b * x1_b + d * x1_d)[None, :] + n
        at_dy = dy_p + (b * dy_b + d * dy_d)[None, :] + n
        twr, twi = load_planes(tw_p, o, N1 * C)
        kr, ki = load_planes(spectrum_p + d * 2 * N1 * N2, n, N1 * N2)

        w = tl.load(at_v, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            w *= tl.load(at_x1, mask=mask, other=0.0).to(tl.float32)
        ew = row_exponents(w, R, N2)
        x = scaled(w, ew, DT, R)
        zr, zi = tile_dft(x, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
        wr = zr.to(DT)
        wi = zi.to(DT)
        g = tl.load(at_dy, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            pr, pi = multiply(zr, zi, kr, ki)
            y = tile_inverse(pr, pi, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
            y *= power(ew) * gain
            tl.store(dx0_p + out, (g * y).to(dx0_p.dtype.element_ty), mask=mask)
            x0 = tl.load(x0_p + (b * x0_b + d * x0_d)[None, :] + n, mask=mask, other=0.0)
            g *= x0.to(tl.float32)

        skip += tl.sum(tl.sum(g * x.to(tl.float32) * power(ew), axis=1), axis=0)
        eg = row_exponents(g, R, N2)
        gr, gi = tile_dft(scaled(g, eg, DT, R), f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
        back = power(ew) * power(eg)
        cr, ci = multiply(wr.to(tl.float32), -wi.to(tl.float32), gr, gi)
        sr += cr * back
        si += ci * back
        qr, qi = multiply(gr, gi, kr, -ki)
        dw = tile_inverse(qr, qi, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
        dw *= power(eg) * gain
        if GATED:
            v = tl.load(at_v, mask=mask, other=0.0).to(tl.float32)
            x1 = tl.load(at_x1, mask=mask, other=0.0).to(tl.float32)
            tl.store(dx1_p + out, (dw * v).to(dx1_p.dtype.element_ty), mask=mask)
            dw *= x1
        tl.store(dv_p + out, dw.to(dv_p.dtype.element_ty), mask=mask)
    tl.store(share_p, sr)
    tl.store(share_p + N1 * C, si)
    tl.store(dbias_p + tl.program_id(0), skip)


@triton.jit(do_not_specialize=["rounds"])
def tile_adjoint(
    dspectrum_p,
    dk_p,
    f1_p,
    tw_p,
    f2_p,
    rounds,
    D,
    L,
    chunks,
    root,
    N1: tl.constexpr,
    N2: tl.constexpr,
    R: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Sum the shares of `chunks` programs and of the R rows of their tiles, and transform back to dk (D, L).

    A program takes `rounds` tiles of R channels.
    """
    C: tl.constexpr = N2 * R
    i1 = tl.arange(0, N1)
    c = tl.arange(0, C)
    n = i1[:, None] * N2 + (c % N2)[None, :]
    o = i1[:, None] * C + c[None, :]
    f1r, f1i, f2r, f2i, nf2i = _load_tables(f1_p, f2_p, N1, C)
    twr, twi = load_planes(tw_p, o, N1 * C)
    for i in range(rounds):
        d = ((tl.program_id(0) * rounds + i) * R + c // N2).to(tl.int64)
        alive = (d < D)[None, :]
        sr = tl.zeros([N1, C], tl.float32)
        si = tl.zeros([N1, C], tl.float32)
        for j in range(chunks * R):
            share = ((j // R) * D + d) * (2 * N1 * C) + (j % R) * N2 + c % N2
            place = dspectrum_p + share[None, :] + (i1 * C)[:, None]
            sr += tl.load(place, mask=alive, other=0.0)
            si += tl.load(place + N1 * C, mask=alive, other=0.0)
        e = row_exponents(tl.maximum(tl.abs(sr), tl.abs(si)), R, N2)
        pr = scaled(sr, e, DT, R)
        pi = scaled(si, e, DT, R)
        dk = tile_inverse(pr, pi, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC)
        tl.store(dk_p + (d * L)[None, :] + n, dk * (power(e) * root), mask=alive & (n < L))
