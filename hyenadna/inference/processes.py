"""Several processes that share one run's work, as torchrun and the like start them; alone, nothing here costs anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch

from hyenadna.errors import BackendUnavailableError, ConfigError

__all__ = ["ALONE", "Processes", "joined_processes"]

_PATIENCE = timedelta(
    days=7
)  # a process that has ended is noticed at once; this is for those that work


@dataclass(frozen=True)
class Processes:
    """Which process this is, 0 … world_size − 1, and how many there are."""

    rank: int = 0
    world_size: int = 1

    def wait(self) -> None:
        """Wait until all processes are here.

        Raises
        ------
        BackendUnavailableError
            One of them has ended.
        """
        if self.world_size > 1:
            try:
                torch.distributed.barrier()
            except RuntimeError as error:
                raise BackendUnavailableError(
                    f"another of the {self.world_size} processes has ended before its work was done; see what it says, then start all again with --resume"
                ) from error


ALONE = Processes()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that RANK and WORLD_SIZE speak of.

    Raises
    ------
    ConfigError
        The environment is incomplete.
    """
    try:
        rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    except ValueError as error:
        raise ConfigError(
            f"RANK or WORLD_SIZE is no number ({error}); start several processes with torchrun, or unset them"
        ) from None
    if size <= 1:
        yield ALONE
        return
    try:
        torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but the processes do not find each other ({' '.join(str(error).split())[:200]}); start them with torchrun, or unset WORLD_SIZE"
        ) from error
    try:
        yield Processes(rank, size)
    finally:
        torch.distributed.destroy_process_group()
