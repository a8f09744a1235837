from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hyenadna.sequence import reverse_complement
from hyenadna.tasks.cnn import CnnFit, ResidualCnn, fit_cnn_baseline

MOTIF = "GATTACAC"


def _task(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Half of the rows hold a motif, on either strand, somewhere."""
    rng = random.Random(seed)
    sequences, labels = [], np.array([i % 2 for i in range(n)], dtype=np.int64)
    for label in labels.tolist():
        letters = "".join(rng.choices("ACGT", k=rng.randrange(40, 60)))
        if label:
            at = rng.randrange(len(letters) - 8)
            motif = MOTIF if rng.random() < 0.5 else reverse_complement(MOTIF)
            letters = letters[:at] + motif + letters[at + 8 :]
        sequences.append(letters)
    return sequences, labels


def _fit(train: tuple[list[str], np.ndarray], **more: object) -> CnnFit:
    dev, (test, _) = _task(100, 2), _task(100, 3)
    return fit_cnn_baseline(train, dev, test, n_classes=2, width=16, batch_size=32, **more)  # type: ignore[arg-type]


def test_it_finds_a_motif_on_either_strand_and_chance_in_shuffled_labels() -> None:
    train = _task(600, 1)
    seen: list[int] = []
    fit = _fit(train, epochs=8, lr=5e-3, progress=lambda epoch, mcc: seen.append(epoch))
    assert fit.dev_mcc > 0.8
    assert fit.test_probabilities is not None
    right = (fit.test_probabilities.argmax(1) == _task(100, 3)[1]).mean()
    assert right > 0.85
    assert seen == list(range(1, 9))
    assert fit.dev_probabilities.sum(1) == pytest.approx(np.ones(100))
    noise = np.random.default_rng(0).permutation(train[1])
    assert abs(_fit((train[0], noise), epochs=2).dev_mcc) < 0.45


def test_the_same_seed_gives_the_same_predictions_and_leaves_the_generator() -> None:
    train = _task(60, 1)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two = (_fit(train, epochs=1, seed=3) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(one.dev_probabilities, two.dev_probabilities)
    assert not np.array_equal(one.dev_probabilities, _fit(train, epochs=1, seed=4).dev_probabilities)  # fmt: skip


def test_padding_and_the_strand_change_no_prediction() -> None:
    from hyenadna.tasks.cnn import _encoded, _one_hot, _predict

    torch.manual_seed(0)
    model = ResidualCnn(3, width=8).eval()
    sequences = ["ACGTN" * 4, "GATTACA" * 9, "T"]
    together = _predict(model, _encoded(sequences), torch.device("cpu"), 8)
    alone = np.concatenate([_predict(model, _encoded([s]), torch.device("cpu"), 8) for s in sequences])  # fmt: skip
    np.testing.assert_allclose(together, alone, atol=1e-6)
    other = _predict(model, _encoded([reverse_complement(s) for s in sequences]), torch.device("cpu"), 8)  # fmt: skip
    np.testing.assert_allclose(together, other, atol=1e-6)
    bases, mask = _one_hot(_encoded(["AN", "C"]), torch.device("cpu"))
    assert bases[:, :, 1].sum() == 0
    assert mask.tolist() == [[True, True], [True, False]]


def test_the_full_size_is_that_of_the_published_comparison() -> None:
    assert 1.3e6 < sum(p.numel() for p in ResidualCnn(2).parameters()) < 1.5e6
