"""The folder of a run: its files, how it comes to be, and what its report says about machine and data.

A run folder holds config.yaml (resolved), metrics.csv, loss.png, last.ckpt, model/ and report.json. Metrics and plots are
in `hyenadna.training.metrics_log`.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from hyenadna.errors import ConfigError, OutputError
from hyenadna.io.atomic import atomic_path, output_errors
from hyenadna.resources import package_version


@dataclass(frozen=True)
class RunFolder:
    """Where the files of one run are.

    Parameters
    ----------
    root
        The folder; it may not exist yet.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The resolved settings."""
        return self.root / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One row for every logged step and validation."""
        return self.root / "metrics.csv"

    @property
    def plot(self) -> Path:
        """The curves."""
        return self.root / "loss.png"

    @property
    def checkpoint(self) -> Path:
        """Everything that resuming needs."""
        return self.root / "last.ckpt"

    @property
    def model(self) -> Path:
        """The model, loadable with `hyenadna.load_model`."""
        return self.root / "model"

    @property
    def report(self) -> Path:
        """What was run, on what, and what came out."""
        return self.root / "report.json"

    def write_config(self, plain: Mapping[str, Any]) -> None:
        """Write the settings as YAML, replacing earlier ones."""
        with atomic_path(self.config, force=True) as temporary:
            temporary.write_text(yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True))

    def write_report(self, report: Mapping[str, Any]) -> None:
        """Write the report as JSON, replacing an earlier one."""
        write_json(self.report, report)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write indented JSON atomically, replacing the file."""
    with atomic_path(path, force=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def is_first_process() -> bool:
    """Say whether this process writes files: rank 0 of a distributed run, or the only one.

    Read from the launcher's environment (torchrun, SLURM, Lightning), so it is known before any process group exists.
    """
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return os.environ[name] == "0"
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def plan_run_folder(kind: str, run_dir: str | None, *, force: bool) -> RunFolder:
    """Choose the folder of a new run and check that it may be used; nothing is created.

    Parameters
    ----------
    kind
        ``pretrain`` or ``finetune``: where unnamed runs go, ``runs/<kind>/<time>``.
    run_dir
        The user's choice, or None.
    force
        Allow a folder that is not empty.

    Raises
    ------
    OutputError
        The folder is not empty, or is a file.
    """
    if run_dir is None:
        return RunFolder(Path("runs") / kind / time.strftime("%Y-%m-%d_%H-%M-%S"))
    root = Path(run_dir).expanduser()
    if root.exists() and not root.is_dir():
        raise OutputError(f"run_dir={run_dir} is a file; a folder is needed")
    if root.is_dir() and any(root.iterdir()) and not force and is_first_process():
        raise OutputError(
            f"run_dir={run_dir} is not empty; choose another, continue that run with resume={run_dir}, "
            "or replace it with force=true"
        )
    return RunFolder(root)


def create_run_folder(planned: RunFolder, *, named: bool, force: bool) -> RunFolder:
    """Create the folder of a run; an unnamed one gets a suffix where another run has taken its time.

    Parameters
    ----------
    planned
        From `plan_run_folder`.
    named
        Whether the user chose the folder.
    force
        Remove a former run's own files from it; other files stay.

    Raises
    ------
    OutputError
        The folder cannot be created.
    """
    root = planned.root
    with output_errors(root):
        if named:
            root.mkdir(parents=True, exist_ok=True)
            if force:
                _remove_run_files(RunFolder(root))
            return RunFolder(root)
        root.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(1000):
            candidate = root if attempt == 0 else root.with_name(f"{root.name}-{attempt}")
            try:
                candidate.mkdir()
            except FileExistsError:
                continue
            return RunFolder(candidate)
    raise OutputError(f"no free name for a run folder in {root.parent}; name one with run_dir=")


def _remove_run_files(run: RunFolder) -> None:
    for file in (run.config, run.metrics, run.plot, run.checkpoint, run.report):
        file.unlink(missing_ok=True)
    shutil.rmtree(run.model, ignore_errors=True)


def open_run_folder(path: str) -> RunFolder:
    """Open the folder of a run that is to be resumed.

    Raises
    ------
    ConfigError
        It is no run folder, or the run has saved no checkpoint yet.
    """
    run = RunFolder(Path(path).expanduser())
    if not path or not run.config.is_file():
        raise ConfigError(f"resume={path!s} is no run folder: it has no config.yaml")
    if (run.root / "results.json").exists() or (run.root / "predictions.csv").exists():
        raise ConfigError(
            f"resume={path} is a fine-tuning run; only pretraining runs can be resumed"
        )
    if not run.checkpoint.is_file():
        raise ConfigError(
            f"resume={path} cannot be resumed: the run stopped before its first checkpoint; start it anew with force=true"
        )
    return run


def environment() -> dict[str, Any]:
    """Describe the machine and the software: what a number in a report depends on besides settings and data."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "hardware": {
            "cpu": _cpu_name(),
            "cpu_cores": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": gpus,
        },
        "versions": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "hyenadna": package_version(),
            **{name: _version(name) for name in ("torch", "lightning", "numpy")},
        },
        "commit": git_commit(),
        "command": command_words(),
    }


def command_words() -> list[str]:
    """Return the command that runs, without ``--resume``: a resumed run leaves the same files as one that was never broken off."""
    return [Path(sys.argv[0]).name, *(word for word in sys.argv[1:] if word != "--resume")]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """Return the commit of the checkout that this package runs from, with ``+`` where it has changes; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
