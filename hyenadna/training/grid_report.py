"""One table of a grid of runs: what a model reaches on test rows, by task and model, beside published figures; and its picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hyenadna.data.synthetics.published import AVERAGE, PublishedFigures
from hyenadna.io.atomic import atomic_path

__all__ = ["ACCURACY", "METRICS", "GridCell", "GridMetric", "grid_markdown", "plot_grid", "write_grid"]  # fmt: skip

_COLOURS = ("#b5483a", "#2f6690", "#5b8c5a", "#8a6bab", "#c08a2e")


@dataclass(frozen=True)
class GridMetric:
    """How a grid tells a metric of reports.

    Parameters
    ----------
    title
        With its unit.
    factor
        From a report's number to the table's.
    digits
        Behind the point.
    higher_is_better
        Or the lower.
    """

    title: str
    factor: float
    digits: int
    higher_is_better: bool

    def number(self, value: float | None) -> str:
        """Return a figure as the table has it, nothing for None."""
        return "" if value is None else f"{value:.{self.digits}f}"


ACCURACY = GridMetric("accuracy, %", 100.0, 1, higher_is_better=True)
METRICS = {
    "accuracy": ACCURACY,
    "class_accuracy": ACCURACY,
    "bits_per_byte": GridMetric("bits per byte", 1.0, 4, higher_is_better=False),
}
"""By the names of `GridConfig.metric`."""


@dataclass(frozen=True)
class GridCell:
    """A model on a task. Figures are in the unit of the grid's `GridMetric`.

    Parameters
    ----------
    row, model
        Their names.
    chosen
        The settings that were best on validation rows.
    validation
        What these reached, of the first seed.
    test
        The same on test rows, of each seed.
    n_parameters
        Weights of the model.
    seconds
        Training of all its runs, tuning among them.
    note
        Why there are no figures, ``failed: …`` or ``unfinished: …``; empty where there are.
    unfinished
        Number of its runs that a limit of time left out.
    """

    row: str
    model: str
    chosen: Mapping[str, Any] = field(default_factory=dict)
    validation: float | None = None
    test: tuple[float, ...] = ()
    n_parameters: int = 0
    seconds: float = 0.0
    note: str = ""
    unfinished: int = 0

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return float(np.mean(self.test)) if self.test else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over seeds, None for fewer than two."""
        return float(np.std(self.test, ddof=1)) if len(self.test) > 1 else None


def grid_markdown(
    cells: Sequence[GridCell], published: PublishedFigures | None, metric: GridMetric = ACCURACY
) -> str:
    """Return the table as Markdown, readable as text, too: models of ours first, published figures behind; a star marks what unfinished runs may change."""
    rows = list(dict.fromkeys(cell.row for cell in cells))
    models = list(dict.fromkeys(cell.model for cell in cells))
    others = dict(published.values) if published else {}
    found = {(cell.row, cell.model): cell for cell in cells}
    head = [metric.title, *models, *(f"{name} (published)" for name in others)]
    lines = [head]
    for row in rows:
        ours = [_text(found.get((row, model)), metric) for model in models]
        lines.append([row, *ours, *(metric.number(others[name].get(row)) for name in others)])
    averaged = {row for figures in others.values() if AVERAGE in figures for row in figures} - {AVERAGE}  # fmt: skip
    # A mean over some rows does not belong beside one over all.
    if averaged and averaged <= set(rows):
        means = [_mean([found.get((row, model)) for row in rows]) for model in models]
        stars = ["*" if any(c.unfinished for c in cells if c.model == model) else "" for model in models]  # fmt: skip
        averages = [text and text + star for text, star in zip(map(metric.number, means), stars, strict=True)]  # fmt: skip
        lines.append([AVERAGE, *averages, *(metric.number(others[name].get(AVERAGE)) for name in others)])  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    if missing := [f"{c.row}, {c.model} ({c.unfinished})" for c in cells if c.unfinished]:
        texts += ["", f"* Unfinished, with the number of runs that are missing: {'; '.join(missing)}."]  # fmt: skip
    if published:
        texts += ["", f"Published: {published.source}. {published.note}"]
    return "\n".join(texts) + "\n"


