"""One file of labelled sequences: CSV, TSV or FASTA with a class per sequence, checked row by row.

Sequences stay letters here. `hyenadna.data.labelled_task` puts files together to a task with splits, and
`hyenadna.data.collate` makes batches.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import DataError, FileFormatError, SequenceLengthError
from hyenadna.sequence import validate_dna

FASTA_SUFFIXES = (".fa", ".fasta", ".fna", ".ffn", ".fas")
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_INTEGER = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_MAX_CLASSES = 100_000
_MAX_FIELD = 1 << 30  # the csv module stops at 131,072 characters otherwise, which is short for DNA


class LabelledRow(NamedTuple):
    """One row as it stands in its file; `line` is 1-based, and counts records in a FASTA file."""

    sequence: str
    label: str
    line: int


@dataclass(frozen=True)
class LabelledSet:
    """One split: n sequences with their classes.

    Parameters
    ----------
    sequences
        n strings of IUPAC nucleotide letters, as they stand in the file.
    labels
        int64, shape (n,), in 0…C-1.
    lines
        Line (of a FASTA file: record) of each sequence in its file, from 1.
    path, sha256
        The file, and the checksum of its bytes; empty for sequences that came from no file.
    """

    sequences: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    lines: tuple[int, ...]
    path: str = ""
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def max_length(self) -> int:
        """Length in bases of the longest sequence, 0 for an empty split."""
        return max(map(len, self.sequences), default=0)

    def subset(self, rows: npt.ArrayLike) -> LabelledSet:
        """Return the rows, given as indices of shape (m,), in that order."""
        kept = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            sequences=tuple(self.sequences[i] for i in kept.tolist()),
            labels=self.labels[kept],
            lines=tuple(self.lines[i] for i in kept.tolist()),
        )


def _class_number(label: str) -> int | None:
    """Return the integer that a label is, -1 where it is too long to be one of ours, None where it is a name."""
    if not _INTEGER.fullmatch(label):
        return None
    return int(label) if len(label) < 10 else -1


def _open_table(path: Path) -> Iterator[str]:
    # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as lines:
            yield from lines
    else:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from lines


def _table_rows(
    path: Path, delimiter: str, sequence_column: str, label_column: str
) -> Iterator[LabelledRow]:
    reader = csv.reader(_open_table(path), delimiter=delimiter, strict=True)
    header = [name.strip() for name in next(reader, [])]
    lowered = [name.lower() for name in header]
    columns = []
    for wanted in (sequence_column, label_column):
        if lowered.count(wanted.lower()) != 1:
            found = "is empty" if not header else f"has the columns {', '.join(header)}"
            raise FileFormatError(
                f"the table {found}; expected a header line with exactly one column "
                f"{wanted!r} (data.sequence_column and data.label_column name other columns)",
                path=path,
                line=1,
            )
        columns.append(lowered.index(wanted.lower()))
    for fields in reader:
        if not fields:
            continue
        if len(fields) != len(header):
            raise FileFormatError(
                f"the row has {len(fields)} fields, expected {len(header)} as in the header",
                path=path,
                line=reader.line_num,
            )
        yield LabelledRow(fields[columns[0]].strip(), fields[columns[1]].strip(), reader.line_num)


def _fasta_rows(path: Path) -> Iterator[LabelledRow]:
    from hyenadna.io.fasta import read_fasta

    for number, record in enumerate(read_fasta(path), start=1):
        header = record.description or record.name
        parts = header.split("|") if "|" in header else header.split()
        if len(parts) < 2 or not parts[-1].strip():
            raise FileFormatError(
                f"record {number}, {record.name!r}, has no label; expected it as the last field of the "
                "header after '|' or a blank, as in '>name|1' or '>name 1'",
                path=path,
            )
        yield LabelledRow(record.sequence, parts[-1].strip(), number)


def read_rows(
    path: str | Path, *, sequence_column: str = "sequence", label_column: str = "label"
) -> list[LabelledRow]:
    """Read one labelled file, checking every sequence.

    Parameters
    ----------
    path
        ``.csv``, ``.tsv``/``.txt`` (tab-separated) or FASTA, each also with ``.gz``. Tables have a header line; FASTA
        headers end in ``|label`` or a blank and the label.
    sequence_column, label_column
        Names of the columns, in either case.

    Raises
    ------
    FileFormatError
        The file is missing, empty, truncated or binary, or lacks the columns; a row has too few fields or no label.
    SequenceError
        A sequence holds a letter that is no nucleotide code.
    SequenceLengthError
        A sequence is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError("no such file", path=path)
    suffixes = [s.lower() for s in path.suffixes]
    kind = next((s for s in reversed(suffixes) if s != ".gz"), "")
    if kind not in FASTA_SUFFIXES and kind not in DELIMITERS:
        raise FileFormatError(
            f"the suffix {kind!r} names no format of labelled sequences; expected "
            f"{', '.join((*DELIMITERS, *FASTA_SUFFIXES))}, each also with .gz",
            path=path,
        )
    field_limit = csv.field_size_limit(_MAX_FIELD)
    try:
        if kind in FASTA_SUFFIXES:
            rows = list(_fasta_rows(path))
        else:
            rows = list(_table_rows(path, DELIMITERS[kind], sequence_column, label_column))
    except UnicodeDecodeError as error:
        raise FileFormatError("the file is not text (UTF-8)", path=path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FileFormatError("the gzip data are truncated or damaged", path=path) from error
    except csv.Error as error:
        raise FileFormatError(f"the table cannot be read: {error}", path=path) from error
    except OSError as error:
        raise FileFormatError(f"the file cannot be read ({error.strerror})", path=path) from error
    finally:
        csv.field_size_limit(field_limit)
    if not rows:
        raise FileFormatError("the file holds no sequence", path=path)
    for row in rows:
        place = f"{path}:{row.line}"
        if not row.sequence:
            raise SequenceLengthError(f"{place}: the sequence is empty", record=place)
        if not row.label:
            raise FileFormatError("the label is empty", path=path, line=row.line)
        validate_dna(row.sequence, record=place)
    return rows


def label_names_of(rows: Sequence[LabelledRow], path: str | Path = "") -> tuple[str, ...]:
    """Return the class names that the labels of a training split define.

    Labels that are integers are class numbers and must run 0…C-1 without a gap; other labels are names, sorted.

    Raises
    ------
    FileFormatError
        Integers and names are mixed, a number is negative or a fraction.
    DataError
        A class number below the largest never occurs, or there is only one class.
    """
    integers = _class_number(rows[0].label) is not None
    seen: set[int | None] = set()
    for row in rows:
        number = _class_number(row.label)
        if _FRACTION.fullmatch(row.label):
            raise FileFormatError(
                f"the label {row.label!r} is a fraction, expected a class (0, 1, … or a name)",
                path=path,
                line=row.line,
            )
        if integers != (number is not None):
            raise FileFormatError(
                f"the label {row.label!r} does not go with the first label {rows[0].label!r}; expected "
                "integers or names in one file, not both",
                path=path,
                line=row.line,
            )
        if number is not None and not 0 <= number < _MAX_CLASSES:
            raise FileFormatError(
                f"the label {row.label} is out of range, expected class numbers from 0",
                path=path,
                line=row.line,
            )
        seen.add(number)
    if not integers:
        names = tuple(sorted({row.label for row in rows}))
    else:
        largest = max(n for n in seen if n is not None)
        names = tuple(str(i) for i in range(largest + 1))
        absent = sorted(set(range(largest)) - seen)
        if absent:
            raise DataError(
                f"{path}: label {absent[0]} never occurs but label {largest} does; expected class numbers "
                "0 to C-1, each in use"
            )
    if len(names) < 2:
        raise DataError(f"{path}: all labels are {rows[0].label!r}; expected at least two classes")
    return names


def labelled_set(
    rows: Sequence[LabelledRow],
    label_names: Sequence[str],
    *,
    path: str | Path = "",
    max_seq_len: int | None = None,
) -> LabelledSet:
    """Turn rows into a split, with class numbers.

    Raises
    ------
    FileFormatError
        A label is none of `label_names`.
    SequenceLengthError
        A sequence is longer than `max_seq_len` bases.
    """
    numbers = {name: i for i, name in enumerate(label_names)}
    integers = all(_class_number(name) is not None for name in label_names)
    labels = np.empty(len(rows), dtype=np.int64)
    for i, row in enumerate(rows):
        # '01' and '+1' are the class 1 where classes are numbers.
        number = _class_number(row.label) if integers else None
        name = row.label if number is None else str(number)
        if name not in numbers:
            shown = f"0 to {len(label_names) - 1}" if integers else ", ".join(label_names)
            raise FileFormatError(
                f"the label {row.label!r} is out of range, expected {shown}",
                path=path,
                line=row.line,
            )
        if max_seq_len is not None and len(row.sequence) > max_seq_len:
            raise SequenceLengthError(
                f"{path}:{row.line}: the sequence has {len(row.sequence):,} bases, expected at most "
                f"{max_seq_len:,}; cut it, or choose a model with a larger max_seq_len",
                record=f"{path}:{row.line}",
            )
        labels[i] = numbers[name]
    return LabelledSet(
        tuple(row.sequence for row in rows),
        labels,
        tuple(row.line for row in rows),
        str(path),
        sha256_of(path) if path else "",
    )


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
