"""Files of vectors that grow: HDF5 and Zarr, whose groups differ only in how an array is made and extended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hyenadna.errors import ConfigError, FileFormatError
from hyenadna.io.vector_writers import NUMBERS, ROWS_AT_ONCE, TEXTS, VectorWriter

__all__ = ["count_rows", "open_growing"]


class _Growing(VectorWriter):
    def __init__(self, width: int, file: Any, grow: Callable[[Any, Any], None]) -> None:
        super().__init__(width)
        self._file, self._grow = file, grow
        self.end = file["embedding"].shape[0]

    def write(self, columns: Mapping[str, list[Any]], values: npt.NDArray[np.float32]) -> None:
        for name, column in columns.items():
            if name in self._file:
                self._grow(self._file[name], column)
        self._grow(self._file["embedding"], values)


def count_rows(form: str, path: Path) -> int:
    """Return the number of rows of vectors in a file.

    Raises
    ------
    FileFormatError
        It is no such file.
    """
    with _opened(form, path, "r", path) as file:
        return int(_rows(file, path).shape[0])


@contextmanager
def open_growing(
    form: str,
    path: Path,
    width: int,
    per_base: bool,
    made: Mapping[str, Any],
    *,
    shown: str | os.PathLike[str],
) -> Iterator[VectorWriter]:
    """Open a file that is to be begun, or that exists and gets more rows; messages call it `shown`."""
    fresh = not path.exists()
    with _opened(form, path, "w" if fresh else "r+", shown) as file:
        if fresh:
            file.attrs["provenance"] = json.dumps(dict(made))
            _create(form, file, width, per_base)
        else:
            _require_same(file, made, width, per_base, shown)
            appended = json.loads(file.attrs.get("appended", "[]"))
            appended.append({key: made[key] for key in ("input", "command") if key in made})
            file.attrs["appended"] = json.dumps(appended)
        writer = _Growing(width, file, _grow_hdf5 if form == "hdf5" else _grow_zarr)
        yield writer
        writer.flush()


@contextmanager
def _opened(form: str, path: Path, mode: str, shown: str | os.PathLike[str]) -> Iterator[Any]:
    if form == "zarr":
        import zarr

        try:
            file = zarr.open_group(path, mode=mode)
        except (OSError, ValueError, KeyError) as error:
            raise FileFormatError(f"this is no Zarr group ({error})", path=shown) from error
        yield file
        return
    import h5py

    try:
        file = h5py.File(path, mode)
    except OSError as error:
        if mode == "w":
            raise
        raise FileFormatError(f"this is no HDF5 file ({error})", path=shown) from error
    with file:
        yield file


def _create(form: str, file: Any, width: int, per_base: bool) -> None:
    """Make the columns, empty."""
    rows = max(1, min(ROWS_AT_ONCE, 2**18 // width))
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for name in (*TEXTS, *NUMBERS):
        shapes[name] = ((0,), (ROWS_AT_ONCE,))
    shapes["embedding"] = ((0, width), (rows, width))
    if per_base:
        shapes["offset"] = ((1,), (ROWS_AT_ONCE,))  # one 0, the beginning of the first row
    for name, (shape, chunks) in shapes.items():
        kind: Any = np.float32 if name == "embedding" else np.int64
        if form == "zarr":
            file.create_array(name, shape=shape, dtype=str if name in TEXTS else kind, chunks=chunks)  # fmt: skip
        else:
            import h5py

            kind = h5py.string_dtype() if name in TEXTS else kind
            file.create_dataset(name, shape, kind, maxshape=(None, *shape[1:]), chunks=chunks)


def _grow_hdf5(dataset: Any, new: Any) -> None:
    dataset.resize(len(dataset) + len(new), axis=0)
    dataset[-len(new) :] = new


def _grow_zarr(array: Any, new: Any) -> None:
    array.append(np.asarray(new, dtype=array.dtype))


def _rows(file: Any, shown: str | os.PathLike[str]) -> Any:
    if "embedding" not in file or "name" not in file or len(file["embedding"].shape) != 2:
        raise FileFormatError("this file holds no vectors of 'hyenadna embed'; choose another name for the output", path=shown)  # fmt: skip
    return file["embedding"]


def _require_same(
    file: Any, made: Mapping[str, Any], width: int, per_base: bool, shown: str | os.PathLike[str]
) -> None:
    """Check that rows which are there are of the kind that comes."""
    then: dict[str, Any] = {"components of a vector": _rows(file, shown).shape[1], "one row a base": "offset" in file}  # fmt: skip
    now: dict[str, Any] = {"components of a vector": width, "one row a base": per_base}
    for found, source in ((then, json.loads(file.attrs.get("provenance", "{}"))), (now, made)):
        found["weights"] = source.get("weights_sha256")
        found |= {k: v for k, v in source.get("settings", {}).items() if k not in ("batch_size", "device")}  # fmt: skip
    for key, value in then.items():
        if now.get(key) != value:
            raise ConfigError(
                f"{shown} cannot be appended to: its rows were made with {key} {value}, these with {now.get(key)}; use the same, or write another file"
            )
