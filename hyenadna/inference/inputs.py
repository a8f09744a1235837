"""Sequences to score: from FASTA, tables, JSON lines and plain lines, or from regions of a genome, all as one lazy stream.

Tables of labelled sequences for training are read in `hyenadna.data.labelled`; here a label, where there is one, is ignored.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

from hyenadna.data.genome import Genome, ReferenceSequence, open_reference
from hyenadna.data.packing import is_twobit
from hyenadna.errors import FileFormatError, HyenaDNAError, SequenceError, SequenceLengthError
from hyenadna.io import input_name, open_text, read_bed, require_input
from hyenadna.io.fasta import parse_fasta, read_fasta
from hyenadna.sequence import Interval, parse_region, validate_dna

_FASTA_SUFFIXES = (".fa", ".fasta", ".fna", ".ffn", ".fas")
_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
SEQUENCE_COLUMNS = ("sequence", "seq", "dna")
"""Columns of a table that hold sequences, where none is named."""
_NAME_COLUMNS = ("name", "id")
_MAX_FIELD = (1 << 31) - 1  # the csv module stops at 131,072 characters otherwise


class NamedSequence(NamedTuple):
    """One sequence to score.

    Parameters
    ----------
    name
        What results call it.
    sequence
        IUPAC nucleotide letters, at least one.
    interval
        Where it is in its genome, None for sequences that come from none.
    """

    name: str
    sequence: str
    interval: Interval | None = None


class ReferenceInput(NamedTuple):
    """Sequences of a genome, not read yet.

    Parameters
    ----------
    sequences
        The stream.
    n_sequences, n_bases
        How many it will hold, None where that is not known before a FASTA file has been read.
    """

    sequences: Iterator[NamedSequence]
    n_sequences: int | None
    n_bases: int | None


def read_sequences(
    path: str | os.PathLike[str],
    *,
    sequence_column: str | None = None,
    name_column: str | None = None,
    usual_columns: Sequence[str] = SEQUENCE_COLUMNS,
    on_error: Callable[[HyenaDNAError], None] | None = None,
) -> Iterator[NamedSequence]:
    """Read sequences one after the other.

    Parameters
    ----------
    path
        FASTA, CSV or TSV with a header line, JSON lines (an object a line, whose keys are as a table's columns), or one sequence a line; gzip is
        fine; ``-`` reads standard input. The suffix decides; where it says nothing (``.txt``, standard input), the first line does.
    sequence_column
        Column of a table that holds the sequences, case ignored; None looks for the `usual_columns`.
    name_column
        Column of the names; None looks for ``name`` or ``id`` and otherwise numbers the rows, from ``sequence_1`` on.
    usual_columns
        Columns, the first of which that is there holds the sequences.
    on_error
        Called with what is wrong with a sequence that is empty or has a letter that is no nucleotide code, which is then left out; None raises it. What is wrong with the file as such is always raised.

    Returns
    -------
    Iterator of NamedSequence
        In the order of the file. A missing or empty file is refused at once, other errors when they are reached.

    Raises
    ------
    FileFormatError
        The input is missing, empty, damaged, or a table without the columns or with a row of another width.
    SequenceLengthError
        A row's sequence is empty.
    SequenceError
        A letter is no nucleotide code.
    """
    source = require_input(path)
    suffix = source.name.lower().removesuffix(".gz").rpartition(".")
    suffix_name = f".{suffix[2]}" if suffix[1] else ""
    if suffix_name in _FASTA_SUFFIXES:
        return (NamedSequence(r.name, r.sequence) for r in read_fasta(source, on_error=on_error))
    delimiter = "{" if suffix_name == ".jsonl" else _DELIMITERS.get(suffix_name)
    columns = sequence_column, name_column, tuple(usual_columns)
    return _sniffed(source, delimiter, *columns, on_error or _raise)


def _raise(error: HyenaDNAError) -> None:
    raise error


def _sniffed(
    source: os.PathLike[str],
    delimiter: str | None,
    sequence_column: str | None,
    name_column: str | None,
    usual: tuple[str, ...],
    on_error: Callable[[HyenaDNAError], None],
) -> Iterator[NamedSequence]:
    path = input_name(source)
    with open_text(source) as handle:
        skipped, first = _first_line(handle, path)
        lines = itertools.chain([first], handle)
        if first.startswith((">", ";")):
            blank = itertools.repeat("\n", skipped)
            for record in parse_fasta(itertools.chain(blank, lines), name=path, on_error=on_error):  # fmt: skip
                yield NamedSequence(record.name, record.sequence)
            return
        if first.startswith("@"):
            raise FileFormatError(
                "this looks like FASTQ; expected FASTA, a table with a header line, or one sequence a line",
                path=path,
                line=skipped + 1,
            )
        wanted = usual if sequence_column is None else (sequence_column.lower(),)
        if delimiter == "{" or first.startswith("{"):
            names = _NAME_COLUMNS if name_column is None else (name_column.lower(),)
            yield from _json_lines(lines, path, skipped, wanted, names, on_error)
            return
        if delimiter is None:
            delimiter = next((mark for mark in "\t," if mark in first), None)
        if delimiter is None and first.strip().lower() not in wanted:
            yield from _plain_lines(lines, path, skipped, on_error)
        else:
            yield from _table(
                lines, path, skipped, delimiter or "\t", sequence_column, name_column, usual, on_error
            )  # fmt: skip


def _first_line(handle: TextIO, path: str) -> tuple[int, str]:
    for skipped, line in enumerate(handle):
        if line.strip():
            return skipped, line
    raise FileFormatError("the file holds no sequence", path=path)


def _plain_lines(
    lines: Iterable[str], path: str, skipped: int, on_error: Callable[[HyenaDNAError], None]
) -> Iterator[NamedSequence]:
    count = itertools.count(1)
    for number, line in enumerate(lines, skipped + 1):
        if letters := line.strip():
            yield from _checked(f"sequence_{next(count)}", letters, path, number, on_error)


def _table(
    lines: Iterable[str],
    path: str,
    skipped: int,
    delimiter: str,
    sequence_column: str | None,
    name_column: str | None,
    usual: tuple[str, ...],
    on_error: Callable[[HyenaDNAError], None],
) -> Iterator[NamedSequence]:
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(reader)]
        letters_at = _column(header, sequence_column, usual, "--sequence-column", path, skipped + 1)
        if letters_at is None:
            raise FileFormatError(
                f"the table has the columns {', '.join(map(repr, header))}, none of them "
                f"{' or '.join(map(repr, usual))}; name the column of the sequences with --sequence-column",
                path=path,
                line=skipped + 1,
            )
        name_at = _column(header, name_column, _NAME_COLUMNS, "--name-column", path, skipped + 1)
        number = 0
        for fields in reader:
            if not fields:
                continue
            line = skipped + reader.line_num
            number += 1
            if len(fields) != len(header):
                raise FileFormatError(
                    f"the row has {len(fields)} fields, the header {len(header)}; complete it, and quote fields that hold the delimiter",
                    path=path,
                    line=line,
                )
            name = fields[name_at].strip() if name_at is not None else ""
            letters = fields[letters_at].strip()
            yield from _checked(name or f"sequence_{number}", letters, path, line, on_error)
    except csv.Error as error:
        raise FileFormatError(
            f"the table is malformed ({error}); check its quotes",
            path=path,
            line=skipped + reader.line_num,
        ) from error
    if not number:
        raise FileFormatError(
            "the table has a header but no rows; at least one is needed",
            path=path,
            line=skipped + reader.line_num,
        )


def _json_lines(
    lines: Iterable[str],
    path: str,
    skipped: int,
    wanted: Sequence[str],
    names: Sequence[str],
    on_error: Callable[[HyenaDNAError], None],
) -> Iterator[NamedSequence]:
    count = itertools.count(1)
    for number, line in enumerate(lines, skipped + 1):
        if not line.strip():
            continue
        row, usual_name = _json_object(line, path, number), f"sequence_{next(count)}"
        letters = next((row[key] for key in wanted if key in row), None)
        if not isinstance(letters, str):
            raise FileFormatError(
                f"the object has the keys {', '.join(map(repr, row)) or 'none'}; expected text under {' or '.join(map(repr, wanted))}",
                path=path,
                line=number,
            )
        given = next((row[key] for key in names if key in row), None)
        name = usual_name if given in (None, "") else str(given)
        yield from _checked(name, letters.strip(), path, number, on_error)


def _json_object(line: str, path: str, number: int) -> dict[str, object]:
    """Return the object of a line, its keys in lower case."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise FileFormatError(
            f"expected one JSON object a line, found {line.strip()[:30]!r}", path=path, line=number
        )
    return {key.lower(): value for key, value in row.items()}


