"""A picture of a saturation mutagenesis: a heat map of all substitutions under a logo of what each base is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyenadna.errors import ConfigError
from hyenadna.inference.mutagenesis import Mutagenesis
from hyenadna.inference.plotting import draw

__all__ = ["draw_mutagenesis", "plot_mutagenesis", "require_room"]

_MOST_REGIONS = 20
_COLOURS = {"A": "#2a7f3f", "C": "#1f5a92", "G": "#c98a00", "T": "#b5483a"}


def require_room(n_regions: int) -> None:
    """Check that a picture has room for so many regions.

    Raises
    ------
    ConfigError
        There are too many.
    """
    if n_regions > _MOST_REGIONS:
        raise ConfigError(
            f"a picture has room for {_MOST_REGIONS} regions, here are {n_regions:,}; a report shows the strongest of them"
        )


def plot_mutagenesis(found: Sequence[Mutagenesis], path: Path, *, title: str = "") -> None:
    """Draw regions, one below the other, to a PNG or SVG file, by its name; see `draw_mutagenesis` and `require_room`."""
    require_room(len(found))
    form = path.suffix.lower().removeprefix(".")
    path.write_bytes(draw_mutagenesis(*found, title=title, form=form))


def draw_mutagenesis(
    *found: Mutagenesis, title: str = "", limit: float = 0.0, line: int = 0, form: str = "png"
) -> bytes:
    """Draw a picture.

    Above, letters as high as the base is missed (the mean loss of its three substitutions, nats; below the line where they are gains);
    below, the log-likelihood ratio of each substitution, red where the model finds it less likely; dots are the bases
    that are there.

    Parameters
    ----------
    found
        The regions; each has its place on the page, and one bar of colours is that of all.
    title
        Above each; by default the region.
    limit
        LLR at the ends of the colours, nats; by default the largest that occurs.
    line
        Leave room for so many bases; by default for those that there are.
    form
        ``png`` or ``svg``.
    """
    shown = max(line, *(len(one.letters) for one in found))
    largest = max(float(np.nanmax(np.abs(one.llr), initial=0.0)) for one in found)
    top = max(limit or largest, 1e-9)

    def paint(figure: Any) -> None:
        places = [figure] if len(found) == 1 else figure.subfigures(len(found), 1)
        for place, one in zip(places, found, strict=True):
            _draw_region(place, one, shown, top, title)

    return draw((min(24.0, max(6.0, 0.14 * shown)), 3.6 * len(found)), paint, form)


def _draw_region(figure: Any, found: Mutagenesis, shown: int, top: float, title: str) -> None:
    start, length = found.interval.start + 1, len(found.letters)
    logo, heat = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    _draw_letters(logo, found, start)
    image = heat.imshow(
        found.llr.T, aspect="auto", cmap="RdBu", vmin=-top, vmax=top, interpolation="nearest",
        extent=(start - 0.5, start + length - 0.5, 3.5, -0.5),
    )  # fmt: skip
    own = [(start + i, "ACGT".index(b)) for i, b in enumerate(found.letters) if b in "ACGT"]
    heat.scatter(*zip(*own, strict=True), s=4, color="#444444", linewidths=0)
    heat.set_xlim(start - 0.5, start + shown - 0.5)
    heat.set_yticks(range(4), list("ACGT"))
    heat.set_xlabel(f"{found.interval.chrom}, position (1-based)")
    heat.ticklabel_format(axis="x", useOffset=False, style="plain")
    logo.set_ylabel("importance, nats")
    logo.set_title(title or f"{found.interval.chrom}:{start:,}-{found.interval.end:,}")
    figure.colorbar(image, ax=heat, label="LLR, nats", pad=0.01)


def _draw_letters(axes: Any, found: Mutagenesis, start: int) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    outlines = {letter: TextPath((0, 0), letter, size=1) for letter in _COLOURS}
    heights = np.nan_to_num(found.importance)
    for offset, (letter, height) in enumerate(zip(found.letters, heights.tolist(), strict=True)):
        if letter not in outlines or height == 0:
            continue
        box = outlines[letter].get_extents()
        place = (
            Affine2D()
            .translate(-box.x0, -box.y0)
            .scale(0.9 / box.width, height / box.height)
            .translate(start + offset - 0.45, 0)
        )
        axes.add_patch(PathPatch(outlines[letter], transform=place + axes.transData, color=_COLOURS[letter], linewidth=0))  # fmt: skip
    low, high = min(0.0, float(heights.min(initial=0))), max(0.0, float(heights.max(initial=0)))
    margin = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.axhline(0, color="#888888", linewidth=0.6)
