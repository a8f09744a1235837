"""How a causal model compares two alleles: the log-likelihood ratio of the windows with one and with the other.

The one idea to know: the windows with the reference and with the alternative allele begin at the same base and are equally long, so
both sums of log-probabilities have equally many terms, for indels too. What comes before the first base that differs is the same
in both windows, and a causal model gives it the same probability: the sums begin at that base. On a CPU, whose time is arithmetic, the model also reads it once
for both (`hyenadna.inference.branches`), which saves a third; a GPU computes whole windows in fused kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hyenadna.inference.branches import branch_states
from hyenadna.inference.comparison import Comparison, Question, Read, Stack, pick
from hyenadna.inference.forward import to_device
from hyenadna.inference.variant_windows import AlleleWindows
from hyenadna.tokenizers import TokenIds

__all__ = ["WindowRatios"]

_STEP = 32  # windows fork at multiples of so many bases: lengths that transform well


class WindowRatios(Comparison):
    """log p(window with ALT) − log p(window with REF), from the first base that differs on."""

    of_one_length = False

    @property
    def forks(self) -> bool:
        """Whether what the windows share is read once: on a CPU."""
        return self.device.type == "cpu"

    def reads(self, windows: AlleleWindows) -> tuple[Read, ...]:
        """Return both windows."""
        return (windows.ref, windows.ref_last), (windows.alt, windows.alt_last)

    def forward(self, batch: Sequence[Question]) -> tuple[torch.Tensor]:
        """Return LLR, local LLR and distance of each question: float64, shape (B, 3)."""
        if not self.forks:
            stack = self.stack(batch)
            asked = self.ask(stack, lambda part: self._log_p(stack.token_ids[part]))
            return (self._compare(batch, stack, *asked),)
        # Where a question's windows fork follows from it alone: its answer must not depend on its company.
        forks = [max(0, q.windows.first - 1) // _STEP * _STEP for q in batch]
        answers = torch.empty(len(batch), 3, dtype=torch.float64)
        for start in set(forks):
            rows = [row for row, fork in enumerate(forks) if fork == start]
            some = [batch[row] for row in rows]
            stack = self.stack(some)
            answers[rows] = self._compare(some, stack, *self._ask_from(start, stack))
        return (answers,)

    def _compare(
        self, batch: Sequence[Question], stack: Stack, log_p: torch.Tensor, near: torch.Tensor
    ) -> torch.Tensor:
        """Make the three numbers of each question of what the model says of the windows."""
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
        return torch.stack([*ratios, self.distance(stack, near)], dim=1)

    def _log_p(self, stacked: TokenIds) -> tuple[torch.Tensor, torch.Tensor]:
        """Return hidden states, and the log-probabilities of the tokens themselves, (n, L), float64 and 0 at the first."""
        token_ids = to_device(stacked, self.device)
        hidden = self.model.backbone(token_ids)
        return hidden, self._of_tokens(hidden, token_ids)

    def _of_tokens(self, hidden: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        logits = self.model.lm_head(hidden)[:, :-1]
        if logits.dtype != torch.float64:
            logits = logits.float()
        found = logits.log_softmax(-1).gather(-1, token_ids[:, 1:, None].long())[..., 0]
        return torch.nn.functional.pad(found.double(), (1, 0))

    def _ask_from(self, start: int, stack: Stack) -> tuple[torch.Tensor, torch.Tensor]:
        """Do what `ask` does, where nothing before `start` is asked about, and every window with ALT is there as that with REF."""
        n_windows, length = stack.token_ids.shape
        trunk_of = dict(zip(*reversed(stack.rows.tolist()), strict=True))  # ALT's window: REF's
        trunks = list(dict.fromkeys(stack.rows[0].tolist()))
        branches: dict[int, list[int]] = {trunk: [] for trunk in trunks}
        for branch, trunk in trunk_of.items():
            if branch not in branches:
                branches[trunk].append(branch)
        token_ids = torch.from_numpy(stack.token_ids)
        columns = self.near(stack)
        log_p = torch.zeros(n_windows, length, dtype=torch.float64)
        near = torch.empty(*columns.shape, self.model.config.d_model)
        n_rows = self.rows(length)
        for i in range(0, len(trunks), n_rows):
            own = trunks[i : i + n_rows]
            others = [branch for trunk in own for branch in branches[trunk]]
            of = torch.tensor(
                [row for row, trunk in enumerate(own) for _ in branches[trunk]]
            ).long()
            states = branch_states(self.model.backbone, token_ids[own], token_ids[others, start:], of, start)  # fmt: skip
            for rows, hidden in zip((own, others), states, strict=True):
                log_p[rows, start:] = self._of_tokens(hidden, token_ids[rows, start:])
                near[rows] = pick(hidden, torch.from_numpy(columns[rows] - start)).float()
        return log_p, near
