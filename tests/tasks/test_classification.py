from __future__ import annotations

import numpy as np
import torch

from hyenadna.tasks.classification import (
    balanced_class_weights,
    classification_loss,
    mean_probabilities,
    reverse_complement_padded,
)
from hyenadna.tokenizers import CharacterTokenizer


def test_balanced_weights_give_each_class_the_same_total() -> None:
    labels = np.array([0, 0, 0, 1])
    weights = balanced_class_weights(labels, 2)
    assert np.allclose(weights * np.bincount(labels), 2)
    assert np.isclose(weights[labels].mean(), 1)


def test_loss_is_the_mean_cross_entropy_and_weights_scale_rows() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 0])
    expected = -(logits.log_softmax(-1)[:, 0]).mean()
    assert torch.isclose(classification_loss(logits, labels), expected)
    weighted = classification_loss(logits, labels, class_weights=torch.tensor([3.0, 1.0]))
    assert torch.isclose(weighted, 3 * expected)


def test_label_smoothing_punishes_certainty() -> None:
    logits, labels = torch.tensor([[20.0, -20.0]]), torch.tensor([0])
    assert classification_loss(logits, labels) < 1e-6
    assert classification_loss(logits, labels, label_smoothing=0.1) > 1


def test_half_precision_logits_give_a_float32_loss() -> None:
    loss = classification_loss(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 2]))
    assert loss.dtype == torch.float32


def test_reverse_complement_of_padded_rows_is_that_of_the_sequences() -> None:
    tokenizer = CharacterTokenizer()
    ids = torch.tensor([[7, 7, 8, 4, 4], [9, 10, 11, 7, 8]], dtype=torch.uint8)
    mask = ids != 4
    complement = torch.from_numpy(tokenizer.complement(np.arange(12, dtype=np.uint8)))
    other = reverse_complement_padded(ids, mask, complement)
    assert tokenizer.decode(other[0, :3].numpy()) == "GTT"
    assert other[0, 3:].tolist() == [4, 4]
    assert tokenizer.decode(other[1].numpy()) == "GTNAC"
    assert torch.equal(reverse_complement_padded(other, mask, complement), ids)


def test_mean_probabilities_average_after_the_softmax() -> None:
    first, second = torch.tensor([[0.0, 100.0]]), torch.tensor([[0.0, 0.0]])
    assert torch.allclose(mean_probabilities(first, second), torch.tensor([[0.25, 0.75]]))
