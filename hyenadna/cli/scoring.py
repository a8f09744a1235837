"""What the verbs that score with a language model share: checks of their settings, the progress bar, the record of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyenadna.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from hyenadna.inference.forward import BatchSize


def parse_batch_size(text: str) -> BatchSize:
    """Read ``--batch-size``.

    Raises
    ------
    ConfigError
        It is neither auto nor a number of at least 1.
    """
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"--batch-size is {text!r}; expected auto or a number of at least 1")
    return int(text)


def require_dtype(dtype: str) -> None:
    """Check ``--dtype``.

    Raises
    ------
    ConfigError
        It is neither fp32 nor bf16.
    """
    if dtype not in ("fp32", "bf16"):
        raise ConfigError(f"--dtype {dtype!r} is unknown; expected fp32 or bf16")


def is_stream(output: str) -> bool:
    """Tell whether an output is standard output, a device or a pipe, which have no place beside them for other files."""
    return output == "-" or output.startswith(("/dev/", "/proc/"))


def require_other_than_inputs(output: str, *inputs: str | None) -> None:
    """Check that an output is none of the inputs, which it would destroy.

    Raises
    ------
    OutputError
        It is.
    """
    from hyenadna.resources import resolve

    for given in inputs:
        if (
            given not in (None, "-")
            and output != "-"
            and Path(output).resolve() == resolve(str(given)).resolve()
        ):
            raise OutputError(
                f"{output} is an input of this command; choose another name for the output"
            )


def progress_bar(console: Console, unit: str) -> Progress:
    """Return a bar that counts a unit such as bases, silent where the console is quiet or no terminal."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn(f"{{task.completed:,.0f}} {unit}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )


def write_record(path: str, record: dict[str, Any], *, force: bool) -> None:
    """Write the record of a run as JSON, with machine, versions and command added."""
    import json

    from hyenadna.io import open_output
    from hyenadna.training.run_folder import environment

    with open_output(path, force=force) as out:
        json.dump(record | environment(), out, indent=2)
        out.write("\n")
