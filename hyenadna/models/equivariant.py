"""Layers of a model that treats both strands alike: reverse-complementing the input turns the states round, and changes nothing else.

Channels 2j and 2j + 1 of a state are one feature of the two strands. With R the reversal of positions and S the exchange of each such pair,

    ids → R·complement(ids)  makes of every state  h → R·S·h,

because every layer f commutes with R·S:

- embedding: token v has (E[v], E[complement(v)]); of the two rows each is the other's exchange.
- what acts at a position (linear maps): f(h) = (A·h, A·S·h), the first for even and the second for odd channels. These are all linear maps that commute with S; as a
  matrix, [[P, Q], [Q, P]] with A = [P, Q]: every pair of the input reaches every pair of the output, from its own strand and from the other one.
- norms, activations, gates: act on all channels alike, with one scale and offset for both of a pair.
- convolutions: the odd channel's filter is the even one's, turned round; of a two-sided filter, the sides are exchanged.
- attention: positions turn the odd channel's pairs the other way round, so that scores depend on t − s for one strand and on s − t for the other.
- logits: of token v, W[v]·(even channels) + W[complement(v)]·(odd channels), so that those of the other strand are reversed, and complements exchanged.

A model of width D has half of the parameters of an ordinary one and costs the same: nothing is computed twice, and nothing is turned round, for both strands of a
state stand at the position of their base. (Running an ordinary model of width D over both strands costs twice as much, and lets the strands meet at the end alone.)
Padding needs no care: states of real bases do not depend on it. The linear maps that commute with a group's action: Cohen and Welling, arXiv 1602.07576; for the
two strands of DNA: Zhou et al., PMLR 165:1-33, 2022, where averaging both strands of an ordinary model afterwards is the baseline that is hard to beat.

Each layer below stores what one strand needs and is used as the ordinary layer of full width, which the functions at the end choose by the configuration.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from hyenadna.models.config import HyenaConfig
from hyenadna.ops.linear import Linear, linear
from hyenadna.tokenizers import CharacterTokenizer

__all__ = [
    "PAIRED",
    "PairedConv1d",
    "PairedEmbedding",
    "PairedLayerNorm",
    "PairedLinear",
    "PairedReadout",
    "affine",
    "build_conv",
    "build_embedding",
    "build_linear",
    "build_norm",
    "build_readout",
    "exchanged",
]


def exchanged(x: torch.Tensor) -> torch.Tensor:
    """Exchange the strands of features (…, D): channel 2j with 2j + 1."""
    return x.reshape(*x.shape[:-1], -1, 2).flip(-1).flatten(-2)


def _twice(x: torch.Tensor) -> torch.Tensor:
    """Give both channels of a pair the same: (N,) to (2·N,)."""
    return torch.stack([x, x], dim=-1).flatten()


class PairedLinear(nn.Module):
    """A linear map (…, K) to (…, M) that commutes with the exchange of strands.

    Its one child `strand`, of K inputs and M / 2 outputs, computes the even channels; the same of exchanged inputs are the odd ones.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.strand: nn.Module = Linear(n_in, n_out // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (…, K) to (…, M)."""
        if type(self.strand) is Linear:
            return linear(x, *self.affine())
        # An adapter's, which is then the same for both strands, too.
        return torch.stack([self.strand(x), self.strand(exchanged(x))], dim=-1).flatten(-2)

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the matrix (M, K) and the bias (M,)."""
        strand = cast(Linear, self.strand)
        matrix = torch.stack([strand.weight, exchanged(strand.weight)], dim=1).flatten(0, 1)
        return matrix, _twice(strand.bias)


class PairedLayerNorm(nn.LayerNorm):
    """A layer norm over all D channels, with one scale and offset for each pair."""

    def __init__(self, width: int, *, eps: float) -> None:
        super().__init__(width // 2, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (…, D) to (…, D)."""
        return F.layer_norm(x, x.shape[-1:], *self.affine(), self.eps)

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale and offset, each (D,)."""
        return _twice(self.weight), _twice(self.bias)


class PairedConv1d(nn.Conv1d):
    """A depthwise convolution of C channels with an odd number of taps, the odd channels' filters being the even ones' turned round."""

    def __init__(self, channels: int, taps: int) -> None:
        half = channels // 2
        super().__init__(half, half, taps, groups=half, padding=taps - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, L) to (B, C, L + K − 1), as `torch.nn.Conv1d` does; the centre of that is what commutes."""
        filters, bias = self.affine()
        return F.conv1d(x, filters, bias, padding=self.padding, groups=len(bias))

    def affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the filters (C, 1, K) and the bias (C,)."""
        filters = torch.stack([self.weight, self.weight.flip(-1)], dim=1).flatten(0, 1)
        return filters, _twice(cast(torch.Tensor, self.bias))


class PairedEmbedding(nn.Embedding):
    """An embedding of V tokens, in which complements are each other's exchange."""

    complement: torch.Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__(rows, width // 2)
        self.register_buffer("complement", _complements(rows), persistent=False)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Map token ids (…) to (…, D)."""
        return F.embedding(token_ids, self.table())

    def table(self) -> torch.Tensor:
        """Return the rows of all tokens, (V, D)."""
        return _table(self.weight, self.complement)


class PairedReadout(nn.Linear):
    """Logits of V tokens; of the other strand, those of the complements."""

    complement: torch.Tensor

    def __init__(self, width: int, rows: int) -> None:
        super().__init__(width // 2, rows, bias=False)
        self.register_buffer("complement", _complements(rows), persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (…, D) to (…, V)."""
        return F.linear(hidden, _table(self.weight, self.complement))


def _complements(rows: int) -> torch.Tensor:
    """Return the complement of each token id; rows beyond the vocabulary, which fill a table up, are their own."""
    ids = np.arange(rows)
    known = ids[: CharacterTokenizer().vocab_size]
    known[:] = CharacterTokenizer().complement(known.astype(np.uint8))
    return torch.tensor(ids.tolist())


def _table(weight: torch.Tensor, complement: torch.Tensor) -> torch.Tensor:
    """Return rows of full width, (V, D), from one strand's, (V, D / 2)."""
    other = weight.index_select(0, complement)
    return torch.stack([weight, other], dim=-1).flatten(-2)


PAIRED = (PairedLinear, PairedLayerNorm, PairedConv1d, PairedEmbedding, PairedReadout)


def affine(layer: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of a linear layer, norm or convolution, or of the full width that a paired one stands for."""
    if isinstance(layer, PairedLinear | PairedLayerNorm | PairedConv1d):
        return layer.affine()
    return cast(torch.Tensor, layer.weight), cast(torch.Tensor, layer.bias)


def build_linear(config: HyenaConfig, n_in: int, n_out: int) -> nn.Module:
    """Return a linear layer of a block."""
    return PairedLinear(n_in, n_out) if config.equivariant else Linear(n_in, n_out)


def build_norm(config: HyenaConfig) -> nn.LayerNorm:
    """Return a layer norm over the width."""
    kind = PairedLayerNorm if config.equivariant else nn.LayerNorm
    return kind(config.d_model, eps=config.layer_norm_eps)


def build_conv(config: HyenaConfig, channels: int, taps: int) -> nn.Conv1d:
    """Return a depthwise convolution."""
    if config.equivariant:
        return PairedConv1d(channels, taps)
    return nn.Conv1d(channels, channels, taps, groups=channels, padding=taps - 1)


def build_embedding(config: HyenaConfig) -> nn.Embedding:
    """Return the embedding of tokens."""
    kind = PairedEmbedding if config.equivariant else nn.Embedding
    return kind(config.padded_vocab_size, config.d_model)


def build_readout(config: HyenaConfig) -> nn.Linear:
    """Return the head of a language model."""
    if config.equivariant:
        return PairedReadout(config.d_model, config.padded_vocab_size)
    return nn.Linear(config.d_model, config.padded_vocab_size, bias=False)
