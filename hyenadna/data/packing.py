"""FASTA text into ``.2bit``: once by the user's `pack`, or behind the scenes into the cache.

What a FASTA file may hold is what `hyenadna.io.fasta.read_fasta` takes, and it refuses the same things; this reader
works on blocks of bytes instead of records, so that a chromosome costs a quarter of its letters in memory and
decompression (in a thread of its own) is what limits the speed. The format itself is in `hyenadna.data.twobit`.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from hyenadna.data.twobit import (
    ILLEGAL,
    LETTER_TABLE,
    SIGNATURE,
    PackSummary,
    TwoBitFile,
    TwoBitWriter,
)
from hyenadna.errors import FileFormatError, OutputError, SequenceError
from hyenadna.io.atomic import atomic_path, check_output
from hyenadna.io.streams import input_name, is_stdin, open_bytes, require_input
from hyenadna.resources import cache_dir

_BLOCK = 1 << 22
_LONGEST_HEADER = 1 << 20
_WHITESPACE = b" \t\r\n\v\f"
_SIGNATURES = (SIGNATURE.to_bytes(4, "little"), SIGNATURE.to_bytes(4, "big"))
Progress = Callable[[int], None]


def is_twobit(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file is ``.2bit``: by its first bytes, or because its name says so.

    Raises
    ------
    FileFormatError
        There is no such file, it is no regular file, or it is empty.
    """
    source = require_input(path)
    if not source.is_file():
        raise FileFormatError(
            "a genome must be a regular file, as it is read at random places; "
            "write it to disk first, such as by 'hyenadna pack - -o genome.2bit'",
            path=input_name(path),
        )
    with source.open("rb") as handle:
        return handle.read(4) in _SIGNATURES or source.suffix.lower() == ".2bit"


