"""Muon: weight matrices move by their momentum with all its singular values made about equal.

An optimizer step of a matrix is then the same size in every direction, where Adam's is large in a few. Keller Jordan's Muon
(https://kellerjordan.github.io/posts/muon), with the scale that gives a step the size of one of AdamW (arXiv 2502.16982), so that
one learning rate serves both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Muon", "orthogonalized"]

_QUINTIC = (3.4445, -4.7750, 2.0315)  # of the source: steep at 0, so that five rounds are enough
_ROUNDS = 5
_ADAMW_STEP = 0.2  # root mean square of a step of AdamW


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Return matrices with the singular vectors of the given ones and singular values of about 1 (0.7 to 1.2).

    Parameters
    ----------
    matrices
        Shape (n, R, C). Computed on in bfloat16 on a GPU.

    Returns
    -------
    torch.Tensor
        Shape and type of `matrices`.
    """
    a, b, c = _QUINTIC
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    result: torch.Tensor = (x.transpose(1, 2) if tall else x).to(matrices.dtype)
    return result


class Muon(torch.optim.AdamW):
    """Muon for the groups marked ``orthogonal``, AdamW for the others.

    Parameters
    ----------
    groups
        As AdamW's. With ``"orthogonal": True`` a group holds weights (R, C) alone.
    momentum
        Of the orthogonal groups, in [0, 1).
    settings
        As AdamW's; `lr` is of both.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float = 0.95, **settings: Any
    ) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], **settings)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        everything = self.param_groups
        for group in everything:
            if group["orthogonal"]:
                self._step_matrices(group)
        self.param_groups = [group for group in everything if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = everything
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                by_shape[weight.shape].append((weight, weight.grad))
        for pairs in by_shape.values():
            weights, gradients = (list(tensors) for tensors in zip(*pairs, strict=True))
            for weight in weights:
                if "momentum" not in self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            averages = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(averages, gradients, 1 - self.momentum)
            ahead = torch._foreach_lerp(gradients, averages, self.momentum)  # Nesterov's
            step = orthogonalized(torch.stack(list(ahead)))
            scale = _ADAMW_STEP * max(weights[0].shape) ** 0.5
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, list(step.unbind()), alpha=-group["lr"] * scale)
