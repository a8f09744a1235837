"""Long filters as a function of position: a sine MLP under an exponential window; README.md beside this file derives the kernels.

One entry point for every device: `backend="auto"` takes the fastest that is usable here, a named backend is used or
refused, never replaced.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops._backend import interpreted, no_autocast, triton_unavailable
from hyenadna.ops.fftconv.plan import device_limits
from hyenadna.ops.implicit_filter.autograd import triton_implicit_filter
from hyenadna.ops.implicit_filter.reference import implicit_filter_reference

__all__ = ["implicit_filter", "implicit_filter_reference", "resolve_backend"]

_WIDEST, _MOST_FEATURES, _LONGEST = 128, 15, 2**24
_WIDE_BYTES = 163_840  # shared memory of the kernels for more than 64 hidden units


def resolve_backend(
    backend: str,
    device: torch.device,
    *,
    width: int = 64,
    emb_dim: int = 5,
    length: int = 1024,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Return the name of the backend that runs, ``"triton"`` or ``"torch"``.

    ``"auto"`` is Triton on NVIDIA GPUs from Ampere on, for float32, up to 128 hidden units, 15 features and 2^24 positions, and torch
    elsewhere. Under Triton's interpreter it stays torch.

    Raises
    ------
    BackendUnavailableError
        The backend that was asked for does not exist, or cannot run here; the message says why.
    """
    if backend not in ("auto", "torch", "triton"):
        raise BackendUnavailableError(
            f"backend {backend!r} is not known; choose 'auto', 'torch' or 'triton'"
        )
    if backend == "torch":
        return "torch"
    reason = triton_unavailable(device) or _unsuitable(
        width, emb_dim, length, dtype, device_limits(device).shared_bytes
    )
    if backend == "triton" and reason is not None:
        raise BackendUnavailableError(
            f"backend 'triton' is not available on {device.type}: {reason}; use backend='auto' or 'torch'"
        )
    return "torch" if backend == "auto" and (reason is not None or interpreted()) else "triton"


def implicit_filter(
    features: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    out_weight: torch.Tensor,
    freq: torch.Tensor,
    decay: torch.Tensor,
    shift: float,
    grid_len: int,
    *,
    backend: str = "auto",
) -> torch.Tensor:
    """Evaluate filters at positions 0…L−1.

    k[c, t] = (exp(−t/(grid_len − 1) · |decay_c|) + shift) · (out_weight · h_n(t))[c], where h_0 = sin(freq ∘ (weights_0 · features_t + biases_0))
    and h_i = sin(freq ∘ (weights_i · h_{i−1} + biases_i))   (Hyena, arXiv 2302.10866, §3.3).

    Parameters
    ----------
    features
        Features of the positions, shape (L, E), float32; |features| about 1. A learned table gets a gradient.
    weights
        Of the sine layers: shape (W, E), then (W, W) each.
    biases
        As many, shape (W,).
    out_weight
        Output projection, shape (C, W).
    freq
        Frequencies of the sines, W of them.
    decay
        Decay rates over the whole grid, shape (C,); a constant.
    shift
        Added to the window, ≥ 0.
    grid_len
        Positions of the grid, ≥ 2; positions beyond it continue the window.
    backend
        ``"auto"``, ``"torch"`` or ``"triton"``; see `resolve_backend`.

    Returns
    -------
    torch.Tensor
        Shape (C, L), contiguous, dtype of `features`. Relative L2 error against float64 below 2e-5 on both backends, gradients
        too. O(L·W·(n·W + C)) time; no hidden layer of all positions is kept: neither backend needs more memory than k and O(chunk·W).

    Raises
    ------
    ValueError
        The shapes do not belong together, or `decay` asks for a gradient.
    BackendUnavailableError
        The named backend cannot run here.
    """
    _check(features, weights, biases, out_weight, freq, decay, grid_len)
    chosen = resolve_backend(
        backend,
        features.device,
        width=out_weight.shape[1],
        emb_dim=features.shape[1],
        length=features.shape[0],
        dtype=features.dtype,
    )
    freq = freq.reshape(-1)
    with no_autocast(features.device):
        if chosen == "torch":
            return implicit_filter_reference(
                features, weights, biases, out_weight, freq, decay, shift, grid_len
            )
        first, *others = weights
        hidden = torch.stack(others) if others else first.new_empty(0, len(first), len(first))
        tensors = (features, first, hidden, torch.stack(list(biases)), out_weight, freq, decay)
        k: torch.Tensor = triton_implicit_filter(
            *(t.contiguous() for t in tensors), float(shift), grid_len
        )
    return k


def _unsuitable(
    width: int, emb_dim: int, length: int, dtype: torch.dtype, shared_bytes: int
) -> str | None:
    if dtype != torch.float32:
        return f"the kernels take float32, not {str(dtype).removeprefix('torch.')}"
    if width > _WIDEST:
        return f"the kernels take at most {_WIDEST} hidden units, not {width}"
    if width > 64 and shared_bytes < _WIDE_BYTES:
        return (
            f"the kernels for more than 64 hidden units need {_WIDE_BYTES:,} bytes of shared memory (A100, H100 or newer), "
            f"this GPU has {shared_bytes:,}"
        )
    if emb_dim > _MOST_FEATURES:
        return f"the kernels take at most {_MOST_FEATURES} features, not {emb_dim}"
    if length > _LONGEST:
        return f"the kernels take at most {_LONGEST:,} positions, not {length:,}"
    return None


def _check(
    features: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    out_weight: torch.Tensor,
    freq: torch.Tensor,
    decay: torch.Tensor,
    grid_len: int,
) -> None:
    if features.dim() != 2 or out_weight.dim() != 2:
        raise ValueError(
            f"features and out_weight have the shapes {tuple(features.shape)} and {tuple(out_weight.shape)}; "
            "(L, E) and (C, W) are needed"
        )
    (channels, width), emb_dim = out_weight.shape, features.shape[1]
    needed = [(width, emb_dim if i == 0 else width) for i in range(max(1, len(weights)))]
    if (found := [tuple(w.shape) for w in weights]) != needed:
        raise ValueError(f"the weights have the shapes {found}; {needed} are needed")
    if (found := [tuple(b.shape) for b in biases]) != [(width,)] * len(needed):
        raise ValueError(
            f"the biases have the shapes {found}; {len(needed)} times ({width},) is needed"
        )
    if freq.numel() != width or tuple(decay.shape) != (channels,):
        raise ValueError(
            f"freq and decay have the shapes {tuple(freq.shape)} and {tuple(decay.shape)}; "
            f"{width} frequencies and ({channels},) are needed"
        )
    if grid_len < 2:
        raise ValueError(f"grid_len is {grid_len}; at least 2 is needed")
    if decay.requires_grad:
        raise ValueError("decay is a constant of the filter: it gets no gradient")
