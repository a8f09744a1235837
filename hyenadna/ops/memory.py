"""The C library's allocator, told to keep what is freed."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Make this process reuse the memory of large tensors instead of returning it to the system after each operation.

    glibc gives blocks beyond 32 MiB back at once, and every new one is mapped and zeroed page by page: half of the time of a model of
    32,768 positions on a CPU. The process keeps its peak memory until it ends. The command line does this; a Python program may.

    Returns
    -------
    bool
        Whether the C library could be told: on Linux with glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return (
        mallopt is not None and bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
    )
