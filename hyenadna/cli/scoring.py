"""What the verbs that score with a language model share: checks of their settings, the progress bar, the record of a run."""

from __future__ import annotations

import csv
import gc
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from hyenadna.errors import ConfigError, DataError, HyenaDNAError, OutputError
from hyenadna.resources import DEFAULT_MODEL

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from hyenadna.inference.forward import BatchSize
    from hyenadna.inference.inputs import NamedSequence, ReferenceInput
    from hyenadna.inference.journal import Journal
    from hyenadna.io.html import Section

_DELIMITERS = {"tsv": "\t", "csv": ","}


@contextmanager
def loading(console: Console, model: str) -> Iterator[None]:
    """Show that a model is loading, and then say where it is the bundled one, on whose species and size results depend."""
    # Results of many sequences are many objects, none of them in a circle; to look through them all each time that there are a quarter more took a third of the time.
    gc.set_threshold(50_000, 20, 20)
    with console.status(f"loading {model}"):
        yield
    if model == DEFAULT_MODEL and os.environ.get("RANK", "0") == "0":
        console.print(
            f"model: {model}, a small model of human DNA; 'hyenadna info {model}' describes it, -m takes another",
            highlight=False,
            soft_wrap=True,
        )


def one_input(argument: str | None, option: str | None) -> str | None:
    """Return the file of sequences, which is named by an argument or by ``-i``.

    Raises
    ------
    ConfigError
        Both are given.
    """
    if argument is not None and option is not None:
        raise ConfigError(f"{argument} and -i {option} both name sequences; give one of them")
    return option if argument is None else argument


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


def choose_dtype(dtype: str) -> str:
    """Return what ``--dtype`` asks for, fp32 or bf16; auto is fp32 everywhere, for results must not depend on the machine.

    Raises
    ------
    ConfigError
        It is none of the three.
    """
    if dtype not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"--dtype {dtype!r} is unknown; expected auto, fp32 or bf16")
    return "fp32" if dtype == "auto" else dtype


def open_console(*, quiet: bool, verbose: bool) -> Console:
    """Return where a verb tells what it does: standard error.

    Raises
    ------
    ConfigError
        It is to be both quiet and verbose.
    """
    from rich.console import Console

    if quiet and verbose:
        raise ConfigError("-q says nothing and -v says more; give one of them")
    return Console(stderr=True, quiet=quiet)


def tell_record(console: Console, record: Mapping[str, Any], *, verbose: bool) -> None:
    """With ``-v``, say what a run uses before it begins, as its record will say it afterwards."""
    for key, value in record.items() if verbose else ():
        if isinstance(value, Mapping):
            value = " ".join(f"{k}={v}" for k, v in value.items() if v is not None)
        console.print(f"{key}: {value}", highlight=False, soft_wrap=True, markup=False)


class Skipped:
    """What a run leaves out, with ``--on-error skip``: how many, and why the first one.

    Parameters
    ----------
    on_error
        stop or skip.

    Raises
    ------
    ConfigError
        It is neither.
    """

    def __init__(self, on_error: str) -> None:
        if on_error not in ("stop", "skip"):
            raise ConfigError(f"--on-error {on_error!r} is unknown; expected stop or skip")
        self.n, self.first = 0, ""
        #: What readers take: None where they are to raise.
        self.on_error = self.leave_out if on_error == "skip" else None

    def leave_out(self, error: HyenaDNAError) -> None:
        """Count something that is wrong, or, unless wrong things are to be skipped, raise it."""
        if self.on_error is None:
            raise error
        self.first = self.first or str(error)
        self.n += 1

    def require_others(self, n_left: int) -> None:
        """Check that not all was left out.

        Raises
        ------
        DataError
            It was.
        """
        if self.n and not n_left:
            raise DataError(f"nothing is left: {self.n:,} skipped, the first as {self.first}")

    def sentence(self) -> str:
        """Return what the summary says of it: nothing where nothing was left out."""
        return f"; skipped {self.n:,}, the first as {self.first}" if self.n else ""


def table_format(output: str, form: str | None) -> str:
    """Return the format of a table, tsv or csv: what ``--format`` asks for, else what its name says; tsv for a stream.

    Raises
    ------
    ConfigError
        There is no such format, or the name does not tell one.
    """
    if form is not None:
        if form not in _DELIMITERS:
            raise ConfigError(f"--format {form!r} is unknown; expected {' or '.join(_DELIMITERS)}")
        return form
    ending = output.lower().removesuffix(".gz").rpartition(".")[2]
    if not is_stream(output) and ending not in ("tsv", "txt", "tab", "csv"):
        raise ConfigError(f"the name {output} does not tell its format; add --format tsv or csv")
    return "csv" if ending == "csv" else "tsv"


def write_table(out: TextIO, form: str, rows: Iterable[Sequence[object]]) -> None:
    """Write rows in a `table_format`, each as soon as it is known."""
    csv.writer(out, delimiter=_DELIMITERS[form], lineterminator="\n").writerows(rows)


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


def check_report(
    report: str | None, *, inputs: Sequence[str | None], outputs: Sequence[str | None], force: bool
) -> None:
    """Check ``--report`` before anything is read.

    Raises
    ------
    ConfigError, OutputError
        Its name is not one of HTML, it is an input or another output, or it exists.
    """
    from hyenadna.io import check_output
    from hyenadna.io.html import require_html_name

    if report is None:
        return
    require_html_name(report)
    require_other_than_inputs(report, *inputs)
    for other in outputs:
        if other is not None and Path(other).resolve() == Path(report).resolve():
            raise OutputError(f"{report} is named as two outputs; choose another name for --report")
    check_output(report, force=force, folder=False)


