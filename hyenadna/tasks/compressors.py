"""What general-purpose compressors pay for bases: a baseline that knows nothing of DNA and was never trained.

Two compressors of the standard library, each with two ways to write the bases down: one letter a byte, or four bases a byte.

The one idea to know: LZMA codes from left to right and adapts as it goes, so what it pays for some bases *after* others is how
much the compressed size grows with them. bz2 sorts whole blocks, so only whole texts have a price there.
"""

from __future__ import annotations

import bz2
import lzma

import numpy as np
import numpy.typing as npt

__all__ = ["WRITINGS", "bz2_bits", "lzma_bits"]

Codes = npt.NDArray[np.uint8]

WRITINGS = ("letters", "packed")
_PRESET = 9 | lzma.PRESET_EXTREME
_SMALLEST, _LARGEST = (
    1 << 12,
    1 << 26,
)  # bytes that LZMA looks back: its least, and the preset's own
_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)


def lzma_bits(codes: Codes, writing: str, *, first: int = 0) -> float:
    """Return what LZMA (preset 9e, lc 0, pb 0) pays for bases, given those before them: bits, in whole bytes.

    Parameters
    ----------
    codes
        Base codes 0…3, uint8, shape (L,). It looks back over at most 64 MiB of its text.
    writing
        One of `WRITINGS`: a letter a byte, or four bases a byte.
    first
        Place of the first base that is paid for, 0 … L; those before it are only read.

    Examples
    --------
    >>> repeat = np.tile(np.arange(4, dtype=np.uint8), 500)
    >>> lzma_bits(repeat, "letters", first=1000) < 50
    True
    """
    before = _lzma(_written(codes[:first], writing)) if first else 0
    return 8.0 * (_lzma(_written(codes, writing)) - before)


def bz2_bits(codes: Codes, writing: str) -> float:
    """Return what bz2 (level 9) pays for bases, uint8 codes 0…3, written in one of `WRITINGS`: bits."""
    return 8.0 * len(bz2.compress(_written(codes, writing)))


def _lzma(text: bytes) -> int:
    # The raw stream has no header; its few last bytes cancel in a difference.
    size = min(max(len(text), _SMALLEST), _LARGEST)
    options = {"id": lzma.FILTER_LZMA1, "preset": _PRESET, "dict_size": size, "lc": 0, "pb": 0}
    compressor = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[options])
    return len(compressor.compress(text)) + len(compressor.flush())


def _written(codes: Codes, writing: str) -> bytes:
    if writing == "letters":
        return _LETTERS[codes].tobytes()
    fours = np.pad(codes, (0, -len(codes) % 4)).reshape(-1, 4)
    return (fours @ np.array([64, 16, 4, 1], dtype=np.uint8)).tobytes()
