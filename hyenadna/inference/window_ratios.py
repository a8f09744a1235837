"""How a causal model compares two alleles: the log-likelihood ratio of the windows with one and with the other.

The one idea to know: the windows with the reference and with the alternative allele begin at the same base and are equally long, so
both sums of log-probabilities have equally many terms, for indels too. What comes before the first base that differs is the same
in both windows, and a causal model gives it the same probability: the sums begin at that base.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hyenadna.inference.comparison import Comparison, Question, Read
from hyenadna.inference.forward import to_device
from hyenadna.inference.variant_windows import AlleleWindows
from hyenadna.tokenizers import TokenIds

__all__ = ["WindowRatios"]


class WindowRatios(Comparison):
    """log p(window with ALT) − log p(window with REF), from the first base that differs on."""

    of_one_length = False

    def reads(self, windows: AlleleWindows) -> tuple[Read, ...]:
        """Return both windows."""
        return (windows.ref, windows.ref_last), (windows.alt, windows.alt_last)

    def forward(self, batch: Sequence[Question]) -> tuple[torch.Tensor]:
        """Return LLR, local LLR and distance of each question: float64, shape (B, 3)."""
        stack = self.stack(batch)
        log_p, near = self.ask(stack, lambda part: self._log_p(stack.token_ids[part]))
        is_base = np.zeros(256, dtype=np.bool_)
        is_base[list(self.tokenizer.base_token_ids)] = True
        is_target = is_base[stack.token_ids]
        is_target[:, 0] = False
        targets = to_device(is_target, self.device)
        ref, alt = to_device(stack.rows, self.device)
        places = [(q.windows.first, q.windows.end + self.radius, len(q)) for q in batch]
        first, near_end, end = to_device(np.array(places).T.copy(), self.device)[..., None]
        at = torch.arange(log_p.shape[1], device=self.device)
        ratios = []  # over as many scored bases as both windows have
        for stop in (end, near_end):
            inside = [targets[row] & (at >= first) & (at < stop) for row in (ref, alt)]
            ranks = [scored.cumsum(1, dtype=torch.int32) for scored in inside]
            n = torch.minimum(*(rank[:, -1:] for rank in ranks))
            ref_sum, alt_sum = (
                torch.where(scored & (rank <= n), log_p[row], 0.0).sum(1)
                for row, scored, rank in zip((ref, alt), inside, ranks, strict=True)
            )
            ratios.append(alt_sum - ref_sum)
        return (torch.stack([*ratios, self.distance(stack, near)], dim=1),)

    def _log_p(self, stacked: TokenIds) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden states, and the log-probabilities of the tokens themselves, (n, L), float64 and 0 at the first."""
        token_ids = to_device(stacked, self.device)
        hidden = self.model.backbone(token_ids)
        logits = self.model.lm_head(hidden)[:, :-1]
        if logits.dtype != torch.float64:
            logits = logits.float()
        found = logits.log_softmax(-1).gather(-1, token_ids[:, 1:, None].long())[..., 0]
        return hidden, torch.nn.functional.pad(found.double(), (1, 0))
