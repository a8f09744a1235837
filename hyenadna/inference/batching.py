"""Batches for inference: pieces of sequences that have one padded length, formed inside a bounded look-ahead.

The one idea to know: the length to which a piece is padded follows from its own length, never from its neighbours'. A sequence
therefore goes through the same transforms alone and in any company, and its score does not depend on who came along.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hyenadna.models import HyenaConfig
from hyenadna.tokenizers import TokenIds

# Mantissas of the padded lengths: without prime factors beyond 7, which is what the transforms like, and ≤ 20 % apart.
_STEPS = (8, 9, 10, 12, 14, 15)
_CPU_BYTES = 32 << 20
_GPU_SHARE = 0.35
# Batches beyond would only make first results later, and memory fuller.
_MAX_BATCH_TOKENS = 1 << 19
_LOOK_AHEAD = 16  # batches' worth of tokens that are read before the shortest of them must go


@dataclass(slots=True)
class Piece:
    """A stretch of one sequence that the model reads at once.

    Parameters
    ----------
    owner
        What it belongs to, in its caller's terms.
    token_ids
        uint8, shape (L,), L ≥ 1.
    first
        0-based offset of the first token that is scored here; those before it are context.
    """

    owner: Any
    token_ids: TokenIds
    first: int

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.token_ids)


@functools.lru_cache(maxsize=1 << 16)
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
    groups: Iterable[Iterable[Piece]],
    *,
    limit: int,
    max_tokens: int,
    max_rows: int | None = None,
    max_groups: int = 1 << 14,
) -> Iterator[list[Piece]]:
    """Group pieces of one padded length into batches.

    A batch comes as soon as it is full. What has not filled one waits, but never longer than until some batches' worth of tokens, or `max_groups`, have been
    read: then all that waits comes, so that results which are due in the order of the input do not pile up.

    Parameters
    ----------
    groups
        The pieces of each sequence, of which there may be none; read lazily.
    limit
        Longest input of the model.
    max_tokens
        Padded tokens of a batch; a longer piece is a batch of its own.
    max_rows
        Pieces of a batch, None for no bound but `max_tokens`; where it is given, `max_tokens` is not looked at.
    max_groups
        Groups that may be read before everything that waits has come. If nothing does, an empty batch comes.
    """
    most = _LOOK_AHEAD * max(max_tokens, (max_rows or 1) * limit)
    waiting: dict[int, list[Piece]] = {}
    n_tokens = n_groups = 0

    def flush() -> Iterator[list[Piece]]:
        nonlocal n_tokens, n_groups
        n_tokens = n_groups = 0
        yield from waiting.values()
        waiting.clear()

    for group in groups:
        for piece in group:
            length = padded_length(len(piece), limit)
            members = waiting.setdefault(length, [])
            members.append(piece)
            if len(members) >= (max_rows or max_tokens // length):
                yield waiting.pop(length)
            n_tokens += length
            if n_tokens >= most:
                yield from flush()
        n_groups += 1
        if n_groups >= max_groups:
            yield from flush()
            yield []
    yield from flush()


def collate(batch: Sequence[Piece], *, limit: int, pad_token_id: int) -> TokenIds:
    """Stack pieces of one padded length, padded on the right: uint8, shape (B, padded length)."""
    length = padded_length(len(batch[0]), limit)
    token_ids = np.full((len(batch), length), pad_token_id, dtype=np.uint8)
    for row, piece in zip(token_ids, batch, strict=True):
        row[: len(piece)] = piece.token_ids
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
