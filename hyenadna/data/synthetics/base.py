"""What a synthetic task is, and why its splits cannot share a row."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hyenadna.data.synthetics.draws import Draws, Ints, fingerprints, row_keys
from hyenadna.errors import ConfigError, DataError

__all__ = ["IGNORED", "SPLITS", "Rows", "SyntheticTask", "check", "next_tokens"]

IGNORED = -100
"""The target of a position where nothing is asked."""

SPLITS = ("train", "validation", "test")
# Of the eight classes that a row's content can hash to.
_CLASSES = {"validation": (0,), "test": (1,), "train": (2, 3, 4, 5, 6, 7)}
_MOST_ATTEMPTS = 1000


class Rows(NamedTuple):
    """Rows of a task.

    Parameters
    ----------
    token_ids
        What the model reads, uint8 or int16, shape (B, L), 0…V − 1.
    targets
        What it should answer after having read each position, int16, shape (B, L): 0…V − 1, or `IGNORED`.
    """

    token_ids: Ints
    targets: Ints


@dataclass(frozen=True, kw_only=True)
class SyntheticTask(abc.ABC):
    """A task whose rows are drawn, each a pure function of (seed, split, index).

    A row belongs to the split that a hash of its token ids says, and is drawn again until it is the one wanted: six of eight hashes are training rows, one
    is validation, one is test. So no row of one split is ever one of another, under any seeds.

    Parameters
    ----------
    vocab_size
        Number of token ids V.
    seq_len
        Tokens L of a row.
    """

    vocab_size: int
    seq_len: int

    def most_asked(self, *, training: bool) -> int:
        """Return the largest number of positions of a row at which something is asked."""
        return self.seq_len

    @property
    def compresses(self) -> bool:
        """Whether all answers must come from what the model knows at the row's last position."""
        return False

    @abc.abstractmethod
    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows from their random numbers, whatever split they fall into.

        Parameters
        ----------
        draws
            Of B rows.
        training
            Whether the targets are those that training has, which may be more than what tests ask.
        """

    def batch(self, split: str, indices: Sequence[int] | Ints, *, seed: int) -> Rows:
        """Return rows of a split.

        Parameters
        ----------
        split
            ``train``, ``validation`` or ``test``.
        indices
            Numbers of the rows, ≥ 0, shape (B,).
        seed
            ≥ 0.

        Raises
        ------
        DataError
            The task has hardly any rows: those of a split are not found.
        """
        numbers = np.asarray(indices, dtype=np.int64)
        keys = row_keys((seed, SPLITS.index(split)), numbers)
        found = Rows(
            np.empty((len(numbers), self.seq_len), self.dtype),
            np.empty((len(numbers), self.seq_len), np.int16),
        )
        left = np.arange(len(numbers))
        for attempt in range(_MOST_ATTEMPTS):
            drawn = self.draw(Draws(row_keys((attempt,), keys[left])), training=split == "train")
            good = split_mask(drawn.token_ids, split)
            found.token_ids[left[good]] = drawn.token_ids[good]
            found.targets[left[good]] = drawn.targets[good]
            left = left[~good]
            if not len(left):
                return found
        raise DataError(
            f"{type(self).__name__} with vocab_size={self.vocab_size} and seq_len={self.seq_len} has hardly any different rows; "
            "choose more symbols or longer rows"
        )

    @property
    def dtype(self) -> type[np.generic]:
        """Of token ids."""
        return np.uint8 if self.vocab_size <= 256 else np.int16

    def describe(self) -> dict[str, Any]:
        """Return the settings, for a report."""
        return {"task": type(self).__name__, **dataclasses.asdict(self)}


def split_mask(token_ids: Ints, split: str) -> Ints:
    """Say which rows belong to a split, bool, shape (B,)."""
    which = fingerprints(token_ids) >> np.uint64(61)
    return np.isin(which, np.array(_CLASSES[split], dtype=np.uint64))


def next_tokens(sequences: Ints) -> Ints:
    """Return the targets of a language model on sequences (B, L + 1): the next token everywhere, int16, shape (B, L)."""
    return sequences[:, 1:].astype(np.int16)


def check(task: SyntheticTask, name: str, condition: bool, expected: str) -> None:
    """Raise `ConfigError` about a setting of a task unless the condition holds."""
    if not condition:
        raise ConfigError(
            f"the task {type(task).__name__} has {name}={getattr(task, name)!r}; {expected}"
        )
