"""The HyenaDNA backbone: token ids in, hidden states out."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hyenadna.errors import SequenceLengthError
from hyenadna.models.config import HyenaConfig
from hyenadna.models.equivariant import (
    PairedEmbedding,
    PairedLayerNorm,
    affine,
    build_embedding,
    build_norm,
)
from hyenadna.models.hyena import HyenaBlock, is_watched
from hyenadna.models.mixers import build_mixer
from hyenadna.ops import block


class HyenaBackbone(nn.Module):
    """Embedding, blocks, final layer norm."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = build_embedding(config)
        self.embed_dropout = nn.Dropout(config.embed_dropout)
        self.layers = nn.ModuleList(
            [HyenaBlock(config, build_mixer(kind, config)) for kind in config.layer_mixers]
        )
        self.final_norm = build_norm(config)

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Compute the hidden states after the final layer norm.

        Parameters
        ----------
        token_ids
            Any integer dtype, shape (B, L), in 0…padded vocabulary − 1, padded on the right.
        mask
            bool, shape (B, L), True at real tokens; None means that all are. A causal model takes no notice of it: padding on the right changes no
            position before it. In a bidirectional model it keeps padding out of what real positions see; states at padding mean nothing.

        Returns
        -------
        torch.Tensor
            Shape (B, L, D).

        Raises
        ------
        SequenceLengthError
            L is 0 or exceeds the configuration's `max_seq_len`.
        """
        if token_ids.dim() != 2:
            raise ValueError(f"token_ids has the shape {tuple(token_ids.shape)}; (B, L) is needed")
        length, limit = token_ids.shape[1], self.config.max_seq_len
        if length == 0:
            raise SequenceLengthError("the input has length 0; at least one token is needed")
        if length > limit:
            raise SequenceLengthError(
                f"the input has {length:,} tokens but the model reads at most {limit:,}; score it in "
                "windows, or load the model with a larger max_seq_len, which continues its filters and positions"
            )
        if not self.config.bidirectional:
            mask = None
        x = self.embed_dropout(self._embedded(token_ids.int()))
        for layer in self.layers:
            if self.config.activation_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, mask, use_reentrant=False)
            else:
                x = layer(x, mask)
        return self._normalised(x)

    def _embedded(self, token_ids: torch.Tensor) -> torch.Tensor:
        layer, weight = self.embedding, self.embedding.weight
        plain = type(layer) in (nn.Embedding, PairedEmbedding) and not is_watched(layer)
        if plain and len(weight) <= 16 and block.half_dtype(weight):
            table = layer.table() if isinstance(layer, PairedEmbedding) else weight
            return block.embed(token_ids, table)
        return cast(torch.Tensor, self.embedding(token_ids))

    def _normalised(self, x: torch.Tensor) -> torch.Tensor:
        norm = self.final_norm
        plain = type(norm) in (nn.LayerNorm, PairedLayerNorm) and not is_watched(norm)
        if plain and block.half_dtype(x):
            return block.layer_norm(x, block.Affine(*affine(norm)), norm.eps)
        return cast(torch.Tensor, norm(x))


def initialize(module: nn.Module, config: HyenaConfig) -> None:
    """Draw initial weights in place: normal with `initializer_range`, residual outputs divided by √(2·n_layers), zero biases.

    The scheme of GPT-2, which HyenaDNA uses for every linear layer; convolutions and filter biases keep torch's defaults. Mixers of every kind name
    their last layer ``out_proj``.
    """
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear):
            residual = name.removesuffix(".strand").endswith(("out_proj", "fc2"))
            scale = (2 * config.n_layers) ** -0.5 if residual else 1.0
            nn.init.normal_(child.weight, std=config.initializer_range * scale)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
        elif isinstance(child, nn.Embedding):
            nn.init.normal_(child.weight, std=config.initializer_range)
