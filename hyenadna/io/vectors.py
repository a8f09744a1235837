"""Files of named vectors: NumPy's .npz, Parquet and HDF5, written row by row, whole or not at all.

All hold the same columns: ``name``, ``chrom``, ``start``, ``end`` (0-based half-open; empty and -1 where there is no place), ``strand``, ``length``
and ``embedding``, float32. With one row a base, ``embedding`` holds the bases of all sequences one after the other, and ``offset`` (n + 1) where each
begins. ``provenance`` is a JSON text: of the file (HDF5 attribute, Parquet metadata) or an array of one (npz).
"""

from __future__ import annotations

import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hyenadna.errors import BackendUnavailableError, ConfigError
from hyenadna.io.atomic import atomic_path, check_output
from hyenadna.sequence import Interval

__all__ = ["FORMATS", "VectorWriter", "open_vectors", "vector_format"]

FORMATS = {".npz": "npz", ".parquet": "parquet", ".h5": "hdf5", ".hdf5": "hdf5"}
_ROWS_AT_ONCE = 4096
_TEXTS = ("name", "chrom", "strand")
_NUMBERS = ("start", "end", "length")


class VectorWriter(ABC):
    """Takes rows one after the other, and hands them on some at a time."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.end = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in (*_TEXTS, *_NUMBERS, "offset")}
        self._values: list[npt.NDArray[np.float32]] = []

    def add(
        self, name: str, length: int, interval: Interval | None, values: npt.NDArray[np.float32]
    ) -> None:
        """Write a row: its name, its number of bases, its place, and values of shape (E,), or (L, E) one a base."""
        values = values.reshape(-1, self.width)
        self.end += len(values)
        row = {"name": name, "chrom": "", "strand": "", "start": -1, "end": -1, "length": length, "offset": self.end}  # fmt: skip
        if interval is not None:
            row |= {"chrom": interval.chrom, "strand": interval.strand, "start": interval.start, "end": interval.end}  # fmt: skip
        for key, value in row.items():
            self._columns[key].append(value)
        self._values.append(values)
        if len(self._values) >= _ROWS_AT_ONCE or len(values) >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand on what has been gathered."""
        if self._values:
            self.write(self._columns, np.concatenate(self._values))
            for column in self._columns.values():
                column.clear()
            self._values.clear()

    @abstractmethod
    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        """Write some rows."""


def vector_format(path: str, *, per_base: bool) -> str:
    """Return the format that a file's name asks for.

    Raises
    ------
    ConfigError
        It ends with none of `FORMATS`, or Parquet is asked for rows of bases.
    BackendUnavailableError
        The package that writes it is not installed.
    """
    form = FORMATS.get(Path(path).suffix.lower())
    if form is None:
        raise ConfigError(
            f"the output {path!r} has no known format; expected a name that ends with {', '.join(FORMATS)}"
        )
    if form == "parquet" and per_base:
        raise ConfigError(
            "Parquet holds one vector a sequence; write one row a base to .h5 or .npz"
        )
    package = {"parquet": "pyarrow", "hdf5": "h5py"}.get(form)
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
    per_base: bool = False,
    provenance: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Iterator[VectorWriter]:
    """Open a file of vectors, which appears under its name only when it is complete.

    Parameters
    ----------
    path
        Its ending says the format.
    width
        Components E of a vector.
    per_base
        Whether rows are (L, E).
    provenance
        Kept in the file.
    force
        Overwrite an existing file.

    Raises
    ------
    ConfigError, BackendUnavailableError
        As `vector_format`.
    OutputError
        The file exists, or cannot be written.
    """
    form = vector_format(os.fspath(path), per_base=per_base)
    check_output(path, force=force, folder=False)
    text = json.dumps(dict(provenance or {}))
    opened = {"npz": _npz, "parquet": _parquet, "hdf5": _hdf5}[form]
    with atomic_path(path, force=force, folder=False) as temporary, opened(temporary, width, per_base, text) as writer:  # fmt: skip
        yield writer


