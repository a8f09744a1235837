"""Which kernels run, with which tiles: one function of the shapes, the dtype and the device's limits.

`plan_fftconv` is a pure function, so that a choice can be looked at, and tested, without the device.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

__all__ = ["DeviceLimits", "LongPlan", "TilePlan", "device_limits", "plan_fftconv", "unplannable"]

MAX_LENGTH = 4_194_304
_TILE_LIMIT = 8192
# Shared memory of one program, in bytes: at least this on A100, and on Hopper.
_AMPERE, _HOPPER = 160_000, 220_000


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
    l2_bytes : int
        Second-level cache.
    """

    n_sm: int
    shared_bytes: int
    l2_bytes: int


@dataclass(frozen=True)
class TilePlan:
    """Rows that fit on chip, as (n1, n2) matrices, `rows` of them side by side in a tile; one pass over memory.

    A program walks over `walk` tiles, loading `stages` − 1 tiles ahead.
    """

    n1: int
    n2: int
    rows: int
    walk: int
    stages: int
    num_warps: int

    @property
    def length(self) -> int:
        """Transform length N ≥ L."""
        return self.n1 * self.n2


@dataclass(frozen=True)
class LongPlan:
    """Long rows as (n1, na·nb) matrices, in three passes over a workspace of a few channels.

    m1 is n1 padded to blocks of `block`; outer passes take `tile` columns, inner ones `rows` inner transforms at a time.
    A program walks over `walk` rows (channel, b). `channels` are taken at a time.
    """

    n1: int
    m1: int
    block: int
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

    @property
    def length(self) -> int:
        """Transform length N ≥ L."""
        return self.n1 * self.na * self.nb

    @property
    def outer_tiles(self) -> int:
        """Column tiles of a row."""
        return self.na * self.nb // self.tile

    @property
    def inner_tiles(self) -> int:
        """Tiles of inner transforms of a row."""
        return -(-self.n1 // self.rows)


@functools.lru_cache(maxsize=16)
def device_limits(device: torch.device) -> DeviceLimits:
    """Read the limits of a CUDA device; those of an H100 for the CPU, where kernels run only under Triton's interpreter."""
    if device.type != "cuda":
        return DeviceLimits(n_sm=132, shared_bytes=232_448, l2_bytes=50 * 2**20)
    properties = torch.cuda.get_device_properties(device)
    shared = getattr(properties, "shared_memory_per_block_optin", 101_376)
    return DeviceLimits(properties.multi_processor_count, shared, properties.L2_cache_size)


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


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 0).bit_length()


def _tile_plan(
    batch: int, width: int, length: int, limits: DeviceLimits, *, exact: bool, backward: bool
) -> TilePlan:
    # 128 rows take two groups of four warps: half the registers a thread.
    large = limits.shared_bytes >= _AMPERE
    n1 = 128 if length > (2048 if backward and large else 4096) else 64
    # One row to a tile, masked where it is shorter: tiles of several rows (R > 1) pass under the interpreter, but were seen to read
    # illegal memory on an H100 under Triton 3.6.
    columns = max(_power_of_two(-(-length // n1)), 16)
    # Long walks reuse tables and spectra, but there should be programs enough to fill the device several times over.
    most = max(1, width * batch // (limits.n_sm * 8))
    walk = min(
        16 if backward or columns < 32 else 8 if columns < 64 else 4,
        batch,
        _power_of_two(most + 1) // 2,
    )
    pipelined = large and not exact
    return TilePlan(
        n1=n1,
        n2=columns,
        rows=1,
        walk=max(1, walk),
        stages=1 if not pipelined else 3 if columns < 32 else 2,
        num_warps=8 if n1 == 128 else 4,
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
    # Tiles of 128 rows need shared memory for two 128 × 128 DFT matrices and more.
    large = not exact and limits.shared_bytes >= _AMPERE
    na, nb, block = 64, 4, 64
    if length <= 16_384:
        # 16 rows: DFTs of 32 from the left are slow, and so are short pieces of rows.
        nb = 8 if length <= 8192 else 16
    elif length > 131_072 and large:
        block = 128
        if length > 262_144:
            # More columns forward; backward, where registers are short, more rows.
            na, nb = (128, 32) if backward or length > 524_288 else (64, 64)
    largest = 64 if na == 128 else max(nb, 32)
    while nb < largest and -(-length // (na * nb)) > block:
        nb *= 2
    columns = max(16 if exact else 32, nb)
    n1 = -(-length // (na * nb))
    m1 = max(16, _power_of_two(n1))
    # Workspaces and spectra of the channels in flight, against one (B, D, L) tensor: at most as much in the forward pass and
    # twice as much in the backward pass.
    operand = 4 if exact else 2
    row = 2 * operand * n1 * na * nb
    per_channel = batch * row * (2 if backward else 1) + row + (8 * n1 * na * nb if backward else 0)
    allowed = (2 if backward else 1) * batch * width * length * operand
    channels = max(1, min(width, allowed // per_channel))
    channels = -(-width // -(-width // channels))
    return LongPlan(
        n1=n1,
        m1=m1,
        block=min(m1, block),
        na=na,
        nb=nb,
        rows=columns // nb,
        tile=max(32, nb),
        walk=4,
        outer_stages=2,
        inner_stages=1,
        channels=channels,
        outer_warps=8 if min(m1, block) == 128 else 4,
        inner_warps=8 if na == 128 else 4,
    )
