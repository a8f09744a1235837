"""The objective of a causal language model: predict the next base.

Scored are the targets A, C, G and T; N, padding and the first base of a window are only read. Probabilities are the softmax
over the whole vocabulary, so a model pays for what it gives to tokens that never come.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn import functional

BASE_TOKEN_IDS = (7, 8, 9, 10)
"""Ids of A, C, G, T in the nucleotide tokenizer: consecutive."""
_IGNORED = -100


class LossSum(NamedTuple):
    """Sums over scored targets, to be added over batches and devices before any division.

    Parameters
    ----------
    weighted
        Σ weight · −log p, nats, scalar; carries the gradient.
    weight
        Σ weight, scalar.
    nats
        Σ −log p of every scored target at weight 1, nats, scalar, without gradient.
    n_scored
        Number of scored targets, scalar.
    """

    weighted: torch.Tensor
    weight: torch.Tensor
    nats: torch.Tensor
    n_scored: torch.Tensor


def scored_targets(token_ids: torch.Tensor) -> torch.Tensor:
    """Say which tokens are scored as targets.

    Parameters
    ----------
    token_ids
        Any integer dtype, shape (B, L).

    Returns
    -------
    torch.Tensor
        bool, shape (B, L − 1): entry t is about token t + 1.
    """
    return _is_base(token_ids[:, 1:])


def _is_base(token_ids: torch.Tensor) -> torch.Tensor:
    return (token_ids >= BASE_TOKEN_IDS[0]) & (token_ids <= BASE_TOKEN_IDS[-1])


def target_weight(
    token_ids: torch.Tensor, soft_mask: torch.Tensor | None, soft_mask_weight: float
) -> torch.Tensor:
    """Return the weight of each target.

    Parameters
    ----------
    token_ids
        Any integer dtype, shape (B, L).
    soft_mask
        bool, shape (B, L), True at lower-case bases; None where there is none.
    soft_mask_weight
        Weight of targets under the soft mask, 0…1.

    Returns
    -------
    torch.Tensor
        float32, shape (B, L − 1); 0 where the target is not scored.
    """
    weight = scored_targets(token_ids).float()
    if soft_mask is not None:
        weight = torch.where(soft_mask[:, 1:], weight * soft_mask_weight, weight)
    return weight


def next_base_loss(
    logits: torch.Tensor, token_ids: torch.Tensor, *, weight: torch.Tensor | None = None
) -> LossSum:
    """Sum the cross-entropy of the next base over a batch.

    Parameters
    ----------
    logits
        Floating point, shape (B, L, V); position t scores token t + 1. Computed on in float32 or better.
    token_ids
        Any integer dtype, shape (B, L).
    weight
        From `target_weight`, shape (B, L − 1); None weighs every scored target 1.

    Returns
    -------
    LossSum
        Sums in float32 (float64 for float64 logits).
    """
    return summed_loss(logits[:, :-1], token_ids[:, 1:], weight)


def summed_loss(
    logits: torch.Tensor,
    token_ids: torch.Tensor,
    weight: torch.Tensor | None,
    *,
    scored: torch.Tensor | None = None,
) -> LossSum:
    """Sum −log p of those tokens that are scored, each under the logits of its own place.

    Parameters
    ----------
    logits
        Floating point, shape (B, T, V). Computed on in float32 or better.
    token_ids
        Any integer dtype, shape (B, T).
    weight
        Shape (B, T); None weighs every scored token 1.
    scored
        bool, shape (B, T); None scores A, C, G and T.

    Returns
    -------
    LossSum
        Sums in float32 (float64 for float64 logits).
    """
    if scored is None:
        scored = _is_base(token_ids)
    targets = token_ids.long().masked_fill(~scored, _IGNORED)
    precise = logits if logits.dtype == torch.float64 else logits.float()
    nats = functional.cross_entropy(
        precise.reshape(-1, logits.shape[-1]),
        targets.reshape(-1),
        ignore_index=_IGNORED,
        reduction="none",
    ).view(targets.shape)
    n_scored = scored.sum()
    total = nats.sum()
    if weight is None:
        return LossSum(total, n_scored.to(total.dtype), total.detach(), n_scored)
    weight = weight * scored
    return LossSum((nats * weight).sum(), weight.sum().to(total.dtype), total.detach(), n_scored)


def bits_per_base(mean_nats: float) -> float:
    """Convert nats per base to bits per base.

    Examples
    --------
    >>> bits_per_base(math.log(4))
    2.0
    """
    return mean_nats / math.log(2)
