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
from hyenadna.tasks.classification import classification_loss, predict_probabilities
from hyenadna.tasks.metrics import METRICS, classification_metrics
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.averaging import RunningAverage
from hyenadna.training.finetune_config import FinetuneConfig, LoraConfig
from hyenadna.training.finetune_data import LabelledBatch
from hyenadna.training.optim import build_optimizer, parameter_groups
from hyenadna.training.recorded import RecordedPass
from hyenadna.training.schedules import build_scheduler
from hyenadna.training.trainer import clip_gradients

FINETUNE_COLUMNS = ("seed", "member", "epoch", "loss_nats", *METRICS, "lr", "sequences_per_s")

_LORA_TARGETS = ("mixer.in_proj", "mixer.out_proj", "mlp.fc1", "mlp.fc2")


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
    names = [
        name for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.removesuffix(".strand").endswith(_LORA_TARGETS)
    ]  # fmt: skip
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
    where
        Seed and member of its ensemble, from 1, for the log.
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
        where: tuple[int, int],
        total_steps: int,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a recorded pass leaves gradients behind
        self.model = model
        self.settings = config
        self.dev = dev
        self.tokenizer = tokenizer
        self.where = where
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
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._average: RunningAverage[HyenaForSequenceClassification] | None = None
        self._recorded: RecordedPass | None = None
        self._full_batch: torch.Size | None = None

    def configure_optimizers(self) -> Any:
        """Return AdamW, slower on pretrained weights, and the schedule of its learning rate."""
        settings = self.settings.optimizer
        factor = settings.pretrained_lr_factor if self.settings.model.pretrained else 1.0
        # Adapters are new weights; only the backbone's own ones are pretrained.
        slow = factor if self.settings.strategy == "full" else 1.0
        groups: list[dict[str, Any]] = []
        for part, scale in ((self.model.backbone, slow), (self.model.head, 1.0)):
            groups += [{**g, "lr": g["lr"] * scale} for g in parameter_groups(part, settings)]
        optimizer = build_optimizer(groups, settings)
        scheduler = build_scheduler(optimizer, self.settings.schedule, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Begin the average of the weights, where they are trained."""
        decay = self.settings.trainer.ema_decay
        if decay is not None:
            self._average = RunningAverage(self.model, decay)

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums; a frozen backbone draws no dropout."""
        if self.settings.strategy == "frozen":
            self.model.backbone.eval()
        self._sums = torch.zeros(2, device=self.device)
        self._epoch_started = time.perf_counter()

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Take one optimizer step."""
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        recorded = self._recording(batch)
        (loss,) = recorded(*batch) if recorded else self._forward_backward(*batch)
        clip_gradients(self, optimizer, self.settings.trainer.gradient_clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=self._recorded is None)
        scheduler.step()
        if self._average is not None:
            self._average.update()
        size = len(batch.labels)
        self._sums += torch.stack([loss * size, torch.tensor(size, device=self.device)])
        self.shown["loss"] = loss.clone()

    def _forward_backward(self, token_ids: Tensor, mask: Tensor, labels: Tensor) -> tuple[Tensor]:
        """Add the gradients of a batch; returns its loss."""
        logits = self.model(token_ids, mask, both_strands=self.settings.task.strands == "both")
        loss = classification_loss(
            logits,
            labels,
            class_weights=self.class_weights,
            label_smoothing=self.settings.task.label_smoothing,
        )
        self.manual_backward(loss)
        return (loss.detach(),)

    def _recording(self, batch: LabelledBatch) -> RecordedPass | None:
        """Return the pass as a CUDA graph, for batches like the first one; None for others, or where there is none."""
        may = self.settings.trainer.cuda_graphs and self.settings.strategy == "full"
        if self.device.type != "cuda" or not may:
            return None
        if self._full_batch is None:
            self._full_batch = batch.token_ids.shape
            dtype, half = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
            # Weights are rounded inside: a copy from before would be that of this step for ever.
            with torch.autocast("cuda", dtype=dtype, enabled=half, cache_enabled=False):
                self._recorded = RecordedPass(self._forward_backward, batch, list(self.model.parameters()))  # fmt: skip
        return self._recorded if batch.token_ids.shape == self._full_batch else None

    def on_train_end(self) -> None:
        """Give back what was recorded."""
        self._recorded = None

    @property
    def judged(self) -> HyenaForSequenceClassification:
        """The model that dev is read with: the averaged weights where an average is kept."""
        return self.model if self._average is None else self._average.model

    def predict_split(self, split: LabelledSet) -> Any:
        """Return class probabilities, float64, shape (n, C), in the order of the split."""
        return predict_probabilities(
            self.judged,
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
            state = self.judged.state_dict()
            self._best_state = {name: value.detach().clone() for name, value in state.items()}

    def _write(self, row: dict[str, float], epoch: int, loss: float, speed: float) -> None:
        lr = max(group["lr"] for group in self.trainer.optimizers[0].param_groups)
        shared = {"seed": self.where[0], "member": self.where[1], "epoch": epoch}
        train = {**shared, "loss_nats": loss, "lr": lr, "sequences_per_s": round(speed, 1)}
        rows = {f"train/{name}": value for name, value in train.items()}
        rows |= {f"dev/{name}": value for name, value in {**shared, **row}.items()}
        for logger in self.trainer.loggers:
            logger.log_metrics(rows, self.global_step)

    def restore_best(self) -> nn.Module:
        """Put the weights of the best epoch back; adapters are merged. Returns the model."""
        self._average = None
        self.model.load_state_dict(self._best_state)
        if self.settings.strategy == "lora":
            merge_lora(self.model)
        return self.model.eval()
