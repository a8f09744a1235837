"""Hidden states of sequences that differ from others only from some position on: of those others, the trunks, all is computed, of the branches only what differs.

In a causal model a branch has its trunk's states before the position `start`. What acts at a position is computed for the rest alone. A convolution is linear: with the input w of
the trunk and w′ of the branch, k ⊛ w′ = k ⊛ w + k ⊛ (w′ − w), and the last term begins at `start`, so that it is the convolution of a signal as short as the rest.
Attention looks at its trunk's keys and values. Half a window that differs costs half of a pass, not a whole one.

Letters: R trunks, A branches, L length, n = L − start, D width.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from hyenadna.models import (
    CausalAttention,
    GatedConvolution,
    HyenaBackbone,
    HyenaBlock,
    HyenaOperator,
    MultiHeadHyena,
)
from hyenadna.models.hyena import smoothed
from hyenadna.ops.fftconv import fftconv

__all__ = ["branch_states"]


class _Pair(NamedTuple):
    """Something of trunks and branches: (R, …, L) and (A, …, n) with positions last, or (R, L, D) and (A, n, D)."""

    trunks: torch.Tensor
    branches: torch.Tensor


class _Fork(NamedTuple):
    """Which trunk each branch leaves, int64, shape (A,), and at which position."""

    trunk: torch.Tensor
    start: int


def branch_states(
    backbone: HyenaBackbone,
    token_ids: torch.Tensor,
    branch_ids: torch.Tensor,
    trunk: torch.Tensor,
    start: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute hidden states after the final layer norm from position `start` on.

    Parameters
    ----------
    backbone
        Of a causal model, in evaluation mode.
    token_ids
        Trunks, any integer dtype, shape (R, L).
    branch_ids
        What branches have from `start` on, shape (A, n); before that they are as their trunks.
    trunk
        int64, shape (A,): the row of each branch's trunk. There may be no branches.
    start
        0…L − 1.

    Returns
    -------
    tuple of torch.Tensor
        Of trunks and of branches, (R, n, D) and (A, n, D), equal to those of whole passes but for rounding.
    """
    if not len(trunk):
        states = backbone(token_ids)[:, start:]
        return states, states[:0]
    fork = _Fork(trunk, start)
    x = _Pair(backbone.embedding(token_ids.int()), backbone.embedding(branch_ids.int()))
    for number, module in enumerate(backbone.layers):
        layer = cast(HyenaBlock, module)
        # Of the last layer's output nothing before the fork is asked for.
        kept = start if number == len(backbone.layers) - 1 else 0
        mixed = _mix(layer.mixer, _Pair(*map(layer.norm1, x)), fork, kept)
        x = _Pair(x.trunks[:, kept:] + mixed.trunks, x.branches + mixed.branches)
        x = _Pair(*(one + layer.mlp(layer.norm2(one)) for one in x))
    trunks, branches = map(backbone.final_norm, x)
    return trunks, branches


def _mix(mixer: nn.Module, x: _Pair, fork: _Fork, kept: int) -> _Pair:
    """Return the mixer's output, of trunks from position `kept` on."""
    if isinstance(mixer, CausalAttention):
        return _attention(mixer, x, fork, kept)
    assert isinstance(mixer, HyenaOperator | GatedConvolution)
    projected = _Pair(*(mixer.in_proj(one).transpose(1, 2).contiguous() for one in x))
    if isinstance(mixer, GatedConvolution):
        y = _gated_convolution(mixer, projected, fork)
    elif isinstance(mixer, MultiHeadHyena):
        y = _multi_head_hyena(mixer, projected, fork)
    else:
        y = _hyena(mixer, projected, fork)
    outputs = (mixer.out_proj(one.transpose(1, 2)) for one in (y.trunks[..., kept:], y.branches))
    return _Pair(*outputs)


def _hyena(mixer: HyenaOperator, projected: _Pair, fork: _Fork) -> _Pair:
    filters, bias = mixer.filters(projected.trunks.shape[-1])
    *gates, v = _chunks(_short(mixer.short_conv, projected, fork), mixer.order + 1)
    for j, (k, _) in enumerate(filters):
        v = _long(_times(gates[mixer.order - 1 - j], v), k, bias[j], fork)
    return _times(gates[0], v)


def _multi_head_hyena(mixer: MultiHeadHyena, projected: _Pair, fork: _Fork) -> _Pair:
    ((k, _),), bias = mixer.filters(projected.trunks.shape[-1])
    smooth = _short(mixer.short_conv, projected, fork)
    heads = [mixer.heads(one) for one in smooth]
    w = _Pair(*(mixer.outer(x1, v) for _, x1, v in heads))
    y = _long(w, k, bias.squeeze(0), fork)
    return _Pair(*(mixer.read_out(x0, one) for (x0, _, _), one in zip(heads, y, strict=True)))


def _gated_convolution(mixer: GatedConvolution, projected: _Pair, fork: _Fork) -> _Pair:
    x0, x1, v = _chunks(projected, 3)
    return _times(x0, _short(mixer.conv, _times(x1, v), fork))


def _attention(mixer: CausalAttention, x: _Pair, fork: _Fork, kept: int) -> _Pair:
    q, k, v = mixer.heads(x.trunks)
    trunks = mixer.join(scaled_dot_product_attention(q, k, v, is_causal=True))
    q, *new = mixer.heads(x.branches, fork.start)
    k, v = (
        torch.cat([old[:, :, : fork.start][fork.trunk], own], dim=2)
        for old, own in zip((k, v), new, strict=True)
    )
    seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(fork.start)
    branches = mixer.join(scaled_dot_product_attention(q, k, v, attn_mask=seen))
    return _Pair(trunks[:, kept:], branches)


def _chunks(x: _Pair, n: int) -> list[_Pair]:
    return list(map(_Pair, *(one.chunk(n, dim=1) for one in x)))


def _times(x: _Pair, y: _Pair) -> _Pair:
    return _Pair(x.trunks * y.trunks, x.branches * y.branches)


def _short(layer: nn.Conv1d, x: _Pair, fork: _Fork) -> _Pair:
    """Map signals (…, C, length) through a short causal convolution; branches see the end of what they have in common with their trunks."""
    first = max(0, fork.start - layer.weight.shape[-1] + 1)
    joined = torch.cat([x.trunks[..., first : fork.start][fork.trunk], x.branches], dim=-1)
    return _Pair(
        smoothed(layer, x.trunks, 0), smoothed(layer, joined, 0)[..., fork.start - first :]
    )


def _long(w: _Pair, k: torch.Tensor, bias: torch.Tensor, fork: _Fork) -> _Pair:
    """Convolve signals (…, H, length) with the filters (H, L): those of branches by their difference from the trunk's."""
    trunks = fftconv(w.trunks.flatten(0, -3), k, bias).reshape(w.trunks.shape)
    old, y = (one[..., fork.start :][fork.trunk] for one in (w.trunks, trunks))
    change = (w.branches - old).flatten(0, -3)
    change = fftconv(change, k[:, : change.shape[-1]].contiguous(), bias)
    return _Pair(trunks, y + change.reshape(w.branches.shape))
