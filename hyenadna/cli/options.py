"""Options that several verbs take, each described once."""

from __future__ import annotations

from typing import Annotated

import typer

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model folder, run folder, weights file, hub id or bundled:NAME; the default is a small model of human DNA.",
    ),
]
"""The option ``-m`` of verbs that have a default model: `hyenadna.resources.DEFAULT_MODEL`."""

SequencesArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SEQUENCES]", help="File of sequences, as with -i.", show_default=False
    ),
]
GenomeOption = Annotated[
    str | None,
    typer.Option("--fasta", "-f", help="Genome: FASTA (plain, gzip, bgzip) or .2bit."),
]
RegionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--region", "-r", help="Region of the genome, 1-based inclusive: chr1:1,000-2,000."
    ),
]
BedOption = Annotated[
    str | None, typer.Option("--bed", "-b", help="BED file of regions, 0-based half-open.")
]
InputOption = Annotated[
    str | None,
    typer.Option(
        "--input",
        "-i",
        help="Sequences: FASTA, CSV, TSV, JSON lines, one a line; - for standard input.",
    ),
]
TableOption = Annotated[
    str,
    typer.Option("--output", "-o", help="TSV (or .csv, .gz) to write; - for standard output."),
]
SequenceColumnOption = Annotated[
    str | None,
    typer.Option(help="Column of the sequences in a table (default: sequence, seq or dna)."),
]
NameColumnOption = Annotated[
    str | None, typer.Option(help="Column of the names (default: name or id, else numbered).")
]
BatchSizeOption = Annotated[
    str, typer.Option(help="Sequences per forward pass, or auto: what the memory takes.")
]
WindowOption = Annotated[
    int | None,
    typer.Option(
        help="Bases that the model reads at once (default: the model's longest input, or the power of two that is at most 1 % less)."
    ),
]
StrideOption = Annotated[
    int | None, typer.Option(help="Distance of window starts (default: half a window).")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the finished work of a run that was broken off."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")]
OnErrorOption = Annotated[
    str,
    typer.Option(
        "--on-error",
        help="stop: a malformed sequence, or a BED row that does not fit the genome, ends the run; skip: it is left out, counted and reported.",
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Say on standard error what the run uses: its record, in words."
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")]
