"""Prototype: the gated causal FFT convolution forward in Gluon (Triton 3.6, Hopper), the whole row in shared memory.

y = x0 ∘ (k ⊛ w + bias · w) with w = x1 ∘ v, bf16, for L = 16,384 (NH = 2) and L = 8,192 (NH = 1). It uses nothing of the project.
Run it on a Hopper GPU to check and time it, or anywhere with --compile (registers, spills, shared memory; Triton 3.6) or --algebra
(the same sums in float64). Exit codes: 0 fine, 1 wrong numbers, 2 cannot do it here.

Design
------
Mathematics. The right-angle ring x^L = i makes the causal convolution of two real rows the real part of one complex circular
convolution of length L: frequencies F − 1/4, no zero padding. A row is a tile X[n1, n2] of 128 × N2 positions, N2 = 64·NH, at
n = n1·N2 + n2; the frequency is F = f1 + 128·f2.

One table, four uses. G[f, m] = exp(−2πi (f − 1/4) m / n)/√n serves as G·X (outer transform), ·Gᵀ (inner), ·G (inner, back) and Gᵀ·
(outer, back). Going back needs no conjugated table, because the data are conjugated with the product and only the real part is
kept; the quarter too much of the inner transform is taken back in the twiddles. With NH = 2 both transforms have 128 points and
share one table of 64 KB; with NH = 1 the inner one has its own, of 16 KB.

Grid. One program of 8 warps on each SM walks over consecutive rows, channel by channel. Both warpgroups run the same code, each on
its 64 values of f1; columns go in halves of 64, so that an accumulator takes 32 registers. (A first design, warp-specialized with a
row for each warpgroup, held the code twice: 2.4 ms.) Phases of a row, with w and K̂ already in shared memory:
  1. A = (G·X) ∘ twiddles, an operand that stays in registers; meanwhile the lines of x0 and of the next row are asked into L2
  2. Z = A·Gᵀ
  3. P = conj(Z ∘ K̂), again in registers
  4. U = (P·G) ∘ twiddles, to shared memory in the place of K̂
  5. y = Re(Gᵀ·U), while w of the next row is loaded and gated; y is gated and written, and the copy of the next K̂ begins
The spectrum K̂ of the filters comes from phases 1 and 2 of the same kernel (SPECTRUM).

Permuted positions. A thread of a wgmma accumulator holds columns 2t and 2t+1 of every 8. In each 32, position 8t + 2j + e sits in
physical column 8j + 2t + e (`positions`), so that a thread's values are 8 neighbours: 16 bytes from and to global memory, and no
exchange between threads. It costs a permuted table; rows are permuted too, since the table is shared.
K̂ in register order. Each thread copies (cp.async) and reads only chunks of 16 bytes of its own: no bank conflicts, no barrier.

Opaque zero. Addresses of tables and tiles do not change in the loop, so the compiler would compute them all before it and keep them in
registers, which then spill. Adding a zero that comes out of inline assembly in the loop (`opaque`) keeps the arithmetic where it is used.
Negation in place. Re Z = Ar·Gr − Ai·Gi needs −Ai as an operand, and a plain minus is kept beside Ai (32 registers more). `negated`
flips the signs in inline assembly that is not pure, once in a half; the halves take the two signs in turn.

Measured
--------
H100 80GB HBM3, Triton 3.6, 2^27 elements, D = 768; median ms; relative L2 error against float64. Cubins as of --compile, launched
through the CUDA driver; the code below compiles to the same instructions, one by one. ptxas is fragile here: one more inlined
helper (only a debug label more in the PTX) gave 68 spill instructions.

  L        with the spectrum   without   error     registers   spill instructions   shared memory
  16,384   1.113               0.957     1.80e-3   255         64                   176 KB
  8,192    0.806               0.689     –         178         0                    144 KB

Nsight Compute at 16,384: tensor pipe 51 %, issue 30 %, DRAM 44 %. No unit is full: a single program has nothing else to do while it waits.

What production needs
---------------------
Power-of-two range scales for float16 (`gain` is one place of them; here the data are of unit rms); masks and other lengths; float16
rows; a backward kernel; strides; the bias inside the kernel (here in a copy of k); tests; and a Gluon that is no longer experimental.
"""  # fmt: skip

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import torch
import triton


