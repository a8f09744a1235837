"""The models that come with the package: which there are, and that their files are what was packaged.

Each is a model folder under ``weights/`` with a card (``README.md``) and checksums, named ``bundled:NAME`` wherever a model is asked
for. `hyenadna.resources.DEFAULT_MODEL` is what commands use that were told none.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from hyenadna.errors import CheckpointError
from hyenadna.resources import resolve, weights_dir

CARD = "README.md"
_CHECKSUMS = "SHA256SUMS"


class BundledModel(NamedTuple):
    """One model of the package."""

    name: str
    title: str
    """The card's heading."""
    folder: Path


def bundled_models() -> list[BundledModel]:
    """Return the models of the package, by name."""
    folders = sorted(path.parent for path in weights_dir().glob(f"*/{_CHECKSUMS}"))
    return [BundledModel(folder.name, _title(folder / CARD), folder) for folder in folders]


def find_bundled(source: str) -> Path:
    """Return the folder of a bundled model, after its files were held against their checksums.

    Parameters
    ----------
    source
        ``bundled:NAME``.

    Raises
    ------
    FileFormatError
        Nothing of this name is bundled.
    CheckpointError
        It is no model, or a file is missing or damaged.
    """
    folder = resolve(source)
    if folder.parent != weights_dir():
        known = ", ".join(f"bundled:{model.name}" for model in bundled_models())
        raise CheckpointError(f"{source!r} is no model; bundled models: {known}")
    if damaged := _damaged(folder):
        raise CheckpointError(
            f"the model {source} that comes with hyenadna is damaged ({', '.join(damaged)} in {folder}); reinstall hyenadna"
        )
    return folder


def _damaged(folder: Path) -> list[str]:
    damaged = []
    try:
        lines = (folder / _CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return [_CHECKSUMS]
    for line in lines:
        expected, _, name = line.partition("  ")
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError:
            found = ""
        if found != expected:
            damaged.append(name)
    return damaged or ([] if lines else [_CHECKSUMS])


def _title(card: Path) -> str:
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    return next((line[2:] for line in lines if line.startswith("# ")), "")
