from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyenadna.errors import BackendUnavailableError, ConfigError, OutputError
from hyenadna.io import vectors
from hyenadna.io.vectors import open_vectors, vector_format
from hyenadna.sequence import Interval

h5py = pytest.importorskip("h5py")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [
    ("one", 3, Interval("chr1", 5, 8, "-")),
    ("zwei ü", 2, None),
    ("", 4, Interval("c", 0, 4)),
]
WIDTH = 5


def _write(path: Path, *, per_base: bool, times: int = 1) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    written = []
    with open_vectors(path, width=WIDTH, per_base=per_base, provenance={"model": "m"}) as out:
        for _ in range(times):
            for name, length, interval in ROWS:
                shape = (length, WIDTH) if per_base else (WIDTH,)
                values = rng.normal(size=shape).astype(np.float32)
                out.add(name, length, interval, values)
                written.append(values.reshape(-1, WIDTH))
    return np.concatenate(written)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        with np.load(path) as found:
            columns = {name: found[name] for name in found.files}
        columns["provenance"] = str(columns["provenance"][0])
    elif path.suffix == ".parquet":
        table = parquet.read_table(path)
        columns = {name: table[name].to_numpy() for name in table.column_names}
        columns["embedding"] = np.stack(columns["embedding"])
        columns["provenance"] = table.schema.metadata[b"provenance"].decode()
    else:
        with h5py.File(path) as file:
            columns = {name: file[name][:] for name in file}
            for name in ("name", "chrom", "strand"):
                columns[name] = file[name].asstr()[:]
            columns["provenance"] = file.attrs["provenance"]
    return columns


@pytest.mark.parametrize("times", [1, 700])
@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".h5"])
def test_rows_are_read_back(
    tmp_path: Path, suffix: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_ROWS_AT_ONCE", 256)
    path = tmp_path / f"x{suffix}"
    written = _write(path, per_base=False, times=times)
    found = _read(path)
    np.testing.assert_array_equal(found["embedding"], written)
    assert found["name"].tolist() == [name for name, _, _ in ROWS] * times
    assert found["chrom"].tolist()[:3] == ["chr1", "", "c"]
    assert found["strand"].tolist()[:3] == ["-", "", "."]
    assert found["start"].tolist()[:3] == [5, -1, 0]
    assert found["end"].tolist()[:3] == [8, -1, 4]
    assert found["length"].tolist() == [3, 2, 4] * times
    assert json.loads(found["provenance"]) == {"model": "m"}
    assert "offset" not in found


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_rows_of_bases_follow_each_other(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    written = _write(path, per_base=True, times=2)
    found = _read(path)
    np.testing.assert_array_equal(found["embedding"], written)
    assert found["offset"].tolist() == [0, 3, 5, 9, 12, 14, 18]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".h5"])
def test_no_rows_and_failures_leave_what_they_should(tmp_path: Path, suffix: str) -> None:
    empty, broken = tmp_path / f"empty{suffix}", tmp_path / f"broken{suffix}"
    with open_vectors(empty, width=WIDTH):
        pass
    if suffix != ".parquet":
        assert _read(empty)["embedding"].shape == (0, WIDTH)
    else:
        assert parquet.read_table(empty).num_rows == 0

    def stopped() -> None:
        with open_vectors(broken, width=WIDTH) as out:
            out.add("a", 1, None, np.zeros(WIDTH, np.float32))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert [p.name for p in tmp_path.iterdir()] == [empty.name]
    with pytest.raises(OutputError, match="--force"), open_vectors(empty, width=WIDTH):
        pass


def test_formats_are_told_by_the_name_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vector_format("a.H5", per_base=True) == "hdf5"
    with pytest.raises(ConfigError, match=r"ends with \.npz, \.parquet"):
        vector_format("a.csv", per_base=False)
    with pytest.raises(ConfigError, match="one vector a sequence"):
        vector_format("a.parquet", per_base=True)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(BackendUnavailableError, match="pip install pyarrow"):
        vector_format("a.parquet", per_base=False)
