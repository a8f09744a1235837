"""Fine-tuning runs side by side: which tasks they share, whether they were tested on the same rows, and who is better.

`open_run` finds the tasks of a run or suite folder, `compare_runs` checks and compares. The statistics are in
`hyenadna.tasks.paired`, the tables in `hyenadna.training.compare_report`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyenadna.errors import ConfigError, DataError
from hyenadna.tasks.metrics import OF_CONFUSION
from hyenadna.tasks.paired import (
    PairedDifference,
    SeedScores,
    holm,
    mean_difference,
    paired_difference,
    score_runs,
)
from hyenadna.training.finished_run import (
    SplitPredictions,
    is_finished,
    read_predictions,
    read_results,
    read_settings,
)

__all__ = ["ComparedRun", "ComparedTask", "Comparison", "Contrast", "compare_runs", "open_run"]

ALPHA = 0.05
BETTER, WORSE, UNDECIDED = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class ComparedRun:
    """A run, or a suite of runs, under the name that tables give it.

    Parameters
    ----------
    name
        Its column.
    folder
        As the user wrote it.
    tasks
        Folder of each task.
    unfinished
        Tasks that have a folder, but no results.
    suite
        Whether tasks are sub-folders.
    """

    name: str
    folder: str
    tasks: Mapping[str, Path]
    unfinished: tuple[str, ...] = ()
    suite: bool = False


@dataclass(frozen=True)
class Contrast:
    """One run against the reference on one task.

    Parameters
    ----------
    difference
        Metric of the run less that of the reference, with interval and p-value.
    adjusted
        The p-value, corrected after Holm for the tasks of the comparison.
    """

    difference: PairedDifference
    adjusted: float

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``no difference shown``."""
        if self.adjusted >= ALPHA:
            return UNDECIDED
        return BETTER if self.difference.value > 0 else WORSE


@dataclass(frozen=True)
class ComparedTask:
    """One task.

    Parameters
    ----------
    task, split
        Its name, and ``test`` or ``dev``.
    n
        Rows.
    values
        By run, the metric of every seed.
    contrasts
        By run, for all but the reference.
    """

    task: str
    split: str
    n: int
    values: Mapping[str, tuple[float, ...]]
    contrasts: Mapping[str, Contrast]


@dataclass(frozen=True)
class Comparison:
    """All of it.

    Parameters
    ----------
    metric
        One of `hyenadna.tasks.metrics.METRICS`.
    n_resamples
        Of the bootstrap over rows.
    runs
        The first is the reference.
    facts
        By run: ``seeds`` (their number, or several numbers where tasks differ), ``parameters``, ``pretrained``, and ``differs``, the settings
        that are not the reference's.
    tasks
        Those that all runs have.
    means
        By run, the mean difference over tasks.
    left_out
        By task, why it is not compared.
    """

    metric: str
    n_resamples: int
    runs: Sequence[ComparedRun]
    facts: Mapping[str, Mapping[str, Any]]
    tasks: Sequence[ComparedTask]
    means: Mapping[str, PairedDifference]
    left_out: Mapping[str, str]

    @property
    def reference(self) -> str:
        """Name of the run that the others are compared with."""
        return self.runs[0].name

    def counts(self, run: str) -> dict[str, list[str]]:
        """Return the tasks on which a run is better, worse, or neither, by verdict."""
        found: dict[str, list[str]] = {BETTER: [], WORSE: [], UNDECIDED: []}
        for task in self.tasks:
            found[task.contrasts[run].verdict].append(task.task)
        return found


