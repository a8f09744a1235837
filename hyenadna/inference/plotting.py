"""What the pictures of this room share: figures without a screen, in one style, where names from data are never read as formulas."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["BLUE", "RED", "draw", "histogram"]

BLUE, RED, _GREY = "#2f6690", "#b5483a", "#8a94a0"
_STYLE: Any = {
    "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _GREY,
    "font.size": 9, "axes.titlesize": 10, "axes.grid.axis": "y", "grid.color": "#e6e9ed", "axes.axisbelow": True,
}  # fmt: skip


def draw(size: tuple[float, float], paint: Callable[[Any], None], form: str = "png") -> bytes:
    """Return a picture.

    Parameters
    ----------
    size
        Inches.
    paint
        Draws on the figure that it is given.
    form
        ``png`` or ``svg``; the same picture is the same bytes.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": "hyenadna"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a letter that the font lacks becomes a box
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure)
        out = io.BytesIO()
        figure.savefig(out, format=form, dpi=150, metadata={"Date": None} if form == "svg" else {"Software": None})  # fmt: skip
    return out.getvalue()


def histogram(counts: Any, edges: Any, *, xlabel: str, ylabel: str, marks: dict[str, float]) -> bytes:  # fmt: skip
    """Draw counts (N,) between edges (N + 1,), with named vertical lines."""

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(True)
        axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.85)
        for (name, at), style in zip(marks.items(), ("-", ":", "--"), strict=False):
            axes.axvline(at, color=RED, linestyle=style, linewidth=1.2, label=name)
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(edges[0], edges[-1]))
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")
        axes.legend(frameon=False)

    return draw((8.2, 2.9), paint)
