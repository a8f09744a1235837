from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from hyenadna.errors import BackendUnavailableError, ConfigError, OutputError
from hyenadna.io.tracks import open_track, track_format
from hyenadna.sequence import Interval

CONTIGS = {"a": 20, "empty": 5, "b": 12}
NAN = np.nan
BLOCKS = [
    (Interval("a", 0, 5), [NAN, 0.5, 0.5, -1.25, NAN]),
    (Interval("a", 5, 8), [2.0, 2.0, 2.0]),
    (Interval("b", 3, 6), [NAN, NAN, NAN]),
    (Interval("b", 10, 12), [1e-7, 3.0]),
]


def _write(path: Path) -> None:
    with open_track(str(path), CONTIGS, provenance={"model": "m"}) as out:
        for interval, values in BLOCKS:
            out.add(interval, np.array(values, np.float32))


def test_a_bedgraph_has_runs_and_says_where_it_comes_from(tmp_path: Path) -> None:
    _write(tmp_path / "x.bedGraph")
    _write(tmp_path / "x.bedGraph.gz")
    text = (tmp_path / "x.bedGraph").read_text()
    assert gzip.decompress((tmp_path / "x.bedGraph.gz").read_bytes()).decode() == text
    first, *lines = text.splitlines()
    assert json.loads(first.removeprefix("#hyenadna ")) == {"model": "m"}
    assert [line.split("\t") for line in lines] == [
        ["a", "1", "3", "0.5"], ["a", "3", "4", "-1.25"], ["a", "5", "8", "2"], ["b", "10", "11", "1e-07"], ["b", "11", "12", "3"],
    ]  # fmt: skip


def test_a_bigwig_is_read_back(tmp_path: Path) -> None:
    bigwig = pytest.importorskip("pyBigWig")
    _write(tmp_path / "x.bw")
    with bigwig.open(str(tmp_path / "x.bw")) as file:
        assert file.chroms() == CONTIGS
        for interval, values in BLOCKS:
            found = file.values(interval.chrom, interval.start, interval.end)
            np.testing.assert_array_equal(np.array(found, np.float32), np.array(values, np.float32))
        assert np.isnan(file.values("a", 8, 20)).all()


def test_an_npz_holds_whole_contigs(tmp_path: Path) -> None:
    _write(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        assert sorted(found.files) == ["a", "b", "provenance"]
        assert found["a"].shape == (20,)
        np.testing.assert_array_equal(found["a"][5:8], 2)
        assert np.isnan(found["a"][8:]).all()
        assert json.loads(str(found["provenance"][0])) == {"model": "m"}


@pytest.mark.parametrize("name", ["x.bw", "x.bedGraph.gz", "x.npz"])
def test_a_failure_leaves_nothing(tmp_path: Path, name: str) -> None:
    if name.endswith("bw"):
        pytest.importorskip("pyBigWig")

    def stopped() -> None:
        with open_track(str(tmp_path / name), CONTIGS) as out:
            out.add(Interval("a", 0, 1), np.zeros(1, np.float32))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert not list(tmp_path.iterdir())
    _write(tmp_path / name)
    with pytest.raises(OutputError, match="--force"):
        _write(tmp_path / name)


def test_formats_are_told_by_the_name_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert track_format("a.BigWig") == "bigwig"
    assert track_format("-") == track_format("a", "bedgraph") == "bedgraph"
    assert track_format("a.npz", "bigwig") == "bigwig"
    for name, form in (("a", "wig"), ("-", "npz"), ("a.gz", "npz")):
        with pytest.raises(ConfigError):
            track_format(name, form)
    for name in ("a.wig", "a.bw.gz"):
        with pytest.raises(ConfigError, match=r"\.bedGraph"):
            track_format(name)
    monkeypatch.setitem(__import__("sys").modules, "pyBigWig", None)
    with pytest.raises(BackendUnavailableError, match="pip install pyBigWig"):
        track_format("a.bw")
