"""What a language model is trained on: from windows to examples, and from examples to a loss.

The training loop (`hyenadna.training.pretrain_module`) knows no more of an objective than this.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from hyenadna.tasks.causal_lm import LossSum, next_base_loss, summed_loss, target_weight
from hyenadna.tasks.masked_lm import PAD_TOKEN_ID, Masking, mask_bases, masked_base_loss
from hyenadna.tokenizers import ByteTokenizer

__all__ = ["MaskedBases", "NextBase", "NextByte", "Objective"]


class Objective(Protocol):
    """How windows are read and scored.

    Attributes
    ----------
    unit
        Of what is reported, in words.
    tile_overlap
        Bases that validation windows share, so that each base is scored once.
    """

    unit: str
    tile_overlap: int

    def examples(
        self,
        token_ids: torch.Tensor,
        soft_mask: torch.Tensor | None,
        first_window: int,
        *,
        held_out: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Return what `loss` needs of windows.

        Parameters
        ----------
        token_ids
            Integers, shape (B, L).
        soft_mask
            bool, shape (B, L), True at lower-case bases; None where there is none.
        first_window
            Number of the first window; the others follow it.
        held_out
            Of validation: what is random then does not depend on the run, and windows may be padded on the right.

        Returns
        -------
        tuple of torch.Tensor
            Each of B rows, so that it can be cut into micro-batches; the last one holds the weight of each target.
        """
        ...

    def loss(self, model: Any, *examples: torch.Tensor, padded: bool = False) -> LossSum:
        """Return the sums over all targets of examples; `padded` says that windows may be."""
        ...


class NextBase:
    """Predict the next base; see `hyenadna.tasks.causal_lm`.

    Parameters
    ----------
    soft_mask_weight
        Weight of targets under the soft mask, 0…1.
    """

    unit = "bits per base"
    tile_overlap = 1

    def __init__(self, soft_mask_weight: float = 1.0) -> None:
        self.soft_mask_weight = soft_mask_weight

    def examples(
        self,
        token_ids: torch.Tensor,
        soft_mask: torch.Tensor | None,
        first_window: int,
        *,
        held_out: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Return the windows, and weights (B, L − 1)."""
        return token_ids, target_weight(token_ids, soft_mask, self.soft_mask_weight)

    def loss(self, model: Any, *examples: torch.Tensor, padded: bool = False) -> LossSum:
        """Return the sums over the bases after the first of each window."""
        token_ids, weight = examples
        return next_base_loss(model(token_ids), token_ids, weight=weight)


class NextByte:
    """Predict the next byte of a text: every one but the first of a window, and padding, is a target."""

    unit = "bits per byte"
    tile_overlap = 1

    def examples(
        self,
        token_ids: torch.Tensor,
        soft_mask: torch.Tensor | None,
        first_window: int,
        *,
        held_out: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Return the windows, and weights (B, L − 1), 1 or 0; text has no soft mask."""
        return token_ids, (token_ids[:, 1:] != ByteTokenizer.pad_token_id).float()

    def loss(self, model: Any, *examples: torch.Tensor, padded: bool = False) -> LossSum:
        """Return the sums over the bytes whose weight is not 0."""
        token_ids, weight = examples
        return summed_loss(model(token_ids)[:, :-1], token_ids[:, 1:], weight, scored=weight > 0)

    def scored_from(self, model: Any, token_ids: torch.Tensor, firsts: torch.Tensor) -> LossSum:
        """Return the sums over the bytes from a place on, 1…L, of each window: integers, shapes (B, L) and (B,); those before are only read."""
        _, weight = self.examples(token_ids, None, 0, held_out=True)
        place = torch.arange(1, token_ids.shape[1], device=token_ids.device)
        return self.loss(model, token_ids, weight * (place >= firsts[:, None]), padded=True)


class MaskedBases:
    """Predict hidden bases; see `hyenadna.tasks.masked_lm`.

    Parameters
    ----------
    masking
        How much is hidden, and how.
    seed
        Of what training hides; validation hides the same in every run.
    soft_mask_weight
        Weight of targets under the soft mask, 0…1.
    """

    unit = "bits per masked base"
    tile_overlap = 0

    def __init__(self, masking: Masking, seed: int, soft_mask_weight: float = 1.0) -> None:
        self.masking = masking
        self.seed = seed
        self.soft_mask_weight = soft_mask_weight

    def examples(
        self,
        token_ids: torch.Tensor,
        soft_mask: torch.Tensor | None,
        first_window: int,
        *,
        held_out: bool = False,
    ) -> tuple[torch.Tensor, ...]:
        """Return windows as they are read, the hidden bases and weights, each (B, L)."""
        seed = "validation" if held_out else self.seed
        read, targets = mask_bases(token_ids, first_window, seed=seed, masking=self.masking)
        weight = (targets != PAD_TOKEN_ID).float()
        if soft_mask is not None:
            weight = torch.where(soft_mask, weight * self.soft_mask_weight, weight)
        return read, targets, weight

    def loss(self, model: Any, *examples: torch.Tensor, padded: bool = False) -> LossSum:
        """Return the sums over the hidden bases."""
        read, targets, weight = examples
        mask = read != PAD_TOKEN_ID if padded else None
        return masked_base_loss(model(read, mask), targets, weight=weight)
