"""The command line: one file a verb, and the one place where errors become exit codes.

Verb modules import heavy packages (torch, lightning) inside their function, so that ``hyenadna --help`` is instant.
A `HyenaDNAError` is the user's to mend: one sentence on stderr, status 2. Anything else is ours, and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import os
import sys

import typer

from hyenadna.cli import convert, datasets, evaluate, finetune, info, pack, pretrain, score
from hyenadna.errors import HyenaDNAError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="hyenadna",
    help="Long-context DNA language models: pretrain on genomes, fine-tune on labelled sequences, score anything.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
