"""What a finished fine-tuning run left on the disk, read back and checked: results, predictions row by row, settings."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hyenadna.errors import FileFormatError
from hyenadna.tasks.paired import Predictions

__all__ = ["SplitPredictions", "is_finished", "read_predictions", "read_results", "read_settings"]

# Settings that say where and how a run ran, not what was trained.
_INCIDENTAL = ("run_dir", "force", "suite", "logger", "seeds", "data.root", "data.path", "data.train", "data.dev", "data.test",
               "trainer.accelerator", "trainer.progress", "trainer.num_workers", "task.n_resamples", "task.baselines",
               "task.cnn_epochs")  # fmt: skip


class SplitPredictions(NamedTuple):
    """One split as a run predicted it.

    Parameters
    ----------
    lines, labels
        Of each row: its line in the split's file, and its class, as they stand in the file.
    classes
        Names of the C classes, in the order of the probabilities.
    predictions
        Of every seed.
    sha256
        Of the split's file.
    """

    lines: tuple[str, ...]
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    predictions: Predictions
    sha256: str


def is_finished(folder: Path) -> bool:
    """Say whether a folder holds the results of a fine-tuning run."""
    return (folder / "results.json").is_file() and (folder / "predictions.csv").is_file()


def read_results(folder: Path) -> dict[str, Any]:
    """Return results.json of a run; ``test`` is None where there was no test split.

    Raises
    ------
    FileFormatError
        It is damaged, or of something else.
    """
    path = folder / "results.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["dev"], found["data"], found["seeds"], found["config"]["data"]
        found.setdefault("test", None)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise FileFormatError("these are no results of hyenadna finetune, or the file is damaged", path=path) from error  # fmt: skip
    return dict(found)


def read_predictions(
    folder: Path, results: Mapping[str, Any], *, split: str, probabilities: bool
) -> SplitPredictions:
    """Return what predictions.csv of a run says of one split.

    Parameters
    ----------
    folder
        Of the run.
    results
        From `read_results`.
    split
        ``test`` or ``dev``.
    probabilities
        Read them, too; they have six digits there.

    Raises
    ------
    FileFormatError
        The file is damaged, or does not belong to the results.
    """
    path = folder / "predictions.csv"
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.reader(handle)
        header = next(reader, [])
        if header[:5] != ["seed", "split", "line", "label", "predicted"] or len(header) < 6:
            raise FileFormatError(f"the header is {','.join(header)}; expected seed,split,line,label,predicted,p_…", path=path, line=1)  # fmt: skip
        classes = tuple(name[2:] for name in header[5:])
        by_seed: dict[str, list[list[str]]] = {}
        for row in reader:
            if len(row) != len(header):
                raise FileFormatError(f"the row has {len(row)} fields, expected {len(header)}", path=path, line=reader.line_num)  # fmt: skip
            if row[1] == split:
                by_seed.setdefault(row[0], []).append(row)
    said = [str(seed["seed"]) for seed in results["seeds"]]
    expected = results["data"][split]["rows"]
    if list(by_seed) != said or any(len(rows) != expected for rows in by_seed.values()):
        found = ", ".join(f"{len(rows)} rows of seed {seed}" for seed, rows in by_seed.items())
        raise FileFormatError(f"found {found or 'no rows'} of {split}, but results.json speaks of {expected} rows of each of the seeds {', '.join(said)}", path=path)  # fmt: skip
    number = {name: i for i, name in enumerate(classes)}
    seeds = tuple(by_seed.values())
    lines, labels = (tuple(row[i] for row in seeds[0]) for i in (2, 3))
    try:
        predicted = np.array([[number[row[4]] for row in rows] for rows in seeds])
        shares = np.array([[row[5:] for row in rows] for rows in seeds], float) if probabilities else None  # fmt: skip
        [number[label] for label in labels]
    except (KeyError, ValueError) as error:
        raise FileFormatError(f"a row holds {error}, which is no class or number", path=path) from error  # fmt: skip
    if any([row[2:4] for row in rows] != [row[2:4] for row in seeds[0]] for rows in seeds):
        raise FileFormatError(f"its seeds have different rows of {split}", path=path)
    return SplitPredictions(
        lines, labels, classes, Predictions(predicted, shares),
        str(results["data"][split].get("sha256", "")),
    )  # fmt: skip


def read_settings(folder: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run trained, by dotted name, without what says only where and how.

    The shape is the model's own, from its config.json: settings beside `model.pretrained` do not count.
    """
    flat = dict(_flatten(results["config"]))
    flat["training rows (sha256)"] = str(results["data"].get("train", {}).get("sha256", ""))[:12]
    try:
        shape = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        shape = {}
    flat |= {f"model.{k}": v for k, v in shape.items() if f"model.{k}" in flat}
    return {
        key: value for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in _INCIDENTAL)
    }  # fmt: skip


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        inner = isinstance(value, Mapping)
        found += _flatten(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return found
