"""The data sets that come with the package: what each is, and where its files lie.

A data set is a folder under ``datasets/`` with a ``dataset.yaml``, a card (``README.md``) and checksums. Its files are named
``bundled:NAME/FILE`` wherever the package asks for a path (`hyenadna.resources.resolve`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import yaml

from hyenadna.errors import FileFormatError
from hyenadna.resources import dataset_dir

MANIFEST = "dataset.yaml"
CHECKSUMS = "SHA256SUMS"


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
        path = self.folder / CHECKSUMS
        damaged = []
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise FileFormatError(
                f"the list of checksums cannot be read ({error})", path=path
            ) from error
        for number, line in enumerate(lines, 1):
            expected, _, name = line.partition("  ")
            if len(expected) != 64 or not name:
                raise FileFormatError(
                    "expected a SHA-256, two blanks and a file name", path=path, line=number
                )
            file = self.folder / name
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
                damaged.append(name)
        return damaged


def bundled_datasets() -> list[BundledDataset]:
    """Return the data sets of the package, by name.

    Raises
    ------
    FileFormatError
        A manifest is malformed.
    """
    return [_read(path) for path in sorted(dataset_dir().glob(f"*/{MANIFEST}"))]


def _read(path: Path) -> BundledDataset:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise FileFormatError(f"the manifest is no YAML: {error}", path=path) from error
    needed = {"name", "title", "genome", "source", "licence"}
    if not isinstance(content, dict) or not needed <= set(content) <= {*needed, "annotation"}:
        raise FileFormatError(
            f"a manifest has the keys {', '.join(sorted(needed))} and perhaps annotation", path=path
        )
    texts = {key: str(value) for key, value in content.items()}
    return BundledDataset(
        texts["name"],
        texts["title"],
        texts["genome"],
        texts.get("annotation", ""),
        texts["source"],
        texts["licence"],
        path.parent,
    )
