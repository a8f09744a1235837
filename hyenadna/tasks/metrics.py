"""Classification metrics over a whole set of predictions, with bootstrap intervals.

Every metric is computed for a matrix of row weights, one line a resample, so that a thousand bootstrap resamples cost
a few array operations, and the number itself is the case of all weights one. Nothing here averages over batches: a mean
of per-batch Matthews coefficients is not a Matthews coefficient.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import DataError

Floats = npt.NDArray[np.float64]

METRICS = ("mcc", "f1_macro", "accuracy", "auroc", "auprc")
_RESAMPLES_AT_ONCE = 100


class Estimate(NamedTuple):
    """A metric with its bootstrap interval.

    Parameters
    ----------
    value
        The metric on all rows; NaN where it is not defined, as the AUROC of one class is.
    low, high
        Bounds of the percentile interval; NaN without one.
    """

    value: float
    low: float
    high: float


class ClassificationMetrics(NamedTuple):
    """The metrics of one set of predictions.

    Parameters
    ----------
    mcc
        Matthews correlation, Gorodkin's R_K for more than two classes, in [-1, 1]; 0 where one side is constant.
    f1_macro
        Mean F1 over the classes that occur among labels or predictions, in [0, 1].
    accuracy
        Share of right predictions.
    auroc
        Area under the ROC curve of class 1; with more classes the mean over one-against-rest curves.
    auprc
        Average precision of class 1; with more classes the mean over one-against-rest.
    confusion
        int64, shape (C, C): rows are true classes, columns predicted ones.
    n
        Number of rows.
    """

    mcc: Estimate
    f1_macro: Estimate
    accuracy: Estimate
    auroc: Estimate
    auprc: Estimate
    confusion: npt.NDArray[np.int64]
    n: int

    def as_dict(self) -> dict[str, object]:
        """Return plain numbers and lists for JSON; undefined values become None."""
        result: dict[str, object] = {}
        for name in METRICS:
            estimate: Estimate = getattr(self, name)
            value, low, high = (None if np.isnan(x) else float(x) for x in estimate)
            result[name] = value
            result[f"{name}_ci95"] = None if low is None else [low, high]
        result["n"] = self.n
        result["confusion"] = self.confusion.tolist()
        return result


def confusion_matrices(
    labels: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    n_classes: int,
    weights: Floats,
) -> Floats:
    """Count true class against predicted class, for each line of weights.

    Parameters
    ----------
    labels, predicted
        int64, shape (n,), in 0…C-1.
    weights
        Shape (R, n), ≥ 0.

    Returns
    -------
    numpy.ndarray
        Shape (R, C, C), true classes in rows.
    """
    cells = labels * n_classes + predicted
    one_hot = np.zeros((labels.size, n_classes * n_classes))
    one_hot[np.arange(labels.size), cells] = 1.0
    return np.asarray(weights @ one_hot).reshape(-1, n_classes, n_classes)


def matthews(confusion: Floats) -> Floats:
    """Return Gorodkin's R_K (https://doi.org/10.1016/j.compbiolchem.2004.09.006) of matrices, shape (R, C, C), as (R,)."""
    total = confusion.sum((1, 2))
    true, predicted = confusion.sum(2), confusion.sum(1)
    right = np.trace(confusion, axis1=1, axis2=2)
    covariance = right * total - (true * predicted).sum(1)
    spread = (total**2 - (true**2).sum(1)) * (total**2 - (predicted**2).sum(1))
    return np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)


