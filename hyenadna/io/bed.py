"""BED: spans as browsers and bedtools exchange them, 0-based half-open as everywhere in this package."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hyenadna.errors import FileFormatError, HyenaDNAError, IntervalError
from hyenadna.io.atomic import open_output
from hyenadna.io.streams import input_name, open_text, require_input
from hyenadna.sequence import Interval, require_inside

_START_NAMES = frozenset({"start", "chromstart", "begin"})
_MAX_DIGITS = 18  # what a signed 64-bit number holds


class BedRecord(NamedTuple):
    """One line of a BED file.

    Parameters
    ----------
    interval
        The span, 0-based half-open; its strand is column 6, ``"."`` where there is none.
    name
        Column 4, empty where there is none.
    score
        Column 5, or None where there is none.
    summit
        The 0-based base of a narrowPeak's summit (start + column 10), or None where it is not called or the file is no narrowPeak.
    """

    interval: Interval
    name: str = ""
    score: float | None = None
    summit: int | None = None


def read_bed(
    path: str | os.PathLike[str],
    *,
    contigs: Mapping[str, int] | None = None,
    on_error: Callable[[HyenaDNAError], None] | None = None,
) -> Iterator[BedRecord]:
    """Read the spans of a BED file one after the other.

    Columns are separated by tabs, or by blanks in a line without tabs. Comments (``#``), ``track`` and ``browser`` lines, blank
    lines and one line of column names are passed over. Columns after the sixth are allowed and not read, but for a narrowPeak's summits.

    Parameters
    ----------
    path
        Plain, gzip or bgzip; any line ends; ``-`` reads standard input. A name that ends with ``.narrowPeak`` (``.gz``) is that format.
    contigs
        Length of each contig that a span may lie in; None takes any.
    on_error
        Called with what is wrong with a span that is not inside one of the `contigs`, which is then left out; None raises it.

    Returns
    -------
    Iterator of BedRecord
        In the order of the file. A missing or empty file is refused at once, other errors when they are reached.

    Raises
    ------
    FileFormatError
        The input is missing, empty or truncated; or a line has fewer than three columns, a start or end that is no whole
        number of at least 0, an end not beyond the start, a score that is no number, or an unknown strand.
    IntervalError
        A span is not inside one of the `contigs`.
    """
    return _records(require_input(path), contigs, on_error)


def _records(
    source: Path,
    contigs: Mapping[str, int] | None,
    on_error: Callable[[HyenaDNAError], None] | None,
) -> Iterator[BedRecord]:
    name = input_name(source)
    narrow_peak = name.lower().removesuffix(".gz").endswith(".narrowpeak")
    number, found = 0, False
    with open_text(source) as handle:
        for number, line in enumerate(handle, 1):
            line = line.rstrip("\n")
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split("\t") if "\t" in line else line.split()
            if fields[0].split(" ")[0] in ("track", "browser") and not _are_numbers(fields[1:3]):
                continue
            if not found and len(fields) > 2 and fields[1].strip().lower() in _START_NAMES:
                continue
            found = True
            record = _record(fields, name, number, narrow_peak=narrow_peak)
            if contigs is not None:
                try:
                    require_inside(record.interval, contigs)
                except IntervalError as error:
                    wrong = IntervalError(
                        f"{name}:{number}: {error}; give the genome that the file was made for, or correct the line"
                    )
                    if on_error is None:
                        raise wrong from None
                    on_error(wrong)
                    continue
            yield record
    if not found:
        raise FileFormatError(
            "the file holds no interval; expected BED", path=name, line=number or None
        )


def _record(fields: list[str], path: str, line: int, *, narrow_peak: bool) -> BedRecord:
    def wrong(message: str) -> FileFormatError:
        return FileFormatError(message, path=path, line=line)

    fields = [field.strip(" ") for field in fields]
    if len(fields) < 3:
        raise wrong(
            f"expected at least three columns (chrom, start, end) separated by tabs, found {len(fields)}: "
            f"{' '.join(fields)[:60]!r}"
        )
    chrom = fields[0]
    if not chrom:
        raise wrong("the first column, the contig's name, is empty")
    for what, text in (("start", fields[1]), ("end", fields[2])):
        if not _are_numbers([text]):
            raise wrong(
                f"{what} is {text[:30]!r}; expected a whole number of at least 0 (0-based half-open)"
            )
    start, end = int(fields[1]), int(fields[2])
    if start >= end:
        raise wrong(
            f"start {start} is not below end {end}; BED is 0-based half-open, so a span holds end - start "
            "bases, at least one"
        )
    strand = fields[5] if len(fields) > 5 and fields[5] else "."
    if strand not in ("+", "-", "."):
        raise wrong(f"the sixth column, the strand, is {strand[:30]!r}; expected '+', '-' or '.'")
    score = None
    if len(fields) > 4 and fields[4] not in ("", "."):
        try:
            score = float(fields[4])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise wrong(
                f"the fifth column, the score, is {fields[4][:30]!r}; expected a number or '.'"
            )
    name = fields[3] if len(fields) > 3 and fields[3] != "." else ""
    summit = None
    if narrow_peak:
        offset = fields[9] if len(fields) == 10 else ""
        if offset != "-1":
            if not _are_numbers([offset]) or int(offset) >= end - start:
                raise wrong(
                    f"the tenth column, the summit of a narrowPeak, is {offset[:30]!r}; expected a number below {end - start}, or -1"
                )
            summit = start + int(offset)
    return BedRecord(Interval(chrom, start, end, strand), name, score, summit)


def _are_numbers(texts: list[str]) -> bool:
    # int() would also take '1_000', '+5', ' 5' and digits of other scripts
    return bool(texts) and all(
        text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS for text in texts
    )


def write_bed(
    records: Iterable[BedRecord], path: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Write spans as BED with six columns, which `read_bed` reads back as the same records.

    Parameters
    ----------
    records
        The spans.
    path
        The output, compressed where it ends in ``.gz``; ``-`` writes to standard output.
    force
        Whether an existing file may be overwritten.

    Raises
    ------
    OutputError
        The file exists or cannot be written.
    ValueError
        A name holds a tab or line end, which BED cannot express.
    """
    with open_output(path, force=force) as out:
        for interval, name, score, _ in records:
            if any(mark in interval.chrom + name for mark in "\t\r\n"):
                raise ValueError(
                    f"BED cannot hold the tab or line end in {interval.chrom!r} {name!r}"
                )
            columns = (
                interval.chrom,
                str(interval.start),
                str(interval.end),
                name or ".",
                "." if score is None else f"{score:.17g}",
                interval.strand,
            )
            out.write("\t".join(columns) + "\n")
