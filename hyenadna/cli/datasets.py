"""``hyenadna datasets``: what is bundled, and building labelled tasks from a genome and its annotation."""

from __future__ import annotations

from typing import Annotated

import typer

from hyenadna.cli import build_task
from hyenadna.cli.audit import audit

app = typer.Typer(help="List the bundled data, build labelled tasks.", no_args_is_help=True)
app.add_typer(build_task.app, name="build")
app.command("audit")(audit)


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
