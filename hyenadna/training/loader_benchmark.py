"""Measuring the data path of pretraining: random windows of a packed genome as token ids on the training device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from hyenadna.errors import DataError
from hyenadna.sequence import Interval, reverse_complement
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.config import DataConfig, LengthWarmupConfig
from hyenadna.training.pretrain_data import PretrainData, open_genomes
from hyenadna.training.schedules import LengthPlan

__all__ = ["LoaderRate", "check_windows", "measure_loader", "open_data"]


class LoaderRate(NamedTuple):
    """Bases per second from the genome to the device (median over the steps), and the number of steps that were timed."""

    bases_per_s: float
    steps: int


def open_data(
    fasta: str, *, seq_len: int, batch_size: int, steps: int, num_workers: int
) -> PretrainData:
    """Open the data of a pretraining run of so many steps, with the defaults of `hyenadna pretrain`."""
    config = DataConfig(fasta=fasta, seq_len=seq_len, global_batch_size=batch_size)
    plan = LengthPlan(seq_len, batch_size, steps, LengthWarmupConfig())
    return PretrainData(
        open_genomes(config), config, plan, tokenizer=CharacterTokenizer(), seed=0, start_step=0, max_steps=steps,
        num_workers=num_workers,
    )  # fmt: skip


def check_windows(data: PretrainData, fasta: str, *, windows: int = 50) -> None:
    """Hold the first windows against the letters of the genome, strand by strand.

    Raises
    ------
    DataError
        A window has other bases.
    """
    seq_len = data.plan.seq_len
    (genome,) = open_genomes(DataConfig(fasta=fasta, seq_len=seq_len))
    for index in range(windows):
        _, span = data.windows.location(index, seq_len)
        letters = genome.genome.sequence(Interval(span.chrom, span.start, span.end)).upper()
        letters = reverse_complement(letters) if span.strand == "-" else letters
        if not np.array_equal(data.windows.window(index, seq_len), data.tokenizer.encode(letters)):
            raise DataError(f"window {index} of the loader is not the bases of {span} of {fasta}")


def measure_loader(data: PretrainData, device: torch.device) -> LoaderRate:
    """Read every step of the data onto a device as int32, as the model's embedding takes them; the first tenth is not timed."""
    plan, times = data.plan, []
    with torch.inference_mode():
        last = time.perf_counter()
        for batch in _batches(data, device):
            batch.int()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            times.append(now - last)
            last = now
    timed = sorted(times[len(times) // 10 :])
    return LoaderRate(plan.tokens_per_step / timed[len(timed) // 2], len(timed))


def _batches(data: PretrainData, device: torch.device) -> Iterator[torch.Tensor]:
    for batch in data.train_dataloader():
        yield batch.token_ids.to(device, non_blocking=True)
