"""The data sets that hyenadna knows: what each is, where its files lie, and what they must be.

A data set is a folder under ``datasets/`` with a manifest (``dataset.yaml``) and a card (``README.md``). The files of a *bundled* one lie
in the same folder, with their checksums, and are named ``bundled:NAME/FILE`` wherever the package asks for a path
(`hyenadna.resources.resolve`). Those of a *remote* one are named by URL and checksum, and `hyenadna.data.fetch` gets them.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from hyenadna.data.checksums import CHECKSUMS, read_checksums, sha256_of
from hyenadna.data.yaml_fields import (
    fields_of,
    items_of,
    number_of,
    read_yaml,
    require_once,
    text_of,
)
from hyenadna.errors import DataError, FileFormatError
from hyenadna.resources import dataset_dir

MANIFEST = "dataset.yaml"
CARD = "README.md"
ARCHIVES = ("zip", "tar.gz", "gz")


class BundledDataset(NamedTuple):
    """One data set of the package."""

    name: str
    title: str
    genome: str
    """File of the genome, in the data set's folder."""
    annotation: str
    """File of its gene annotation; empty where there is none."""
    source: str
    licence: str
    folder: Path

    def damaged_files(self) -> list[str]:
        """Return the files whose SHA-256 is not the one in the data set's list of checksums, or that are missing.

        Raises
        ------
        FileFormatError
            The list is missing or malformed.
        """
        return [
            name
            for name, expected in read_checksums(self.folder).items()
            if not (self.folder / name).is_file() or sha256_of(self.folder / name) != expected
        ]


class RemoteFile(NamedTuple):
    """One file of a remote data set."""

    path: str
    """Place below the data set's folder, with forward slashes."""
    urls: tuple[str, ...]
    """Where it can be had, in the order to try."""
    sha256: str
    """Published checksum, in lower case; empty where the publisher gives none."""
    md5: str
    """The same, for publishers that give only this one."""
    size: int | None
    """Bytes, where known."""
    unpack: str
    """``zip``, ``tar.gz`` or ``gz`` where it is an archive to be unpacked, else empty."""

    @property
    def place(self) -> str:
        """What lies in the data set's folder in the end: the file, or what the archive is unpacked to."""
        return self.path.removesuffix(f".{self.unpack}") if self.unpack else self.path


class Task(NamedTuple):
    """One labelled task of a data set."""

    name: str
    classes: int
    metric: str
    length: int | None
    """Bases of a sequence, or their median; None where it is not known."""
    varies: bool
    """Whether sequences differ in length by more than a base or two."""


class RemoteDataset(NamedTuple):
    """One data set to be fetched."""

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    files: tuple[RemoteFile, ...]
    tasks: tuple[Task, ...]
    folder: Path
    """Where its manifest and its card lie."""


def bundled_datasets() -> list[BundledDataset]:
    """Return the data sets whose files come with the package, by name.

    Raises
    ------
    FileFormatError
        A manifest is malformed.
    """
    return [dataset for dataset in _all() if isinstance(dataset, BundledDataset)]


def remote_datasets() -> list[RemoteDataset]:
    """Return the data sets that can be fetched, by name.

    Raises
    ------
    FileFormatError
        A manifest is malformed.
    """
    return [dataset for dataset in _all() if isinstance(dataset, RemoteDataset)]


