"""A running average of a model's weights, which generalises better than the last of them and needs no schedule of its own."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

__all__ = ["RunningAverage"]

M = TypeVar("M", bound=nn.Module)


class RunningAverage(Generic[M]):
    """A copy of a model whose weights follow the model's: average ← average + (1 − d) · (weights − average).

    d grows from 0.1 to `decay` over the first steps, so that the beginning is soon forgotten. Nothing waits for a GPU.

    Parameters
    ----------
    model
        What is followed, on its device.
    decay
        In (0, 1): the average reaches back about 1 / (1 − decay) steps.

    Attributes
    ----------
    model
        The copy, to be read.
    """

    def __init__(self, model: M, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._steps = 0
        self._mine: list[torch.Tensor] = list(self.model.parameters())
        self._others: list[torch.Tensor] = list(model.parameters())

    @torch.no_grad()
    def update(self) -> None:
        """Follow the model by one step."""
        decay = min(self.decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._mine, self._others, 1 - decay)
        self._steps += 1
