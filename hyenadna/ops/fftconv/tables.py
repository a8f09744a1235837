"""Constant matrices of the kernels: DFT factors and twiddles of the right-angle ring, computed in float64, kept per device.

n = n1·N2 + n2 is a position, (f1, f2) a frequency; the order of the frequencies is never undone, for filters and signals share
it. Every transform is orthonormal. README.md has the factorisation.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch

__all__ = ["LongTables", "TileTables", "long_tables", "tile_tables"]


class TileTables(NamedTuple):
    """Tables of one (N1, C) tile, C = R·N2: R rows of length N1·N2 stand side by side in the columns.

    f1 : (2, N1, N1), the outer DFT with the ring's twist of n1, real and imaginary part.
    tw : (2, N1, C), twiddles with the twist of n2.
    f2 : (3, C, C), the inner DFT of each row, block diagonal: real, imaginary, negated imaginary part.
    """

    f1: torch.Tensor
    tw: torch.Tensor
    f2: torch.Tensor


class LongTables(NamedTuple):
    """Tables of the long path, N = N1·NA·NB; the outer stage is padded to M1 ≥ N1 rows, its columns come T at a time.

    f1 : (2, M1, M1), zero beyond N1.
    tc : (2, N2/T, M1) and tj : (2, M1, T), float32, whose product is the outer twiddle with the ring's twist.
    fa : (3, NA, NA), left inner DFT: real, imaginary, negated imaginary part.
    tw : (2, NA, R·NB) float32, inner twiddles; fb : as `TileTables.f2`.
    """

    f1: torch.Tensor
    tc: torch.Tensor
    tj: torch.Tensor
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


def _repeated(matrix: torch.Tensor, times: int) -> torch.Tensor:
    """Return a matrix `times` times along the diagonal."""
    return torch.kron(torch.eye(times, dtype=matrix.dtype), matrix)


def _planes(
    z: torch.Tensor, dtype: torch.dtype, device: torch.device, *, negated: bool = False
) -> torch.Tensor:
    parts = [z.real, z.imag, -z.imag] if negated else [z.real, z.imag]
    return torch.stack(parts).to(dtype).contiguous().to(device)


def _outer(n1: int, n2: int) -> torch.Tensor:
    twist = _unit(torch.arange(n1, dtype=torch.float64) * n2 / (2 * n1 * n2))
    return _dft(n1) * twist[None, :]


@functools.lru_cache(maxsize=64)
def tile_tables(
    n1: int, n2: int, rows: int, dtype: torch.dtype, device: torch.device
) -> TileTables:
    """Return the tables of a tile of `rows` rows of length n1·n2."""
    with torch.inference_mode(False), torch.no_grad():
        index1 = torch.arange(n1, dtype=torch.float64)
        index2 = torch.arange(n2, dtype=torch.float64)
        tw = _twiddle(index1, index2, n1 * n2, twist=True).repeat(1, rows)
        f2 = _repeated(_dft(n2), rows)
        return TileTables(
            _planes(_outer(n1, n2), dtype, device),
            _planes(tw, dtype, device),
            _planes(f2, dtype, device, negated=True),
        )


@functools.lru_cache(maxsize=32)
def long_tables(
    n1: int,
    m1: int,
    na: int,
    nb: int,
    rows: int,
    tile: int,
    dtype: torch.dtype,
    device: torch.device,
) -> LongTables:
    """Return the tables of N = n1·na·nb; `rows` inner transforms share a tile, outer stages take `tile` columns."""
    with torch.inference_mode(False), torch.no_grad():
        n2 = na * nb
        n = n1 * n2
        f1 = torch.zeros(m1, m1, dtype=torch.complex128)
        f1[:n1, :n1] = _outer(n1, n2)
        index1 = torch.arange(m1, dtype=torch.float64)
        start = torch.arange(0, n2, tile, dtype=torch.float64)
        tc = _twiddle(index1, start, n, twist=True).T
        tj = _twiddle(index1, torch.arange(tile, dtype=torch.float64), n, twist=True)
        inner = _twiddle(
            torch.arange(na, dtype=torch.float64),
            torch.arange(nb, dtype=torch.float64),
            n2,
            twist=False,
        )
        return LongTables(
            _planes(f1, dtype, device),
            _planes(tc, torch.float32, device),
            _planes(tj, torch.float32, device),
            _planes(_dft(na), dtype, device, negated=True),
            _planes(inner.repeat(1, rows), torch.float32, device),
            _planes(_repeated(_dft(nb), rows), dtype, device, negated=True),
        )
