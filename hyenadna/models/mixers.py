"""What mixes positions in a layer, beside the Hyena operator: attention, a gated short convolution, and Hyena with heads.

All map (B, L, D) to (B, L, D), and stand in the same block (`hyenadna.models.hyena.HyenaBlock`). In a causal model they need no mask: padding on the right
changes no earlier position. In a bidirectional one they leave masked positions out of all sums. `HyenaConfig.mixers` says which layer has which, `build_mixer` makes it; how each decodes token by token stands in
`hyenadna.inference.decoding`.

Letters: B batch, L length, D width, H heads, P = D / H channels of a head.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from hyenadna.models.config import HyenaConfig
from hyenadna.models.equivariant import build_conv, build_linear
from hyenadna.models.hyena import HyenaOperator, blank, smoothed
from hyenadna.ops.fftconv import fftconv

__all__ = [
    "Attention",
    "CausalAttention",
    "GatedConvolution",
    "MultiHeadHyena",
    "build_mixer",
    "rotate",
]


def build_mixer(kind: str, config: HyenaConfig) -> nn.Module:
    """Return the mixer of a layer, one of `hyenadna.models.config.MIXERS`."""
    if kind == "attention":
        return Attention(config) if config.bidirectional else CausalAttention(config)
    if kind == "conv":
        return GatedConvolution(config)
    return HyenaOperator(config) if config.hyena_head_dim == 1 else MultiHeadHyena(config)


class MultiHeadHyena(HyenaOperator):
    """Hyena of order 2 whose heads mix their channels: one filter a head, over outer products of gate and value.

    Of the smoothed projections x₀, x₁, v (each H heads of P channels), with h a head's filter and b its skip weight,

    y_p[t] = Σ_r x₀_r[t] · ( Σ_{s ≤ t} h[t − s] · x₁_r[s] · v_p[s]  +  b · x₁_r[t] · v_p[t] ).

    That is linear attention (queries x₀, keys x₁, values v) with a learned weight for each distance: multi-head Hyena of arXiv 2310.18780, §4,
    the form that MAD tests (arXiv 2403.17844, App. C). P = 1 is the ordinary Hyena. Channel p·H + h of a signal is component p of head h.

    O(P·D·L·log L) time, O(P·D·L) memory: P times the ordinary Hyena's. Filters have 1/P of its parameters.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__(config)
        self.head_dim = config.hyena_head_dim
        self.n_heads = config.d_model // self.head_dim

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D); the mask (B, L), True at real tokens, is for bidirectional models."""
        ((k, k_back),), bias = self.filters(x.shape[1])
        projected = self.in_proj(x).transpose(1, 2).contiguous()
        x0, x1, v = self.heads(blank(self.smooth(blank(projected, mask)), mask))
        w = self.outer(x1, v)
        y = fftconv(w.flatten(0, 2), k, bias.squeeze(0), k_back=k_back).reshape(w.shape)
        return cast(torch.Tensor, self.out_proj(self.read_out(x0, y).transpose(1, 2)))

    def heads(self, smooth: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Part smoothed signals (B, 3·D, …) into x₀, x₁ and v, each (B, P, H, …)."""
        shape = (len(smooth), self.head_dim, self.n_heads, *smooth.shape[2:])
        return tuple(s.reshape(shape) for s in smooth.chunk(3, dim=1))

    @staticmethod
    def outer(x1: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Multiply every x₁_r with every v_p of a head: (B, P, P, H, …), r before p."""
        return x1[:, :, None] * v[:, None]

    @staticmethod
    def read_out(x0: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Sum x₀_r ∘ y_rp over r: (B, D, …)."""
        return (x0[:, :, None] * y).sum(1).flatten(1, 2)


class Attention(nn.Module):
    """Softmax attention to all real positions, with rotary positions.

    y[t] = Σ_s softmax_s(q[t] · k[s] / √P) · v[s] in each head, q and k turned by their positions (RoFormer, arXiv 2104.09864), so that
    their product depends on t − s alone. O(D·L²) time; memory O(D·L) where torch has a fused kernel for the device and dtype.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.n_heads = config.attention_heads
        self.base = config.rotary_base
        self.paired = config.equivariant
        self.in_proj = build_linear(config, config.d_model, 3 * config.d_model)
        self.out_proj = build_linear(config, config.d_model, config.d_model)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D); keys where the mask (B, L) is False are not looked at."""
        keys = None if mask is None else mask[:, None, None]
        return self.join(scaled_dot_product_attention(*self.heads(x), attn_mask=keys))

    def heads(
        self, x: torch.Tensor, first: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Project (B, L, D) at positions `first` … to queries, keys and values, each (B, H, L, P), the first two turned."""
        projected = self.in_proj(x).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = (s.transpose(1, 2) for s in projected.unbind(2))
        q, k = (rotate(s, self.base, first, paired=self.paired) for s in (q, k))
        return q, k, v

    def join(self, y: torch.Tensor) -> torch.Tensor:
        """Project the heads' results (B, H, L, P) back to (B, L, D)."""
        return cast(torch.Tensor, self.out_proj(y.transpose(1, 2).flatten(2)))


class CausalAttention(Attention):
    """Attention to all positions up to one's own: the sums of `Attention` are over s ≤ t, and need no mask."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D)."""
        return self.join(scaled_dot_product_attention(*self.heads(x), is_causal=True))


def rotate(x: torch.Tensor, base: float, first: int = 0, *, paired: bool = False) -> torch.Tensor:
    """Turn channels j and j + P/2 of each position as a pair by the angle position · base^(−2j / P).

    Parameters
    ----------
    x
        Floating point, shape (…, L, P), P even.
    base
        > 1.
    first
        Position of the first row.
    paired
        Of an equivariant model, P a multiple of 4: channels j = 2i and 2i + 1 have one angle, that of 2i, and the second turns the other way round.

    Returns
    -------
    torch.Tensor
        Shape and dtype of x. Angles are float64 and products at least float32: a million positions in float32 would be off by 0.06.
    """
    length, width = x.shape[-2:]
    # Some devices have no float64.
    where = x.device if x.device.type in ("cuda", "meta") else None
    position = torch.arange(first, first + length, dtype=torch.float64, device=where)
    exponent = torch.arange(0, width, 2, dtype=torch.float64, device=where) / width
    frequency = base**-exponent
    if paired:
        frequency = torch.stack([frequency[::2], -frequency[::2]], dim=-1).flatten()
    angle = position[:, None] * frequency
    dtype = torch.promote_types(x.dtype, torch.float32)
    cos, sin = angle.cos().to(x.device, dtype), angle.sin().to(x.device, dtype)
    a, b = x.to(dtype).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class GatedConvolution(nn.Module):
    """Hyena of order 2 with a short explicit filter in place of the long implicit one, and nothing smoothed before.

    y = x₀ ∘ (c ⊛ (x₁ ∘ v) + bias), c of `conv_kernel_size` taps for each channel. A position sees only as many before it, or in a
    bidirectional model half of them to either side; O(D·L) time and memory.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        width, taps = config.d_model, config.conv_kernel_size
        self.ahead = (taps - 1) // 2 if config.bidirectional else 0
        self.in_proj = build_linear(config, width, 3 * width)
        self.conv = build_conv(config, width, taps)
        self.out_proj = build_linear(config, width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D); the mask (B, L), True at real tokens, is for bidirectional models."""
        x0, x1, v = self.in_proj(x).transpose(1, 2).contiguous().chunk(3, dim=1)
        y = x0 * self.convolve(blank(x1 * v, mask))
        return cast(torch.Tensor, self.out_proj(y.transpose(1, 2)))

    def convolve(self, w: torch.Tensor) -> torch.Tensor:
        """Map (B, D, L) through the short convolution."""
        return smoothed(self.conv, w, self.ahead)
