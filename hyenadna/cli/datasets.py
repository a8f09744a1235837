"""``hyenadna datasets``: what there is, fetching and checking it, and building labelled tasks from a genome and its annotation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hyenadna.cli import build_task
from hyenadna.cli.audit import audit

if TYPE_CHECKING:
    from hyenadna.data.download import Progress
    from hyenadna.data.fetch import FileState
    from hyenadna.data.manifest import RemoteDataset, RemoteFile
    from hyenadna.data.published import PublishedResult

app = typer.Typer(
    help="List, fetch and check data sets, build labelled tasks.", no_args_is_help=True
)
app.add_typer(build_task.app, name="build")
app.command("audit")(audit)


_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Data set, as 'list' names it, or path of a dataset.yaml of your own."
    ),
]


@app.command("list")
def list_datasets(
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the SHA-256 of the bundled files, too.")
    ] = False,
) -> None:
    """List the data sets: those that come with hyenadna, and those that it can fetch.

    Lines are "name<TAB>bundled, fetched or remote<TAB>title".
    """
    from hyenadna.data.fetch import default_folder
    from hyenadna.data.manifest import bundled_datasets, remote_datasets

    for dataset in bundled_datasets():
        typer.echo(f"{dataset.name}\tbundled\t{dataset.title}")
        for role, file in (("genome", dataset.genome), ("annotation", dataset.annotation)):
            if file:
                typer.echo(f"  {role}\tbundled:{dataset.name}/{file}")
        if verify:
            _verify_bundled(dataset.name, dataset.damaged_files())
            typer.echo("  checksums\tverified")
    for remote in remote_datasets():
        folder = default_folder(remote.name)
        there = all((folder / file.place).exists() for file in remote.files)
        typer.echo(f"{remote.name}\t{'fetched' if there else 'remote'}\t{remote.title}")


@app.command("show")
def show(
    name: _Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what a data set is: source, licence, citation, tasks, published results, and every file with its checksum.

    Results are in percent; those of sources with another split than the official test do not compare with a test result.

    \b
    Examples
      hyenadna datasets show gue
      hyenadna datasets show gue | grep prom_core_tata
      hyenadna datasets show hg38 --json | jq -r '.files[].urls[0]'
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.manifest import CARD, RemoteDataset, find_dataset
    from hyenadna.data.published import load_published

    dataset = find_dataset(name)
    results = load_published(name)
    content = dataset._asdict() | {"card": str(dataset.folder / CARD)}
    del content["folder"]
    if isinstance(dataset, RemoteDataset):
        content["files"] = [file._asdict() for file in dataset.files]
        content["tasks"] = [task._asdict() for task in dataset.tasks]
        content["published"] = [r._asdict() | {"source": r.source._asdict()} for r in results]
    if as_json:
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for key, value in content.items():
        if not isinstance(value, list):
            typer.echo(f"{key}\t{value}")
    if not isinstance(dataset, RemoteDataset):
        return
    for task in dataset.tasks:
        length = f"{task.length:,}" if task.length else "unknown"
        bases = f"{length} bases{' (median)' if task.varies and task.length else ''}"
        typer.echo(f"task\t{task.name}\t{bases}\t{task.classes} classes\t{task.metric}")
    _show_published(results)
    for file in dataset.files:
        size = f"{file.size:,} bytes" if file.size else "size unknown"
        kinds = (("sha256", file.sha256), ("md5", file.md5))
        sums = [f"{kind} {digest}" for kind, digest in kinds if digest]
        typer.echo("\t".join(["file", file.path, size, *(sums or ["no checksum"]), *file.urls]))


def _show_published(results: Sequence[PublishedResult]) -> None:
    for (task, metric, source), rows in groupby(
        results, lambda r: (r.task, r.metric, r.source.name)
    ):
        figures = (
            f"{row.model} {row.value:g}" + ("" if row.spread is None else f" ± {row.spread:g}")
            for row in rows
        )
        typer.echo("\t".join(["published", task, f"{metric} x 100", source, *figures]))
    for source in dict.fromkeys(row.source for row in results):
        spread = [f"±: {source.spread}"] if source.spread else []
        where = f"{source.paper}, {source.table}"
        typer.echo(
            "\t".join(
                ["source", source.name, where, source.url, source.split, source.protocol, *spread]
            )
        )


@app.command("fetch")
def fetch(
    name: _Name,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the files. (default: in the cache)"),
    ] = None,
    mirror: Annotated[
        Path | None,
        typer.Option(
            envvar="HYENADNA_MIRROR",
            help="Folder of local copies: MIRROR/NAME/FILE is taken where it exists, the web elsewhere.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Fetch everything again, over what is there.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but the folder and errors.")
    ] = False,
) -> None:
    """Fetch a data set, and print the folder that it is in.

    What was cut or killed is continued by the next call, and files that are there and whole are not fetched again. A file is kept only if its
    bytes are the published ones. Where no checksum is published, SHA256SUMS in the folder records what was received. Proxies
    come from the variables http_proxy, https_proxy and no_proxy.

    \b
    Examples
      hyenadna datasets fetch gue -o gue
      hyenadna finetune data.path=gue/prom/prom_core_tata
    \b
      hyenadna pretrain data=fasta data.fasta=$(hyenadna datasets fetch hg38)/hg38.2bit
    \b
    On a machine without network, from a folder that holds gue/EMP/H3/train.csv and so on:
      hyenadna datasets fetch gue --mirror /data/copies
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.fetch import default_folder, fetch_dataset
    from hyenadna.data.manifest import BundledDataset, find_dataset
    from hyenadna.errors import ConfigError

    dataset = find_dataset(name)
    if isinstance(dataset, BundledDataset):
        raise ConfigError(
            f"the data set {dataset.name!r} comes with hyenadna: use it as bundled:{dataset.name}/{dataset.genome}"
        )
    if mirror is not None and not mirror.expanduser().is_dir():
        raise ConfigError(f"the mirror {mirror} (--mirror, HYENADNA_MIRROR) is no folder")
    folder = output.expanduser() if output else default_folder(dataset.name)
    with _fetching(dataset, quiet=quiet) as progress:
        states = fetch_dataset(
            dataset,
            folder,
            mirror=mirror.expanduser() if mirror else None,
            force=force,
            progress=progress,
        )
    if not quiet:
        count = f"{sum(state.fetched for state in states)} of {len(states)} files fetched"
        unpublished = (
            "not verified, as no checksum is published (SHA256SUMS records what was received)"
        )
        typer.echo(f"{dataset.name}: {count}, {_summary(states, unpublished)}", err=True)
    typer.echo(str(folder))


