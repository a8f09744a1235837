"""From genomes and splits to the batches of a language model, identical however many processes share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from hyenadna.data.genome import Genome
from hyenadna.data.splits import Splits, split_genome
from hyenadna.data.windows import GenomeSource, RandomWindows, TiledWindows
from hyenadna.errors import DataError
from hyenadna.resources import resolve
from hyenadna.sequence import Interval
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.config import DataConfig, GenomeConfig
from hyenadna.training.schedules import LengthPlan


class SplitGenome(NamedTuple):
    """A genome with its splits and where it came from."""

    config: GenomeConfig
    genome: Genome
    splits: Splits

    def describe(self) -> dict[str, Any]:
        """Return what a report says about the data: file, checksum, bases of each split."""
        return {
            "fasta": self.config.fasta,
            "sha256": self.genome.checksum,
            "contigs": len(self.genome.contigs),
            "bases": sum(self.genome.contigs.values()),
            **{
                f"{name}_bases": n_bases(intervals)
                for name, intervals in self.splits._asdict().items()
            },
        }


def n_bases(intervals: Sequence[Interval]) -> int:
    """Return the summed length of intervals."""
    return sum(interval.end - interval.start for interval in intervals)


def absolute_path(path: str) -> str:
    """Return a path that still holds when the run is resumed from another folder; ``bundled:`` paths stay."""
    return path if path.startswith("bundled:") else str(resolve(path).absolute())


def open_genomes(
    config: DataConfig, *, progress: Callable[[int], None] | None = None
) -> list[SplitGenome]:
    """Open and split every genome of a config; a FASTA is packed into the cache the first time.

    Parameters
    ----------
    config
        Genomes and splits.
    progress
        Called with the number of bases packed since the last call.

    Raises
    ------
    FileFormatError, IntervalError, DataError
        A file cannot be read, a split names an unknown contig, splits overlap, or no genome has a validation split.
    """
    opened = []
    for source in config.sources():
        genome = Genome.open(resolve(source.fasta), progress=progress)
        splits = split_genome(
            genome, train=source.train, validation=source.validation, test=source.test
        )
        opened.append(SplitGenome(source, genome, splits))
    if not any(g.splits.validation for g in opened):
        names = ", ".join(source.fasta for source in config.sources())
        raise DataError(
            f"the validation split of {names} is empty; give contigs or regions for it with data.validation"
        )
    return opened


class WindowBatch(NamedTuple):
    """Consecutive windows: one process's share of one optimizer step, or of a validation.

    Parameters
    ----------
    token_ids
        uint8, shape (B, L).
    soft_mask
        bool, shape (B, L), or None where repeats count like other bases.
    first_window
        Number of the first window in the run's endless list, or in the list of validation windows.
    """

    token_ids: torch.Tensor
    soft_mask: torch.Tensor | None
    first_window: int


class TrainSteps(Dataset[WindowBatch]):
    """Optimizer step → this process's batch: a pure function, so workers, devices and resuming cannot disturb it."""

    def __init__(
        self,
        windows: RandomWindows,
        plan: LengthPlan,
        *,
        rank: int,
        world_size: int,
        soft_mask: bool,
    ) -> None:
        self.windows = windows
        self.plan = plan
        self.rank = rank
        self.world_size = world_size
        self.soft_mask = soft_mask

    def __getitem__(self, step: int) -> WindowBatch:
        """Return the batch of a 0-based optimizer step."""
        planned = self.plan.at(step)
        indices = planned.share(self.rank, self.world_size)
        masks = None
        if self.soft_mask:
            masks = torch.from_numpy(
                np.stack([self._mask(index, planned.seq_len) for index in indices])
            )
        token_ids = torch.from_numpy(self.windows.batch(indices, planned.seq_len))
        return WindowBatch(token_ids, masks, indices.start)

    def _mask(self, index: int, seq_len: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        return self.windows.soft_mask_window(index, seq_len)


class StepSampler(Sampler[int]):
    """The steps that are left, in order."""

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.end))


