"""Sequence classification as pure functions of logits: loss, class weights, probabilities, both strands."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F


def balanced_class_weights(labels: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.float64]:
    """Return weights inversely proportional to class frequency, with mean 1 over the rows.

    Parameters
    ----------
    labels
        Integers, shape (n,), in 0…C-1; every class occurs.

    Returns
    -------
    numpy.ndarray
        float64, shape (C,).
    """
    counts = np.bincount(np.asarray(labels), minlength=n_classes)
    return np.asarray(counts.sum() / (n_classes * counts), dtype=np.float64)


def classification_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross-entropy of a batch, in nats, as a scalar in float32.

    Parameters
    ----------
    logits
        Shape (B, C), any float type.
    labels
        int64, shape (B,), in 0…C-1.
    class_weights
        Shape (C,), > 0. A row counts with the weight of its class, and the sum is divided by B, so that the gradient of a
        batch does not depend on which classes it happens to hold.
    label_smoothing
        Share of the target spread over all classes, in [0, 1).
    """
    losses = F.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=label_smoothing
    )
    if class_weights is not None:
        losses = losses * class_weights[labels]
    return losses.mean()


def reverse_complement_padded(token_ids: Tensor, mask: Tensor, complement: Tensor) -> Tensor:
    """Return the other strand of right-padded sequences, padded on the right again.

    Parameters
    ----------
    token_ids
        Integers, shape (B, L).
    mask
        bool, shape (B, L), True at real tokens, which are the first of each row.
    complement
        Integers, shape (V,): the complementary id of each id.

    Returns
    -------
    Tensor
        Shape (B, L), of the type of `token_ids`; padding is copied.
    """
    length = token_ids.shape[1]
    positions = torch.arange(length, device=token_ids.device)
    mirrored = mask.sum(1, keepdim=True) - 1 - positions
    flipped = token_ids.gather(1, mirrored.clamp_min(0))
    complemented = complement.to(token_ids.device, token_ids.dtype)[flipped.long()]
    return torch.where(mask, complemented, token_ids)


def mean_probabilities(*logits: Tensor) -> Tensor:
    """Average class probabilities over several readings of the same sequences, such as its two strands.

    Parameters
    ----------
    logits
        Each of shape (B, C).

    Returns
    -------
    Tensor
        float32, shape (B, C), each row sums to 1.
    """
    return torch.stack([reading.float().softmax(-1) for reading in logits]).mean(0)