def find_dataset(name: str) -> BundledDataset | RemoteDataset:
    """Return the data set of a name, or the one that a manifest of the user's describes.

    Parameters
    ----------
    name
        Name of a data set, or path of a ``dataset.yaml``.

    Raises
    ------
    DataError
        There is none of this name; the message has the closest one.
    FileFormatError
        The manifest is missing or malformed.
    """
    if Path(name).name == MANIFEST:
        return read_manifest(Path(name).expanduser())
    known = {dataset.name: dataset for dataset in _all()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise DataError(f"no data set is called {name!r}; {hint}(known: {', '.join(known)})")


def read_manifest(path: str | os.PathLike[str]) -> BundledDataset | RemoteDataset:
    """Read one manifest: a remote data set's where it has ``files``, else a bundled one's.

    Raises
    ------
    FileFormatError
        It cannot be read, is no YAML, has unknown keys, lacks needed ones, or a value is impossible.
    """
    path = Path(path)
    content = read_yaml(path, "manifest")
    try:
        if isinstance(content, dict) and "files" in content:
            return _remote(content, path.parent)
        return _bundled(content, path.parent)
    except ValueError as error:
        raise FileFormatError(str(error), path=path) from error


def _all() -> list[BundledDataset | RemoteDataset]:
    return [read_manifest(path) for path in sorted(dataset_dir().glob(f"*/{MANIFEST}"))]


def _bundled(content: Any, folder: Path) -> BundledDataset:
    what = "the manifest of a bundled data set"
    needed = ("name", "title", "genome", "source", "licence")
    fields = fields_of(content, what, needed, ("annotation",))
    texts = {key: text_of(fields, key, what) for key in (*needed, "annotation")}
    return BundledDataset(**texts, folder=folder)


def _remote(content: Any, folder: Path) -> RemoteDataset:
    what = "the manifest of a remote data set"
    needed = ("name", "title", "homepage", "licence", "citation")
    fields = fields_of(content, what, (*needed, "files"), ("base", "tasks"))
    texts = {key: text_of(fields, key, what) for key in needed}
    base = text_of(fields, "base", what)
    files = tuple(_file(item, base) for item in items_of(fields, "files"))
    tasks = tuple(_task(item) for item in items_of(fields, "tasks"))
    if not files:
        raise ValueError("the list 'files' is empty")
    require_once([file.place for file in files], "file")
    require_once([task.name for task in tasks], "task")
    return RemoteDataset(**texts, files=files, tasks=tasks, folder=folder)


def _file(item: Any, base: str) -> RemoteFile:
    fields = fields_of(
        item, "a file", ("path",), ("url", "mirrors", "sha256", "md5", "size", "unpack")
    )
    path = text_of(fields, "path", "a file")
    what = f"the file {path!r}"
    parts = PurePosixPath(path).parts
    if (
        path != "/".join(parts)
        or not parts
        or parts[0] == "/"
        or {".", ".."} & set(parts)
        or re.search(r'[\\:*?"<>|\x00-\x1f]', path)
        or path in (MANIFEST, CARD, CHECKSUMS)
    ):
        raise ValueError(
            f"{what} has an impossible path; expected one below the data set's folder, such as 'train.csv'"
        )
    urls = [text_of(fields, "url", what) or path]
    urls += [str(mirror) for mirror in items_of(fields, "mirrors")]
    urls = [url if "://" in url else base + url for url in urls]
    for url in urls:
        if not re.fullmatch(r"https?://[^\s/]+/\S+", url):
            raise ValueError(f"{what} has the URL {url!r}; expected http:// or https://")
    sums = {key: text_of(fields, key, what).lower() for key in ("sha256", "md5")}
    for key, digits in (("sha256", 64), ("md5", 32)):
        if sums[key] and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", sums[key]):
            raise ValueError(f"{what} has the {key} {sums[key]!r}; expected {digits} hex digits")
    unpack = text_of(fields, "unpack", what)
    if unpack and (unpack not in ARCHIVES or not path.endswith(f".{unpack}")):
        raise ValueError(
            f"{what} has unpack: {unpack}; expected the ending of its path, one of {', '.join(ARCHIVES)}"
        )
    return RemoteFile(
        path, tuple(urls), **sums, size=number_of(fields, "size", what, 1), unpack=unpack
    )


def _task(item: Any) -> Task:
    fields = fields_of(item, "a task", ("name", "classes", "metric"), ("length", "varies"))
    name = text_of(fields, "name", "a task")
    what = f"the task {name!r}"
    varies = fields.get("varies", False)
    if not isinstance(varies, bool):
        raise ValueError(f"{what} has varies: {varies!r}; expected true or false")
    classes = number_of(fields, "classes", what, 2)
    if classes is None:
        raise ValueError(f"{what} has no number of classes")
    metric, length = text_of(fields, "metric", what), number_of(fields, "length", what, 1)
    return Task(name, classes, metric, length, varies)