class TiledBatches(Dataset[WindowBatch]):
    """Validation windows in batches; every process has equally many, the last ones filled with padding."""

    def __init__(
        self,
        tiled: Sequence[TiledWindows],
        batch_size: int,
        *,
        rank: int,
        world_size: int,
        pad_token_id: int,
    ) -> None:
        self.windows = [(tiles, i) for tiles in tiled for i in range(len(tiles))]
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.pad_token_id = pad_token_id
        self.seq_len = tiled[0].seq_len

    def __len__(self) -> int:
        """Return the number of this process's batches."""
        return -(-len(self.windows) // (self.batch_size * self.world_size))

    def __getitem__(self, index: int) -> WindowBatch:
        """Return some windows, the last one of an interval padded on the right."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = (index * self.world_size + self.rank) * self.batch_size
        ids = [tiles.window(i) for tiles, i in self.windows[start : start + self.batch_size]]
        if not ids:
            ids = [np.full(self.seq_len, self.pad_token_id, dtype=np.uint8)]
        return WindowBatch(torch.from_numpy(np.stack(ids)), None, start)


class PretrainData(LightningDataModule):
    """The data of a pretraining run.

    Parameters
    ----------
    genomes
        From `open_genomes`.
    config
        Portions and probabilities.
    plan
        Which windows each step reads.
    tokenizer
        Gives the token ids.
    seed
        Of the windows.
    start_step, max_steps
        First step to train, and the number of steps of the whole run.
    num_workers
        Worker processes.
    soft_mask
        Whether batches carry the soft mask.
    tile_overlap
        Bases that a validation window shares with the one before it.

    Raises
    ------
    DataError
        No window of the training or validation split can be used.
    """

    def __init__(
        self,
        genomes: Sequence[SplitGenome],
        config: DataConfig,
        plan: LengthPlan,
        *,
        tokenizer: CharacterTokenizer,
        seed: int,
        start_step: int,
        max_steps: int,
        num_workers: int = 0,
        soft_mask: bool = False,
        tile_overlap: int = 1,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.start_step = start_step
        self.max_steps = max_steps
        self.num_workers = num_workers
        self.soft_mask = soft_mask
        self.tokenizer = tokenizer
        self.micro_batch_size = config.micro_batch_size
        sources = [
            GenomeSource(
                g.genome, g.splits.train, g.config.weight or float(n_bases(g.splits.train))
            )
            for g in genomes
        ]
        self.windows = RandomWindows(
            sources,
            table=tokenizer.code_table,
            seed=seed,
            rc_probability=config.rc_probability,
            max_n_fraction=config.max_n_fraction,
        )
        for length in plan.lengths:
            self.windows.n_starts(
                length
            )  # refuses a split without a usable window before training starts
        validated = [g for g in genomes if g.splits.validation]
        limit = max(1, config.validation_tokens // (config.seq_len * len(validated)))
        self.tiled = [
            TiledWindows(
                g.genome, g.splits.validation, config.seq_len, table=tokenizer.code_table,
                overlap=tile_overlap, pad_token_id=tokenizer.pad_token_id, limit=limit,
            )
            for g in validated
        ]  # fmt: skip

    def _ranks(self) -> tuple[int, int]:
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)

    def train_dataloader(self) -> DataLoader[WindowBatch]:
        """Return a loader whose every item is this process's share of one optimizer step."""
        rank, world_size = self._ranks()
        steps = TrainSteps(
            self.windows, self.plan, rank=rank, world_size=world_size, soft_mask=self.soft_mask
        )
        return self._loader(steps, StepSampler(self.start_step, self.max_steps))

    def val_dataloader(self) -> DataLoader[WindowBatch]:
        """Return a loader of validation batches."""
        rank, world_size = self._ranks()
        share = max(1, self.plan.at(self.max_steps).n_windows // world_size)
        batches = TiledBatches(
            self.tiled,
            min(self.micro_batch_size or share, 64),
            rank=rank,
            world_size=world_size,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return self._loader(batches, None)

    def _loader(self, dataset: Dataset[Any], sampler: Sampler[int] | None) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


def absolute_sources(config: DataConfig) -> None:
    """Make the paths of a config absolute in place: genomes, and BED files among the splits."""
    if config.fasta:
        config.fasta = absolute_path(config.fasta)
    for source in (config, *config.genomes):
        if isinstance(source, GenomeConfig):
            source.fasta = absolute_path(source.fasta)
        for name in ("train", "validation", "test"):
            entries = getattr(source, name)
            if entries:
                setattr(source, name, [_absolute_if_file(entry) for entry in entries])


def _absolute_if_file(entry: str) -> str:
    path = Path(entry).expanduser()
    return str(path.absolute()) if path.is_file() else entry
