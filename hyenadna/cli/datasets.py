"""``hyenadna datasets``: what is bundled, and building labelled tasks from a genome and its annotation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List the bundled data, build labelled tasks.", no_args_is_help=True)
build = typer.Typer(
    help="Build a labelled task from a genome and its annotation.", no_args_is_help=True
)
app.add_typer(build, name="build")


@app.command("list")
def list_datasets(
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the files' SHA-256, too.")
    ] = False,
) -> None:
    """List the data sets that come with hyenadna."""
    from hyenadna.data.manifest import bundled_datasets
    from hyenadna.errors import DataError

    for dataset in bundled_datasets():
        typer.echo(f"{dataset.name}\t{dataset.title}")
        for role, file in (("genome", dataset.genome), ("annotation", dataset.annotation)):
            if file:
                typer.echo(f"  {role}\tbundled:{dataset.name}/{file}")
        typer.echo(
            f"  source\t{dataset.source}\n  licence\t{dataset.licence}\n  card\t{dataset.folder / 'README.md'}"
        )
        if verify:
            if damaged := dataset.damaged_files():
                raise DataError(
                    f"bundled data set {dataset.name!r} is damaged ({', '.join(damaged)}); reinstall hyenadna"
                )
            typer.echo("  checksums\tverified")


@build.command("promoters")
def promoters(
    genome: Annotated[str, typer.Option("--genome", "-g", help="Genome: .2bit or FASTA.")],
    annotation: Annotated[
        str, typer.Option("--annotation", "-a", help="Genes of the same assembly: GFF3 or GTF.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    upstream: Annotated[int, typer.Option(help="Bases before the start of a gene.")] = 200,
    downstream: Annotated[int, typer.Option(help="Bases from the start on.")] = 100,
    test_contigs: Annotated[
        str,
        typer.Option(
            help="Contigs of the test split, separated by commas. (default: chosen by size)"
        ),
    ] = "",
    dev_contigs: Annotated[
        str,
        typer.Option(
            help="Contigs of the dev split, separated by commas. (default: chosen by size)"
        ),
    ] = "",
    kinds: Annotated[
        str,
        typer.Option(
            help="Features whose 5' ends are starts, separated by commas. (default: mRNA, else transcript, else gene)"
        ),
    ] = "",
    max_gc_difference: Annotated[
        float,
        typer.Option(
            help="Largest difference in GC content between the two windows of a pair, 0 to 1."
        ),
    ] = 0.02,
    seed: Annotated[int, typer.Option(help="Another seed chooses other negatives.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite files of an existing folder.")
    ] = False,
) -> None:
    """Build a promoter task: windows around the starts of genes against matched windows elsewhere.

    Each negative lies on the promoter's chromosome, has nearly its GC content and the same three bases at the place of the start.
    The folder (train.csv, dev.csv, test.csv, windows.bed, README.md) goes into 'hyenadna finetune data.path=FOLDER'.

    \b
    Example
      hyenadna datasets build promoters -g bundled:scerevisiae/genome.2bit -a bundled:scerevisiae/genes.gff3.gz -o promoters
    """  # noqa: D301 - the backspace is click\'s mark for text not to be wrapped
    from hyenadna.data.genome import Genome
    from hyenadna.data.promoters import SPLITS, PromoterSettings, build_promoter_task
    from hyenadna.io.atomic import check_output

    def names(text: str) -> tuple[str, ...]:
        return tuple(name.strip() for name in text.split(",") if name.strip())

    settings = PromoterSettings(
        upstream=upstream,
        downstream=downstream,
        test_contigs=names(test_contigs),
        dev_contigs=names(dev_contigs),
        kinds=names(kinds),
        max_gc_difference=max_gc_difference,
        seed=seed,
    )
    check_output(output, force=force, folder=True)  # before a FASTA genome is packed
    summary = build_promoter_task(
        Genome.open(genome), annotation, output, settings=settings, force=force
    )
    for split in SPLITS:
        typer.echo(f"{split}\t{summary.rows[split]:,} rows\t{', '.join(summary.contigs[split])}")
    left_out = [f"{count} {reason}" for reason, count in summary.skipped.items() if count]
    typer.echo(f"left out of {summary.starts:,} starts: {'; '.join(left_out) or 'none'}", err=True)
