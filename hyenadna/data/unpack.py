"""Archives into folders, trusting nothing that an archive says.

Only plain files and folders are made, below the target and nowhere else, with the permissions of any new file. The target appears when
everything is in it. An archive that holds anything else, or much more than its size allows for, is refused as a whole.
"""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hyenadna.errors import FileFormatError
from hyenadna.io.atomic import atomic_path

_BLOCK = 1 << 20
_RATIO = 100  # data compress by 2 to 20, a bomb by 1,000
_ALWAYS_ALLOWED = 1 << 24
_MOST_ENTRIES = 1_000_000


def unpack(archive: Path, target: Path, kind: str, *, force: bool = False) -> list[Path]:
    """Unpack an archive to a folder, or a compressed file to a file.

    Parameters
    ----------
    archive
        The archive.
    target
        What it becomes. A single folder that encloses everything in the archive is left out.
    kind
        ``zip``, ``tar.gz`` or ``gz``.
    force
        Replace files of an existing target.

    Returns
    -------
    list of Path
        The files made.

    Raises
    ------
    FileFormatError
        The archive is damaged; or it holds a link, a device, a path that leaves the target, the same path twice, or bytes far beyond
        its size. Nothing is left behind.
    OutputError
        The target exists and ``force`` is off, or cannot be written.
    """
    limit = max(_RATIO * archive.stat().st_size, _ALWAYS_ALLOWED)
    with atomic_path(target, force=force, folder=kind != "gz") as temporary:
        try:
            if kind == "gz":
                with gzip.open(archive) as stream:
                    _write(stream, temporary, limit, archive)
                return [target]
            temporary.mkdir()
            names = _unpack_all(archive, temporary, kind, limit)
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile, NotImplementedError) as error:  # fmt: skip
            raise FileFormatError(
                f"this is no whole {kind} archive ({error})", path=archive
            ) from error
        if not names:
            raise FileFormatError("the archive holds no file", path=archive)
        tops = list(temporary.iterdir())
        if len(tops) == 1 and tops[0].is_dir():
            aside = temporary.with_name(f"{temporary.name}.inner")
            tops[0].rename(aside)
            temporary.rmdir()
            aside.rename(temporary)
            names = [name.partition("/")[2] for name in names]
    return [target / name for name in names]


def _unpack_all(archive: Path, folder: Path, kind: str, limit: int) -> list[str]:
    names = []
    entries = _zip_entries(archive) if kind == "zip" else _tar_entries(archive)
    for count, (name, stream) in enumerate(entries, 1):
        if count > _MOST_ENTRIES:
            raise FileFormatError(
                f"the archive holds more than {_MOST_ENTRIES:,} files, and is not unpacked",
                path=archive,
            )
        parts = name.removeprefix("./").rstrip("/").split("/")
        if {"", ".", ".."} & set(parts) or re.search(r"[\\:\x00]", name):
            raise FileFormatError(
                f"the archive holds {name!r}, a path that could leave its folder, and is not unpacked",
                path=archive,
            )
        place = folder.joinpath(*parts)
        try:
            (place.parent if stream else place).mkdir(parents=True, exist_ok=True)
            if stream:
                with stream:
                    limit -= _write(stream, place, limit, archive)
                names.append("/".join(parts))
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise FileFormatError(
                f"the archive holds {name!r} twice, and is not unpacked", path=archive
            ) from error
    return names


def _zip_entries(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(archive, entry.filename)
            if entry.flag_bits & 1:
                raise FileFormatError("the archive is encrypted", path=archive)
            # The name as it stands in the archive: zipfile's own clean-up would hide what is wrong with it.
            yield entry.orig_filename, None if entry.is_dir() else opened.open(entry)


def _tar_entries(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(archive, "r:gz") as opened:
        for entry in opened:
            if not (entry.isreg() or entry.isdir()):
                _refuse(archive, entry.name)
            if entry.isdir() and entry.name in (".", "./"):
                continue
            yield entry.name, opened.extractfile(entry) if entry.isreg() else None


def _refuse(archive: Path, name: str) -> None:
    raise FileFormatError(
        f"the archive holds {name!r}, a link or device, and is not unpacked", path=archive
    )


def _write(stream: IO[bytes] | gzip.GzipFile, place: Path, limit: int, archive: Path) -> int:
    written = 0
    with place.open("xb") as out:
        while block := stream.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise FileFormatError(
                    f"the archive unpacks to more than {_RATIO} times its size, as data do not, and is not unpacked",
                    path=archive,
                )
            out.write(block)
    return written
