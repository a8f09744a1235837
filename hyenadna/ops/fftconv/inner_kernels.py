"""Kernels of long rows, inner passes: transforms along n2 = (a, b), the product in the spectrum, and back, in place.

A program holds R inner rows of N2 = NA·NB numbers as an (NA, R·NB) tile and walks over signals. On the way in, the column tiles that the
outer pass has scaled one by one come to one scale for each signal (SCALED), unless a middle pass has done so.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops.fftconv.transforms import (
    complex_exponent,
    left,
    load_matrix,
    load_planes,
    multiply,
    power,
    right,
)


@triton.jit
def _offsets(q, NA: tl.constexpr, NB: tl.constexpr, R: tl.constexpr):
    """Return the positions of tile q, and which inner row each column belongs to."""
    c = tl.arange(0, R * NB)
    row = q * R + c // NB
    o = (row * (NA * NB) + c % NB)[None, :] + (tl.arange(0, NA) * NB)[:, None]
    return o, row[None, :]


@triton.jit
def _tables(fa_p, tw_p, fb_p, NA: tl.constexpr, C: tl.constexpr):
    twr, twi = load_planes(tw_p, tl.arange(0, NA)[:, None] * C + tl.arange(0, C)[None, :], NA * C)
    return load_matrix(fa_p, 2 * NA, NA), load_matrix(fb_p, 2 * C, 2 * C), twr, twi


@triton.jit
def _load(p, plane, o, alive, exponent_p, top, NA: tl.constexpr, NB: tl.constexpr, T: tl.constexpr, SCALED: tl.constexpr):  # fmt: skip
    """Load inner rows; with SCALED, bring the tiles of the outer pass to the scale 2^(top − 127)."""
    xr = tl.load(p + o, mask=alive, other=0.0)
    xi = tl.load(p + plane + o, mask=alive, other=0.0)
    if SCALED:
        e = tl.load(exponent_p + tl.arange(0, NA) * NB // T) + 127 - top
        factor = tl.where(e > 0, power(tl.maximum(e, 1)), 0.0)[:, None].to(xr.dtype)
        xr *= factor
        xi *= factor
    return xr, xi


@triton.jit
def _store(p, plane, o, alive, zr, zi):
    tl.store(p + o, zr.to(p.dtype.element_ty), mask=alive)
    tl.store(p + plane + o, zi.to(p.dtype.element_ty), mask=alive)


@triton.jit
def _dft(xr, xi, fa, fb, twr, twi, PREC: tl.constexpr):
    ar, ai = left(fa, xr, xi, False, PREC)
    tr, ti = multiply(ar, ai, twr, twi)
    return right(tr, ti, fb, False, PREC)


@triton.jit
def _inverse(pr, pi, fa, fb, twr, twi, PREC: tl.constexpr):
    vr, vi = right(pr, pi, fb, True, PREC)
    ur, ui = multiply(vr, vi, twr, -twi)
    return left(fa, ur, ui, True, PREC)


@triton.jit
def _load_spectrum(p, plane, o, alive, top):
    """Load the spectrum of a filter, brought to magnitudes below 2."""
    shrink = power(tl.where(top == 255, 255, 254 - top))
    kr = tl.load(p + o, mask=alive, other=0.0).to(tl.float32)
    ki = tl.load(p + plane + o, mask=alive, other=0.0).to(tl.float32)
    return kr * shrink, ki * shrink


@triton.jit(do_not_specialize=["rows", "total", "height"])
def inner_spectrum(
    work_p,
    exponent_p,
    top_p,
    peak_p,
    fa_p,
    tw_p,
    fb_p,
    rows,
    total,
    height,
    COUNT: tl.constexpr,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    SCALED: tl.constexpr,
    PREC: tl.constexpr,
):
    """Filters (channels, 2, height, N2): transform inner rows of `rows` of the `total` filters in place; peak_p takes the largest exponent of each."""
    tiles = (height + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * rows
    plane = height * (NA * NB)
    o, row = _offsets(q, NA, NB, R)
    fa, fb, twr, twi = _tables(fa_p, tw_p, fb_p, NA, R * NB)
    for i in range(rows):
        live = first + i < total
        channel = tl.minimum(first + i, total - 1).to(tl.int64)
        alive = row < tl.where(live, height, 0)
        work = work_p + channel * (2 * plane)
        top = tl.load(top_p + channel)
        xr, xi = _load(work, plane, o, alive, exponent_p + channel * COUNT, top, NA, NB, T, SCALED)
        # Magnitudes are at most √N times the filter's largest, which float16 holds up to N = 2^30.
        zr, zi = _dft(xr, xi, fa, fb, twr, twi, PREC)
        _store(work, plane, o, alive, zr, zi)
        tl.atomic_max(peak_p + channel, complex_exponent(zr, zi), mask=live, sem="relaxed")


@triton.jit(do_not_specialize=["rows", "total", "B", "height"])
def inner_product(
    work_p,
    spectrum_p,
    exponent_p,
    top_p,
    filter_top_p,
    peak_p,
    scale_p,
    fa_p,
    tw_p,
    fb_p,
    rows,
    total,
    B,
    height,
    root,
    COUNT: tl.constexpr,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    SCALED: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Inner rows to the spectrum, times the filter's, and back, for `rows` of the `total` signals (channel, b); scale_p takes what their results are to be multiplied by."""
    tiles = (height + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * rows
    plane = height * (NA * NB)
    o, row = _offsets(q, NA, NB, R)
    fa, fb, twr, twi = _tables(fa_p, tw_p, fb_p, NA, R * NB)
    for i in tl.range(0, rows, num_stages=STAGES):
        live = first + i < total
        signal = tl.minimum(first + i, total - 1).to(tl.int64)
        channel = signal // B
        alive = row < tl.where(live, height, 0)
        work = work_p + signal * (2 * plane)
        top = tl.load(top_p + signal)
        peak = tl.load(peak_p + channel)
        xr, xi = _load(work, plane, o, alive, exponent_p + signal * COUNT, top, NA, NB, T, SCALED)
        zr, zi = _dft(xr, xi, fa, fb, twr, twi, PREC)
        kr, ki = _load_spectrum(spectrum_p + channel * (2 * plane), plane, o, alive, peak)
        pr, pi = multiply(zr, zi, kr, ki)
        yr, yi = _inverse(pr, pi, fa, fb, twr, twi, PREC)
        _store(work, plane, o, alive, yr, yi)
        gain = power(tl.load(filter_top_p + channel)) * power(peak) * root
        tl.store(scale_p + signal, power(top) * gain, mask=live & (q == 0))


@triton.jit(do_not_specialize=["channels", "total", "B", "height", "slab"])
def inner_backward(
    work_p,
    spectrum_p,
    exponent_p,
    top_p,
    filter_top_p,
    peak_p,
    scale_p,
    share_exponent_p,
    share_top_p,
    fa_p,
    tw_p,
    fb_p,
    channels,
    total,
    B,
    height,
    root,
    slab,
    COUNT: tl.constexpr,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    T: tl.constexpr,
    GATED: tl.constexpr,
    SCALED: tl.constexpr,
    STAGES: tl.constexpr,
    PREC: tl.constexpr,
):
    """Backward in the spectrum, for `channels` of the `total` channels and all their signals: Ŵ·K̂ and conj(K̂)·Ĝ go back in place, Σ conj(Ŵ)·Ĝ takes the place of K̂.

    The workspaces of w and g lie `slab` signals apart. Each tile of the sum has a scale of its own, 2^(share exponent − 127).
    """
    tiles = (height + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * channels
    plane = height * (NA * NB)
    o, row = _offsets(q, NA, NB, R)
    fa, fb, twr, twi = _tables(fa_p, tw_p, fb_p, NA, R * NB)
    for i in range(channels):
        live = first + i < total
        channel = tl.minimum(first + i, total - 1).to(tl.int64)
        alive = row < tl.where(live, height, 0)
        spectrum = spectrum_p + channel * (2 * plane)
        peak = tl.load(peak_p + channel)
        gain = power(tl.load(filter_top_p + channel)) * power(peak) * root
        kr, ki = _load_spectrum(spectrum, plane, o, alive, peak)
        sr = tl.zeros([NA, R * NB], tl.float32)
        si = tl.zeros([NA, R * NB], tl.float32)
        for b in tl.range(0, B, num_stages=STAGES):
            signal = channel * B + b
            work = work_p + signal * (2 * plane)
            work_g = work + slab.to(tl.int64) * (2 * plane)
            of_w = exponent_p + signal * COUNT
            top_w = tl.load(top_p + signal)
            top_g = tl.load(top_p + slab + signal)
            tl.store(scale_p + signal, power(top_w) * gain, mask=live & (q == 0))
            tl.store(scale_p + slab + signal, power(top_g) * gain, mask=live & (q == 0))
            xr, xi = _load(work, plane, o, alive, of_w, top_w, NA, NB, T, SCALED)
            zr, zi = _dft(xr, xi, fa, fb, twr, twi, PREC)
            wr = zr.to(fa.dtype)
            wi = zi.to(fa.dtype)
            if GATED:
                pr, pi = multiply(zr, zi, kr, ki)
                yr, yi = _inverse(pr, pi, fa, fb, twr, twi, PREC)
                _store(work, plane, o, alive, yr, yi)
            xr, xi = _load(work_g, plane, o, alive, of_w + slab * COUNT, top_g, NA, NB, T, SCALED)
            gr, gi = _dft(xr, xi, fa, fb, twr, twi, PREC)
            cr, ci = multiply(wr.to(tl.float32), -wi.to(tl.float32), gr, gi)
            back = power(top_w) * power(top_g)
            sr += cr * back
            si += ci * back
            qr, qi = multiply(gr, gi, kr, -ki)
            yr, yi = _inverse(qr, qi, fa, fb, twr, twi, PREC)
            _store(work_g, plane, o, alive, yr, yi)
        h = complex_exponent(sr, si)
        shrink = power(254 - h)
        _store(spectrum, plane, o, alive, sr * shrink, si * shrink)
        tl.store(share_exponent_p + channel * tiles + q, h, mask=live)
        tl.atomic_max(share_top_p + channel, h, mask=live, sem="relaxed")


@triton.jit(do_not_specialize=["rows", "total", "height"])
def inner_adjoint(
    work_p,
    share_exponent_p,
    share_top_p,
    scale_p,
    fa_p,
    tw_p,
    fb_p,
    rows,
    total,
    height,
    root,
    NA: tl.constexpr,
    NB: tl.constexpr,
    R: tl.constexpr,
    PREC: tl.constexpr,
):
    """The spectrum of dk that `inner_backward` left: bring `rows` of the `total` channels to one scale each, and inner rows back, in place."""
    tiles = (height + R - 1) // R
    q = tl.program_id(0) % tiles
    first = tl.program_id(0) // tiles * rows
    plane = height * (NA * NB)
    o, row = _offsets(q, NA, NB, R)
    fa, fb, twr, twi = _tables(fa_p, tw_p, fb_p, NA, R * NB)
    for i in range(rows):
        live = first + i < total
        channel = tl.minimum(first + i, total - 1).to(tl.int64)
        alive = row < tl.where(live, height, 0)
        work = work_p + channel * (2 * plane)
        top = tl.load(share_top_p + channel)
        e = tl.load(share_exponent_p + channel * tiles + q) + 127 - top
        factor = tl.where(e > 0, power(tl.maximum(e, 1)), 0.0)
        pr = tl.load(work + o, mask=alive, other=0.0).to(tl.float32) * factor
        pi = tl.load(work + plane + o, mask=alive, other=0.0).to(tl.float32) * factor
        yr, yi = _inverse(pr, pi, fa, fb, twr, twi, PREC)
        _store(work, plane, o, alive, yr, yi)
        tl.store(scale_p + channel, power(top) * root, mask=live & (q == 0))
