from __future__ import annotations

import numpy as np
import pytest

from hyenadna.errors import DataError
from hyenadna.tasks.kmer import fit_kmer_baseline, kmer_counts, majority_probabilities


def test_counts_are_those_of_the_words() -> None:
    matrix = kmer_counts(["AACAA", "NNN", "A", "acNca"], 2).toarray()
    squares = matrix**2
    assert matrix.shape == (4, 16)
    assert squares[0, [0, 1, 4]].tolist() == pytest.approx([0.5, 0.25, 0.25])  # AA AC CA
    assert squares[1:3].sum() == 0
    assert np.flatnonzero(squares[3]).tolist() == [1, 4]


def test_majority_predicts_the_commonest_training_class() -> None:
    probabilities = majority_probabilities([1, 1, 0], 4, 3)
    assert probabilities.shape == (4, 3)
    assert set(probabilities.argmax(1)) == {1}


def sequences(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    letters = [rng.choice(list("ACGT"), 60, p=[0.25] * 4) for _ in range(n)]
    texts = [
        "".join(x[:30]) + ("TATAAA" if y else "GGGCCC") + "".join(x[30:])
        for x, y in zip(letters, labels, strict=True)
    ]
    return texts, labels


def test_words_that_tell_the_classes_apart_are_found() -> None:
    fit = fit_kmer_baseline(sequences(300, 0), sequences(100, 1), sequences(100, 2)[0])
    assert fit.dev_mcc > 0.8
    assert fit.test_probabilities is not None
    assert (fit.test_probabilities.argmax(1) == sequences(100, 2)[1]).mean() > 0.9


def test_random_labels_are_not_learnt() -> None:
    train, dev = sequences(300, 0), sequences(200, 1)
    rng = np.random.default_rng(5)
    fit = fit_kmer_baseline((train[0], rng.permutation(train[1])), dev, orders=(4,))
    assert abs(fit.dev_mcc) < 0.4
    assert fit.test_probabilities is None


def test_impossible_fits_are_refused() -> None:
    texts, labels = sequences(10, 0)
    with pytest.raises(DataError, match="two classes"):
        fit_kmer_baseline((texts, labels * 0), (texts, labels))
    with pytest.raises(DataError, match="grid"):
        fit_kmer_baseline((texts, labels), (texts, labels), orders=())