def open_run(text: str) -> ComparedRun:
    """Find the tasks of ``FOLDER`` or ``NAME=FOLDER``.

    Parameters
    ----------
    text
        A folder that ``hyenadna finetune`` wrote, of one task or of a suite; a name in front of it names its column.

    Raises
    ------
    ConfigError
        There is no such folder, or no finished fine-tuning run is in it.
    """
    name, equals, folder = text.partition("=")
    if not equals or Path(text).is_dir():
        name, folder = "", text
    root = Path(folder).expanduser()
    if not folder or not root.is_dir():
        raise ConfigError(f"{text} names no folder; expected a run of hyenadna finetune, FOLDER or NAME=FOLDER")  # fmt: skip
    name = name.strip() or root.resolve().name
    if is_finished(root):
        return ComparedRun(name, folder, {_task_name(root): root})
    folders = sorted(f for f in root.iterdir() if (f / "config.yaml").is_file())
    tasks = {f.name: f for f in folders if is_finished(f)}
    if not tasks:
        state = "a run that is not finished" if (root / "config.yaml").is_file() else "no run of hyenadna finetune, and no suite of them"  # fmt: skip
        raise ConfigError(f"{folder} is {state}: expected results.json and predictions.csv in it, or in its sub-folders")  # fmt: skip
    unfinished = tuple(f.name for f in folders if f.name not in tasks)
    return ComparedRun(name, folder, tasks, unfinished, suite=True)


def _task_name(folder: Path) -> str:
    data = read_results(folder)["config"]["data"]
    return str(data.get("path") or data.get("train") or folder.name)


