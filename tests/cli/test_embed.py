"""`hyenadna embed` as its user meets it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.cli import main
from hyenadna.inference.embeddings import embed_sequences
from hyenadna.io.vectors import count_vectors


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("embed")
    torch.manual_seed(0)
    model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=66))
    model.save_pretrained(folder / "model")
    rng = random.Random(0)
    genome = "".join(rng.choices("ACGT", k=500))
    (folder / "genome.fa").write_text(f">chr1\n{genome}\n")
    (folder / "regions.bed").write_text("chr1\t10\t60\ta\t.\t+\nchr1\t100\t300\tb\t.\t-\n")
    (folder / "reads.fa").write_text(f">r1\n{genome[:40]}\n>r2\n{genome[40:70]}\n")
    return {p.name: p for p in folder.iterdir()}


def _embed(files: dict[str, Path], *words: str) -> int:
    return main(["embed", "-m", str(files["model"]), "-q", *words])


def test_regions_are_embedded_with_their_places(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    assert _embed(files, "-f", str(files["genome.fa"]), "-b", str(files["regions.bed"]), "--strands", "both", "-o", str(out)) == 0  # fmt: skip
    with np.load(out) as found:
        assert found["name"].tolist() == ["a", "b"]
        assert found["chrom"].tolist() == ["chr1", "chr1"]
        assert (found["start"].tolist(), found["end"].tolist()) == ([10, 100], [60, 300])
        assert found["strand"].tolist() == ["+", "-"]
        assert found["embedding"].shape == (2, 16)
        provenance = json.loads(str(found["provenance"][0]))
        values = found["embedding"]
    assert len(provenance["weights_sha256"]) == 64
    assert provenance["settings"]["strands"] == "both"
    genome = files["genome.fa"].read_text().split("\n")[1]
    model = HyenaForCausalLM.from_pretrained(files["model"])
    (expected,) = embed_sequences(model, [genome[10:60]], strands="both")
    np.testing.assert_allclose(values[0], expected.values, atol=1e-6)
    assert not np.allclose(values[0], values[1], atol=1e-3)


@pytest.mark.parametrize(("name", "pooling"), [("x.parquet", "mean"), ("x.h5", "per-base")])
def test_reads_are_embedded_in_every_format(
    files: dict[str, Path], tmp_path: Path, name: str, pooling: str
) -> None:
    out = tmp_path / name
    words = ["-i", str(files["reads.fa"]), "--pooling", pooling, "--layer", "1", "-o", str(out)]
    assert _embed(files, *words) == 0
    if name.endswith("parquet"):
        table = pytest.importorskip("pyarrow.parquet").read_table(out)
        assert table["name"].to_pylist() == ["r1", "r2"]
        assert len(table["embedding"][0]) == 8
    else:
        with pytest.importorskip("h5py").File(out) as file:
            assert file["embedding"].shape == (70, 8)
            assert file["offset"][:].tolist() == [0, 40, 70]
    assert _embed(files, *words) == 2
    assert _embed(files, *words, "--force") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "x.npz"], "say what to embed"),
        (["-i", "{reads.fa}", "-f", "{genome.fa}", "-o", "x.npz"], "one of the two"),
        (["-i", "{reads.fa}", "-o", "x.csv"], "no known format"),
        (["-i", "{reads.fa}", "-o", "-"], "no known format"),
        (["-i", "{reads.fa}", "-o", "x.parquet", "--pooling", "per-base"], "one vector a sequence"),
        (["-i", "{reads.fa}", "-o", "x.npz", "--pooling", "median"], "mean, last, max, per-base"),
        (["-i", "{reads.fa}", "-o", "x.npz", "--layer", "2"], "expected 0"),
        (["-i", "{reads.fa}", "-o", "x.npz", "--strands", "-"], "forward, average, both"),
        (["-i", "{reads.fa}", "-o", "x.npz", "--dtype", "fp8"], "fp32 or bf16"),
        (["-i", "{reads.fa}", "-r", "chr1:1-9", "-o", "x.npz"], "regions of a genome"),
        (["-i", "nothing.fa", "-o", "x.npz"], "nothing.fa"),
        (["-f", "{genome.fa}", "-r", "chr9:1-9", "-o", "x.npz"], "chr9"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    filled = [str(files[w[1:-1]]) if w.startswith("{") else w for w in words]
    assert _embed(files, *filled) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.h5", "x.zarr"])
def test_rows_are_appended(files: dict[str, Path], tmp_path: Path, capsys: Any, name: str) -> None:
    pytest.importorskip({"x.h5": "h5py", "x.zarr": "zarr"}[name])
    out = tmp_path / name
    words = ["-f", str(files["genome.fa"]), "-o", str(out), "--append"]
    for region in ("chr1:1-50", "chr1:51-90"):
        assert _embed(files, *words, "-r", region) == 0
    assert count_vectors(out) == 2
    assert _embed(files, *words, "-r", "chr1:1-9", "--pooling", "max") == 2
    assert "pooling mean, these with max" in capsys.readouterr().err
    assert _embed(files, *words, "-r", "chr1:1-9", "--force") == 2
    assert _embed(files, *words[:-1], "-r", "chr1:1-9") == 2
    assert "--force" in capsys.readouterr().err
    assert count_vectors(out) == 2
    assert _embed(files, *words[:-1], "-r", "chr1:1-9", "--force") == 0
    assert count_vectors(out) == 1
    assert [p.name for p in tmp_path.iterdir()] == [name]
