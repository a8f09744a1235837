"""Which kernels run, with which tiles: one function of the shapes, the dtype and the device's limits.

`plan_fftconv` is a pure function, so that a choice can be looked at, and tested, without the device.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

__all__ = [
    "DeviceLimits",
    "LongPlan",
    "TilePlan",
    "device_limits",
    "plan_fftconv",
    "unplannable",
    "workspace_bytes",
]

MAX_LENGTH = 4_194_304
_TILE_LIMIT = 8192
# Shared memory of one program, in bytes: at least this on A100, and on Hopper.
_AMPERE, _HOPPER = 160_000, 220_000
# Most memory for workspaces, in (B, D, L) tensors of the signals' dtype; of smaller signals as much as for 2^27 numbers, for fewer launches.
_FORWARD_TENSORS, _BACKWARD_TENSORS, _LEAST_NUMBERS = 1.15, 2.4, 2**27


@dataclass(frozen=True)
class DeviceLimits:
    """What a GPU offers to one kernel.

    Attributes
    ----------
    n_sm : int
        Multiprocessors.
    shared_bytes : int
        Shared memory that one program may use: 232,448 on Hopper and data-center Blackwell, 166,912 on A100, 101,376 on
        consumer Ampere, Ada and Blackwell.
    """

    n_sm: int
    shared_bytes: int


@dataclass(frozen=True)
class TilePlan:
    """Rows that fit on chip, as (n1, n2) matrices; one pass over memory.

    A program walks over `walk` rows, loading `stages` − 1 rows ahead. `stacked` and `hoist` say how the kernels use registers
    (tile_kernels.py), `registers` is the most that a thread gets.
    """

    n1: int
    n2: int
    walk: int
    stages: int
    num_warps: int
    stacked: bool
    hoist: bool
    registers: int | None

    @property
    def length(self) -> int:
        """Transform length N ≥ L."""
        return self.n1 * self.n2


@dataclass(frozen=True)
class LongPlan:
    """Long rows as (n1, nm·na·nb) matrices, in three passes over a workspace of a few channels, or five if nm > 1.

    m1 is n1 padded to a power of two; outer and middle passes take `tile` columns, inner ones `rows` inner transforms at a time.
    A program walks over `walk` signals (channel, b), loading `stages` − 1 ahead. `channels` are taken at a time.
    """

    n1: int
    m1: int
    nm: int
    na: int
    nb: int
    rows: int
    tile: int
    walk: int
    outer_stages: int
    inner_stages: int
    channels: int
    outer_warps: int
    inner_warps: int
    inner_registers: int | None

    @property
    def columns(self) -> int:
        """Columns of the outer pass."""
        return self.nm * self.na * self.nb

    @property
    def length(self) -> int:
        """Transform length N ≥ L."""
        return self.n1 * self.columns

    @property
    def outer_tiles(self) -> int:
        """Column tiles of a signal."""
        return self.columns // self.tile

    @property
    def height(self) -> int:
        """Inner transforms of a signal."""
        return self.n1 * self.nm

    @property
    def inner_tiles(self) -> int:
        """Tiles of inner transforms of a signal."""
        return -(-self.height // self.rows)


@functools.lru_cache(maxsize=16)
def device_limits(device: torch.device) -> DeviceLimits:
    """Read the limits of a CUDA device; those of an H100 for the CPU, where kernels run only under Triton's interpreter."""
    if device.type != "cuda":
        return DeviceLimits(n_sm=132, shared_bytes=232_448)
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", 101_376)
    return DeviceLimits(properties.multi_processor_count, shared)


