"""Launches of the kernels: tensors in, tensors out."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton

from hyenadna.ops.block.kernels import (
    add_rows,
    hidden_backward,
    norm_backward,
    norm_forward,
    round_and_sum,
    short_backward,
    short_forward,
    sum_by_token,
)
from hyenadna.ops.fftconv.plan import device_limits

__all__ = [
    "add",
    "hidden_gradient",
    "norm",
    "norm_gradient",
    "rounded",
    "smooth",
    "smooth_gradient",
    "sums_by_token",
]

_TILE = 4096  # numbers that a program has in hand
HIDDEN = {"M": 128, "C": 64, "K": 64, "STAGES": 2, "num_warps": 8}


def norm(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:  # fmt: skip
    """Layer norm of each row of x (…, D), rounded to a dtype."""
    y = torch.empty_like(x, dtype=dtype)
    rows, meta = _rows(x)
    with on(x):
        norm_forward[(triton.cdiv(rows, meta["R"]),)](x, gamma, beta, y, rows, eps, **meta)
    return y


def norm_gradient(
    x: torch.Tensor, dy: torch.Tensor, more: torch.Tensor | None, gamma: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return more + the gradient of x, and those of gamma and beta."""
    dx = torch.empty_like(x)
    rows, meta = _rows(x)
    programs, steps = _walk(x, rows, meta["R"])
    sums = x.new_empty(2, programs, x.shape[-1], dtype=torch.float32)
    with on(x):
        norm_backward[(programs,)](
            x, dy, x if more is None else more, gamma, dx, sums[0], sums[1], rows, steps, eps,
            MORE=more is not None, **meta,
        )  # fmt: skip
    dgamma, dbeta = sums.sum(1).unbind()
    return dx, dgamma, dbeta


def add(x: torch.Tensor, y: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return x + y + bias in the dtype of x."""
    out = torch.empty_like(x)
    n = x.numel()
    with on(x):
        add_rows[(triton.cdiv(n, _TILE),)](
            x, y, x if bias is None else bias, out, n, D=x.shape[-1], BIAS=bias is not None, T=_TILE
        )
    return out


def rounded(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x (…, D) in another dtype, and the sums of its columns."""
    y = torch.empty_like(x, dtype=dtype)
    rows, meta = _rows(x)
    programs, steps = _walk(x, rows, meta["R"])
    sums = x.new_empty(programs, x.shape[-1], dtype=torch.float32)
    with on(x):
        round_and_sum[(programs,)](x, y, sums, rows, steps, **meta)
    return y, sums.sum(0)


def sums_by_token(dy: torch.Tensor, token_ids: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Return the sums (vocabulary, D) of the rows of dy (…, D), float32, by the tokens (…) that they belong to."""
    width, rows = dy.shape[-1], token_ids.numel()
    tokens, columns = max(16, triton.next_power_of_2(vocabulary)), min(128, max(16, triton.next_power_of_2(width)))  # fmt: skip
    programs, steps = _walk(dy, rows, 64)
    sums = dy.new_empty(programs, tokens, width)
    with on(dy):
        sum_by_token[(programs, triton.cdiv(width, columns))](
            dy, token_ids, sums, rows, steps, D=width, V=tokens, W=columns, R=64
        )
    return sums.sum(0)[:vocabulary]


def hidden_gradient(
    h: torch.Tensor, dy: torch.Tensor, w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return gelu(h · w1ᵀ + b1), the gradient before GELU from dy · w2, and the sums of the latter's columns."""
    (rows, width), hidden = h.shape, len(w1)
    act, dpre = (h.new_empty(rows, hidden) for _ in range(2))
    tiles = triton.cdiv(rows, HIDDEN["M"])
    sums = h.new_empty(tiles, hidden, dtype=torch.float32)
    with on(h):
        hidden_backward[(tiles * triton.cdiv(hidden, HIDDEN["C"]),)](
            h, dy, w1, b1, w2, act, dpre, sums, rows, D=width, H=hidden, **HIDDEN
        )
    return act, dpre, sums.sum(0)


def smooth(
    x: torch.Tensor, in_bias: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, first: int, channels: int
) -> torch.Tensor:  # fmt: skip
    """Return the short convolutions of x + in_bias, x (3, D, B, L), for some channels: (3, B, channels, L)."""
    signals, width, batch, length = x.shape
    y = x.new_empty(signals, batch, channels, length)
    tile = _tile(length)
    with on(x):
        short_forward[(signals * channels * batch, triton.cdiv(length, tile))](
            x, in_bias, weight, bias, y, first, channels, batch, length,
            x.stride(0), x.stride(1), x.stride(2), y.stride(0), y.stride(2), y.stride(1), width, K=weight.shape[-1], T=tile,
        )  # fmt: skip
    return y


def smooth_gradient(
    x: torch.Tensor, dy: torch.Tensor, in_bias: torch.Tensor, weight: torch.Tensor, dx: torch.Tensor, sums: torch.Tensor, first: int
) -> None:  # fmt: skip
    """Fill dx (as x) and sums (B, 3·D, S ≥ K + 2) for the channels of dy (3, B, channels, L); sums are K of the weights, bias, in_bias."""
    signals, width, batch, length = x.shape
    channels, tile = dy.shape[2], _tile(length)
    with on(x):
        short_backward[(signals * channels * batch,)](
            x, dy, in_bias, weight, dx, sums, first, channels, batch, length, triton.cdiv(length, tile),
            x.stride(0), x.stride(1), x.stride(2), dy.stride(0), dy.stride(2), dy.stride(1), width,
            K=weight.shape[-1], S=sums.shape[-1], T=tile,
        )  # fmt: skip


def on(x: torch.Tensor) -> contextlib.AbstractContextManager[Any]:
    """Make the device of x the current one, which Triton launches on."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


def _rows(x: torch.Tensor) -> tuple[int, dict[str, int]]:
    width = x.shape[-1]
    padded = triton.next_power_of_2(width)
    return x.numel() // width, {"D": width, "W": padded, "R": max(1, _TILE // padded)}


def _walk(x: torch.Tensor, rows: int, tile: int) -> tuple[int, int]:
    """Return programs, and how many tiles of rows each walks over: four programs a multiprocessor."""
    tiles = triton.cdiv(rows, tile)
    steps = max(1, triton.cdiv(tiles, 4 * device_limits(x.device).n_sm))
    return triton.cdiv(tiles, steps), steps


def _tile(length: int) -> int:
    return min(1024, max(16, int(triton.next_power_of_2(length))))
