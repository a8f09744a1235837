"""The implicit filter in torch: for every device and width, and what the kernels are held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.checkpoint import checkpoint

__all__ = ["implicit_filter_reference"]

_CHUNK = 16_384


def implicit_filter_reference(
    features: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    out_weight: torch.Tensor,
    freq: torch.Tensor,
    decay: torch.Tensor,
    shift: float,
    grid_len: int,
    *,
    chunk: int = _CHUNK,
) -> torch.Tensor:
    """Compute `implicit_filter` in the dtype of its arguments, `chunk` positions at a time.

    With gradients, chunks are computed again in the backward pass; filters of one chunk keep their hidden layers instead. Memory
    beyond k: O(chunk · W · layers).
    """
    length = features.shape[0]
    parameters = (*weights, *biases, out_weight, freq, decay)

    def part(z: torch.Tensor, start: int) -> torch.Tensor:
        return _evaluate(z, start, weights, biases, out_weight, freq, decay, shift, grid_len)

    if length <= chunk or torch.compiler.is_compiling():
        return part(features, 0)
    starts = range(0, length, chunk)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (features, *parameters)):
        parts = [
            checkpoint(part, z, start, use_reentrant=False, preserve_rng_state=False)
            for z, start in zip(features.split(chunk), starts, strict=True)
        ]
        return torch.cat(parts, dim=1)
    k = out_weight.new_empty(out_weight.shape[0], length)
    for start in starts:
        k[:, start : start + chunk] = part(features[start : start + chunk], start)
    return k


def _evaluate(
    z: torch.Tensor,
    start: int,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    out_weight: torch.Tensor,
    freq: torch.Tensor,
    decay: torch.Tensor,
    shift: float,
    grid_len: int,
) -> torch.Tensor:
    """Evaluate the filter at positions from `start` on, (C, positions)."""
    h = z
    for weight, bias in zip(weights, biases, strict=True):
        h = torch.sin(freq * torch.nn.functional.linear(h, weight, bias))
    t = torch.arange(start, start + len(z), device=z.device, dtype=z.dtype) / (grid_len - 1)
    window = torch.exp(-decay.abs()[:, None] * t) + shift
    return (out_weight @ h.mT) * window
