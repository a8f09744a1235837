"""``hyenadna pack``: a FASTA file into a packed genome."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pack(
    fasta: Annotated[
        str, typer.Argument(help="FASTA file: plain, gzip or bgzip; - for standard input.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .2bit file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Pack a FASTA file into UCSC's .2bit format, which every command reads at once.

    Bases, N, soft mask (lower case) and names are kept; IUPAC codes other than N become N and are counted. Nothing needs to be
    packed by hand: a FASTA file given to another command is packed into the cache on first use.

    \b
    Example
      hyenadna pack genome.fa.gz -o genome.2bit
    """  # noqa: D301 - the backspace is click\'s mark for text not to be wrapped
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from hyenadna.data.packing import pack as pack_fasta

    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("packing {task.description}"),
        TextColumn("{task.fields[megabases]:,.1f} Mb"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        name = "standard input" if fasta == "-" else Path(fasta).name
        task = progress.add_task(name, total=None, megabases=0.0)

        def advance(bases: int) -> None:
            done = progress.tasks[0].fields["megabases"] + bases / 1e6
            progress.update(task, megabases=done)

        summary = pack_fasta(fasta, output, force=force, progress=advance)
    ambiguous = (
        f" ({summary.ambiguous:,} of them were other IUPAC codes)" if summary.ambiguous else ""
    )
    typer.echo(
        f"{output}: {summary.contigs:,} contig{'s' if summary.contigs != 1 else ''}, {summary.bases:,} bases, "
        f"{summary.n_bases:,} N{ambiguous}, {summary.soft_masked:,} soft-masked"
    )