def give_up(sentence: str) -> NoReturn:
    """Say why this machine cannot do it, and exit with 2."""
    print(sentence, file=sys.stderr)
    raise SystemExit(2)


try:
    from triton.backends.compiler import GPUTarget
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon._runtime import GluonASTSource
    from triton.experimental.gluon.language.nvidia import hopper
except ImportError as error:
    give_up(f"Triton {triton.__version__} lacks the Gluon of 3.6, which this needs: {error}")

_LINEAR = gl.DistributedLinearLayout  # where each bit of the register, lane and warp number leads
_LINES = [[8], [16], [32], [64], [128]], [[256], [512], [1024]], []
_MMA = gl.NVMMADistributedLayout(version=[3, 0], warps_per_cta=[8, 1], instr_shape=[16, 64, 16])
_HALF = _LINEAR([[0, 0, 1], [0, 0, 2], [0, 0, 4], [8, 0, 0], [0, 1, 0]],
                [[0, 0, 8], [0, 0, 16], [1, 0, 0], [2, 0, 0], [4, 0, 0]],
                [[16, 0, 0], [32, 0, 0], [64, 0, 0]], [], [128, 2, 32])  # fmt: skip
ACC = gl.constexpr(_MMA)  # 64 columns of a tile as wgmma holds them
OPERAND = gl.constexpr(gl.DotOperandLayout(0, _MMA, 2))
HALF = gl.constexpr(_HALF)  # the same values in the same threads, by position: (128, 2, 32)
HALF_ROW = gl.constexpr(gl.SliceLayout(1, gl.SliceLayout(2, _HALF)))
HALF_BLOCK = gl.constexpr(gl.SliceLayout(0, gl.SliceLayout(2, _HALF)))
HALF_COLUMN = gl.constexpr(gl.SliceLayout(0, gl.SliceLayout(1, _HALF)))
HALF_LOW = gl.constexpr(gl.SliceLayout(1, _HALF))
OWN = gl.constexpr(_LINEAR([[1], [2], [4], [2048], [4096]], *_LINES, [8192]))  # register order
OWN_LOW = gl.constexpr(_LINEAR([[1], [2], [4], [2048]], *_LINES, [4096]))
SWIZZLED = gl.constexpr(gl.NVMMASharedLayout(128, 16))
FLAT = gl.constexpr(gl.SwizzledSharedLayout(1, 1, 1, [0]))
TABLE = gl.constexpr(gl.BlockedLayout([1, 8], [4, 8], [8, 1], [1, 0]))
THREADS = gl.constexpr(gl.BlockedLayout([1], [32], [8], [0]))
LENGTHS, LIMIT = (16_384, 8_192), 2.2e-3


@gluon.jit
def opaque(x):
    """Return the same integer, which the compiler cannot see through: address arithmetic stays in the loop."""
    return gl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], gl.int32, False, 1)


@gluon.jit
def negated(x):
    """Return minus a float16 operand, in place: a plain minus would be kept beside the original."""
    ASM: gl.constexpr = "xor.b32 $0, $1, 0x80008000;"
    return gl.inline_asm_elementwise(ASM, "=r,r", [x], gl.float16, False, 2)


@gluon.jit
def to_logical(t):
    """From accumulator columns to positions: (128, 64) to (128, 2, 32). No value leaves its thread."""
    t = gl.permute(gl.reshape(t, [128, 2, 4, 4, 2]), [0, 1, 3, 2, 4])
    return gl.convert_layout(gl.reshape(t, [128, 2, 32]), HALF)


