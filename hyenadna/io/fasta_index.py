"""Finding, checking and building the index that random access to a FASTA needs (pyfaidx).

An index beside the data is used while it fits; any other goes to the cache, since data folders are often shared or read-only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from hyenadna.errors import OutputError
from hyenadna.io.atomic import atomic_path
from hyenadna.io.streams import compression
from hyenadna.resources import cache_dir

_LONGEST_HEADER = 4096  # bytes; with a longer one, an index beside the file is not believed


def open_indexed(path: Path) -> Any:
    """Open pyfaidx's `Faidx` on an index beside the file that still fits it, else on one in the cache.

    Parameters
    ----------
    path
        A plain or bgzip FASTA.

    Raises
    ------
    OutputError
        The cache cannot hold the index.
    Exception
        Whatever pyfaidx, zlib or the file system raise for a file that cannot be indexed: `hyenadna.io.fasta` says why.
    """
    packed = compression(path) == "bgzip"
    beside = [Path(f"{path}{suffix}") for suffix in ((".fai", ".gzi") if packed else (".fai",))]
    if _name_fits(path, packed=packed) and all(_is_newer(index, path) for index in beside):
        try:
            handle = _faidx(path, beside[0], beside[-1], packed=packed)
            if _fits(handle, path, packed=packed):
                return handle
            handle.close()
        except Exception:
            pass  # an index is derived from the data: one that cannot be read is built again
    status = path.stat()
    # Every change of the file changes the key, so an index in the cache is never stale.
    key = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}"
    folder = cache_dir("fai") / hashlib.sha256(os.fsencode(key)).hexdigest()[:32]
    if not folder.is_dir():
        _build_index(path, folder, status.st_mtime_ns, packed=packed)
    return _faidx(path, folder / "fai", folder / "gzi", packed=packed)


def _build_index(path: Path, folder: Path, modified: int, *, packed: bool) -> None:
    try:
        with atomic_path(folder, folder=True) as temporary:
            temporary.mkdir()
            _faidx(path, temporary / "fai", temporary / "gzi", packed=packed).close()
            for name in ("fai", "gzi") if packed else ("fai",):
                # pyfaidx compares times: a data file dated in the future must not make its index look old
                os.utime(temporary / name, ns=(modified, modified))
    except OutputError as error:
        if not folder.is_dir():  # else another process was faster, and built the same
            raise OutputError(
                f"the index of {path} cannot be stored in the cache ({error}); set HYENADNA_CACHE to a "
                "folder that you can write to"
            ) from error


def _faidx(path: Path, fai: Path, gzi: Path, *, packed: bool) -> Any:
    # Imported here: it takes 0.1 s, which readers of other formats need not wait.
    from pyfaidx import Faidx

    if not _name_fits(path, packed=packed):
        link = fai.with_name("genome.fa.gz" if packed else "genome.fa")
        if not link.is_symlink():
            link.symlink_to(path.resolve())
        path = link
    return Faidx(
        os.fspath(path),
        indexname=os.fspath(fai),
        gzi_indexname=os.fspath(gzi),
        as_raw=True,
        strict_bounds=True,
        rebuild=False,
    )


def _name_fits(path: Path, *, packed: bool) -> bool:
    """Tell whether the name says what the content is: pyfaidx believes it, so another file is given a link."""
    return packed == path.name.lower().endswith((".gz", ".bgz"))


def _is_newer(index: Path, path: Path) -> bool:
    try:
        return index.stat().st_mtime_ns >= path.stat().st_mtime_ns
    except OSError:
        return False


def has_regular_lines(handle: Any, name: str) -> bool:
    """Check that the last line of a contig begins where the index computes it to begin.

    pyfaidx accepts a last line that is longer than the others, and would then return wrong bases; an index that belongs to
    another version of the file is found out in the same way.

    Parameters
    ----------
    handle
        pyfaidx's `Faidx`.
    name
        A contig of it.
    """
    entry = handle.index[name]
    n_before = (entry.rlen - 1) // entry.lenc * entry.lenc  # bases on the lines before the last
    if n_before == 0:
        return True
    # A span that begins with a line is read from the line end before it.
    text, _ = handle.from_file(name, n_before + 1, entry.rlen, internals=True)
    line = text.lstrip("\r\n")
    return (
        len(line) < len(text)
        and len(line.rstrip("\r\n")) == entry.rlen - n_before
        and ">" not in line
    )


def _fits(handle: Any, path: Path, *, packed: bool) -> bool:
    """Check an index against its file: times alone are not enough, since a file may be replaced by an older one."""
    names = list(handle.index)
    regular = names and all(
        handle.index[name].rlen and has_regular_lines(handle, name)
        for name in (names[0], names[-1])
    )
    return bool(regular) and (packed or _headers_fit(handle, path))


def _headers_fit(handle: Any, path: Path) -> bool:
    """Check that between the contigs of an index the file has their headers and nothing else."""
    end = 0
    with path.open("rb") as file:
        for name, entry in handle.index.items():
            if not 0 < entry.offset - end < _LONGEST_HEADER:
                return False
            file.seek(end)
            between = file.read(entry.offset - end)
            header = between.strip()
            if (
                not between.endswith(b"\n")
                or header[:1] != b">"
                or b"\n" in header
                or header[1:].split()[:1] != [name.encode()]
            ):
                return False
            end = entry.bend
        file.seek(end)
        return not file.read(_LONGEST_HEADER).strip()
