"""A suite of fine-tuning experiments: each one a process of its own, some at a time, and one table in the end.

A task whose results are there is not run again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from hyenadna.cli.side_by_side import (
    SideRun,
    default_jobs,
    remember_settings,
    run_side_by_side,
    visible_gpus,
)
from hyenadna.data.manifest import RemoteDataset, find_dataset
from hyenadna.data.published import load_published
from hyenadna.errors import ConfigError
from hyenadna.resources import config_dir
from hyenadna.training.finetune_config import FinetuneConfig
from hyenadna.training.run_folder import (
    create_run_folder,
    environment,
    plan_run_folder,
)
from hyenadna.training.suite_report import SuiteRow, as_markdown, suite_row, write_table

_OURS = ("experiment", "run_dir", "force", "suite")


@dataclass
class _Task:
    experiment: str
    task: str
    folder: Path
    note: str = ""


def run_suite(config: FinetuneConfig, overrides: Sequence[str]) -> int:
    """Run every experiment of a suite with the user's settings, and write and print their table.

    Parameters
    ----------
    config
        With `suite`.
    overrides
        The user's words; those about the suite itself are not handed on.

    Returns
    -------
    int
        0; 1 where an experiment failed; 130 where the user stopped it.

    Raises
    ------
    ConfigError
        There is no such experiment, no folder data.root, or the folder of the run holds a suite that ran with other settings.
    """
    if config.data.root is not None and not Path(config.data.root).is_dir():
        raise ConfigError(
            f"data.root={config.data.root}: no such folder; give the one that holds the tasks' folders, such as {config.suite.dataset or 'tf'}"
        )
    root = create_run_folder(
        plan_run_folder("finetune", config.run_dir, force=True), named=config.run_dir is not None, force=True
    ).root  # fmt: skip
    tasks = [_task(name, config, root) for name in config.suite.experiments]
    words = [word for word in overrides if word.lstrip("+~").split("=")[0].split(".")[0] not in _OURS]  # fmt: skip
    remember_settings(words, root, force=config.force, what="suite")
    started = time.time()
    try:
        gpus = visible_gpus(config.trainer)
        jobs = config.suite.jobs or default_jobs(gpus)
        _run_all(tasks, words, root, jobs, gpus, force=config.force)
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command with run_dir={root} goes on", err=True)
        return 130
    rows = _rows(tasks, config.suite.dataset)
    write_table(root, rows, {
        "command": ["hyenadna", "finetune", *overrides], "seconds": round(time.time() - started, 1), **environment(),
    })  # fmt: skip
    typer.echo(as_markdown(rows), nl=False)
    typer.echo(f"results {root / 'results.md'}, results.csv, results.json")
    return int(any(row.note.startswith("failed") for row in rows))


def _task(name: str, config: FinetuneConfig, root: Path) -> _Task:
    file = config_dir() / "experiment" / f"{name}.yaml"
    if not file.is_file():
        raise ConfigError(f"suite.experiments names {name!r}, but there is no {file.name} in configs/experiment")  # fmt: skip
    path = str(yaml.safe_load(file.read_text())["data"]["path"])
    there = (Path(config.data.root) / path if config.data.root else Path(path)).exists()
    note = "" if there else f"no data: there is no {path} in {config.data.root or 'this folder'}"
    return _Task(name, path, root / name.rpartition("/")[2], note)


def _run_all(
    tasks: list[_Task], words: list[str], root: Path, jobs: int, gpus: Sequence[str], *, force: bool
) -> None:
    waiting = [t for t in tasks if not t.note and (force or not (t.folder / "results.json").is_file())]  # fmt: skip
    runs = [
        SideRun(
            task.experiment,
            ["finetune", f"experiment={task.experiment}", *words, f"run_dir={task.folder}", "force=true"],
            root / "logs" / f"{task.folder.name}.txt",
        )
        for task in waiting
    ]  # fmt: skip
    run_side_by_side(runs, jobs, gpus)
    for task, run in zip(waiting, runs, strict=True):
        task.note = run.note


def _rows(tasks: Sequence[_Task], dataset: str) -> list[SuiteRow]:
    found = find_dataset(dataset) if dataset else None
    metrics = {t.name: t.metric for t in found.tasks} if isinstance(found, RemoteDataset) else {}
    published = load_published(dataset) if dataset else ()
    rows = []
    for task in tasks:
        metric = metrics.get(task.task, "mcc")
        if task.note:
            rows.append(SuiteRow(task.task, metric, note=task.note))
            continue
        results: dict[str, Any] = json.loads((task.folder / "results.json").read_text())
        rows.append(suite_row(task.task, metric, results, published))
    return rows
