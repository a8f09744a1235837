"""The six tasks of MAD (mechanistic architecture design, arXiv 2403.17844, §3.1 and App. B), with its standard sizes as defaults.

MAD cuts its sequences of n tokens into n − 1 inputs and targets; here rows keep all n tokens, and nothing is asked at the last one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from hyenadna.data.synthetics.base import IGNORED, Rows, SyntheticTask, check
from hyenadna.data.synthetics.draws import Draws, Ints, first_occurrences, row_keys

__all__ = [
    "Compression", "FuzzyInContextRecall", "InContextRecall", "Memorisation", "NoisyInContextRecall", "SelectiveCopying",
]  # fmt: skip

_ASKED = ("all", "tokens")


@dataclass(frozen=True, kw_only=True)
class InContextRecall(SyntheticTask):
    """Pairs of key and value; the value of every key that was seen before is asked.

    Each row has a dictionary of its own. The last pair repeats a key that was seen, so that something is asked.

    Parameters
    ----------
    vocab_size
        V: keys, as many values (one more where the rest is odd), and `noise_vocab` ids of noise.
    seq_len
        L, even, ≥ 4.
    noise_vocab
        Number of ids of noise, ≥ 0.
    noise_share
        Probability that a pair is two random ids of noise instead, in [0, 1); > 0 needs `noise_vocab`.
    asked
        Where training rows have targets: ``tokens``, every next token, as in MAD; ``all``, only what tests ask.
    """

    vocab_size: int = 16
    seq_len: int = 128
    noise_vocab: int = 0
    noise_share: float = 0.0
    asked: str = "tokens"

    def __post_init__(self) -> None:
        check(self, "noise_vocab", self.noise_vocab >= 0, "at least 0 is needed")
        check(self, "vocab_size", self.vocab_size - self.noise_vocab >= 4 and self.vocab_size <= 2**15,
              "four ids beside those of the noise are needed, and at most 32768")  # fmt: skip
        check(self, "seq_len", self.seq_len % 2 == 0 and self.seq_len >= 4, "an even number ≥ 4 is needed")  # fmt: skip
        good = 0 <= self.noise_share < 1 and (self.noise_share == 0 or self.noise_vocab > 0)
        check(self, "noise_share", good, "0 ≤ p < 1 is needed, and noise_vocab where it is above 0")
        check(self, "asked", self.asked in _ASKED, f"one of {', '.join(_ASKED)} is needed")

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        rows, pairs, ordinary = len(draws), self.seq_len // 2, self.vocab_size - self.noise_vocab
        n_keys = ordinary // 2
        each = np.arange(rows)
        keys = draws.below(n_keys, pairs)
        values = n_keys + draws.below(ordinary - n_keys, n_keys)  # of each key
        noise = draws.uniform(pairs) <= self.noise_share
        noise[each, draws.below(pairs - 1, 1)[:, 0]] = False
        noise[:, -1] = False
        keys[:, -1] = _one_of(draws, keys[:, :-1], ~noise[:, :-1])
        answers = np.take_along_axis(values, keys, axis=1)
        first = first_occurrences(np.where(noise, n_keys, keys), n_keys + 1)
        again = (first < np.arange(pairs)) & ~noise
        sequence = np.empty((rows, self.seq_len), dtype=np.int64)
        sequence[:, ::2], sequence[:, 1::2] = keys, answers
        if self.noise_vocab:
            hiss = ordinary + draws.below(self.noise_vocab, self.seq_len)
            sequence = np.where(np.repeat(noise, 2, axis=1), hiss, sequence)
        asked = np.repeat(again, 2, axis=1)
        asked[:, ::2] = False
        return _predicting(self, sequence, asked, every=training and self.asked == "tokens")


@dataclass(frozen=True, kw_only=True)
class NoisyInContextRecall(InContextRecall):
    """`InContextRecall` among noise: the same task with MAD's settings for it."""

    vocab_size: int = 32
    noise_vocab: int = 16
    noise_share: float = 0.2


