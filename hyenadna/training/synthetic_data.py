"""From a synthetic task to batches, identical however many processes share them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from hyenadna.data.synthetics import IGNORED, Rows, SyntheticTask, build_task
from hyenadna.errors import ConfigError
from hyenadna.training.config import DataConfig
from hyenadna.training.pretrain_data import StepSampler
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.synthetic_config import SyntheticConfig

__all__ = ["EvaluatedRows", "FreshRows", "KeptRows", "SyntheticBatch", "SyntheticData", "task_of"]

_MOST_KEPT_BYTES = 2**30  # training rows that are drawn once and kept on the device
_EVALUATED_TOKENS = 2**21  # of a batch of a validation


class SyntheticBatch(NamedTuple):
    """One process's share of one optimizer step, or a batch of an evaluation.

    Parameters
    ----------
    token_ids
        uint8 or int16, shape (B, L).
    targets
        int16, shape (B, L); `IGNORED` where nothing is asked.
    first_window
        Index of the first row in the run's endless list.
    """

    token_ids: torch.Tensor
    targets: torch.Tensor
    first_window: int


def task_of(config: DataConfig) -> SyntheticTask:
    """Return the task of a config; see `build_task` for errors."""
    return build_task(config.synthetic.task, config.seq_len, config.synthetic.settings)


class FreshRows(Dataset[SyntheticBatch]):
    """Optimizer step → this process's batch of rows that no other step has: a pure function."""

    def __init__(
        self, task: SyntheticTask, plan: LengthPlan, *, seed: int, rank: int, world_size: int
    ) -> None:
        self.task = task
        self.plan = plan
        self.seed = seed
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, step: int) -> SyntheticBatch:
        """Return the batch of a 0-based optimizer step."""
        planned = self.plan.at(step)
        indices = planned.share(self.rank, self.world_size)
        task = self.task
        if task.seq_len != planned.seq_len:
            task = dataclasses.replace(task, seq_len=planned.seq_len)
        return _tensors(task.batch("train", indices, seed=self.seed), indices.start)


class KeptRows(Dataset[SyntheticBatch]):
    """Optimizer step → this process's batch out of a fixed number of rows, which wait on the device, in another order each epoch.

    Parameters
    ----------
    rows
        All of them, N.
    """

    def __init__(
        self,
        rows: Rows,
        plan: LengthPlan,
        *,
        seed: int,
        rank: int,
        world_size: int,
        device: torch.device,
    ) -> None:
        ids, targets, _ = _tensors(rows, 0)
        self.rows = SyntheticBatch(ids.to(device), targets.to(device), 0)
        self.plan = plan
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._order = (-1, torch.empty(0))

    def __getitem__(self, step: int) -> SyntheticBatch:
        """Return the batch of a 0-based optimizer step."""
        places = self.plan.at(step).share(self.rank, self.world_size)
        chosen = torch.cat(list(self._chosen(places.start, places.stop)))
        return SyntheticBatch(self.rows.token_ids[chosen], self.rows.targets[chosen], places.start)

    def _chosen(self, start: int, stop: int) -> Iterator[torch.Tensor]:
        n = len(self.rows.token_ids)
        while start < stop:
            epoch, first = divmod(start, n)
            last = min(n, first + stop - start)
            yield self._order_of(epoch)[first:last]
            start += last - first

    def _order_of(self, epoch: int) -> torch.Tensor:
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.rows.token_ids))
            self._order = (epoch, torch.from_numpy(order).to(self.rows.token_ids.device))
        return self._order[1]