def _column(
    header: Sequence[str],
    wanted: str | None,
    usual: tuple[str, ...],
    option: str,
    path: str,
    line: int,
) -> int | None:
    lowered = [column.lower() for column in header]
    for name in usual if wanted is None else (wanted.lower(),):
        if lowered.count(name) > 1:
            raise FileFormatError(
                f"the table has {lowered.count(name)} columns {name!r}; rename all but one",
                path=path,
                line=line,
            )
        if name in lowered:
            return lowered.index(name)
    if wanted is not None:
        raise FileFormatError(
            f"the table has no column {wanted!r} ({option}), it has {', '.join(map(repr, header))}",
            path=path,
            line=line,
        )
    return None


def _checked(
    name: str, letters: str, path: str, line: int, on_error: Callable[[HyenaDNAError], None]
) -> Iterator[NamedSequence]:
    """Yield a sequence, or nothing where it is wrong and `on_error` returns."""
    try:
        if not letters:
            raise SequenceLengthError(
                f"{path}:{line}: sequence {name!r} is empty; complete or remove the row",
                record=name,
            )
        validate_dna(letters, record=name)
    except SequenceLengthError as error:
        on_error(error)
    except SequenceError as error:
        place = {"record": name, "position": error.position, "character": error.character}
        on_error(SequenceError(f"{path}:{line}: {error}", **place))  # type: ignore[arg-type]
    else:
        yield NamedSequence(name, letters)


