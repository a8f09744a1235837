"""Device functions that the kernels share: power-of-two scales, complex tiles as real ones, and products with DFT matrices.

Products run on tensor cores with operands of the working dtype (float16, or float32 as three tf32 products) and float32 sums;
twiddles and spectra are applied in float32.

A complex tile is a pair of real ones. Side by side (M, 2C) or stacked (2M, C) the two halves are one tile for one matrix product, and
every thread keeps both parts of its numbers, so that taking the halves apart again moves nothing.

Every function has one return statement, at its end: what follows a return inside an `if` is compiled, too.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def exponent(w):
    """Return the biased exponent of the largest magnitude of a tile, a scalar; 255 where NaN or infinity is among them."""
    bits = w.to(tl.int32, bitcast=True) & 0x7FFFFFFF
    e = tl.max(tl.max(bits, axis=1), axis=0) >> 23
    # Both 2^(e − 127) and its inverse are normal numbers; 255 stays.
    e = tl.maximum(e, 1)
    return tl.where(e == 254, 253, e)


@triton.jit
def complex_exponent(zr, zi):
    """Return the exponent of the largest part of a complex tile."""
    return exponent(tl.maximum(tl.abs(zr), tl.abs(zi)))


@triton.jit
def power(e):
    """Return 2^(e − 127) for a biased exponent; NaN for 255."""
    return ((e << 23) | tl.where(e == 255, 0x400000, 0)).to(tl.float32, bitcast=True)


@triton.jit
def scaled(w, e, DT: tl.constexpr):
    """Divide by 2^(e − 127): magnitudes come below 2 (4 at the very top of the range). A row with NaN or infinity loses its numbers."""
    return (w * power(254 - e)).to(DT)


@triton.jit
def multiply(ar, ai, br, bi):
    """Multiply two complex tiles."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def load_planes(p, offsets, plane):
    """Load the real and the imaginary part, `plane` elements apart, as float32."""
    return tl.load(p + offsets).to(tl.float32), tl.load(p + plane + offsets).to(tl.float32)


@triton.jit
def load_matrix(p, M: tl.constexpr, N: tl.constexpr):
    """Load an (M, N) matrix."""
    return tl.load(p + tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :])


@triton.jit
def beside(a, b):
    """Return [a | b]."""
    M: tl.constexpr = a.shape[0]
    C: tl.constexpr = a.shape[1]
    return tl.reshape(tl.permute(tl.join(a, b), (0, 2, 1)), (M, 2 * C))


@triton.jit
def above(a, b):
    """Return [a; b]."""
    M: tl.constexpr = a.shape[0]
    C: tl.constexpr = a.shape[1]
    return tl.reshape(tl.permute(tl.join(a, b), (2, 0, 1)), (2 * M, C))


@triton.jit
def left_and_right(z):
    """Take [a | b] apart."""
    M: tl.constexpr = z.shape[0]
    C: tl.constexpr = z.shape[1] // 2
    return tl.split(tl.permute(tl.reshape(z, (M, 2, C)), (0, 2, 1)))


@triton.jit
def upper_and_lower(z):
    """Take [a; b] apart."""
    M: tl.constexpr = z.shape[0] // 2
    C: tl.constexpr = z.shape[1]
    return tl.split(tl.permute(tl.reshape(z, (2, M, C)), (1, 2, 0)))


@triton.jit
def left_real(f, x, PREC: tl.constexpr):
    """Multiply a real tile by a complex (M, K) matrix f from the left, in one product with [Re f; Im f] (2M, K)."""
    return upper_and_lower(tl.dot(f, x, input_precision=PREC))


@triton.jit
def left(f, xr, xi, CONJ: tl.constexpr, PREC: tl.constexpr):
    """Multiply a complex tile by f, given as [Re f; Im f], or by its conjugate, from the left."""
    x = beside(xr.to(f.dtype), xi.to(f.dtype))
    re, im = upper_and_lower(tl.dot(f, x, input_precision=PREC))
    rr, ri = left_and_right(re)
    ir, ii = left_and_right(im)
    if CONJ:
        yr = rr + ii
        yi = ri - ir
    else:
        yr = rr - ii
        yi = ri + ir
    return yr, yi


@triton.jit
def right(xr, xi, f, CONJ: tl.constexpr, PREC: tl.constexpr):
    """Multiply a complex tile by a symmetric f, given as [[Re f, Im f], [−Im f, Re f]], or by its conjugate, from the right."""
    x = beside(xr.to(f.dtype), xi.to(f.dtype))
    return left_and_right(tl.dot(x, tl.trans(f) if CONJ else f, input_precision=PREC))
