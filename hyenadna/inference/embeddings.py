"""Embeddings of sequences: a model's hidden states, one vector a sequence or one a base, on one strand or both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.errors import ConfigError, DataError, SequenceLengthError
from hyenadna.inference.batching import (
    Piece,
    automatic_batch_tokens,
    batches,
    collate,
    windows,
)
from hyenadna.inference.forward import BatchSize, forward_passes, to_device
from hyenadna.inference.likelihood import HasSequence, name_and_letters, resolve_windows
from hyenadna.models import HyenaModel
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["Embedding", "Pooling", "Strands", "embed_sequences"]

Pooling = Literal["mean", "last", "max", "none"]
Strands = Literal["forward", "average", "both"]
Vectors = npt.NDArray[np.float32]


class Embedding(NamedTuple):
    """One sequence's embedding.

    Parameters
    ----------
    name
        The sequence's name.
    length
        Its letters L.
    values
        float32, shape (E,), or (L, E) one row a base; E is the model's width D, 2·D where both strands are kept.
    """

    name: str
    length: int
    values: Vectors


def embed_sequences(
    model: HyenaModel,
    sequences: Iterable[str | tuple[str, str] | HasSequence],
    *,
    tokenizer: CharacterTokenizer | None = None,
    layer: int | None = None,
    pooling: Pooling = "mean",
    strands: Strands = "forward",
    batch_size: BatchSize = "auto",
    window: int | None = None,
    stride: int | None = None,
    half: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Embedding]:
    """Embed sequences, one result per sequence, in their order.

    The model is used where it is and as it is: device and dtype are kept, and its training mode is restored after every batch. Memory is
    bounded: sequences are read some batches ahead and grouped by length; padding has no part in any result.

    Parameters
    ----------
    model
        A language model, causal or masked, or a classifier.
    sequences
        Letters, ``(name, letters)`` pairs, or records with `name` and `sequence`; read lazily.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    layer
        0 is the embedding of the tokens, i the output of the i-th block; None the last one's after the final layer norm.
    pooling
        Over the bases of a sequence: their ``"mean"``, the ``"last"`` one's state, the ``"max"`` of each component, or ``"none"``: one row a base.
    strands
        ``"forward"``; the ``"average"`` of both strands, or ``"both"``, the forward strand's components before the reverse strand's. Rows of bases
        stand at the forward strand's positions. An equivariant model's components are those of both strands already, in pairs (2j, 2j + 1): reading the other strand
        exchanges them, and ``"average"`` gives both of a pair their mean, which does not depend on the strand.
    batch_size
        Sequences (or windows) per forward pass, or ``"auto"``: what the device's memory takes.
    window
        Longest stretch, in bases, that the model reads at once: 2 … `max_seq_len`; see `hyenadna.inference.likelihood.default_window` for the default.
    stride
        Distance of window starts, by default half the window: a base beyond the first window is read with at least ``window − stride`` before it. A
        bidirectional model sees those behind it as far as the same window goes.
    half
        Matrix products in bfloat16; results then change by some 1e-2 of their size, and with the batch.
    progress
        Called with the number of bases dealt with since the last call, each strand counted.

    Returns
    -------
    Iterator of Embedding
        In the order of the input.

    Raises
    ------
    ConfigError
        A setting is out of range, or one window does not fit into memory.
    SequenceLengthError, SequenceError
        A sequence is empty, or a letter no nucleotide code.
    DataError
        The model answers with NaN or infinity.

    Examples
    --------
    >>> from hyenadna import HyenaConfig, HyenaForCausalLM
    >>> model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=64))
    >>> [found] = embed_sequences(model, [("read", "ACGTNACG")], strands="both")
    >>> found.name, found.values.shape
    ('read', (16,))
    """
    if isinstance(sequences, str | bytes):
        raise TypeError("sequences is one string; pass a list of strings")
    for what, value, kinds in (("pooling", pooling, Pooling), ("strands", strands, Strands)):
        if value not in get_args(kinds):
            raise ConfigError(
                f"{what} {value!r} is unknown; expected one of {', '.join(get_args(kinds))}"
            )
    if layer is not None and not 0 <= layer <= model.config.n_layers:
        raise ConfigError(
            f"layer is {layer}; expected 0 (the embedding) to {model.config.n_layers}, the last block of this model"
        )
    window, stride = resolve_windows(model.config.max_seq_len, window, stride)
    run = _Run(model, tokenizer or CharacterTokenizer(), layer, pooling, strands, batch_size, window, stride, half, progress)  # fmt: skip
    return run.run(sequences)


class _Strand:
    """One strand of a sequence.

    Parameters
    ----------
    length
        Its bases.
    n_left
        Its windows without a result.
    """

    __slots__ = ("length", "n_left", "values")

    def __init__(self, length: int, n_left: int) -> None:
        self.length, self.n_left = length, n_left
        #: What the windows so far make together; None before the first.
        self.values: npt.NDArray[Any] | None = None


class _Waiting(NamedTuple):
    """A sequence whose results are due next, or later."""

    name: str
    strands: list[_Strand]


class _Part(NamedTuple):
    """Where a piece belongs: its strand, and the place there of its first new base."""

    strand: _Strand
    start: int


class _Run:
    """One run over many sequences."""

    def __init__(
        self,
        model: HyenaModel,
        tokenizer: CharacterTokenizer,
        layer: int | None,
        pooling: Pooling,
        strands: Strands,
        batch_size: BatchSize,
        window: int,
        stride: int,
        half: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.model, self.tokenizer, self.layer = model, tokenizer, layer
        self.pooling: Pooling = pooling
        self.strands, self.window, self.stride, self.half = strands, window, stride, half
        self.progress = progress or (lambda _: None)
        self.device = next(model.parameters()).device
        self.max_rows = None if batch_size == "auto" else batch_size
        self.max_tokens = automatic_batch_tokens(model.config, self.device)
        self.waiting: deque[_Waiting] = deque()  # in the order of the input

    def run(self, sequences: Iterable[str | tuple[str, str] | HasSequence]) -> Iterator[Embedding]:
        """Yield the embeddings, each as soon as it and those before it are known."""
        pieces = (
            self._pieces(*name_and_letters(item, number)) for number, item in enumerate(sequences)
        )
        cut = batches(pieces, limit=self.window, max_tokens=self.max_tokens, max_rows=self.max_rows)
        for batch, found in forward_passes(self.model, cut, self._forward, half=self.half):
            if batch:
                self._add(batch, found[0])
            yield from self._finished()

    def _pieces(self, name: str, letters: str) -> list[Piece]:
        if not letters:
            raise SequenceLengthError(
                f"sequence {name!r} is empty; at least one base is needed", record=name
            )
        forward = self.tokenizer.encode(letters, record=name)
        read = [forward]
        if self.strands != "forward":
            read.append(self.tokenizer.reverse_complement(forward))
        pieces = []
        spans = list(windows(len(forward), self.window, self.stride))
        strands = [_Strand(len(forward), len(spans)) for _ in read]
        for token_ids, strand in zip(read, strands, strict=True):
            for start, end, first in spans:
                new = first if start else 0  # likelihoods leave the first base out, states do not
                pieces.append(Piece(_Part(strand, start + new), token_ids[start:end], new))
        self.waiting.append(_Waiting(name, strands))
        return pieces

    def _finished(self) -> Iterator[Embedding]:
        while self.waiting and not any(strand.n_left for strand in self.waiting[0].strands):
            yield self._result(*self.waiting.popleft())

    def _result(self, name: str, strands: list[_Strand]) -> Embedding:
        found = [cast("npt.NDArray[Any]", strand.values) for strand in strands]
        if self.pooling == "none" and len(found) == 2:
            found[1] = found[1][::-1]
        values: npt.NDArray[Any] = found[0]
        if self.strands == "both":
            values = np.concatenate(found, axis=-1)
        elif self.strands == "average":
            values = (found[0] + found[1]) / 2
        if self.pooling != "none":  # else it would keep its whole batch alive
            values = np.array(values, dtype=np.float32)
        return Embedding(name, strands[0].length, values)

    def _add(self, batch: Sequence[Piece], found: npt.NDArray[Any]) -> None:
        """Add what the model says of some pieces: a row (E,) each, or one a base, (padded length, E)."""
        strands, starts = zip(*(piece.owner for piece in batch), strict=True)
        rows: Sequence[npt.NDArray[Any]] = list(found)
        if self.pooling == "none":
            rows = [row[piece.first : len(piece)] for row, piece in zip(rows, batch, strict=True)]
            is_fine = [bool(np.isfinite(row).all()) for row in rows]
        else:
            is_fine = np.isfinite(found).all(axis=1).tolist()
        if not all(is_fine):
            broken = strands[is_fine.index(False)]
            name = next(name for name, members in self.waiting if broken in members)
            raise DataError(
                f"the model embeds sequence {name!r} with NaN or infinity: its weights are damaged, or its training diverged; use another one"
            )
        if self.pooling == "mean":
            # Shares of the mean, in float64, in which the order of their sum does not matter
            lengths = np.array([strand.length for strand in strands])
            rows = list(found.astype(np.float64) / lengths[:, None])
        for piece, strand, start, row in zip(batch, strands, starts, rows, strict=True):
            is_last = start + len(piece) - piece.first == strand.length
            if self.pooling != "last" or is_last:
                strand.values = self._joined(strand, start, row)
            strand.n_left -= 1
        self.progress(sum(len(piece) - piece.first for piece in batch))

    def _joined(self, strand: _Strand, start: int, row: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what a strand's former windows and one more make together."""
        so_far = strand.values
        if self.pooling == "none":
            if so_far is None:
                so_far = np.empty((strand.length, row.shape[1]), np.float32)
            so_far[start : start + len(row)] = row
            return so_far
        if so_far is None:
            return row
        joined: npt.NDArray[Any] = np.maximum(so_far, row) if self.pooling == "max" else so_far + row  # fmt: skip
        return joined

    def _forward(self, batch: Sequence[Piece]) -> tuple[torch.Tensor]:
        """Return for each piece the sum, the maximum, the last or all of the states of its new bases."""
        stacked = collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)
        first = to_device(np.array([piece.first for piece in batch]), self.device)
        length = to_device(np.array([len(piece) for piece in batch]), self.device)
        at = torch.arange(stacked.shape[1], device=self.device)
        mask = at < length[:, None]
        hidden = self._hidden(to_device(stacked, self.device), mask).float()
        if self.pooling == "none":
            return (hidden,)
        if self.pooling == "last":
            return (hidden[torch.arange(len(batch), device=self.device), length - 1],)
        real = ((at >= first[:, None]) & mask)[..., None]
        if self.pooling == "mean":
            return (torch.where(real, hidden, 0.0).sum(dim=1),)
        return (torch.where(real, hidden, -torch.inf).amax(dim=1),)

    def _hidden(self, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the states (B, L, D) of the layer."""
        backbone = self.model.backbone
        if self.layer is None:
            return cast(torch.Tensor, backbone(token_ids, mask))
        seen: list[torch.Tensor] = []
        layer = backbone.layers[self.layer - 1] if self.layer else backbone.embed_dropout
        handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
        try:
            backbone(token_ids, mask)
        finally:
            handle.remove()
        return seen[0]
