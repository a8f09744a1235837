"""Is one recipe better than another? A paired test of a metric that respects both of its sources of chance: rows and seeds.

Two runs were tested on the same rows, so a bootstrap resample draws rows once and gives them to both: what makes a row hard for
both cancels. That alone (the variance `rows` below) holds for the trained models at hand. A recipe trained with other seeds would
have come out differently, so the variance between seeds is added, less the part that the rows already brought in (a seed's models err
on rows of their own); with few seeds it is itself uncertain, which a t distribution with Welch and Satterthwaite's degrees of freedom
allows for.

Resampling seeds, too, would be the textbook's answer for many seeds; three seeds have ten different resamples, whose variance is a
third too small and whose tails are missing: under the null it rejects up to 14 % of the time at a level of 5 %, this test 1 to 6 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import DataError
from hyenadna.tasks.metrics import METRICS, OF_CONFUSION, Floats, class_areas, confusion_matrices

__all__ = [
    "PairedDifference", "Predictions", "SeedScores", "holm", "mean_difference", "paired_difference", "score_runs",
]  # fmt: skip

_WEIGHTS_AT_ONCE = 1 << 20  # 8 MB: larger chunks leave the cache


class Predictions(NamedTuple):
    """What the S seeds of one run say of n rows in C classes.

    Parameters
    ----------
    predicted
        int64, shape (S, n), in 0…C-1.
    probabilities
        Shape (S, n, C); None where no metric of ranks (``auroc``, ``auprc``) is asked for.
    """

    predicted: npt.NDArray[np.int64]
    probabilities: Floats | None = None


class SeedScores(NamedTuple):
    """A metric of every seed of a run, and of its bootstrap resamples.

    Parameters
    ----------
    values
        Shape (S,): on all rows.
    resampled
        Shape (S, R); resample r holds the same rows in every run that was scored in the same call.
    n_rows
        Number of rows.
    """

    values: Floats
    resampled: Floats
    n_rows: int


class PairedDifference(NamedTuple):
    """How much better a run is than its reference.

    Parameters
    ----------
    value
        Mean over seeds less that of the reference.
    low, high
        Confidence interval.
    p
        Of the null hypothesis that both recipes are equally good, two-sided; below 1 − level where the interval leaves out 0.
    standard_error
        Of `value`.
    df
        Degrees of freedom of the t distribution behind the interval.
    seeds
        Whether the variation between seeds is in it: no where both runs have one seed; the interval then holds for these trained
        models only.
    """

    value: float
    low: float
    high: float
    p: float
    standard_error: float
    df: float
    seeds: bool


def score_runs(
    labels: npt.ArrayLike,
    runs: Sequence[Predictions],
    *,
    metric: str = "mcc",
    n_resamples: int = 2000,
    seed: int = 0,
) -> list[SeedScores]:
    """Score the seeds of several runs on the same rows and the same bootstrap resamples of them.

    Rows are drawn as for the intervals of `hyenadna.tasks.metrics`: with replacement from all of them. O(R n S) time, and for
    metrics of ranks O(n log n) more a seed.

    Parameters
    ----------
    labels
        Integers, shape (n,), in 0…C-1.
    runs
        Their predictions for these rows.
    metric
        One of `METRICS`.
    n_resamples
        R ≥ 2.
    seed
        Of the resampling.

    Raises
    ------
    DataError
        There is no row, a run has other rows, or the metric is not defined, as the AUROC of one class is.
    """
    true = np.asarray(labels, dtype=np.int64)
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r}; expected one of {', '.join(METRICS)}")
    n = true.size
    if not n or any(run.predicted.ndim != 2 or run.predicted.shape[1] != n for run in runs):
        shapes = ", ".join(str(run.predicted.shape) for run in runs)
        raise DataError(f"paired scores need n ≥ 1 labels and predictions (S, n) for the same rows; found {n} labels, {shapes}")  # fmt: skip
    found = [_score(true, run, metric, np.ones((1, n))) for run in runs]
    if any(np.isnan(values).any() for values in found):
        raise DataError(f"{metric} is not defined on these rows: a class does not occur among them")
    resampled: list[list[Floats]] = [[] for _ in runs]
    rng = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // n)
    for start in range(0, n_resamples, at_once):
        lines = min(at_once, n_resamples - start)
        drawn = rng.integers(0, n, (lines, n)) + n * np.arange(lines)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=lines * n).reshape(lines, n).astype(float)
        for run, values in zip(runs, resampled, strict=True):
            values.append(_score(true, run, metric, weights))
    return [
        SeedScores(values[:, 0], np.concatenate(chunks, axis=1), n)
        for values, chunks in zip(found, resampled, strict=True)
    ]


def _score(labels: npt.NDArray[np.int64], run: Predictions, metric: str, weights: Floats) -> Floats:
    """Return the metric of every seed, shape (S, R), for weights (R, n)."""
    if metric in OF_CONFUSION:
        classes = int(max(labels.max(), run.predicted.max())) + 1
        return np.array([
            OF_CONFUSION[metric](confusion_matrices(labels, row, classes, weights))
            for row in run.predicted
        ])  # fmt: skip
    if run.probabilities is None:
        raise ValueError(f"{metric} needs probabilities")
    which = ("auroc", "auprc").index(metric)
    return np.array([class_areas(labels, rows, weights)[which] for rows in run.probabilities])


def paired_difference(
    reference: SeedScores, other: SeedScores, *, level: float = 0.95, bound: float = math.inf
) -> PairedDifference:
    """Compare two runs that were scored in one call of `score_runs`.

    With d = mean over seeds of `other` less that of `reference`, its variance is V = V_rows + max(0, Σ (V_seeds − V_both)), the sum over
    the two runs: V_rows is that of d over resamples with the seeds as they are, V_seeds the sample variance over seeds divided by
    their number, V_both the share of the latter that comes from the rows (variance over resamples of a seed's departure from the
    mean over seeds). The truncated difference is the usual estimate of a variance component; the degrees of freedom count V_seeds
    whole, so that a lucky small one does not make a narrow interval. A run of a single seed is taken to vary as the other does.

    Parameters
    ----------
    level
        Coverage of the interval, in (0, 1).
    bound
        Largest possible difference, where the interval is cut: 2 for the Matthews correlation, else 1.

    Returns
    -------
    PairedDifference
        Exchanging the runs changes the sign of `value` and the interval, and nothing else.

    Examples
    --------
    >>> import numpy as np
    >>> labels = np.arange(200) % 2
    >>> good, bad = (Predictions(np.where(np.arange(200) < right, labels, 1 - labels)[None]) for right in (180, 140))
    >>> found = paired_difference(*score_runs(labels, [bad, good], metric="accuracy"))
    >>> round(found.value, 2), found.p < 0.001, found.seeds
    (0.2, True, False)
    """
    value = float(other.values.mean() - reference.values.mean())
    # A resample without one class has no AUROC; such resamples are left out.
    kept = ~np.isnan(reference.resampled).any(0) & ~np.isnan(other.resampled).any(0)
    pair = [SeedScores(s.values, s.resampled[:, kept], s.n_rows) for s in (reference, other)]
    rows = float(np.var(pair[1].resampled.mean(0) - pair[0].resampled.mean(0), ddof=1))
    counts = [len(s.values) for s in pair]
    parts = [_between_seeds(s) for s in pair if len(s.values) > 1]
    if len(parts) == 1:  # one run has a single seed
        (seeds, both), several = parts[0], max(counts)
        # The same estimate serves both runs, so its error counts for both.
        parts = [(seeds * (1 + several), both * (1 + several))]
        degrees = [several - 1]
    else:
        degrees = [count - 1 for count in counts]
    variance = rows + max(0.0, sum(seeds - both for seeds, both in parts))
    uncertain = sum(seeds**2 / df for (seeds, _), df in zip(parts, degrees, strict=False))
    df = variance**2 / uncertain if uncertain > 0 and variance > 0 else math.inf
    # Were the runs exchangeable, exchanging them at random in each row could not be more surprising than this.
    least = 2.0 ** (1 - reference.n_rows)
    return _difference(value, variance, df, level, bound, seeds=bool(parts), least=least)


def _between_seeds(scores: SeedScores) -> tuple[float, float]:
    """Return the variance of a mean over seeds that the seeds show, and the part of it that rows explain."""
    count = len(scores.values)
    departures = scores.resampled - scores.resampled.mean(0)
    both = np.var(departures, axis=1, ddof=1).sum() / (count - 1)
    return float(np.var(scores.values, ddof=1)) / count, float(both) / count


def mean_difference(
    differences: Sequence[PairedDifference], *, level: float = 0.95, bound: float = math.inf
) -> PairedDifference:
    """Return the mean over tasks, which are taken as independent: the interval is about these tasks, not about tasks in general.

    Parameters
    ----------
    differences
        At least one, of the same two runs.
    level, bound
        As in `paired_difference`.
    """
    count = len(differences)
    parts = [(d.standard_error / count) ** 2 for d in differences]
    variance = sum(parts)
    uncertain = sum(part**2 / d.df for part, d in zip(parts, differences, strict=True))
    df = variance**2 / uncertain if uncertain > 0 else math.inf
    value = sum(d.value for d in differences) / count
    least = max(d.p for d in differences) if variance == 0 else 0.0
    return _difference(
        value, variance, df, level, bound, seeds=any(d.seeds for d in differences), least=least
    )


def _difference(
    value: float,
    variance: float,
    df: float,
    level: float,
    bound: float,
    *,
    seeds: bool,
    least: float,
) -> PairedDifference:
    from scipy.special import stdtr, stdtrit

    error = math.sqrt(variance)
    df = max(df, 1.0)
    half = float(stdtrit(df, (1 + level) / 2)) * error
    if value == 0:
        p = 1.0
    else:
        p = max(least, 2 * float(stdtr(df, -abs(value) / error))) if error else least
    return PairedDifference(
        value, max(value - half, -bound), min(value + half, bound), p, error, df, seeds
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several tests so that the chance of any false rejection is held (https://www.jstor.org/stable/4615733).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, which in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[which]))
        adjusted[which] = largest
    return adjusted
