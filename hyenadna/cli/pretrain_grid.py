"""A grid of pretraining runs: tasks or texts × models, each tuned on validation rows, and one table of test rows.

Each run is a process of its own; long ones begin first. The same command with the same run_dir goes on where it was stopped.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from hyenadna.cli.hydra_app import compose_inside
from hyenadna.cli.side_by_side import (
    NOT_NEEDED,
    UNFINISHED,
    SideRun,
    default_jobs,
    remember_settings,
    run_side_by_side,
    visible_gpus,
)
from hyenadna.data.synthetics.published import published_figures
from hyenadna.errors import ConfigError
from hyenadna.training.config import PretrainConfig
from hyenadna.training.grid_report import METRICS, GridCell, grid_markdown, plot_grid, write_grid
from hyenadna.training.run_folder import create_run_folder, environment, plan_run_folder

_OURS = ("run_dir", "force", "grid")
_NOT_HANDED_ON = ("experiment", "seed")


@dataclass(frozen=True)
class _Run:
    """One point of the grid."""

    row: str
    model: str
    tuned: tuple[tuple[str, Any], ...]
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        settings = " ".join(f"{key}={value}" for key, value in self.tuned)
        return f"{self.row} {self.model} {settings} seed={self.seed}"

    def report(self) -> dict[str, Any] | None:
        """Return report.json of a finished run."""
        file = self.folder / "report.json"
        if not file.is_file():
            return None
        report: dict[str, Any] = json.loads(file.read_text())
        return report if report["status"] == "finished" else None

    def reaches(self, enough: float | None, metric: str) -> bool:
        """Tell whether the run is finished, and as good on validation rows as is enough."""
        report = None if enough is None else self.report()
        if report is None or enough is None:
            return False
        sign = 1 if METRICS[metric].higher_is_better else -1
        return bool(sign * report["validation"][metric] >= sign * enough)


def run_grid(config: PretrainConfig, overrides: Sequence[str]) -> int:
    """Run a grid with the user's settings on top, and write and print its table.

    Parameters
    ----------
    config
        With `grid.rows`.
    overrides
        The user's words; those about the grid itself are not handed on.

    Returns
    -------
    int
        0; 1 where a cell has no figure, or runs of it are unfinished; 130 where the user stopped it.

    Raises
    ------
    ConfigError
        The folder holds runs with other settings, a run is to be resumed, or there are no such published figures.
    """
    grid = config.grid
    if config.resume:
        raise ConfigError("resume continues a single run; a grid goes on with the same run_dir")
    published = published_figures(grid.published) if grid.published else None
    root = create_run_folder(
        plan_run_folder("pretrain", config.run_dir, force=True), named=config.run_dir is not None, force=True
    ).root  # fmt: skip
    kept = [word for word in overrides if _group(word) not in _OURS]
    remember_settings(kept, root, force=config.force, what="grid")
    words = [word for word in kept if _group(word) not in _NOT_HANDED_ON]
    rows, models = grid.chosen(grid.rows), grid.chosen(grid.models)
    combinations = list(itertools.product(*([(key, v) for v in vs] for key, vs in grid.tune.items())))  # fmt: skip
    gpus = visible_gpus(config.trainer)
    jobs = grid.jobs or default_jobs(gpus)
    started = time.time()
    deadline = None if grid.seconds is None else time.monotonic() + grid.seconds
    notes: dict[_Run, str] = {}

    def run(points: Sequence[_Run], *, choosing: bool) -> None:
        """Run what is not finished; while settings are chosen, no more of them than are needed."""
        enough = grid.enough if choosing and not config.force else None
        waiting = [p for p in points if config.force or p.report() is None]
        settled = {(p.row, p.model): p for p in points if p.reaches(enough, grid.metric)}
        for p in [p for p in waiting if (p.row, p.model) in settled]:
            notes[p] = f"{NOT_NEEDED}: {settled[p.row, p.model].name} is enough"
            waiting.remove(p)
        sides = {
            p: SideRun(p.name, _command(p, config, words), root / "logs" / f"{_slug(p.name)}.txt")
            for p in waiting
        }
        of = {id(side): p for p, side in sides.items()}

        def made_needless(side: SideRun) -> list[SideRun]:
            mine = of[id(side)]
            if not mine.reaches(grid.enough if choosing else None, grid.metric):
                return []
            return [s for p, s in sides.items() if (p.row, p.model) == (mine.row, mine.model) and p != mine]  # fmt: skip

        try:
            run_side_by_side(list(sides.values()), jobs, gpus, deadline=deadline, made_needless=made_needless)  # fmt: skip
        finally:
            notes.update({p: side.note for p, side in sides.items()})

    def point(row: str, model: str, tuned: tuple[tuple[str, Any], ...], seed: int) -> _Run:
        name = "_".join([*(f"{key.rpartition('.')[2]}={value}" for key, value in tuned), f"seed={seed}"])  # fmt: skip
        return _Run(row, model, tuned, seed, root / _slug(row) / _slug(model) / _slug(name))

    tuning = {
        (row, model): [point(row, model, tuned, grid.seeds[0]) for tuned in combinations]
        for row in rows for model in models
    }  # fmt: skip
    work = {row: _work(config, row, models[0], words) for row in rows}
    stopped = False
    try:
        run(_queue(tuning, work, settings_first=grid.enough is not None), choosing=True)
    except KeyboardInterrupt:
        stopped = True
    best = {key: _best(points, grid.metric) for key, points in tuning.items()}
    runs = {
        key: [point(*key, chosen.tuned, seed) for seed in grid.seeds] if chosen else []
        for key, chosen in best.items()
    }
    others = {key: points[1:] for key, points in runs.items()}
    if stopped:
        notes.update({p: f"{UNFINISHED}: never began" for ps in others.values() for p in ps})
    else:
        try:
            run(_queue(others, work), choosing=False)
        except KeyboardInterrupt:
            stopped = True
    cells = [_cell(key, tuning[key], runs[key], notes, grid.metric) for key in tuning]
    everything = {p.folder: p for key in tuning for p in (*tuning[key], *runs[key])}
    write_grid(root, cells, [_described(p, notes) for p in everything.values()], published, {
        "command": ["hyenadna", "pretrain", *overrides], "seconds": round(time.time() - started, 1), **environment(),
    }, METRICS[grid.metric])  # fmt: skip
    if grid.axis:
        plot_grid(cells, published, root / "results.png", axis=grid.axis, metric=METRICS[grid.metric])  # fmt: skip
    typer.echo(grid_markdown(cells, published, METRICS[grid.metric]), nl=False)
    typer.echo(f"results {root / 'results.md'}, results.csv, results.json")
    if stopped or any(cell.unfinished for cell in cells):
        typer.echo(f"stopped; the same command with run_dir={root} goes on", err=True)
    return 130 if stopped else int(any(cell.note or cell.unfinished for cell in cells))


def _work(config: PretrainConfig, row: str, model: str, words: Sequence[str]) -> float:
    """Return the tokens that a run of a row trains on, 0 where its settings are wrong, which it will say itself."""
    try:
        found = compose_inside("pretrain", PretrainConfig, [*config.grid.rows[row], *config.grid.models[model], *words])  # fmt: skip
    except ConfigError:
        return 0.0
    return float(found.trainer.max_steps * found.data.seq_len * found.data.global_batch_size)


def _queue(
    points: Mapping[tuple[str, str], Sequence[_Run]],
    work: Mapping[str, float],
    *,
    settings_first: bool = False,
) -> list[_Run]:
    """Return runs, the longest first; or the first setting of everything first, as it may make others needless."""
    numbered = [(number, p) for ps in points.values() for number, p in enumerate(ps)]
    numbered.sort(key=lambda pair: (pair[0] if settings_first else 0, -work[pair[1].row]))
    return [p for _, p in numbered]


def _group(word: str) -> str:
    return word.lstrip("+~").split("=")[0].split(".")[0]


def _slug(name: str) -> str:
    # Without signs that Hydra would read in run_dir=…
    return "".join(c if c.isalnum() or c in ".-_" else "-" if c == "=" else "_" for c in name)


def _command(run: _Run, config: PretrainConfig, words: Sequence[str]) -> list[str]:
    """Return the words of a run: its row's, its model's, the user's and its own. What was stopped in good order goes on."""
    if not config.force and (run.folder / "report.json").is_file():
        return ["pretrain", f"resume={run.folder}"]
    own = [f"{key}={value}" for key, value in run.tuned]
    return [
        "pretrain", *config.grid.rows[run.row], *config.grid.models[run.model], *own, *words, f"seed={run.seed}",
        f"run_dir={run.folder}", "force=true",
    ]  # fmt: skip


