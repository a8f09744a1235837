"""Constant matrices of the kernels: DFT factors and twiddles of the right-angle ring, computed in float64, kept per device.

n = n1·N2 + n2 is a position, (f1, f2) a frequency; the order of the frequencies is never undone, for filters and signals share
it. Every transform is orthonormal. README.md has the factorisation.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch

__all__ = [
    "InnerTables",
    "OuterTables",
    "TileTables",
    "inner_tables",
    "outer_tables",
    "tile_tables",
]


class TileTables(NamedTuple):
    """Tables of an (N1, N2) tile.

    f1 : (2, N1, N1), the outer DFT with the ring's twist of n1, real and imaginary part.
    tw : (2, N1, N2), twiddles with the twist of n2.
    f2 : the inner DFT: (2·N2, 2·N2) as a real matrix if stacked, else (3, N2, N2): real, imaginary, negated imaginary part.
    """

    f1: torch.Tensor
    tw: torch.Tensor
    f2: torch.Tensor


class OuterTables(NamedTuple):
    """Tables of transforms along the columns of (n, N2) matrices, padded to m ≥ n rows; columns come T at a time.

    f : (2, m, m), the DFT (with the ring's twist in the outer pass), zero beyond n.
    tc : (2, N2/T, m) and tj : (2, m, T), float32, whose product is the twiddle.
    """

    f: torch.Tensor
    tc: torch.Tensor
    tj: torch.Tensor


class InnerTables(NamedTuple):
    """Tables of the inner transforms, R at a time in an (NA, R·NB) tile.

    fa : (2, NA, NA), the left DFT; tw : (2, NA, R·NB) float32, twiddles; fb : (2·R·NB, 2·R·NB), the right DFT as a real matrix.
    """

    fa: torch.Tensor
    tw: torch.Tensor
    fb: torch.Tensor


def _dft(n: int) -> torch.Tensor:
    index = torch.arange(n, dtype=torch.float64)
    # The product is reduced modulo n first: large angles lose digits.
    return _unit(-2 * torch.outer(index, index).remainder(n) / n) / math.sqrt(n)


def _unit(half_turns: torch.Tensor) -> torch.Tensor:
    return torch.polar(torch.ones_like(half_turns), math.pi * half_turns)


def _twiddle(f1: torch.Tensor, n2: torch.Tensor, n: int, *, twist: bool) -> torch.Tensor:
    """Return exp(−2πi·f1·n2/n), times θ^n2 = exp(iπ·n2/2n) in the outer stage; shape (len(f1), len(n2))."""
    quarter = 4 * torch.outer(f1, n2) - (n2 if twist else 0)
    return _unit(-quarter.remainder(4 * n) / (2 * n))


def _as_real(z: torch.Tensor) -> torch.Tensor:
    """Return the real matrix that multiplies [Re | Im] from the right like z a complex row."""
    return torch.cat([torch.cat([z.real, z.imag], dim=1), torch.cat([-z.imag, z.real], dim=1)])


def _planes(z: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.stack([z.real, z.imag]).to(dtype).contiguous().to(device)


def _outer(n1: int, n2: int) -> torch.Tensor:
    twist = _unit(torch.arange(n1, dtype=torch.float64) * n2 / (2 * n1 * n2))
    return _dft(n1) * twist[None, :]


def _count(n: int) -> torch.Tensor:
    return torch.arange(n, dtype=torch.float64)


@functools.lru_cache(maxsize=64)
def tile_tables(
    n1: int, n2: int, dtype: torch.dtype, device: torch.device, *, stacked: bool
) -> TileTables:
    """Return the tables of rows of length n1·n2."""
    with torch.inference_mode(False), torch.no_grad():
        tw = _twiddle(_count(n1), _count(n2), n1 * n2, twist=True)
        f2 = _dft(n2)
        planes = _as_real(f2) if stacked else torch.stack([f2.real, f2.imag, -f2.imag])
        return TileTables(
            _planes(_outer(n1, n2), dtype, device), _planes(tw, dtype, device), planes.to(dtype).to(device)
        )  # fmt: skip


@functools.lru_cache(maxsize=64)
def outer_tables(
    n: int, m: int, n2: int, tile: int, dtype: torch.dtype, device: torch.device, *, twist: bool
) -> OuterTables:
    """Return the tables of (n, n2) matrices, with the ring's twist or as a plain DFT."""
    with torch.inference_mode(False), torch.no_grad():
        f = torch.zeros(m, m, dtype=torch.complex128)
        f[:n, :n] = _outer(n, n2) if twist else _dft(n)
        first = torch.arange(0, n2, tile, dtype=torch.float64)
        return OuterTables(
            _planes(f, dtype, device),
            _planes(_twiddle(_count(m), first, n * n2, twist=twist).T, torch.float32, device),
            _planes(_twiddle(_count(m), _count(tile), n * n2, twist=twist), torch.float32, device),
        )


@functools.lru_cache(maxsize=64)
def inner_tables(
    na: int, nb: int, rows: int, dtype: torch.dtype, device: torch.device
) -> InnerTables:
    """Return the tables of transforms of length na·nb, `rows` of them side by side."""
    with torch.inference_mode(False), torch.no_grad():
        tw = _twiddle(_count(na), _count(nb), na * nb, twist=False).repeat(1, rows)
        fb = torch.kron(torch.eye(rows, dtype=torch.complex128), _dft(nb))
        return InnerTables(
            _planes(_dft(na), dtype, device),
            _planes(tw, torch.float32, device),
            _as_real(fb).to(dtype).to(device),
        )
