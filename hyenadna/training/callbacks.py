"""Callbacks that both kinds of training use: saving, stopping in good order, and telling the user how it goes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hyenadna.io.atomic import atomic_path


class SaveLast(Callback):
    """Write last.ckpt, whole or not at all, every so many steps, at the last step, and when the run is stopped.

    Where a validation follows the step, saving waits for it: a resumed run then neither loses nor repeats one.

    Parameters
    ----------
    path
        The checkpoint; each save replaces it.
    every
        Optimizer steps between two saves.
    max_steps
        The run's last step.
    validate_every
        Optimizer steps between two validations.
    """

    def __init__(self, path: Path, *, every: int, max_steps: int, validate_every: int) -> None:
        self.path = path
        self.every = every
        self.max_steps = max_steps
        self.validate_every = validate_every
        self._waiting = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Use the first process's path everywhere."""
        self.path = Path(trainer.strategy.broadcast(str(self.path)))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, or wait for the validation of this step."""
        step = trainer.global_step
        if step % self.every == 0 or step >= self.max_steps or trainer.should_stop:
            if step % self.validate_every == 0:
                self._waiting = True
            else:
                self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the validation that was waited for."""
        if self._waiting and not trainer.sanity_checking:
            self._waiting = False
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        # Every process takes part in collecting the state; Lightning lets the first one write.
        if trainer.is_global_zero:
            with atomic_path(self.path, force=True) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.path)


class StopInOrder(Callback):
    """Finish the step, save and leave on SIGTERM, on Ctrl-C, or when the time is up; a second Ctrl-C stops at once.

    Parameters
    ----------
    max_seconds
        Wall time from the start of training; None does not limit it.

    Attributes
    ----------
    reason
        Why the run was stopped early; None where it was not.
    """

    def __init__(self, max_seconds: float | None = None) -> None:
        self.max_seconds = max_seconds
        self.reason: str | None = None
        self._former: dict[int, Any] = {}
        self._started = 0.0
        self._trainer: Trainer | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals, after Lightning has taken them."""
        self._started = time.monotonic()
        self._trainer = trainer
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.reason = signal.Signals(number).name
        launcher = self._trainer.strategy.launcher if self._trainer else None
        if number == signal.SIGTERM and launcher is not None:
            launcher.kill(number)  # the processes that Lightning started

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Agree with the other processes whether to stop."""
        if self.max_seconds is not None and time.monotonic() - self._started > self.max_seconds:
            self.reason = self.reason or "max_hours"
        # One process's signal stops all of them: a lone one would leave the others waiting in a collective.
        if trainer.strategy.reduce_boolean_decision(self.reason is not None, all=False):
            self.reason = self.reason or "another process was stopped"
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()
        self._trainer = None


class ProgressReporter(Callback):
    """Show steps and metrics on standard error: a bar on a terminal, now and then a plain line elsewhere.

    Parameters
    ----------
    shown
        Metrics by name, which the module keeps up to date.
    total
        Optimizer steps of the run, or 0 to take Lightning's estimate.
    lines
        Plain lines per run where standard error is no terminal.
    stream
        Where plain lines go; None is standard error.
    """

    def __init__(
        self, shown: Mapping[str, Any], total: int = 0, *, lines: int = 20, stream: Any = None
    ) -> None:
        self.shown = shown
        self.total = total
        self.lines = lines
        self.stream = stream
        self._bar: Progress | None = None
        self._task: Any = None

    def _write(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            stream = self.stream or sys.stderr
            stream.write(text + "\n")
            stream.flush()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar."""
        if not trainer.is_global_zero:
            return
        self.total = self.total or int(trainer.estimated_stepping_batches)
        console = Console(stderr=True)
        if self.stream is None and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[metrics]}"), TimeElapsedColumn(), TimeRemainingColumn(),
                console=console,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task(
                "training", total=self.total, completed=trainer.global_step, metrics=""
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance."""
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        if self._bar is not None:
            text = describe(self.shown)
            self._bar.update(self._task, completed=step, description="training", metrics=text)
        elif step % max(1, self.total // max(self.lines, 1)) == 0 or step == self.total:
            self._write(f"step {step}/{self.total}  {describe(self.shown)}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say that the bar waits for a validation."""
        if self._bar is not None:
            self._bar.update(self._task, description="validating")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar."""
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop the bar."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(metrics: Mapping[str, Any]) -> str:
    """Return metrics as one short text, in their order: counts with separators, other numbers with four digits."""
    shown: list[str] = []
    for name, value in metrics.items():
        number = float(value.item() if isinstance(value, torch.Tensor) else value)
        shown.append(f"{name} {number:,.0f}" if abs(number) >= 1000 else f"{name} {number:.4f}")
    return "  ".join(shown)


class AfterValidation(Callback):
    """Call a function in the first process after each validation, for plots.

    Parameters
    ----------
    function
        Called without arguments.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Call it."""
        if trainer.is_global_zero and not trainer.sanity_checking:
            self.function()
