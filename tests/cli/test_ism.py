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
