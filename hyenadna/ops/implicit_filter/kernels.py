# mypy: ignore-errors
"""Kernels of the implicit filter: positions → sine MLP → window → rows of k, and the gradients of all weights.

Hidden layers are (positions, units) tiles, so that each is the left operand of the next product; k is a (channels, positions) tile. No
hidden layer leaves the chip: the backward kernel computes each phase again from the positions. Products are made of 16-bit pieces
(`pieces`, `dot3`).
"""

from __future__ import annotations

import triton
import triton.language as tl

from hyenadna.ops._backend import interpreted

# The interpreter takes the bits of bfloat16 numbers for integers in products; those of 16-bit pieces are exact in float32.
_INTERPRETED = tl.constexpr(interpreted())


@triton.jit
def reduced(x):
    """Return r in about ±π/2 and q with x = q·π + r; beyond 1e5, where float32 hardly holds a phase, r is merely bounded. NaN stays."""
    q = tl.floor(x * 0.31830988618379067 + 0.5)
    r = x - q * 3.140625
    r = r - q * 0.0009670257568359375
    r = r - q * 6.2771141529083251953e-07
    r = r - q * 1.2154201256553420762e-10
    r = tl.maximum(r, -1.58, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(r, 1.58, propagate_nan=tl.PropagateNan.ALL), q.to(tl.int32)


@triton.jit
def with_sign(x, q):
    """Return (−1)^q · x."""
    return (x.to(tl.int32, bitcast=True) ^ (q << 31)).to(tl.float32, bitcast=True)


@triton.jit
def sine_of(r, q):
    """Return sin(q·π + r), good to 1e-7."""
    u = r * r
    p = 2.5994481e-06 * u - 0.000198063421
    p = p * u + 0.00833301353
    p = p * u - 0.166666569
    return with_sign(r * u * p + r, q)


@triton.jit
def cosine_of(r, q):
    """Return cos(q·π + r), good to 1e-7."""
    u = r * r
    p = -2.60713287e-07 * u + 2.47615731e-05
    p = p * u - 0.00138883977
    p = p * u + 0.0416666403
    p = p * u - 0.499999995
    return with_sign(p * u + 1.0, q)


@triton.jit
def pieces(x, DT: tl.constexpr):
    """Return a high and a low part of x: float16 keeps 22 bits of numbers near one, bfloat16 16 bits of any number."""
    high = _rounded(x, DT).to(DT)
    return high, _rounded(x - high.to(tl.float32), DT).to(DT)


@triton.jit
def _rounded(x, DT: tl.constexpr):
    """Make the interpreter round to bfloat16, which it would only cut off; elsewhere return x."""
    if _INTERPRETED and tl.bfloat16 == DT:
        x = (x.to(tl.int32, bitcast=True) + 0x8000).to(tl.float32, bitcast=True)
    return x


@triton.jit
def dot3(a_high, a_low, b_high, b_low):
    """Return the product of two matrices given in pieces, without that of the low ones, with float32 sums."""
    if _INTERPRETED:
        a_high, a_low = a_high.to(tl.float32), a_low.to(tl.float32)
        b_high, b_low = b_high.to(tl.float32), b_low.to(tl.float32)
    acc = tl.dot(a_low, b_high)
    acc = tl.dot(a_high, b_low, acc)
    return tl.dot(a_high, b_high, acc)


@triton.jit
def pack(
    hidden_p,
    out_p,
    freq_p,
    high_p,
    low_p,
    scale_p,
    hidden_rows,
    C,
    W,
    WP: tl.constexpr,
    ROWS: tl.constexpr,
    SCALED: tl.constexpr,
):
    """Cut freq ∘ hidden weights, then output weights, into pieces: planes (R, WP), zero beyond W columns and the last row.

    With SCALED, each row is divided by a power of two, kept in `scale` (R,), which brings its largest weight to 1024…2048: the low pieces
    are then normal numbers of float16, too.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    i = tl.arange(0, WP)
    unit = row % WP
    is_hidden = row < hidden_rows
    source = row // WP * W + unit
    columns = (i < W)[None, :]
    alive = is_hidden & (unit < W)
    freq = tl.load(freq_p + unit, mask=alive, other=0.0)
    w = tl.load(
        hidden_p + source[:, None] * W + i[None, :], mask=alive[:, None] & columns, other=0.0
    )
    c = row - hidden_rows
    out = tl.load(
        out_p + c[:, None] * W + i[None, :],
        mask=((c >= 0) & (c < C))[:, None] & columns,
        other=0.0,
    )
    w = w * freq[:, None] + out
    if SCALED:
        bits = w.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        e = tl.maximum(tl.max(bits, axis=1) >> 23, 11)
        w = w * ((264 - e) << 23).to(tl.float32, bitcast=True)[:, None]
        tl.store(scale_p + row, ((e - 10) << 23).to(tl.float32, bitcast=True))
    high, low = pieces(w, high_p.dtype.element_ty)
    place = row[:, None] * WP + i[None, :]
    tl.store(high_p + place, high)
    tl.store(low_p + place, low)


@triton.jit
def _phase(
    depth, z_p, first_p, bias_p, freq_p, high_p, low_p, scale_p, t, live, W,
    E: tl.constexpr, WP: tl.constexpr,
):  # fmt: skip
    """Return freq ∘ (the affine part of sine layer `depth`), (T, WP): its phase; columns beyond W are zero."""
    o = tl.arange(0, WP)
    i = tl.arange(0, WP)
    keep = o < W
    freq = tl.load(freq_p + o, mask=keep, other=0.0)
    phase = tl.load(bias_p + o, mask=keep, other=0.0)[None, :]
    for e in tl.static_range(E):
        w = tl.load(first_p + o * E + e, mask=keep, other=0.0)
        z = tl.load(z_p + t * E + e, mask=live, other=0.0)
        phase = phase + w[None, :] * z[:, None]
    phase = phase * freq[None, :]
    for layer in range(depth):
        r, q = reduced(phase)
        h_high, h_low = pieces(sine_of(r, q), tl.float16)
        row = layer * WP + o
        place = row[None, :] * WP + i[:, None]
        u = dot3(h_high, h_low, tl.load(high_p + place), tl.load(low_p + place))
        bias = tl.load(bias_p + (layer + 1) * W + o, mask=keep, other=0.0) * freq
        phase = u * tl.load(scale_p + row)[None, :] + bias[None, :]
    return phase


@triton.jit
def _window(decay_p, c, C, t, step, shift):
    """Return exp(−t·step·|decay|) + shift, (channels, T)."""
    rate = tl.abs(tl.load(decay_p + c, mask=c < C, other=0.0)) * -1.4426950408889634
    at = t.to(tl.float32) * step
    return tl.exp2(rate[:, None] * at[None, :]) + shift


@triton.jit(do_not_specialize=["layers", "blocks"])
def filter_forward(
    z_p, first_p, bias_p, freq_p, high_p, low_p, scale_p, decay_p, k_p,
    L, C, W, layers, blocks, step, shift,
    E: tl.constexpr, WP: tl.constexpr, T: tl.constexpr, CB: tl.constexpr,
):  # fmt: skip
    """Rows of k (C, L): a program takes T positions and `blocks` blocks of CB channels."""
    t = tl.program_id(0) * T + tl.arange(0, T)
    live = t < L
    o = tl.arange(0, WP)
    phase = _phase(layers, z_p, first_p, bias_p, freq_p, high_p, low_p, scale_p, t, live, W, E, WP)
    r, q = reduced(phase)
    h_high, h_low = pieces(sine_of(r, q), tl.float16)
    h_high = tl.trans(h_high)
    h_low = tl.trans(h_low)
    for block in range(blocks):
        c = (tl.program_id(1) * blocks + block) * CB + tl.arange(0, CB)
        row = layers * WP + c
        place = row[:, None] * WP + o[None, :]
        k = dot3(tl.load(high_p + place), tl.load(low_p + place), h_high, h_low)
        k = k * tl.load(scale_p + row)[:, None] * _window(decay_p, c, C, t, step, shift)
        tl.store(
            k_p + c.to(tl.int64)[:, None] * L + t[None, :], k, mask=(c < C)[:, None] & live[None, :]
        )


@triton.jit(do_not_specialize=["layers", "blocks", "tiles"])
def filter_backward(
    dk_p, z_p, first_p, bias_p, freq_p, high_p, low_p, scale_p, b_high_p, b_low_p, decay_p, dz_p, parts_p,
    L, C, W, layers, blocks, tiles, step, shift,
    E: tl.constexpr, WP: tl.constexpr, T: tl.constexpr, CB: tl.constexpr,
    LEARNED: tl.constexpr,
):  # fmt: skip
    """Sums over every n-th tile of positions of the weights' gradients; dz (L, E) with LEARNED.

    A program's part (R, WP) has rows for the output weights (blocks·CB), the hidden layers and the first one (WP each; `freq` not yet
    applied), and one for each layer's bias. It must be zero at first. b_high, b_low are the weights in bfloat16, unscaled.
    """
    pid = tl.program_id(0)
    o = tl.arange(0, WP)
    i = tl.arange(0, WP)
    cb = tl.arange(0, CB)
    keep = o < W
    out_rows = blocks * CB
    sum_row = out_rows + (layers + 1) * WP
    parts_p += pid.to(tl.int64) * (sum_row + layers + 1) * WP
    for tile in range(pid, tiles, tl.num_programs(0)):
        t = tile * T + tl.arange(0, T)
        live = t < L
        phase = _phase(
            layers, z_p, first_p, bias_p, freq_p, high_p, low_p, scale_p, t, live, W, E, WP
        )
        r, q = reduced(phase)
        h_high, h_low = pieces(sine_of(r, q), tl.bfloat16)
        slope = cosine_of(r, q)
        dh = tl.zeros([T, WP], tl.float32)
        for block in range(blocks):
            c = block * CB + cb
            g = tl.load(
                dk_p + c.to(tl.int64)[:, None] * L + t[None, :],
                mask=(c < C)[:, None] & live[None, :],
                other=0.0,
            )
            g = g * _window(decay_p, c, C, t, step, shift)
            g_high, g_low = pieces(g, tl.bfloat16)
            place = c[:, None] * WP + i[None, :]
            from_out = layers * WP * WP + place
            w_high = tl.load(b_high_p + from_out)
            w_low = tl.load(b_low_p + from_out)
            dh += dot3(tl.trans(g_high), tl.trans(g_low), w_high, w_low)
            share = dot3(g_high, g_low, h_high, h_low)
            tl.store(parts_p + place, tl.load(parts_p + place) + share)
        for up in range(layers):
            layer = layers - 1 - up
            du = dh * slope
            bias_at = parts_p + (sum_row + layer + 1) * WP + o
            tl.store(bias_at, tl.load(bias_at) + tl.sum(du, axis=0))
            d_high, d_low = pieces(du, tl.bfloat16)
            phase = _phase(
                layer, z_p, first_p, bias_p, freq_p, high_p, low_p, scale_p, t, live, W, E, WP
            )
            r, q = reduced(phase)
            h_high, h_low = pieces(sine_of(r, q), tl.bfloat16)
            slope = cosine_of(r, q)
            place = (layer * WP + o)[:, None] * WP + i[None, :]
            share = dot3(tl.trans(d_high), tl.trans(d_low), h_high, h_low)
            at = parts_p + out_rows * WP + place
            tl.store(at, tl.load(at) + share)
            w_high = tl.load(b_high_p + place)
            w_low = tl.load(b_low_p + place)
            dh = dot3(d_high, d_low, w_high, w_low)
        du = dh * slope
        bias_at = parts_p + sum_row * WP + o
        tl.store(bias_at, tl.load(bias_at) + tl.sum(du, axis=0))
        d_high, d_low = pieces(du, tl.bfloat16)
        # Positions are padded to WP features: ptxas 12.8 gives narrower right operands undefined addresses.
        spot = t[:, None] * E + i[None, :]
        inside = live[:, None] & (i < E)[None, :]
        z_high, z_low = pieces(tl.load(z_p + spot, mask=inside, other=0.0), tl.bfloat16)
        share = dot3(tl.trans(d_high), tl.trans(d_low), z_high, z_low)
        at = parts_p + (out_rows + (layers * WP + o)[:, None]) * WP + i[None, :]
        tl.store(at, tl.load(at) + share)
        if LEARNED:
            freq = tl.load(freq_p + o, mask=keep, other=0.0)
            for e in tl.static_range(E):
                w = tl.load(first_p + o * E + e, mask=keep, other=0.0) * freq
                tl.store(dz_p + t * E + e, tl.sum(du * w[None, :], axis=1), mask=live)
        # The next tile adds to the same sums, perhaps by other threads.
        tl.debug_barrier()
