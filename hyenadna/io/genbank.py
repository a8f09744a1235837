"""GenBank flat files: sequence and features of each record, parsed by Biopython.

What this module adds is refusal: Biopython reads a file that was cut short as if it were whole.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from hyenadna.errors import FileFormatError, SequenceError
from hyenadna.io.gff import Feature
from hyenadna.io.streams import input_name, open_text, require_input
from hyenadna.sequence import Interval, validate_dna

_STRANDS = {1: "+", -1: "-"}
# What Biopython only warns of, but means that bases are lost or wrong.
_FATAL_WARNINGS = ("premature end", "expected sequence length", "blank line in sequence")


class GenBankRecord(NamedTuple):
    """One record of a GenBank file.

    Parameters
    ----------
    name
        Accession with version where there is one, such as ``BK006935.2``.
    description
        The DEFINITION.
    sequence
        Upper-case IUPAC nucleotide letters; never empty.
    features
        In the order of the file. The interval spans the whole feature; ``parts`` holds its pieces where it is joined from several.
    n_skipped_features
        Features that have no place in this sequence (on another record, between two bases, or unknown) and are left out.
    """

    name: str
    description: str
    sequence: str
    features: tuple[Feature, ...]
    n_skipped_features: int


def read_genbank(path: str | os.PathLike[str]) -> Iterator[GenBankRecord]:
    """Read the records of a GenBank file one after the other.

    Parameters
    ----------
    path
        Plain, gzip or bgzip; ``-`` reads standard input.

    Returns
    -------
    Iterator of GenBankRecord
        In the order of the file. A missing or empty file is refused at once, other errors when they are reached.

    Raises
    ------
    FileFormatError
        The input is missing, empty, truncated, malformed or not GenBank; a record has no sequence, or one of another length than
        its LOCUS line says; two records have one name.
    SequenceError
        A letter is no nucleotide code, as in protein.
    """
    return _records(require_input(path))


def _records(source: Path) -> Iterator[GenBankRecord]:
    # Imported here: it takes 0.2 s, which readers of other formats need not wait.
    from Bio import SeqIO

    path = input_name(source)
    names: set[str] = set()
    with open_text(source) as handle:
        lines = _Lines(handle)
        parser = SeqIO.parse(lines, "genbank")
        while (record := _next(parser, lines, path)) is not None:
            if record.id in names:
                raise FileFormatError(
                    f"record {record.id!r} was seen before; names must be unique",
                    path=path,
                    line=lines.number,
                )
            names.add(record.id)
            yield _converted(record, path, lines.number)
    if not names:
        raise FileFormatError(
            "the file holds no record; expected GenBank, which starts with LOCUS",
            path=path,
            line=lines.number or None,
        )


class _Lines:
    """A text stream as Biopython's parser reads it, which knows its line number and last line."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle
        self.number = 0
        self.last = ""

    def read(self, size: int) -> str:
        return self._handle.read(size)  # the parser reads nothing, to see whether it gets text

    def readline(self) -> str:
        line = self._handle.readline()
        if line:
            self.number += 1
        if line.strip():
            self.last = line.strip()
        return line


def _next(parser: Any, lines: _Lines, path: str) -> Any:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            record = next(parser, None)
    except FileFormatError:
        raise
    except Exception as error:  # the parser lets through whatever its string handling raises
        raise FileFormatError(
            f"malformed GenBank: {_one_line(error)}", path=path, line=lines.number
        ) from error
    for warning in caught:
        if str(warning.message).lower().startswith(_FATAL_WARNINGS):
            raise FileFormatError(
                f"malformed GenBank: {_one_line(warning.message)}", path=path, line=lines.number
            )
    if record is not None and lines.last != "//":
        raise FileFormatError(
            f"record {record.id!r} does not end with '//': the file is truncated",
            path=path,
            line=lines.number,
        )
    return record


def _one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _converted(record: Any, path: str, line: int) -> GenBankRecord:
    from Bio.Seq import UndefinedSequenceError

    try:
        sequence = str(record.seq)
    except UndefinedSequenceError:
        sequence = ""
    if not sequence:
        raise FileFormatError(
            f"record {record.id!r} has no sequence; download it with its ORIGIN section ('GenBank (full)')",
            path=path,
            line=line,
        )
    try:
        validate_dna(sequence, record=record.id)
    except SequenceError as error:
        raise SequenceError(
            f"{path}: {error}",
            record=error.record,
            position=error.position,
            character=error.character,
        ) from None
    features = [_feature(feature, record.id, len(sequence)) for feature in record.features]
    kept = tuple(feature for feature in features if feature is not None)
    return GenBankRecord(record.id, record.description, sequence, kept, len(features) - len(kept))


def _feature(feature: Any, chrom: str, length: int) -> Feature | None:
    pieces = []
    for part in getattr(feature.location, "parts", ()):
        try:
            start, end = int(part.start), int(part.end)
        except (TypeError, ValueError):  # a position that the file leaves open
            return None
        if part.ref is not None or not 0 <= start < end <= length:
            return None
        pieces.append(Interval(chrom, start, end, _STRANDS.get(part.strand, ".")))
    if not pieces:
        return None
    strands = {piece.strand for piece in pieces}
    span = Interval(
        chrom,
        min(piece.start for piece in pieces),
        max(piece.end for piece in pieces),
        strands.pop() if len(strands) == 1 else ".",
    )
    attributes = {key: tuple(map(str, values)) for key, values in feature.qualifiers.items()}
    return Feature(
        span, feature.type, attributes=attributes, parts=tuple(pieces) if len(pieces) > 1 else ()
    )
