from __future__ import annotations

import numpy as np
import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForSequenceClassification
from hyenadna.models.strands import complement_table, reverse_complement_padded
from hyenadna.sequence import reverse_complement
from hyenadna.tasks.classification import (
    balanced_class_weights,
    classification_loss,
    predict_probabilities,
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


def tiny_model(pooling: str = "attention") -> HyenaForSequenceClassification:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=16, n_layers=2, max_seq_len=64, initializer_range=0.3)
    return HyenaForSequenceClassification(config, n_classes=3, pooling=pooling).train()  # type: ignore[arg-type]


SEQUENCES = ["ACGTTGCAACGGT", "TTGA", "A", "ACGTNNACGGGTCATTAGCATCGACTTAGC"]


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_prediction_is_the_same_alone_in_any_batch_and_order(pooling: str, both: bool) -> None:
    model, tokenizer = tiny_model(pooling), CharacterTokenizer()

    def predict(sequences: list[str], size: int) -> np.ndarray:
        return predict_probabilities(
            model, sequences, tokenizer=tokenizer, both_strands=both, batch_size=size
        )

    together = predict(SEQUENCES, 4)
    assert model.training
    assert np.allclose(together.sum(1), 1)
    assert np.ptp(together, axis=0).max() > 0.01
    alone = np.concatenate([predict([s], 1) for s in SEQUENCES])
    assert np.abs(together - alone).max() < 1e-5
    assert np.abs(together - predict(SEQUENCES[::-1], 3)[::-1]).max() < 1e-5


def test_ignoring_the_mask_would_change_the_prediction() -> None:
    model, tokenizer = tiny_model().eval(), CharacterTokenizer()
    ids = torch.from_numpy(tokenizer.encode("TTGA"))[None]
    padded = torch.nn.functional.pad(ids, (0, 9), value=4)
    mask = torch.arange(13)[None] < 4
    assert torch.allclose(model(padded, mask), model(ids), atol=1e-5)
    assert not torch.allclose(model(padded), model(ids), atol=1e-3)


def test_both_strands_give_one_answer_for_a_sequence_and_its_reverse_complement() -> None:
    model, tokenizer = tiny_model(), CharacterTokenizer()
    other = [reverse_complement(s) for s in SEQUENCES]
    for both, tolerance in ((True, 1e-5), (False, None)):
        first, second = (
            predict_probabilities(model, s, tokenizer=tokenizer, both_strands=both)
            for s in (SEQUENCES, other)
        )
        if tolerance:
            assert np.abs(first - second).max() < tolerance
        else:
            assert np.abs(first - second).max() > 1e-3


def test_complement_table_has_every_id() -> None:
    assert complement_table(CharacterTokenizer()).tolist() == [0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11]
