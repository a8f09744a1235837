"""Writing output: whole or not at all, never over something by accident, and with one sentence where it fails.

An output is written under a temporary name beside its target and renamed when it is complete, so a reader never sees half
a file and a failure leaves nothing behind. A target that is no regular file or folder (``/dev/stdout``, a pipe) is written
directly. Reading is in `hyenadna.io.streams`.
"""

from __future__ import annotations

import errno
import glob
import gzip
import io
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from hyenadna.errors import HyenaDNAError, OutputError

_NO_ROOM = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would exceed the size limit",
}
# Libraries that write through C++ or Rust report a full disk in words only.
_NO_ROOM_WORDS = {
    "no space left": errno.ENOSPC,
    "os error 28": errno.ENOSPC,
    "quota exceeded": errno.EDQUOT,
    "os error 122": errno.EDQUOT,
}
# torch's zip writer says only that it could not write, or that its file is shorter than it thought.
_TORCH_WORDS = ("writ", "inline_container")
_DESCRIPTORS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/self/fd/")
_NAME = 50  # characters of a target's name that its temporary one has
_FULL = 1 << 20  # bytes; with less than this free, a writer's unexplained failure is a full disk


def check_output(
    path: str | os.PathLike[str], *, force: bool = False, folder: bool | None = None
) -> Path:
    """Check that an output can be written, before the work whose result it will hold.

    Parameters
    ----------
    path
        The output, or ``-`` for standard output, which is never refused.
    force
        Whether an existing output may be overwritten.
    folder
        True where the output will be a folder, False where a file, None where that is not known yet.

    Returns
    -------
    Path
        The path that will be written: ``~`` expanded, symbolic links followed.

    Raises
    ------
    OutputError
        It exists and ``force`` is off, is a folder where a file is to be written or the other way round, or its folder
        is missing or cannot be written to.
    """
    if os.fspath(path) == "-":
        return Path("-")
    target = Path(path).expanduser()
    if is_special(target):
        return target
    try:
        if target.is_symlink():
            target = target.resolve()
        is_folder, exists = target.is_dir(), target.exists()
        occupied = exists and (not is_folder or any(target.iterdir()))
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, up to Python 3.12
        raise OutputError(f"output {path} cannot be used: {_plain(error)}") from error
    if is_folder and folder is False:
        raise OutputError(
            f"output {path} is a folder, but a file is to be written; name a file in it"
        )
    if exists and not is_folder and folder:
        raise OutputError(
            f"output {path} is a file, but a folder is to be written; choose another name"
        )
    if occupied and not force:
        what = "is a folder that is not empty" if is_folder else "exists already"
        raise OutputError(f"output {path} {what}; choose another name, or overwrite with --force")
    parent = target.parent
    if not parent.is_dir():
        what = "is not a folder" if parent.exists() else "does not exist; create it first"
        raise OutputError(f"output {path} cannot be written: the folder {parent} {what}")
    for place in (parent, target) if is_folder else (parent,):
        _require_writable(place, path)
    return target


@contextmanager
def atomic_path(
    path: str | os.PathLike[str], *, force: bool = False, folder: bool | None = None
) -> Iterator[Path]:
    r"""Give a temporary path to write to, and rename it to ``path`` when the block ends well.

    The temporary path is beside the target, ends in the target's name (writers that look at the suffix see the right
    one) and does not exist yet: the block may create a file or a folder there. When the block raises, it is removed. A folder
    that exists and is overwritten keeps those of its files that the new folder does not have.

    Parameters
    ----------
    path
        The output.
    force
        Whether an existing output may be overwritten.
    folder
        As in `check_output`.

    Raises
    ------
    OutputError
        As `check_output`; and where the block fails because the disk is full, the quota is used up, or the temporary path
        cannot be written. Other exceptions of the block pass through unchanged.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as here:
    ...     with atomic_path(Path(here) / "scores.tsv") as temporary:
    ...         _ = temporary.write_text("name\tscore\n")
    ...     print([file.name for file in Path(here).iterdir()])
    ['scores.tsv']
    """
    target = check_output(path, force=force, folder=folder)
    if target == Path("-"):
        raise ValueError("standard output has no path; use open_output")
    if is_special(target):
        with output_errors(target):
            yield target
        return
    # 50 characters: at most 200 bytes of UTF-8, so that the longest legal name still fits the 255 of a file system
    temporary = target.with_name(f".partial-{secrets.token_hex(4)}-{target.name[-_NAME:]}")
    try:
        with output_errors(target, inside=temporary):
            yield temporary
            _commit(temporary, target, force=force)
    finally:
        _discard(temporary)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files of writers that were killed; for callers who know that nobody is writing the output now."""
    target = Path(path).expanduser()
    if len(target.name) <= _NAME:  # longer names could be another output's
        for file in target.parent.glob(f".partial-????????-{glob.escape(target.name)}"):
            _discard(file)


@contextmanager
def open_output(path: str | os.PathLike[str], *, force: bool = False) -> Iterator[TextIO]:
    r"""Open a text output that appears under its name only when it is complete.

    Parameters
    ----------
    path
        A file, compressed with gzip where its name ends in ``.gz``, or ``-`` for standard output (flushed, left open).
    force
        Whether an existing file may be overwritten.

    Yields
    ------
    TextIO
        UTF-8; line ends are ``\n`` on every platform. The same text gives the same bytes: a gzip header holds no time.

    Raises
    ------
    OutputError
        As `atomic_path`.
    """
    if os.fspath(path) == "-":
        with output_errors("<stdout>"):
            yield sys.stdout
            sys.stdout.flush()
        return
    with atomic_path(path, force=force, folder=False) as temporary, temporary.open("wb") as raw:
        if os.fspath(path).endswith(".gz"):
            with (
                gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
            ):
                yield text
        else:
            with io.TextIOWrapper(raw, encoding="utf-8", newline="\n") as text:
                yield text


@contextmanager
def output_errors(
    path: str | os.PathLike[str], *, inside: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Turn the block's failures to write ``path`` into one sentence; for outputs that grow in place, such as logs.

    Parameters
    ----------
    path
        The output, as messages call it.
    inside
        File or folder that the block really writes, where that is not ``path``.

    Raises
    ------
    OutputError
        The disk is full, the quota or a size limit is reached, or the system refused access to the output. Exceptions about
        anything else pass through unchanged.
    """
    try:
        yield
    except HyenaDNAError:
        raise
    except Exception as error:
        reason = _reason(error, Path(path if inside is None else inside))
        if reason is None:
            raise
        raise OutputError(f"output {path} cannot be written: {reason}") from error


