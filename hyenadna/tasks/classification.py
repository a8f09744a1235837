"""Sequence classification: loss, class weights, reading one or both strands, and prediction for a whole set.

Prediction is here, and not in the training loop, so that dev, test and later use of a saved model go through the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from hyenadna.data.collate import pad_right, prediction_batches
from hyenadna.errors import SequenceLengthError
from hyenadna.models import HyenaForSequenceClassification
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


def complement_table(tokenizer: CharacterTokenizer) -> Tensor:
    """Return the complementary id of each token id, uint8, shape (V,)."""
    return torch.from_numpy(tokenizer.complement(np.arange(tokenizer.vocab_size, dtype=np.uint8)))


def strand_logits(
    model: HyenaForSequenceClassification,
    token_ids: Tensor,
    mask: Tensor,
    *,
    complement: Tensor | None = None,
) -> Tensor:
    """Return class logits of a batch, of one strand or averaged over both.

    Parameters
    ----------
    token_ids
        Integers, shape (B, L), padded on the right.
    mask
        bool, shape (B, L), True at real tokens.
    complement
        From `complement_table`, to read the other strand too; the result is then the same for a sequence and its
        reverse complement. None reads the sequences as they are.

    Returns
    -------
    Tensor
        Shape (B, C).
    """
    if complement is None:
        return cast(Tensor, model(token_ids, mask))
    other = reverse_complement_padded(token_ids, mask, complement)
    both = model(torch.cat([token_ids, other]), torch.cat([mask, mask]))
    return cast(Tensor, both.view(2, len(token_ids), -1).mean(0))


@torch.no_grad()
def predict_probabilities(
    model: HyenaForSequenceClassification,
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
    complement = complement_table(tokenizer) if both_strands else None
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
            logits = strand_logits(model, token_ids, mask, complement=complement)
            result[rows] = logits.double().softmax(-1).cpu().numpy()
    finally:
        model.train(was_training)
    return result
