"""Classes of new sequences, from a fine-tuned classifier.

Splits of a training run go through `hyenadna.tasks.classification.predict_probabilities`, which holds them whole; here sequences come as a stream, in bounded
memory, as they do for `hyenadna.inference.likelihood`. A sequence's probabilities are the same alone, in any batch and in any order: the
padded length follows from the sequence alone (`hyenadna.inference.batching`), and the mask keeps padding out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.errors import DataError, SequenceLengthError
from hyenadna.inference.batching import Piece, automatic_batch_tokens, batches, collate
from hyenadna.inference.forward import (
    BatchSize,
    forward_passes,
    require_classifying,
    to_device,
)
from hyenadna.inference.likelihood import HasSequence, name_and_letters
from hyenadna.models import Classifier
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["Prediction", "predict_sequences", "unreadable"]

Probabilities = npt.NDArray[np.float64]


def unreadable(name: str, length: int, limit: int) -> SequenceLengthError | None:
    """Return why a classifier cannot read a sequence as a whole: it is empty, or longer than the model reads; None where it can.

    Parameters
    ----------
    name, length
        Of the sequence; the length in bases.
    limit
        Longest input of the model, bases.
    """
    if length == 0:
        return SequenceLengthError(
            f"sequence {name!r} is empty; at least one base is needed", record=name
        )
    if length > limit:
        return SequenceLengthError(
            f"sequence {name!r} has {length:,} bases, but this classifier reads a sequence as a whole, of 1 to {limit:,}; "
            "cut it, or choose a shorter region, around the place in question",
            record=name,
        )
    return None


class Prediction(NamedTuple):
    """What a classifier says of one sequence.

    Parameters
    ----------
    name
        The sequence's name.
    length
        Its letters.
    label
        Name of the most probable class; of several, the first.
    probabilities
        float64, shape (C,), in [0, 1], in the order of the model's `labels`; they sum to 1.
    """

    name: str
    length: int
    label: str
    probabilities: Probabilities


def predict_sequences(
    model: Classifier,
    sequences: Iterable[str | tuple[str, str] | HasSequence],
    *,
    tokenizer: CharacterTokenizer | None = None,
    rc: bool = False,
    batch_size: BatchSize = "auto",
    half: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Prediction]:
    """Classify sequences, one result per sequence, in their order.

    The model is used where it is and as it is: device and dtype are kept, and its training mode is restored after every batch. Memory is
    bounded: sequences are read some batches ahead and grouped by length.

    Parameters
    ----------
    model
        The classifier. `hyenadna.inference.runtime.load_classifier` loads it together with its tokenizer and the `rc` that it was chosen with.
    sequences
        Letters, ``(name, letters)`` pairs, or records with `name` and `sequence`, of 1 to `model.config.max_seq_len` bases each; read lazily. Letters
        alone are named by their place, from ``sequence_1`` on.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    rc
        Average the logits of each sequence and its reverse complement.
    batch_size
        Sequences per forward pass, or ``"auto"``: what the device's memory takes.
    half
        Matrix products in bfloat16: faster on GPUs; probabilities then change by some 1e-2, and with the batch.
    progress
        Called with the number of bases dealt with since the last call.

    Returns
    -------
    Iterator of Prediction
        In the order of the input; probabilities have the shape (C,).

    Raises
    ------
    ConfigError
        The model is no classifier, a setting is out of range, or one sequence does not fit into memory.
    SequenceLengthError
        A sequence is empty, or longer than the model reads.
    SequenceError
        A letter is no nucleotide code.
    DataError
        The model answers with NaN or infinity.

    Examples
    --------
    >>> from hyenadna import HyenaConfig, HyenaForSequenceClassification
    >>> config = HyenaConfig(d_model=8, n_layers=1, max_seq_len=64)
    >>> model = HyenaForSequenceClassification(config, labels=["other", "promoter", "enhancer"])
    >>> [found] = predict_sequences(model, [("read", "ACGTNACG")])
    >>> found.name, found.length, found.probabilities.shape
    ('read', 8, (3,))
    """
    if isinstance(sequences, str | bytes):
        raise TypeError("sequences is one string; pass a list of strings")
    tokenizer = require_classifying(model, tokenizer, batch_size)
    return _Run(model, tokenizer, rc, batch_size, half, progress).run(sequences)


class _Waiting:
    """A sequence whose result is due next, or later."""

    __slots__ = ("length", "name", "probabilities")

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length
        self.probabilities: Probabilities | None = None


class _Run:
    """One run over many sequences."""

    def __init__(
        self,
        model: Classifier,
        tokenizer: CharacterTokenizer,
        rc: bool,
        batch_size: BatchSize,
        half: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.model, self.tokenizer, self.rc, self.half = model, tokenizer, rc, half
        self.progress = progress or (lambda _: None)
        self.device = next(model.parameters()).device
        self.limit = model.config.max_seq_len
        self.max_rows = None if batch_size == "auto" else batch_size
        # Both strands are one batch of twice as many rows.
        self.max_tokens = max(1, automatic_batch_tokens(model.config, self.device) // (1 + rc))
        self.waiting: deque[_Waiting] = deque()  # in the order of the input

    def run(self, sequences: Iterable[str | tuple[str, str] | HasSequence]) -> Iterator[Prediction]:
        """Yield the predictions, each as soon as it and those before it are known."""
        pieces = (
            self._piece(*name_and_letters(item, number)) for number, item in enumerate(sequences)
        )
        cut = batches(pieces, limit=self.limit, max_tokens=self.max_tokens, max_rows=self.max_rows)
        for batch, found in forward_passes(self.model, cut, self._forward, half=self.half):
            if batch:
                self._add(batch, found[0])
            while self.waiting and self.waiting[0].probabilities is not None:
                yield self._result(self.waiting.popleft())

    def _piece(self, name: str, letters: str) -> tuple[Piece]:
        if (error := unreadable(name, len(letters), self.limit)) is not None:
            raise error
        token_ids = self.tokenizer.encode(letters, record=name)
        self.waiting.append(_Waiting(name, len(letters)))
        return (Piece(self.waiting[-1], token_ids, 0),)

    def _add(self, batch: Sequence[Piece], found: Probabilities) -> None:
        broken = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if broken.size:
            name = batch[broken[0]].owner.name
            raise DataError(
                f"the model classifies sequence {name!r} with NaN or infinity: its weights are damaged, or its training diverged; use another one"
            )
        for piece, row in zip(batch, found, strict=True):
            piece.owner.probabilities = row.copy()  # a view would keep its whole batch alive
        self.progress(sum(map(len, batch)))

    def _result(self, done: _Waiting) -> Prediction:
        assert done.probabilities is not None
        label = self.model.labels[int(done.probabilities.argmax())]
        return Prediction(done.name, done.length, label, done.probabilities)

    def _forward(self, batch: Sequence[Piece]) -> tuple[torch.Tensor]:
        """Return the probabilities of each piece: float64, shape (B, C)."""
        stacked = collate(batch, limit=self.limit, pad_token_id=self.tokenizer.pad_token_id)
        lengths = np.array([len(piece) for piece in batch])
        real = np.arange(stacked.shape[1]) < lengths[:, None]
        # No mask is the same as one that is True everywhere; a mask's check waits for the GPU.
        mask = None if real.all() else to_device(real, self.device)
        logits = self.model(to_device(stacked, self.device), mask, both_strands=self.rc)
        return (logits.double().softmax(-1),)