class SequenceSource(NamedTuple):
    """Where a verb takes its sequences from, as its options say: a genome with or without regions, or a file of sequences."""

    fasta: str | None
    regions: Sequence[str]
    bed: str | None
    sequences: str | None
    sequence_column: str | None
    name_column: str | None

    def check(self, verb: str) -> None:
        """Check that the options belong together.

        Raises
        ------
        ConfigError
            They do not.
        """
        if (self.fasta is None) == (self.sequences is None):
            raise ConfigError(
                f"say what to {verb}: a file of sequences, or a genome with -f (one of the two)"
            )
        if self.fasta is None and (self.regions or self.bed):
            raise ConfigError("-r and -b are regions of a genome; give the genome with -f")
        if self.fasta is not None and (self.sequence_column or self.name_column):
            raise ConfigError("--sequence-column and --name-column are about tables given with -i")

    def open(self, on_error: Callable[[HyenaDNAError], None] | None = None) -> ReferenceInput:
        """Open it; see `Skipped` for `on_error`."""
        from hyenadna.inference.inputs import ReferenceInput, read_reference, read_sequences

        if self.fasta is not None:
            return read_reference(self.fasta, regions=self.regions, bed=self.bed, on_error=on_error)  # fmt: skip
        assert self.sequences is not None
        table = read_sequences(self.sequences, sequence_column=self.sequence_column, name_column=self.name_column, on_error=on_error)  # fmt: skip
        return ReferenceInput(table, None, None)


def _partial(output: str) -> Path:
    place = Path(output).expanduser()
    return place.with_name(f"{place.name}.partial")


def goes_on(output: str, *, resume: bool) -> bool:
    """Tell whether a run goes on with finished work; its outputs may then be overwritten.

    They were not there, or to be overwritten, when it began: what is there now it completed itself, one of several, just before it was killed.
    """
    return resume and not is_stream(output) and _partial(output).is_dir()


@contextmanager
def open_partial(
    console: Console,
    output: str,
    *,
    resume: bool,
    force: bool,
    inputs: Mapping[str, str | None],
    weights_sha256: str,
    settings: Mapping[str, Any],
) -> Iterator[Journal | None]:
    """Open the folder OUTPUT.partial of finished work; None where inputs or output are streams, which cannot be read or begun again.

    Parameters
    ----------
    console
        Where to say that the folder was left.
    output
        The output.
    resume, force
        The options.
    inputs
        Files whose content results depend on, by the option that named them.
    weights_sha256, settings
        What else they depend on.

    Raises
    ------
    ConfigError
        --resume was asked for where it is impossible, or the folder was made under other settings.
    OutputError
        There is such a folder, and neither --resume nor --force was given.
    """
    import torch

    from hyenadna.data.checksums import sha256_of
    from hyenadna.inference.journal import open_journal
    from hyenadna.inference.processes import joined_processes
    from hyenadna.resources import package_version, resolve

    files = {name: resolve(path) for name, path in inputs.items() if path is not None}
    if is_stream(output) or not all(path.is_file() for path in files.values()):
        if resume:
            raise ConfigError(
                "--resume needs inputs and an output that are files; a stream cannot be read twice"
            )
        with joined_processes() as processes:
            if processes.world_size > 1:
                raise ConfigError(
                    "several processes (WORLD_SIZE) need inputs and an output that are files; name them, or start one process"
                )
        yield None
        return

    def made_by() -> dict[str, Any]:
        return {
            "inputs_sha256": {name: sha256_of(path) for name, path in files.items()}, "weights_sha256": weights_sha256,
            "settings": settings, "versions": {"hyenadna": package_version(), "torch": str(torch.__version__)},
        }  # fmt: skip

    def kept(folder: Path) -> None:
        console.print(f"finished work is kept in {folder}; the same command with --resume goes on from there", highlight=False, soft_wrap=True)  # fmt: skip

    with (
        joined_processes() as processes,
        open_journal(
            _partial(output), made_by, resume=resume, force=force, kept=kept, processes=processes
        ) as journal,
    ):  # fmt: skip
        yield journal
        if journal.n_read and not processes.rank:
            console.print(f"went on after {journal.n_read:,} finished part{'s' if journal.n_read > 1 else ''}", highlight=False)  # fmt: skip


def was_share(journal: Journal | None, results: Iterator[object]) -> bool:
    """Do the work of a process that is not the first of several, and tell whether this is one; only the first writes."""
    if journal is None or journal.processes.rank == 0:
        return False
    for _ in results:
        pass
    return True


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


PLACE_COLUMNS = ("chrom", "start", "end", "strand")


def place_fields(given: NamedSequence) -> tuple[object, ...]:
    """Return what a table has in `PLACE_COLUMNS`; nothing for a sequence that comes from no genome."""
    place = given.interval
    return (place.chrom, place.start, place.end, place.strand) if place else ()


def write_record(path: str, record: dict[str, Any], *, force: bool) -> None:
    """Write the record of a run as JSON, with machine, versions and command added."""
    import json

    from hyenadna.io import open_output
    from hyenadna.training.run_folder import environment

    with open_output(path, force=force) as out:
        json.dump(record | environment(), out, indent=2)
        out.write("\n")


def write_report(
    path: str | None,
    title: str,
    facts: Mapping[str, str],
    sections: Sequence[Section],
    record: Mapping[str, Any],
    *,
    force: bool,
) -> None:
    """Write the report of a run, with machine, versions and command added to its record; nothing where there is no path."""
    from hyenadna.io.html import write_html
    from hyenadna.training.run_folder import environment

    if path is not None:
        provenance = {key: value for key, value in record.items() if key != "results"}
        write_html(path, title=title, facts=facts, sections=sections, provenance=provenance | environment(), force=force)  # fmt: skip
