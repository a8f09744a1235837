"""``hyenadna compare``: fine-tuning runs against one another, task by task, with paired tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hyenadna.training.compare import ComparedRun

_FORMATS = (".md", ".csv", ".json")
_RUN_FILES = ("results.md", "results.csv", "results.json", "predictions.csv", "metrics.csv")


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN RUN...", help="Run or suite folders of finetune, FOLDER or NAME=FOLDER; the first is the reference."),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", help="Table to write: .md, .csv or .json; may be given several times."),
    ] = None,
    plot: Annotated[str | None, typer.Option(help="Picture to write: .png or .svg.")] = None,
    split: Annotated[
        str | None, typer.Option(help="test or dev (default: test; dev for tasks without a test split).")
    ] = None,
    metric: Annotated[str, typer.Option(help="mcc, f1_macro, accuracy, auroc or auprc.")] = "mcc",
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples of the rows.")] = 2000,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:  # fmt: skip
    """Does it help? Compare fine-tuning runs on the same tasks with the first of them, and say where a run is better and where not.

    A run is a folder of `hyenadna finetune`, for one task or for a suite (experiment=gue/all). For every task that all of them have, a table
    shows the means over seeds, the difference, its 95 % interval and the p-value of a paired test. The runs must have been tested on the
    same rows, which is checked. The test counts both what other rows and what other seeds would change, so give each run three seeds
    or more (the GUE recipes do); with one seed it is about two trained models only. p-values are corrected for the number of tasks (Holm).

    \b
    Does pretraining help on GUE? Three arms, then the table:
      hyenadna finetune experiment=gue/all data.root=gue run_dir=runs/bundled
      hyenadna finetune experiment=gue/all data.root=gue run_dir=runs/scratch model.pretrained=null model.d_model=192 model.n_layers=4 \\
        'model.mixers=[conv,hyena]' model.conv_kernel_size=15 model.bidirectional=true model.short_kernel_size=3 model.max_seq_len=1026
      hyenadna finetune experiment=gue/all data.root=gue run_dir=runs/public model.pretrained=LongSafari/hyenadna-tiny-1k-seqlen-hf \\
        model.both_directions=true
      hyenadna compare runs/scratch runs/bundled runs/public -o gue.md -o gue.json --plot gue.png

    \b
    The second arm has the shape of bundled:human-small-1k-masked and random weights. Its recipe is the pretrained arm's; a recipe of
    its own could do better, and the table names the settings in which runs differ. Promoters with a TATA box begin with the smaller
    bundled model in the first arm, and binding sites with an equivariant one, so there the arms differ in shape, too; splice sites begin
    with random weights in both. The public model reads one direction, and is given both. task.ensemble=1 takes a third of the time.

    \b
    Other examples
      hyenadna compare runs/scratch/prom_core_tata runs/bundled/prom_core_tata
      hyenadna compare small=runs/a large=runs/b --metric auroc -o table.csv
      hyenadna compare runs/a runs/b --split dev          # while choosing a recipe: leave test alone
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from rich.console import Console

    from hyenadna.cli.scoring import progress_bar
    from hyenadna.errors import ConfigError, OutputError
    from hyenadna.io.atomic import atomic_path, check_output
    from hyenadna.tasks.metrics import METRICS
    from hyenadna.training.compare import compare_runs, open_run
    from hyenadna.training.compare_report import as_csv, as_json, as_markdown
    from hyenadna.training.run_folder import environment

    if metric not in METRICS:
        raise ConfigError(f"--metric {metric} is unknown; expected {', '.join(METRICS)}")
    if split not in (None, "test", "dev"):
        raise ConfigError(f"--split {split} is unknown; expected test or dev")
    outputs = list(dict.fromkeys(output or []))
    for name, endings in ((plot, (".png", ".svg")), *((o, _FORMATS) for o in outputs)):
        if name is not None:
            if Path(name).suffix.lower() not in endings:
                option = "--plot" if name == plot else "-o"
                raise ConfigError(f"{option} is {name!r}; expected a name that ends with {', '.join(endings)}")  # fmt: skip
            check_output(name, force=force, folder=False)
    opened = [open_run(run) for run in runs]
    for name in outputs:
        for run in opened:
            if _is_of_run(Path(name).resolve(), run):
                raise OutputError(f"{name} is a file of {run.folder}; choose another name for the output")  # fmt: skip
    console = Console(stderr=True, quiet=quiet)
    with progress_bar(console, "tasks") as bar:
        task = bar.add_task("comparing", total=max(len(run.tasks) for run in opened))
        found = compare_runs(
            opened, metric=metric, split=split, n_resamples=resamples,
            progress=lambda _: bar.update(task, advance=1),
        )  # fmt: skip
    markdown = as_markdown(found)
    for name in outputs:
        suffix = Path(name).suffix.lower()
        text = markdown if suffix == ".md" else as_csv(found) if suffix == ".csv" else as_json(found, environment())  # fmt: skip
        with atomic_path(name, force=force, folder=False) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if plot is not None:
        from hyenadna.training.compare_plot import plot_comparison

        with atomic_path(plot, force=force, folder=False) as temporary:
            plot_comparison(found, temporary)
    typer.echo(markdown, nl=False)


def _is_of_run(path: Path, run: ComparedRun) -> bool:
    """Say whether a path is, or would be, one of a run's own tables."""
    folders = {Path(run.folder).expanduser(), *run.tasks.values()}
    return path.name in _RUN_FILES and path.parent in {folder.resolve() for folder in folders}