@gluon.jit
def to_physical(t):
    """From positions to accumulator columns, the inverse of `to_logical`."""
    t = gl.permute(gl.reshape(t, [128, 2, 4, 4, 2]), [0, 1, 3, 2, 4])
    return gl.convert_layout(gl.reshape(t, [128, 64]), ACC)


@gluon.jit
def operand(t):
    """Positions in float32 to a left operand of wgmma, in registers."""
    return gl.convert_layout(to_physical(t.to(gl.float16)), OPERAND)


@gluon.jit
def flat_to_logical(t):
    """A plane of K̂ in register order to (128, 2, 32)."""
    t = gl.permute(gl.reshape(t, [2, 2, 8, 8, 4, 8]), [2, 1, 3, 0, 4, 5])
    return gl.convert_layout(gl.reshape(t, [128, 2, 32]), HALF)


@gluon.jit
def logical_to_flat(t):
    """From (128, 2, 32) to register order, the inverse of `flat_to_logical`."""
    t = gl.permute(gl.reshape(t, [8, 2, 8, 2, 4, 8]), [3, 1, 0, 2, 4, 5])
    return gl.convert_layout(gl.reshape(t, [8192]), OWN)


@gluon.jit
def low_to_logical(t):
    """A plane of the low twiddle factors in register order to (128, 32)."""
    t = gl.permute(gl.reshape(t, [2, 8, 8, 4, 8]), [1, 0, 2, 3, 4])
    return gl.convert_layout(gl.reshape(t, [128, 32]), HALF_LOW)


@gluon.jit
def twiddle(ar, ai, low, high_p, zero, h: gl.constexpr):
    """Half h of a tile times the twiddles: accumulators in, positions out (float32).

    A twiddle is the product of a low factor (32 columns, shared memory) and a high one (a block of 32, global memory).
    """
    z = opaque(zero)
    lr = gl.expand_dims(low_to_logical(low.index(z).load(OWN_LOW)).to(gl.float32), 1)
    li = gl.expand_dims(low_to_logical(low.index(z + 1).load(OWN_LOW)).to(gl.float32), 1)
    o = gl.expand_dims(gl.arange(0, 128, HALF_ROW) * 4, 1)
    o += gl.expand_dims(2 * h + gl.arange(0, 2, HALF_BLOCK), 0)
    hr = gl.expand_dims(gl.load(high_p + z + o), 2)
    hi = gl.expand_dims(gl.load(high_p + z + 512 + o), 2)
    tr = hr * lr - hi * li
    ti = hr * li + hi * lr
    xr = to_logical(ar)
    xi = to_logical(ai)
    return xr * tr - xi * ti, xr * ti + xi * tr


@gluon.jit
def mac(acc, a, g, h: gl.constexpr, T: gl.constexpr, FIRST: gl.constexpr, NH: gl.constexpr):
    """acc (+)= a · half h of g, or of its transpose with T; a holds the operands of NH halves."""
    for k in gl.static_range(NH):
        if T:
            b = g.slice(h * 64, 64).slice(k * 64, 64, dim=1).permute([1, 0])
        else:
            b = g.slice(k * 64, 64).slice(h * 64, 64, dim=1)
        acc = hopper.warpgroup_mma(a[k], b, acc, use_acc=not (FIRST and k == 0), is_async=True)
    return acc


@gluon.jit
def right(r, i, g_r, g_i, zero, h: gl.constexpr, T: gl.constexpr, NH: gl.constexpr):
    """Half h of a complex tile (r, i) times g, or its transpose with T, from the right.

    i comes back negated: half 0 takes it as it is, half 1 takes it negated, and neither keeps both.
    """
    z = opaque(zero)
    br = g_r.index(z)
    bi = g_i.index(z)
    acc = gl.zeros([128, 64], gl.float32, ACC)
    if h == 0:
        zi = mac(acc, i, br, h, T, True, NH)
        zi = mac(zi, r, bi, h, T, False, NH)
        zr = mac(acc, r, br, h, T, True, NH)
        zi = hopper.warpgroup_mma_wait(NH, deps=[zi])
    else:
        zr = mac(acc, i, bi, h, T, True, NH)
        zr = mac(zr, r, br, h, T, False, NH)
        zi = mac(acc, r, bi, h, T, True, NH)
        zr = hopper.warpgroup_mma_wait(NH, deps=[zr])
    n = (negated(i[0]),)
    if NH == 2:
        n += (negated(i[1]),)
    if h == 0:
        zr = mac(zr, n, bi, h, T, False, NH)
        zr = hopper.warpgroup_mma_wait(0, deps=[zr])
    else:
        zi = mac(zi, n, br, h, T, False, NH)
        zi = hopper.warpgroup_mma_wait(0, deps=[zi])
    return zr, zi, n


