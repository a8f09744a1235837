"""metrics.csv: written row by row while a run goes on, cut back when it resumes, and drawn as curves."""

from __future__ import annotations

import csv
import io
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from hyenadna.errors import FileFormatError
from hyenadna.io.atomic import atomic_path, output_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PRETRAIN_COLUMNS = ("tokens", "loss_nats", "bits_per_base", "lr", "tokens_per_s", "seq_len")


class MetricsLog(Logger):
    """A Lightning logger that appends to a CSV file and flushes every row, so that a killed run keeps its history.

    Parameters
    ----------
    path
        The file; its header is written with the first row.
    columns
        Names of the metrics, in order, behind ``step`` and ``split``.

    Notes
    -----
    Metrics arrive as Lightning loggers get them, named ``split/metric``; each call makes one row per split. Numbers are
    written with all their digits, so two runs are equal exactly when their files are.
    """

    def __init__(self, path: Path, columns: Sequence[str] = PRETRAIN_COLUMNS) -> None:
        super().__init__()
        self.path = path
        self.columns = tuple(columns)

    @property
    def name(self) -> str:
        """Lightning's name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning's version of the run: there is one per folder."""
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: settings are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row per split.

        Parameters
        ----------
        metrics
            Values by ``split/metric``; metrics that are no column are ignored.
        step
            Optimizer steps done.
        """
        rows: dict[str, dict[str, Any]] = {}
        for key, value in metrics.items():
            split, slash, metric = key.partition("/")
            if slash and metric in self.columns:
                rows.setdefault(split, {})[metric] = value
        with output_errors(self.path), self.path.open("a", newline="") as handle:
            writer = csv.DictWriter(handle, ("step", "split", *self.columns), lineterminator="\n")
            if handle.tell() == 0:
                writer.writeheader()
            for split, row in rows.items():
                writer.writerow({"step": step, "split": split, **row})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a metrics file; numbers as int or float, empty cells left out.

    A last row that a killed process left without its end is dropped.

    Raises
    ------
    FileFormatError
        The file cannot be read or has no header.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", path=path) from error
    text = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(text))
    if not {"step", "split"} <= set(reader.fieldnames or ()):
        raise FileFormatError("has no columns step and split", path=path)
    return [
        {name: _number(cell) if name != "split" else cell for name, cell in row.items() if cell}
        for row in reader
    ]


def _number(cell: str) -> int | float:
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def truncate_metrics(path: Path, last_step: int) -> None:
    """Remove the rows after a step, which a resumed run is going to write again."""
    if not path.is_file():
        return
    lines = path.read_text().split("\n")[:-1]
    kept = lines[:1] + [line for line in lines[1:] if int(line.partition(",")[0]) <= last_step]
    with atomic_path(path, force=True) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept))


def plot_accuracy(
    rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "", unit: str = "accuracy"
) -> None:
    """Draw accuracy over tokens, training and validation, to a PNG file.

    Parameters
    ----------
    rows
        From `read_metrics`, of a synthetic task.
    path
        The file, replaced.
    title
        Above the axes.
    unit
        Beside them.
    """
    figure, axes = _curves(rows, "accuracy")
    axes.set_ylim(-0.03, 1.03)
    _finish(figure, axes, path, unit, title)


def plot_loss(
    rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "", unit: str = "bits per base"
) -> None:
    """Draw bits per base over tokens, training and validation, to a PNG file.

    Parameters
    ----------
    rows
        From `read_metrics`, of a language model.
    path
        The file, replaced.
    title
        Above the axes.
    unit
        Beside them: which bases the bits are of.
    """
    figure, axes = _curves(rows, "bits_per_base")
    axes.axhline(2.0, color="0.6", linewidth=0.8, linestyle=":", label="uniform over A, C, G, T")
    _show_settled(axes, rows, "bits_per_base", [2.0])
    _finish(figure, axes, path, unit, title)


def plot_bits_per_byte(
    rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "", unit: str = "bits per byte"
) -> None:
    """Draw bits per byte over tokens, training and validation, to a PNG file.

    Parameters
    ----------
    rows
        From `read_metrics`, of a run on text.
    path
        The file, replaced.
    title
        Above the axes.
    unit
        Beside them.
    """
    figure, axes = _curves(rows, "bits_per_byte")
    _show_settled(axes, rows, "bits_per_byte", [])
    _finish(figure, axes, path, unit, title)


def _show_settled(
    axes: Axes, rows: Sequence[Mapping[str, Any]], metric: str, more: Sequence[float]
) -> None:
    # The first steps fall from log2 of the vocabulary; shown whole, they would flatten everything that matters.
    settled = [r[metric] for r in rows[len(rows) // 5 :] if metric in r]
    if settled:
        low, high = min(settled), max([*settled, *more])
        margin = max(high - low, 1e-3)
        axes.set_ylim(low - 0.1 * margin, high + 0.15 * margin)


def _curves(rows: Sequence[Mapping[str, Any]], metric: str) -> tuple[Figure, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles: tuple[tuple[str, dict[str, Any]], ...] = (
        ("train", {"color": "#9bb8d3", "linewidth": 1.0}),
        ("validation", {"color": "#b5483a", "marker": "o", "markersize": 4, "linewidth": 1.5}),
    )
    for split, style in styles:
        points = [(r["tokens"], r[metric]) for r in rows if r["split"] == split and metric in r]
        if points:
            axes.plot(*zip(*points, strict=True), label=split, **style)
    return figure, axes


def _finish(figure: Figure, axes: Axes, path: Path, label: str, title: str) -> None:
    from matplotlib.ticker import EngFormatter

    axes.xaxis.set_major_formatter(EngFormatter())
    axes.set_xlabel("tokens read")
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.legend(frameon=False)
    with atomic_path(path, force=True) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
