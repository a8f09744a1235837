"""Associative recall: with one question at the end (Hyena, arXiv 2302.10866, App. A.1), and with many (MQAR: Zoology, arXiv 2312.04927, §4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyenadna.data.synthetics.base import IGNORED, Rows, SyntheticTask, check
from hyenadna.data.synthetics.draws import Draws, first_occurrences

__all__ = ["ASKED", "AssociativeRecall", "MultiQueryRecall"]

ASKED = ("last", "all", "tokens")


@dataclass(frozen=True, kw_only=True)
class AssociativeRecall(SyntheticTask):
    """Keys and their values alternate; behind a separator stands a key that was seen, and its value is the answer.

    Each row has a dictionary of its own: every key has a value drawn uniformly, and (L − 2) / 2 keys are drawn uniformly. Of V ids (V − 2) / 2 are keys, as
    many are values, V − 1 is the separator and one is never used, as in the paper's code.

    Parameters
    ----------
    vocab_size
        V, even, 6…256; the paper has 10, 20, 30 and 40.
    seq_len
        L, even, ≥ 4.
    asked
        Where training rows have targets: ``last``, the question at the end; ``all``, every key that was seen before; ``tokens``, every next token, as the
        paper's code has it, although new keys cannot be known. Tests always ask the last alone.
    """

    vocab_size: int = 30
    seq_len: int = 1024
    asked: str = "all"

    def __post_init__(self) -> None:
        good = self.vocab_size % 2 == 0 and 6 <= self.vocab_size <= 256
        check(self, "vocab_size", good, "an even number from 6 to 256 is needed")
        check(self, "seq_len", self.seq_len % 2 == 0 and self.seq_len >= 4, "an even number ≥ 4 is needed")  # fmt: skip
        check(self, "asked", self.asked in ASKED, f"one of {', '.join(ASKED)} is needed")

    @property
    def n_keys(self) -> int:
        """Number of keys, and of values."""
        return (self.vocab_size - 2) // 2

    def most_asked(self, *, training: bool) -> int:
        """Return 1, the last position, unless training asks for more."""
        return self.seq_len if training and self.asked != "last" else 1

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        rows, pairs, n_keys = len(draws), (self.seq_len - 2) // 2, self.n_keys
        dictionary = (draws.below(n_keys, n_keys) + n_keys).astype(np.uint8)
        keys = draws.below(n_keys, pairs)
        offsets = n_keys * np.arange(rows, dtype=np.int64)[:, None]
        values = dictionary.ravel()[keys + offsets]
        # A key that was seen: that of a uniformly drawn pair would favour frequent keys, so one of the different keys.
        seen = np.zeros((rows, n_keys), dtype=bool)
        seen.ravel()[keys + offsets] = True
        turn = draws.below(seen.sum(axis=1, keepdims=True), 1)
        query = (seen.cumsum(axis=1) == turn + 1).argmax(axis=1)
        answer = dictionary[np.arange(rows), query]
        token_ids = np.empty((rows, self.seq_len), dtype=np.uint8)
        token_ids[:, :-2:2], token_ids[:, 1:-2:2] = keys, values
        token_ids[:, -2], token_ids[:, -1] = self.vocab_size - 1, query
        targets = np.full(token_ids.shape, IGNORED, dtype=np.int16)
        if training and self.asked == "tokens":
            targets[:, :-1] = token_ids[:, 1:]
        elif training and self.asked == "all":
            again = first_occurrences(keys, n_keys) < np.arange(pairs)
            targets[:, :-2:2] = np.where(again, values, np.int16(IGNORED))
        targets[:, -1] = answer
        return Rows(token_ids, targets)


@dataclass(frozen=True, kw_only=True)
class MultiQueryRecall(SyntheticTask):
    """MQAR: pairs of different keys and different values first, then every key once more, at gaps that follow a power law.

    The 2·n_pairs tokens of the pairs are followed by (L − 2·n_pairs) / 2 slots of two positions. Each key is asked for at the first position of a slot of its
    own; slots are drawn without replacement with probabilities ∝ i^(power − 1), i = 1, 2, … from the pairs on, and no key knows its slot. Keys are ids
    1…V/2 − 1, values V/2…V − 1.

    Parameters
    ----------
    vocab_size
        V, even; the paper has 8,192. At most 32,768.
    seq_len
        L, even.
    n_pairs
        At least 1 and at most L / 4; the paper has 4 to 64.
    power
        Of the gaps, > 0; 0.01 in the paper, and 1 makes slots equally likely.
    random_filler
        Fill what is neither pair nor question with random ids, as in later work, in place of 0.
    """

    vocab_size: int = 8192
    seq_len: int = 128
    n_pairs: int = 8
    power: float = 0.01
    random_filler: bool = False

    def __post_init__(self) -> None:
        check(self, "vocab_size", self.vocab_size % 2 == 0 and 8 <= self.vocab_size <= 2**15,
              "an even number from 8 to 32768 is needed")  # fmt: skip
        check(self, "seq_len", self.seq_len % 2 == 0 and self.seq_len >= 4, "an even number ≥ 4 is needed")  # fmt: skip
        most = min(self.seq_len // 4, self.vocab_size // 2 - 1)
        check(self, "n_pairs", 1 <= self.n_pairs <= most, f"1 to {most} are possible here")
        check(self, "power", self.power > 0, "a number > 0 is needed")

    def most_asked(self, *, training: bool) -> int:
        """Return `n_pairs`: every key is asked for once."""
        return self.n_pairs

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        rows, half, pairs = len(draws), self.vocab_size // 2, self.n_pairs
        keys = (draws.arrangement(half - 1, pairs) + 1).astype(np.int16)
        values = (draws.arrangement(half, pairs) + half).astype(np.int16)
        slots = (self.seq_len - 2 * pairs) // 2
        weights = np.arange(1, slots + 1, dtype=np.float64) ** (self.power - 1)
        # The smallest of exponential waiting times: drawing one after the other without replacement.
        waiting = -np.log(draws.uniform(slots)) / weights
        slot = np.argpartition(waiting, pairs - 1, axis=1)[:, :pairs]
        where = 2 * pairs + 2 * np.sort(slot, axis=1)
        order = draws.arrangement(pairs, pairs)
        if self.random_filler:
            token_ids = draws.below(self.vocab_size, self.seq_len).astype(self.dtype)
        else:
            token_ids = np.zeros((rows, self.seq_len), dtype=self.dtype)
        token_ids[:, : 2 * pairs : 2], token_ids[:, 1 : 2 * pairs : 2] = keys, values
        targets = np.full(token_ids.shape, IGNORED, dtype=np.int16)
        for array, content in ((token_ids, keys), (targets, values)):
            np.put_along_axis(array, where, np.take_along_axis(content, order, axis=1).astype(array.dtype), axis=1)  # fmt: skip
        return Rows(token_ids, targets)