def compare_runs(
    runs: Sequence[ComparedRun],
    *,
    metric: str = "mcc",
    split: str | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Comparison:
    """Compare runs with the first of them, on every task that all have.

    Parameters
    ----------
    runs
        At least two, from `open_run`.
    metric
        One of `hyenadna.tasks.metrics.METRICS`.
    split
        ``test`` or ``dev``; None takes test, and dev for tasks without a test split.
    n_resamples, seed
        Of the bootstrap over rows.
    progress
        Called with each task's name when it is done.

    Raises
    ------
    ConfigError
        The runs cannot be compared: one name twice, a suite beside a single task, no task in common.
    DataError
        They were tested on different rows.
    FileFormatError
        A file of a run is damaged.
    """
    names = [run.name for run in runs]
    if len(runs) < 2:
        raise ConfigError("a comparison needs at least two runs; the first is the reference")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ConfigError(f"two runs are called {twice!r}; name them with NAME=FOLDER")
    folders, left_out = _common_tasks(runs)
    found: dict[str, tuple[str, int, list[SeedScores]]] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    for task, places in folders.items():
        results[task] = [read_results(place) for place in places]
        chosen = split or ("test" if all(r["test"] for r in results[task]) else "dev")
        if not all(r[chosen] for r in results[task]):
            left_out[task] = f"there is no {chosen} split"
            continue
        read = [
            read_predictions(*of, split=chosen, probabilities=metric not in OF_CONFUSION)
            for of in zip(places, results[task], strict=True)
        ]
        for place, other in zip(places[1:], read[1:], strict=True):
            _require_same_rows(f"{task}, {chosen}", (places[0], read[0]), (place, other))
        number = {name: i for i, name in enumerate(read[0].classes)}
        scores = score_runs(
            [number[label] for label in read[0].labels], [r.predictions for r in read],
            metric=metric, n_resamples=n_resamples, seed=seed,
        )  # fmt: skip
        found[task] = chosen, len(read[0].lines), scores
        if progress is not None:
            progress(task)
    if not found:
        reasons = "; ".join(f"{task}: {why}" for task, why in left_out.items())
        raise ConfigError(f"the runs have no task in common that can be compared ({reasons})")
    bound = 2.0 if metric == "mcc" else 1.0
    contrasts: dict[str, list[Contrast]] = {}
    for i, name in enumerate(names[1:], start=1):
        differences = [
            paired_difference(scores[0], scores[i], bound=bound) for _, _, scores in found.values()
        ]
        adjusted = holm([d.p for d in differences])
        contrasts[name] = [Contrast(*pair) for pair in zip(differences, adjusted, strict=True)]
    return Comparison(
        metric=metric, n_resamples=n_resamples, runs=tuple(runs), left_out=left_out,
        tasks=[
            ComparedTask(
                task, chosen, n, {name: tuple(s.values.tolist()) for name, s in zip(names, scores, strict=True)},
                {name: of[row] for name, of in contrasts.items()},
            )
            for row, (task, (chosen, n, scores)) in enumerate(found.items())
        ],
        means={name: mean_difference([c.difference for c in of], bound=bound) for name, of in contrasts.items()},
        facts={
            name: _facts([
                ((folders[task][i], results[task][i]), (folders[task][0], results[task][0])) for task in found
            ])
            for i, name in enumerate(names)
        },
    )  # fmt: skip


def _common_tasks(runs: Sequence[ComparedRun]) -> tuple[dict[str, list[Path]], dict[str, str]]:
    """Return the folders of each task that all runs have, and why others are left out."""
    if len({run.suite for run in runs}) > 1:
        suite = next(run for run in runs if run.suite)
        single = next(run for run in runs if not run.suite)
        raise ConfigError(f"{single.folder} is a run of one task and {suite.folder} a suite of them; name the task's folder in the suite, {suite.folder}/{next(iter(suite.tasks))}")  # fmt: skip
    if not runs[0].suite:
        # Their data may lie in different places; the rows decide whether it is one task.
        (task,) = runs[0].tasks
        return {task: [next(iter(run.tasks.values())) for run in runs]}, {}
    every = dict.fromkeys(task for run in runs for task in (*run.tasks, *run.unfinished))
    left_out = {}
    for task in every:
        lacking = [r.name for r in runs if task not in r.tasks]
        if lacking:
            left_out[task] = f"no results in {', '.join(lacking)}"
    folders = {task: [run.tasks[task] for run in runs] for task in every if task not in left_out}
    return folders, left_out


def _require_same_rows(
    what: str, first: tuple[Path, SplitPredictions], second: tuple[Path, SplitPredictions]
) -> None:
    (here, a), (there, b) = first, second
    what = f"{here} and {there} were tested on different data and cannot be compared ({what}): "
    if a.sha256 != b.sha256:
        raise DataError(f"{what}the file's sha256 is {a.sha256[:12]}… in the first, {b.sha256[:12]}… in the second")  # fmt: skip
    if a.classes != b.classes:
        raise DataError(f"{what}classes {', '.join(a.classes)} in the first, {', '.join(b.classes)} in the second")  # fmt: skip
    if len(a.lines) != len(b.lines):
        raise DataError(f"{what}{len(a.lines):,} rows in the first, {len(b.lines):,} in the second")
    pairs = zip(a.lines, a.labels, b.lines, b.labels, strict=True)
    for row, (line, label, other_line, other_label) in enumerate(pairs, start=1):
        if (line, label) != (other_line, other_label):
            raise DataError(f"{what}row {row} is line {line} with label {label} in the first, line {other_line} with label {other_label} in the second")  # fmt: skip


_Read = tuple[Path, Mapping[str, Any]]


def _facts(pairs: Sequence[tuple[_Read, _Read]]) -> dict[str, Any]:
    """Describe a run: folder and results of each task, beside those of the reference."""
    differs: dict[str, list[str]] = {}
    for mine, base in pairs:
        ours, theirs = read_settings(*mine), read_settings(*base)
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                changes = differs.setdefault(key, [])
                change = f"{_show(theirs.get(key))} → {_show(ours.get(key))}"
                if change not in changes:
                    changes.append(change)
    results = [mine[1] for mine, _ in pairs]
    return {
        "seeds": sorted({len(r["seeds"]) for r in results}),
        "parameters": sorted({r.get("n_parameters", 0) for r in results}),
        "pretrained": sorted({str(r["config"].get("model", {}).get("pretrained") or "") for r in results}),
        "commit": sorted({str(r.get("commit") or "") for r in results}),
        "differs": differs,
    }  # fmt: skip


def _show(value: Any) -> str:
    return "none" if value is None else str(value)