def pack(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> PackSummary:
    """Pack a FASTA file into a ``.2bit`` file.

    Parameters
    ----------
    source
        FASTA: plain, gzip, bgzip, or ``-`` for standard input. A contig's name is its header up to the first space.
    target
        The ``.2bit`` file, written atomically.
    force
        Replace an existing target.
    progress
        Called with the number of bases packed since the last call.

    Returns
    -------
    PackSummary
        What was packed, and how many IUPAC codes became N.

    Raises
    ------
    FileFormatError
        The source is missing, empty, damaged, no DNA in FASTA format, or names a contig twice.
    OutputError
        The target exists, or cannot be written.
    """
    found = require_input(source)
    destination = check_output(target, force=force, folder=False)
    if destination == Path("-"):
        raise OutputError("a .2bit file cannot be written to standard output; name a file")
    if destination.exists() and not is_stdin(found) and destination.samefile(found):
        raise OutputError(f"output {target} is the input itself; choose another name")
    if not is_stdin(found) and found.is_file() and is_twobit(found):
        raise FileFormatError("this is a .2bit file already; it can be used as it is", path=found)
    return _pack(found, destination, force=force, progress=progress)


def cached_twobit(source: Path, *, progress: Progress | None = None) -> Path:
    """Return the packed form of a FASTA file in the cache, made if it is missing or the source has changed.

    Of several processes that ask at once, one packs and the others wait for it. A cache that holds the file already
    may be read-only.

    Parameters
    ----------
    source
        A FASTA file on disk.
    progress
        As in `pack`.

    Raises
    ------
    FileFormatError
        The source is no DNA in FASTA format, or changed while it was read.
    OutputError
        The cache cannot be written.
    """
    source = source.resolve()
    folder = cache_dir("genomes")
    place = f"{re.sub(r'[^A-Za-z0-9._-]', '_', source.name)[:80]}.{_digest(str(source))}"
    state = _state(source)
    target = folder / f"{place}.{_digest(repr(state))}.2bit"
    if _is_whole(target):
        return target
    from filelock import FileLock

    lock = FileLock(folder / f"{place}.lock")
    try:
        lock.acquire()
    except OSError as error:
        raise OutputError(
            f"the packed form of {source} cannot be kept: the cache folder {folder} cannot be written "
            f"({error.strerror or error}); set HYENADNA_CACHE to another folder"
        ) from error
    try:
        if _is_whole(target):  # another process packed it while we waited
            return target
        for left in folder.glob(f".partial-*.{_digest(str(source))}.*.2bit"):
            left.unlink(missing_ok=True)  # of a process that was killed: we hold the lock
        _pack(source, target, force=True, progress=progress)
        if _state(source) != state:
            target.unlink()
            raise FileFormatError(
                "the file changed while it was being read; try again", path=source
            )
        for old in folder.glob(f"{place}.*.2bit"):
            if old != target:
                with suppress(OSError):  # still open on a platform that locks open files
                    old.unlink()
    finally:
        lock.release()
    return target


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _state(path: Path) -> tuple[int, int, int]:
    # The change time too: it moves even where a tool puts the old modification time back.
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_whole(path: Path) -> bool:
    try:
        TwoBitFile(path)
    except FileFormatError:
        return False
    return True


def _pack(source: Path, target: Path, *, force: bool, progress: Progress | None) -> PackSummary:
    with (
        atomic_path(target, force=force, folder=False) as temporary,
        TwoBitWriter(temporary) as writer,
    ):
        reader = _FastaPacker(source, writer, progress)
        for block in _ahead(source):
            reader.feed(block)
        reader.finish()
        return writer.close()


def _ahead(source: Path, depth: int = 4) -> Iterator[bytes]:
    """Read and decompress blocks in a thread, which zlib lets run beside ours."""
    blocks: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(item: bytes | BaseException | None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                blocks.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        try:
            with open_bytes(source) as stream:
                while block := stream.read(_BLOCK):
                    if not offer(block):
                        return
            offer(None)
        except BaseException as error:  # carried to the other thread, whatever it is
            offer(error)

    thread = threading.Thread(target=read, name="hyenadna-pack", daemon=True)
    thread.start()
    try:
        while (item := blocks.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()


class _FastaPacker:
    """Cuts blocks of FASTA text into headers and sequence, and hands the letters to a writer."""

    def __init__(self, source: Path, writer: TwoBitWriter, progress: Progress | None) -> None:
        self._source = source
        self._writer = writer
        self._progress = progress
        self._name: str | None = None
        self._bases = 0
        self._line = 1
        self._at_line_start = True
        self._in_comment = False
        self._partial_header = b""
        self._bare_returns: bool | None = None
        self._line_of: dict[str, int] = {}

    def feed(self, block: bytes) -> None:
        """Take the next bytes of the file."""
        if self._bare_returns is None:
            block = block.removeprefix(b"\xef\xbb\xbf")
            self._bare_returns = b"\r" in block and b"\n" not in block
        if self._bare_returns:  # line ends of classic Mac OS
            block = block.replace(b"\r", b"\n")
        block = self._partial_header + block
        self._partial_header = b""
        place = 0
        while place < len(block):
            if self._at_line_start and block[place] == ord(">"):
                end = block.find(b"\n", place)
                if end < 0:
                    if len(block) - place > _LONGEST_HEADER:
                        raise self._broken("the header has no line end within 1 MB", self._line)
                    self._partial_header = block[place:]
                    return
                self._begin(block[place + 1 : end])
                self._line += 1
                place = end + 1
                continue
            end = block.find(b"\n>", place) + 1 or len(block)
            self._add(block[place:end])
            self._at_line_start = block[end - 1] == ord("\n")
            place = end

    def finish(self) -> None:
        """Take note that the file has ended."""
        if self._partial_header:
            self._begin(self._partial_header[1:])
        if self._name is None:
            raise self._broken(
                "the file holds no record; expected FASTA", self._line - self._at_line_start
            )
        self._require_bases()

    def _broken(self, message: str, line: int) -> FileFormatError:
        return FileFormatError(message, path=input_name(self._source), line=line)

    def _begin(self, header: bytes) -> None:
        self._require_bases()
        words = header.decode("utf-8", errors="replace").split(maxsplit=1)
        if not words:
            raise self._broken(
                "this header has no name; expected '>name' with an optional description", self._line
            )
        name = words[0]
        if name in self._line_of:
            raise self._broken(
                f"record {name!r} was seen before, on line {self._line_of[name]}; names must be unique "
                "(the name is the first word of the header)",
                self._line,
            )
        self._line_of[name] = self._line
        self._name, self._bases = name, 0
        self._writer.begin(name)

    def _require_bases(self) -> None:
        if self._name is not None and not self._bases:
            raise self._broken(
                f"record {self._name!r} has no bases; complete or remove it",
                self._line_of[self._name],
            )

    def _add(self, text: bytes) -> None:
        if self._name is None:
            self._skip(text)
            return
        letters = text.translate(LETTER_TABLE, _WHITESPACE)
        if letters.find(ILLEGAL) >= 0:
            raise self._illegal(text)
        self._writer.append(letters)
        self._bases += len(letters)
        self._line += text.count(b"\n")
        if self._progress is not None:
            self._progress(len(letters))

    def _skip(self, text: bytes) -> None:
        """Pass over what may stand before the first header: blank lines, and comments of the first FASTA programs."""
        lines = text.split(b"\n")
        if self._in_comment:
            lines[0] = b";"
        self._in_comment = lines[-1].startswith(b";")
        for line in lines:
            if line.strip() and not line.startswith(b";"):
                found = line.strip()[:30].decode("utf-8", errors="replace")
                hint = "; this looks like FASTQ" if found.startswith("@") else ""
                raise self._broken(
                    f"expected a header that starts with '>', found {found!r}{hint}", self._line
                )
            self._line += 1
        self._line -= 1

    def _illegal(self, text: bytes) -> SequenceError:
        """Return the error of the first letter of some lines that is no nucleotide code."""
        for line in text.split(b"\n"):
            letters = line.translate(None, _WHITESPACE)
            place = letters.translate(LETTER_TABLE).find(ILLEGAL)
            if place >= 0:
                break
            self._bases += len(letters)
            self._line += 1
        letter = letters[place:].decode("utf-8", errors="replace")[0]
        position = self._bases + place
        hint = "; is this a protein FASTA?" if letter.upper() in "EFILPQZX*" else ""
        return SequenceError(
            f"{input_name(self._source)}:{self._line}: record {self._name!r} has {letter!r} at position "
            f"{position + 1}, which is no nucleotide code (expected A, C, G, T, U, N or an IUPAC ambiguity "
            f"code){hint}",
            record=self._name or "",
            position=position,
            character=letter,
        )
