"""From texts to batches, identical however many processes share them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from hyenadna.data.text import (  # fmt: skip
    RandomTextWindows,
    TextSpan,
    TextSplits,
    TextTiles,
    count_words,
    split_texts,
)
from hyenadna.errors import ConfigError
from hyenadna.tokenizers import ByteTokenizer
from hyenadna.training.config import DataConfig
from hyenadna.training.pretrain_data import StepSampler, absolute_path
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.text_config import TextConfig

__all__ = ["TextBatch", "TextBatches", "TextData", "TextSteps", "absolute_texts", "open_texts"]

_MOST_ROWS = 64  # of a batch of a validation


class TextBatch(NamedTuple):
    """One process's share of one optimizer step, or a batch of an evaluation.

    Parameters
    ----------
    token_ids
        uint8, shape (B, L).
    firsts
        Place of the first scored byte of each window, int64, shape (B,), 1 in training.
    first_window
        Number of the first window in the run's endless list; of an evaluation it says nothing.
    """

    token_ids: torch.Tensor
    firsts: torch.Tensor
    first_window: int


def open_texts(config: TextConfig) -> TextSplits:
    """Open the files of a config; see `hyenadna.data.text.split_texts` for errors."""
    return split_texts(
        config.train or (), config.validation or (), config.test or (), held_out=config.held_out
    )


def absolute_texts(config: TextConfig) -> None:
    """Make the paths of a config absolute in place."""
    for name in ("train", "validation", "test"):
        files = getattr(config, name)
        if files:
            setattr(config, name, [absolute_path(file) for file in files])


class TextSteps(Dataset[TextBatch]):
    """Optimizer step → this process's batch: a pure function."""

    def __init__(
        self, windows: RandomTextWindows, plan: LengthPlan, *, rank: int, world_size: int
    ) -> None:
        self.windows = windows
        self.plan = plan
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, step: int) -> TextBatch:
        """Return the batch of a 0-based optimizer step."""
        planned = self.plan.at(step)
        indices = planned.share(self.rank, self.world_size)
        ids = torch.from_numpy(self.windows.batch(indices, planned.seq_len))
        return TextBatch(ids, torch.ones(len(ids), dtype=torch.int64), indices.start)


class TextBatches(Dataset[TextBatch]):
    """Tiles in batches; every process has equally many, the last ones filled with padding."""

    def __init__(
        self, tiles: TextTiles, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> None:
        self.tiles = tiles
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        """Return the number of this process's batches."""
        return -(-len(self.tiles) // (self.batch_size * self.world_size))

    def __getitem__(self, index: int) -> TextBatch:
        """Return some tiles."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = (index * self.world_size + self.rank) * self.batch_size
        numbers = range(start, min(start + self.batch_size, len(self.tiles)))
        if numbers:
            ids, firsts = self.tiles.rows(numbers)
        else:
            ids = np.full((1, self.tiles.seq_len), ByteTokenizer.pad_token_id, dtype=np.uint8)
            firsts = np.ones(1, dtype=np.int64)
        return TextBatch(torch.from_numpy(ids), torch.from_numpy(firsts), start)


class TextData(LightningDataModule):
    """The data of a run on text.

    Parameters
    ----------
    texts
        From `open_texts`.
    config
        Portions.
    plan
        Which windows each step reads.
    seed
        Of the windows.
    start_step, max_steps
        First step to train, and the number of steps of the whole run.
    num_workers
        Worker processes.

    Raises
    ------
    DataError
        No window fits into the training text.
    ConfigError
        The context of the test is as long as a window.
    """

    def __init__(
        self,
        texts: TextSplits,
        config: DataConfig,
        plan: LengthPlan,
        *,
        seed: int,
        start_step: int,
        max_steps: int,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.texts = texts
        self.plan = plan
        self.start_step = start_step
        self.max_steps = max_steps
        self.num_workers = num_workers
        self.micro_batch_size = config.micro_batch_size
        length = config.seq_len
        self.context = config.text.context or max(1, length // 4)
        if self.context >= length:
            raise ConfigError(
                f"data.text.context={self.context} leaves nothing of a window of data.seq_len={length} to score; 1 to {length - 1} is possible"
            )
        self.windows = RandomTextWindows(texts.train, seed=seed)
        for shorter in plan.lengths:
            self.windows.starts([0], shorter)  # refuses a text that is too short before training
        limit = max(1, config.validation_tokens // length)
        self.tiles = {
            "validation": TextTiles(texts.validation, length, limit=limit),
            "test": TextTiles(texts.test, length, context=self.context),
        }
        self.words = {name: count_words(getattr(texts, name)) for name in self.tiles}

    def bytes_per_word(self, split: str) -> float | None:
        """Return the mean length of a word of ``validation`` or ``test``, blanks included; None where there is no word."""
        words = self.words[split]
        return _n_bytes(getattr(self.texts, split)) / words if words else None

    def describe(self) -> list[dict[str, Any]]:
        """Return what a report says about the data: files with checksums, bytes and words of each split."""
        found: list[dict[str, Any]] = [
            {
                "split": name, "text": str(span.file.path), "sha256": span.file.sha256(),
                "first_byte": span.start, "bytes": span.n_bytes,
            }
            for name, spans in self.texts._asdict().items() for span in spans
        ]  # fmt: skip
        words = {f"{name}_words": n for name, n in self.words.items()}
        found.append({**words, "test_window": self.plan.seq_len, "test_context": self.context})
        return found

    def _share(self) -> dict[str, int]:
        trainer = self.trainer
        rank, size = (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        return {"rank": rank, "world_size": size}

    def train_dataloader(self) -> DataLoader[TextBatch]:
        """Return a loader whose every item is this process's share of one optimizer step."""
        steps = TextSteps(self.windows, self.plan, **self._share())
        return DataLoader(
            steps, batch_size=None, sampler=StepSampler(self.start_step, self.max_steps), num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0, pin_memory=torch.cuda.is_available(),
        )  # fmt: skip

    def val_dataloader(self) -> DataLoader[TextBatch]:
        """Return a loader of validation batches."""
        return self._evaluation("validation")

    def test_dataloader(self) -> DataLoader[TextBatch]:
        """Return a loader of test batches: every byte, each with its context."""
        return self._evaluation("test")

    def _evaluation(self, split: str) -> DataLoader[TextBatch]:
        share = self._share()
        size = max(1, self.plan.at(self.max_steps).n_windows // share["world_size"])
        size = min(self.micro_batch_size or size, _MOST_ROWS)
        return DataLoader(TextBatches(self.tiles[split], size, **share), batch_size=None)


def _n_bytes(spans: tuple[TextSpan, ...]) -> int:
    return sum(span.n_bytes for span in spans)
