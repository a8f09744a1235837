"""Several classifiers as one: what members get wrong each in their own way, their mean gets right more often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from hyenadna.models.checkpoint import write_model_folder
from hyenadna.models.config import HyenaConfig
from hyenadna.models.model import HyenaForSequenceClassification
from hyenadna.tokenizers import Vocabulary

__all__ = ["ClassifierEnsemble"]


class ClassifierEnsemble(nn.Module):
    """Classifiers of one shape that answer with the mean of their probabilities; used as one of them is.

    Parameters
    ----------
    members
        M ≥ 2 classifiers with the same configuration and labels. They are kept, not copied.

    Raises
    ------
    ValueError
        There are fewer than two, or they differ in more than weights.
    """

    def __init__(self, members: Sequence[HyenaForSequenceClassification]) -> None:
        super().__init__()
        if len(members) < 2:
            raise ValueError(f"an ensemble needs at least 2 members, not {len(members)}")
        first = members[0]
        for member in members[1:]:
            if (member.config, member.head_settings()) != (first.config, first.head_settings()):
                raise ValueError("the members of an ensemble differ in more than their weights")
        self.members = nn.ModuleList(members)

    @property
    def _first(self) -> HyenaForSequenceClassification:
        return cast(HyenaForSequenceClassification, self.members[0])

    @property
    def config(self) -> HyenaConfig:
        """Shape of each member."""
        return self._first.config

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each class."""
        return self._first.labels

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return self._first.n_classes

    def n_parameters(self) -> int:
        """Count trainable parameters of all members."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(
        self,
        token_ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        both_strands: bool = False,
    ) -> torch.Tensor:
        """Return the logarithm of the mean probabilities, (B, C), whose softmax they are; arguments as of `HyenaForSequenceClassification`."""
        answers = [
            member(token_ids, mask, both_strands=both_strands).float().log_softmax(-1)
            for member in self.members
        ]
        return torch.stack(answers).logsumexp(0) - math.log(len(answers))

    def head_settings(self) -> dict[str, Any]:
        """Return what ``config.json`` needs to rebuild the heads."""
        return {**self._first.head_settings(), "members": len(self.members)}

    def save_pretrained(self, folder: str | Path, tokenizer: Vocabulary | None = None) -> None:
        """Write one folder with the weights of all members; see `HyenaForSequenceClassification.save_pretrained`."""
        write_model_folder(folder, self, tokenizer)
