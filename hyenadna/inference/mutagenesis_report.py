"""What a report says of a saturation mutagenesis: logo and heat map, line by line, and the changes that matter most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hyenadna.inference.mutagenesis import Mutagenesis
from hyenadna.inference.mutagenesis_plot import draw_mutagenesis
from hyenadna.io.html import Picture, Section, Table
from hyenadna.sequence import Interval

__all__ = ["mutagenesis_sections"]

_LINE = 60  # bases of a picture
_PICTURES = 12
_SHOWN = 20


def mutagenesis_sections(found: Sequence[Mutagenesis]) -> list[Section]:
    """Return the sections of a report of one or several regions."""
    limit = max(float(np.nanmax(np.abs(one.llr), initial=0.0)) for one in found)
    lines = [_part(one, at, min(at + _LINE, len(one.letters))) for one in found for at in range(0, len(one.letters), _LINE)]  # fmt: skip
    places = [(one.interval.chrom, one.interval.start + at + 1, letter) for one in found for at, letter in enumerate(one.letters)]  # fmt: skip
    # Where there are too many, those with the strongest base are worth a look.
    strength = [np.nan_to_num(np.abs(line.importance)).max() for line in lines]
    chosen = sorted(np.argsort(strength)[::-1][:_PICTURES].tolist())
    pictures = []
    for i in chosen:
        line = lines[i]
        name = f"Importance and LLR of every substitution in {line.interval}"
        pictures.append(Picture(draw_mutagenesis(line, limit=limit, line=_LINE), name))
    text = (
        "Above, each base as high as it is missed: minus the mean LLR of its three substitutions, nats. Below, the LLR of each substitution, "
        "log p(with the change) − log p(as it is): red where the model finds the change less likely, blue where more; dots are the bases that are there."
    )
    if len(lines) > len(chosen):
        text += (
            f" Of {len(lines):,} lines of {_LINE} bases, the {len(chosen)} with the strongest base."
        )
    sections = [Section("Every substitution", [text, *pictures])]
    flat = np.nan_to_num(np.concatenate([one.llr for one in found])).ravel()
    order = np.argsort(flat, kind="stable").tolist()
    for title, cells in (
        ("Substitutions that the model finds least likely", [c for c in order[:_SHOWN] if flat[c] < 0]),
        ("Substitutions that the model finds more likely than what is there", [c for c in order[: -_SHOWN - 1 : -1] if flat[c] > 0]),
    ):  # fmt: skip
        rows = [(_shown(places[c // 4]), f"{places[c // 4][2]} → {'ACGT'[c % 4]}", float(flat[c])) for c in cells]  # fmt: skip
        if rows:
            sections.append(Section(title, [Table(("place (1-based)", "change", "LLR"), rows)]))
    gone = np.nan_to_num(np.concatenate([one.deletion for one in found]))
    cells = [c for c in np.argsort(gone, kind="stable").tolist()[:_SHOWN] if gone[c] < 0]
    if cells:
        rows = [(_shown(places[c]), places[c][2], float(gone[c])) for c in cells]
        sections.append(Section("Deletions that the model finds least likely", [Table(("place (1-based)", "base", "LLR"), rows)]))  # fmt: skip
    return sections


def _part(found: Mutagenesis, start: int, end: int) -> Mutagenesis:
    first = found.interval.start
    place = Interval(found.interval.chrom, first + start, first + end)
    where = slice(start, end)
    return Mutagenesis(place, found.letters[where], found.llr[where], found.deletion[where])


def _shown(place: tuple[str, int, str]) -> str:
    return f"{place[0]}:{place[1]:,}"
