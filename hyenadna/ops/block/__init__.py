"""A Hyena block in half precision on a GPU, as two operators that keep little for the backward pass; README.md beside this file derives them.

`mixer_half` is x + out_proj(hyena(norm(x))), `mlp_half` x + mlp(norm(x)). Both compute the same as the plain layers under autocast, with fewer
passes through memory: products write channel-first what the convolutions read, and what is cheap to compute again is not kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from hyenadna.ops._backend import interpreted, triton_unavailable

__all__ = ["Affine", "embed", "half_dtype", "layer_norm", "mixer_half", "mlp_half"]


class Affine(NamedTuple):
    """Weight and bias of a layer, float32."""

    weight: torch.Tensor
    bias: torch.Tensor


def half_dtype(x: torch.Tensor) -> torch.dtype | None:
    """Return the dtype of autocast where the operators of this module take x (float32, on a GPU with Triton), as activations or weights; None elsewhere."""
    if not x.is_cuda or x.dtype != torch.float32 or not torch.is_autocast_enabled("cuda"):
        return None
    dtype = torch.get_autocast_dtype("cuda")
    fits = dtype in (torch.bfloat16, torch.float16) and not torch.compiler.is_compiling() and not interpreted()  # fmt: skip
    return dtype if fits and triton_unavailable(x.device) is None else None


def embed(token_ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Look up rows of weight (V, D), V at most 16, for int32 tokens (…): (…, D). The gradient is summed in a fixed order."""
    from hyenadna.ops.block.functions import Embed

    y: torch.Tensor = Embed.apply(token_ids.contiguous(), weight)  # type: ignore[no-untyped-call]
    return y


def layer_norm(x: torch.Tensor, norm: Affine, eps: float) -> torch.Tensor:
    """Normalise each row of x (…, D), float32."""
    from hyenadna.ops.block.functions import LayerNorm

    y: torch.Tensor = LayerNorm.apply(x.contiguous(), *(t.contiguous() for t in norm), eps)  # type: ignore[no-untyped-call]
    return y


def mixer_half(
    x: torch.Tensor,
    norm: Affine,
    eps: float,
    in_proj: Affine,
    short_conv: Affine,
    k: torch.Tensor,
    skip: torch.Tensor,
    out_proj: Affine,
    dtype: torch.dtype,
    *,
    k_again: Callable[[], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Compute x + out_proj(x0 ∘ (k ⊛ (x1 ∘ v) + skip · x1 ∘ v)), (x0, x1, v) = short_conv(in_proj(layer_norm(x))).

    Parameters
    ----------
    x
        The residual stream, float32, shape (B, L, D).
    norm, eps
        Layer norm: gamma and beta (D,).
    in_proj
        Weight (3·D, D) and bias (3·D,); rows are x0, x1, v.
    short_conv
        Weight (3·D, 1, K) and bias (3·D,) of the short causal convolutions.
    k, skip
        Long filters (D, L) and their skip weights (D,), float32.
    out_proj
        Weight (D, D) and bias (D,).
    dtype
        Of the matrix products and the signals: bfloat16 or float16 (float32 for tests).
    k_again
        Computes k once more for the backward pass, so that it need not be kept; None keeps it.

    Returns
    -------
    torch.Tensor
        float32, shape (B, L, D). For gradients are kept x, the projected signals (3) and the convolution's result (1), in `dtype`.
    """
    from hyenadna.ops.block.functions import MixerHalf

    tensors = (*norm, *in_proj, *short_conv, k, skip, *out_proj)
    y: torch.Tensor = MixerHalf.apply(
        x.contiguous(), *(t.contiguous() for t in tensors), eps, dtype, k_again
    )  # type: ignore[no-untyped-call]
    return y


def mlp_half(
    x: torch.Tensor, norm: Affine, eps: float, fc1: Affine, fc2: Affine, dtype: torch.dtype
) -> torch.Tensor:
    """Compute x + fc2(gelu(fc1(layer_norm(x)))), GELU in its tanh form.

    Parameters
    ----------
    x
        The residual stream, float32, shape (…, D).
    norm, eps
        Layer norm: gamma and beta (D,).
    fc1, fc2
        Weights (H, D) and (D, H), biases (H,) and (D,).
    dtype
        Of the matrix products: bfloat16 or float16 (float32 for tests).

    Returns
    -------
    torch.Tensor
        float32, shape (…, D). For gradients only x is kept; the hidden layer is computed again, some tokens at a time.
    """
    from hyenadna.ops.block.functions import MlpHalf

    tensors = (x, *norm, *fc1, *fc2)
    y: torch.Tensor = MlpHalf.apply(*(t.contiguous() for t in tensors), eps, dtype)  # type: ignore[no-untyped-call]
    return y