def read_reference(
    path: str | os.PathLike[str],
    *,
    regions: Sequence[str] = (),
    bed: str | os.PathLike[str] | None = None,
    on_error: Callable[[HyenaDNAError], None] | None = None,
) -> ReferenceInput:
    """Read regions of a genome, or all of its contigs.

    All regions are checked before the first is read.

    Parameters
    ----------
    path
        FASTA or ``.2bit``; ``-`` reads FASTA from standard input, then without regions.
    regions
        Region strings, 1-based inclusive: ``chrom:start-end``, ``chrom:start-`` or ``chrom``.
    bed
        A BED file, 0-based half-open; where its strand column has "-", the reverse complement is read. Its intervals follow
        the regions; each is called by its name column, or else by its region string.
    on_error
        Called with what is wrong with a BED file's span that is not in the genome, or with a contig or span that has no bases or a letter that is no
        nucleotide code, which is then left out; None raises it. Regions must be right.

    Returns
    -------
    ReferenceInput
        The sequences, in the order asked for, else of the file.

    Raises
    ------
    FileFormatError
        A file is missing or malformed.
    IntervalError
        A contig is unknown or a region leaves it.
    SequenceError
        A letter is no nucleotide code.
    """
    source = require_input(path)
    if not regions and bed is None:
        if source.is_file() and is_twobit(source):
            genome = Genome.open(source)
            regions = list(genome.contigs)
        else:
            return ReferenceInput(_whole_records(source, on_error), None, None)
    if not source.is_file():
        raise FileFormatError(
            "regions are read at random places, so the genome must be a regular file; write it to disk first",
            path=input_name(source),
        )
    reference = open_reference(source)
    contigs = reference.contigs
    spans = read_spans(contigs, regions, bed, on_error)
    sequences = _spans(reference, spans, on_error)
    return ReferenceInput(sequences, len(spans), sum(len(interval) for _, interval in spans))


def read_spans(
    contigs: Mapping[str, int],
    regions: Sequence[str],
    bed: str | os.PathLike[str] | None,
    on_error: Callable[[HyenaDNAError], None] | None = None,
) -> list[tuple[str, Interval]]:
    """Return the spans of region strings, then those of a BED file, with their names; see `read_reference`."""
    spans = [(text.strip(), parse_region(text, contigs)) for text in regions]
    if bed is not None:
        rows = read_bed(bed, contigs=contigs, on_error=on_error)
        spans += [(row.name or str(row.interval), row.interval) for row in rows]
    return spans


def _spans(
    reference: ReferenceSequence,
    spans: Sequence[tuple[str, Interval]],
    on_error: Callable[[HyenaDNAError], None] | None,
) -> Iterator[NamedSequence]:
    for name, interval in spans:
        letters = _letters(reference, interval, on_error or _raise)
        if letters:
            yield NamedSequence(name, letters, interval)


def _letters(
    reference: ReferenceSequence, interval: Interval, on_error: Callable[[HyenaDNAError], None]
) -> str:
    try:
        return reference.sequence(interval)
    except SequenceError as error:
        on_error(error)
        return ""


def _whole_records(
    source: os.PathLike[str], on_error: Callable[[HyenaDNAError], None] | None
) -> Iterator[NamedSequence]:
    for record in read_fasta(source, on_error=on_error):
        yield NamedSequence(
            record.name, record.sequence, Interval(record.name, 0, len(record.sequence))
        )
