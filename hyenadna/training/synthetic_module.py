"""The objective of a synthetic task: cross-entropy and accuracy where something is asked."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hyenadna.data.synthetics import IGNORED, SyntheticTask
from hyenadna.models import HyenaModel
from hyenadna.training.config import PretrainConfig
from hyenadna.training.pretrain_module import PretrainModule
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.synthetic_data import SyntheticBatch

__all__ = ["SYNTHETIC_COLUMNS", "SyntheticModule"]

SYNTHETIC_COLUMNS = (
    "tokens", "loss_nats", "accuracy", "class_accuracy", "lr", "tokens_per_s", "seq_len",
)  # fmt: skip


class SyntheticModule(PretrainModule):
    """A model of a synthetic task in training.

    Parameters
    ----------
    model
        Maps token ids to the logits of answers.
    config, plan
        As in `PretrainModule`.
    task
        Says how much a row asks.
    """

    n_sums = 3
    metric = "accuracy"

    def __init__(
        self, model: HyenaModel, config: PretrainConfig, plan: LengthPlan, task: SyntheticTask
    ) -> None:
        super().__init__(model, config, plan)
        self.task = task

    @property
    def unit(self) -> str:
        """Of the metric: accuracy is its own."""
        return "accuracy"

    def prepare(self, batch: SyntheticBatch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return the rows of a batch, and how many positions ask."""
        return (batch.token_ids, batch.targets), (batch.targets != IGNORED).sum().float()

    def measures(self, sums: list[float], split: str) -> dict[str, float]:
        """Return the mean loss and accuracy over what was asked; of evaluations also the mean of the accuracies of each answer."""
        asked = max(sums[1], 1.0)
        found = {"loss_nats": sums[0] / asked, "accuracy": sums[2] / asked}
        if len(sums) > self.n_sums:
            total, right = np.array(sums[self.n_sums :]).reshape(2, -1)
            found["class_accuracy"] = float((right[total > 0] / total[total > 0]).mean())
        return found

    def _forward_backward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        token_ids, targets, total = inputs
        logits, asked = self._answers(token_ids, targets, training=True)
        nats = cross_entropy(logits.float(), asked, ignore_index=IGNORED, reduction="sum")
        self.manual_backward(nats / total.clamp(min=1.0) * self.trainer.world_size)
        right = (logits.detach().argmax(dim=1) == asked).sum()
        return nats.detach(), (asked != IGNORED).sum().float(), right.float()

    def _answers(
        self, token_ids: torch.Tensor, targets: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (n, V) and targets (n,), of all positions, or of no more than can ask where these are few."""
        most = self.task.most_asked(training=training)
        if 2 * most > targets.shape[1]:
            logits = self.model(token_ids)
        else:
            at = (targets != IGNORED).float().topk(most, dim=1).indices
            targets, logits = targets.gather(1, at), self.model(token_ids, at=at)
        return logits.flatten(0, 1), targets.flatten().long()

    def evaluate(self, batch: SyntheticBatch) -> torch.Tensor:
        """Return the sums of a held-out batch: nats, answers, right ones, and how often each answer was asked for and right."""
        logits, targets = self._answers(batch.token_ids, batch.targets, training=False)
        asked = targets != IGNORED
        logits, targets = logits[asked], targets[asked]
        right = logits.argmax(dim=1) == targets
        nats = cross_entropy(logits.float(), targets, reduction="sum")
        sums = torch.stack([nats, asked.sum(), right.sum()])
        classes = (torch.bincount(t, minlength=self.task.vocab_size) for t in (targets, targets[right]))  # fmt: skip
        return torch.cat([sums, *classes]).double()

    def on_validation_epoch_end(self) -> None:
        """Report, and end the run where the accuracy is what was asked for."""
        super().on_validation_epoch_end()
        enough = self.settings.data.synthetic.stop_at
        if enough is not None and self.last_validation["accuracy"] >= enough:
            self.trainer.should_stop = True
