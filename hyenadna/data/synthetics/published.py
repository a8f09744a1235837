"""What others published on synthetic tasks: ``datasets/synthetics/published.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hyenadna.data.yaml_fields import fields_of, read_yaml, text_of
from hyenadna.errors import ConfigError, FileFormatError
from hyenadna.resources import dataset_dir

__all__ = ["AVERAGE", "PublishedFigures", "published_figures"]

AVERAGE = "average"
"""The row of means over all rows, where a publication prints it."""


class PublishedFigures(NamedTuple):
    """One table of a publication."""

    source: str
    """Paper and table."""
    note: str
    """How the figures came about, and what to beware of."""
    values: Mapping[str, Mapping[str, float]]
    """Accuracy in per cent, by model and row."""


def published_figures(name: str, path: Path | None = None) -> PublishedFigures:
    """Return a table by its name.

    Parameters
    ----------
    name
        In the file.
    path
        The file; None is that of the package.

    Raises
    ------
    ConfigError
        There is no such table.
    FileFormatError
        The file cannot be read, or a field is missing or impossible.
    """
    path = path or dataset_dir() / "synthetics" / "published.yaml"
    content = read_yaml(path, "file of published results")
    if not isinstance(content, dict) or name not in content:
        known = ", ".join(content) if isinstance(content, dict) else "none"
        raise ConfigError(f"grid.published={name}: there are no such published figures in {path.name}; there are {known}")  # fmt: skip
    try:
        return _figures(content[name], f"the table {name!r}")
    except ValueError as error:
        raise FileFormatError(str(error), path=path) from error


def _figures(item: object, what: str) -> PublishedFigures:
    fields = fields_of(item, what, ("source", "note", "values"), ())
    models = fields["values"]
    if not isinstance(models, dict) or not all(isinstance(v, dict) for v in models.values()):
        raise ValueError(f"{what} has values: {models!r}; expected figures by row, by model")
    values = {}
    for model, figures in models.items():
        for row, value in figures.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 100:
                raise ValueError(f"{what} has {value!r} for {model} on {row}; expected 0 to 100")
        values[str(model)] = {str(row): float(value) for row, value in figures.items()}
    return PublishedFigures(text_of(fields, "source", what), text_of(fields, "note", what), values)
