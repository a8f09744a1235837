"""What fine-tuning writes down: means over seeds, predictions row by row, and curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyenadna.data.labelled_task import LabelledTask
from hyenadna.io.atomic import atomic_path
from hyenadna.tasks.metrics import METRICS, ClassificationMetrics


def summarize(
    per_seed: Sequence[Mapping[str, ClassificationMetrics]],
) -> dict[str, dict[str, Any]]:
    """Return the mean of every metric over the seeds, and its standard deviation, for each split.

    Parameters
    ----------
    per_seed
        For each seed the metrics of its splits.

    Returns
    -------
    dict
        By split and metric: ``mean``, ``sd`` (of a sample; None for a single seed) and, for a single seed, the bootstrap
        interval ``ci95``.
    """
    summary: dict[str, dict[str, Any]] = {}
    for split in per_seed[0]:
        summary[split] = {"n": per_seed[0][split].n}
        for name in METRICS:
            estimates = [getattr(metrics[split], name) for metrics in per_seed]
            values = np.array([e.value for e in estimates])
            mean = float(values.mean())
            entry: dict[str, Any] = {"mean": None if np.isnan(mean) else mean, "sd": None}
            if len(values) > 1 and not np.isnan(mean):
                entry["sd"] = float(values.std(ddof=1))
            elif len(values) == 1 and not np.isnan(estimates[0].low):
                entry["ci95"] = [estimates[0].low, estimates[0].high]
            summary[split][name] = entry
    return summary


def write_predictions(
    path: Path,
    task: LabelledTask,
    probabilities: Mapping[int, Mapping[str, npt.NDArray[np.float64]]],
) -> None:
    """Write every prediction of dev and test as CSV.

    Columns: seed, split, line (of the split's file, from 1), label, predicted, and ``p_<class>`` for each class.

    Parameters
    ----------
    path
        The file, replaced.
    task
        Its splits, in the order of the predictions.
    probabilities
        By seed and split, shape (n, C).
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = task.label_names
    writer.writerow(["seed", "split", "line", "label", "predicted", *(f"p_{n}" for n in names)])
    splits = {"dev": task.dev, "test": task.test}
    for seed, by_split in probabilities.items():
        for name, rows in by_split.items():
            split = splits[name]
            if split is None:
                continue
            for line, label, row in zip(split.lines, split.labels, rows, strict=True):
                shown = [f"{p:.6g}" for p in row]
                writer.writerow([seed, name, line, names[label], names[row.argmax()], *shown])
    with atomic_path(path, force=True) as temporary:
        temporary.write_text(out.getvalue())


def plot_curves(
    histories: Sequence[Sequence[Mapping[str, float]]], path: Path, *, title: str = ""
) -> None:
    """Draw losses and dev Matthews correlation over epochs, one line a training, to a PNG file.

    Parameters
    ----------
    histories
        Of each training, the rows of `ClassifierModule.history`.
    path
        The file, replaced.
    title
        Above the axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for number, rows in enumerate(histories):
        epochs = [row["epoch"] for row in rows]
        first = number == 0
        left.plot(epochs, [row["train_loss_nats"] for row in rows], color="#9bb8d3",
                  label="train" if first else None)  # fmt: skip
        left.plot(epochs, [row["loss_nats"] for row in rows], color="#b5483a",
                  label="dev" if first else None)  # fmt: skip
        right.plot(epochs, [row["mcc"] for row in rows], color="#b5483a", marker="o", markersize=3)
    left.set(xlabel="epoch", ylabel="loss, nats")
    right.set(xlabel="epoch", ylabel="Matthews correlation on dev")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize="medium")
    with atomic_path(path, force=True) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
