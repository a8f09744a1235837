"""From hidden states to one vector a sequence: pooling that is exact under padding, and the linear classifier."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import nn
from torch.nn import functional as F

from hyenadna.errors import ConfigError

Pooling = Literal["mean", "last", "attention", "attention_max", "positional"]
_PLACE_WIDTH = 16  # numbers that the positional readout has of each position


class ClassificationHead(nn.Module):
    """Pool real positions, drop out, classify.

    Parameters
    ----------
    d_model
        Width D of the hidden states.
    n_classes
        Number of classes C ≥ 2.
    pooling
        ``"mean"`` of the real positions, the ``"last"`` real position, a learned ``"attention"`` average; ``"attention_max"``: that
        average and the maximum, which sees a motif that stands in one place; or ``"positional"``: those two, and sixteen numbers of every
        position, each with weights of its own. It is for sequences cut around a start site or a splice site, where the place of a motif says as
        much as the motif.
    bias
        Whether the linear layer has a bias (the published -hf classifier has none).
    dropout
        Probability of dropping a pooled feature.
    n_positions
        With positional pooling: the first so many positions have weights of their own.
    both_directions
        Hidden states are of both strands, (B, L, 2·D), and are first joined to width D.
    """

    def __init__(
        self,
        d_model: int,
        n_classes: int,
        *,
        pooling: Pooling = "mean",
        bias: bool = True,
        dropout: float = 0.0,
        n_positions: int = 0,
        both_directions: bool = False,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ConfigError(
                f"pooling {pooling!r} is unknown; expected one of {', '.join(get_args(Pooling))}"
            )
        if n_classes < 2:
            raise ConfigError(f"n_classes={n_classes} is impossible; a classifier has at least 2")
        if (pooling == "positional") != (n_positions > 0):
            raise ConfigError(
                f"n_positions={n_positions} does not go with pooling {pooling!r}; positional pooling needs at least 1, "
                "other pooling 0"
            )
        self.pooling: Pooling = pooling
        self.n_positions = n_positions
        self.join = (
            nn.Sequential(nn.Linear(2 * d_model, d_model), nn.GELU()) if both_directions else None
        )
        weighted = pooling in ("attention", "attention_max", "positional")
        self.attention = nn.Linear(d_model, 1) if weighted else None
        self.places = (
            nn.Sequential(nn.Linear(d_model, _PLACE_WIDTH), nn.LayerNorm(_PLACE_WIDTH))
            if n_positions
            else None
        )
        self.dropout = nn.Dropout(dropout)
        width = d_model if pooling in ("mean", "last", "attention") else 2 * d_model
        width += n_positions * _PLACE_WIDTH
        self.classifier = nn.Linear(width, n_classes, bias=bias)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map hidden states (B, L, D), or (B, L, 2·D) of both strands, and a mask (B, L), True at real tokens, to logits (B, C)."""
        if self.join is not None:
            hidden = self.join(hidden)
        return cast(torch.Tensor, self.classifier(self.dropout(self.pool(hidden, mask))))

    def pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Reduce hidden states (B, L, D) to (B, F), F what the classifier reads; padding has no influence on the result."""
        if self.pooling == "last":
            last = mask.sum(dim=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        if self.attention is not None:
            scores = self.attention(hidden).squeeze(-1).float().masked_fill(~mask, -torch.inf)
            weight = torch.softmax(scores, dim=1)
        else:
            weight = mask.float() / mask.sum(dim=1, keepdim=True)
        average = torch.einsum("bl,bld->bd", weight.to(hidden.dtype), hidden)
        if self.pooling in ("mean", "attention"):
            return average
        most = hidden.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(dim=1)
        features = [average, most]
        if self.places is not None:
            features.append(self._read_places(hidden, mask).to(average.dtype))
        return torch.cat(features, dim=1)

    def _read_places(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        length = min(hidden.shape[1], self.n_positions)
        read = cast(nn.Sequential, self.places)(hidden[:, :length])
        read = read.masked_fill(~mask[:, :length, None], 0.0)
        return F.pad(read, (0, 0, 0, self.n_positions - length)).flatten(1)


def check_mask(mask: torch.Tensor, shape: torch.Size) -> None:
    """Check that a mask, True at real tokens, has the ids' shape and pads on the right only.

    Raises
    ------
    ValueError
        The shape differs, a row has no real token, or a real token follows padding. In a causal model padding on the
        left would change every real position.
    """
    if mask.shape != shape or mask.dtype != torch.bool:
        raise ValueError(
            f"the mask is {mask.dtype} of shape {tuple(mask.shape)}; bool of shape {tuple(shape)}, "
            "True at real tokens, is needed"
        )
    if not bool(mask[:, 0].all()) or bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise ValueError(
            "the mask does not pad on the right: each row must be True at its real tokens, at least one, and False after"
        )
