"""The Triton path as torch operators: `torch.ops.hyenadna.fftconv` and its backward, with shapes for tracing and a gradient.

As custom operators they pass through torch.compile, autocast, activation checkpointing, DDP and CUDA graphs. Only the inputs are saved for the
backward pass, which computes spectra anew. There is no second derivative.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["triton_fftconv"]


@torch.library.custom_op("hyenadna::fftconv", mutates_args=())
def triton_fftconv(
    x0: torch.Tensor | None,
    x1: torch.Tensor | None,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """Compute x0 ∘ (k ⊛ (x1 ∘ v) + bias · (x1 ∘ v)), or k ⊛ v + bias · v without gates, by Triton kernels.

    Shapes (B, D, L), k (D, L) float32, bias (D,) float32; signals bfloat16, float16 or float32.
    """
    from hyenadna.ops.fftconv import triton_backend

    return triton_backend.forward(x0, x1, v, k, bias)


@torch.library.custom_op("hyenadna::fftconv_backward", mutates_args=())
def _backward(
    dy: torch.Tensor,
    x0: torch.Tensor | None,
    x1: torch.Tensor | None,
    v: torch.Tensor,
    k: torch.Tensor,
    bias: torch.Tensor,
) -> list[torch.Tensor]:
    """Gradients [dx0, dx1, dv, dk, dbias], without the first two when there are no gates."""
    from hyenadna.ops.fftconv import triton_backend

    return [t for t in triton_backend.backward(dy, x0, x1, v, k, bias) if t is not None]


@triton_fftconv.register_fake
def _(x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return v.new_empty(v.shape)


@_backward.register_fake
def _(
    dy: torch.Tensor, x0: Any, x1: Any, v: torch.Tensor, k: torch.Tensor, bias: torch.Tensor
) -> list[torch.Tensor]:
    signals = [v.new_empty(v.shape) for _ in range(1 if x0 is None else 3)]
    return [*signals, k.new_empty(k.shape), bias.new_empty(bias.shape)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    gradients = _backward(dy, *ctx.saved_tensors)
    return (None, None, *gradients) if len(gradients) == 3 else tuple(gradients)


triton_fftconv.register_autograd(_differentiate, setup_context=_save)
