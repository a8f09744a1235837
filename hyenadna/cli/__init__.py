"""The command line: one file a verb, and the one place where errors become exit codes.

Verb modules import heavy packages (torch, lightning) inside their function, so that ``hyenadna --help`` is instant.
A `HyenaDNAError` is the user's to mend: one sentence on stderr, status 2. Anything else is ours, and keeps its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from hyenadna.cli import bench, bench_layer, bench_loader, bench_step, datasets
from hyenadna.errors import HyenaDNAError
from hyenadna.ops.memory import keep_freed_memory

__all__ = ["app", "main", "run"]

# Typer carries its own copy of click from 0.26 on: take the exception's base from Typer, whichever copy it uses.
_ClickException: type[Any] = typer.BadParameter.__mro__[2]

_VERBS = {
    "demo": "The main job on bundled data: start here.",
    "pretrain": "Train a language model on genomes, or on text.",
    "finetune": "Train a classifier on labelled sequences.",
    "compare": "Fine-tuning runs against one another, with paired tests.",
    "predict": "Classes of new sequences, from a classifier.",
    "evaluate": "Held-out bits per base, or a classifier's metrics.",
    "score": "Log-likelihoods of sequences and regions.",
    "vep": "Effects of variants: VCF in, scored VCF or TSV out.",
    "ism": "Effects of every single change in a region.",
    "embed": "Vectors of sequences, regions or bases.",
    "generate": "Continuations of sequences, base by base.",
    "pack": "FASTA to .2bit.",
    "convert": "Model folders to and from the published layouts.",
    "info": "Versions, devices, backends, cache.",
}

app = typer.Typer(
    name="hyenadna",
    help="Long-context DNA language models: pretrain on genomes, fine-tune on labelled sequences, score anything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Rich would rewrap the examples, which are there to be copied
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(value: bool) -> None:
    if value:
        from hyenadna.resources import package_version

        typer.echo(f"hyenadna {package_version()}")
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


for _verb, _summary in _VERBS.items():
    _module = importlib.import_module(f"hyenadna.cli.{_verb}")
    _settings = getattr(_module, "CONTEXT_SETTINGS", {})
    app.command(_verb, short_help=_summary, context_settings=_settings)(getattr(_module, _verb))
app.add_typer(datasets.app, name="datasets")
app.add_typer(bench.app, name="bench")
bench.app.command("layer")(bench_layer.layer)
bench.app.command("step")(bench_step.step)
bench.app.command("loader")(bench_loader.loader)


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
        return _fail(error.format_message().rstrip(".") + _found(error, argv) + hint)
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("interrupted\n")
        return 130
    except SystemExit as leave:
        # Typer leaves this way when the reader of a pipe has gone (`| head`).
        if isinstance(leave.__context__, BrokenPipeError):
            return 141
        raise
    if result == 130:  # Typer's own answer to Ctrl-C, which says nothing
        sys.stderr.write("interrupted\n")
    return result if isinstance(result, int) else 0


def _found(error: Any, argv: list[str] | None) -> str:
    """Return what the user wrote for the option of an error; Typer's sentence says only what it should have been."""
    words = sys.argv[1:] if argv is None else argv
    for option in getattr(getattr(error, "param", None), "opts", ()):
        for word, value in reversed([*zip(words, [*words[1:], ""], strict=True)]):
            if word == option and "Invalid value" in error.format_message():
                return f", found {value!r}"
            if word.startswith(f"{option}=") and option.startswith("--"):
                return f", found {word[len(option) + 1 :]!r}"
    return ""


def _fail(sentence: str) -> int:
    sys.stderr.write(f"error: {' '.join(sentence.split())}\n")
    return 2


def run() -> None:
    """Entry point of the ``hyenadna`` command."""
    # A small model's operations take microseconds. Where other programs share the cores, OpenMP's waiting threads would spin
    # their time slices away, and a step of 70 ms was seen to take seconds. Read when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    keep_freed_memory()
    sys.exit(main())
