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
    padded_length,
    windows,
)
from hyenadna.inference.forward import BatchSize, in_fitting_batches, scoring_mode
from hyenadna.inference.likelihood import HasSequence, name_and_letters, resolve_windows
from hyenadna.models import HyenaModel
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["Embedding", "Pooling", "Strands", "embed_sequences"]

Pooling = Literal["mean", "last", "max", "none"]
Strands = Literal["forward", "average", "both"]
Vectors = npt.NDArray[np.float32]

_LOOK_AHEAD = 16  # batches' worth of tokens that are read before the first of them is embedded


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
        Longest stretch, in bases, that the model reads at once: 2 … `max_seq_len`, which is the default.
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
    """What is known of one strand of a sequence so far."""

    def __init__(self, length: int, width: int, pooling: Pooling) -> None:
        self.length = length
        shape = (length, width) if pooling == "none" else (width,)
        # float64, in which the order of sums does not matter, only for the one vector of a mean
        dtype = np.float64 if pooling == "mean" else np.float32
        self.values: npt.NDArray[Any] = np.full(shape, -np.inf if pooling == "max" else 0, dtype)

    def result(self, pooling: Pooling) -> Vectors:
        values = self.values / self.length if pooling == "mean" else self.values
        return values.astype(np.float32, copy=False)


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
        self.parts: dict[int, _Part] = {}

    def run(self, sequences: Iterable[str | tuple[str, str] | HasSequence]) -> Iterator[Embedding]:
        """Yield the embeddings; what is read ahead is computed whenever it fills the look-ahead."""
        waiting: deque[tuple[str, list[_Strand]]] = deque()
        ahead: list[Piece] = []
        n_tokens = 0
        most = _LOOK_AHEAD * max(self.max_tokens, (self.max_rows or 1) * self.window)
        for number, item in enumerate(sequences):
            name, letters = name_and_letters(item, number)
            strands, pieces = self._pieces(name, letters)
            waiting.append((name, strands))
            ahead += pieces
            n_tokens += sum(padded_length(len(piece.token_ids), self.window) for piece in pieces)
            if n_tokens >= most:
                self._compute(ahead)
                ahead, n_tokens = [], 0
                while waiting:
                    yield self._finish(*waiting.popleft())
        self._compute(ahead)
        while waiting:
            yield self._finish(*waiting.popleft())

    def _pieces(self, name: str, letters: str) -> tuple[list[_Strand], list[Piece]]:
        if not letters:
            raise SequenceLengthError(
                f"sequence {name!r} is empty; at least one base is needed", record=name
            )
        forward = self.tokenizer.encode(letters, record=name)
        read = [forward]
        if self.strands != "forward":
            read.append(self.tokenizer.reverse_complement(forward))
        strands, pieces = [], []
        for token_ids in read:
            strand = _Strand(len(token_ids), self.model.config.d_model, self.pooling)
            strands.append(strand)
            for start, end, first in windows(len(token_ids), self.window, self.stride):
                new = first if start else 0  # likelihoods leave the first base out, states do not
                owner = len(self.parts)
                self.parts[owner] = _Part(strand, start + new)
                pieces.append(Piece(owner, token_ids[start:end], new))
        return strands, pieces

    def _finish(self, name: str, strands: list[_Strand]) -> Embedding:
        found = [strand.result(self.pooling) for strand in strands]
        if self.pooling == "none" and len(found) == 2:
            found[1] = found[1][::-1]
        values = found[0]
        if self.strands == "both":
            values = np.concatenate(found, axis=-1)
        elif self.strands == "average":
            values = np.mean(found, axis=0, dtype=np.float32)
        if not np.isfinite(values).all():
            raise DataError(
                f"the model embeds sequence {name!r} with NaN or infinity: its weights are damaged, or its training diverged; use another one"
            )
        return Embedding(name, strands[0].length, values)

    def _compute(self, pieces: Sequence[Piece]) -> None:
        for batch in batches(
            pieces, limit=self.window, max_tokens=self.max_tokens, max_rows=self.max_rows
        ):
            for piece, found in zip(batch, in_fitting_batches(batch, self._forward, self.device), strict=True):  # fmt: skip
                self._add(piece, found)
            self.progress(sum(len(piece.token_ids) - piece.first for piece in batch))
        self.parts.clear()

    def _add(self, piece: Piece, found: Vectors) -> None:
        strand, start = self.parts[piece.owner]
        if self.pooling == "mean":
            strand.values += found
        elif self.pooling == "max":
            np.maximum(strand.values, found, out=strand.values)
        elif self.pooling == "none":
            strand.values[start : start + len(found)] = found
        elif start + len(piece.token_ids) - piece.first == strand.length:
            strand.values[:] = found

    def _forward(self, batch: Sequence[Piece]) -> list[Vectors]:
        """Return for each piece the sum, the maximum, the last or all of the states of its new bases."""
        stacked = collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)
        first = torch.tensor([piece.first for piece in batch], device=self.device)
        length = torch.tensor([len(piece.token_ids) for piece in batch], device=self.device)
        at = torch.arange(stacked.shape[1], device=self.device)
        mask = at < length[:, None]
        with scoring_mode(self.model, half=self.half):
            hidden = self._hidden(torch.from_numpy(stacked).to(self.device), mask).float()
            if self.pooling == "none":
                rows = hidden.cpu().numpy()
                return [row[piece.first : len(piece.token_ids)] for row, piece in zip(rows, batch, strict=True)]  # fmt: skip
            if self.pooling == "last":
                pooled = hidden[torch.arange(len(batch), device=self.device), length - 1]
            else:
                real = ((at >= first[:, None]) & mask)[..., None]
                if self.pooling == "mean":
                    pooled = torch.where(real, hidden, 0.0).sum(dim=1)
                else:
                    pooled = torch.where(real, hidden, -torch.inf).amax(dim=1)
            return list(pooled.cpu().numpy())

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
