"""Variants in: VCF and BCF through pysam (htslib), and lists of variant text; and what is added to headers and records.

Every input becomes `VariantRecord` values, each with its VCF line, so that what this package adds is one more INFO entry in a line
that otherwise stays as htslib prints it. Writing is in `hyenadna.io.vcf_output`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hyenadna.errors import BackendUnavailableError, FileFormatError, IntervalError
from hyenadna.io.atomic import output_errors
from hyenadna.io.streams import compression, input_name, open_bytes, open_text, require_input
from hyenadna.sequence import Variant

_VCF_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")


class VariantRecord(NamedTuple):
    """One record of an input.

    Parameters
    ----------
    chrom
        Name of the contig.
    start
        0-based position of the first base of `ref`; −1 for VCF's POS 0.
    ref, alts
        Alleles as they are written; no `alts` where the record has none.
    name
        VCF's ID, empty where there is none.
    line
        The record as a line of VCF, without its end.
    """

    chrom: str
    start: int
    ref: str
    alts: tuple[str, ...]
    name: str
    line: str


class VariantInput(NamedTuple):
    """An open input.

    Parameters
    ----------
    header
        Lines of a VCF header without their ends, the last one ``#CHROM…``; None for a list of variant text.
    records
        The records, read lazily; malformed ones raise FileFormatError.
    """

    header: list[str] | None
    records: Iterator[VariantRecord]


class InfoField(NamedTuple):
    """One INFO entry with a value per alternative allele: its key, type and meaning (without double quotes)."""

    key: str
    kind: Literal["Float", "String"]
    description: str


@contextmanager
def open_variants(path: str | os.PathLike[str]) -> Iterator[VariantInput]:
    """Open VCF, BCF, or a list of variant text, whichever the content is.

    Parameters
    ----------
    path
        Plain, gzip or bgzip. Standard input (``-``), pipes and plain gzip are copied to a temporary file first. A list has one variant a
        line, in the forms of `Variant.parse`; blank lines and those that start with ``#`` are passed over.

    Raises
    ------
    FileFormatError
        On opening or while reading: the input is missing, empty, truncated, or malformed; with its line where that is known.
    BackendUnavailableError
        It is VCF or BCF, and pysam is not installed.
    """
    source = require_input(path)
    name = input_name(source)
    with ExitStack() as stack:
        # pysam opens files only, and of those no plain gzip
        if name == "<stdin>" or not source.is_file() or compression(source) == "gzip":
            source = stack.enter_context(_spooled(source))
        with open_bytes(source) as stream:
            head = stream.read(64)
        if head.startswith(b"##fileformat=VCF"):
            yield stack.enter_context(_vcf(source, name))
        elif head.startswith(b"BCF"):
            yield stack.enter_context(_bcf(source, name))
        elif head.removeprefix(b"\xef\xbb\xbf").startswith((b"##", b"#CHROM")):
            raise FileFormatError(
                "this looks like VCF but does not begin with ##fileformat=VCFv4.…; add that line, with nothing before it",
                path=name,
                line=1,
            )
        else:
            yield VariantInput(None, _text_records(source, name))


@contextmanager
def _spooled(source: Path) -> Iterator[Path]:
    """Copy an input, decompressed, into a temporary file."""
    with tempfile.TemporaryDirectory(prefix="hyenadna-") as folder:
        copy = Path(folder) / "variants"
        with output_errors(copy), open_bytes(source) as stream, copy.open("wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
        yield copy


def _text_records(source: Path, name: str) -> Iterator[VariantRecord]:
    number, found = 0, False
    with open_text(source) as handle:
        for number, line in enumerate(handle, 1):
            if line.strip() and not line.startswith("#"):
                found = True
                try:
                    yield variant_record(Variant.parse(line))
                except IntervalError as error:
                    hint = ""
                    if line.count("\t") >= 7:
                        hint = "; this looks like VCF without its header, whose lines ##fileformat=VCFv4.2 and #CHROM… come first"
                    raise FileFormatError(f"{error}{hint}", path=name, line=number) from None
    if not found:
        raise FileFormatError(
            "the file holds no variant; expected VCF, BCF or variant text such as chr22:1024:A>C",
            path=name,
            line=number or None,
        )


def variant_record(variant: Variant) -> VariantRecord:
    """Return a variant as a record, its line with nothing but the place and the alleles."""
    chrom, start, ref, alt = variant.chrom, variant.start, variant.ref, variant.alt
    line = f"{chrom}\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\t."
    return VariantRecord(chrom, start, ref, (alt,), "", line)


@contextmanager
def _vcf(source: Path, name: str) -> Iterator[VariantInput]:
    """Read VCF twice in step: htslib says what a line means, the text itself goes to the output unchanged."""
    with _htslib(source, name) as file, open_text(source) as handle:
        lines = enumerate(handle, 1)
        header = []
        for _, line in lines:
            header.append(line.rstrip("\n"))
            if line.startswith("#CHROM"):
                break
        yield VariantInput(header, _vcf_records(file, lines, name))


def _vcf_records(
    file: Iterator[Any], lines: Iterator[tuple[int, str]], name: str
) -> Iterator[VariantRecord]:
    for number, line in lines:
        line = line.rstrip("\n")
        try:
            record = _record(next(file), line)
            if line.count("\t") < 7 or line.partition("\t")[0] != record.chrom:
                raise ValueError("htslib sees line ends elsewhere")  # a stray carriage return
        except (StopIteration, OSError, ValueError) as error:
            found = f"found {line[:60]!r}" if line.strip() else "the line is blank"
            raise FileFormatError(
                f"this is no VCF record: expected {len(_VCF_COLUMNS)} or more columns separated by tabs, "
                f"with a whole number as POS, in UTF-8; {found}",
                path=name,
                line=number,
            ) from error
        yield record


@contextmanager
def _bcf(source: Path, name: str) -> Iterator[VariantInput]:
    with _htslib(source, name, bcf=True) as file:
        yield VariantInput(str(file.header).splitlines(), _bcf_records(file, name))


def _bcf_records(file: Iterator[Any], name: str) -> Iterator[VariantRecord]:
    number = 1
    try:
        for found in file:
            yield _record(found, str(found).rstrip("\n"))
            number += 1
    except (OSError, ValueError) as error:
        raise FileFormatError(
            f"record {number:,} cannot be read: the file is damaged or truncated", path=name
        ) from error


def _record(found: Any, line: str) -> VariantRecord:
    return VariantRecord(
        found.chrom, found.start, found.ref, found.alts or (), found.id or "", line
    )


@contextmanager
def _htslib(source: Path, name: str, *, bcf: bool = False) -> Iterator[Any]:
    pysam = require_pysam()
    verbosity = pysam.set_verbosity(0)  # it would write to standard error by itself
    try:
        try:
            file = pysam.VariantFile(os.fspath(source))
        except (OSError, ValueError) as error:
            raise FileFormatError(
                "the BCF header is damaged or truncated; copy or download the file again"
                if bcf
                else "the VCF header is malformed; expected ## lines and then #CHROM POS ID REF ALT QUAL FILTER INFO",
                path=name,
            ) from error
        with file:
            yield file
    finally:
        pysam.set_verbosity(verbosity)


def new_header(contigs: Mapping[str, int]) -> list[str]:
    """Return the header of a VCF without samples: lines without their ends, for contigs of these lengths."""
    return [
        "##fileformat=VCFv4.2",
        '##FILTER=<ID=PASS,Description="All filters passed">',
        *(f"##contig=<ID={name},length={length}>" for name, length in contigs.items()),
        "\t".join(_VCF_COLUMNS),
    ]


def extended_header(
    header: Sequence[str],
    fields: Sequence[InfoField],
    provenance: Mapping[str, str],
    *,
    version: str,
) -> list[str]:
    """Return a header with INFO entries and lines of provenance added; those of the same keys are replaced.

    Parameters
    ----------
    header
        Lines without their ends, the last one ``#CHROM…``.
    fields
        Entries with one value per alternative allele.
    provenance
        Values of ``##key=value`` lines.
    version
        Version of this package, for the INFO lines.
    """
    infos = [
        f'##INFO=<ID={f.key},Number=A,Type={f.kind},Description="{f.description}",Source="hyenadna",Version="{version}">'
        for f in fields
    ]
    others = [f"##{key}={' '.join(value.split())}" for key, value in provenance.items()]
    replaced = (*(f"##INFO=<ID={f.key}," for f in fields), *(f"##{key}=" for key in provenance))
    return [*(h for h in header[:-1] if not h.startswith(replaced)), *infos, *others, header[-1]]


def with_info(line: str, entries: Mapping[str, str], *, replaced: Iterable[str]) -> str:
    r"""Return a record's line with INFO entries added after its own; those of the keys `replaced` are dropped.

    Examples
    --------
    >>> with_info("1\t5\t.\tA\tC\t.\t.\tAC=1;X=2", {"X": "3"}, replaced=["X", "Y"])
    '1\t5\t.\tA\tC\t.\t.\tAC=1;X=3'
    """
    columns = line.split("\t", 8)
    gone = {".", *replaced}
    kept = [entry for entry in columns[7].split(";") if entry.partition("=")[0] not in gone]
    columns[7] = ";".join([*kept, *(f"{key}={value}" for key, value in entries.items())]) or "."
    return "\t".join(columns)


def info_values(line: str) -> dict[str, str]:
    r"""Return the INFO entries of a record's line that have a value.

    Examples
    --------
    >>> info_values("1\t5\t.\tA\tC\t.\t.\tAC=1;DB;X=2")
    {'AC': '1', 'X': '2'}
    """
    entries = (entry.partition("=") for entry in line.split("\t", 8)[7].split(";"))
    return {key: value for key, equals, value in entries if equals}


def require_pysam() -> Any:
    """Return pysam.

    Raises
    ------
    BackendUnavailableError
        It is not installed.
    """
    try:
        import pysam
    except ImportError as error:
        raise BackendUnavailableError(
            "VCF, BCF and bgzip need pysam, which is not installed; install it with: pip install pysam (it does not exist for "
            "Windows: use WSL there, or variant text in and TSV out)"
        ) from error
    return pysam