def unplannable(length: int, dtype: torch.dtype, limits: DeviceLimits) -> str | None:
    """Return why there are no kernels for signals of a length and dtype on a device, None if there are."""
    if dtype not in (torch.bfloat16, torch.float16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        return f"the kernels take bfloat16, float16 and float32, not {name}"
    if length > MAX_LENGTH:
        return f"the kernels take lengths up to {MAX_LENGTH:,}, not {length:,}"
    if dtype == torch.float32 and limits.shared_bytes < _AMPERE:
        return (
            f"the float32 kernels need {_AMPERE:,} bytes of shared memory (A100, H100 or newer), "
            f"this GPU has {limits.shared_bytes:,}"
        )
    return None


def plan_fftconv(
    batch: int,
    width: int,
    length: int,
    dtype: torch.dtype,
    limits: DeviceLimits,
    *,
    backward: bool = False,
) -> TilePlan | LongPlan:
    """Choose the kernels for signals (batch, width, length).

    Raises
    ------
    ValueError
        There are no kernels for the dtype or the length; `unplannable` says why.
    """
    if (reason := unplannable(length, dtype, limits)) is not None:
        raise ValueError(f"{reason}: use backend='torch'")
    exact = dtype == torch.float32
    fits = 2048 if exact else 4096 if backward or limits.shared_bytes < _HOPPER else _TILE_LIMIT
    if length <= fits:
        return _tile_plan(batch, width, length, limits, exact=exact, backward=backward)
    return _long_plan(batch, width, length, limits, exact=exact, backward=backward)


def workspace_bytes(numbers: int, operand: int, *, backward: bool) -> int:
    """Return the most that workspaces take for signals of so many numbers (B·D·L) of `operand` bytes, unless one channel needs more."""
    tensors = _BACKWARD_TENSORS if backward else _FORWARD_TENSORS
    return int(tensors * max(numbers, _LEAST_NUMBERS) * operand)


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _suits(length: int, columns: int) -> bool:
    n1 = -(-length // columns)
    return n1 * columns <= 1.03 * length and not 16 < n1 <= 32


def _tile_plan(
    batch: int, width: int, length: int, limits: DeviceLimits, *, exact: bool, backward: bool
) -> TilePlan:
    large, hopper = limits.shared_bytes >= _AMPERE, limits.shared_bytes >= _HOPPER
    # 128 rows take two groups of four warps: half the registers a thread.
    n1 = 128 if length > (2048 if backward and large else 4096) else 64
    n2 = max(_power_of_two(-(-length // n1)), 16)
    # Long walks reuse tables and spectra, but there should be programs enough to fill the device several times over.
    most = max(1, width * batch // (limits.n_sm * 8))
    walk = min(
        16 if backward or n2 < 32 else 8 if n2 < 64 else 4,
        batch,
        _power_of_two(most + 1) // 2,
    )
    # What was measured fastest on an H100.
    smallest = n2 == 16
    stacked = not exact and n1 == 64 and n2 <= 32
    ahead = large and not exact and (hopper or not backward)
    stages = 1 if not ahead else 3 if smallest and not backward else 2
    return TilePlan(
        n1=n1,
        n2=n2,
        walk=max(1, walk),
        stages=stages,
        num_warps=8 if n1 == 128 else 4,
        stacked=stacked,
        hoist=stacked and (smallest or not backward),
        registers=168 if stacked and smallest and backward and hopper else None,
    )


def _long_plan(
    batch: int,
    width: int,
    length: int,
    limits: DeviceLimits,
    *,
    exact: bool,
    backward: bool,
) -> LongPlan:
    # Tiles of 128 rows need shared memory for a DFT matrix of 64 KB and more.
    large = not exact and limits.shared_bytes >= _AMPERE
    most = 128 if large else 64
    na, nb, nm = 64, 4, 1
    if length <= 16_384:
        # 16 rows: DFTs of 32 from the left are slow, and so are short pieces of rows.
        nb = 8 if length <= 8192 else 16
    elif large and 262_144 < length <= 1_048_576 and not backward:
        # More columns forward; backward, where registers are short, more rows, and then a middle pass.
        na, nb = (64, 64) if length <= 524_288 else (128, 64)
    elif large and 262_144 < length <= 524_288:
        na, nb = 128, 32
    elif length > most * (2048 if exact else 4096):
        # Inner rows of 1,024 are fastest, if they bring little padding and no outer DFT of 32.
        nm, nb = 64, next((nb for nb in (16, 8) if _suits(length, 64 * na * nb)), 4)
    while -(-length // (nm * na * nb)) > (64 if length <= 131_072 else most):
        nb *= 2
    n1 = -(-length // (nm * na * nb))
    m1 = max(16, _power_of_two(n1))
    rows = max(1, 16 // nb)
    # Workspaces and spectra of the channels in flight, against one (B, D, L) tensor.
    operand = 4 if exact else 2
    per_channel = 2 * operand * n1 * nm * na * nb * ((2 if backward else 1) * batch + 1)
    allowed = workspace_bytes(batch * width * length, operand, backward=backward)
    channels = max(1, min(width, allowed // per_channel))
    channels = -(-width // -(-width // channels))
    wide = nb * rows > 16
    return LongPlan(
        n1=n1,
        m1=m1,
        nm=nm,
        na=na,
        nb=nb,
        rows=rows,
        tile=max(32, nb),
        walk=4,
        outer_stages=2,
        inner_stages=1 if exact or not large or wide else 2,
        channels=channels,
        outer_warps=8 if m1 == 128 else 4,
        inner_warps=8 if na == 128 else 4,
        inner_registers=168 if large and na == 64 and not (wide and backward) and nb < 64 else None,
    )
