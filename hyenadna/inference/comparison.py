"""What both ways to compare two alleles share: which windows a model reads, each of them once, and how far the alleles' hidden states are apart.

A comparison (`hyenadna.inference.window_ratios`, `hyenadna.inference.masked_marginals`) says which windows it reads for an allele, and makes three numbers of what the
model says of them, on the device and without waiting for it: nothing else leaves the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.inference.batching import automatic_batch_tokens, padded_length
from hyenadna.inference.forward import BatchSize, to_device
from hyenadna.inference.variant_windows import AlleleWindows
from hyenadna.models import HyenaForCausalLM, HyenaForMaskedLM
from hyenadna.tokenizers import CharacterTokenizer, TokenIds

__all__ = ["Comparison", "Question", "Read"]


#: A window's token ids, and the offset of the base from which its hidden states are wanted; equal ones are computed once.
Read = tuple[bytes, int]


@dataclass(slots=True, eq=False)
class Question:
    """What is asked about an allele on one strand.

    Parameters
    ----------
    owner
        What the answer belongs to, in its caller's terms.
    windows
        The windows with either allele.
    reads
        What the model reads: the window with REF, that with ALT, and what more the comparison needs.
    """

    owner: Any
    windows: AlleleWindows
    reads: tuple[Read, ...]

    def __len__(self) -> int:
        """Return the bases of a window."""
        return len(self.windows.ref)


class Stack(NamedTuple):
    """The windows of a batch of B questions, each of N different ones once, padded on the right to L.

    Parameters
    ----------
    token_ids
        uint8, shape (N, L).
    lengths, lasts
        int64, shape (N,): bases of each window, and from which of them on its hidden states are wanted.
    rows
        int64, shape (K, B): which of the windows each question's first, second, … read is.
    """

    token_ids: TokenIds
    lengths: npt.NDArray[np.int64]
    lasts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]


class Comparison(ABC):
    """How a model compares two alleles.

    Parameters
    ----------
    model, tokenizer
        As for `hyenadna.inference.variants.score_variants`.
    window, radius
        Bases; settled.
    batch_size
        Windows per forward pass, or ``"auto"``.
    """

    #: Only alleles of one length can be compared.
    of_one_length: ClassVar[bool]

    def __init__(
        self,
        model: HyenaForCausalLM | HyenaForMaskedLM,
        tokenizer: CharacterTokenizer,
        *,
        window: int,
        radius: int,
        batch_size: BatchSize,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.window, self.radius = window, radius
        self.device = next(model.parameters()).device
        self._max_rows = None if batch_size == "auto" else batch_size
        self._max_tokens = automatic_batch_tokens(model.config, self.device)

    @abstractmethod
    def reads(self, windows: AlleleWindows) -> tuple[Read, ...]:
        """Return what the model has to read: the window with REF, that with ALT, and what more is needed."""

    @abstractmethod
    def forward(self, batch: Sequence[Question]) -> tuple[torch.Tensor]:
        """Return LLR, local LLR and distance of questions of one padded length: float64, shape (B, 3), without waiting for the device."""

    def padded(self, n_bases: int) -> int:
        """Return the length to which a window is padded."""
        return padded_length(n_bases, self.window)

    def rows(self, length: int) -> int:
        """Return how many windows of a padded length go through the model at once."""
        return self._max_rows or max(1, self._max_tokens // length)

    def stack(self, batch: Sequence[Question]) -> Stack:
        """Stack the windows of a batch."""
        numbers: dict[Read, int] = {}
        rows = [[numbers.setdefault(read, len(numbers)) for read in q.reads] for q in batch]
        length = self.padded(len(batch[0]))
        padding = bytes([self.tokenizer.pad_token_id])
        joined = bytearray().join(ids.ljust(length, padding) for ids, _ in numbers)
        return Stack(
            np.frombuffer(joined, np.uint8).reshape(-1, length),
            np.array([len(ids) for ids, _ in numbers]),
            np.array([last for _, last in numbers]),
            np.array(rows).T.copy(),
        )

    def near(self, stack: Stack) -> npt.NDArray[np.int64]:
        """Return the columns whose hidden states are wanted, (N, ≤ radius + 1): from each window's `last` on."""
        length = stack.token_ids.shape[1]
        offsets = np.arange(min(self.radius + 1, length))
        columns: npt.NDArray[np.int64] = np.minimum(stack.lasts[:, None] + offsets, length - 1)
        return columns

    def ask(
        self, stack: Stack, model: Callable[[slice], tuple[torch.Tensor, torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Have the windows read, as many at once as memory takes.

        Parameters
        ----------
        stack
            N windows.
        model
            Gives for a slice of them the hidden states, (n, L, D), and what is wanted of these, (n, …).

        Returns
        -------
        tuple of torch.Tensor
            What is wanted, (N, …), and the hidden states from each window's `last` on, (N, ≤ radius + 1, D).
        """
        n_windows, length = stack.token_ids.shape
        # A question that is alone goes window by window: what fits alone, fits.
        n_rows = 1 if stack.rows.shape[1] == 1 else self.rows(length)
        columns = self.near(stack)
        wanted, near = [], []
        for i in range(0, n_windows, n_rows):
            part = slice(i, i + n_rows)
            hidden, found = model(part)
            wanted.append(found)
            near.append(pick(hidden, to_device(columns[part], self.device)).float())
        return torch.cat(wanted), torch.cat(near)

    def distance(self, stack: Stack, near: torch.Tensor) -> torch.Tensor:
        """Return the mean Euclidean distance of the alleles' hidden states, over as many as both windows have: float64, shape (B,)."""
        ref, alt = stack.rows[:2]
        n_both = stack.lengths[ref] - np.maximum(stack.lasts[ref], stack.lasts[alt])
        ref, alt, n = to_device(np.stack([ref, alt, n_both]), self.device)
        steps = torch.linalg.vector_norm(near[alt] - near[ref], dim=-1).double()
        n = n.clamp(max=steps.shape[1])
        real = torch.arange(steps.shape[1], device=self.device) < n[:, None]
        distance: torch.Tensor = torch.where(real, steps, 0.0).sum(1) / n
        return distance


def pick(hidden: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return the states (n, M, D) of columns (n, M) of hidden states (n, L, D)."""
    return hidden[torch.arange(len(hidden), device=hidden.device)[:, None], columns]
