"""Device functions that the kernels share: power-of-two scales and the two-stage transforms of a tile.

A tile is an (N1, C) block of one or several rows. Products run on tensor cores with operands of the working dtype
(float16, or float32 as three tf32 products) and float32 sums; twiddles and spectra are applied in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exponents(w):
    """Return the biased exponent of the largest magnitude in each column; 255 where NaN or infinity is among them."""
    bits = w.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.max(bits, axis=0) >> 23


@triton.jit
def top_exponent(w):
    """Return the biased exponent of the largest magnitude of a tile, a scalar."""
    bits = w.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    return tl.max(tl.max(bits, axis=1), axis=0) >> 23


@triton.jit
def row_exponents(w, R: tl.constexpr, N2: tl.constexpr):
    """Return the exponents of the R rows of a tile: a scalar for one row, else (1, C), repeated over each row's columns."""
    if R == 1:
        e = top_exponent(w)
    else:
        e = exponents(w)
        if N2 > 1:
            top = tl.max(tl.reshape(e, [R, N2]), axis=1)
            e = tl.reshape(tl.broadcast_to(top[:, None], [R, N2]), [R * N2])
        e = e[None, :]
    # Both 2^(e − 127) and its inverse are normal numbers; 255 stays.
    e = tl.maximum(e, 1)
    return tl.where(e == 254, 253, e)


@triton.jit
def power(e):
    """Return 2^(e − 127) for a biased exponent; NaN for 255."""
    return ((e << 23) | tl.where(e == 255, 0x400000, 0)).to(tl.float32, bitcast=True)


@triton.jit
def scaled(w, e, DT: tl.constexpr, R: tl.constexpr):
    """Divide by 2^(e − 127): magnitudes come below 2 (4 at the very top of the range).

    A row with NaN or infinity becomes NaN; where it shares a tile with others (R > 1) it becomes zeros, which cannot reach them, and
    `power(255)` makes its outputs NaN.
    """
    if R == 1:
        return (w * power(254 - e)).to(DT)
    bad = e == 255
    return tl.where(bad, 0.0, w * power(tl.where(bad, 127, 254 - e))).to(DT)


@triton.jit
def multiply(ar, ai, br, bi):
    """Multiply two complex tiles."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def load_planes(p, offsets, plane):
    """Load the real and the imaginary part, `plane` elements apart, as float32."""
    return tl.load(p + offsets).to(tl.float32), tl.load(p + plane + offsets).to(tl.float32)


@triton.jit
def right(ar, ai, fr, fi, nfi, CONJ: tl.constexpr, PREC: tl.constexpr):
    """Multiply a complex tile by a DFT matrix (or its conjugate) from the right."""
    ar = ar.to(fr.dtype)
    ai = ai.to(fr.dtype)
    if CONJ:
        yr = tl.dot(ai, fi, tl.dot(ar, fr, input_precision=PREC), input_precision=PREC)
        yi = tl.dot(ar, nfi, tl.dot(ai, fr, input_precision=PREC), input_precision=PREC)
    else:
        yr = tl.dot(ai, nfi, tl.dot(ar, fr, input_precision=PREC), input_precision=PREC)
        yi = tl.dot(ai, fr, tl.dot(ar, fi, input_precision=PREC), input_precision=PREC)
    return yr, yi


@triton.jit
def left(fr, fi, nfi, ar, ai, CONJ: tl.constexpr, PREC: tl.constexpr):
    """Multiply a complex tile by a symmetric DFT matrix (or its conjugate) from the left."""
    ar = ar.to(fr.dtype)
    ai = ai.to(fr.dtype)
    if CONJ:
        yr = tl.dot(fi, ai, tl.dot(fr, ar, input_precision=PREC), input_precision=PREC)
        yi = tl.dot(nfi, ar, tl.dot(fr, ai, input_precision=PREC), input_precision=PREC)
    else:
        yr = tl.dot(nfi, ai, tl.dot(fr, ar, input_precision=PREC), input_precision=PREC)
        yi = tl.dot(fr, ai, tl.dot(fi, ar, input_precision=PREC), input_precision=PREC)
    return yr, yi


@triton.jit
def tile_dft(x, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC: tl.constexpr):
    """Transform a real tile: outer DFT from the left, twiddles, inner DFT from the right."""
    ar = tl.dot(f1r, x, input_precision=PREC)
    ai = tl.dot(f1i, x, input_precision=PREC)
    tr, ti = multiply(ar, ai, twr, twi)
    return right(tr, ti, f2r, f2i, nf2i, False, PREC)


@triton.jit
def tile_inverse(pr, pi, f1r, f1i, twr, twi, f2r, f2i, nf2i, PREC: tl.constexpr):
    """Return the real part of the inverse of `tile_dft`."""
    vr, vi = right(pr, pi, f2r, f2i, nf2i, True, PREC)
    ur, ui = multiply(vr, vi, twr, -twi)
    y = tl.dot(tl.trans(f1r), ur.to(f1r.dtype), input_precision=PREC)
    return tl.dot(tl.trans(f1i), ui.to(f1r.dtype), y, input_precision=PREC)
