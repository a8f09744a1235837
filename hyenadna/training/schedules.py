"""What changes over a run as a function of the step alone: the learning rate and the window length.

Pure functions of the step make resuming exact: nothing has to be remembered.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from hyenadna.errors import ConfigError
from hyenadna.training.config import LengthWarmupConfig, ScheduleConfig


def warmup_steps(config: ScheduleConfig, max_steps: int) -> int:
    """Return the number of warm-up steps of a run of `max_steps`."""
    if config.warmup_steps is not None:
        return min(config.warmup_steps, max_steps)
    return min(math.ceil(config.warmup_fraction * max_steps), max_steps)


def lr_factor(step: int, *, config: ScheduleConfig, max_steps: int) -> float:
    """Return the learning rate of a step over the peak.

    Parameters
    ----------
    step
        0-based optimizer step.
    config
        Shape of the schedule.
    max_steps
        Steps of the whole run.

    Returns
    -------
    float
        In (0, 1]: rises linearly to 1 over the warm-up, then falls to `final_lr_fraction` at the last step.

    Examples
    --------
    >>> schedule = ScheduleConfig(name="linear", warmup_steps=2, final_lr_fraction=0.5)
    >>> [round(lr_factor(step, config=schedule, max_steps=5), 2) for step in range(5)]
    [0.5, 1.0, 0.83, 0.67, 0.5]
    """
    warmup = warmup_steps(config, max_steps)
    if step < warmup:
        return (step + 1) / warmup
    if config.name == "constant":
        return 1.0
    # progress runs from 0 at the peak (the last warm-up step, or step 0 without warm-up) to 1 at the last step
    peak = max(warmup - 1, 0)
    progress = min((step - peak) / max(max_steps - 1 - peak, 1), 1.0)
    fall = (1 + math.cos(math.pi * progress)) / 2 if config.name == "cosine" else 1 - progress
    return config.final_lr_fraction + (1 - config.final_lr_fraction) * fall


def build_scheduler(
    optimizer: torch.optim.Optimizer, config: ScheduleConfig, max_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a scheduler that is stepped once after each optimizer step."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_factor(step, config=config, max_steps=max_steps)
    )


class StepPlan(NamedTuple):
    """The windows of one optimizer step, over all devices.

    Parameters
    ----------
    step
        0-based optimizer step.
    seq_len
        Length of its windows, tokens.
    first_window
        Index of its first window in the run's endless list of windows.
    n_windows
        Number of its windows.
    """

    step: int
    seq_len: int
    first_window: int
    n_windows: int

    def share(self, rank: int, world_size: int) -> range:
        """Return the window indices of one process: equal consecutive shares, so all together give the same windows."""
        each = self.n_windows // world_size
        start = self.first_window + rank * each
        return range(start, start + each)


class LengthPlan:
    """Which windows each optimizer step reads, with or without a warm-up of their length.

    Parameters
    ----------
    seq_len
        Full length of a window, tokens.
    global_batch_size
        Windows of full length per step; a step of shorter windows has proportionally more.
    max_steps
        Steps of the run.
    warmup
        The lengths before.

    Raises
    ------
    ConfigError
        The first length is not `seq_len` divided by a power of two.

    Examples
    --------
    >>> plan = LengthPlan(1024, 4, 100, LengthWarmupConfig(start=256, fraction=0.5))
    >>> plan.lengths, plan.at(0).n_windows, plan.at(30).seq_len, plan.at(99).seq_len
    ((256, 512, 1024), 16, 512, 1024)
    """

    def __init__(
        self, seq_len: int, global_batch_size: int, max_steps: int, warmup: LengthWarmupConfig
    ) -> None:
        start = warmup.start or seq_len
        ratio = seq_len // start
        if start * ratio != seq_len or ratio & (ratio - 1):
            raise ConfigError(
                f"length_warmup.start={start} is impossible; it must be data.seq_len={seq_len} divided by a power of two"
            )
        self.lengths = tuple(start << i for i in range(ratio.bit_length()))
        short = len(self.lengths) - 1
        total = round(warmup.fraction * max_steps) if short else 0
        # first step of every length
        self._starts = [round(total * i / short) if short else 0 for i in range(len(self.lengths))]
        self._batch = global_batch_size
        self.seq_len = seq_len

    @property
    def tokens_per_step(self) -> int:
        """Tokens that each step reads."""
        return self._batch * self.seq_len

    def at(self, step: int) -> StepPlan:
        """Return the windows of one step."""
        first = 0
        for i, length in enumerate(self.lengths):
            windows = self._batch * (self.seq_len // length)
            start = self._starts[i]
            end = self._starts[i + 1] if i + 1 < len(self.lengths) else None
            if end is None or step < end:
                return StepPlan(step, length, first + (step - start) * windows, windows)
            first += (end - start) * windows
        raise AssertionError("the last length has no end")
