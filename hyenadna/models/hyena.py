"""The Hyena operator and the block around it (arXiv 2302.10866, HyenaDNA 2306.15794).

Letters: B batch, L length, D width, N order of the recurrence.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from hyenadna.models.config import HyenaConfig
from hyenadna.models.equivariant import (
    PAIRED,
    PairedConv1d,
    affine,
    build_conv,
    build_linear,
    build_norm,
)
from hyenadna.models.filter import MOST_KEPT_BYTES, ImplicitFilter
from hyenadna.ops import block as half_blocks
from hyenadna.ops.fftconv import fftconv, gated_fftconv, resolve_backend
from hyenadna.ops.linear import Linear, linear_gelu
from hyenadna.ops.short_conv import short_conv


class HyenaOperator(nn.Module):
    """Long convolutions and gates in place of attention.

    Project to N + 1 signals (x₀ … x_{N−1}, v), smooth each with a short causal convolution, then
    v ← k_j ⊛ (x_{N−1−j} ∘ v) + bias_j · (…) for j = 0 … N−2, and project x₀ ∘ v back.
    O(N·D·L·log L) time, O(N·D·L) memory. Causal: output t depends on inputs 0…t.

    Bidirectional: the short convolution is centred, the long ones are two-sided. What stands at masked positions is set to zero before each of them,
    so that padding is the same as the end of the sequence.
    """

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        width = config.d_model
        self.order = config.hyena_order
        self.ahead = (config.short_kernel_size - 1) // 2 if config.bidirectional else 0
        projected = width * (self.order + 1)
        self.in_proj = build_linear(config, width, projected)
        self.short_conv = build_conv(config, projected, config.short_kernel_size)
        self.filter = ImplicitFilter(config)
        self.out_proj = build_linear(config, width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D); the mask (B, L), True at real tokens, is for bidirectional models."""
        filters, bias = self.filters(x.shape[1])
        # One copy to channel-first: the convolutions below read rows along L.
        projected = self.in_proj(x).transpose(1, 2).contiguous()
        *gates, v = self.smooth(blank(projected, mask)).chunk(self.order + 1, dim=1)
        for j, (k, k_back) in enumerate(filters[:-1]):
            w = gates[self.order - 1 - j] * blank(v, mask)
            v = fftconv(w, k, bias[j], k_back=k_back)
        k, k_back = filters[-1]
        y = gated_fftconv(gates[0], gates[1], blank(v, mask), k, bias[-1], k_back=k_back)
        return cast(torch.Tensor, self.out_proj(y.transpose(1, 2)))

    def filters(
        self, length: int
    ) -> tuple[list[tuple[torch.Tensor, torch.Tensor | None]], torch.Tensor]:
        """Return (k, k_back) of each long convolution, k_back None in a causal model, and the skip weights (N − 1, H)."""
        k, bias = cast(tuple[torch.Tensor, torch.Tensor], self.filter(length))
        # Of one filter, squeeze: the gradient of an index would be a copy of it among zeros.
        each = [k.squeeze(0)] if len(k) == 1 else list(k.unbind())
        n = self.order - 1
        other_side: list[torch.Tensor] | list[None] = each[n:] or [None] * n
        return list(zip(each[:n], other_side, strict=True)), bias

    def smooth(self, projected: torch.Tensor) -> torch.Tensor:
        """Map projected signals (B, (N + 1)·D, L) through the short convolutions."""
        return smoothed(self.short_conv, projected, self.ahead)


def smoothed(layer: nn.Module, x: torch.Tensor, ahead: int) -> torch.Tensor:
    """Map (B, C, L) through a short convolution that sees so many positions ahead."""
    if type(layer) in (nn.Conv1d, PairedConv1d):
        return short_conv(x, *affine(layer), ahead=ahead)
    return cast(torch.Tensor, layer(x)[..., ahead : ahead + x.shape[-1]])  # an adapter's