@gluon.jit
def outer(g_r, g_i, zero, w, low, high_p, NH: gl.constexpr):
    """Phase 1: the outer transform of w times the twiddles, as operands, one for each half."""
    r = ()
    i = ()
    for h in gl.static_range(NH):
        z = opaque(zero)
        acc = gl.zeros([128, 64], gl.float32, ACC)
        b = w.slice(h * 64, 64, dim=1)
        ar = hopper.warpgroup_mma(g_r.index(z), b, acc, use_acc=False, is_async=True)
        ai = hopper.warpgroup_mma(g_i.index(z), b, acc, use_acc=False, is_async=True)
        ar, ai = hopper.warpgroup_mma_wait(0, deps=[ar, ai])
        tr, ti = twiddle(ar, ai, low, high_p, zero, h)
        r += (operand(tr),)
        i += (operand(ti),)
    return r, i


@gluon.jit
def times_spectrum(zr, zi, flat, zero, h: gl.constexpr):
    """Phase 3, half h: conj(z ∘ K̂), as operands."""
    z = opaque(zero)
    zr = to_logical(zr)
    zi = to_logical(zi)
    kr = flat_to_logical(flat.index(z + 2 * h).load(OWN)).to(gl.float32)
    ki = flat_to_logical(flat.index(z + 2 * h + 1).load(OWN)).to(gl.float32)
    return operand(zr * kr - zi * ki), operand(-(zr * ki) - zi * kr)


@gluon.jit
def offsets(h: gl.constexpr, N2: gl.constexpr):
    """Offsets of half h in a row: rows in permuted order (`positions`), columns by position."""
    i = gl.arange(0, 128, HALF_ROW)
    n1 = (i & 96) + ((i >> 1) & 3) * 8 + ((i >> 3) & 3) * 2 + (i & 1)
    o = gl.expand_dims(gl.expand_dims(n1 * N2, 1), 2)
    o += gl.expand_dims(gl.expand_dims((2 * h + gl.arange(0, 2, HALF_BLOCK)) * 32, 0), 2)
    return o + gl.expand_dims(gl.expand_dims(gl.arange(0, 32, HALF_COLUMN), 0), 1)


@gluon.jit
def load_w(p, q, h: gl.constexpr, N2: gl.constexpr, GATE: gl.constexpr):
    """Half h of the row at p, times the row at q with GATE, as it goes to shared memory."""
    o = offsets(h, N2)
    w = gl.load(p + o, cache_modifier=".cg").to(gl.float32)
    if GATE:
        w *= gl.load(q + o, cache_modifier=".cg").to(gl.float32)
    return to_physical(w.to(gl.float16))


@gluon.jit
def copy_spectrum(flat, src, zero, NH: gl.constexpr):
    """Begin the copy of a channel's K̂; each thread copies what it will read."""
    o = gl.arange(0, 8192, OWN)
    z = opaque(zero)
    for i in gl.static_range(2 * NH):
        part = src + i * 8192 + o
        hopper.async_copy.async_copy_global_to_shared(flat.index(z + i), part, cache_modifier=".cg")
    hopper.async_copy.commit_group()


