"""A suite of fine-tuning experiments: each one a process of its own, some at a time, and one table in the end.

Small models leave a GPU waiting for Python, so several processes share it; several GPUs share the experiments. A task whose results are there is not run again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
import yaml

from hyenadna.data.manifest import RemoteDataset, find_dataset
from hyenadna.data.published import load_published
from hyenadna.errors import ConfigError
from hyenadna.resources import config_dir
from hyenadna.training.finetune_config import FinetuneConfig
from hyenadna.training.run_folder import (
    create_run_folder,
    environment,
    plan_run_folder,
    write_json,
)
from hyenadna.training.suite_report import SuiteRow, as_markdown, suite_row, write_table

_JOBS_ON_A_GPU = 4
_OURS = ("experiment", "run_dir", "force", "suite")


@dataclass
class _Task:
    experiment: str
    task: str
    folder: Path
    note: str = ""
    process: subprocess.Popen[bytes] | None = None
    gpu: str | None = None


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
    _remember(words, root, force=config.force)
    started = time.time()
    try:
        gpus = _gpus(config)
        jobs = config.suite.jobs or _JOBS_ON_A_GPU * len(gpus) or 1
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


def _remember(words: Sequence[str], root: Path, *, force: bool) -> None:
    """Note the settings that the tasks of a folder share; results under others must not come into one table."""
    file = root / "settings.json"
    if (
        file.is_file()
        and not force
        and (former := json.loads(file.read_text())["settings"]) != list(words)
    ):
        raise ConfigError(
            f"{root} holds a suite that ran with the settings {' '.join(former) or '(none)'}; give these, "
            "another run_dir, or force=true to run all tasks anew"
        )
    write_json(file, {"settings": list(words)})


def _task(name: str, config: FinetuneConfig, root: Path) -> _Task:
    file = config_dir() / "experiment" / f"{name}.yaml"
    if not file.is_file():
        raise ConfigError(f"suite.experiments names {name!r}, but there is no {file.name} in configs/experiment")  # fmt: skip
    path = str(yaml.safe_load(file.read_text())["data"]["path"])
    there = (Path(config.data.root) / path if config.data.root else Path(path)).exists()
    note = "" if there else f"no data: there is no {path} in {config.data.root or 'this folder'}"
    return _Task(name, path, root / name.rpartition("/")[2], note)


def _gpus(config: FinetuneConfig) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs that experiments may use, none where they run on CPUs."""
    import torch

    if config.trainer.accelerator not in ("auto", "gpu", "cuda"):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else map(str, range(torch.cuda.device_count()))
    return list(names)[: torch.cuda.device_count()]


def _run_all(
    tasks: list[_Task], words: list[str], root: Path, jobs: int, gpus: Sequence[str], *, force: bool
) -> None:
    logs = root / "logs"
    logs.mkdir(exist_ok=True)
    waiting = [t for t in tasks if not t.note and (force or not (t.folder / "results.json").is_file())]  # fmt: skip
    running: list[_Task] = []
    total, done = len(waiting), 0
    with _stopping(running):
        while waiting or running:
            while waiting and len(running) < jobs:
                task = waiting.pop(0)
                task.gpu = min(gpus, key=[t.gpu for t in running].count, default=None)
                with (logs / f"{task.folder.name}.txt").open("wb") as log:
                    command = [
                        sys.executable, "-m", "hyenadna", "finetune", f"experiment={task.experiment}", *words,
                        f"run_dir={task.folder}", "force=true",
                    ]  # fmt: skip
                    task.process = subprocess.Popen(
                        command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                        start_new_session=True, env=_environment(task, jobs),
                    )  # fmt: skip
                running.append(task)
            time.sleep(0.2)
            for task in [t for t in running if t.process and t.process.poll() is not None]:
                running.remove(task)
                done += 1
                if task.process and task.process.returncode:
                    lines = (logs / f"{task.folder.name}.txt").read_text(errors="replace").strip().splitlines()  # fmt: skip
                    task.note = f"failed: {lines[-1] if lines else 'no output'}"
                typer.echo(f"{done} of {total}: {task.experiment} {task.note or 'done'}", err=True)


def _environment(task: _Task, jobs: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    gpu = {} if task.gpu is None else {"CUDA_VISIBLE_DEVICES": task.gpu}
    return {"OMP_NUM_THREADS": threads, **os.environ, **gpu}


@contextmanager
def _stopping(running: list[_Task]) -> Iterator[None]:
    """Leave no process behind, whatever happens."""
    try:
        yield
    finally:
        for task in running:
            if task.process and task.process.poll() is None:
                os.killpg(task.process.pid, signal.SIGTERM)
                task.process.wait()


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
