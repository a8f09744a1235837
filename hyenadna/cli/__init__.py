"""The command line: one file a verb, and the one place where errors become exit codes.

Verb modules import heavy packages (torch, lightning) inside their function, so that ``hyenadna --help`` is instant.
A `HyenaDNAError` is the user's to mend: one sentence on stderr, status 2. Anything else is ours, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Annotated, Any

import typer

from hyenadna.errors import HyenaDNAError

__all__ = ["app", "main", "run"]

# Typer carries its own copy of click from 0.26 on: take the exception's base from Typer, whichever copy it uses.
_ClickException: type[Any] = typer.BadParameter.__mro__[2]

_VERBS = ("pretrain", "finetune", "evaluate", "score", "pack", "convert", "info", "demo")

app = typer.Typer(
    name="hyenadna",
    help="Long-context DNA language models: pretrain on genomes, fine-tune on labelled sequences, score anything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"hyenadna {version('hyenadna')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    pass


for _verb in _VERBS:
    try:
        _module = importlib.import_module(f"hyenadna.cli.{_verb}")
    except ModuleNotFoundError as _missing:  # while the verbs are being built
        if _missing.name != f"hyenadna.cli.{_verb}":
            raise
        continue
    app.command(_verb, context_settings=getattr(_module, "CONTEXT_SETTINGS", {}))(
        getattr(_module, _verb)
    )
try:
    from hyenadna.cli import datasets as _datasets

    app.add_typer(_datasets.app, name="datasets")
except ImportError:
    pass


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    argv
        The words after ``hyenadna``; None takes them from `sys.argv`.

    Returns
    -------
    int
        0 on success, 2 for a mistake of the user (one sentence on stderr), 130 after Ctrl-C, 141 after a closed pipe.
    """
    try:
        result = app(args=argv, prog_name="hyenadna", standalone_mode=False)
    except HyenaDNAError as error:
        return _fail(str(error))
    except _ClickException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return 2
        hint = f"; see '{error.ctx.command_path} --help'" if getattr(error, "ctx", None) else ""
        return _fail(error.format_message().rstrip(".") + hint)
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): not an error. Keep the interpreter from complaining at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return result if isinstance(result, int) else 0


def _fail(sentence: str) -> int:
    sys.stderr.write(f"error: {' '.join(sentence.split())}\n")
    return 2


def run() -> None:
    """Entry point of the ``hyenadna`` command."""
    sys.exit(main())
