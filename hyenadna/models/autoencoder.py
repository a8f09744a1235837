"""An autoencoder around the backbone: all that it knows of a row at the last position is what the row is decoded from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import gelu

from hyenadna.errors import CheckpointError
from hyenadna.models.backbone import initialize
from hyenadna.models.checkpoint import read_model_folder
from hyenadna.models.config import HyenaConfig
from hyenadna.models.language import HyenaModel

__all__ = ["HyenaAutoencoder"]


class HyenaAutoencoder(HyenaModel):
    """The model of MAD's compression task (arXiv 2403.17844, App. B), which has to recover a row from one state.

    The state after the last token, plus the sines and cosines of a position, goes through two layers of width D and gives that position's token.

    Parameters
    ----------
    config
        Of the backbone; D is even.
    """

    positions: torch.Tensor

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__(config)
        width = config.d_model
        self.register_buffer(
            "positions", position_codes(config.max_seq_len, width), persistent=False
        )
        self.norms = nn.ModuleList(
            [nn.LayerNorm(width, eps=config.layer_norm_eps) for _ in range(3)]
        )
        self.linears = nn.ModuleList([nn.Linear(width, width) for _ in range(2)])
        self.lm_head = nn.Linear(width, config.padded_vocab_size)
        initialize(self, config)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of the tokens that were read.

        Parameters
        ----------
        token_ids
            Any integer dtype, shape (B, L), no padding.

        Returns
        -------
        torch.Tensor
            Shape (B, L, V), V the padded vocabulary; position t is about token t.
        """
        state = self.backbone(token_ids)[:, -1:]
        x = state + self.positions[: token_ids.shape[1]]
        for norm, linear in zip(self.norms, self.linears, strict=False):
            x = gelu(linear(norm(x)))
        return cast(torch.Tensor, self.lm_head(self.norms[-1](x)))

    def head_settings(self) -> dict[str, Any]:
        """Return what tells the folder from those of other models."""
        return {"kind": "autoencoder"}

    @classmethod
    def from_pretrained(cls, source: str | Path) -> HyenaAutoencoder:
        """Load an autoencoder from its folder.

        Raises
        ------
        CheckpointError
            Files are missing, or hold another model.
        """
        found = read_model_folder(source)
        if (found.head or {}).get("kind") != "autoencoder":
            raise CheckpointError(
                f"{source} holds no autoencoder; hyenadna.load_model loads others"
            )
        model = cls(found.config)
        found.load_into(model)
        return model.eval()


def position_codes(length: int, width: int) -> torch.Tensor:
    """Return the sines and cosines of positions 0…length−1 (Transformer, arXiv 1706.03762, §3.5), float32, shape (length, width)."""
    frequency = torch.exp(
        torch.arange(0, width, 2, dtype=torch.float64) * (-math.log(10_000) / width)
    )
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width].float()
