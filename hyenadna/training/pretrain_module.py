"""The training step of a language model, whatever its objective: one batch is one optimizer step, over all micro-batches and devices.

The loss is divided by the number of scored bases of the whole global batch, counted before the first backward pass. So
micro-batches and devices only change the order of summation: two processes compute what one would.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ParallelStrategy, SingleDeviceStrategy

from hyenadna.errors import DataError
from hyenadna.models import HyenaModel
from hyenadna.tasks.causal_lm import bits_per_base
from hyenadna.tasks.objectives import Objective
from hyenadna.training.config import PretrainConfig
from hyenadna.training.optim import build_optimizer, parameter_groups
from hyenadna.training.recorded import ReadLater, RecordedPass
from hyenadna.training.schedules import LengthPlan, build_scheduler
from hyenadna.training.trainer import clip_gradients


def dropout_seed(seed: int, window: int) -> int:
    """Return the seed of the dropout of the micro-batch that begins with a window, 0…2⁶³ − 1.

    It depends on nothing else, so a resumed run, or one on another number of devices with the same micro-batches, draws
    the same dropout.
    """
    digest = hashlib.blake2b(f"{seed}/{window}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seed the generators that a pass on a device draws from, as `torch.manual_seed` does.

    That one also keeps a stack trace for each kind of device that is not in use: 0.9 ms of a CPU a step, where all else around a small model's pass takes 1.2 ms.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)


class PretrainModule(LightningModule):
    """A language model in training; subclasses train on other data, by what a pass takes and measures.

    Parameters
    ----------
    model
        The model, of the kind that the task is for.
    config
        The run's settings.
    plan
        Which windows each step reads.
    """

    n_sums = 2  # that a pass returns: nats, scored targets, and what others add
    metric = "bits_per_base"  # the one of `measures` that users are shown

    def __init__(self, model: HyenaModel, config: PretrainConfig, plan: LengthPlan) -> None:
        super().__init__()
        # Gradients are summed over micro-batches of known total weight, which Lightning's automatic mode cannot do.
        self.automatic_optimization = False
        self.model = model
        self.settings = config
        self.objective: Objective = config.task.objective(config.seed)
        self.plan = plan
        self.first_step_seconds: float | None = None
        self.train_seconds = 0.0  # after the first step
        self.train_tokens = 0
        self.last_validation: dict[str, float] = {}
        self.last_test: dict[str, float] = {}
        self._since_log = (0.0, 0)  # seconds and tokens since the last row
        self._clock = time.perf_counter()
        self._validation_sums: list[torch.Tensor] = []
        self._test_sums: list[torch.Tensor] = []
        self._recorded: RecordedPass | None = None
        self._unwritten: tuple[int, dict[str, float], ReadLater] | None = None
        self.shown: dict[str, float] = {}

    def configure_optimizers(self) -> Any:
        """Return the optimizer and the schedule of its learning rate."""
        groups = parameter_groups(self.model, self.settings.optimizer)
        optimizer = build_optimizer(groups, self.settings.optimizer)
        scheduler = build_scheduler(
            optimizer, self.settings.schedule, self.settings.trainer.max_steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Start the clock."""
        self._clock = time.perf_counter()

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Take one optimizer step."""
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        settings = self.settings
        length = batch.token_ids.shape[1]
        examples, weight = self.prepare(batch)
        total = self._sum_over_processes(weight)
        size = self._micro_batch_size(batch.token_ids)
        starts = range(0, len(batch.token_ids), size)
        record = self._may_record() and len(batch.token_ids) % size == 0
        sums = torch.zeros(self.n_sums, device=self.device)
        for start in starts:
            part = slice(start, start + size)
            inputs = (*(tensor[part] for tensor in examples), total)
            compute = self._recording(inputs) if record else self._forward_backward
            seed_dropout(dropout_seed(settings.seed, batch.first_window + start), self.device)
            with self._without_sync() if start != starts[-1] else contextlib.nullcontext():
                sums += torch.stack(compute(*inputs))
        clip_gradients(self, optimizer, settings.trainer.gradient_clip_norm)
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=not record)
        scheduler.step()
        self._report(sums, lr, length)

    def prepare(self, batch: Any) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return what a pass takes of a batch, each with a row for each sequence, and the total weight of its targets."""
        examples = self.objective.examples(batch.token_ids, batch.soft_mask, batch.first_window)
        return examples, examples[-1].sum()

    def measures(self, sums: list[float], split: str) -> dict[str, float]:
        """Return metrics of summed results of passes over ``train``, ``validation`` or ``test``; `loss_nats` is one of them."""
        mean = sums[0] / max(sums[1], 1.0)
        return {"loss_nats": mean, "bits_per_base": bits_per_base(mean)}

    def _forward_backward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Add the gradients of a micro-batch, of which come examples and the step's total weight; returns its summed nats and its number of scored bases."""
        *examples, total = inputs
        loss = self.objective.loss(self.model, *examples)
        # DDP averages gradients over processes; times their number it is the sum.
        self.manual_backward(loss.weighted / total.clamp(min=1e-8) * self.trainer.world_size)
        return loss.nats, loss.n_scored.float()

    def _may_record(self) -> bool:
        """Whether the pass can be a CUDA graph: one GPU, and nothing in it that draws its randomness again."""
        return (
            self.settings.trainer.cuda_graphs
            and self.device.type == "cuda"
            and isinstance(self.trainer.strategy, SingleDeviceStrategy)
            and not self.model.config.activation_checkpointing
        )

    def _recording(self, inputs: tuple[torch.Tensor, ...]) -> RecordedPass:
        if self._recorded is None or not self._recorded.fits(inputs):
            self._recorded = None  # its memory goes before the next takes as much
            dtype, half = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
            # Weights are rounded inside: a copy from before would be that of this step for ever.
            with torch.autocast("cuda", dtype=dtype, enabled=half, cache_enabled=False):
                parameters = list(self.model.parameters())
                self._recorded = RecordedPass(self._forward_backward, inputs, parameters)
        return self._recorded

    def _micro_batch_size(self, token_ids: torch.Tensor) -> int:
        size = self.settings.data.micro_batch_size
        if size is None:
            return len(token_ids)
        # A micro-batch of shorter windows holds proportionally more of them.
        return min(size * (self.plan.seq_len // token_ids.shape[1]), len(token_ids))

    def _sum_over_processes(self, value: torch.Tensor) -> torch.Tensor:
        total = self.trainer.strategy.reduce(value, reduce_op="sum")
        if not isinstance(total, torch.Tensor):
            raise TypeError("the strategy reduced a tensor to something else")
        return total

    def _without_sync(self) -> contextlib.AbstractContextManager[Any]:
        strategy = self.trainer.strategy
        if isinstance(strategy, ParallelStrategy):
            return strategy.block_backward_sync()
        return contextlib.nullcontext()

    def _report(self, sums: torch.Tensor, lr: float, length: int) -> None:
        step = self.global_step
        seconds, tokens = self._since_log
        now = time.perf_counter()
        seconds, tokens = seconds + now - self._clock, tokens + self.plan.tokens_per_step
        if self.first_step_seconds is None:  # compiles kernels, fills caches
            self.first_step_seconds = now - self._clock
        else:
            self.train_seconds += now - self._clock
            self.train_tokens += self.plan.tokens_per_step
        self._clock, self._since_log = now, (seconds, tokens)
        if step % self.settings.trainer.log_every and step != self.settings.trainer.max_steps:
            return
        self._since_log = (0.0, 0)
        row = {
            "train/tokens": step * self.plan.tokens_per_step,
            "train/lr": lr,
            "train/tokens_per_s": round(tokens / max(seconds, 1e-9), 1),
            "train/seq_len": length,
        }
        self._write_late()
        self._unwritten = (step, row, ReadLater(self._sum_over_processes(sums)))
        if self.device.type != "cuda":
            self._write_late()
        # A GPU's numbers are read a step later: it has the next one to do meanwhile.
        self.shown["tokens/s"] = row["train/tokens_per_s"]

    def _write_late(self) -> None:
        """Write the row that waits for its numbers, if there is one."""
        if self._unwritten is None:
            return
        (step, row, sums), self._unwritten = self._unwritten, None
        found = self.measures(sums.read(), "train")
        mean = found["loss_nats"]
        if not math.isfinite(mean):
            raise DataError(
                f"training diverged: the loss at step {step} is {mean}; lower optimizer.lr, or lengthen schedule.warmup_steps"
            )
        self.shown[self._unit] = found[self.metric]
        self._write(row | {f"train/{name}": value for name, value in found.items()}, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write what is due up to here: a resumed run begins after it."""
        self._write_late()

    def on_train_end(self) -> None:
        """Write the last row, and give back what was recorded."""
        self._write_late()
        self._recorded = None

    def _write(self, row: dict[str, float], step: int) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(row, step)

    def on_validation_epoch_start(self) -> None:
        """Forget the sums of the last validation, write the row before it, and stop the training clock."""
        self._write_late()
        self._validation_sums = []
        now = time.perf_counter()
        seconds, tokens = self._since_log
        self._since_log = (seconds + now - self._clock, tokens)
        self._clock = now

    def evaluate(self, batch: Any) -> torch.Tensor:
        """Return the sums of a held-out batch, float64: nats, scored targets, and what others add."""
        examples = self.objective.examples(batch.token_ids, None, batch.first_window, held_out=True)
        loss = self.objective.loss(self.model, *examples, padded=True)
        return torch.stack([loss.nats.double(), loss.n_scored.double()])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add one batch to the sums."""
        self._validation_sums.append(self.evaluate(batch))

    def on_validation_epoch_end(self) -> None:
        """Report the mean over all scored bases of the validation windows, each counted once."""
        sums = self._sum_over_processes(torch.stack(self._validation_sums).sum(dim=0)).tolist()
        found = self.measures(sums, "validation")
        # After fit, Lightning's validate() starts with a global step of its own.
        step = self.global_step
        row = {
            "validation/tokens": step * self.plan.tokens_per_step,
            "validation/seq_len": self.plan.seq_len,
        }
        self.last_validation = {"step": step, **found, "n_scored": sums[1]}
        self._write(row | {f"validation/{name}": value for name, value in found.items()}, step)
        self.shown[f"validation {self._unit}"] = found[self.metric]

    def on_test_epoch_start(self) -> None:
        """Forget the sums of the last test."""
        self._test_sums = []

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add one batch to the sums."""
        self._test_sums.append(self.evaluate(batch))

    def on_test_epoch_end(self) -> None:
        """Keep the metrics of the test split."""
        sums = self._sum_over_processes(torch.stack(self._test_sums).sum(dim=0)).tolist()
        self.last_test = {**self.measures(sums, "test"), "n_scored": sums[1]}

    @property
    def unit(self) -> str:
        """Of `metric`, in words."""
        return self.objective.unit

    @property
    def _unit(self) -> str:
        return self.unit.replace(" per ", "/")

    def on_validation_end(self) -> None:
        """Restart the training clock."""
        self._clock = time.perf_counter()
