"""The Triton path as torch operators: `torch.ops.hyenadna.implicit_filter` and its backward, with shapes for tracing and a gradient.

Only the inputs are saved for the backward pass, which computes the hidden layers anew. There is no second derivative.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["triton_implicit_filter"]


@torch.library.custom_op("hyenadna::implicit_filter", mutates_args=())
def triton_implicit_filter(
    z: torch.Tensor,
    first: torch.Tensor,
    hidden: torch.Tensor,
    biases: torch.Tensor,
    out: torch.Tensor,
    freq: torch.Tensor,
    decay: torch.Tensor,
    shift: float,
    grid_len: int,
) -> torch.Tensor:
    """Evaluate the filter by Triton kernels.

    Contiguous float32: z (L, E), first (W, E), hidden (n, W, W), biases (n + 1, W), out (C, W), freq (W,), decay (C,).
    """
    from hyenadna.ops.implicit_filter import triton_backend

    return triton_backend.forward(z, first, hidden, biases, out, freq, decay, shift, grid_len)


@torch.library.custom_op("hyenadna::implicit_filter_backward", mutates_args=())
def _backward(
    dk: torch.Tensor,
    z: torch.Tensor,
    first: torch.Tensor,
    hidden: torch.Tensor,
    biases: torch.Tensor,
    out: torch.Tensor,
    freq: torch.Tensor,
    decay: torch.Tensor,
    shift: float,
    grid_len: int,
    learned: bool,
) -> list[torch.Tensor]:
    """Gradients [dz, dfirst, dhidden, dbiases, dout, dfreq]; dz has no rows unless the positions are `learned`."""
    from hyenadna.ops.implicit_filter import triton_backend

    return list(
        triton_backend.backward(
            dk, z, first, hidden, biases, out, freq, decay, shift, grid_len, learned=learned
        )
    )


@triton_implicit_filter.register_fake
def _(z: torch.Tensor, first: Any, hidden: Any, biases: Any, out: torch.Tensor, *rest: Any) -> torch.Tensor:  # fmt: skip
    return z.new_empty(out.shape[0], z.shape[0])


@_backward.register_fake
def _(
    dk: torch.Tensor,
    z: torch.Tensor,
    first: torch.Tensor,
    hidden: torch.Tensor,
    biases: torch.Tensor,
    out: torch.Tensor,
    freq: torch.Tensor,
    decay: Any,
    shift: Any,
    grid_len: Any,
    learned: bool,
) -> list[torch.Tensor]:
    dz = z.new_empty(z.shape if learned else (0, z.shape[1]))
    return [dz, *(t.new_empty(t.shape) for t in (first, hidden, biases, out, freq))]


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    *tensors, ctx.shift, ctx.grid_len = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dk: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    learned = ctx.needs_input_grad[0]
    dz, *rest = _backward(dk, *ctx.saved_tensors, ctx.shift, ctx.grid_len, learned)
    return (dz if learned else None, *rest, None, None, None)


triton_implicit_filter.register_autograd(_differentiate, setup_context=_save)