def f1_macro(confusion: Floats) -> Floats:
    """Return the mean F1 over classes with a label or a prediction, of matrices, shape (R, C, C), as (R,)."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    either = confusion.sum(1) + confusion.sum(2)
    scores = np.where(either > 0, 2 * right / np.where(either > 0, either, 1.0), 0.0)
    present = (either > 0).sum(1)
    return np.asarray(scores.sum(1) / np.maximum(present, 1))


def ranking_areas(
    positive: npt.NDArray[np.bool_], scores: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """Return the area under the ROC curve and the average precision, for each line of weights.

    Equal scores count as one threshold. O(n log n + R n) time, O(R n) memory.

    Parameters
    ----------
    positive
        bool, shape (n,).
    scores
        Shape (n,), larger for more positive.
    weights
        Shape (R, n), ≥ 0.

    Returns
    -------
    tuple
        Two arrays of shape (R,); NaN where a line has no positive, or for the ROC curve no negative, row.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.flatnonzero(np.diff(scores[order])), scores.size - 1)
    sorted_weights = weights[:, order]
    true = np.cumsum(sorted_weights * positive[order], axis=1)[:, last_of_tie]
    all_ = np.cumsum(sorted_weights, axis=1)[:, last_of_tie]
    false = all_ - true
    n_true, n_false = true[:, -1], false[:, -1]
    gained = np.diff(true, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        step = np.diff(false, axis=1, prepend=0.0)
        auroc = (step * (true - gained / 2)).sum(1) / (n_true * n_false)
        precision = np.where(all_ > 0, true / all_, 0.0)
        auprc = (gained * precision).sum(1) / n_true
    return auroc, auprc


def accuracy(confusion: Floats) -> Floats:
    """Return the share of right predictions of matrices, shape (R, C, C), as (R,)."""
    return np.asarray(np.trace(confusion, axis1=1, axis2=2) / confusion.sum((1, 2)))


OF_CONFUSION = {"mcc": matthews, "f1_macro": f1_macro, "accuracy": accuracy}
"""Metrics that depend on the predicted classes alone, as functions of confusion matrices."""


def class_areas(
    labels: npt.NDArray[np.int64], probabilities: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """Return AUROC and average precision, each of shape (R,): of class 1, or with more classes the mean of one against rest.

    Parameters
    ----------
    labels
        int64, shape (n,), in 0…C-1.
    probabilities
        Shape (n, C).
    weights
        Shape (R, n), ≥ 0.
    """
    n_classes = probabilities.shape[1]
    columns = [1] if n_classes == 2 else list(range(n_classes))
    areas = [ranking_areas(labels == c, probabilities[:, c], weights) for c in columns]
    auroc, auprc = zip(*areas, strict=True)
    return np.mean(auroc, axis=0), np.mean(auprc, axis=0)


def weighted_metrics(
    labels: npt.NDArray[np.int64],
    probabilities: Floats,
    weights: Floats,
) -> dict[str, Floats]:
    """Return every metric of `METRICS`, each of shape (R,), for weights of shape (R, n).

    Parameters
    ----------
    labels
        int64, shape (n,), in 0…C-1.
    probabilities
        Shape (n, C); the prediction is the largest, the first of equals.
    """
    confusion = confusion_matrices(labels, probabilities.argmax(1), probabilities.shape[1], weights)
    auroc, auprc = class_areas(labels, probabilities, weights)
    return {
        **{name: metric(confusion) for name, metric in OF_CONFUSION.items()},
        "auroc": auroc,
        "auprc": auprc,
    }


def classification_metrics(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> ClassificationMetrics:
    """Compute all metrics of a set of predictions, with percentile bootstrap intervals over its rows.

    Parameters
    ----------
    labels
        Integers, shape (n,), in 0…C-1.
    probabilities
        Shape (n, C), finite; class probabilities or any scores that rank the same way.
    n_resamples
        Bootstrap resamples; 0 for no intervals.
    level
        Coverage of the intervals, in (0, 1).
    seed
        Seed of the resampling: the same predictions have the same intervals.

    Raises
    ------
    DataError
        There is no row, the shapes differ, a label has no column, or a probability is not finite.
    """
    true = np.asarray(labels, dtype=np.int64)
    scores = np.asarray(probabilities, dtype=np.float64)
    if true.ndim != 1 or true.size == 0 or scores.ndim != 2 or scores.shape[0] != true.size:
        raise DataError(
            f"metrics need labels (n,) and probabilities (n, C) with n ≥ 1; found {true.shape} and {scores.shape}"
        )
    if true.min() < 0 or true.max() >= scores.shape[1]:
        raise DataError(
            f"labels run from {true.min()} to {true.max()}, but there are {scores.shape[1]} classes"
        )
    if not np.isfinite(scores).all():
        row = int(np.flatnonzero(~np.isfinite(scores).all(1))[0])
        raise DataError(
            f"prediction {row} is not finite ({scores[row].tolist()}); the training diverged, try a lower learning rate"
        )
    value = weighted_metrics(true, scores, np.ones((1, true.size)))
    resampled: dict[str, list[Floats]] = {name: [] for name in METRICS}
    rng = np.random.default_rng(seed)
    for start in range(0, n_resamples, _RESAMPLES_AT_ONCE):
        lines = min(_RESAMPLES_AT_ONCE, n_resamples - start)
        counts = rng.multinomial(true.size, np.full(true.size, 1 / true.size), size=lines)
        for name, values in weighted_metrics(true, scores, counts.astype(np.float64)).items():
            resampled[name].append(values)
    estimates = {}
    for name in METRICS:
        low = high = np.nan
        if n_resamples:
            values = np.concatenate(resampled[name])
            if not np.isnan(values).all():
                # A resample without one class has no AUROC; such resamples are left out.
                low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
        estimates[name] = Estimate(float(value[name][0]), float(low), float(high))
    confusion = confusion_matrices(
        true, scores.argmax(1), scores.shape[1], np.ones((1, true.size))
    )[0]
    return ClassificationMetrics(
        **estimates, confusion=confusion.round().astype(np.int64), n=true.size
    )
