"""Several hyenadna commands, each in a process of its own, some at a time: what suites and grids of runs share.

Small models leave a GPU waiting for Python, so several processes share it; several GPUs share the runs. What is finished is not run again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import typer

from hyenadna.errors import ConfigError
from hyenadna.training.config import TrainerConfig
from hyenadna.training.run_folder import write_json

__all__ = [
    "NOT_NEEDED",
    "UNFINISHED",
    "SideRun",
    "default_jobs",
    "remember_settings",
    "run_side_by_side",
    "visible_gpus",
]

_JOBS_ON_A_GPU = 4
_GRACE_SECONDS = 10.0  # that runs have to save and leave when the time is up


UNFINISHED = "unfinished"
NOT_NEEDED = "not needed"


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
        Afterwards: ``failed: …`` with its last line, ``unfinished: …`` where it was stopped or never began, ``not needed: …``, or empty.
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


def run_side_by_side(
    runs: Sequence[SideRun],
    jobs: int,
    gpus: Sequence[str],
    *,
    deadline: float | None = None,
    made_needless: Callable[[SideRun], Iterable[SideRun]] = lambda _run: (),
) -> None:
    """Run commands in their order, `jobs` at a time, each on the GPU that has fewest, and tell standard error of each one's end.

    Parameters
    ----------
    deadline
        Of `time.monotonic`. Nothing begins after it; what runs then is told to stop, and killed 10 s later.
    made_needless
        Called with each run that ended well; runs that it returns do not begin any more, or are told to stop.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C or SIGTERM; no process is left behind.
    """
    waiting, running = list(runs), list[SideRun]()
    done = 0

    def end(run: SideRun) -> None:
        nonlocal done
        done += 1
        if not run.note and run.process and run.process.returncode:
            lines = run.log.read_text(errors="replace").strip().splitlines()
            run.note = f"failed: {lines[-1] if lines else 'no output'}"
        typer.echo(f"{done} of {len(runs)}: {run.name} {run.note or 'done'}", err=True)

    with _stopping(waiting, running, deadline):
        while waiting or running:
            if deadline is not None and time.monotonic() >= deadline:
                typer.echo(f"the time is up: {len(running)} runs are stopped, {len(waiting)} do not begin", err=True)  # fmt: skip
                return
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
                end(run)
                for other in () if run.note else made_needless(run):
                    if other in waiting:
                        waiting.remove(other)
                        other.note = f"{NOT_NEEDED}: {run.name} is enough"
                        end(other)
                    elif other in running and not other.note:
                        other.note = f"{NOT_NEEDED}: {run.name} is enough"
                        _signal(other, signal.SIGTERM)


def _environment(run: SideRun, jobs: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    gpu = {} if run.gpu is None else {"CUDA_VISIBLE_DEVICES": run.gpu}
    return {"OMP_NUM_THREADS": threads, **os.environ, **gpu}


@contextmanager
def _stopping(
    waiting: list[SideRun], running: list[SideRun], deadline: float | None
) -> Iterator[None]:
    """Leave no process behind, whatever happens, and note what did not get to its end."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    own = threading.current_thread() is threading.main_thread()
    former = signal.signal(signal.SIGTERM, interrupt) if own else None
    try:
        yield
    finally:
        if own:
            signal.signal(signal.SIGTERM, former)
        alive = [run for run in running if run.process and run.process.poll() is None]
        for run in alive:
            _signal(run, signal.SIGTERM)
        patience = None if deadline is None else time.monotonic() + _GRACE_SECONDS
        for run in alive:
            if run.process is None:
                continue
            try:
                run.process.wait(
                    None if patience is None else max(0.0, patience - time.monotonic())
                )
            except subprocess.TimeoutExpired:
                _signal(run, signal.SIGKILL)
                run.process.wait()
        for run in (*waiting, *running):
            if not run.note and not (run.process and run.process.returncode == 0):
                run.note = f"{UNFINISHED}: {'stopped' if run.process else 'never began'}"


def _signal(run: SideRun, number: signal.Signals) -> None:
    if run.process:
        with suppress(ProcessLookupError):
            os.killpg(run.process.pid, number)
