"""Several hyenadna commands, each in a process of its own, some at a time: what suites and grids of runs share.

Small models leave a GPU waiting for Python, so several processes share it; several GPUs share the runs. What is finished is not run again.
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

import typer

from hyenadna.errors import ConfigError
from hyenadna.training.config import TrainerConfig
from hyenadna.training.run_folder import write_json

__all__ = ["SideRun", "default_jobs", "remember_settings", "run_side_by_side", "visible_gpus"]

_JOBS_ON_A_GPU = 4


@dataclass
class SideRun:
    """One command.

    Parameters
    ----------
    name
        For messages.
    words
        Behind ``hyenadna``.
    log
        File of what it prints.
    note
        Afterwards: ``failed: …`` with its last line, or empty.
    """

    name: str
    words: list[str]
    log: Path
    note: str = ""
    process: subprocess.Popen[bytes] | None = None
    gpu: str | None = None


def visible_gpus(trainer: TrainerConfig) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs that runs may use, none where they run on CPUs."""
    import torch

    if trainer.accelerator not in ("auto", "gpu", "cuda"):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else map(str, range(torch.cuda.device_count()))
    return list(names)[: torch.cuda.device_count()]


def default_jobs(gpus: Sequence[str]) -> int:
    """Return the number of runs at a time: 4 for each GPU, 1 without."""
    return _JOBS_ON_A_GPU * len(gpus) or 1


def remember_settings(words: Sequence[str], root: Path, *, force: bool, what: str) -> None:
    """Note the settings that the runs of a folder share; results under others must not come into one table.

    Raises
    ------
    ConfigError
        The folder holds runs with other settings, and `force` is off.
    """
    file = root / "settings.json"
    if (
        file.is_file()
        and not force
        and (former := json.loads(file.read_text())["settings"]) != list(words)
    ):
        raise ConfigError(
            f"{root} holds a {what} that ran with the settings {' '.join(former) or '(none)'}; give these, "
            "another run_dir, or force=true to run all tasks anew"
        )
    write_json(file, {"settings": list(words)})


def run_side_by_side(runs: Sequence[SideRun], jobs: int, gpus: Sequence[str]) -> None:
    """Run commands, `jobs` at a time, each on the GPU that has fewest, and tell standard error of each one's end."""
    waiting, running = list(runs), list[SideRun]()
    done = 0
    with _stopping(running):
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                run.gpu = min(gpus, key=[r.gpu for r in running].count, default=None)
                run.log.parent.mkdir(parents=True, exist_ok=True)
                with run.log.open("wb") as log:
                    run.process = subprocess.Popen(
                        [sys.executable, "-m", "hyenadna", *run.words], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                        start_new_session=True, env=_environment(run, jobs),
                    )  # fmt: skip
                running.append(run)
            time.sleep(0.2)
            for run in [r for r in running if r.process and r.process.poll() is not None]:
                running.remove(run)
                done += 1
                if run.process and run.process.returncode:
                    lines = run.log.read_text(errors="replace").strip().splitlines()
                    run.note = f"failed: {lines[-1] if lines else 'no output'}"
                typer.echo(f"{done} of {len(runs)}: {run.name} {run.note or 'done'}", err=True)


def _environment(run: SideRun, jobs: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    gpu = {} if run.gpu is None else {"CUDA_VISIBLE_DEVICES": run.gpu}
    return {"OMP_NUM_THREADS": threads, **os.environ, **gpu}


@contextmanager
def _stopping(running: list[SideRun]) -> Iterator[None]:
    """Leave no process behind, whatever happens."""
    try:
        yield
    finally:
        for run in running:
            if run.process and run.process.poll() is None:
                os.killpg(run.process.pid, signal.SIGTERM)
                run.process.wait()
