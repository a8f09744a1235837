"""Batches for inference: pieces of sequences that have one padded length, formed inside a bounded look-ahead.

The one idea to know: the length to which a piece is padded follows from its own length, never from its neighbours'. A sequence
therefore goes through the same transforms alone and in any company, and its score does not depend on who came along.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hyenadna.models import HyenaConfig
from hyenadna.tokenizers import TokenIds

# Mantissas of the padded lengths: without prime factors beyond 7, which is what the transforms like, and ≤ 20 % apart.
_STEPS = (8, 9, 10, 12, 14, 15)
_CPU_BYTES = 32 << 20
_GPU_SHARE = 0.35
_MAX_BATCH_TOKENS = 1 << 22


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one sequence that the model reads at once.

    Parameters
    ----------
    owner
        Number of the sequence it belongs to.
    token_ids
        uint8, shape (L,), L ≥ 1.
    first
        0-based offset of the first token that is scored here; those before it are context.
    """

    owner: int
    token_ids: TokenIds
    first: int


def padded_length(length: int, limit: int) -> int:
    """Return the length to which a piece is padded: the least of a fixed grid that holds it, at most `limit`.

    Parameters
    ----------
    length
        Tokens, 1 ≤ length ≤ limit.
    limit
        Longest input of the model.

    Examples
    --------
    >>> [padded_length(n, 1026) for n in (1, 70, 300, 1000, 1025)]
    [8, 72, 320, 1024, 1026]
    """
    scale = 1 << max(0, (length - 1).bit_length() - 4)
    while True:
        for step in _STEPS:
            if step * scale >= length:
                return min(step * scale, limit)
        scale *= 2


def windows(length: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Cut a sequence into overlapping windows so that every token but the first is scored exactly once.

    Parameters
    ----------
    length
        Tokens of the sequence, ≥ 1.
    window
        Tokens of a window, ≥ 2; the last one may be shorter.
    stride
        Distance of window starts, 1 ≤ stride < window. A token beyond the first window is scored with at least
        ``window − stride`` tokens before it.

    Yields
    ------
    tuple of int
        start and end of the window in the sequence, and the offset in the window of the first token that it scores.

    Examples
    --------
    >>> list(windows(10, 4, 2))
    [(0, 4, 1), (2, 6, 2), (4, 8, 2), (6, 10, 2)]
    """
    for start in itertools.count(0, stride):
        end = min(start + window, length)
        yield start, end, window - stride if start else 1
        if end == length:
            return


def batches(
    pieces: Iterable[Piece], *, limit: int, max_tokens: int, max_rows: int | None = None
) -> Iterator[list[Piece]]:
    """Group pieces of one padded length into batches.

    Parameters
    ----------
    pieces
        As many as one look-ahead holds.
    limit
        Longest input of the model.
    max_tokens
        Padded tokens of a batch; a longer piece is a batch of its own.
    max_rows
        Pieces of a batch, None for no bound but `max_tokens`; where it is given, `max_tokens` is not looked at.
    """
    by_length = sorted(pieces, key=lambda piece: padded_length(len(piece.token_ids), limit))
    for length, group in itertools.groupby(
        by_length, key=lambda piece: padded_length(len(piece.token_ids), limit)
    ):
        rows = max_rows or max(1, max_tokens // length)
        members = list(group)
        for i in range(0, len(members), rows):
            yield members[i : i + rows]


def collate(batch: Sequence[Piece], *, limit: int, pad_token_id: int) -> TokenIds:
    """Stack pieces of one padded length, padded on the right: uint8, shape (B, padded length)."""
    length = padded_length(len(batch[0].token_ids), limit)
    token_ids = np.full((len(batch), length), pad_token_id, dtype=np.uint8)
    for row, piece in zip(token_ids, batch, strict=True):
        row[: len(piece.token_ids)] = piece.token_ids
    return token_ids


def automatic_batch_tokens(config: HyenaConfig, device: torch.device) -> int:
    """Return how many tokens a batch may hold on a device: a share of the free GPU memory, or what a CPU's caches like.

    Parameters
    ----------
    config
        The model's shape; a token needs about ``d_model · (hyena_order + 12) + inner_dim · 2`` floats of activations: the 12 are the long
        convolution's, times the channels of a head where heads mix them. Attention and short convolutions need less.
    device
        Where the model is.
    """
    channels = config.hyena_head_dim if "hyena" in config.layer_mixers else 1
    of_mixer = config.d_model * (config.hyena_order + 12 * channels)
    per_token = 4 * (of_mixer + 2 * config.inner_dim)
    if device.type == "cuda":
        # What torch keeps for its next tensors is free, too: a second run in a process gets batches like the first one's.
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + kept
        return min(_MAX_BATCH_TOKENS, max(1, int(free * _GPU_SHARE / per_token)))
    return max(1, _CPU_BYTES // per_token)
