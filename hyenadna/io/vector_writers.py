"""How rows of vectors are gathered and handed on, and the formats that are written in one go: npz and Parquet."""

from __future__ import annotations

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hyenadna.sequence import Interval

__all__ = ["NUMBERS", "ROWS_AT_ONCE", "TEXTS", "VectorWriter", "open_npz", "open_parquet"]

ROWS_AT_ONCE = 4096
TEXTS = ("name", "chrom", "strand")
NUMBERS = ("start", "end", "length")
_COLUMNS = (*TEXTS, *NUMBERS, "offset")


class VectorWriter(ABC):
    """Takes rows one after the other, and hands them on some at a time."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.end = 0
        self._rows: list[tuple[Any, ...]] = []
        self._values: list[npt.NDArray[np.float32]] = []

    def add(
        self, name: str, length: int, interval: Interval | None, values: npt.NDArray[np.float32]
    ) -> None:
        """Write a row: its name, its number of bases, its place, and values of shape (E,), or (L, E) one a base."""
        values = values.reshape(-1, self.width)
        self.end += len(values)
        # In the order of _COLUMNS
        if interval is None:
            self._rows.append((name, "", "", -1, -1, length, self.end))
        else:
            place = interval.chrom, interval.strand, interval.start, interval.end
            self._rows.append((name, *place, length, self.end))
        self._values.append(values)
        if len(self._values) >= ROWS_AT_ONCE or len(values) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Hand on what has been gathered."""
        if self._values:
            columns = map(list, zip(*self._rows, strict=True))
            self.write(dict(zip(_COLUMNS, columns, strict=True)), np.concatenate(self._values))
            self._rows.clear()
            self._values.clear()

    @abstractmethod
    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        """Write some rows."""


class _Npz(VectorWriter):
    """Values wait in a temporary file, because an .npz wants to know their number first."""

    def __init__(self, width: int, values: IO[bytes]) -> None:
        super().__init__(width)
        self._file = values
        self._all: dict[str, list[Any]] = {name: [] for name in _COLUMNS}

    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        for name, column in columns.items():
            self._all[name] += column
        self._file.write(values.tobytes())

    def save(self, path: Path, provenance: str, *, per_base: bool) -> None:
        self._file.flush()
        embedding: npt.NDArray[np.float32] = np.zeros((0, self.width), np.float32)
        if self.end:
            embedding = np.memmap(self._file, np.float32, "r", shape=(self.end, self.width))
        arrays: dict[str, Any] = {name: np.array(self._all[name], dtype=str) for name in TEXTS}
        arrays |= {name: np.array(self._all[name], dtype=np.int64) for name in NUMBERS}
        if per_base:
            arrays["offset"] = np.array([0, *self._all["offset"]], dtype=np.int64)
        with path.open("wb") as out:
            np.savez(out, embedding=embedding, provenance=np.array([provenance]), **arrays)


@contextmanager
def open_npz(
    path: Path, width: int, per_base: bool, made: Mapping[str, Any]
) -> Iterator[VectorWriter]:
    """Open an .npz."""
    with tempfile.TemporaryFile(dir=path.parent) as values:
        writer = _Npz(width, values)
        yield writer
        writer.flush()
        writer.save(path, json.dumps(dict(made)), per_base=per_base)


class _Parquet(VectorWriter):
    def __init__(self, width: int, file: Any, schema: Any) -> None:
        super().__init__(width)
        self._file, self._schema = file, schema

    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        import pyarrow

        arrays = [pyarrow.array(columns[name]) for name in (*TEXTS, *NUMBERS)]
        arrays.append(pyarrow.FixedSizeListArray.from_arrays(values.ravel(), self.width))
        self._file.write_batch(pyarrow.record_batch(arrays, schema=self._schema))


@contextmanager
def open_parquet(
    path: Path, width: int, per_base: bool, made: Mapping[str, Any]
) -> Iterator[VectorWriter]:
    """Open a Parquet file; one row a base is none of its kinds."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    fields = [(name, pyarrow.string()) for name in TEXTS]
    fields += [(name, pyarrow.int64()) for name in NUMBERS]
    fields.append(("embedding", pyarrow.list_(pyarrow.float32(), width)))
    schema = pyarrow.schema(fields, metadata={"provenance": json.dumps(dict(made))})
    with ParquetWriter(path, schema, compression="zstd") as file:
        writer = _Parquet(width, file, schema)
        yield writer
        writer.flush()
