"""Progress of long reading on standard error, for the verbs that may have to pack a genome first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn


@contextmanager
def packing_progress() -> Iterator[Callable[[int], None]]:
    """Give a function that shows how many bytes have been read; nothing appears until it is first called.

    On a terminal a line that grows, elsewhere one line at the start.
    """
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    bar = Progress(*columns, console=console, transient=True)
    started = False

    def advance(n_bytes: int) -> None:
        nonlocal started
        if not started:
            started = True
            if console.is_terminal:
                bar.start()
                bar.add_task("packing the genome into the cache", total=None)
            else:
                console.print("packing the genome into the cache (once)", highlight=False)
        if console.is_terminal:
            bar.update(bar.task_ids[0], advance=n_bytes)

    try:
        yield advance
    finally:
        if started and console.is_terminal:
            bar.stop()
