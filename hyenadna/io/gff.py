"""Annotation: GFF3 and GTF.

The files count from 1 and include the end; here every span is 0-based half-open. Both dialects give the same `Feature`; which
one a file has is said by its ``##gff-version`` line or seen in its first attributes, not in its name.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote, unquote

from hyenadna.errors import FileFormatError
from hyenadna.io.atomic import open_output
from hyenadna.io.streams import input_name, open_text, require_input
from hyenadna.sequence import Interval

Dialect: TypeAlias = Literal["gff3", "gtf"]

_MAX_DIGITS = 18  # what a signed 64-bit number holds
# `key "quoted; value";` or `key bare_value;`: a quote counts as closing only where a semicolon or the end follows
_GTF_PAIR = re.compile(
    r"""\s*(?P<key>[^\s;"=]+)\s+
        (?:"(?P<quoted>(?:[^"\\]|\\.)*)"|"(?P<plain>[^"]*)"|(?P<bare>[^\s;"]+))
        \s*(?:;|$)""",
    re.VERBOSE,
)
_GTF_START = re.compile(r'\s*[^\s;"=]+\s+["\w.+-]')
_SAFE_SEQID = ":^*$@!+_?-|/."  # beside letters and digits: what the GFF3 specification allows unescaped, and '/'
_SAFE_VALUE = " !\"#$'()*+-./:<>?@[\\]^_`{|}~"


@dataclass(frozen=True, slots=True)
class Feature:
    """One annotated span.

    Parameters
    ----------
    interval
        The whole span, 0-based half-open, with its strand (``"."`` also where the file says ``?``).
    kind
        What it is: ``gene``, ``mRNA``, ``CDS``, ….
    source
        Program or project that made the annotation, empty where unknown.
    score
        Column 6, or None.
    phase
        Bases to skip to the first complete codon, 0, 1 or 2, or None.
    attributes
        Values by key, decoded; a key may have several values (``Parent=a,b``, GTF's repeated ``tag``). `value` gives the first.
    parts
        The pieces of a span that is joined from several (GenBank), in order of transcription; empty for GFF and GTF, where
        each line is one piece.
    """

    interval: Interval
    kind: str
    source: str = ""
    score: float | None = None
    phase: int | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    parts: tuple[Interval, ...] = ()

    def value(self, key: str, default: str = "") -> str:
        """Return the first value of an attribute, or ``default`` where the feature has none of that name."""
        values = self.attributes.get(key, ())
        return values[0] if values else default


def read_gff(path: str | os.PathLike[str]) -> Iterator[Feature]:
    """Read the features of a GFF3 or GTF file one after the other.

    Comments and directives are passed over; a FASTA part (``##FASTA`` or ``>``) ends the annotation.

    Parameters
    ----------
    path
        Plain, gzip or bgzip; any line ends; ``-`` reads standard input.

    Returns
    -------
    Iterator of Feature
        In the order of the file. A missing or empty file is refused at once, other errors when they are reached.

    Raises
    ------
    FileFormatError
        The input is missing, empty or truncated; or a line does not have nine columns, a start of at least 1 and an end not
        before it, a number or ``.`` as score, a known strand and phase, and well-formed attributes.
    """
    return _features(require_input(path))


def _features(source: Path) -> Iterator[Feature]:
    name = input_name(source)
    dialect: Dialect | None = None
    number, found = 0, False
    with open_text(source) as handle:
        for number, line in enumerate(handle, 1):
            line = line.rstrip("\n")
            if line.startswith(("##FASTA", ">")):
                break
            if match := re.match(r"##gff-version\s+(\d+)", line):
                dialect = "gff3" if match[1] == "3" else None
            if not line.strip() or line.startswith("#"):
                continue
            columns = line.split("\t")
            if dialect is None and len(columns) == 9 and columns[8].strip() not in ("", "."):
                is_gtf = _GTF_START.match(columns[8]) or "=" not in columns[8]
                dialect = "gtf" if is_gtf else "gff3"
            found = True
            yield _feature(columns, dialect, name, number)
    if not found:
        raise FileFormatError(
            "the file holds no feature; expected GFF3 or GTF", path=name, line=number or None
        )


def _feature(columns: list[str], dialect: Dialect | None, path: str, line: int) -> Feature:
    def wrong(message: str) -> FileFormatError:
        return FileFormatError(message, path=path, line=line)

    if len(columns) != 9:
        raise wrong(
            f"expected nine columns separated by tabs, found {len(columns)}: {' '.join(columns)[:60]!r}"
        )
    seqid, source, kind, first, last, score_text, strand, phase_text = (
        column.strip(" ") for column in columns[:8]
    )
    if not seqid or not kind:
        raise wrong(
            "the contig's name (column 1) and the feature's type (column 3) must not be empty"
        )
    for what, text in (("start", first), ("end", last)):
        if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            raise wrong(
                f"{what} is {text[:30]!r}; expected a whole number (positions count from 1)"
            )
    start, end = int(first), int(last)
    if start < 1 or end < start:
        raise wrong(
            f"the feature runs from {start} to {end}; positions count from 1 and the end is not before the start"
        )
    if strand not in ("+", "-", ".", "?"):
        raise wrong(f"the strand (column 7) is {strand[:30]!r}; expected '+', '-', '.' or '?'")
    if phase_text not in ("0", "1", "2", "."):
        raise wrong(f"the phase (column 8) is {phase_text[:30]!r}; expected 0, 1, 2 or '.'")
    score = None
    if score_text != ".":
        try:
            score = float(score_text)
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise wrong(f"the score (column 6) is {score_text[:30]!r}; expected a number or '.'")
    source = "" if source == "." else source
    if dialect == "gtf":
        attributes = _gtf_attributes(columns[8], wrong)
    else:
        seqid, source, kind = unquote(seqid), unquote(source), unquote(kind)
        attributes = _gff3_attributes(columns[8], wrong)
    return Feature(
        Interval(seqid, start - 1, end, "." if strand == "?" else strand),
        kind,
        source,
        score,
        None if phase_text == "." else int(phase_text),
        attributes,
    )


def _gff3_attributes(text: str, wrong: Callable[[str], Exception]) -> dict[str, tuple[str, ...]]:
    attributes: dict[str, tuple[str, ...]] = {}
    if text.strip() in ("", "."):
        return attributes
    for pair in text.split(";"):
        if not pair.strip():
            continue
        key, equals, value = pair.partition("=")
        key = unquote(key.strip(" "))
        if not equals or not key:
            raise wrong(
                f"attribute {pair[:60]!r} is not of the form key=value (a semicolon inside a value is written %3B)"
            )
        # Split first, decode afterwards: a comma that belongs to a value is written %2C.
        attributes[key] = attributes.get(key, ()) + tuple(map(unquote, value.split(",")))
    return attributes


def _gtf_attributes(text: str, wrong: Callable[[str], Exception]) -> dict[str, tuple[str, ...]]:
    attributes: dict[str, tuple[str, ...]] = {}
    text = text.strip()
    position = 0
    while position < len(text) and text != ".":
        match = _GTF_PAIR.match(text, position)
        if match is None:
            rest = text[position:].strip()
            if not rest.strip("; "):
                break
            raise wrong(f'attribute {rest[:60]!r} is not of the form key "value";')
        if match["quoted"] is not None:
            value = re.sub(r'\\(["\\])', r"\1", match["quoted"])
        else:
            value = match["plain"] if match["plain"] is not None else match["bare"]
        attributes[match["key"]] = (*attributes.get(match["key"], ()), value)
        position = match.end()
    return attributes


def write_gff(
    features: Iterable[Feature], path: str | os.PathLike[str], *, force: bool = False
) -> None:
    """Write features as GFF3, which `read_gff` reads back as the same features (without ``parts``).

    Parameters
    ----------
    features
        In the order in which they are to be written.
    path
        The output, compressed where it ends in ``.gz``; ``-`` writes to standard output.
    force
        Whether an existing file may be overwritten.

    Raises
    ------
    OutputError
        The file exists or cannot be written.
    """
    with open_output(path, force=force) as out:
        out.write("##gff-version 3\n")
        for feature in features:
            span = feature.interval
            columns = (
                quote(span.chrom, safe=_SAFE_SEQID),
                _escaped(feature.source) or ".",
                _escaped(feature.kind),
                str(span.start + 1),
                str(span.end),
                "." if feature.score is None else f"{feature.score:.17g}",
                span.strand,
                "." if feature.phase is None else str(feature.phase),
                ";".join(
                    f"{quote(key, safe='')}={','.join(quote(value, safe=_SAFE_VALUE) for value in values)}"
                    for key, values in feature.attributes.items()
                )
                or ".",
            )
            out.write("\t".join(columns) + "\n")


def _escaped(text: str) -> str:
    # a lone '.' means "nothing" in these columns
    return "%2E" if text == "." else quote(text, safe=_SAFE_SEQID)