def _reason(error: BaseException, place: Path) -> str | None:
    """Say why an output could not be written, or None where the error is about something else."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            if seen.errno in _NO_ROOM:
                return _NO_ROOM[seen.errno]
            named = {
                os.fspath(name)
                for name in (seen.filename, seen.filename2)
                if isinstance(name, str | os.PathLike)
            }
            if any(Path(name) == place or place in Path(name).parents for name in named):
                return _plain(seen)
        words = str(seen).lower()
        for phrase, number in _NO_ROOM_WORDS.items():
            if phrase in words:
                return _NO_ROOM[number]
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _TORCH_WORDS):
        with suppress(OSError):
            if shutil.disk_usage(place.parent).free < _FULL:
                return _NO_ROOM[errno.ENOSPC]
    return None


def _plain(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def is_special(path: Path) -> bool:
    """Tell whether a path is a device, pipe, socket or open descriptor: something that no file may replace, and that is written once."""
    if path.as_posix().startswith(_DESCRIPTORS):
        return True
    try:
        return path.exists() and not path.is_file() and not path.is_dir()
    except OSError:
        return False


def _require_writable(folder: Path, path: str | os.PathLike[str]) -> None:
    # A file is really created: permission bits say nothing for root, network file systems and read-only mounts.
    probe = folder / f".partial-{secrets.token_hex(4)}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        reason = _NO_ROOM.get(error.errno or 0) or _plain(error)
        raise OutputError(
            f"output {path} cannot be written: no file can be created in {folder} ({reason})"
        ) from error


def _commit(temporary: Path, target: Path, *, force: bool) -> None:
    if not temporary.exists():
        raise OutputError(f"output {target} was not written: the block left no file")
    if temporary.is_dir() != target.is_dir() and target.exists():
        kinds = ("file", "folder") if temporary.is_dir() else ("folder", "file")
        raise OutputError(f"output {target} is a {kinds[0]}, but a {kinds[1]} is to be written")
    if target.exists() and not force and not (target.is_dir() and not any(target.iterdir())):
        raise OutputError(
            f"output {target} appeared while it was being written; overwrite it with --force"
        )
    _sync(temporary)
    if target.is_dir():
        _merge(temporary, target)
    else:
        os.replace(temporary, target)


def _sync(path: Path) -> None:
    """Bring data to the disk before the rename, so that a power cut or a late quota error cannot leave an empty file."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as handle, _unsupported_is_fine():
                os.fsync(handle.fileno())


@contextmanager
def _unsupported_is_fine() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS):
            raise


def _merge(source: Path, target: Path) -> None:
    # Files that we did not write are never deleted: a folder given with --force may hold a user's other work.
    moves = [(file, target / file.relative_to(source)) for file in sorted(source.rglob("*"))]
    for file, place in moves:
        if place.exists() and place.is_dir() != file.is_dir():
            raise OutputError(f"output {place} is in the way: it is not of the kind to be written")
    for file, place in moves:
        if file.is_dir():
            place.mkdir(exist_ok=True)
        else:
            os.replace(file, place)


def _discard(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
