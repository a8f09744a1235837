"""Annotation as UCSC's tables have it: genePred, plain or extended, refFlat, and knownGene, each with or without the column ``bin``.

One line is one transcript with all its exons, 0-based half-open in the file as here. It is given out as `Feature`: the transcript, then its
exons, with the attributes that GFF3 would have, so that whoever reads GFF reads these tables too.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hyenadna.errors import FileFormatError
from hyenadna.io.gff import Feature
from hyenadna.io.streams import input_name, open_text, require_input
from hyenadna.sequence import Interval

_MAX_DIGITS = 18  # what a signed 64-bit number holds
_AFTER_STRAND = 7  # txStart, txEnd, cdsStart, cdsEnd, exonCount, exonStarts, exonEnds


def is_genepred(path: str | os.PathLike[str]) -> bool:
    """Tell whether the first line that is no comment has the columns of a genePred table.

    Raises
    ------
    FileFormatError
        The file is missing, empty or truncated.
    """
    with open_text(require_input(path)) as handle:
        for line in handle:
            if line.strip() and not line.startswith("#"):
                return _strand_column(line.rstrip("\n").split("\t")) is not None
    return False


def read_genepred(path: str | os.PathLike[str]) -> Iterator[Feature]:
    """Read the transcripts of a genePred, refFlat or knownGene table one after the other.

    Parameters
    ----------
    path
        Plain, gzip or bgzip; any line ends; ``-`` reads standard input. Comments (``#``) and blank lines are passed over.

    Returns
    -------
    Iterator of Feature
        Of each line a ``transcript`` with the attribute ``ID``, then its ``exon`` features with the attribute ``Parent``, in the order of the
        genome. A name that occurs again, as at a second locus, gets ``-2``, ``-3``, … A missing or empty file is refused at
        once, other errors when they are reached.

    Raises
    ------
    FileFormatError
        The input is missing, empty or truncated; or a line lacks columns, a strand or whole numbers, or its exons are not as many as it
        says, ascending, and within the transcript.
    """
    return _features(require_input(path))


def _features(source: Path) -> Iterator[Feature]:
    name = input_name(source)
    seen: Counter[str] = Counter()
    number, found = 0, False
    with open_text(source) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip() and not line.startswith("#"):
                found = True
                yield from _transcript(line.rstrip("\n").split("\t"), seen, name, number)
    if not found:
        raise FileFormatError(
            "the file holds no transcript; expected genePred or refFlat",
            path=name,
            line=number or None,
        )


def _strand_column(columns: list[str]) -> int | None:
    """Return where the strand stands: third, or fourth behind a gene's name (refFlat) or a bin; None where this is no genePred."""
    for at in (2, 3):
        numbers = columns[at + 1 : at + 6]
        if len(columns) > at + _AFTER_STRAND and columns[at] in ("+", "-") and all(map(_is_number, numbers)):  # fmt: skip
            return at
    return None


def _transcript(columns: list[str], seen: Counter[str], path: str, line: int) -> Iterator[Feature]:
    def wrong(message: str) -> FileFormatError:
        return FileFormatError(message, path=path, line=line)

    at = _strand_column(columns)
    if at is None:
        raise wrong(
            "expected genePred columns separated by tabs (name, chrom, strand, txStart, txEnd, cdsStart, cdsEnd, exonCount, exonStarts, exonEnds; before "
            f"them may stand a gene's name or a bin), found {' '.join(columns)[:60]!r}"
        )
    name, chrom, strand = columns[at - 2 : at + 1]
    if not name or not chrom:
        raise wrong("the names of the transcript and of the contig must not be empty")
    start, end, _, _, n_exons = map(int, columns[at + 1 : at + 6])
    starts, ends = (columns[at + i].rstrip(", ").split(",") for i in (6, 7))
    if not all(map(_is_number, starts + ends)):
        raise wrong("exonStarts and exonEnds must be whole numbers separated by commas")
    exons = [(int(a), int(b)) for a, b in zip(starts, ends, strict=False)]
    if not len(starts) == len(ends) == n_exons:
        raise wrong(
            f"exonCount is {n_exons}, but there are {len(starts)} exonStarts and {len(ends)} exonEnds"
        )
    borders = [start, *(place for exon in exons for place in exon), end]
    if borders != sorted(borders) or any(a >= b for a, b in exons):
        raise wrong(f"the exons are not ascending within the transcript, {start} to {end}")
    seen[name] += 1
    own = name if seen[name] == 1 else f"{name}-{seen[name]}"
    gene = columns[0] if at == 3 and not _is_number(columns[0]) else ""
    attributes = {"ID": (own,)} | ({"gene": (gene,)} if gene else {})
    yield Feature(Interval(chrom, start, end, strand), "transcript", attributes=attributes)
    for a, b in exons:
        yield Feature(Interval(chrom, a, b, strand), "exon", attributes={"Parent": (own,)})


def _is_number(text: str) -> bool:
    # int() would also take '1_000', '+5', ' 5' and digits of other scripts
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