@app.command("verify")
def verify(
    name_or_folder: Annotated[
        str,
        typer.Argument(
            metavar="NAME_OR_FOLDER", help="Data set, or folder that one was fetched to."
        ),
    ],
) -> None:
    """Check that the files of a data set are whole.

    A file is verified against its published checksum; where none is published, it can only be told that it is unchanged since it was fetched.

    \b
    Examples
      hyenadna datasets verify scerevisiae
      hyenadna datasets verify /data/gue
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.checksums import CHECKSUMS
    from hyenadna.data.fetch import default_folder, verify_dataset
    from hyenadna.data.manifest import MANIFEST, BundledDataset, find_dataset, read_manifest
    from hyenadna.errors import DataError

    folder = Path(name_or_folder).expanduser()
    if (folder / CHECKSUMS).is_file():
        dataset = read_manifest(folder / MANIFEST)
    elif folder.is_dir() and (folder / MANIFEST).is_file():
        raise DataError(f"{folder} holds a manifest but no {CHECKSUMS}: nothing was fetched to it")
    else:
        dataset = find_dataset(name_or_folder)
        folder = default_folder(dataset.name)
    if isinstance(dataset, BundledDataset):
        _verify_bundled(dataset.name, dataset.damaged_files())
        typer.echo(f"{dataset.name}: verified")
        return
    if not folder.is_dir():
        raise DataError(
            f"the data set {dataset.name!r} is not in {folder}; get it with 'hyenadna datasets fetch {dataset.name}', "
            "or name the folder that it was fetched to"
        )
    states = verify_dataset(dataset, folder)
    if bad := [f"{state.path} {state.state}" for state in states if state.state in _BAD]:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"the data set {dataset.name!r} in {folder} is not whole ({', '.join(bad[:5])}{more}); fetch it again with "
            f"'hyenadna datasets fetch {dataset.name} --output {folder} --force'"
        )
    typer.echo(
        f"{dataset.name}: {_summary(states, 'unchanged since they were fetched (no checksum is published)')}"
    )


_BAD = ("damaged", "missing")


def _verify_bundled(name: str, damaged: list[str]) -> None:
    from hyenadna.errors import DataError

    if damaged:
        raise DataError(
            f"bundled data set {name!r} is damaged ({', '.join(damaged)}); reinstall hyenadna"
        )


def _summary(states: list[FileState], unpublished: str) -> str:
    count = Counter(state.state for state in states)
    parts = []
    if count["verified"]:
        parts.append(f"{count['verified']} verified against published checksums")
    if count["unchanged"]:
        parts.append(f"{count['unchanged']} {unpublished}")
    return ", ".join(parts)


@contextmanager
def _fetching(
    dataset: RemoteDataset, *, quiet: bool
) -> Iterator[Callable[[RemoteFile], Progress] | None]:
    """Show each file's progress on standard error: a bar on a terminal, elsewhere a line."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import (
        Progress as Bar,
    )

    if quiet:
        yield None
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())  # fmt: skip
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(dataset.name, total=None)

        def start(file: RemoteFile) -> Progress:
            if not console.is_terminal:
                typer.echo(f"fetching {dataset.name}/{file.path}", err=True)
            bar.reset(task, total=file.size, description=file.path)
            return lambda done, total: bar.update(task, completed=done, total=total)

        yield start