class EvaluatedRows(Dataset[SyntheticBatch]):
    """Rows of a split in batches; every process has equally many, the last ones filled with rows that ask nothing. Drawn once."""

    def __init__(self, rows: Rows, batch_size: int, *, rank: int, world_size: int) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Return the number of this process's batches."""
        return -(-len(self.rows.token_ids) // (self.batch_size * self.world_size))

    def __getitem__(self, index: int) -> SyntheticBatch:
        """Return a batch; `first_window` says nothing."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = (index * self.world_size + self.rank) * self.batch_size
        some = Rows(*(array[start : start + self.batch_size] for array in self.rows))
        if not len(some.token_ids):
            some = Rows(self.rows.token_ids[:1], np.full_like(self.rows.targets[:1], IGNORED))
        return _tensors(some, start)


def _tensors(rows: Rows, first: int) -> SyntheticBatch:
    return SyntheticBatch(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.targets), first)


class SyntheticData(LightningDataModule):
    """The data of a run on a synthetic task.

    Parameters
    ----------
    task
        Of the full length.
    config
        Numbers of rows, and their seed.
    plan
        Which rows each step reads.
    start_step, max_steps
        First step to train, and the number of steps of the whole run.
    micro_batch_size
        Largest batch of an evaluation; None lets the plan say.
    num_workers
        Worker processes, which only rows that are drawn anew have use for.

    Raises
    ------
    ConfigError
        A fixed number of rows has a warm-up of their length, or takes too much memory.
    """

    def __init__(
        self,
        task: SyntheticTask,
        config: SyntheticConfig,
        plan: LengthPlan,
        *,
        start_step: int,
        max_steps: int,
        micro_batch_size: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.task = task
        self.config = config
        self.plan = plan
        self.start_step = start_step
        self.max_steps = max_steps
        self.micro_batch_size = micro_batch_size
        self.num_workers = num_workers
        self._evaluated: dict[str, Rows] = {}
        if config.train_rows is not None:
            if len(plan.lengths) > 1:
                raise ConfigError(
                    f"data.synthetic.train_rows={config.train_rows} are of one length; leave length_warmup.start out, or train_rows"
                )
            needed = 3 * config.train_rows * task.seq_len
            if needed > _MOST_KEPT_BYTES:
                raise ConfigError(
                    f"data.synthetic.train_rows={config.train_rows} rows of {task.seq_len} tokens take {needed / 2**30:.1f} GiB; "
                    "leave it out, and new rows are drawn for every step"
                )

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the data."""
        rows = dataclasses.asdict(self.config)
        return {
            **self.task.describe(),
            **{k: rows[k] for k in ("train_rows", "validation_rows", "test_rows", "seed")},
        }

    def _share(self) -> dict[str, int]:
        trainer = self.trainer
        rank, size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        return {"rank": rank, "world_size": size}

    def train_dataloader(self) -> DataLoader[SyntheticBatch]:
        """Return a loader whose every item is this process's share of one optimizer step."""
        sampler = StepSampler(self.start_step, self.max_steps)
        n, seed = self.config.train_rows, self.config.seed
        if n is None:
            fresh = FreshRows(self.task, self.plan, seed=seed, **self._share())
            return DataLoader(
                fresh, batch_size=None, sampler=sampler, num_workers=self.num_workers,
                persistent_workers=self.num_workers > 0, pin_memory=torch.cuda.is_available(),
            )  # fmt: skip
        strategy = None if self.trainer is None else self.trainer.strategy
        device = torch.device("cpu") if strategy is None else strategy.root_device
        rows = self.task.batch("train", range(n), seed=seed)
        kept = KeptRows(rows, self.plan, seed=seed, device=device, **self._share())
        return DataLoader(kept, batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[SyntheticBatch]:
        """Return a loader of validation batches."""
        return self._evaluation("validation", self.config.validation_rows)

    def test_dataloader(self) -> DataLoader[SyntheticBatch]:
        """Return a loader of test batches."""
        return self._evaluation("test", self.config.test_rows)

    def _evaluation(self, split: str, n: int) -> DataLoader[SyntheticBatch]:
        share = self._share()
        if split not in self._evaluated:
            self._evaluated[split] = self.task.batch(split, range(n), seed=self.config.seed)
        size = self.plan.at(self.max_steps).n_windows // share["world_size"]
        size = min(self.micro_batch_size or max(1, size), max(1, _EVALUATED_TOKENS // self.task.seq_len))  # fmt: skip
        return DataLoader(EvaluatedRows(self._evaluated[split], size, **share), batch_size=None)
