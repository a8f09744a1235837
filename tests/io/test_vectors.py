from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyenadna.errors import BackendUnavailableError, ConfigError, FileFormatError, OutputError
from hyenadna.io import growing_vectors, vector_writers
from hyenadna.io.vectors import count_vectors, open_vectors, vector_format
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
    elif path.suffix == ".zarr":
        group = pytest.importorskip("zarr", reason="zarr is not installed").open_group(path, mode="r")  # fmt: skip
        columns = {name: array[:] for name, array in group.arrays()}
        columns["provenance"] = group.attrs["provenance"]
        columns["appended"] = group.attrs.get("appended", "[]")
    else:
        with h5py.File(path) as file:
            columns = {name: file[name][:] for name in file}
            for name in ("name", "chrom", "strand"):
                columns[name] = file[name].asstr()[:]
            columns["provenance"] = file.attrs["provenance"]
            columns["appended"] = file.attrs.get("appended", "[]")
    return columns


@pytest.mark.parametrize("times", [1, 700])
@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".h5", ".zarr"])
def test_rows_are_read_back(
    tmp_path: Path, suffix: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if suffix == ".zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    for module in (vector_writers, growing_vectors):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", 256)
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


GROWING = [".h5", ".zarr"]
MADE = {"weights_sha256": "abc", "settings": {"pooling": "mean", "device": "cpu"}, "input": {"fasta": "a.fa"}}  # fmt: skip


def _add(path: Path, value: float, *, per_base: bool = False, width: int = WIDTH, made: dict[str, Any] = MADE, broken: bool = False, **how: Any) -> None:  # fmt: skip
    if path.suffix == ".zarr":
        pytest.importorskip("zarr", reason="zarr is not installed")
    with open_vectors(path, width=width, per_base=per_base, provenance=made, **how) as out:
        for name, length, interval in ROWS:
            shape = (length, width) if per_base else (width,)
            out.add(name, length, interval, np.full(shape, value, np.float32))
        if broken:
            out.add("short", 1, None, np.zeros(width - 1, np.float32))


@pytest.mark.parametrize("suffix", GROWING)
@pytest.mark.parametrize("per_base", [False, True])
def test_rows_are_appended(tmp_path: Path, suffix: str, per_base: bool) -> None:
    path = tmp_path / f"x{suffix}"
    for value in (1, 2, 3):  # the first begins the file
        device = {"settings": MADE["settings"] | {"device": f"cuda:{value}"}}
        _add(path, value, per_base=per_base, made=MADE | device, append=True)
    found = _read(path)
    rows = sum(length for _, length, _ in ROWS) if per_base else len(ROWS)
    assert found["embedding"][:, 0].tolist() == [1] * rows + [2] * rows + [3] * rows
    assert found["name"].tolist() == [name for name, _, _ in ROWS] * 3
    if per_base:
        assert found["offset"].tolist() == [0, 3, 5, 9, 12, 14, 18, 21, 23, 27]
    assert json.loads(found["appended"]) == [{"input": MADE["input"]}] * 2
    assert count_vectors(path) == 3 * rows
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", GROWING)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 4}, "components of a vector 5, these with 4"),
        ({"per_base": True}, "one row a base False, these with True"),
        ({"made": MADE | {"weights_sha256": "abd"}}, "weights abc, these with abd"),
        ({"made": MADE | {"settings": {"pooling": "max"}}}, "pooling mean, these with max"),
    ],
)
def test_rows_of_another_kind_are_not_appended(tmp_path: Path, suffix: str, change: dict[str, Any], said: str) -> None:  # fmt: skip
    path = tmp_path / f"x{suffix}"
    _add(path, 1)
    with pytest.raises(ConfigError, match=said):
        _add(path, 2, append=True, **change)
    assert _read(path)["embedding"][:, 0].tolist() == [1, 1, 1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", GROWING)
def test_failure_leaves_the_rows_that_were_there(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    _add(path, 1)
    for how in ({"append": True}, {"force": True}):
        with pytest.raises(ValueError, match="reshape"):
            _add(path, 2, broken=True, **how)
        assert _read(path)["embedding"][:, 0].tolist() == [1, 1, 1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    _add(path, 5, force=True)
    assert _read(path)["embedding"][:, 0].tolist() == [5, 5, 5]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_only_own_files_are_appended_to(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("no")
    with pytest.raises(FileFormatError, match="no HDF5 file"):
        count_vectors(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["other"] = 1
    with pytest.raises(FileFormatError, match="no vectors of 'hyenadna embed'"):
        _add(tmp_path / "y.h5", 1, append=True)
    with pytest.raises(ConfigError, match="--append needs a name that ends with .h5"):
        _add(tmp_path / "x.npz", 1, append=True)
    pytest.importorskip("zarr", reason="zarr is not installed")
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "thesis.txt").write_text("mine")
    for how in ({"append": True}, {"force": True}):
        with pytest.raises(OutputError, match="holds no Zarr group"):
            _add(tmp_path / "x.zarr", 1, **how)
    assert (tmp_path / "x.zarr" / "thesis.txt").read_text() == "mine"