def blank(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Return x (B, C, L) with zeros where the mask (B, L) is False; None masks nothing."""
    return x if mask is None else x.masked_fill(~mask[:, None], 0.0)


class MLP(nn.Module):
    """Two linear layers with a tanh-approximated GELU between them."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.fc1 = build_linear(config, config.d_model, config.inner_dim)
        self.fc2 = build_linear(config, config.inner_dim, config.d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, L, D) to (B, L, D)."""
        return cast(torch.Tensor, self.fc2(linear_gelu(self.fc1, x)))


class HyenaBlock(nn.Module):
    """Pre-norm residual block: a mixer (None is the Hyena operator; see `hyenadna.models.mixers`), then the MLP."""

    def __init__(self, config: HyenaConfig, mixer: nn.Module | None = None) -> None:
        super().__init__()
        self.norm1 = build_norm(config)
        self.mixer = HyenaOperator(config) if mixer is None else mixer
        self.norm2 = build_norm(config)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.resid_dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map the residual stream (B, L, D), float32 under autocast, to itself; the mask is for bidirectional mixers."""
        dtype = self._half_dtype(x)
        x = self._mixed(x, mask, dtype)
        if dtype is None:
            return cast(torch.Tensor, x + self.dropout(self.mlp(self.norm2(x))))
        return half_blocks.mlp_half(
            x, _affine(self.norm2), self.norm2.eps, _affine(self.mlp.fc1), _affine(self.mlp.fc2), dtype
        )  # fmt: skip

    def mix(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Map the residual stream through the first half of the block: x + mixer(norm(x))."""
        return self._mixed(x, mask, self._half_dtype(x))

    def _half_dtype(self, x: torch.Tensor) -> torch.dtype | None:
        """Return the dtype in which the operators of `hyenadna.ops.block` stand in for the layers, None where they do not."""
        dtype = half_blocks.half_dtype(x)  # None on a CPU, before anything else is looked at
        return dtype if dtype is not None and self._is_plain() else None

    def _mixed(
        self, x: torch.Tensor, mask: torch.Tensor | None, dtype: torch.dtype | None
    ) -> torch.Tensor:
        mixer = self.mixer
        if dtype is None or type(mixer) is not HyenaOperator or not self._long_enough(x, dtype):
            return cast(torch.Tensor, x + self.dropout(mixer(self.norm1(x), mask)))
        length = x.shape[1]
        k, skip = cast(tuple[torch.Tensor, torch.Tensor], mixer.filter(length))
        worth_keeping = k.nbytes <= MOST_KEPT_BYTES
        return half_blocks.mixer_half(
            x, _affine(self.norm1), self.norm1.eps, _affine(mixer.in_proj), _affine(mixer.short_conv),
            k.squeeze(0), skip.squeeze(0), _affine(mixer.out_proj), dtype,
            k_again=None if worth_keeping else lambda: mixer.filter(length)[0].squeeze(0),
        )  # fmt: skip

    def _is_plain(self) -> bool:
        """Whether nothing stands in for a layer or wants to see what goes through it, and nothing is dropped."""
        layers = [self.norm1, self.norm2, self.dropout, *self.mlp.modules()]
        if type(self.mixer) is HyenaOperator:  # others run as they are, whatever is in them
            layers += [self.mixer, *self.mixer.children()]
        return (
            all(type(layer) in _PLAIN and not is_watched(layer) for layer in layers)
            and not (self.training and self.dropout.p > 0)
            and self.norm1.weight.dtype == torch.float32
        )  # fmt: skip

    def _long_enough(self, x: torch.Tensor, dtype: torch.dtype) -> bool:
        """Whether the long convolution is one that runs on Triton kernels, which are causal."""
        mixer = cast(HyenaOperator, self.mixer)
        if mixer.order != 2 or mixer.filter.n_sides > 1:
            return False
        return resolve_backend("auto", x.device, dtype=dtype, length=x.shape[1]) == "triton"


def is_watched(layer: nn.Module) -> bool:
    """Whether hooks want to see a layer run, forward or backward."""
    return any(
        (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    )  # fmt: skip


_PLAIN = (
    Linear, nn.LayerNorm, nn.Conv1d, nn.Dropout, ImplicitFilter, HyenaOperator, MLP, *PAIRED
)  # fmt: skip


def _affine(layer: nn.Module) -> half_blocks.Affine:
    return half_blocks.Affine(*affine(layer))
