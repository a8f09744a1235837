"""What tests of long-convolution models need, here and in projects that build on this one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from hyenadna.sequence import bases

__all__ = ["assert_causal", "assert_close", "random_dna", "relative_error"]


def random_dna(length: int, *, seed: int, gc: float = 0.5) -> str:
    """Return random upper-case DNA of a GC content in 0…1, the same for the same seed."""
    rng = np.random.default_rng(seed)
    weights = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
    return bases(rng.choice(4, size=length, p=weights).astype(np.uint8))


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return ‖actual − expected‖₂ / ‖expected‖₂ in float64; NaN anywhere gives infinity."""
    difference = (actual.detach().double() - expected.detach().double()).norm()
    error = float(difference / expected.detach().double().norm().clamp(min=1e-300))
    return float("inf") if np.isnan(error) else error


def assert_close(actual: torch.Tensor, expected: torch.Tensor, *, tolerance: float) -> None:
    """Fail unless shapes agree and the relative L2 error is within a tolerance.

    Raises
    ------
    AssertionError
        They differ; the message gives the error found.
    """
    if actual.shape != expected.shape:
        raise AssertionError(f"shapes differ: {tuple(actual.shape)}, {tuple(expected.shape)}")
    error = relative_error(actual, expected)
    if not error <= tolerance:
        raise AssertionError(f"relative L2 error {error:.3g} exceeds {tolerance:.3g}")


def assert_causal(
    function: Callable[[torch.Tensor], torch.Tensor],
    before: torch.Tensor,
    after: torch.Tensor,
    *,
    position: int,
    tolerance: float,
) -> None:
    """Fail unless outputs before a position ignore what the input holds from there on, and the rest does depend on it.

    Parameters
    ----------
    function
        Maps inputs, shape (B, L), to outputs, shape (B, L, …).
    before, after
        Two inputs that agree before `position` and differ at it.
    position
        First place at which they differ, 1 ≤ position < L.
    tolerance
        Largest absolute change of an earlier output; FFT rounding spreads over the whole row.

    Raises
    ------
    AssertionError
        The future leaks into the past, or changes nothing at all.
    """
    change = (function(before) - function(after)).detach().abs().flatten(2).amax(dim=(0, 2))
    leak = float(change[:position].max())
    if not leak <= tolerance:
        where = int(change[:position].argmax())
        raise AssertionError(
            f"position {where} changed by {leak:.3g} with the input from {position} on"
        )
    if not float(change[position:].max()) > tolerance:
        raise AssertionError("the outputs do not depend on the changed inputs: nothing was tested")
