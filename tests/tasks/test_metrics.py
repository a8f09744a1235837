from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from hyenadna.errors import DataError
from hyenadna.tasks.metrics import METRICS, classification_metrics, weighted_metrics


def example(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    scores = rng.random((n, n_classes)).round(1) + 0.1  # rounded: ties must count as one threshold
    scores[np.arange(n), labels] += 0.3
    return labels, scores / scores.sum(1, keepdims=True)


def by_sklearn(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    predicted = probabilities.argmax(1)
    n_classes = probabilities.shape[1]
    columns = [1] if n_classes == 2 else range(n_classes)
    w = {"sample_weight": weights}
    return {
        "mcc": sk.matthews_corrcoef(labels, predicted, **w),
        "f1_macro": sk.f1_score(labels, predicted, average="macro", **w),
        "accuracy": sk.accuracy_score(labels, predicted, **w),
        "auroc": np.mean(
            [sk.roc_auc_score(labels == c, probabilities[:, c], **w) for c in columns]
        ),
        "auprc": np.mean(
            [sk.average_precision_score(labels == c, probabilities[:, c], **w) for c in columns]
        ),
    }


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_metrics_equal_those_of_scikit_learn(n_classes: int) -> None:
    labels, probabilities = example(300, n_classes)
    found = classification_metrics(labels, probabilities, n_resamples=0)
    for name, expected in by_sklearn(labels, probabilities).items():
        assert getattr(found, name).value == pytest.approx(expected, abs=1e-12), name
    assert found.confusion.tolist() == sk.confusion_matrix(labels, probabilities.argmax(1)).tolist()


@pytest.mark.parametrize("n_classes", [2, 3])
def test_weighted_lines_equal_scikit_learn_with_weights(n_classes: int) -> None:
    labels, probabilities = example(80, n_classes)
    weights = np.random.default_rng(1).integers(0, 4, (3, 80)).astype(float)
    found = weighted_metrics(labels, probabilities, weights)
    for line in range(3):
        for name, expected in by_sklearn(labels, probabilities, weights[line]).items():
            assert found[name][line] == pytest.approx(expected, abs=1e-12), name


def test_mean_of_batch_values_is_not_the_metric() -> None:
    labels, probabilities = example(64, 2)
    whole = classification_metrics(labels, probabilities, n_resamples=0).mcc.value
    batches = [
        classification_metrics(labels[i : i + 8], probabilities[i : i + 8], n_resamples=0).mcc.value
        for i in range(0, 64, 8)
    ]
    assert abs(np.mean(batches) - whole) > 0.005


def test_intervals_hold_the_value_are_reproducible_and_shrink_with_rows() -> None:
    small, large = (classification_metrics(*example(n, 2)) for n in (50, 2000))
    for metrics in (small, large):
        for name in METRICS:
            estimate = getattr(metrics, name)
            assert estimate.low <= estimate.value <= estimate.high
    assert small.mcc.high - small.mcc.low > 3 * (large.mcc.high - large.mcc.low)
    assert classification_metrics(*example(50, 2)).mcc == small.mcc


def test_interval_of_accuracy_is_the_binomial_one() -> None:
    labels = np.ones(400, dtype=int)
    labels[:100] = 0
    probabilities = np.tile([0.2, 0.8], (400, 1))
    accuracy = classification_metrics(labels, probabilities, n_resamples=4000).accuracy
    half = 1.96 * np.sqrt(0.75 * 0.25 / 400)
    assert accuracy.value == 0.75
    assert accuracy.high - accuracy.low == pytest.approx(2 * half, rel=0.08)


def test_constant_predictions_and_single_classes_have_defined_or_absent_values() -> None:
    constant = classification_metrics([0, 1, 1], np.tile([0.1, 0.9], (3, 1)))
    assert constant.mcc.value == 0
    assert constant.auroc.value == 0.5
    single = classification_metrics([1, 1], [[0.2, 0.8], [0.1, 0.9]])
    assert np.isnan(single.auroc.value)
    assert single.accuracy.value == 1
    as_json = json.loads(json.dumps(single.as_dict()))
    assert as_json["auroc"] is None
    assert as_json["accuracy_ci95"] == [1, 1]
    assert as_json["n"] == 2


@pytest.mark.parametrize(
    ("labels", "probabilities", "says"),
    [
        ([], np.zeros((0, 2)), "n ≥ 1"),
        ([0, 1], [[0.5, 0.5]], "n ≥ 1"),
        ([2], [[0.5, 0.5]], "there are 2 classes"),
        ([0], [[np.nan, 0.5]], "prediction 0 is not finite"),
    ],
)
def test_bad_predictions_are_refused(labels: list[int], probabilities: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        classification_metrics(labels, probabilities)  # type: ignore[arg-type]
