"""``hyenadna demo``: the main job on the bundled genome, as the commands that anybody would type."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyenadna.errors import HyenaDNAError
from hyenadna.resources import DEFAULT_MODEL

if TYPE_CHECKING:
    from rich.table import Table

_REGION = "chrXVI:100,001-110,000"


def demo(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder of the results; an earlier demo's are replaced."
        ),
    ] = Path("runs/demo"),
) -> None:
    """Pretrain, fine-tune and score on the bundled yeast genome: three to five minutes on two cores.

    Every step is printed as the command that you could type yourself. At the end a table sets each number beside its
    baseline.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    started = time.perf_counter()
    for title, words in _steps(output):
        console.print(f"\n[bold]{title}[/bold]\n[dim]$ hyenadna {shlex.join(words)}[/dim]")
        _run(words)
    typer.echo("")
    Console().print(_table(output))
    typer.echo(f"plots   {output / 'pretrain' / 'loss.png'}")
    typer.echo(f"        {output / 'finetune' / 'curves.png'}")
    typer.echo(f"models  {output / 'pretrain' / 'model'}")
    typer.echo(f"        {output / 'finetune' / 'model'}")
    typer.echo(f"scores  {output / 'scores.tsv'}")
    typer.echo(
        f"next    hyenadna score my.fa    # {DEFAULT_MODEL}, a model of human DNA that comes along; -m takes yours"
    )
    typer.echo(f"done in {time.perf_counter() - started:.0f} s")


def _steps(output: Path) -> list[tuple[str, list[str]]]:
    pretrained, task, tuned = output / "pretrain", output / "promoters", output / "finetune"
    genome = "bundled:scerevisiae/genome.2bit"
    return [
        (
            "1/5  Pretrain a language model on 14 yeast chromosomes",
            ["pretrain", "experiment=demo_pretrain", f"run_dir={pretrained}", "force=true"],
        ),
        (
            "2/5  Compare it with Markov models on chrXVI, which it has not seen",
            ["evaluate", "-m", f"{pretrained}", "-o", f"{output / 'evaluation.json'}", "--force"],
        ),
        (
            "3/5  Build a promoter task from the genome's annotation",
            ["datasets", "build", "promoters", "-g", genome, "-a", "bundled:scerevisiae/genes.gff3.gz",
             "-o", f"{task}", "--force"],
        ),
        (
            "4/5  Fine-tune the model on it",
            ["finetune", "experiment=demo_finetune", f"data.path={task}",
             f"model.pretrained={pretrained / 'model'}", f"run_dir={tuned}", "force=true"],
        ),
        (
            "5/5  Score a region, both strands",
            ["score", "-m", f"{pretrained}", "-f", genome, "-r", _REGION, "--rc",
             "-o", f"{output / 'scores.tsv'}", "--force"],
        ),
    ]  # fmt: skip


def _run(words: list[str]) -> None:
    from hyenadna.cli import main

    status = main(words)
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise HyenaDNAError(f"the demo stopped: 'hyenadna {words[0]}' ended with status {status}")


def _table(output: Path) -> Table:
    from rich.table import Table

    bits = _read_json(output / "evaluation.json")
    results = _read_json(output / "finetune" / "results.json")
    kmer = results["baselines"]["kmer_logistic_regression"]
    markov = bits["markov_bits_per_base"]
    score = (output / "scores.tsv").read_text(encoding="utf-8").splitlines()
    region = dict(zip(score[0].split("\t"), score[1].split("\t"), strict=True))

    table = Table(title="What came out, and what it is worth", title_justify="left")
    for name, justify in (("", "left"), ("hyenadna", "right"), ("baselines", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    orders = sorted({0, 2, 5, len(markov) - 1})
    table.add_row(
        "bits per base, chrXVI (lower is better)",
        f"{bits['bits_per_base']:.3f}",
        "\n".join(f"Markov order {k:<2} {markov[k]:.3f}" for k in orders),
    )
    low, high = results["test"]["mcc"]["ci95"]
    table.add_row(
        f"promoter MCC, {results['test']['n']:,} windows (higher is better)",
        f"{results['test']['mcc']['mean']:.3f}\n({low:.3f} to {high:.3f})",
        f"majority        {results['baselines']['majority']['test']['mcc']:.3f}\n"
        f"{kmer['k']}-mer logistic {kmer['test']['mcc']:.3f}",
    )
    table.add_row(
        f"bits per base, {_REGION}",
        f"{float(region['bits_per_base']):.3f}",
        "uniform guess   2.000",
    )
    return table


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
