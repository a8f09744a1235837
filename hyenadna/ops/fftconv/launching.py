"""What every launch needs: the working dtype, strides, and stand-ins for absent tensors."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["precision", "present", "strides", "working_dtype"]


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of operands of matrix products for signals of a dtype."""
    return torch.float32 if dtype == torch.float32 else torch.float16


def precision(dtype: torch.dtype) -> str:
    """Return how float32 products are made (by three tf32 products, good to about 1e-7) for signals of a dtype; float16 ones ignore it."""
    return "tf32x3" if dtype == torch.float32 else "tf32"


def present(default: torch.Tensor, *tensors: Any) -> list[torch.Tensor]:
    """Return the tensors, with a stand-in that is never read or written for those that are None."""
    return [default if t is None else t for t in tensors]


def strides(*tensors: torch.Tensor) -> list[int]:
    """Return the strides of batch and channel of each tensor."""
    return [t.stride(i) for t in tensors for i in (0, 1)]
