"""Sequence classification: loss, class weights, reading one or both strands, and prediction for a whole set.

Prediction is here, and not in the training loop, so that dev, test and later use of a saved model go through the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hyenadna.data.collate import pad_right, prediction_batches
from hyenadna.errors import SequenceLengthError
from hyenadna.models import Classifier
from hyenadna.tokenizers import CharacterTokenizer

Strands = Literal["forward", "predict_both", "both"]
STRANDS: tuple[str, ...] = get_args(Strands)


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


@torch.no_grad()
def predict_probabilities(
    model: Classifier,
    sequences: Sequence[str],
    *,
    tokenizer: CharacterTokenizer,
    both_strands: bool = False,
    batch_size: int = 64,
) -> npt.NDArray[np.float64]:
    """Predict class probabilities of any number of sequences.

    Parameters
    ----------
    model
        Read in evaluation mode on the device where it is; its mode is restored.
    sequences
        n strings of nucleotide letters, each of 1 to `model.config.max_seq_len` bases, of any mixture of lengths.
    tokenizer
        The model's tokenizer.
    both_strands
        Average the logits of each sequence and its reverse complement.
    batch_size
        Sequences in a batch; it has no effect on the result beyond rounding.

    Returns
    -------
    numpy.ndarray
        float64, shape (n, C), in the order of the sequences; rows sum to 1.

    Raises
    ------
    SequenceLengthError
        A sequence is empty, or longer than the model reads.
    """
    device = next(model.parameters()).device
    ids = [tokenizer.encode(sequence) for sequence in sequences]
    limit = model.config.max_seq_len
    for number, sequence in enumerate(ids):
        if not 1 <= sequence.size <= limit:
            raise SequenceLengthError(
                f"sequence {number + 1} has {sequence.size:,} bases, but the model reads 1 to {limit:,}",
                record=str(number + 1),
            )
    result = np.empty((len(ids), model.n_classes))
    was_training = model.training
    model.eval()
    try:
        for length, rows in prediction_batches([x.size for x in ids], batch_size, limit=limit):
            batch = [ids[i] for i in rows]
            token_ids, mask = (
                torch.from_numpy(x).to(device)
                for x in pad_right(batch, pad_token_id=tokenizer.pad_token_id, length=length)
            )
            logits = model(token_ids, mask, both_strands=both_strands)
            result[rows] = logits.double().softmax(-1).cpu().numpy()
    finally:
        model.train(was_training)
    return result
