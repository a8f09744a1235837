"""A picture of a comparison: for every task the difference of each run from the reference, with its interval."""

from __future__ import annotations

from pathlib import Path

from hyenadna.training.compare import UNDECIDED, Comparison
from hyenadna.training.compare_report import METRIC_NAMES

__all__ = ["plot_comparison"]

_COLOURS = ("#b5483a", "#2f6690", "#5b8c5a", "#8a6bab", "#c08a2e")


def plot_comparison(found: Comparison, path: Path) -> None:
    """Draw to a PNG or SVG file, by its name: filled dots where better or worse is shown, hollow ones elsewhere."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    others = [run.name for run in found.runs[1:]]
    n_rows = len(found.tasks) + (len(found.tasks) > 1)
    # Names are data, never formulas; a fixed salt makes the same picture the same bytes.
    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "hyenadna"}):
        figure = Figure(
            figsize=(7, 1.5 + n_rows * (0.2 + 0.13 * len(others))), layout="constrained"
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.axvline(0, color="0.4", linewidth=0.8)
        for number, name in enumerate(others):
            colour = _COLOURS[number % len(_COLOURS)]
            offset = 0.6 * ((number + 0.5) / len(others) - 0.5)
            rows = [(t.contrasts[name].difference, t.contrasts[name].verdict != UNDECIDED) for t in found.tasks]  # fmt: skip
            if len(rows) > 1:
                mean = found.means[name]
                rows.append((mean, mean.low > 0 or mean.high < 0))
            for row, (difference, shown) in enumerate(rows):
                of_all = row == len(found.tasks)
                axes.plot([100 * difference.low, 100 * difference.high], [row + offset] * 2, color=colour,
                          linewidth=2.0 if of_all else 1.2)  # fmt: skip
                axes.plot(100 * difference.value, row + offset, marker="D" if of_all else "o", markersize=5, linestyle="",
                          color=colour, markerfacecolor=colour if shown else "white")  # fmt: skip
        if len(found.tasks) > 1:
            axes.axhline(len(found.tasks) - 0.5, color="0.8", linewidth=0.8)
        labels = [t.task if t.split == "test" else f"{t.task} (dev)" for t in found.tasks]
        axes.set_yticks(range(n_rows), [*labels, "mean"][:n_rows])
        axes.set_ylim(n_rows - 0.5, -0.5)
        axes.set_xlabel(
            f"{METRIC_NAMES[found.metric]} × 100, less that of {found.reference} (95 % interval); right is better"
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        figure.suptitle(
            f"{', '.join(others)} against {found.reference}; filled: p (Holm) < 0.05, mean: p < 0.05",
            fontsize=10,
        )
        if len(others) > 1:
            # dots of the legend's own: the first task's may be hollow
            dots = [
                Line2D([], [], marker="o", color=_COLOURS[i % len(_COLOURS)], label=name)
                for i, name in enumerate(others)
            ]
            figure.legend(handles=dots, loc="outside lower center", ncols=5, frameon=False, fontsize=8)  # fmt: skip
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