class _Npz(VectorWriter):
    """Values wait in a temporary file, because an .npz wants to know their number first."""

    def __init__(self, width: int, values: IO[bytes]) -> None:
        super().__init__(width)
        self._file = values
        self._all: dict[str, list[Any]] = {name: [] for name in (*_TEXTS, *_NUMBERS, "offset")}

    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        for name, column in columns.items():
            self._all[name] += column
        self._file.write(values.tobytes())

    def save(self, path: Path, provenance: str, *, per_base: bool) -> None:
        self._file.flush()
        embedding: npt.NDArray[np.float32] = np.zeros((0, self.width), np.float32)
        if self.end:
            embedding = np.memmap(self._file, np.float32, "r", shape=(self.end, self.width))
        arrays: dict[str, Any] = {name: np.array(self._all[name], dtype=str) for name in _TEXTS}
        arrays |= {name: np.array(self._all[name], dtype=np.int64) for name in _NUMBERS}
        if per_base:
            arrays["offset"] = np.array([0, *self._all["offset"]], dtype=np.int64)
        with path.open("wb") as out:
            np.savez(out, embedding=embedding, provenance=np.array([provenance]), **arrays)


@contextmanager
def _npz(path: Path, width: int, per_base: bool, provenance: str) -> Iterator[VectorWriter]:
    with tempfile.TemporaryFile(dir=path.parent) as values:
        writer = _Npz(width, values)
        yield writer
        writer.flush()
        writer.save(path, provenance, per_base=per_base)


class _Parquet(VectorWriter):
    def __init__(self, width: int, file: Any, schema: Any) -> None:
        super().__init__(width)
        self._file, self._schema = file, schema

    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        import pyarrow

        arrays = [pyarrow.array(columns[name]) for name in (*_TEXTS, *_NUMBERS)]
        arrays.append(pyarrow.FixedSizeListArray.from_arrays(values.ravel(), self.width))
        self._file.write_batch(pyarrow.record_batch(arrays, schema=self._schema))


@contextmanager
def _parquet(path: Path, width: int, per_base: bool, provenance: str) -> Iterator[VectorWriter]:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    fields = [(name, pyarrow.string()) for name in _TEXTS]
    fields += [(name, pyarrow.int64()) for name in _NUMBERS]
    fields.append(("embedding", pyarrow.list_(pyarrow.float32(), width)))
    schema = pyarrow.schema(fields, metadata={"provenance": provenance})
    with ParquetWriter(path, schema, compression="zstd") as file:
        writer = _Parquet(width, file, schema)
        yield writer
        writer.flush()


class _Hdf5(VectorWriter):
    def __init__(self, width: int, file: Any, per_base: bool) -> None:
        super().__init__(width)
        import h5py

        self._file = file
        kinds: dict[str, Any] = dict.fromkeys(_TEXTS, h5py.string_dtype()) | dict.fromkeys(_NUMBERS, np.int64)  # fmt: skip
        for name, kind in kinds.items():
            file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(_ROWS_AT_ONCE,))
        rows = max(1, min(_ROWS_AT_ONCE, 2**18 // width))
        file.create_dataset("embedding", (0, width), np.float32, maxshape=(None, width), chunks=(rows, width))  # fmt: skip
        if per_base:
            file.create_dataset("offset", data=np.zeros(1, np.int64), maxshape=(None,), chunks=(_ROWS_AT_ONCE,))  # fmt: skip

    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        for name, column in columns.items():
            if name in self._file:
                self._append(name, column)
        self._append("embedding", values)

    def _append(self, name: str, new: Any) -> None:
        dataset = self._file[name]
        dataset.resize(len(dataset) + len(new), axis=0)
        dataset[-len(new) :] = new


@contextmanager
def _hdf5(path: Path, width: int, per_base: bool, provenance: str) -> Iterator[VectorWriter]:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["provenance"] = provenance
        writer = _Hdf5(width, file, per_base)
        yield writer
        writer.flush()
