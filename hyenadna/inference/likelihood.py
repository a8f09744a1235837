"""Log-likelihoods of sequences under a causal language model.

A score is the same alone, in any batch, padded or not, in any order: padding is on the right of a causal model, its positions are
never summed, and the padded length follows from the sequence alone (`hyenadna.inference.batching`). The first base is context
and never scored; N and other ambiguous letters are context but no targets; probabilities are the softmax over the whole vocabulary.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
import torch

from hyenadna.errors import ConfigError, DataError, SequenceLengthError
from hyenadna.inference.batching import (
    Piece,
    automatic_batch_tokens,
    batches,
    collate,
    windows,
)
from hyenadna.inference.forward import BatchSize, forward_passes, require_scoring, to_device
from hyenadna.models import HyenaForCausalLM
from hyenadna.tokenizers import CharacterTokenizer

_MAX_WAITING = 1 << 14  # sequences that may wait for their batch
_MAX_EXPONENT = 709.0  # of math.exp
_PLAIN = b"ACGTUacgtu"
_LOWER = bytes(range(ord("a"), ord("z") + 1))


class HasSequence(Protocol):
    """A record with a name and letters, such as `hyenadna.io.FastaRecord`."""

    @property
    def name(self) -> str:
        """Name of the sequence."""

    @property
    def sequence(self) -> str:
        """Its IUPAC nucleotide letters."""


class SequenceScore(NamedTuple):
    """How likely a model finds one sequence.

    With ``rc``, `n_scored` and `log_likelihood` are the averages of the two strands; `n_scored` can then end in .5, where
    only one end of the sequence is ambiguous. `mean_log_likelihood` is always `log_likelihood` / `n_scored`, and `entropy` the mean over both strands' predictions.

    Parameters
    ----------
    name
        The sequence's name.
    length
        Its letters.
    n_scored
        Bases that were predicted: the A, C, G and T (U) from the second letter on.
    log_likelihood
        Sum of the natural logarithms of their probabilities, in nats; 0.0 where no base was scored.
    mean_log_likelihood
        Nats per scored base; NaN where none was scored.
    bits_per_base
        ``-mean_log_likelihood / ln 2``; a uniform guess over four bases has 2.0.
    perplexity
        ``exp(-mean_log_likelihood)``; a uniform guess over four bases has 4.0.
    entropy
        Nats, mean over the scored bases: how unsure the model is of what comes, over A, C, G and T, normalised to them (ln 4 at most), as in
        tracks; NaN where none was scored.
    n_ambiguous
        Letters other than A, C, G, T and U.
    n_soft_masked
        Lower-case letters, which are scored as upper-case ones unless the tokenizer is case-sensitive.
    """

    name: str
    length: int
    n_scored: float
    log_likelihood: float
    mean_log_likelihood: float
    bits_per_base: float
    perplexity: float
    entropy: float
    n_ambiguous: int
    n_soft_masked: int


def score_sequences(
    model: HyenaForCausalLM,
    sequences: Iterable[str | tuple[str, str] | HasSequence],
    *,
    tokenizer: CharacterTokenizer | None = None,
    rc: bool = False,
    batch_size: BatchSize = "auto",
    window: int | None = None,
    stride: int | None = None,
    half: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[SequenceScore]:
    """Score sequences under a causal language model, one result per sequence, in their order.

    The model is used where it is and as it is: device and dtype are kept, and its training mode is restored after every
    batch. Memory is bounded: sequences are read some batches ahead and grouped by length.

    Parameters
    ----------
    model
        The language model. Results are exact to float32 rounding for a float32 model.
    sequences
        Letters, ``(name, letters)`` pairs, or records with `name` and `sequence`; read lazily. Letters alone are named by their
        place, from ``sequence_1`` on.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    rc
        Average over both strands.
    batch_size
        Sequences (or windows) per forward pass, or ``"auto"``: what the device's memory takes.
    window
        Longest stretch, in bases, that the model reads at once: 2 … `max_seq_len`; see `default_window` for the default. Longer sequences are
        cut into overlapping windows; every base is scored once.
    stride
        Distance of window starts, 1 … window − 1, by default half the window. A base beyond the first window is scored
        with at least ``window − stride`` bases before it.
    half
        Keep signals in bfloat16 and multiply matrices in it (norms and probabilities stay in float32, on a CPU the arithmetic of the
        long convolution, too): faster on GPUs and on processors with AVX-512 BF16 or AMX. Scores then change by about 1e-4 nats per base, and with the batch.
    progress
        Called with the number of bases dealt with since the last call, each strand counted.

    Returns
    -------
    Iterator of SequenceScore
        In the order of the input.

    Raises
    ------
    ConfigError
        A setting is out of range, the model is no language model, or one window does not fit into memory.
    SequenceLengthError
        A sequence is empty.
    SequenceError
        A letter is no nucleotide code.
    DataError
        The model answers with NaN or infinity.

    Examples
    --------
    >>> from hyenadna import HyenaConfig, HyenaForCausalLM
    >>> model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=64))
    >>> [score] = score_sequences(model, [("read", "ACGTNACG")])
    >>> score.name, score.length, score.n_scored
    ('read', 8, 6)
    """
    if isinstance(sequences, str | bytes):
        raise TypeError("sequences is one string; pass a list of strings")
    tokenizer = require_scoring(model, tokenizer, batch_size)
    window, stride = resolve_windows(model.config.max_seq_len, window, stride)
    scorer = _Scorer(model, tokenizer, batch_size, window, stride, rc, half, progress)
    return scorer.run(sequences)


def default_window(max_seq_len: int) -> int:
    """Return the largest power of two that the model reads where that is at most 1 % less than its longest input, else the longest input.

    The published lengths are two tokens more than a power of two, and Fourier transforms like the power better.

    Examples
    --------
    >>> [default_window(n) for n in (1024, 1026, 32_770, 160_002)]
    [1024, 1024, 32768, 160002]
    """
    power = 1 << (max_seq_len.bit_length() - 1)
    return power if 100 * (max_seq_len - power) <= max_seq_len else max_seq_len


def resolve_windows(max_seq_len: int, window: int | None, stride: int | None) -> tuple[int, int]:
    """Return the window and stride of scoring, in bases, with defaults filled in: `default_window`, and half of it.

    Raises
    ------
    ConfigError
        They are out of range.
    """
    if window is None:
        window = default_window(max_seq_len)
    if not 2 <= window <= max_seq_len:
        raise ConfigError(
            f"window is {window:,}; expected 2 to {max_seq_len:,}, the longest input of this model"
        )
    if stride is None:
        stride = window // 2
    if not 1 <= stride < window:
        raise ConfigError(
            f"stride is {stride:,}; expected 1 to {window - 1:,}, less than the window of {window:,}"
        )
    return window, stride


class _Tally:
    """What is known of one sequence so far."""

    __slots__ = ("entropy", "length", "n_ambiguous", "n_left", "n_scored", "n_soft_masked", "name", "total")  # fmt: skip

    def __init__(self, name: str, letters: bytes) -> None:
        self.name = name
        self.length = len(letters)
        self.n_ambiguous = len(letters.translate(None, _PLAIN))
        self.n_soft_masked = len(letters) - len(letters.translate(None, _LOWER))
        self.n_scored = 0
        self.total = self.entropy = 0.0
        self.n_left = 1  # pieces without a score, and one until all have been cut

    def result(self, n_strands: int) -> SequenceScore:
        if not math.isfinite(self.total):
            raise DataError(
                f"the model answers sequence {self.name!r} with {self.total}, which is no likelihood: "
                "its weights are damaged, or its training diverged; use another one"
            )
        n_scored: float = self.n_scored
        if n_strands == 2:
            half, odd = divmod(self.n_scored, 2)
            n_scored = half + 0.5 if odd else half
        mean = self.total / self.n_scored if self.n_scored else math.nan
        entropy = self.entropy / self.n_scored if self.n_scored else math.nan
        return SequenceScore(
            self.name,
            self.length,
            n_scored,
            self.total / n_strands,
            mean,
            -mean / math.log(2),
            math.exp(min(-mean, _MAX_EXPONENT)),
            entropy,
            self.n_ambiguous,
            self.n_soft_masked,
        )


class _Scorer:
    """One run over many sequences."""

    def __init__(
        self,
        model: HyenaForCausalLM,
        tokenizer: CharacterTokenizer,
        batch_size: BatchSize,
        window: int,
        stride: int,
        rc: bool,
        half: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device = next(model.parameters()).device
        self.max_rows = None if batch_size == "auto" else batch_size
        self.max_tokens = automatic_batch_tokens(model.config, self.device)
        self.window, self.stride = window, stride
        self.n_strands = 2 if rc else 1
        self.half = half
        self.progress = progress
        self.is_target = np.zeros(256, dtype=np.bool_)
        self.is_target[list(tokenizer.base_token_ids)] = True
        self.base_ids = torch.tensor(tokenizer.base_token_ids, device=self.device)
        self.waiting: deque[_Tally] = deque()  # in the order of the input

    def run(
        self, sequences: Iterable[str | tuple[str, str] | HasSequence]
    ) -> Iterator[SequenceScore]:
        """Yield the scores, each as soon as it and those before it are known."""
        pieces = (
            self._pieces(*name_and_letters(item, number)) for number, item in enumerate(sequences)
        )
        cut = batches(
            pieces,
            limit=self.window,
            max_tokens=self.max_tokens,
            max_rows=self.max_rows,
            max_groups=_MAX_WAITING,
        )
        for batch, totals in forward_passes(self.model, cut, self._forward, half=self.half):
            if batch:
                self._add(batch, *(total.tolist() for total in totals))
            yield from self._finished()
        yield from self._finished()

    def _add(
        self, batch: Sequence[Piece], totals: Sequence[float], entropies: Sequence[float]
    ) -> None:
        n_bases = 0
        for piece, total, entropy in zip(batch, totals, entropies, strict=True):
            piece.owner.total += total
            piece.owner.entropy += entropy
            piece.owner.n_left -= 1
            n_bases += len(piece) - (piece.first if piece.first > 1 else 0)
        self._report(n_bases)

    def _finished(self) -> Iterator[SequenceScore]:
        while self.waiting and not self.waiting[0].n_left:
            yield self.waiting.popleft().result(self.n_strands)

    def _pieces(self, name: str, letters: str) -> Iterator[Piece]:
        """Cut a sequence, and leave out pieces that hold nothing to score: they need no model."""
        if not letters:
            raise SequenceLengthError(
                f"sequence {name!r} is empty; at least one base is needed", record=name
            )
        forward = self.tokenizer.encode(letters, record=name)
        tally = _Tally(name, letters.encode("ascii"))
        self.waiting.append(tally)
        strands = [forward]
        if self.n_strands == 2:
            strands.append(self.tokenizer.reverse_complement(forward))
        for token_ids in strands:
            for start, end, first in windows(len(token_ids), self.window, self.stride):
                piece = token_ids[start:end]
                n_targets = int(np.count_nonzero(self.is_target[piece[first:]]))
                if n_targets:
                    tally.n_scored += n_targets
                    tally.n_left += 1
                    yield Piece(tally, piece, first)
                else:
                    self._report(end - start - (first if start else 0))
        tally.n_left -= 1

    def _forward(self, batch: Sequence[Piece]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums of the scored log-probabilities and of the predictions' entropies of each piece: float64, shape (B,)."""
        stacked = collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)
        firsts = np.array([piece.first for piece in batch])
        scored = self.is_target[stacked] & (np.arange(stacked.shape[1]) >= firsts[:, None])
        token_ids = to_device(stacked, self.device)
        keep = to_device(scored, self.device)[:, 1:]
        logits = self.model(token_ids)[:, :-1]
        if logits.dtype != torch.float64:
            logits = logits.float()
        log_p = logits.log_softmax(-1).gather(-1, token_ids[:, 1:, None].long())[..., 0]
        of_bases = logits[..., self.base_ids].log_softmax(-1)
        entropy = -(of_bases.exp() * of_bases).sum(-1)
        zero = log_p.new_zeros((), dtype=torch.float64)
        total, unsure = (torch.where(keep, v.double(), zero).sum(dim=1) for v in (log_p, entropy))
        return total, unsure

    def _report(self, n_bases: int) -> None:
        if self.progress is not None:
            self.progress(n_bases)


def name_and_letters(item: str | tuple[str, str] | HasSequence, number: int) -> tuple[str, str]:
    """Return name and letters of the item of a number, in any form that `score_sequences` takes."""
    if isinstance(item, str):
        return f"sequence_{number + 1}", item
    if hasattr(item, "sequence"):
        record = cast(HasSequence, item)
        return record.name, record.sequence
    return item
