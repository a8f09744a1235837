"""From hidden states to one vector a sequence: pooling that is exact under padding, and the linear classifier."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from torch import nn

from hyenadna.errors import ConfigError

Pooling = Literal["mean", "last", "attention"]


class ClassificationHead(nn.Module):
    """Pool real positions, drop out, classify.

    Parameters
    ----------
    d_model
        Width D of the hidden states.
    n_classes
        Number of classes C ≥ 2.
    pooling
        ``"mean"`` of the real positions, the ``"last"`` real position, or a learned ``"attention"`` average.
    bias
        Whether the linear layer has a bias (the published -hf classifier has none).
    dropout
        Probability of dropping a pooled feature.
    """

    def __init__(
        self,
        d_model: int,
        n_classes: int,
        *,
        pooling: Pooling = "mean",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise ConfigError(
                f"pooling {pooling!r} is unknown; expected one of {', '.join(get_args(Pooling))}"
            )
        if n_classes < 2:
            raise ConfigError(f"n_classes={n_classes} is impossible; a classifier has at least 2")
        self.pooling: Pooling = pooling
        self.attention = nn.Linear(d_model, 1) if pooling == "attention" else None
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(d_model, n_classes, bias=bias)

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map hidden states (B, L, D) and a mask (B, L), True at real tokens, to logits (B, C)."""
        return cast(torch.Tensor, self.classifier(self.dropout(self.pool(hidden, mask))))

    def pool(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Reduce hidden states (B, L, D) to (B, D); padding has no influence on the result."""
        if self.pooling == "last":
            last = mask.sum(dim=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        if self.attention is not None:
            scores = self.attention(hidden).squeeze(-1).float().masked_fill(~mask, -torch.inf)
            weight = torch.softmax(scores, dim=1)
        else:
            weight = mask.float() / mask.sum(dim=1, keepdim=True)
        return torch.einsum("bl,bld->bd", weight.to(hidden.dtype), hidden)


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
