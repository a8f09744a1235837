"""How a masked model compares two alleles: by the masked marginals of the bases in which they differ.

The positions at which the alleles differ are all read as [MASK], in one window with the variant in its middle, and

    LLR = Σ over these positions of  log p(ALT base | window) − log p(REF base | window)

(masked marginal scoring, Meier et al. 2021, doi 10.1101/2021.07.09.450648). Both alleles are read off the same masked window. What the probabilities are normalised
over, A, C, G and T or the whole vocabulary, is the same for both bases and falls out of the difference. Several masked positions are taken to be independent
of each other, given the window. Alleles of different lengths have no positions in common, and are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hyenadna.inference.comparison import Comparison, Question, Read, pick
from hyenadna.inference.forward import to_device
from hyenadna.inference.variant_windows import AlleleWindows

__all__ = ["MaskedMarginals"]


class MaskedMarginals(Comparison):
    """Σ log p(ALT base) − log p(REF base) over the bases that differ, each of them masked."""

    of_one_length = True

    def reads(self, windows: AlleleWindows) -> tuple[Read, ...]:
        """Return the windows with either allele, for the distance, and the masked one."""
        ref, alt = (np.frombuffer(ids, np.uint8) for ids in (windows.ref, windows.alt))
        masked = np.where(ref == alt, ref, np.uint8(self.tokenizer.mask_token_id)).tobytes()
        last = windows.ref_last  # and ALT's
        return (windows.ref, last), (windows.alt, last), (masked, last)

    def forward(self, batch: Sequence[Question]) -> tuple[torch.Tensor]:
        """Return LLR, local LLR and distance of each question: float64, shape (B, 3). The LLR is all near the allele."""
        stack = self.stack(batch)
        # The places of masks in each window, (N, M), padded to as many as the batch's most
        row, column = np.nonzero(stack.token_ids == self.tokenizer.mask_token_id)
        n_masks = np.bincount(row, minlength=len(stack.token_ids))
        is_mask = np.arange(n_masks.max()) < n_masks[:, None]
        places = np.zeros(is_mask.shape, dtype=np.int64)
        places[is_mask] = column
        real = np.arange(stack.token_ids.shape[1]) < stack.lengths[:, None]

        def model(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            ids, mask, at = (to_device(a[part], self.device) for a in (stack.token_ids, real, places))  # fmt: skip
            hidden = self.model.backbone(ids, mask)
            return hidden, self.model.lm_head(pick(hidden, at)).double()

        logits, near = self.ask(stack, model)
        with_ref, with_alt, masked = stack.rows
        bases = [stack.token_ids[rows[:, None], places[masked]] for rows in (with_ref, with_alt)]
        ref, alt = to_device(np.stack(bases).astype(np.int64), self.device)[..., None]
        of_masked = logits[to_device(masked, self.device)]
        gains = (of_masked.gather(-1, alt) - of_masked.gather(-1, ref))[..., 0]
        llr = torch.where(to_device(is_mask[masked], self.device), gains, 0.0).sum(1)
        return (torch.stack([llr, llr, self.distance(stack, near)], dim=1),)
