"""Bits per byte and the perplexity of words of a language model on whole texts, with sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from hyenadna.data.text import TextSpan, TextTiles, count_words
from hyenadna.models import HyenaForCausalLM
from hyenadna.tasks.objectives import NextByte
from hyenadna.training.evaluate import evaluating, resolve_window
from hyenadna.training.text_data import TextBatches
from hyenadna.training.text_module import text_measures

__all__ = ["TextEvaluation", "evaluate_text"]


class TextEvaluation(NamedTuple):
    """Numbers of one evaluation.

    Parameters
    ----------
    n_scored
        Number of scored bytes: all of the texts, unless they were thinned.
    n_bytes, n_words
        Of the texts; words as `hyenadna.data.text.count_words` counts them.
    loss_nats
        Mean −log p, nats per byte.
    bits_per_byte
        The same in bits.
    word_perplexity
        exp(nats per byte · bytes per word), None where that is no number.
    window, context
        Longest input in bytes, and the least number of bytes before a scored one, except at the beginning of a text.
    """

    n_scored: int
    n_bytes: int
    n_words: int
    loss_nats: float
    bits_per_byte: float
    word_perplexity: float | None
    window: int
    context: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return self._asdict()


def evaluate_text(
    model: HyenaForCausalLM,
    spans: Sequence[TextSpan],
    *,
    window: int | None = None,
    context: int | None = None,
    max_bytes: int | None = None,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> TextEvaluation:
    """Score every byte of some texts once.

    Parameters
    ----------
    model
        Of bytes. Used on `device` in evaluation mode; both are as before afterwards.
    spans
        The texts.
    window
        Length of an input, bytes; None takes the model's longest, at most 32,768.
    context
        Bytes at the front of each window that are only read, but at a text's beginning: 1 … window − 1. None takes a quarter of the window.
    max_bytes
        Score evenly thinned windows of about so many bytes; None scores all.
    batch_size
        Windows per forward pass.
    device
        Where the model computes.
    progress
        Called with the number of bytes scored since the last call.

    Raises
    ------
    ConfigError
        The window or context is impossible for the model.
    DataError
        There is no text.
    """
    window, context = resolve_window(model.config.max_seq_len, window, context)
    limit = None if max_bytes is None else max(1, max_bytes // (window - context))
    tiles = TextTiles(spans, window, context=context, limit=limit)
    objective = NextByte()
    nats, n_scored = 0.0, 0
    batches = TextBatches(tiles, batch_size)
    with evaluating(model, device), torch.inference_mode():
        for number in range(len(batches)):
            batch = batches[number]
            ids, firsts = batch.token_ids.to(device), batch.firsts.to(device)
            loss = objective.scored_from(model, ids, firsts)
            nats += float(loss.nats)
            n_scored += int(loss.n_scored)
            if progress is not None:
                progress(int(loss.n_scored))
    n_bytes, n_words = sum(span.n_bytes for span in spans), count_words(spans)
    found = text_measures(nats / max(n_scored, 1), n_bytes / n_words if n_words else None)
    return TextEvaluation(
        n_scored=n_scored, n_bytes=n_bytes, n_words=n_words, loss_nats=found["loss_nats"], bits_per_byte=found["bits_per_byte"],
        word_perplexity=found.get("word_perplexity"), window=window, context=context,
    )  # fmt: skip
