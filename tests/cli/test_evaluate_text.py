"""Text from the command line: train, evaluate, and a grid that takes the lower number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyenadna.cli import main
from hyenadna.cli.pretrain_grid import _best, _Run

SMALL = [
    "model.d_model=8", "model.n_layers=2", "model.filter_dim=8", "model.max_seq_len=64", "data.seq_len=32", "data.global_batch_size=4", "trainer.max_steps=2",
    "trainer.accelerator=cpu", "trainer.progress=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    book = folder / "book.txt"
    book.write_text("Some words, and a few more.\n\n" * 200)
    words = ["data=text", f"data.text.train={book}", "data.text.context=16", *SMALL]
    assert main(["pretrain", *words, f"run_dir={folder / 'run'}"]) == 0
    return folder / "run"


def test_pretrain_tells_bits_and_perplexity_of_both_splits(run: Path, tmp_path: Path, capsys) -> None:  # fmt: skip
    capsys.readouterr()
    book = run.parent / "book.txt"
    assert main(["pretrain", "data=text", f"data.text.train=[{book}]", *SMALL, f"run_dir={tmp_path / 'again'}"]) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "validation " in out
    assert "test " in out
    assert out.count("bits/byte, word perplexity") == 2


def test_evaluate_gives_the_test_of_the_run_with_its_context(run: Path, capsys) -> None:
    capsys.readouterr()
    told = json.loads((run / "report.json").read_text())
    assert main(["evaluate", "-m", str(run), "--context", "16", "--device", "cpu", "-o", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["word_perplexity"] == pytest.approx(told["test"]["word_perplexity"], rel=1e-4)
    assert (found["window"], found["context"]) == (32, 16)
    assert found["n_scored"] == found["n_bytes"] == told["test"]["n_scored"]
    assert main(["evaluate", "-m", str(run), "--device", "cpu", "--window", "64"]) == 0
    out = capsys.readouterr().out
    assert "word perplexity" in out
    assert "windows of 64 bytes, each byte with 16 or more before it" in out


def test_evaluate_scores_a_file(run: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other.txt"
    other.write_text("Quite another text.\nOf two lines.\n")
    assert main(["evaluate", "-m", str(run / "model"), "-i", str(other), "--device", "cpu", "-o", "-"]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert (found["n_scored"], found["n_words"]) == (34, 8)
    assert found["data"][0]["path"] == str(other)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-f", "x.fa"], "reads text"),
        (["--contexts", "auto"], "reads text"),
        (["-i", "x.txt", "--split", "test"], "two ways"),
        (["-i", "missing.txt"], "cannot be read"),
        (["--window", "65"], "a window of 65 is impossible"),
    ],
)
def test_mistakes_are_one_sentence(run: Path, capsys, words: list[str], message: str) -> None:
    assert main(["evaluate", "-m", str(run), *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_model_of_text_alone_names_no_text_and_scores_no_dna(run: Path, tmp_path: Path, capsys) -> None:  # fmt: skip
    import shutil

    alone = tmp_path / "model"
    shutil.copytree(run / "model", alone)
    assert main(["evaluate", "-m", str(alone)]) == 2
    assert "names no text" in capsys.readouterr().err
    fasta = tmp_path / "x.fa"
    fasta.write_text(">x\nACGT\n")
    assert main(["score", "-m", str(run), str(fasta)]) == 2
    assert "reads text" in capsys.readouterr().err


def test_a_grid_of_text_takes_the_run_with_fewer_bits(tmp_path: Path) -> None:
    points = []
    for lr, bits in ((1e-3, 1.5), (3e-3, 1.4), (1e-2, 1.6)):
        folder = tmp_path / str(lr)
        folder.mkdir()
        validation = {"bits_per_byte": bits, "accuracy": bits, "loss_nats": bits}
        (folder / "report.json").write_text(json.dumps({"status": "finished", "validation": validation}))  # fmt: skip
        points.append(_Run("text", "hyena", (("optimizer.lr", lr),), 1, folder))
    assert _best(points, "bits_per_byte") is points[1]
    assert _best(points, "accuracy") is points[2]
