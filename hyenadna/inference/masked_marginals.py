"""How a masked model compares two alleles: by the masked marginals of the bases in which they differ.

The positions at which the alleles differ are all read as [MASK], in one window with the variant in its middle, and

    LLR = Σ over these positions of  log p(ALT base | window) − log p(REF base | window)

(masked marginal scoring, Meier et al. 2021, doi 10.1101/2021.07.09.450648). Both alleles are read off the same masked window. What the probabilities are normalised
over, A, C, G and T or the whole vocabulary, is the same for both bases and falls out of the difference. Several masked positions are taken to be independent
of each other, given the window. Alleles of different lengths have no positions in common, and are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.inference.batching import Piece
from hyenadna.inference.forward import scoring_mode
from hyenadna.inference.variant_windows import Compared, Comparison, Reason, States, mean_distance
from hyenadna.sequence import Interval
from hyenadna.tokenizers import TokenIds

__all__ = ["MaskedMarginals"]


class _Answer(NamedTuple):
    """What the model says of one window.

    `logits`, shape (M, V): of its M masked positions, in their order; `hidden`, shape (≤ radius + 1, D): final hidden states from the last base of the allele on.
    """

    logits: npt.NDArray[np.float64]
    hidden: States


class _Asked(NamedTuple):
    """One strand of a variant: numbers of its windows, and the token ids (M,) of the bases that differ."""

    ref: int
    alt: int
    masked: int
    ref_bases: TokenIds
    alt_bases: TokenIds


class MaskedMarginals(Comparison):
    """Σ log p(ALT base) − log p(REF base) over the bases that differ, each of them masked."""

    def ask(self, place: Interval, ref: str, alt: str) -> list[Any] | Reason:
        """Ask about the masked window of each strand, and about both alleles' for the distance."""
        if len(ref) != len(alt):
            return "masked_model"
        strands = []
        for cut in self.cut(place, ref, alt):
            assert cut is not None  # alleles of one length fit wherever REF does
            last = cut.left + len(cut.ref) - 1
            with_ref, with_alt = map(self.tokenizer.encode, (cut.with_ref, cut.with_alt))
            differs = with_ref != with_alt
            masked = with_ref.copy()
            masked[differs] = self.tokenizer.mask_token_id
            strands.append(
                _Asked(
                    self.number(with_ref, last), self.number(with_alt, last), self.number(masked, last),
                    with_ref[differs], with_alt[differs],
                )
            )  # fmt: skip
        return strands

    def read(self, batch: Sequence[Piece]) -> list[Any]:
        """Return the logits at the masked positions, and the states, of each window."""
        stacked = self.stacked(batch)
        lengths = np.array([len(piece.token_ids) for piece in batch])
        real = np.arange(stacked.shape[1]) < lengths[:, None]
        masked = stacked == self.tokenizer.mask_token_id
        token_ids, mask = (torch.from_numpy(a).to(self.device) for a in (stacked, real))
        rows, columns = (torch.from_numpy(a).to(self.device) for a in np.nonzero(masked))
        with scoring_mode(self.model, half=self.half):
            hidden = self.model.backbone(token_ids, mask)
            logits = self.model.lm_head(hidden[rows, columns]).double().cpu().numpy()
            near = self.near(hidden, batch)
        of_windows = np.split(logits, np.cumsum(masked.sum(1))[:-1])
        return [_Answer(*both) for both in zip(of_windows, near, strict=True)]

    def compare(self, asked: _Asked, answers: Mapping[int, _Answer]) -> Compared:
        """Return the ratio of one strand, which is the same near the allele, and the distance."""
        logits, places = answers[asked.masked].logits, np.arange(len(asked.ref_bases))
        llr = float((logits[places, asked.alt_bases] - logits[places, asked.ref_bases]).sum())
        distance = mean_distance(answers[asked.ref].hidden, answers[asked.alt].hidden)
        return Compared(llr, llr, distance)
