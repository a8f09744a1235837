"""Variants out: VCF as text or as bgzip with a tabix index, and BCF with a CSI index, whole or not at all."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hyenadna.errors import OutputError
from hyenadna.io.atomic import atomic_path, check_output, open_output
from hyenadna.io.vcf import VariantRecord, require_pysam

__all__ = ["VcfWriter", "check_vcf_output", "open_vcf_output"]

_BGZIP_SUFFIXES = (".gz", ".bgz")
_DECLARATION = re.compile("##(contig|FILTER|INFO|FORMAT)=<ID=([^,>]+)")
_TABIX_LIMIT = 1 << 29  # a .tbi index knows no position beyond


def check_vcf_output(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Check that a VCF, and its index where it will have one, can be written.

    Raises
    ------
    OutputError
        As `check_output`.
    BackendUnavailableError
        bgzip or BCF is needed, and pysam is not installed.
    """
    check_output(path, force=force, folder=False)
    suffix = _index_suffix(path)
    if suffix:
        check_output(f"{os.fspath(path)}{suffix}", force=force, folder=False)
        require_pysam()


class VcfWriter:
    """Writes lines of VCF, and watches whether they can be indexed.

    Parameters
    ----------
    write
        Takes text.
    declared
        Refuse records that BCF cannot hold, because the header does not declare what is in them.
    """

    def __init__(self, write: Callable[[str], object], *, declared: bool = False) -> None:
        self._write = write
        self._declared: set[tuple[str, str]] | None = {("FILTER", "PASS")} if declared else None
        self._seen: set[str] = set()
        self._last = ("", -2)
        #: Why a tabix index is impossible, empty where it is possible or not wanted.
        self.not_indexed = ""

    def header(self, lines: Iterable[str]) -> None:
        """Write the lines of the header."""
        for line in lines:
            self._write(line + "\n")
            if self._declared is not None and (found := _DECLARATION.match(line)):
                self._declared.add((found[1], found[2]))

    def record(self, record: VariantRecord, line: str) -> None:
        """Write a record's line."""
        chrom, start = self._last
        if record.chrom != chrom:
            if record.chrom in self._seen:
                self.not_indexed = "the records are not sorted by contig and position"
            self._seen.add(record.chrom)
        elif record.start < start:
            self.not_indexed = "the records are not sorted by contig and position"
        if record.start + len(record.ref) > _TABIX_LIMIT:
            self.not_indexed = f"a position is beyond {_TABIX_LIMIT:,}, the limit of .tbi"
        self._last = (record.chrom, record.start)
        if self._declared is not None:
            for kind, name in _needed(line):
                if (kind, name) not in self._declared:
                    raise OutputError(
                        f"{record.chrom}:{record.start + 1} cannot be written as BCF: the header does not declare its {kind} {name!r}; declare it, or write .vcf.gz"
                    )
        self._write(line + "\n")


@contextmanager
def open_vcf_output(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[VcfWriter]:
    """Open a VCF that appears under its name only when it is complete.

    Parameters
    ----------
    path
        ``.gz`` and ``.bgz`` become bgzip with the index ``….tbi`` beside them, ``.bcf`` becomes BCF with ``….csi``, unless the writer then says why there is
        none (`not_indexed`); everything else is text; ``-`` is standard output.
    force
        Whether existing files may be overwritten.

    Raises
    ------
    OutputError
        As `open_output`; or BCF cannot hold a record, because the header does not declare its contig or one of its entries.
    BackendUnavailableError
        bgzip or BCF is needed, and pysam is not installed.
    """
    suffix = _index_suffix(path)
    if not suffix:
        with open_output(path, force=force) as out:
            writer = VcfWriter(out.write)
            yield writer
            writer.not_indexed = ""  # text never has an index
        return
    pysam = require_pysam()
    with ExitStack() as stack:
        temporary = stack.enter_context(atomic_path(path, force=force, folder=False))
        if suffix == ".csi":
            text = stack.enter_context(tempfile.TemporaryDirectory(dir=temporary.parent, prefix=".partial-"))  # fmt: skip
            written = Path(text) / "text.vcf.gz"
        else:
            written = temporary
        with pysam.BGZFile(os.fspath(written), "wb") as out:
            writer = VcfWriter(lambda text: out.write(text.encode()), declared=suffix == ".csi")
            yield writer
        if suffix == ".csi":
            _convert_to_bcf(written, temporary, os.fspath(path))
        place = f"{os.fspath(path)}{suffix}"
        if writer.not_indexed:
            Path(place).expanduser().unlink(missing_ok=True)  # that of an overwritten file
        else:
            index = stack.enter_context(atomic_path(place, force=force, folder=False))
            pysam.tabix_index(
                os.fspath(temporary), preset="bcf" if suffix == ".csi" else "vcf", index=os.fspath(index), keep_original=True, csi=suffix == ".csi"
            )  # fmt: skip


def _index_suffix(path: str | os.PathLike[str]) -> str:
    """Return what the name of an output's index ends with, nothing where it is text."""
    name = os.fspath(path)
    return ".tbi" if name.endswith(_BGZIP_SUFFIXES) else ".csi" if name.endswith(".bcf") else ""


def _needed(line: str) -> Iterator[tuple[str, str]]:
    """Yield what a record needs the header to declare."""
    columns = line.split("\t", 9)
    yield "contig", columns[0]
    entries = [("FILTER", name) for name in columns[6].split(";")]
    entries += [("INFO", entry.partition("=")[0]) for entry in columns[7].split(";")]
    entries += [("FORMAT", name) for name in columns[8].split(":")] if len(columns) > 8 else []
    yield from (entry for entry in entries if entry[1] != ".")


def _convert_to_bcf(source: Path, target: Path, name: str) -> None:
    pysam = require_pysam()
    verbosity = pysam.set_verbosity(0)
    number = 1
    try:
        with pysam.VariantFile(os.fspath(source)) as file, pysam.VariantFile(os.fspath(target), "wb", header=file.header) as out:  # fmt: skip
            for record in file:
                out.write(record)
                number += 1
    except (OSError, ValueError) as error:
        raise OutputError(
            f"{name}: record {number:,} cannot be written as BCF ({error}); write {name.removesuffix('.bcf')}.vcf.gz"
        ) from error
    finally:
        pysam.set_verbosity(verbosity)
