"""The classifier in training: what is trained, with which learning rates, and which epoch is kept.

An epoch is judged by the metrics of the whole dev split, in one piece. The test split is unknown here.
"""

from __future__ import annotations

import importlib.util
import math
import time
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from hyenadna.data.labelled import LabelledSet
from hyenadna.errors import BackendUnavailableError, DataError
from hyenadna.models import HyenaForSequenceClassification
from hyenadna.tasks.classification import (
    classification_loss,
    complement_table,
    predict_probabilities,
    strand_logits,
)
from hyenadna.tasks.metrics import METRICS, classification_metrics
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.finetune_config import FinetuneConfig, LoraConfig
from hyenadna.training.finetune_data import LabelledBatch
from hyenadna.training.optim import parameter_groups
from hyenadna.training.schedules import build_scheduler

FINETUNE_COLUMNS = ("seed", "epoch", "loss_nats", *METRICS, "lr", "sequences_per_s")

_LORA_TARGETS = ["mixer.in_proj", "mixer.out_proj", "mlp.fc1", "mlp.fc2"]


def freeze_backbone(model: HyenaForSequenceClassification) -> None:
    """Exclude the backbone's weights from training, in place."""
    model.backbone.requires_grad_(False)


def add_lora(model: HyenaForSequenceClassification, config: LoraConfig) -> None:
    """Put trainable low-rank adapters on the linear layers of a frozen backbone, in place.

    Raises
    ------
    BackendUnavailableError
        peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise BackendUnavailableError(
            "strategy=lora needs the package peft, which is not installed; run pip install 'hyenadna[lora]'"
        )
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    freeze_backbone(model)
    names = [name for name, _ in model.named_modules() if name.endswith(tuple(_LORA_TARGETS))]
    peft = PeftConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=names
    )
    inject_adapter_in_model(peft, model)
    model.head.requires_grad_(True)


def merge_lora(model: HyenaForSequenceClassification) -> None:
    """Add the adapters to the weights they adapt and remove them, in place: the result is a plain model again."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())


