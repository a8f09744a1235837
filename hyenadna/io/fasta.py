"""FASTA: records as a stream (Biopython's parser), and spans at random (pyfaidx).

Both refuse the same files with the same sentences. Case is kept: lower case means soft-masked. Packing a FASTA into a genome
that is fast to read is in `hyenadna.data.genome`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from hyenadna.errors import FileFormatError, HyenaDNAError, SequenceError
from hyenadna.io.fasta_index import has_regular_lines, open_indexed
from hyenadna.io.streams import compression, input_name, is_stdin, open_text, require_input
from hyenadna.sequence import Interval, require_inside, reverse_complement, validate_dna

_NOT_NUCLEOTIDE = re.compile(r"[^ACGTURYSWKMBDHVNacgturyswkmbdhvn \t]")
_FINE = (
    b"ACGTURYSWKMBDHVNacgturyswkmbdhvn \t\n"  # the same for bytes.translate, which is twice as fast
)
_PROTEIN_ONLY = frozenset("EFILPQZX*")
# pyfaidx reads a bgzip span by repeated concatenation, so its time grows with the square of the span beyond some blocks.
_FETCH = 1 << 20


class FastaRecord(NamedTuple):
    """One sequence of a FASTA file.

    Parameters
    ----------
    name
        First word of the header.
    description
        Rest of the header, often empty.
    sequence
        IUPAC nucleotide letters, case as in the file, without line ends; never empty.
    """

    name: str
    description: str
    sequence: str


def read_fasta(
    path: str | os.PathLike[str], *, on_error: Callable[[HyenaDNAError], None] | None = None
) -> Iterator[FastaRecord]:
    """Read the records of a FASTA file one after the other.

    Memory holds one record, and the names of those before it.

    Parameters
    ----------
    path
        Plain, gzip or bgzip; any line ends; blank lines and lines of any length are fine; ``-`` reads standard input.
    on_error
        Called with what is wrong with a record that has no bases or a letter that is no nucleotide code, which is then left out; None raises it. What is wrong with the file as such is always raised.

    Returns
    -------
    Iterator of FastaRecord
        In the order of the file. A missing or empty file is refused at once, other errors when they are reached.

    Raises
    ------
    FileFormatError
        The input is missing, empty, truncated or no FASTA, has two records of one name, or one without name or bases. The
        error carries path and line.
    SequenceError
        A letter is no nucleotide code, as in protein. The message begins with path and line.
    """
    return _records(require_input(path), on_error)


def _records(
    source: Path, on_error: Callable[[HyenaDNAError], None] | None
) -> Iterator[FastaRecord]:
    with open_text(source) as handle:
        yield from parse_fasta(handle, name=input_name(source), on_error=on_error)


def parse_fasta(
    lines: Iterable[str], *, name: str, on_error: Callable[[HyenaDNAError], None] | None = None
) -> Iterator[FastaRecord]:
    """Read the records of FASTA text that is open already; `name` is what messages call it. Else as `read_fasta`."""
    # Imported here: it takes 0.2 s, which readers of other formats need not wait.
    from Bio.SeqIO.FastaIO import SimpleFastaParser

    wrong: set[str] = set()  # complete for a record when the next one's header has been read

    def leave_out(record: str, error: HyenaDNAError) -> None:
        if on_error is None:
            raise error
        if record not in wrong:
            wrong.add(record)
            on_error(error)

    for title, sequence in SimpleFastaParser(_checked_lines(lines, name, leave_out)):
        record, *description = title.split(maxsplit=1)
        if record not in wrong:
            yield FastaRecord(record, "".join(description), sequence.replace("\t", ""))


def _checked_lines(
    handle: Iterable[str], path: str, leave_out: Callable[[str, HyenaDNAError], None]
) -> Iterator[str]:
    """Yield the lines that the parser needs, each checked, since the parser itself accepts anything."""
    line_of: dict[str, int] = {}
    name, n_bases, number = "", 0, 0

    def require_bases() -> None:
        if name and not n_bases:
            error = FileFormatError(
                f"record {name!r} has no bases; complete or remove it",
                path=path,
                line=line_of[name],
            )
            leave_out(name, error)

    for number, line in enumerate(handle, 1):
        if line.startswith(">"):
            require_bases()
            words = line[1:].split(maxsplit=1)
            if not words:
                raise FileFormatError(
                    "this header has no name; expected '>name' with an optional description",
                    path=path,
                    line=number,
                )
            name, n_bases = words[0], 0
            if name in line_of:
                raise FileFormatError(
                    f"record {name!r} was seen before, on line {line_of[name]}; names must be unique "
                    "(the name is the first word of the header)",
                    path=path,
                    line=number,
                )
            line_of[name] = number
            yield line
        elif not line.strip():
            continue
        elif name:
            if line.encode().translate(None, _FINE) and (
                found := _NOT_NUCLEOTIDE.search(line.rstrip())
            ):
                error = _no_nucleotide(found[0], n_bases + found.start(), name, f"{path}:{number}: ")  # fmt: skip
                leave_out(name, error)
            n_bases += len(line.strip())
            yield line
        elif not line.startswith(";"):  # the comments of the first FASTA programs
            hint = "; this looks like FASTQ" if line.startswith("@") else ""
            raise FileFormatError(
                f"expected a header that starts with '>', found {line.strip()[:30]!r}{hint}",
                path=path,
                line=number,
            )
    require_bases()
    if not name:
        raise FileFormatError(
            "the file holds no record; expected FASTA", path=path, line=number or None
        )


def _no_nucleotide(letter: str, position: int, record: str, place: str) -> SequenceError:
    hint = "; is this a protein FASTA?" if letter.upper() in _PROTEIN_ONLY else ""
    return SequenceError(
        f"{place}record {record!r} has {letter!r} at position {position + 1}, which is no nucleotide "
        f"code (expected A, C, G, T, U, N or an IUPAC ambiguity code){hint}",
        record=record,
        position=position,
        character=letter,
    )


class FastaFile:
    """Spans of a plain or bgzip FASTA file, read where they are asked for.

    An index beside the file (``.fai``, and ``.gzi`` for bgzip) is used where it is newer than the file; otherwise one is
    built in the cache. Nothing is ever written beside the data. Safe to share between threads, to fork, and to pickle: every
    process opens the file for itself.

    Parameters
    ----------
    path
        A plain or bgzip FASTA whose lines have one length within each record.

    Raises
    ------
    FileFormatError
        As `read_fasta`; and where the file is a plain gzip or its lines have no regular length, so that no span can be found
        without reading everything before it.
    OutputError
        The cache cannot hold the index.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if is_stdin(path):
            raise FileFormatError(
                "standard input has no random access; give a file", path="<stdin>"
            )
        self.path: Path = require_input(path)
        if not self.path.is_file():
            raise FileFormatError(
                "a pipe has no random access; give a regular file", path=self.path
            )
        if compression(self.path) == "gzip":
            raise FileFormatError(
                "a FASTA compressed with plain gzip has no random access; recompress it with bgzip, or "
                f"pack it once with: hyenadna pack {self.path} -o GENOME.2bit",
                path=self.path,
            )
        self._open()

    def _open(self) -> None:
        self._handle: Any = _indexed(self.path)
        self._process = os.getpid()
        self._checked: set[str] = set()
        #: Length of each contig in bases, by name, in the order of the file.
        self.contigs: dict[str, int] = {
            name: entry.rlen for name, entry in self._handle.index.items()
        }

    def sequence(self, interval: Interval) -> str:
        """Return the letters of a span, case kept; on strand ``"-"`` the reverse complement.

        Raises
        ------
        IntervalError
            The contig is unknown or the span leaves it.
        SequenceError
            A letter is no nucleotide code.
        FileFormatError
            The file was changed or damaged since it was indexed.
        """
        if self._handle is None:
            raise ValueError(f"{self.path} is closed")
        if self._process != os.getpid():
            # After a fork, a file position shared with the parent would give both the wrong bases.
            self._open()
        require_inside(interval, self.contigs)
        # pyfaidx lets through whatever zlib, struct and the file system raise.
        try:
            if interval.chrom not in self._checked:
                if not has_regular_lines(self._handle, interval.chrom):
                    raise _explain(self.path, ValueError(f"see record {interval.chrom!r}"))
                self._checked.add(interval.chrom)
            pieces = [
                self._handle.fetch(interval.chrom, start + 1, min(start + _FETCH, interval.end))
                for start in range(interval.start, interval.end, _FETCH)
            ]
        except HyenaDNAError:
            raise
        except Exception as error:
            raise self._changed(f"bases of {interval} cannot be read ({error})") from error
        letters = "".join(pieces)
        if len(letters) != len(interval):
            raise self._changed(
                f"{len(letters)} bases were found for {interval}, {len(interval)} expected"
            )
        try:
            validate_dna(letters, record=interval.chrom)
        except SequenceError as error:
            position = interval.start + (error.position or 0)
            raise _no_nucleotide(
                error.character, position, interval.chrom, f"{self.path}: "
            ) from None
        return reverse_complement(letters) if interval.strand == "-" else letters

    def _changed(self, what: str) -> FileFormatError:
        return FileFormatError(
            f"{what}: the file is damaged or was changed while it was open; open it again",
            path=self.path,
        )

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __enter__(self) -> FastaFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> Path:
        return self.path.absolute()

    def __setstate__(self, state: Path) -> None:
        self.__init__(state)  # type: ignore[misc]

    def __repr__(self) -> str:
        return f"FastaFile({os.fspath(self.path)!r})"


def _indexed(path: Path) -> Any:
    try:
        handle = open_indexed(path)
    except HyenaDNAError:
        raise
    except Exception as error:
        raise _explain(path, error) from error
    if not handle.index or not all(entry.rlen for entry in handle.index.values()):
        handle.close()
        raise _explain(path, ValueError("a record has no bases"))
    return handle


def _explain(path: Path, error: Exception) -> HyenaDNAError:
    """Find out why a file has no index: by its content if that is wrong, else by its layout."""
    try:
        for _ in read_fasta(path):
            pass
    except HyenaDNAError as found:
        return found
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return FileFormatError(
        "random access needs lines of one length within each record and UTF-8 headers, which this file "
        f"does not have ({reason}); rewrap it, or pack it once with: hyenadna pack {path} -o GENOME.2bit",
        path=path,
    )