def _best(points: Sequence[_Run], metric: str) -> _Run | None:
    """Return the run that is best on validation rows, of equal ones that with the lower loss; None where all failed."""
    scored = []
    sign = -1 if METRICS[metric].higher_is_better else 1
    for number, run in enumerate(points):
        if report := run.report():
            found = report["validation"]
            scored.append((sign * found[metric], found["loss_nats"], number, run))
    return min(scored)[3] if scored else None


def _cell(
    key: tuple[str, str],
    tuning: Sequence[_Run],
    runs: Sequence[_Run],
    notes: dict[_Run, str],
    metric: str,
) -> GridCell:
    everything = list({run.folder: run for run in (*tuning, *runs)}.values())
    unfinished = sum(1 for run in everything if notes.get(run, "").startswith(UNFINISHED) and run.report() is None)  # fmt: skip
    reports = [(run, run.report()) for run in runs]
    missing = [notes.get(run, "") or "failed: no report" for run, report in reports if report is None]  # fmt: skip
    failed = [note for note in missing if not note.startswith(UNFINISHED)]
    if not runs or failed:
        why = failed or sorted((notes[run] for run in tuning if notes.get(run)), key=lambda note: not note.startswith(UNFINISHED))  # fmt: skip
        return GridCell(*key, note=(why or ["failed: no report"])[0], unfinished=unfinished)
    found = [report for _, report in reports if report is not None]
    seconds = [r["throughput"]["seconds"] for run in everything if (r := run.report())]
    factor = METRICS[metric].factor
    return GridCell(
        *key, chosen=dict(runs[0].tuned), validation=factor * found[0]["validation"][metric],
        test=tuple(factor * report["test"][metric] for report in found), n_parameters=found[0]["n_parameters"],
        seconds=sum(seconds), unfinished=unfinished,
    )  # fmt: skip


def _described(run: _Run, notes: dict[_Run, str]) -> dict[str, Any]:
    report = run.report()
    what = {"row": run.row, "model": run.model, **dict(run.tuned), "seed": run.seed}
    if report is None:
        return {**what, "note": notes.get(run, "") or "failed: no report"}
    kept = ("steps", "validation", "test", "n_parameters", "throughput")
    return {**what, **{name: report[name] for name in kept}}
