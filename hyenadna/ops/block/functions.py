"""The operators of a block with their gradients: matrix products by torch, everything between them by `launches`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import triton
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, gelu

from hyenadna.ops.block import launches, limits
from hyenadna.ops.fftconv import triton_backend

# ruff: noqa: D102 - what forward and backward do is said in hyenadna.ops.block
__all__ = ["Embed", "LayerNorm", "MixerHalf", "MlpHalf"]

_Gradients = tuple[torch.Tensor | None, ...]


class Embed(torch.autograd.Function):
    """`hyenadna.ops.block.embed`."""

    @staticmethod
    def forward(ctx: Any, token_ids: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(token_ids)
        ctx.vocabulary = len(weight)
        return embedding(token_ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> _Gradients:
        (token_ids,) = ctx.saved_tensors
        return None, launches.sums_by_token(gradients[0].contiguous(), token_ids, ctx.vocabulary)


class LayerNorm(torch.autograd.Function):
    """`hyenadna.ops.block.layer_norm`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(x, gamma)
        ctx.eps = eps
        return launches.norm(x, gamma, beta, eps, x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> _Gradients:
        x, gamma = ctx.saved_tensors
        return (*launches.norm_gradient(x, gradients[0].contiguous(), None, gamma, ctx.eps), None)


class MlpHalf(torch.autograd.Function):
    """`hyenadna.ops.block.mlp_half`."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor,
        w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor, eps: float, dtype: torch.dtype,
    ) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(x, gamma, beta, w1, b1, w2)
        ctx.eps, ctx.dtype = eps, dtype
        first, bias, second = (t.to(dtype) for t in (w1, b1, w2))
        rows = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(rows, dtype=dtype)
        for part in _parts(len(rows), len(w1)):
            h = launches.norm(rows[part], gamma, beta, eps, dtype)
            torch.mm(_gelu_layer(h, first, bias), second.t(), out=out[part])
        return launches.add(x, out.view(x.shape), b2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> _Gradients:
        x, gamma, beta, w1, b1, w2 = ctx.saved_tensors
        more, dtype = gradients[0].contiguous(), ctx.dtype
        first, second = w1.to(dtype), w2.to(dtype)
        rows = x.reshape(-1, x.shape[-1])
        dout, db2 = launches.rounded(more.view(rows.shape), dtype)
        dw1, dw2, db1 = (torch.zeros_like(t) for t in (w1, w2, b1))
        for part in _parts(len(rows), len(w1)):
            h = launches.norm(rows[part], gamma, beta, ctx.eps, dtype)
            act, dpre, sums = launches.hidden_gradient(h, dout[part], first, b1, second)
            db1 += sums
            dw2 += torch.mm(dout[part].t(), act)
            dw1 += torch.mm(dpre.t(), h)
            torch.mm(dpre, first, out=dout[part])  # dout becomes dh
        dx, dgamma, dbeta = launches.norm_gradient(x, dout.view(x.shape), more, gamma, ctx.eps)
        return dx, dgamma, dbeta, dw1, db1, dw2, db2, None, None


class MixerHalf(torch.autograd.Function):
    """`hyenadna.ops.block.mixer_half`. Projected signals are (3, D, B, L): one product for the whole batch."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, w_in: torch.Tensor, b_in: torch.Tensor,
        w_short: torch.Tensor, b_short: torch.Tensor, k: torch.Tensor, skip: torch.Tensor,
        w_out: torch.Tensor, b_out: torch.Tensor, eps: float, dtype: torch.dtype, k_again: Callable[[], torch.Tensor] | None,
    ) -> torch.Tensor:  # fmt: skip
        batch, length, width = x.shape
        h = launches.norm(x, gamma, beta, eps, dtype).view(-1, width)
        projected = torch.mm(w_in.to(dtype), h.t()).view(3, width, batch, length)
        del h
        pieces = []
        for first, channels in _groups(projected):
            x0, x1, v = launches.smooth(projected, b_in, w_short, b_short, first, channels)
            of = slice(first, first + channels)
            pieces.append(triton_backend.forward(x0, x1, v, k[of], skip[of]))
            del x0, x1, v
        y = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)
        del pieces
        out = torch.bmm(y.mT, w_out.to(dtype).t().expand(batch, width, width))
        kept = None if k_again else k
        ctx.save_for_backward(x, projected, y, gamma, beta, w_in, b_in, w_short, b_short, kept, skip, w_out)  # fmt: skip
        ctx.eps, ctx.dtype, ctx.k_again = eps, dtype, k_again
        return launches.add(x, out, b_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> _Gradients:
        x, projected, y, gamma, beta, w_in, b_in, w_short, b_short, k, skip, w_out = ctx.saved_tensors  # fmt: skip
        more, dtype = gradients[0].contiguous(), ctx.dtype
        batch, _, width = x.shape
        k = ctx.k_again().contiguous() if k is None else k
        dout, db_out = launches.rounded(more, dtype)
        dw_out = torch.bmm(dout.mT, y.mT).sum(0, dtype=torch.float32)
        dy = torch.bmm(w_out.to(dtype).t().expand(batch, width, width), dout.mT)
        del y, dout

        taps = w_short.shape[-1]
        dprojected, dk, dskip = torch.empty_like(projected), torch.empty_like(k), torch.empty_like(skip)  # fmt: skip
        sums = x.new_empty(batch, 3 * width, triton.next_power_of_2(taps + 2))
        for first, channels in _groups(projected):
            signals = launches.smooth(projected, b_in, w_short, b_short, first, channels)
            of = slice(first, first + channels)
            dsignals = torch.empty_like(signals)
            x0, x1, v = signals
            found = triton_backend.backward(dy[:, of], x0, x1, v, k[of], skip[of], out=dsignals)
            dk[of], dskip[of] = found.dk, found.dbias
            del signals, x0, x1, v, found
            launches.smooth_gradient(projected, dsignals, b_in, w_short, dprojected, sums, first)
            del dsignals
        del projected, dy
        sums = sums.sum(0)

        rows = x.view(-1, width)
        dprojected = dprojected.view(3 * width, -1)
        dh = torch.mm(dprojected.t(), w_in.to(dtype))
        dw_in = torch.mm(dprojected, launches.norm(rows, gamma, beta, ctx.eps, dtype)).float()
        del dprojected
        dx, dgamma, dbeta = launches.norm_gradient(x, dh.view(x.shape), more, gamma, ctx.eps)
        short = sums[:, :taps].reshape(w_short.shape), sums[:, taps]
        return dx, dgamma, dbeta, dw_in, sums[:, taps + 1], *short, dk, dskip, dw_out, db_out, None, None, None  # fmt: skip


def _gelu_layer(h: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Return gelu(h · weightᵀ + bias) in its tanh form."""
    if h.is_cuda:  # as the last step of the product
        activated: torch.Tensor = torch._addmm_activation(bias, h, weight.t(), use_gelu=True)
        return activated
    return gelu(torch.addmm(bias, h, weight.t()), approximate="tanh")


def _parts(rows: int, hidden: int) -> Iterator[slice]:
    """Yield some rows at a time, of a hidden layer that would be too large at once."""
    most = max(1, limits.MOST_HIDDEN // hidden)
    size = triton.cdiv(rows, max(1, triton.cdiv(rows, most)))
    for first in range(0, rows, max(1, size)):
        yield slice(first, first + size)


def _groups(projected: torch.Tensor) -> Iterator[tuple[int, int]]:
    """Yield first and number of some channels at a time, of smoothed signals that would be too large at once."""
    width = projected.shape[1]
    most = max(1, limits.MOST_SMOOTHED * width // max(1, projected.numel()))
    size = triton.cdiv(width, triton.cdiv(width, most))
    for first in range(0, width, size):
        yield first, min(size, width - first)
