"""Linear layers on a CPU through oneDNN, which torch uses for float32 only in compiled code; elsewhere they are torch's own.

On an AMD EPYC with AVX-512 (2 cores) float32 products reach 440 GFLOP/s this way, against 190 by `torch.nn.functional.linear`; on
processors where both are as fast, nothing is lost.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.functional import gelu

__all__ = ["Linear", "linear", "linear_gelu"]


class Linear(nn.Linear):
    """`torch.nn.Linear`, faster on CPUs; parameters and results are the same, but for the order of summation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (…, K) to (…, M)."""
        return linear(x, self.weight, self.bias)


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Return x·weightᵀ + bias, (…, M), of x (…, K), weight (M, K) and bias (M,)."""
    dtype = _dtype(x, weight)
    if dtype is None:
        return functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        product: torch.Tensor = _Product.apply(x, weight, bias)  # type: ignore[no-untyped-call]
        return product
    return _product(x, weight, bias, dtype=dtype)


def linear_gelu(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return gelu(layer(x)) in its tanh form, in one step where nothing has to be kept for gradients."""
    if type(layer) is Linear and not torch.is_grad_enabled():
        dtype = _dtype(x, layer.weight)
        if dtype is not None:
            return _product(x, layer.weight, layer.bias, dtype=dtype, gelu=True)
    return gelu(layer(x), approximate="tanh")


def _dtype(x: torch.Tensor, weight: torch.Tensor) -> torch.dtype | None:
    """Return the dtype in which oneDNN computes this product, float32 or under autocast bfloat16; None where torch does."""
    takes = (
        x.device.type == weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and x.numel() > 0
        and type(x) in (torch.Tensor, nn.Parameter)
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and not torch.compiler.is_compiling()
    )
    if not takes:
        return None
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if x.dtype == torch.float32 else None
    half = torch.get_autocast_dtype("cpu") == torch.bfloat16 and x.dtype in (torch.float32, torch.bfloat16)  # fmt: skip
    return torch.bfloat16 if half and not torch.is_grad_enabled() else None


def _product(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype = torch.float32,
    gelu: bool = False,
) -> torch.Tensor:
    operands = (None if t is None else t.to(dtype) for t in (_dense(x), _dense(weight), bias))
    name, algorithm = ("gelu", "tanh") if gelu else ("none", "")
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(*operands, name, [], algorithm)
    return product


def _dense(matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix without gaps between its rows or columns: oneDNN takes a thousand times as long to read others."""
    return matrix if matrix.is_contiguous() or matrix.mT.is_contiguous() else matrix.contiguous()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (dy,) = gradients
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        rows_y, rows_x = dy.reshape(-1, dy.shape[-1]), x.reshape(-1, x.shape[-1])
        dx = _product(rows_y, weight.t(), None).view(x.shape) if need_x else None
        dweight = None
        if need_weight:
            # A long sum for few results: the narrower side as rows is up to twice as fast.
            if rows_x.shape[1] <= rows_y.shape[1]:
                dweight = _product(rows_x.t(), rows_y.t(), None).t()
            else:
                dweight = _product(rows_y.t(), rows_x.t(), None)
        return dx, dweight, rows_y.sum(0) if need_bias else None
