"""One table of many fine-tuned tasks: ours, the baselines, and what others published on the same test split."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hyenadna.data.published import PublishedResult
from hyenadna.io.atomic import atomic_path

__all__ = ["SuiteRow", "as_markdown", "suite_row", "write_table"]

_METRICS = {"mcc": "MCC", "f1": "F1", "accuracy": "accuracy"}
_OURS = {"f1": "f1_macro"}  # how results.json names a manifest's metric
_BASELINES = {"kmer_logistic_regression": "k-mers", "residual_cnn": "CNN (ours)"}


@dataclass(frozen=True)
class SuiteRow:
    """A task's line. Figures are the metric × 100.

    Parameters
    ----------
    task
        Its name in the manifest, or its experiment's.
    metric
        ``mcc``, ``f1`` or ``accuracy``.
    split
        ``test``; or ``dev``, which chose the epoch and flatters, where the task has no test file.
    note
        Why there are no figures; empty where there are.
    n, n_parameters
        Rows of the split, and weights of the model.
    mean, sd
        Over seeds; `sd` is None for one.
    interval
        Bootstrap interval (95 %) of the split, its ends averaged over seeds; None without resamples.
    seeds
        The figure of each seed.
    dev
        Mean over seeds on dev.
    others
        Baselines and published figures, by name.
    """

    task: str
    metric: str
    split: str = ""
    note: str = ""
    n: int = 0
    n_parameters: int = 0
    mean: float | None = None
    sd: float | None = None
    interval: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    dev: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)


def suite_row(
    task: str, metric: str, results: Mapping[str, Any], published: Iterable[PublishedResult]
) -> SuiteRow:
    """Make a line out of a run's results.json.

    Parameters
    ----------
    results
        Its content.
    published
        Results on all tasks; those of the task's metric on the official test split are taken.
    """
    name = _OURS.get(metric, metric)
    split = "test" if results["test"] else "dev"
    per_seed = [seed[split][name] for seed in results["seeds"]]
    values = tuple(100 * seed["value"] for seed in per_seed)
    bounds = [seed["ci95"] for seed in per_seed if seed.get("ci95")]
    others = {
        label: 100 * results["baselines"][key][split][name]["value"]
        for key, label in _BASELINES.items()
        if key in results["baselines"]
    }
    if split == "test":
        others |= {
            r.model: r.value
            for r in published
            if r.task == task and r.metric == metric and r.source.split == "official test"
        }
    return SuiteRow(
        task=task, metric=metric, split=split, n=results[split]["n"], n_parameters=results["n_parameters"],
        mean=float(np.mean(values)), sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=tuple(100 * np.mean(bounds, axis=0)) if bounds else None,
        seeds=values, dev=100 * float(np.mean([s["dev"][name]["value"] for s in results["seeds"]])), others=others,
    )  # fmt: skip


def _columns(rows: Sequence[SuiteRow]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.others))


def as_markdown(rows: Sequence[SuiteRow]) -> str:
    """Return the table as Markdown, readable as text, too."""
    others = _columns(rows)
    head = ["task", "metric × 100", "split", "rows", "this model", "95 % interval", *others]
    lines = [head]
    for row in rows:
        if row.note:
            lines.append([row.task, _METRICS[row.metric], row.note, *[""] * (len(head) - 3)])
            continue
        spread = "" if row.sd is None else f" ± {row.sd:.1f}"
        interval = "" if row.interval is None else f"{row.interval[0]:.1f} to {row.interval[1]:.1f}"
        found = row.others
        lines.append(
            [row.task, _METRICS[row.metric], row.split, f"{row.n:,}", f"{row.mean:.1f}{spread}", interval]
            + [f"{found[name]:.1f}" if name in found else "" for name in others]
        )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    texts = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(texts) + "\n"


def write_table(folder: Path, rows: Sequence[SuiteRow], facts: Mapping[str, Any]) -> None:
    """Write results.md, results.csv and results.json into a folder, replacing earlier ones.

    Parameters
    ----------
    facts
        What else results.json says: command, hardware, versions.
    """
    others = _columns(rows)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(
        ["task", "metric", "split", "rows", "mean", "sd", "low", "high", "dev", *others]
    )
    for row in rows:
        low, high = row.interval or ("", "")
        found = row.others
        numbers = [row.n, row.mean, row.sd, low, high, row.dev, *(found.get(o) for o in others)]
        writer.writerow([row.task, row.metric, row.split or row.note, *map(_short, numbers)])
    plain = {**facts, "tasks": [{**vars(row), "others": dict(row.others)} for row in rows]}
    for name, text in (
        ("results.md", as_markdown(rows)),
        ("results.csv", table.getvalue()),
        ("results.json", json.dumps(plain, indent=2, ensure_ascii=False) + "\n"),
    ):
        with atomic_path(folder / name, force=True) as temporary:
            temporary.write_text(text)


def _short(value: Any) -> Any:
    return "" if value is None else round(value, 3) if isinstance(value, float) else value