@gluon.jit
def prefetch(p, COUNT: gl.constexpr):
    """Ask for COUNT lines of 128 bytes in the L2 cache."""
    ASM: gl.constexpr = "prefetch.global.L2 [$1]; mov.b32 $0, 0;"
    address = (p + gl.arange(0, COUNT, THREADS) * 64).to(gl.int64)
    gl.inline_asm_elementwise(ASM, "=r,l", [address], gl.int32, False, 1)


@gluon.jit
def shared_plane(p, N: gl.constexpr):
    """An (N, N) table in shared memory, to be indexed by the opaque zero."""
    i = gl.arange(0, N, gl.SliceLayout(1, TABLE))
    j = gl.arange(0, N, gl.SliceLayout(0, TABLE))
    plane = gl.allocate_shared_memory(gl.float16, [1, N, N], SWIZZLED)
    plane.index(0).store(gl.load(p + gl.expand_dims(i * N, 1) + gl.expand_dims(j, 0)))
    return plane


@gluon.jit(do_not_specialize=["rows", "total", "B"])
def conv_kernel(x0_p, x1_p, v_p, y_p, k_p, inner_p, outer_p, low_p, high_p, rows, total, B, D, gain,
                NH: gl.constexpr, SPECTRUM: gl.constexpr):  # fmt: skip
    """`rows` consecutive rows of the gated convolution, channel by channel, of total = B·D rows.

    With SPECTRUM: K̂ of the filters x1_p times gain, B = 1, to y_p as float16 in register order, (D, NH, re and im, 8192).
    """
    N2: gl.constexpr = 64 * NH
    L: gl.constexpr = 128 * N2
    go_r = shared_plane(outer_p, 128)
    go_i = shared_plane(outer_p + 16384, 128)
    if NH == 2:
        gi_r = go_r
        gi_i = go_i
    else:
        gi_r = shared_plane(inner_p, 64)
        gi_i = shared_plane(inner_p + 4096, 64)
    low = gl.allocate_shared_memory(gl.float16, [2, 4096], FLAT)
    for plane in gl.static_range(2):
        low.index(plane).store(gl.load(low_p + plane * 4096 + gl.arange(0, 4096, OWN_LOW)))
    u = gl.allocate_shared_memory(gl.float16, [2, 128, N2], SWIZZLED)
    w = gl.allocate_shared_memory(gl.float16, [128, N2], SWIZZLED)
    flat = u._reinterpret(gl.float16, [2 * NH, 8192], FLAT)  # K̂, in the place of u
    first = gl.minimum(gl.program_id(0) * rows, total)
    last = gl.minimum(first + rows, total)
    if first < last:
        base = (first % B).to(gl.int64) * D * L + (first // B) * L
        for h in gl.static_range(NH):
            w.slice(h * 64, 64, dim=1).store(load_w(x1_p + base, v_p + base, h, N2, not SPECTRUM))
        if not SPECTRUM:
            copy_spectrum(flat, k_p + (first // B).to(gl.int64) * (2 * L), 0, NH)
        for row in range(first, last):
            d = row // B
            base = (row % B).to(gl.int64) * D * L + d * L
            more = gl.minimum(row + 1, last - 1)
            nbase = (more % B).to(gl.int64) * D * L + (more // B) * L
            zero = opaque(0)
            hopper.fence_async_shared()
            if not SPECTRUM:
                prefetch(x0_p + base, L // 64)
                prefetch(x1_p + nbase, L // 64)
                prefetch(v_p + nbase, L // 64)
            r, i = outer(go_r, go_i, zero, w, low, high_p, NH)
            if SPECTRUM:
                o = gl.arange(0, 8192, OWN)
                for h in gl.static_range(NH):
                    zr, zi, i = right(r, i, gi_r, gi_i, zero, h, True, NH)
                    p = y_p + d.to(gl.int64) * (2 * L) + h * 16384
                    gl.store(p + o, logical_to_flat((to_logical(zr) * gain).to(gl.float16)))
                    gl.store(p + 8192 + o, logical_to_flat((to_logical(zi) * gain).to(gl.float16)))
                for h in gl.static_range(NH):
                    w.slice(h * 64, 64, dim=1).store(
                        load_w(x1_p + nbase, v_p + nbase, h, N2, False)
                    )
            else:
                pr = ()
                pi = ()
                for h in gl.static_range(NH):
                    zr, zi, i = right(r, i, gi_r, gi_i, zero, h, True, NH)
                    if h == 0:
                        hopper.async_copy.wait_group(0)
                    qr, qi = times_spectrum(zr, zi, flat, zero, h)
                    pr += (qr,)
                    pi += (qi,)
                for h in gl.static_range(NH):
                    vr, vi, pi = right(pr, pi, gi_r, gi_i, zero, h, False, NH)
                    ur, ui = twiddle(vr, vi, low, high_p, zero, h)
                    z = opaque(zero)
                    u.index(z).slice(h * 64, 64, dim=1).store(to_physical(ur.to(gl.float16)))
                    u.index(z + 1).slice(h * 64, 64, dim=1).store(to_physical((-ui).to(gl.float16)))
                hopper.fence_async_shared()
                z = opaque(zero)
                fr = go_r.index(z).permute([1, 0])
                fi = go_i.index(z).permute([1, 0])
                acc = gl.zeros([128, 64], gl.float32, ACC)
                ys = ()
                for h in gl.static_range(NH):
                    b = u.index(z).slice(h * 64, 64, dim=1)
                    y = hopper.warpgroup_mma(fr, b, acc, use_acc=False, is_async=True)
                    b = u.index(z + 1).slice(h * 64, 64, dim=1)
                    ys += (hopper.warpgroup_mma(fi, b, y, is_async=True),)
                for h in gl.static_range(NH):
                    w.slice(h * 64, 64, dim=1).store(load_w(x1_p + nbase, v_p + nbase, h, N2, True))
                for h in gl.static_range(NH):
                    o = offsets(h, N2)
                    gate = gl.load(x0_p + base + o, cache_modifier=".cg")
                    y = hopper.warpgroup_mma_wait(2 * (NH - 1 - h), deps=[ys[h]])
                    y = to_logical(y) * gate.to(gl.float32) * gain
                    gl.store(y_p + base + o, y.to(y_p.dtype.element_ty), cache_modifier=".cs")
                copy_spectrum(flat, k_p + (more // B).to(gl.int64) * (2 * L), zero, NH)


def positions(n: int) -> torch.Tensor:
    """Position in each of n physical columns (or rows): number of the pair and number of the 8 change places in each 32."""
    c = torch.arange(n)
    return (c & ~31) + ((c >> 1) & 3) * 8 + ((c >> 3) & 3) * 2 + (c & 1)


def unit(turns: torch.Tensor) -> torch.Tensor:
    """exp(−2πi · turns), complex128."""
    return torch.polar(torch.ones_like(turns), -2 * math.pi * turns)


def quarter_shifted(n: int) -> torch.Tensor:
    """G[f, m] = exp(−2πi (f − 1/4) m / n)/√n with its columns in physical order."""
    f = torch.arange(n, dtype=torch.float64)[:, None]
    m = positions(n).double()[None]
    return unit((4 * f * m - m).remainder(4 * n) / (4 * n)) / math.sqrt(n)


def tables(n2: int, device: str, narrow=torch.float16, wide=torch.float32) -> list[torch.Tensor]:
    """Inner and outer table, low twiddles in register order, high twiddles: planes re and im of each."""
    rate = (torch.arange(128, dtype=torch.float64)[:, None] - 0.25) / (128 * n2) + 1 / (4 * n2)
    low, high = unit(rate * torch.arange(32)), unit(rate * 32 * torch.arange(4))
    parts = quarter_shifted(n2), quarter_shifted(128), low, high
    parts = [torch.stack([z.real, z.imag]) for z in parts]
    # (warp, row & 8, row & 7, lane, 8 columns): the two chunks of a thread are 2048 apart
    parts[2] = parts[2].reshape(2, 8, 2, 8, 4, 8).transpose(1, 2).reshape(2, 4096)
    kinds = (narrow, narrow, narrow, wide)
    return [t.to(device, kind).contiguous() for t, kind in zip(parts, kinds, strict=True)]


def reference(w: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Causal convolution by the real FFT of twice the length."""
    n = 2 * w.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(w, n) * torch.fft.rfft(k, n))[..., : n // 2]


def algebra(n2: int) -> float:
    """Relative error of the kernel's sums, all in float64 with the kernel's own tables, on a random row."""
    gi, go, low, high = tables(n2, "cpu", torch.float64, torch.float64)
    low = low.reshape(2, 2, 8, 8, 4, 8).transpose(1, 2).reshape(2, 128, 32)
    gi, go, low, high = (torch.complex(*t) for t in (gi, go, low, high))
    rows, columns = positions(128)[:, None], positions(n2)
    tw = (high[:, : n2 // 32, None] * low[:, None]).reshape(128, n2)[:, columns]
    w, k = torch.randn(2, 128 * n2, dtype=torch.float64)
    tiles = (x.reshape(128, n2)[rows, columns].to(torch.complex128) for x in (w, k))
    z, khat = (((go @ x) * tw) @ gi.T for x in tiles)
    p = (z * khat * math.sqrt(128 * n2)).conj()
    y = torch.empty(128, n2, dtype=torch.float64)
    y[rows, columns] = (go.T @ ((p @ gi) * tw)).real
    want = reference(w, k)
    return ((y.flatten() - want).norm() / want.norm()).item()


def compile_report(nh: int, with_spectrum: bool) -> str:
    """Compile for sm_90 without a GPU, specialized as a real launch is, and say what came out."""
    x, y = ("*fp32", "*fp16") if with_spectrum else ("*bf16", "*bf16")
    kinds = (
        f"{x} {x} {x} {y} *fp16 *fp16 *fp16 *fp16 *fp32 i32 i32 i32 i32 fp32 constexpr constexpr"
    )
    signature = dict(zip(conv_kernel.arg_names, kinds.split(), strict=True))
    aligned = {(i,): [["tt.divisibility", 16]] for i in (*range(9), 12)}  # the pointers and D
    switches = {"NH": nh, "SPECTRUM": with_spectrum}
    source = GluonASTSource(conv_kernel, signature, switches, aligned)
    built = triton.compile(source, GPUTarget("cuda", 90, 32), {"num_warps": 8})
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.TemporaryDirectory() as folder:
        ptx, cubin = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        ptx.write_text(built.asm["ptx"])
        cubin.write_bytes(built.asm["cubin"])
        dump = [tools / "cuobjdump", "-res-usage", "-sass", cubin]
        text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
        again = [tools / "ptxas", "-v", "--gpu-name", "sm_90a", ptx, "-o", Path(folder) / "again"]
        log = subprocess.run(again, capture_output=True, text=True, check=True).stderr
    sass = re.findall(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?(\w+)", text)
    spills, registers = sass.count("LDL") + sass.count("STL"), re.search(r"REG:(\d+)", text)[1]
    warned = "C7512 from ptxas: wgmma is serialized" if "C7512" in log else "no C7512 from ptxas"
    return f"{registers} registers, {spills} spill instructions, {built.metadata.shared / 1024:g} KB of shared memory, {warned}"


def launch(x0, x1, v, y, khat, tabs, gain: float = 1.0, with_spectrum: bool = False) -> None:
    """Run the kernel over contiguous rows (B, D, L) or filters (1, D, L); D is a multiple of 16."""
    B, D, L = v.shape
    programs = torch.cuda.get_device_properties(v.device).multi_processor_count
    sizes = (-(-B * D // programs), B * D, B, D, gain)
    switches = {"NH": L // 8192, "SPECTRUM": with_spectrum, "num_warps": 8}
    conv_kernel[(programs,)](x0, x1, v, y, khat, *tabs, *sizes, **switches)


def spectrum(k: torch.Tensor, bias: torch.Tensor, tabs: list[torch.Tensor]) -> torch.Tensor:
    """K̂ of the filters (D, L), with the skip weight as part of k[0]."""
    D, L = k.shape
    k = k.clone()[None]
    k[0, :, 0] += bias
    khat = torch.empty(D, 2 * L, dtype=torch.float16, device=k.device)
    launch(k, k, k, khat, khat, tabs, math.sqrt(L), True)
    return khat


def data(B: int, D: int, L: int) -> list[torch.Tensor]:
    """x0, x1, v of unit rms, k and bias: random."""
    rows = [torch.randn(B, D, L, device="cuda").bfloat16() for _ in range(3)]
    return [*rows, torch.randn(D, L, device="cuda") / math.sqrt(L), torch.randn(D, device="cuda")]


def median_ms(run, count: int = 15) -> float:
    """Median of some timings by CUDA events, after one run to warm up."""
    run()
    times = []
    for _ in range(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)[count // 2]


def check_and_time(L: int) -> None:
    """Compare with float64, then time 2^27 elements; wrong numbers exit with 1, before any speed."""
    tabs = tables(L // 128, "cuda")
    for B, D in ((3, 16), (7, 64)):
        x0, x1, v, k, bias = data(B, D, L)
        y = torch.full_like(v, float("nan"))
        launch(x0, x1, v, y, spectrum(k, bias, tabs), tabs)
        w = x1.double() * v.double()
        want = x0.double() * (reference(w, k.double()) + bias.double()[:, None] * w)
        error = ((y.double() - want).norm() / want.norm()).item()
        print(f"L = {L:,}, B = {B}, D = {D}: relative L2 error {error:.2e} (limit {LIMIT:g})")
        if not error <= LIMIT:  # NaN, where y was left unwritten, is wrong too
            raise SystemExit(1)
    B, D = 2**27 // (768 * L), 768
    x0, x1, v, k, bias = data(B, D, L)
    y, khat = torch.empty_like(v), spectrum(k, bias, tabs)
    scale = 2**27 / (B * D * L)
    alone = scale * median_ms(lambda: launch(x0, x1, v, y, khat, tabs))
    both = scale * median_ms(lambda: launch(x0, x1, v, y, spectrum(k, bias, tabs), tabs))
    print(f"  2^27 elements (B = {B}, scaled): {both:.3f} ms with K̂, {alone:.3f} without")


def main() -> None:
    """Read the mode and run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--compile", action="store_true", help="compile for sm_90 without a GPU")
    mode.add_argument("--algebra", action="store_true", help="check the algebra in float64")
    options, name = parser.parse_args(), f"Triton {triton.__version__}"
    if options.algebra:
        errors = [algebra(L // 128) for L in LENGTHS]
        for L, error in zip(LENGTHS, errors, strict=True):
            print(f"L = {L:,}: relative error {error:.1e} in float64")
        raise SystemExit(not max(errors) < 1e-12)
    if not hasattr(gl.shared_memory_descriptor, "_reinterpret"):
        give_up(f"{name} has another Gluon than 3.6, for which this prototype is written.")
    if options.compile:
        try:
            for L in LENGTHS:
                print(f"{name}, L = {L:,}, main:     {compile_report(L // 8192, False)}")
                print(f"{name}, L = {L:,}, spectrum: {compile_report(L // 8192, True)}")
        except Exception as error:
            why = str(error.__cause__ or error).partition("\n")[0]
            give_up(f"{name} cannot compile this prototype, written for the Gluon of 3.6: {why}")
        return
    if not torch.cuda.is_available() or torch.cuda.get_device_capability()[0] != 9:
        give_up("This needs a Hopper GPU (H100 or H200); --compile and --algebra work without one.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {name}")
    for L in LENGTHS:
        check_and_time(L)


if __name__ == "__main__":
    main()