@dataclass(frozen=True, kw_only=True)
class FuzzyInContextRecall(SyntheticTask):
    """In-context recall whose keys and values are motifs of one to `motif_size` different tokens; all tokens of known values are asked.

    Tests have keys of full size only. Rows are padded on the left. Somewhere in each row stands the pair that its end repeats.

    Parameters
    ----------
    vocab_size
        V: V − 1 is padding; of the others half, rounded down, are tokens of keys, the rest of values.
    seq_len
        L, at least 8·motif_size.
    motif_size
        Largest number of tokens of a key and of a value, 1…V / 2 − 1 and at most 4.
    asked
        As in `InContextRecall`.
    """

    vocab_size: int = 16
    seq_len: int = 128
    motif_size: int = 3
    asked: str = "tokens"

    def __post_init__(self) -> None:
        check(self, "vocab_size", 4 <= self.vocab_size <= 2**11, "4 to 2048 are possible")
        most = min(4, (self.vocab_size - 1) // 2)
        check(self, "motif_size", 1 <= self.motif_size <= most, f"1 to {most} are possible here")
        check(self, "seq_len", self.seq_len >= 8 * self.motif_size, f"at least {8 * self.motif_size} is needed")  # fmt: skip
        check(self, "asked", self.asked in _ASKED, f"one of {', '.join(_ASKED)} is needed")

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        rows, most = len(draws), self.motif_size
        n_keys = (self.vocab_size - 1) // 2
        smallest = 2 if training else most + 1
        slots = self.seq_len // smallest + 1  # more than ever fit
        each = np.arange(rows)
        key_size = draws.below(most, slots + 1) + 1 if training else np.full((rows, slots + 1), most)  # fmt: skip
        key = _motifs(draws, n_keys, slots + 1, most)
        symbols = _numbered(key, key_size, n_keys)
        # A value for each slot; that of a key is the one of the slot where it stands first.
        value_size = draws.below(most, slots + 1) + 1
        value = n_keys + _motifs(draws, self.vocab_size - 1 - n_keys, slots + 1, most)
        # The last slot holds the pair that is asked in the end. It goes to the place of one that fits in.
        room = self.seq_len - (key_size[:, -1:] + value_size[:, -1:]) - 2 * most

        def laid_out(order: Ints) -> tuple[Ints, Ints, Ints]:
            """Return where each slot's value stands first (the probe's is its own), whether it is a repeat, and its start."""
            named = np.take_along_axis(symbols, order, axis=1)
            first = first_occurrences(named, (n_keys + 1) ** most)
            source = np.take_along_axis(order, first, axis=1)
            source[named == symbols[:, -1:]] = slots
            size = np.take_along_axis(key_size, order, 1) + np.take_along_axis(value_size, source, 1)  # fmt: skip
            return source, first < np.arange(slots), np.cumsum(size, axis=1) - size

        order = np.broadcast_to(np.arange(slots), (rows, slots)).copy()
        _, _, start = laid_out(order)
        order[each, draws.below((start < room).sum(axis=1, keepdims=True), 1)[:, 0]] = slots
        source, again, start = laid_out(order)
        kept = start < room
        # The question: one more slot behind the last that is kept.
        behind = kept.sum(axis=1)
        order[each, behind], source[each, behind], again[each, behind] = slots, slots, True
        kept[each, behind] = True
        parts = (
            (np.take_along_axis(key, order[..., None], 1), np.take_along_axis(key_size, order, 1)),
            (np.take_along_axis(value, source[..., None], 1), np.take_along_axis(value_size, source, 1)),
        )  # fmt: skip
        tokens = np.concatenate([motif for motif, _ in parts], axis=2)
        present = np.concatenate([np.arange(most) < size[..., None] for _, size in parts], axis=2)
        present &= kept[..., None]
        questions = np.repeat([False, True], most) & again[..., None]
        flat = present.reshape(rows, -1)
        length = flat.sum(axis=1, keepdims=True)
        # What is absent is written to a column that is cut off.
        column = np.where(flat, self.seq_len - length + flat.cumsum(axis=1) - 1, self.seq_len)
        sequence = np.full((rows, self.seq_len + 1), self.vocab_size - 1, dtype=np.int64)
        asked = np.zeros((rows, self.seq_len + 1), dtype=bool)
        np.put_along_axis(sequence, column, tokens.reshape(rows, -1), axis=1)
        np.put_along_axis(asked, column, (questions & present).reshape(rows, -1), axis=1)
        every = training and self.asked == "tokens"
        return _predicting(self, sequence[:, :-1], asked[:, :-1], every=every)


@dataclass(frozen=True, kw_only=True)
class SelectiveCopying(SyntheticTask):
    """Tokens among blanks; behind a copy sign they are asked for in their order.

    Parameters
    ----------
    vocab_size
        V: V − 1 is the copy sign, V − 2 the blank.
    seq_len
        L, at least 2·n_tokens + 2.
    n_tokens
        Tokens to copy, ≥ 1.
    """

    vocab_size: int = 16
    seq_len: int = 256
    n_tokens: int = 16

    def __post_init__(self) -> None:
        check(self, "vocab_size", 3 <= self.vocab_size <= 2**15, "3 to 32768 are possible")
        check(self, "n_tokens", self.n_tokens >= 1, "at least 1 is needed")
        check(self, "seq_len", self.seq_len >= 2 * self.n_tokens + 2, f"at least {2 * self.n_tokens + 2} is needed")  # fmt: skip

    def most_asked(self, *, training: bool) -> int:
        """Return `n_tokens`: every token is asked for once."""
        return self.n_tokens

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        rows, n = len(draws), self.n_tokens
        tokens = draws.below(self.vocab_size - 2, n)
        # Each blank goes before one of the tokens.
        gap = draws.below(n, self.seq_len - 2 * n - 1) + n * np.arange(rows)[:, None]
        blanks = np.bincount(gap.ravel(), minlength=rows * n).reshape(rows, n)
        token_ids = np.full((rows, self.seq_len), self.vocab_size - 2, dtype=self.dtype)
        where = np.arange(n) + blanks.cumsum(axis=1)
        np.put_along_axis(token_ids, where, tokens.astype(self.dtype), axis=1)
        token_ids[:, -n - 1] = self.vocab_size - 1
        targets = np.full(token_ids.shape, IGNORED, dtype=np.int16)
        targets[:, -n:] = tokens
        return Rows(token_ids, targets)


@dataclass(frozen=True, kw_only=True)
class Compression(SyntheticTask):
    """Random tokens and a sign; every token, and the sign, is to be given back from what the model knows at the sign.

    Parameters
    ----------
    vocab_size
        V: V − 1 is the sign.
    seq_len
        L, ≥ 2.
    """

    vocab_size: int = 16
    seq_len: int = 32

    def __post_init__(self) -> None:
        check(self, "vocab_size", 3 <= self.vocab_size <= 2**15, "3 to 32768 are possible")
        check(self, "seq_len", self.seq_len >= 2, "at least 2 is needed")

    @property
    def compresses(self) -> bool:
        """It does: the answers do not come from the positions at which they are asked."""
        return True

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        token_ids = draws.below(self.vocab_size - 1, self.seq_len).astype(self.dtype)
        token_ids[:, -1] = self.vocab_size - 1
        return Rows(token_ids, token_ids.astype(np.int16))


@dataclass(frozen=True, kw_only=True)
class Memorisation(SyntheticTask):
    """Keys and signs alternate; at each sign the value of the key before it is asked, by one dictionary that all rows of all splits share.

    The values never stand in a row: they are learnt from training alone.

    Parameters
    ----------
    vocab_size
        V: V − 1 is the sign; of the others half, rounded down, are keys, the rest values, each of one key at most.
    seq_len
        L, even, ≥ 2.
    dictionary
        Number of the dictionary, ≥ 0.
    """

    vocab_size: int = 256
    seq_len: int = 32
    dictionary: int = 0

    def __post_init__(self) -> None:
        check(self, "vocab_size", 4 <= self.vocab_size <= 2**15, "4 to 32768 are possible")
        check(self, "seq_len", self.seq_len % 2 == 0 and self.seq_len >= 2, "an even number ≥ 2 is needed")  # fmt: skip
        check(self, "dictionary", self.dictionary >= 0, "at least 0 is needed")

    def most_asked(self, *, training: bool) -> int:
        """Return L / 2: something is asked at every other position."""
        return self.seq_len // 2

    def values(self) -> Ints:
        """Return the value of each key, int64, shape (keys,)."""
        n_keys = (self.vocab_size - 1) // 2
        return n_keys + _arranged(self.dictionary, self.vocab_size - 1 - n_keys, n_keys)

    def draw(self, draws: Draws, *, training: bool) -> Rows:
        """Draw rows; see `SyntheticTask.draw`."""
        values = self.values()
        keys = draws.below(len(values), self.seq_len // 2)
        token_ids = np.full((len(draws), self.seq_len), self.vocab_size - 1, dtype=self.dtype)
        token_ids[:, ::2] = keys
        targets = np.full(token_ids.shape, IGNORED, dtype=np.int16)
        targets[:, 1::2] = values[keys]
        return Rows(token_ids, targets)


@functools.lru_cache(maxsize=8)
def _arranged(number: int, n: int, k: int) -> Ints:
    arranged: Ints = Draws(row_keys((number,), np.zeros(1, dtype=np.int64))).arrangement(n, k)[0]
    return arranged


def _one_of(draws: Draws, symbols: Ints, allowed: Ints) -> Ints:
    """Return one of each row's different allowed symbols, each as likely as another, shape (B,)."""
    largest = int(symbols.max()) + 1
    seen = np.zeros((len(symbols), largest + 1), dtype=bool)
    np.put_along_axis(seen, np.where(allowed, symbols, largest), True, axis=1)
    seen[:, largest] = False
    turn = draws.below(seen.sum(axis=1, keepdims=True), 1)
    chosen: Ints = (seen.cumsum(axis=1) == turn + 1).argmax(axis=1)
    return chosen


def _motifs(draws: Draws, n: int, slots: int, size: int) -> Ints:
    """Return `size` different integers of 0…n − 1 for each slot, in random order, shape (B, slots, size)."""
    motif = np.empty((len(draws), slots, size), dtype=np.int64)
    for i in range(size):
        drawn = draws.below(n - i, slots)
        # The drawn-th of those that are left: step over each earlier one that is not larger.
        for earlier in np.moveaxis(np.sort(motif[..., :i], axis=2), 2, 0):
            drawn = drawn + (drawn >= earlier)
        motif[..., i] = drawn
    return motif


def _numbered(motif: Ints, size: Ints, n: int) -> Ints:
    """Return one number for each motif cut to its size, the same for the same tokens, in 0…(n + 1)^most − 1."""
    most = motif.shape[-1]
    digits = np.where(np.arange(most) < size[..., None], motif + 1, 0)
    numbers: Ints = digits @ (n + 1) ** np.arange(most)
    return numbers


def _predicting(task: SyntheticTask, sequence: Ints, asked: Ints, *, every: bool) -> Rows:
    """Turn sequences (B, L) and the tokens in them that are asked into rows in which each is the target of the position before it."""
    targets = np.full(sequence.shape, IGNORED, dtype=np.int16)
    wanted = sequence if every else np.where(asked, sequence, IGNORED)
    targets[:, :-1] = wanted[:, 1:]
    return Rows(sequence.astype(task.dtype), targets)