def _mean(cells: Sequence[GridCell | None]) -> float | None:
    """Return the mean over rows, None where one is missing."""
    means = [cell.mean if cell else None for cell in cells]
    return None if None in means else float(np.mean([m for m in means if m is not None]))


def _text(cell: GridCell | None, metric: GridMetric) -> str:
    if cell is None:
        return ""
    if cell.mean is None:
        return cell.note.partition(":")[0]
    spread = "" if cell.sd is None else f" ± {metric.number(cell.sd)}"
    return metric.number(cell.mean) + spread + ("*" if cell.unfinished else "")


def write_grid(
    folder: Path,
    cells: Sequence[GridCell],
    runs: Sequence[Mapping[str, Any]],
    published: PublishedFigures | None,
    facts: Mapping[str, Any],
    metric: GridMetric = ACCURACY,
) -> None:
    """Write results.md, results.csv and results.json into a folder, replacing earlier ones.

    Parameters
    ----------
    runs
        Every run with its settings and metrics, for results.json.
    facts
        What else results.json says: command, hardware, versions.
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["row", "model", "mean", "sd", "seeds", "validation", "n_parameters", "seconds", "chosen", "note", "unfinished"])  # fmt: skip
    for cell in cells:
        chosen = " ".join(f"{key}={value}" for key, value in cell.chosen.items())
        figures = [_short(cell.mean), _short(cell.sd), len(cell.test), _short(cell.validation)]
        writer.writerow([cell.row, cell.model, *figures, cell.n_parameters, round(cell.seconds, 1), chosen, cell.note, cell.unfinished])  # fmt: skip
    plain = {
        **facts,
        "metric": metric.title,
        "published": published._asdict() if published else None,
        "cells": [{**vars(cell), "chosen": dict(cell.chosen)} for cell in cells],
        "runs": list(runs),
    }
    for name, text in (
        ("results.md", grid_markdown(cells, published, metric)),
        ("results.csv", table.getvalue()),
        ("results.json", json.dumps(plain, indent=2, ensure_ascii=False) + "\n"),
    ):
        with atomic_path(folder / name, force=True) as temporary:
            temporary.write_text(text)


def _short(value: float | None) -> Any:
    return "" if value is None else round(value, 5)


def plot_grid(
    cells: Sequence[GridCell],
    published: PublishedFigures | None,
    path: Path,
    *,
    axis: str,
    metric: GridMetric = ACCURACY,
) -> None:
    """Draw the figures over the rows, a line for each model, dashed ones for published figures, to a PNG file.

    Parameters
    ----------
    axis
        What the names of rows are.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    rows = list(dict.fromkeys(cell.row for cell in cells))
    models = list(dict.fromkeys(cell.model for cell in cells))
    for number, model in enumerate(models):
        mine = [(rows.index(c.row), c.mean, c.sd or 0.0) for c in cells if c.model == model and c.mean is not None]  # fmt: skip
        if mine:
            x, y, spread = zip(*mine, strict=True)
            axes.errorbar(x, y, spread, label=model, marker="o", capsize=3, color=_COLOURS[number % len(_COLOURS)])  # fmt: skip
    for number, (name, figures) in enumerate(published.values.items() if published else ()):
        theirs = [(rows.index(row), value) for row, value in figures.items() if row in rows]
        if theirs:
            colour = _COLOURS[-1 - number % len(_COLOURS)]
            axes.plot(*zip(*sorted(theirs), strict=True), label=f"{name} (published)", marker="x", linestyle="--", color=colour)  # fmt: skip
    axes.set_xticks(range(len(rows)), rows)
    if metric is ACCURACY:
        axes.set_ylim(-3, 103)
    axes.set_xlabel(axis)
    axes.set_ylabel(f"{metric.title} on test rows")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)
    with atomic_path(path, force=True) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
