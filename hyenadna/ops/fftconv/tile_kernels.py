"""Kernels for rows that fit on chip (L ≤ 8,192): a row is read once, stays on chip as an (N1, N2) tile, and is written once.

A program owns one channel and walks over rows of the batch. Filter spectra come from `tile_spectrum`, once per call; the backward
kernel gathers the spectrum of dk over its rows, and `tile_adjoint` sums these partial ones in a fixed order. The skip term is part of
the filter: bias is added to k[0].

Two forms of the transforms: with STACKED, real and imaginary parts share their matrix products, fewer to wait for. Large tiles have no
registers for that.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.fftconv.transforms import (
    above,
    complex_exponent,
    exponent,
    left_real,
    load_matrix,
    load_planes,
    multiply,
    power,
    right,
    scaled,
)


@triton.jit
def _tables(f1_p, f2_p, N1: tl.constexpr, N2: tl.constexpr, STACKED: tl.constexpr):
    """Load the outer DFT f1, f1i and the inner one f2, f2i, nf2i; stacked ones are f1 and f2 alone, and stand in for the others."""
    if STACKED:
        f1 = load_matrix(f1_p, 2 * N1, N1)
        f2 = load_matrix(f2_p, 2 * N2, 2 * N2)
        f1i = f1
        f2i = f2
        nf2i = f2
    else:
        f1 = load_matrix(f1_p, N1, N1)
        f1i = load_matrix(f1_p + N1 * N1, N1, N1)
        f2 = load_matrix(f2_p, N2, N2)
        f2i = load_matrix(f2_p + N2 * N2, N2, N2)
        nf2i = load_matrix(f2_p + 2 * N2 * N2, N2, N2)
    return f1, f1i, f2, f2i, nf2i


@triton.jit
def _dft(x, f1, f1i, f2, f2i, nf2i, twr, twi, STACKED: tl.constexpr, PREC: tl.constexpr):
    """Transform a real tile: outer DFT from the left, twiddles, inner DFT from the right."""
    if STACKED:
        ar, ai = left_real(f1, x, PREC)
        tr, ti = multiply(ar, ai, twr, twi)
        zr, zi = right(tr, ti, f2, False, PREC)
    else:
        ar = tl.dot(f1, x, input_precision=PREC)
        ai = tl.dot(f1i, x, input_precision=PREC)
        tr, ti = multiply(ar, ai, twr, twi)
        tr = tr.to(x.dtype)
        ti = ti.to(x.dtype)
        zr = tl.dot(ti, nf2i, tl.dot(tr, f2, input_precision=PREC), input_precision=PREC)
        zi = tl.dot(ti, f2, tl.dot(tr, f2i, input_precision=PREC), input_precision=PREC)
    return zr, zi


@triton.jit
def _inverse(pr, pi, f1, f1i, f2, f2i, nf2i, twr, twi, STACKED: tl.constexpr, PREC: tl.constexpr):
    """Return the real part of the inverse of `_dft`."""
    DT: tl.constexpr = f1.dtype
    if STACKED:
        vr, vi = right(pr, pi, f2, True, PREC)
        ur, ui = multiply(vr, vi, twr, -twi)
        y = tl.dot(tl.trans(f1), above(ur.to(DT), ui.to(DT)), input_precision=PREC)
    else:
        pr = pr.to(DT)
        pi = pi.to(DT)
        vr = tl.dot(pi, f2i, tl.dot(pr, f2, input_precision=PREC), input_precision=PREC)
        vi = tl.dot(pr, nf2i, tl.dot(pi, f2, input_precision=PREC), input_precision=PREC)
        ur, ui = multiply(vr, vi, twr, -twi)
        y = tl.dot(tl.trans(f1), ur.to(DT), input_precision=PREC)
        y = tl.dot(tl.trans(f1i), ui.to(DT), y, input_precision=PREC)
    return y


@triton.jit(do_not_specialize=["rounds", "D", "chunks"])
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
    STACKED: tl.constexpr,
    PREC: tl.constexpr,
):
    """Spectra (D, 2, N1, N2) of filters, scaled to magnitudes in 1…2; gain (D,) takes √N and the scales back. A program takes `rounds` filters."""
    DT: tl.constexpr = spectrum_p.dtype.element_ty
    n = tl.arange(0, N1)[:, None] * N2 + tl.arange(0, N2)[None, :]
    f1, f1i, f2, f2i, nf2i = _tables(f1_p, f2_p, N1, N2, STACKED)
    twr, twi = load_planes(tw_p, n, N1 * N2)
    for i in range(rounds):
        d = (tl.program_id(0) * rounds + i).to(tl.int64)
        alive = d < D
        k = tl.load(k_p + d * L + n, mask=n < tl.where(alive, L, 0), other=0.0)
        k += tl.where(n == 0, tl.load(bias_p + d, mask=alive, other=0.0), 0.0)
        e = exponent(k)
        zr, zi = _dft(scaled(k, e, DT), f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC)
        h = complex_exponent(zr, zi)
        inside = n < tl.where(alive, N1 * N2, 0)
        spectrum = spectrum_p + d * (2 * N1 * N2)
        tl.store(spectrum + n, scaled(zr, h, DT), mask=inside)
        tl.store(spectrum + N1 * N2 + n, scaled(zi, h, DT), mask=inside)
        tl.store(gain_p + d, power(e) * power(h) * root, mask=alive)


@triton.jit(do_not_specialize=["rows", "B", "D"])
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
    STACKED: tl.constexpr,
    HOIST: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Compute y = x0 ∘ (k ⊛ (x1 ∘ v)) for one channel and `rows` rows of the batch. With HOIST the twiddles stay in registers."""
    DT: tl.constexpr = spectrum_p.dtype.element_ty
    d = (tl.program_id(0) % D).to(tl.int64)
    first_row = (tl.program_id(0) // D).to(tl.int64) * rows
    n = tl.arange(0, N1)[:, None] * N2 + tl.arange(0, N2)[None, :]
    f1, f1i, f2, f2i, nf2i = _tables(f1_p, f2_p, N1, N2, STACKED)
    gain = tl.load(gain_p + d)
    if HOIST:
        twr, twi = load_planes(tw_p, n, N1 * N2)
    for i in tl.range(0, rows, num_stages=STAGES):
        b = first_row + i
        mask = n < tl.where(b < B, L, 0)
        w = tl.load(v_p + b * v_b + d * v_d + n, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            w *= tl.load(x1_p + b * x1_b + d * x1_d + n, mask=mask, other=0.0).to(tl.float32)
        e = exponent(w)
        if not HOIST:
            twr, twi = load_planes(tw_p, n, N1 * N2)
        zr, zi = _dft(scaled(w, e, DT), f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC)
        kr, ki = load_planes(spectrum_p + d * (2 * N1 * N2), n, N1 * N2)
        pr, pi = multiply(zr, zi, kr, ki)
        y = _inverse(pr, pi, f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC) * (power(e) * gain)
        if GATED:
            y *= tl.load(x0_p + b * x0_b + d * x0_d + n, mask=mask, other=0.0).to(tl.float32)
        tl.store(y_p + (b * D + d) * L + n, y.to(y_p.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows", "B", "D"])
def tile_backward(
    dy_p,
    x0_p,
    x1_p,
    v_p,
    dx0_p,
    dx1_p,
    dv_p,
    share_p,
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
    STACKED: tl.constexpr,
    HOIST: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Gradients of the signals, and this program's share Σ conj(Ŵ)·Ĝ of the filter's spectrum, (programs, 2, N1, N2) float32, and of dbias.

    With HOIST twiddles and the filter's spectrum stay in registers, else they are loaded again wherever they are used.
    """
    DT: tl.constexpr = spectrum_p.dtype.element_ty
    d = (tl.program_id(0) % D).to(tl.int64)
    first_row = (tl.program_id(0) // D).to(tl.int64) * rows
    n = tl.arange(0, N1)[:, None] * N2 + tl.arange(0, N2)[None, :]
    f1, f1i, f2, f2i, nf2i = _tables(f1_p, f2_p, N1, N2, STACKED)
    gain = tl.load(gain_p + d)
    if HOIST:
        twr, twi = load_planes(tw_p, n, N1 * N2)
        kr, ki = load_planes(spectrum_p + d * (2 * N1 * N2), n, N1 * N2)
    sr = tl.zeros([N1, N2], tl.float32)
    si = tl.zeros([N1, N2], tl.float32)
    skip = 0.0
    for i in tl.range(0, rows, num_stages=STAGES):
        b = first_row + i
        mask = n < tl.where(b < B, L, 0)
        out = (b * D + d) * L + n
        at_v = v_p + b * v_b + d * v_d + n
        at_x1 = x1_p + b * x1_b + d * x1_d + n
        w = tl.load(at_v, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            w *= tl.load(at_x1, mask=mask, other=0.0).to(tl.float32)
        ew = exponent(w)
        x = scaled(w, ew, DT)
        if not HOIST:
            twr, twi = load_planes(tw_p, n, N1 * N2)
        zr, zi = _dft(x, f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC)
        wr = zr.to(DT)
        wi = zi.to(DT)
        g = tl.load(dy_p + b * dy_b + d * dy_d + n, mask=mask, other=0.0).to(tl.float32)
        if GATED:
            if not HOIST:
                kr, ki = load_planes(spectrum_p + d * (2 * N1 * N2), n, N1 * N2)
            pr, pi = multiply(zr, zi, kr, ki)
            y = _inverse(pr, pi, f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC) * (
                power(ew) * gain
            )
            tl.store(dx0_p + out, (g * y).to(dx0_p.dtype.element_ty), mask=mask)
            g *= tl.load(x0_p + b * x0_b + d * x0_d + n, mask=mask, other=0.0).to(tl.float32)
        # x is w in half the registers.
        skip += tl.sum(tl.sum(g * x.to(tl.float32) * power(ew), axis=1), axis=0)
        eg = exponent(g)
        if not HOIST:
            twr, twi = load_planes(tw_p, n, N1 * N2)
        gr, gi = _dft(scaled(g, eg, DT), f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC)
        cr, ci = multiply(wr.to(tl.float32), -wi.to(tl.float32), gr, gi)
        back = power(ew) * power(eg)
        sr += cr * back
        si += ci * back
        if not HOIST:
            kr, ki = load_planes(spectrum_p + d * (2 * N1 * N2), n, N1 * N2)
        qr, qi = multiply(gr, gi, kr, -ki)
        dw = _inverse(qr, qi, f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC) * (power(eg) * gain)
        if GATED:
            v = tl.load(at_v, mask=mask, other=0.0).to(tl.float32)
            x1 = tl.load(at_x1, mask=mask, other=0.0).to(tl.float32)
            tl.store(dx1_p + out, (dw * v).to(dx1_p.dtype.element_ty), mask=mask)
            dw *= x1
        tl.store(dv_p + out, dw.to(dv_p.dtype.element_ty), mask=mask)
    share = share_p + tl.program_id(0).to(tl.int64) * (2 * N1 * N2) + n
    tl.store(share, sr)
    tl.store(share + N1 * N2, si)
    tl.store(dbias_p + tl.program_id(0), skip)


@triton.jit(do_not_specialize=["rounds", "D", "chunks"])
def tile_adjoint(
    share_p,
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
    STACKED: tl.constexpr,
    DT: tl.constexpr,
    PREC: tl.constexpr,
):
    """Sum the shares of `chunks` programs, and transform back to dk (D, L). A program takes `rounds` channels."""
    n = tl.arange(0, N1)[:, None] * N2 + tl.arange(0, N2)[None, :]
    f1, f1i, f2, f2i, nf2i = _tables(f1_p, f2_p, N1, N2, STACKED)
    twr, twi = load_planes(tw_p, n, N1 * N2)
    for i in range(rounds):
        d = (tl.program_id(0) * rounds + i).to(tl.int64)
        inside = n < tl.where(d < D, N1 * N2, 0)
        sr = tl.zeros([N1, N2], tl.float32)
        si = tl.zeros([N1, N2], tl.float32)
        for j in range(chunks):
            share = share_p + (j * D + d) * (2 * N1 * N2) + n
            sr += tl.load(share, mask=inside, other=0.0)
            si += tl.load(share + N1 * N2, mask=inside, other=0.0)
        e = complex_exponent(sr, si)
        dk = _inverse(
            scaled(sr, e, DT), scaled(si, e, DT), f1, f1i, f2, f2i, nf2i, twr, twi, STACKED, PREC
        )
        tl.store(dk_p + d * L + n, dk * (power(e) * root), mask=n < tl.where(d < D, L, 0))
