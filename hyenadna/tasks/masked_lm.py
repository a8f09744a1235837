"""The objective of a masked language model: say which base stood where some were hidden, from both sides.

Hidden are A, C, G and T alone, each with one probability, singly or in spans. What is hidden is a pure function of a seed, the window's number and
the position, so a run that resumes, another number of devices and a GPU in place of a CPU hide the same bases.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

import torch

from hyenadna.tasks.causal_lm import BASE_TOKEN_IDS, LossSum, summed_loss

MASK_TOKEN_ID, PAD_TOKEN_ID = 3, 4
_HALF = 32  # bits of a draw that say whether a span begins or ends; the others choose what is read instead


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How much is hidden, and how.

    Parameters
    ----------
    mask_fraction
        Probability that a base is hidden, in (0, 1).
    mean_span
        Mean length ℓ ≥ 1 of a span, bases: at each base a span begins with a probability q, else the one that is open ends with probability 1/ℓ, and q
        is such that `mask_fraction` of all positions lie in one. 1 hides every base independently of the others.
    mask_share, random_share
        Of the hidden bases, those that are read as [MASK] and as a random base; the rest is read as it is. Each in [0, 1], together at most 1.
    """

    mask_fraction: float = 0.15
    mean_span: float = 1.0
    mask_share: float = 0.8
    random_share: float = 0.1

    @property
    def start_probability(self) -> float:
        """Probability q that a span begins at a base: q / (1 − q) = f / ((1 − f)·ℓ), f the mask fraction."""
        odds = self.mask_fraction / ((1 - self.mask_fraction) * self.mean_span)
        return odds / (1 + odds)


class MaskedWindows(NamedTuple):
    """Windows with some bases hidden.

    Parameters
    ----------
    read
        What the model reads; shape (B, L), the dtype of the token ids.
    targets
        The hidden bases, [PAD] elsewhere; shape and dtype of `read`.
    """

    read: torch.Tensor
    targets: torch.Tensor


def mask_bases(
    token_ids: torch.Tensor, first_window: int, *, seed: int | str, masking: Masking
) -> MaskedWindows:
    """Hide bases of consecutive windows.

    Parameters
    ----------
    token_ids
        Any integer dtype, shape (B, L).
    first_window
        Number of the first window, 0…2⁶³ − 1; the others follow it.
    seed
        Another one hides unrelated bases.
    masking
        How much, and how.

    Returns
    -------
    MaskedWindows
        On the device of `token_ids`; the same on all.

    Examples
    --------
    >>> hidden = mask_bases(torch.full((1, 12), 7), 0, seed=5, masking=Masking(mask_fraction=0.4, mask_share=1, random_share=0))
    >>> hidden.read.tolist()[0]
    [7, 7, 3, 3, 7, 7, 7, 7, 3, 7, 7, 3]
    """
    batch, length = token_ids.shape
    windows = first_window + torch.arange(batch, device=token_ids.device)
    draws = _draws(f"masked_lm/{seed}", windows, length)
    hidden = _in_spans(_logical_shift(draws, _HALF), masking)
    hidden &= (token_ids >= BASE_TOKEN_IDS[0]) & (token_ids <= BASE_TOKEN_IDS[-1])
    share, base = (draws >> 2) & (2**30 - 1), draws & 3
    as_mask = hidden & (share < _threshold(masking.mask_share, 30))
    as_random = hidden & ~as_mask & (share < _threshold(masking.mask_share + masking.random_share, 30))  # fmt: skip
    read = torch.where(as_mask, MASK_TOKEN_ID, token_ids)
    read = torch.where(as_random, (base + BASE_TOKEN_IDS[0]).to(token_ids.dtype), read)
    return MaskedWindows(read, torch.where(hidden, token_ids, PAD_TOKEN_ID))


def masked_base_loss(
    logits: torch.Tensor, targets: torch.Tensor, *, weight: torch.Tensor | None = None
) -> LossSum:
    """Sum the cross-entropy of the hidden bases over a batch.

    Parameters
    ----------
    logits
        Floating point, shape (B, L, V); position t scores the token at t. Computed on in float32 or better.
    targets
        From `mask_bases`, shape (B, L).
    weight
        Shape (B, L); None weighs every hidden base 1.

    Returns
    -------
    LossSum
        Sums in float32 (float64 for float64 logits).
    """
    return summed_loss(logits, targets, weight)


def _in_spans(draws: torch.Tensor, masking: Masking) -> torch.Tensor:
    """Say which positions lie in spans: bool, shape (B, L), from draws of 32 bits."""
    begin = masking.start_probability
    begins = draws < _threshold(begin, _HALF)
    # Before a window stands no base, but a span might have come in from there.
    begins[:, 0] = draws[:, 0] < _threshold(masking.mask_fraction, _HALF)
    ends = ~begins & (draws >= _threshold(1 - (1 - begin) / masking.mean_span, _HALF))
    ends[:, 0] = ~begins[:, 0]
    # A position is in a span where the last thing that happened up to it was a beginning.
    place = 2 * torch.arange(draws.shape[1], device=draws.device)
    last = torch.where(begins | ends, place + begins, -1).cummax(dim=1).values
    return (last & 1).bool()


def _threshold(probability: float, bits: int) -> int:
    return int(min(probability, 1.0) * 2**bits)


def _draws(key: str, windows: torch.Tensor, length: int) -> torch.Tensor:
    """Return 64 random bits for each position of each window: int64, shape (B, length).

    SplitMix64 (Steele, Lea and Flood 2014, doi 10.1145/2660193.2660195) from a state of the window's own. Integers alone, which wrap around alike on every device.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    state = _mixed(windows * _GOLDEN + int.from_bytes(digest, "little", signed=True))
    steps = torch.arange(1, length + 1, device=windows.device) * _GOLDEN
    return _mixed(state[:, None] + steps)


def _mixed(z: torch.Tensor) -> torch.Tensor:
    z = (z ^ _logical_shift(z, 30)) * _FIRST
    z = (z ^ _logical_shift(z, 27)) * _SECOND
    return z ^ _logical_shift(z, 31)


def _logical_shift(z: torch.Tensor, bits: int) -> torch.Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(z: int) -> int:
    return z - (z >> 63 << 64)


_GOLDEN, _FIRST, _SECOND = map(
    _signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
