from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from hyenadna.training.trainer import clip_gradients


class Scaler:
    """Of a loss that is 1,024 times larger."""

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad /= 1024


def clipped(gradient: float, *, scaler: Scaler | None, norm: float | None = 1.0) -> float:
    layer: Any = nn.Linear(1, 1, bias=False)
    plugin = SimpleNamespace(scaler=scaler) if scaler else SimpleNamespace()
    layer.trainer = SimpleNamespace(strategy=None, precision_plugin=plugin)
    layer.weight.grad = torch.full((1, 1), gradient)
    optimizer = SimpleNamespace(optimizer=torch.optim.SGD(layer.parameters(), lr=1.0))
    clip_gradients(layer, optimizer, norm)
    return float(layer.weight.grad)


def test_gradients_are_clipped_to_the_norm_and_small_ones_are_left() -> None:
    assert abs(clipped(5.0, scaler=None) - 1.0) < 1e-5
    assert clipped(0.5, scaler=None) == 0.5
    assert clipped(5.0, scaler=None, norm=None) == 5.0


def test_scaled_gradients_are_scaled_back_before_they_are_compared_with_the_norm() -> None:
    assert clipped(512.0, scaler=Scaler()) == 0.5
    assert abs(clipped(5 * 1024.0, scaler=Scaler()) - 1.0) < 1e-5
