"""How a causal model compares two alleles: the log-likelihood ratio of the windows with one and with the other.

The one idea to know: the windows with the reference and with the alternative allele begin at the same base and are equally long, so
both sums of log-probabilities have equally many terms, for indels too. What comes before the first base that differs is the same
in both windows, and a causal model gives it the same probability: the sums begin at that base.
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

__all__ = ["WindowRatios"]


class _Answer(NamedTuple):
    """What the model says of one window, in float64 and float32.

    `log_p`, shape (L,): log-probabilities in nats, 0 at the first base; `is_target`, shape (L,): what may be summed; `hidden`,
    shape (≤ radius + 1, D): final hidden states from the last base of the allele on.
    """

    log_p: npt.NDArray[np.float64]
    is_target: npt.NDArray[np.bool_]
    hidden: States


class _Asked(NamedTuple):
    """One strand of a variant: numbers of its windows, and the offset of the first base that differs and of the end of the longer allele."""

    ref: int
    alt: int
    first: int
    end: int


class WindowRatios(Comparison):
    """log p(window with ALT) − log p(window with REF), from the first base that differs on."""

    def ask(self, place: Interval, ref: str, alt: str) -> list[Any] | Reason:
        """Ask about both windows of each strand."""
        strands = []
        for cut in self.cut(place, ref, alt):
            if cut is None:
                return "contig_edge"
            left = cut.left
            strands.append(
                _Asked(
                    self.number(self.tokenizer.encode(cut.with_ref), left + len(cut.ref) - 1),
                    self.number(self.tokenizer.encode(cut.with_alt), left + len(cut.alt) - 1),
                    left + _shared_prefix(cut.ref, cut.alt),
                    left + max(len(cut.ref), len(cut.alt)),
                )
            )
        return strands

    def read(self, batch: Sequence[Piece]) -> list[Any]:
        """Return the log-probabilities and states of each window."""
        stacked = self.stacked(batch)
        token_ids = torch.from_numpy(stacked).to(self.device)
        with scoring_mode(self.model, half=self.half):
            hidden = self.model.backbone(token_ids)
            logits = self.model.lm_head(hidden)[:, :-1]
            if logits.dtype != torch.float64:
                logits = logits.float()
            target = token_ids[:, 1:, None].long()
            log_p = logits.log_softmax(-1).gather(-1, target)[..., 0].double().cpu().numpy()
            near = self.near(hidden, batch)
        log_p = np.pad(log_p, ((0, 0), (1, 0)))
        is_target = np.isin(stacked, self.tokenizer.base_token_ids)
        is_target[:, 0] = False
        answers = []
        for i, piece in enumerate(batch):
            n = len(piece.token_ids)
            answers.append(_Answer(log_p[i, :n], is_target[i, :n], near[i]))
        return answers

    def compare(self, asked: _Asked, answers: Mapping[int, _Answer]) -> Compared:
        """Return the ratios of one strand."""
        ref, alt = answers[asked.ref], answers[asked.alt]
        return Compared(
            _log_ratio(ref, alt, slice(asked.first, None)),
            _log_ratio(ref, alt, slice(asked.first, asked.end + self.radius)),
            mean_distance(ref.hidden, alt.hidden),
        )


def _log_ratio(ref: _Answer, alt: _Answer, where: slice) -> float:
    """Return log p(alt) − log p(ref) over as many scored bases of a stretch as both windows have."""
    r, a = (window.log_p[where][window.is_target[where]] for window in (ref, alt))
    n = min(len(r), len(a))
    return float(a[:n].sum() - r[:n].sum())


def _shared_prefix(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
