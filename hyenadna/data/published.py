"""What others published on a data set's tasks: ``published.yaml`` beside its manifest, every figure with its source.

The one thing to know: two figures of one task may be compared only where `PublishedSource.split` is the same; cross-validation and splits of an
author's own are not the official test split.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hyenadna.data.manifest import RemoteDataset, Task, find_dataset
from hyenadna.data.yaml_fields import fields_of, items_of, read_yaml, require_once, text_of
from hyenadna.errors import FileFormatError

PUBLISHED = "published.yaml"
SPLITS = ("official test", "cross-validation", "own")
METRICS = ("mcc", "f1", "accuracy")


class PublishedSource(NamedTuple):
    """A table of a publication."""

    name: str
    """Short name in the file."""
    paper: str
    table: str
    url: str
    split: str
    """``official test``; ``cross-validation``; or ``own``: a split of its authors."""
    protocol: str
    """How the figures came about, as far as the source says, and what to beware of."""
    spread: str
    """What `PublishedResult.spread` is; empty where the source gives none."""


class PublishedResult(NamedTuple):
    """One figure."""

    task: str
    """Name of the task in the manifest."""
    model: str
    metric: str
    """``mcc``, ``f1`` or ``accuracy``; not always that of the manifest."""
    value: float
    """The metric times 100: -100…100 for MCC, else 0…100."""
    spread: float | None
    """In the unit of `value`."""
    source: PublishedSource


def load_published(name: str) -> tuple[PublishedResult, ...]:
    """Return the published results on a data set, in the order of its tasks; none where none are recorded.

    Parameters
    ----------
    name
        Name of a data set, or path of a ``dataset.yaml``, beside which ``published.yaml`` is looked for.

    Raises
    ------
    DataError
        There is no data set of this name.
    FileFormatError
        The manifest or the file of results is malformed.

    Examples
    --------
    >>> [(r.model, r.value) for r in load_published("gue") if r.task == "prom/prom_core_tata"][:2]
    [('HyenaDNA', 72.87), ('CNN', 69.33)]
    """
    dataset = find_dataset(name)
    if not isinstance(dataset, RemoteDataset) or not (dataset.folder / PUBLISHED).is_file():
        return ()
    return read_published(dataset.folder / PUBLISHED, dataset.tasks)


def read_published(
    path: str | os.PathLike[str], tasks: Sequence[Task]
) -> tuple[PublishedResult, ...]:
    """Read one file of results on the tasks of a manifest, in the order of those.

    Raises
    ------
    FileFormatError
        The file cannot be read or has unknown keys; a task or source is unknown, or a figure impossible or given twice. The message
        names model and task.
    """
    path = Path(path)
    content = read_yaml(path, "file of published results")
    try:
        return _results(content, tasks)
    except ValueError as error:
        raise FileFormatError(str(error), path=path) from error


def _results(content: Any, tasks: Sequence[Task]) -> tuple[PublishedResult, ...]:
    fields = fields_of(content, "the file of published results", ("sources", "results"), ())
    known = {task.name: task.metric for task in tasks}
    parsed = [_source(item, known) for item in items_of(fields, "sources")]
    require_once([source.name for source, _ in parsed], "source")
    sources = {source.name: (source, known | metrics) for source, metrics in parsed}
    found = [row for item in items_of(fields, "results") for row in _rows(item, sources)]
    require_once([f"{r.model} on {r.task} in {r.source.name}" for r in found], "figure of")
    if unused := sorted(set(sources) - {row.source.name for row in found}):
        raise ValueError(f"the source {unused[0]!r} has no results")
    place = {name: number for number, name in enumerate(known)}
    return tuple(sorted(found, key=lambda row: place[row.task]))


def _source(item: Any, known: Mapping[str, str]) -> tuple[PublishedSource, dict[str, str]]:
    needed = ("name", "paper", "table", "url", "split", "protocol")
    fields = fields_of(item, "a source", needed, ("spread", "metrics"))
    what = f"the source {text_of(fields, 'name', 'a source')!r}"
    texts = {key: text_of(fields, key, what) for key in (*needed, "spread")}
    if not re.fullmatch(r"https?://[^\s/]+/\S+", texts["url"]):
        raise ValueError(f"{what} has the URL {texts['url']!r}; expected http:// or https://")
    if texts["split"] not in SPLITS:
        raise ValueError(f"{what} has split: {texts['split']}; expected one of {', '.join(SPLITS)}")
    metrics = _by_task(fields.get("metrics", {}), f"'metrics' of {what}", known)
    for task, metric in metrics.items():
        if metric not in METRICS:
            raise ValueError(
                f"{what} has the metric {metric!r} on the task {task!r}; expected one of {', '.join(METRICS)}"
            )
    return PublishedSource(**texts), metrics


def _rows(
    item: Any, sources: Mapping[str, tuple[PublishedSource, Mapping[str, str]]]
) -> list[PublishedResult]:
    fields = fields_of(item, "a result", ("model", "source", "values"), ("spread",))
    model = text_of(fields, "model", "a result")
    name = text_of(fields, "source", f"the result of {model!r}")
    if name not in sources:
        raise ValueError(
            f"the result of {model!r} has the source {name!r}; expected one of {', '.join(sources) or 'none'}"
        )
    source, metrics = sources[name]
    what = f"the result of {model!r} in {name!r}"
    values = _by_task(fields["values"], what, metrics)
    spreads = _by_task(fields.get("spread", {}), f"'spread' of {what}", metrics)
    if not values:
        raise ValueError(f"{what} has no values")
    if lost := sorted(set(spreads) - set(values)):
        raise ValueError(f"{what} has a spread but no value on the task {lost[0]!r}")
    if spreads and not source.spread:
        raise ValueError(
            f"{what} has a spread, but the source does not say what that is (spread: …)"
        )
    rows = []
    for task, value in values.items():
        least = -100 if metrics[task] == "mcc" else 0
        number = _figure(value, f"{what} on the task {task!r}", least)
        spread = _figure(spreads[task], f"the spread of {what} on the task {task!r}", 0) if task in spreads else None  # fmt: skip
        rows.append(PublishedResult(task, model, metrics[task], number, spread, source))
    return rows


def _by_task(item: Any, what: str, known: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"{what} is {item!r}; expected one entry for each task")
    if unknown := [str(name) for name in item if name not in known]:
        raise ValueError(
            f"{what} names the task {unknown[0]!r}, which the manifest lacks; expected one of {', '.join(known)}"
        )
    return item


def _figure(value: Any, what: str, least: int) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= 100:
        raise ValueError(f"{what} is {value!r}; expected a number from {least} to 100")
    return float(value)