class ClassifierModule(LightningModule):
    """A sequence classifier in training.

    Parameters
    ----------
    model
        The model, on the CPU; its frozen weights are already marked.
    config
        The run's settings.
    dev
        The split that epochs are judged on.
    tokenizer
        The model's tokenizer.
    seed
        For the log.
    total_steps
        Optimizer steps of the whole run, for the schedule.
    class_weights
        float32, shape (C,), or None.

    Attributes
    ----------
    best_epoch
        1-based epoch with the best dev result so far, 0 before the first.
    best_score
        Its value of `task.select_by`; a loss is negated, so that larger is better.
    history
        One row of dev metrics for each epoch.
    """

    def __init__(
        self,
        model: HyenaForSequenceClassification,
        config: FinetuneConfig,
        dev: LabelledSet,
        *,
        tokenizer: CharacterTokenizer,
        seed: int,
        total_steps: int,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.settings = config
        self.dev = dev
        self.tokenizer = tokenizer
        self.seed = seed
        self.total_steps = total_steps
        self.best_epoch = 0
        self.best_score = -math.inf
        self.history: list[dict[str, float]] = []
        self._best_state: dict[str, Tensor] = {}
        self._best_tie_break = math.inf
        self._sums = torch.zeros(2)
        self.shown: dict[str, float | Tensor] = {}
        self._epoch_started = 0.0
        self.class_weights: Tensor | None
        self.complement: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)
        both = config.task.strands == "both"
        self.register_buffer(
            "complement", complement_table(tokenizer) if both else None, persistent=False
        )

    def configure_optimizers(self) -> Any:
        """Return AdamW, slower on pretrained weights, and the schedule of its learning rate."""
        settings = self.settings.optimizer
        factor = settings.pretrained_lr_factor if self.settings.model.pretrained else 1.0
        # Adapters are new weights; only the backbone's own ones are pretrained.
        slow = factor if self.settings.strategy == "full" else 1.0
        groups: list[dict[str, Any]] = []
        for part, scale in ((self.model.backbone, slow), (self.model.head, 1.0)):
            groups += [{**g, "lr": g["lr"] * scale} for g in parameter_groups(part, settings)]
        first, second = settings.betas
        optimizer = torch.optim.AdamW(
            groups, lr=settings.lr, betas=(first, second), eps=settings.eps
        )
        scheduler = build_scheduler(optimizer, self.settings.schedule, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums; a frozen backbone draws no dropout."""
        if self.settings.strategy == "frozen":
            self.model.backbone.eval()
        self._sums = torch.zeros(2, device=self.device)
        self._epoch_started = time.perf_counter()

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        logits = strand_logits(self.model, batch.token_ids, batch.mask, complement=self.complement)
        loss = classification_loss(
            logits,
            batch.labels,
            class_weights=self.class_weights,
            label_smoothing=self.settings.task.label_smoothing,
        )
        size = len(batch.labels)
        self._sums += torch.stack([loss.detach() * size, torch.tensor(size, device=self.device)])
        self.shown["loss"] = loss.detach()
        return loss

    def predict_split(self, split: LabelledSet) -> Any:
        """Return class probabilities, float64, shape (n, C), in the order of the split."""
        return predict_probabilities(
            self.model,
            split.sequences,
            tokenizer=self.tokenizer,
            both_strands=self.settings.task.strands != "forward",
            batch_size=4 * self.settings.data.batch_size,
        )

    def on_train_epoch_end(self) -> None:
        """Judge the epoch on the whole dev split, and keep its weights if they are the best so far."""
        loss, count = self._sums.tolist()
        seconds = time.perf_counter() - self._epoch_started
        mean = loss / max(count, 1)
        if not math.isfinite(mean):
            raise DataError(
                f"training diverged: the loss of epoch {self.current_epoch + 1} is {mean}; lower optimizer.lr"
            )
        probabilities = self.predict_split(self.dev)
        metrics = classification_metrics(self.dev.labels, probabilities, n_resamples=0)
        true = probabilities[range(len(self.dev)), self.dev.labels]
        dev_loss = -sum(math.log(max(p, 1e-12)) for p in true.tolist()) / len(self.dev)
        row = {name: getattr(metrics, name).value for name in METRICS} | {"loss_nats": dev_loss}
        epoch = self.current_epoch + 1
        self.history.append({"epoch": epoch, "train_loss_nats": mean, **row})
        self._keep_if_best(row, epoch)
        self._write(row, epoch, mean, count / max(seconds, 1e-9))
        self.shown["dev mcc"] = row["mcc"]
        patience = self.settings.trainer.patience
        if patience is not None and epoch - self.best_epoch >= patience:
            self.trainer.should_stop = True

    def _keep_if_best(self, row: dict[str, float], epoch: int) -> None:
        chosen = self.settings.task.select_by
        score = -row["loss_nats"] if chosen == "loss" else row[chosen]
        if math.isnan(score):
            raise DataError(
                f"task.select_by={chosen} is not defined on dev, whose labels are of one class; choose accuracy or loss"
            )
        # Small dev splits give equal scores; the lower loss is then the better model.
        if (score, -row["loss_nats"]) > (self.best_score, -self._best_tie_break):
            self.best_score, self._best_tie_break, self.best_epoch = score, row["loss_nats"], epoch
            state = self.model.state_dict()
            self._best_state = {name: value.detach().clone() for name, value in state.items()}

    def _write(self, row: dict[str, float], epoch: int, loss: float, speed: float) -> None:
        lr = max(group["lr"] for group in self.trainer.optimizers[0].param_groups)
        shared = {"seed": self.seed, "epoch": epoch}
        train = {**shared, "loss_nats": loss, "lr": lr, "sequences_per_s": round(speed, 1)}
        rows = {f"train/{name}": value for name, value in train.items()}
        rows |= {f"dev/{name}": value for name, value in {**shared, **row}.items()}
        for logger in self.trainer.loggers:
            logger.log_metrics(rows, self.global_step)

    def restore_best(self) -> nn.Module:
        """Put the weights of the best epoch back; adapters are merged. Returns the model."""
        self.model.load_state_dict(self._best_state)
        if self.settings.strategy == "lora":
            merge_lora(self.model)
        return self.model.eval()
