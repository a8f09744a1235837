"""Files of named vectors: NumPy's .npz, Parquet, HDF5 and Zarr, written row by row, whole or not at all.

All hold the same columns: ``name``, ``chrom``, ``start``, ``end`` (0-based half-open; empty and -1 where there is no place), ``strand``, ``length``
and ``embedding``, float32. With one row a base, ``embedding`` holds the bases of all sequences one after the other, and ``offset`` (n + 1) where each
begins. ``provenance`` is a JSON text: of the file (HDF5 or Zarr attribute, Parquet metadata) or an array of one (npz). HDF5 and Zarr grow: of what was appended,
the attribute ``appended`` is a JSON list of inputs and commands.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hyenadna.errors import BackendUnavailableError, ConfigError, OutputError
from hyenadna.io.atomic import atomic_path, check_output
from hyenadna.io.growing_vectors import count_rows, open_growing
from hyenadna.io.vector_writers import VectorWriter, open_npz, open_parquet

__all__ = ["FORMATS", "VectorWriter", "count_vectors", "open_vectors", "vector_format"]

FORMATS = {".npz": "npz", ".parquet": "parquet", ".h5": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr"}


def vector_format(
    path: str, form: str | None = None, *, per_base: bool, append: bool = False
) -> str:
    """Return the format that is asked for, npz, parquet, hdf5 (h5) or zarr, else that of a file's name.

    Raises
    ------
    ConfigError
        The name ends with none of `FORMATS`, there is no such format, Parquet is asked for rows of bases, or the format cannot grow.
    BackendUnavailableError
        The package that writes it is not installed.
    """
    if form is not None:
        if f".{form}" not in FORMATS:
            raise ConfigError(f"the format {form!r} is unknown; expected npz, parquet, h5 or zarr")
        form = FORMATS[f".{form}"]
    else:
        form = FORMATS.get(Path(path).suffix.lower())
    if form is None:
        raise ConfigError(
            f"the output {path!r} has no known format; expected a name that ends with {', '.join(FORMATS)}"
        )
    if form == "parquet" and per_base:
        raise ConfigError(
            "Parquet holds one vector a sequence; write one row a base to .h5 or .npz"
        )
    if append and form not in ("hdf5", "zarr"):
        raise ConfigError(
            f"the output {path!r} cannot be appended to; --append needs a name that ends with .h5, .hdf5 or .zarr"
        )
    package = {"parquet": "pyarrow", "hdf5": "h5py", "zarr": "zarr"}.get(form)
    if package is not None:
        try:
            __import__(package)
        except ImportError as error:
            raise BackendUnavailableError(
                f"{form} files need the package {package}, which is not installed; run pip install {package}, or write .npz"
            ) from error
    return form


@contextmanager
def open_vectors(
    path: str | os.PathLike[str],
    *,
    width: int,
    form: str | None = None,
    per_base: bool = False,
    provenance: Mapping[str, Any] | None = None,
    force: bool = False,
    append: bool = False,
) -> Iterator[VectorWriter]:
    """Open a file of vectors (Zarr: a folder), which appears under its name only when it is complete.

    Parameters
    ----------
    path
        Its ending says the format, where `form` does not.
    width
        Components E of a vector.
    form
        npz, parquet, h5 or zarr.
    per_base
        Whether rows are (L, E).
    provenance
        Kept in the file.
    force
        Overwrite an existing file.
    append
        Keep its rows and add to them; where there is none, begin one.

    Raises
    ------
    ConfigError, BackendUnavailableError
        As `vector_format`; or the rows of the file were made by other weights or settings.
    FileFormatError
        What is there is no such file.
    OutputError
        The file exists, or cannot be written.
    """
    form = vector_format(os.fspath(path), form, per_base=per_base, append=append)
    target = check_output(path, force=force or append, folder=form == "zarr")
    exists = target.exists() and (target.is_file() or any(target.iterdir()))
    if form == "zarr" and exists and not (target / "zarr.json").is_file():
        raise OutputError(f"output {path} is a folder that holds no Zarr group; choose another name")  # fmt: skip
    made, old = dict(provenance or {}), None
    try:
        with atomic_path(path, force=force or append, folder=form == "zarr") as temporary:
            if append and exists:
                (shutil.copytree if form == "zarr" else shutil.copyfile)(target, temporary)
            opened: dict[str, Callable[..., AbstractContextManager[VectorWriter]]] = {
                "npz": open_npz,
                "parquet": open_parquet,
                "hdf5": partial(open_growing, "hdf5", shown=path),
                "zarr": partial(open_growing, "zarr", shown=path),
            }
            with opened[form](temporary, width, per_base, made) as writer:
                yield writer
            if form == "zarr" and exists:
                # Merged into the folder that is there, the new one would get chunks beyond its rows.
                old = target.rename(temporary.with_name(f"{temporary.name}-old"))
    except BaseException:
        if old is not None and not target.exists():
            old.rename(target)
        raise
    if old is not None:
        shutil.rmtree(old)


def count_vectors(path: str | os.PathLike[str], form: str | None = None) -> int:
    """Return the number of rows of vectors in an HDF5 or Zarr file, 0 where there is none.

    Raises
    ------
    FileFormatError
        What is there is no such file.
    """
    place = Path(path).expanduser()
    if not place.exists():
        return 0
    return count_rows(vector_format(os.fspath(path), form, per_base=False, append=True), place)
