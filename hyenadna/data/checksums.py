"""Checksums of a data set's files, in the format of ``sha256sum``: ``sha256sum -c SHA256SUMS`` checks the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from hyenadna.errors import FileFormatError
from hyenadna.io.atomic import open_output

CHECKSUMS = "SHA256SUMS"
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits."""
    return file_digest(path, "sha256")


def file_digest(path: Path, algorithm: str) -> str:
    """Return the ``sha256`` or ``md5`` of a file, in hex digits."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def read_checksums(folder: Path) -> dict[str, str]:
    """Read a folder's list of checksums.

    Returns
    -------
    dict of str to str
        SHA-256 of each file, by its path below the folder.

    Raises
    ------
    FileFormatError
        The list is missing or malformed.
    """
    path = folder / CHECKSUMS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(
            f"the list of checksums cannot be read ({error})", path=path
        ) from error
    checksums = {}
    for number, line in enumerate(lines, 1):
        digest, _, name = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or not name:
            raise FileFormatError(
                "expected a SHA-256, two blanks and a file name", path=path, line=number
            )
        checksums[name] = digest
    return checksums


def write_checksums(folder: Path, checksums: Mapping[str, str]) -> None:
    """Write a folder's list of checksums, replacing the one that is there.

    Raises
    ------
    OutputError
        The folder cannot be written to.
    """
    with open_output(folder / CHECKSUMS, force=True) as out:
        out.writelines(f"{checksums[name]}  {name}\n" for name in sorted(checksums))
