"""Opening input: plain, gzip, bgzip or standard input, as bytes or text, with every failure said in one sentence.

All readers of this room get their lines from here, so a missing, empty, compressed-by-other-means, damaged or truncated
file gives the same `FileFormatError` everywhere. What compression a file has is read from its first bytes, never from its
name. Writing is in `hyenadna.io.atomic`.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Literal, TextIO, TypeAlias

from hyenadna.errors import FileFormatError
from hyenadna.resources import resolve

Compression: TypeAlias = Literal["none", "gzip", "bgzip"]

_BUFFER = 1 << 20
# The empty block that ends every bgzip file (SAM specification, section 4.1.2). Without it a file that was cut between
# two blocks looks like a complete gzip file.
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_FOREIGN = (
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf", "7z"),
)


def is_stdin(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path means standard input, which is written ``-``."""
    return os.fspath(path) == "-"


def input_name(path: str | os.PathLike[str]) -> str:
    """Return what messages call an input: its path, or ``<stdin>``."""
    return "<stdin>" if is_stdin(path) else os.fspath(path)


def require_input(path: str | os.PathLike[str]) -> Path:
    """Resolve an input's path and check, without reading it, that it can be read.

    Parameters
    ----------
    path
        A file, ``bundled:NAME/FILE``, or ``-`` for standard input, which is returned as it is.

    Raises
    ------
    FileFormatError
        There is no such file, it is a folder, it has no bytes, or it may not be read.
    """
    if is_stdin(path):
        return Path("-")
    source = resolve(path)
    try:
        status = source.stat()
    except FileNotFoundError:
        raise FileFormatError("there is no such file; check the path", path=source) from None
    except OSError as error:
        raise _unreadable(error, source) from error
    if stat.S_ISDIR(status.st_mode):
        raise FileFormatError("this is a folder, but a file is needed", path=source)
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise FileFormatError(
            "the file is empty; check the command that should have filled it", path=source
        )
    if not os.access(source, os.R_OK):
        raise FileFormatError("you have no permission to read this file", path=source)
    return source


def compression(path: str | os.PathLike[str]) -> Compression:
    """Tell how a file on disk is compressed, from its first bytes.

    Raises
    ------
    FileFormatError
        The file cannot be read, is compressed by other means than gzip or bgzip, or is a bgzip file that lacks its end.
    """
    source = require_input(path)
    try:
        with source.open("rb") as file:
            kind = _compression(file.read(18), source)
            if kind == "bgzip" and file.seekable():
                file.seek(max(0, file.seek(0, os.SEEK_END) - len(_BGZIP_END)))
                if file.read() != _BGZIP_END:
                    raise _no_bgzip_end(source)
    except OSError as error:
        raise _unreadable(error, source) from error
    return kind


@contextmanager
def open_bytes(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open an input for reading bytes, decompressed where it is gzip or bgzip.

    Parameters
    ----------
    path
        A file, pipe, ``bundled:NAME/FILE``, or ``-`` for standard input (which is left open).

    Yields
    ------
    BinaryIO
        Buffered, forward reading only.

    Raises
    ------
    FileFormatError
        On opening, or while reading: the input is missing, empty, damaged, truncated, or compressed by other means.
    """
    source = require_input(path)
    name = input_name(source)
    if not is_stdin(source) and source.is_file():
        compression(source)  # a bgzip file without its end is refused before any work is done on it
    try:
        raw = _stdin() if is_stdin(source) else source.open("rb")
    except OSError as error:
        raise _unreadable(error, name) from error
    try:
        with io.BufferedReader(_Input(_Raw(raw, name), name), _BUFFER) as stream:
            yield stream
    finally:
        if not is_stdin(source):
            raw.close()


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    r"""Open an input for reading lines, decompressed where it is gzip or bgzip.

    Line ends are ``\n``, ``\r\n`` or ``\r`` in the file and always ``\n`` in the result. Text is UTF-8, with or without
    byte-order mark; bytes that are not become U+FFFD, since names in old files may have any encoding.

    Parameters
    ----------
    path
        A file, pipe, ``bundled:NAME/FILE``, or ``-`` for standard input (which is left open).

    Raises
    ------
    FileFormatError
        As `open_bytes`, and where the content is not text.
    """
    with open_bytes(path) as stream:
        if b"\0" in stream.peek(4096)[:4096]:  # type: ignore[attr-defined]
            raise FileFormatError(
                "this is a binary file (or UTF-16 text); plain or gzip-compressed text is expected",
                path=input_name(path),
            )
        with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace") as text:
            yield text


class _Raw:
    """The compressed bytes of an input: its first ones are looked at, its last ones remembered."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.head = file.read(18)
        self._pending = self.head
        self.tail = b""
        self._name = name
        if not self.head:
            raise FileFormatError(
                "the file is empty; check the command that should have filled it", path=name
            )

    def read(self, size: int = -1) -> bytes:
        if self._pending:
            data = self._pending if size < 0 else self._pending[:size]
            self._pending = self._pending[len(data) :]
        else:
            data = self._file.read(size)
        if data:
            self.tail = (self.tail + data)[-len(_BGZIP_END) :]
        return data


class _Input(io.RawIOBase):
    """Decompressed bytes, whose errors are those of this package."""

    def __init__(self, raw: _Raw, name: str) -> None:
        self._raw = raw
        self._name = name
        self._kind = _compression(raw.head, name)
        self._source = raw if self._kind == "none" else gzip.GzipFile(fileobj=raw)  # type: ignore[call-overload]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        try:
            data: bytes = self._source.read(len(buffer))
        except EOFError:
            raise FileFormatError(
                "the compressed data end too early: the file is truncated, copy or download it again",
                path=self._name,
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileFormatError(
                f"the compressed data are damaged ({error}); copy or download the file again",
                path=self._name,
            ) from error
        except OSError as error:
            raise _unreadable(error, self._name) from error
        if not data and self._kind == "bgzip" and self._raw.tail != _BGZIP_END:
            raise _no_bgzip_end(self._name)
        buffer[: len(data)] = data
        return len(data)


def _stdin() -> IO[bytes]:
    buffer: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if buffer is not None:
        return buffer
    # A program that embeds this one may have replaced sys.stdin by text without bytes below it.
    return io.BytesIO(b"" if sys.stdin is None else sys.stdin.read().encode())


def _compression(head: bytes, path: str | os.PathLike[str]) -> Compression:
    if head.startswith(b"\x1f\x8b"):
        return "bgzip" if len(head) > 15 and head[3] & 4 and head[12:14] == b"BC" else "gzip"
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            raise FileFormatError(
                f"this file is compressed with {name}, but plain text, gzip or bgzip is expected; "
                "decompress it first",
                path=path,
            )
    return "none"


def _no_bgzip_end(path: str | os.PathLike[str]) -> FileFormatError:
    return FileFormatError(
        "the bgzip end-of-file block is missing: the file is truncated, copy or download it again",
        path=path,
    )


def _unreadable(error: OSError, path: str | os.PathLike[str]) -> FileFormatError:
    return FileFormatError(f"the file cannot be read: {error.strerror or error}", path=path)
