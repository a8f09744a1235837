"""Can Triton kernels run here, and if not, why; and float32 whatever the caller's autocast says."""

from __future__ import annotations

import contextlib
import functools
import os

import torch

__all__ = ["interpreted", "no_autocast", "triton_unavailable"]


def interpreted() -> bool:
    """Say whether kernels run on the CPU under Triton's interpreter (environment variable TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def triton_unavailable(device: torch.device) -> str | None:
    """Return why Triton kernels cannot run on a device, and what would help; None if they can."""
    if (missing := _not_installed()) is not None:
        return missing
    if device.type == "cpu":
        if interpreted():
            return None
        return "Triton kernels need an NVIDIA GPU (TRITON_INTERPRET=1 runs them on the CPU, very slowly)"
    if device.type != "cuda" or torch.version.cuda is None:
        return f"Triton kernels are written for NVIDIA GPUs, not for {device.type}"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return f"compute capability 8.0 (Ampere) or newer is needed, this GPU has {major}.{minor}"
    return None


def no_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off on a device; "meta" has none."""
    if device.type == "meta":
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)


@functools.lru_cache(maxsize=1)
def _not_installed() -> str | None:
    try:
        import triton
    except ImportError:
        return "triton is not installed: pip install triton"
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < (3, 2):
        return f"triton {triton.__version__} is too old: 3.2 or newer is needed"
    return None
