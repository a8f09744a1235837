"""Test metrics of a saved classifier on a labelled file."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.collate import pad_right
from hyenadna.data.labelled import LabelledSet
from hyenadna.models import Classifier
from hyenadna.tasks.metrics import ClassificationMetrics, classification_metrics
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.evaluate import evaluating


class ClassifierEvaluation(NamedTuple):
    """Metrics, and the predictions they are of.

    Parameters
    ----------
    metrics
        Over the whole file, with bootstrap intervals.
    probabilities
        float64, shape (n, C), in the order of the file.
    """

    metrics: ClassificationMetrics
    probabilities: npt.NDArray[np.float64]


def evaluate_classifier(
    model: Classifier,
    rows: LabelledSet,
    *,
    tokenizer: CharacterTokenizer | None = None,
    rc: bool = False,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> ClassifierEvaluation:
    """Classify every sequence and compare with its label.

    Parameters
    ----------
    model
        Used on `device` in evaluation mode; both are as before afterwards.
    rows
        Sequences with their classes.
    tokenizer
        The one that lies beside the model; None takes the default nucleotide tokenizer.
    rc
        Average the probabilities of both strands.
    batch_size
        Sequences per forward pass; the result does not depend on it.
    device
        Where the model computes.
    seed
        Of the bootstrap.
    progress
        Called with the number of sequences done since the last call.

    Raises
    ------
    DataError
        There is no row, or a prediction is not finite.
    """
    tokenizer = tokenizer or CharacterTokenizer()
    ids = [tokenizer.encode(sequence) for sequence in rows.sequences]
    probabilities = np.zeros((len(rows), model.n_classes))
    strands = (lambda x: x, tokenizer.reverse_complement) if rc else (lambda x: x,)
    with evaluating(model, device), torch.inference_mode():
        # by length, so that little is padding
        order = np.argsort([len(x) for x in ids], kind="stable")
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            for strand in strands:
                batch = pad_right(
                    [strand(ids[i]) for i in numbers], pad_token_id=tokenizer.pad_token_id
                )
                logits = model(
                    torch.from_numpy(batch.token_ids).to(device),
                    torch.from_numpy(batch.mask).to(device),
                )
                p = torch.softmax(logits.double(), dim=-1).cpu().numpy()
                probabilities[numbers] += p / len(strands)
            if progress is not None:
                progress(len(numbers))
    return ClassifierEvaluation(
        classification_metrics(rows.labels, probabilities, seed=seed), probabilities
    )
