"""A data set's files into a folder, and the check that they are still what was published.

The folder gets the files, a copy of the manifest and the card, and ``SHA256SUMS`` with what was received. Where the publisher gives a
checksum, a file is *verified* against it. Where not, what came first is recorded, and later checks can only say that it is *unchanged*.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hyenadna.data.checksums import (
    CHECKSUMS,
    file_digest,
    read_checksums,
    sha256_of,
    write_checksums,
)
from hyenadna.data.download import Progress, Received, download
from hyenadna.data.manifest import CARD, MANIFEST, RemoteDataset, RemoteFile, read_manifest
from hyenadna.data.unpack import unpack
from hyenadna.errors import FileFormatError, OutputError
from hyenadna.io.atomic import output_errors
from hyenadna.resources import cache_dir

VERIFIED, UNCHANGED, DAMAGED, MISSING = "verified", "unchanged", "damaged", "missing"


class FileState(NamedTuple):
    """What is known of one file of a data set."""

    path: str
    state: str
    """``verified``: equals a published checksum. ``unchanged``: equals what was received. ``damaged``, ``missing``."""
    fetched: bool = False
    """Whether it was fetched just now."""


def default_folder(name: str) -> Path:
    """Return the folder of the cache that a data set is fetched to where none is named; it need not exist."""
    return cache_dir("datasets") / name


def fetch_dataset(
    dataset: RemoteDataset,
    folder: Path,
    *,
    mirror: Path | None = None,
    force: bool = False,
    progress: Callable[[RemoteFile], Progress] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[FileState]:
    """Bring a data set's files into a folder; those that are there and whole stay.

    Of several processes that fetch to one folder at once, one works and the others wait, then find everything there.

    Parameters
    ----------
    dataset
        What to fetch.
    folder
        Where to; made if need be.
    mirror
        Folder of local copies: ``mirror/NAME/PATH`` is taken in place of the web where it exists.
    force
        Fetch everything again, over what is there.
    progress
        Called with each file that is about to be fetched; returns what is to be told of its progress.
    sleep
        Waits between attempts; tests replace it.

    Returns
    -------
    list of FileState
        One for each file of the manifest.

    Raises
    ------
    DownloadError
        A file cannot be fetched, or is not the one that was published. Files before it are there, and the next call goes on.
    OutputError
        The folder cannot be written, or a file in it is not ours to replace.
    FileFormatError
        An archive is not safe to unpack.
    """
    from filelock import FileLock

    _require_own(folder, dataset)
    states = [] if force else verify_dataset(dataset, folder)
    if states and all(state.state in (VERIFIED, UNCHANGED) for state in states):
        return states  # without a lock, so that a finished folder may be read-only
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".fetch.lock")
        lock.acquire()
    except OSError as error:
        raise OutputError(
            f"output {folder} cannot be written: {error.strerror or error}"
        ) from error
    try:
        with output_errors(folder):
            _label(folder, dataset)
            recorded = _recorded(folder)
            return [
                _fetch_file(
                    file,
                    folder,
                    recorded,
                    local=mirror / dataset.name / file.path if mirror else None,
                    force=force,
                    progress=progress,
                    sleep=sleep,
                )
                for file in dataset.files
            ]
    finally:
        lock.release()


def _fetch_file(
    file: RemoteFile,
    folder: Path,
    recorded: dict[str, str],
    *,
    local: Path | None,
    force: bool,
    progress: Callable[[RemoteFile], Progress] | None,
    sleep: Callable[[float], None],
) -> FileState:
    state = MISSING if force else _state(file, folder, recorded)
    if state == DAMAGED:
        raise OutputError(
            f"{folder / file.place} exists, but is not what belongs there; move it away, or replace it with --force"
        )
    if state != MISSING:
        return FileState(file.path, state)
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    told = progress(file) if progress else None
    received = download(file, target, local=local, progress=told, sleep=sleep)
    _settle(file, received, folder, recorded, force=force)
    return FileState(file.path, VERIFIED if received.verified else UNCHANGED, fetched=True)


def _require_own(folder: Path, dataset: RemoteDataset) -> None:
    manifest = folder / MANIFEST
    if manifest.exists() and (name := read_manifest(manifest).name) != dataset.name:
        raise OutputError(
            f"{folder} holds the data set {name!r} already; choose another folder for {dataset.name!r}"
        )


def _label(folder: Path, dataset: RemoteDataset) -> None:
    """Put manifest and card beside the data, so that the folder says what it is."""
    if dataset.folder.resolve() != folder.resolve():
        shutil.copyfile(dataset.folder / MANIFEST, folder / MANIFEST)
        card = dataset.folder / CARD
        if card.is_file() and not (folder / CARD).exists():  # which may be the user's own
            shutil.copyfile(card, folder / CARD)


def verify_dataset(dataset: RemoteDataset, folder: Path) -> list[FileState]:
    """Check the files of a data set that was fetched.

    Raises
    ------
    FileFormatError
        The folder's list of checksums is malformed.
    """
    recorded = _recorded(folder)
    return [FileState(file.path, _state(file, folder, recorded)) for file in dataset.files]


def _recorded(folder: Path) -> dict[str, str]:
    return read_checksums(folder) if (folder / CHECKSUMS).exists() else {}


def _state(file: RemoteFile, folder: Path, recorded: dict[str, str]) -> str:
    if not (folder / file.place).exists():
        return MISSING
    if not file.unpack:
        if not (folder / file.path).is_file():
            return DAMAGED
        for algorithm, expected in (("sha256", file.sha256), ("md5", file.md5)):
            if expected:
                found = file_digest(folder / file.path, algorithm)
                return VERIFIED if found == expected else DAMAGED
    inside = {
        name: digest
        for name, digest in recorded.items()
        if name == file.place or name.startswith(file.place + "/")
    }
    whole = inside and all(
        (folder / name).is_file() and sha256_of(folder / name) == digest
        for name, digest in inside.items()
    )
    return UNCHANGED if whole else DAMAGED


def _settle(
    file: RemoteFile, received: Received, folder: Path, recorded: dict[str, str], *, force: bool
) -> None:
    """Give received bytes their name, unpacked where they are an archive, and record their checksums."""
    if not file.unpack:
        # Recorded first: a process that is killed in between leaves a part to be continued, not a file of unknown origin.
        recorded[file.path] = received.sha256
        write_checksums(folder, recorded)
        received.rename_to(folder / file.path)
        return
    try:
        made = unpack(received.part, folder / file.place, file.unpack, force=force)
    except FileFormatError as error:
        received.discard()
        raise FileFormatError(f"{received.source} is refused: {error}") from error
    for place in made:
        recorded[place.relative_to(folder).as_posix()] = sha256_of(place)
    write_checksums(folder, recorded)
    received.discard()
