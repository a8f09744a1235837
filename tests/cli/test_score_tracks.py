"""`hyenadna score --per-base` as its user meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import Genome, HyenaConfig, HyenaForCausalLM
from hyenadna.cli import main
from hyenadna.inference.tracks import score_tracks
from hyenadna.sequence import Interval

GENOME = "bundled:scerevisiae/genome.2bit"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tracks") / "model"
    HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=66)).save_pretrained(folder)
    return str(folder)


def test_regions_are_merged_and_both_tracks_written(model: str, tmp_path: Path, capsys: Any) -> None:  # fmt: skip
    (tmp_path / "x.bed").write_text("chrII\t150\t260\nchrI\t0\t40\n")
    track, entropy = tmp_path / "x.npz", tmp_path / "e.bedGraph"
    words = ["score", "-m", model, "-f", GENOME, "-r", "chrII:101-200", "-b", str(tmp_path / "x.bed"), "--rc"]  # fmt: skip
    assert main([*words, "--per-base", str(track), "--entropy", str(entropy)]) == 0
    assert "scored 200 of 200 bases" in capsys.readouterr().err
    with np.load(track) as found:
        known = {name: np.flatnonzero(~np.isnan(found[name])).tolist() for name in ("chrI", "chrII")}  # fmt: skip
        values = found["chrII"][100:260]
    assert known == {"chrI": list(range(40)), "chrII": list(range(100, 260))}
    genome, network = Genome.open(GENOME), HyenaForCausalLM.from_pretrained(model)
    blocks = score_tracks(network, genome, [Interval("chrII", 100, 260)], rc=True)
    np.testing.assert_allclose(values, np.concatenate([b.log_p for b in blocks]), atol=1e-6)
    lines = entropy.read_text().splitlines()[1:]
    assert sum(int(line.split("\t")[2]) - int(line.split("\t")[1]) for line in lines) == 200
    assert main([*words, "--per-base", str(track)]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--per-base", "x.txt", "-f", GENOME], "no known format"),
        (["--per-base", "x.npz", "-i", "reads.fa"], "tracks are of a genome"),
        (["--per-base", "x.npz", "-f", GENOME, "-o", "y.tsv"], "in place of the table"),
        (["--per-base", "x.npz", "-f", GENOME, "--stride", "5"], "--context in place of"),
        (["--per-base", "x.npz", "--entropy", "x.npz", "-f", GENOME], "two names"),
        (["--per-base", "x.npz", "-f", GENOME, "--context", "66"], "expected 1 to 65"),
        (["--per-base", "x.npz", "-f", GENOME, "-r", "chr99"], "chr99"),
        (["-f", GENOME, "--context", "5"], "--context is about tracks"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["score", "-m", model, "-q", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
