"""`hyenadna ism` as its user meets it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.cli import main

GENOME = "bundled:scerevisiae/genome.2bit"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("ism") / "model"
    HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=66)).save_pretrained(folder)
    return str(folder)


def test_table_picture_and_arrays_say_the_same(model: str, tmp_path: Path) -> None:
    words = ["ism", "-m", model, "-f", GENOME, "-r", "chrI:101-112", "-q"]
    table, arrays, picture = (tmp_path / n for n in ("x.tsv", "x.npz", "x.png"))
    assert main([*words, "-o", str(table), "--plot", str(picture), "--deletions"]) == 0
    assert main([*words, "-o", str(arrays)]) == 0
    with table.open() as handle:
        rows = list(csv.DictReader(handle, delimiter="\t"))
    assert [row["position"] for row in rows] == [str(p) for p in range(101, 113)]
    assert all(float(row[row["base"]]) == 0 for row in rows)
    assert all(row["deletion"] for row in rows)
    with np.load(arrays) as found:
        np.testing.assert_allclose(found["llr"], [[float(row[b]) for b in "ACGT"] for row in rows], rtol=1e-4, atol=1e-7)  # fmt: skip
        assert str(found["letters"][0]) == "".join(row["base"] for row in rows)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*words, "-o", str(table)]) == 2
    assert main([*words, "-o", str(table), "--force", "--method", "gradient"]) == 0


def test_several_regions_follow_each_other(model: str, tmp_path: Path, capsys: Any) -> None:
    words = ["ism", "-m", model, "-f", GENOME, "-q"]
    regions = ["chrI:101-112", "chrII:50-60", "chrI:105-120"]
    alone = []
    for region in regions:
        assert main([*words, "-r", region]) == 0
        alone.append(capsys.readouterr().out.splitlines())
    (tmp_path / "x.bed").write_text("chrI\t104\t120\n")
    arrays, picture, report = (tmp_path / n for n in ("x.npz", "x.svg", "x.html"))
    asked = [*words, "-r", regions[0], "-r", regions[1], "-b", str(tmp_path / "x.bed")]
    assert main(asked) == 0
    assert capsys.readouterr().out.splitlines() == [alone[0][0], *(line for lines in alone for line in lines[1:])]  # fmt: skip
    assert main([*asked, "-o", str(arrays), "--plot", str(picture), "--report", str(report)]) == 0
    with np.load(arrays) as found:
        assert found["region"].tolist() == regions
        assert found["offset"].tolist() == [0, 12, 23, 39]
        assert found["llr"].shape == (39, 4)
        assert "".join(found["letters"]) == "".join(line.split("\t")[2] for lines in alone for line in lines[1:])  # fmt: skip
    for region in regions:
        assert region in report.read_text()
    assert picture.read_text().count('id="axes_') == 9  # a logo, a heat map and a bar for each


def test_a_picture_has_room_for_some_regions_only(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["ism", "-m", model, "-f", GENOME, "-q", *["-r", "chrI:2-2"] * 21]
    assert main([*words, "--plot", "x.png"]) == 2
    assert "room for 20 regions, here are 21" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(words) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-r", "chr99:1-5"], "chr99"),
        (["-r", "chrI:1-9", "--plot", "x.pdf"], ".png or .svg"),
        (["-r", "chrI:1-9", "--method", "fast"], "exact or gradient"),
        (["-r", "chrI:1-9", "--method", "gradient", "--deletions"], "are of method 'exact'"),
        (["-r", "chrI:1-9", "--window", "99"], "4 to 66"),
        (["-r", "chrI:1-9", "--dtype", "int8"], "fp32 or bf16"),
        (["-r", "chrI:1-9", "--batch-size", "0"], "auto or a number"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["ism", "-m", model, "-f", GENOME, "-o", "out.tsv", "-q", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
