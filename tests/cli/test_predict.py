"""`hyenadna predict` as its user meets it, after `hyenadna finetune` and alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForSequenceClassification, load_model, predict_sequences
from hyenadna.cli import main
from hyenadna.sequence import reverse_complement
from hyenadna.testing import random_dna

LABELS = ["no promoter", "promoter", "un,sure"]
GENOME = random_dna(400, seed=7)
READS = {f"r{n}": random_dna(n, seed=n) for n in (40, 8, 64, 9, 1, 33)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and a classifier whose run says that it was chosen with both strands."""
    here = tmp_path_factory.mktemp("predict")
    torch.manual_seed(0)
    shape = HyenaConfig(d_model=16, n_layers=1, max_seq_len=64, filter_dim=8, initializer_range=0.4)
    model = HyenaForSequenceClassification(shape, labels=LABELS, pooling="attention")
    model.save_pretrained(here / "run" / "model")
    (here / "run" / "model" / "finetuning.json").write_text('{"strands": "predict_both"}')
    model.save_pretrained(here / "plain")
    (here / "reads.fa").write_text("".join(f">{n} described\n{s}\n" for n, s in READS.items()))
    (here / "genome.fa").write_text(f">chr1\n{GENOME}\n")
    (here / "x.bed").write_text("chr1\t10\t70\tahead\t0\t+\nchr1\t10\t70\tback\t0\t-\nchr1\t300\t320\n")  # fmt: skip
    return here


@pytest.fixture
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def _rows(text: str, delimiter: str = "\t") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def _p(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"p_{label}"]) for label in LABELS] for row in rows])


def _expected(sequences: list[str], rc: bool) -> np.ndarray:
    model = load_model("plain")
    return np.stack([p.probabilities for p in predict_sequences(model, sequences, rc=rc)])  # type: ignore[arg-type]  # fmt: skip


def test_sequences_get_a_label_and_probabilities_in_their_order(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-m", "plain", "reads.fa"]) == 0
    out, err = capsys.readouterr()
    rows = _rows(out)
    assert list(rows[0]) == ["name", "length", "predicted", *(f"p_{label}" for label in LABELS)]
    assert [(r["name"], r["length"]) for r in rows] == [(n, str(len(s))) for n, s in READS.items()]
    expected = _expected([*READS.values()], rc=False)
    assert np.abs(_p(rows) - expected).max() < 1e-5
    assert [r["predicted"] for r in rows] == [LABELS[i] for i in expected.argmax(1)]
    assert len({r["predicted"] for r in rows}) > 1
    assert err.startswith("predicted 6 sequences (")
    assert err.endswith("; one strand read\n")


def test_what_cannot_be_read_is_left_out_where_the_user_says_so(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.fa"
    wrong.write_text(f">good\n{READS['r40']}\n>long\n{'A' * 65}\n>protein\nMKLV\n>empty\n>last\nACGT\n")  # fmt: skip
    out = tmp_path / "out"
    words = ["predict", "-m", "plain", str(wrong), "-o", str(out), "--format", "csv"]
    assert main([*words, "-q"]) == 2
    assert "'long' has 65 bases" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--on-error", "skip", "-v"]) == 0
    err = capsys.readouterr().err
    assert "weights_sha256: " in err
    assert "skipped 3, the first as " in err
    rows = _rows(out.read_text(), ",")
    assert [r["name"] for r in rows] == ["good", "last"]
    assert np.abs(_p(rows) - _expected([READS["r40"], "ACGT"], rc=False)).max() < 1e-5
    assert json.loads(Path(f"{out}.json").read_text())["results"]["n_skipped"] == 3
    wrong.write_text(f">long\n{'A' * 65}\n")
    assert main([*words, "--on-error", "skip", "--force"]) == 2
    assert "nothing is left: 1 skipped" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["1", "2", "100"])
def test_batch_size_and_company_change_nothing(
    there: Path, capsys: pytest.CaptureFixture[str], size: str
) -> None:
    assert main(["predict", "-m", "run", "reads.fa", "-q"]) == 0
    together = _p(_rows(capsys.readouterr().out))
    assert main(["predict", "-m", "run", "reads.fa", "-q", "--batch-size", size]) == 0
    assert np.abs(_p(_rows(capsys.readouterr().out)) - together).max() <= 2e-6  # six digits shown


def test_strands_are_those_of_the_run_unless_the_user_says_otherwise(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for words in ("run", "run --no-rc", "run --rc", "plain", "plain --rc", "run/model"):
        assert main(["predict", "reads.fa", "-m", *words.split()]) == 0
        out, err = capsys.readouterr()
        found[words] = _p(_rows(out))
        both = words in ("run", "run/model") or words.endswith(" --rc")
        assert ("both strands averaged" in err) == both
    for words in ("run --rc", "plain --rc", "run/model"):
        assert np.array_equal(found[words], found["run"])
    assert np.array_equal(found["run --no-rc"], found["plain"])
    assert np.abs(found["run"] - found["plain"]).max() > 1e-3
    assert np.abs(found["run"] - _expected([*READS.values()], rc=True)).max() < 1e-5


def test_regions_have_places_and_the_minus_strand_is_read_as_such(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-m", "plain", "-f", "genome.fa", "-r", "chr1:1-20", "-b", "x.bed", "-q"]) == 0  # fmt: skip
    out, err = capsys.readouterr()
    assert err == ""
    rows = _rows(out)
    places = [tuple(r[c] for c in ("name", "chrom", "start", "end", "strand", "length")) for r in rows]  # fmt: skip
    assert places == [
        ("chr1:1-20", "chr1", "0", "20", ".", "20"), ("ahead", "chr1", "10", "70", "+", "60"),
        ("back", "chr1", "10", "70", "-", "60"), ("chr1:301-320", "chr1", "300", "320", ".", "20"),
    ]  # fmt: skip
    ahead = GENOME[10:70]
    expected = _expected([GENOME[:20], ahead, reverse_complement(ahead), GENOME[300:320]], rc=False)
    assert np.abs(_p(rows) - expected).max() < 1e-5
    assert np.abs(expected[1] - expected[2]).max() > 1e-3


def test_file_is_complete_with_its_record_and_kept_without_force(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv.gz"
    words = ["predict", "-m", "run", "-i", "reads.fa", "-o", str(out)]
    assert main(words) == 0
    assert capsys.readouterr().out == ""
    rows = _rows(gzip.decompress(out.read_bytes()).decode(), ",")
    assert [r["name"] for r in rows] == [*READS]
    assert "p_un,sure" in rows[0]
    record = json.loads((tmp_path / "out.csv.gz.json").read_text())
    assert record["labels"] == LABELS
    assert record["settings"]["rc"] is True
    assert record["results"]["n_sequences"] == 6
    assert record["results"]["n_bases"] == sum(map(len, READS.values()))
    counts = record["results"]["n_predicted"]
    assert counts == {label: sum(r["predicted"] == label for r in rows) for label in LABELS}
    assert len(record["weights_sha256"]) == 64
    assert record["versions"]["hyenadna"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv.gz", "out.csv.gz.json"]
    before = out.read_bytes()
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, "--force", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert out.read_bytes() == before


def test_one_bad_sequence_at_the_end_leaves_no_table(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [random_dna(30, seed=i) for i in range(300)]
    (tmp_path / "good.txt").write_text("\n".join(lines))
    (tmp_path / "bad.txt").write_text("\n".join([*lines, "A" * 65]))
    words = ["predict", "-m", "plain", "-o", str(tmp_path / "o.tsv"), "--batch-size", "8"]
    assert main([*words, str(tmp_path / "bad.txt")]) == 2
    assert "sequence 'sequence_301' has 65 bases" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.txt", "good.txt"]
    assert main([*words, str(tmp_path / "good.txt")]) == 0
    assert len((tmp_path / "o.tsv").read_text().splitlines()) == 301


@pytest.mark.parametrize("words", [["-"], ["-i", "-"]])
@pytest.mark.parametrize("text", [">x\nacgtac\n>y\nN\n", "name,sequence\nx,ACGTAC\ny,n\n"])
def test_standard_input_to_standard_output(
    there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["predict", "-m", "run", *words, "-o", "-"]) == 0
    rows = _rows(capsys.readouterr().out)
    assert [(r["name"], r["length"]) for r in rows] == [("x", "6"), ("y", "1")]
    assert np.abs(_p(rows) - _expected(["ACGTAC", "N"], rc=True)).max() < 1e-5


def test_other_columns_of_a_table(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "a.tsv"
    table.write_text("gene\twindow\tlabel\ng1\tACGTTT\t1\n")
    words = ["--sequence-column", "window", "--name-column", "gene"]
    assert main(["predict", "-m", "plain", str(table), *words]) == 0
    assert _rows(capsys.readouterr().out)[0]["name"] == "g1"


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fine-tune a tiny classifier with a way to read strands; returns its run folder, beside its task."""
    root = tmp_path_factory.mktemp("finetuned")
    (root / "task").mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        rows = [f"{random_dna(20 + i, seed=100 * number + i)},{i % 2}" for i in range(16)]
        (root / "task" / f"{split}.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")

    def run(strands: str) -> Path:
        out = root / strands
        words = ["model.d_model=8", "model.n_layers=1", "model.filter_dim=8", "trainer.progress=false", "trainer.accelerator=cpu",
                 "task.n_resamples=20", "task.baselines=false", "trainer.max_epochs=2", "optimizer.lr=0.05"]  # fmt: skip
        assert main(["finetune", f"data.path={root / 'task'}", f"task.strands={strands}", f"run_dir={out}", *words]) == 0  # fmt: skip
        return out

    return run


@pytest.mark.parametrize("strands", ["forward", "predict_both"])
def test_test_split_of_a_run_gets_the_predictions_that_the_run_reports(
    finetuned: Callable[[str], Path], tmp_path: Path, strands: str
) -> None:
    run = finetuned(strands)
    with (run / "predictions.csv").open() as handle:
        reported = [row for row in csv.DictReader(handle) if row["split"] == "test"]
    words = ["predict", "-m", str(run), str(run.parent / "task" / "test.csv"), "-q", "-o"]
    for name, more in (("own", []), ("other", ["--rc" if strands == "forward" else "--no-rc"])):
        assert main([*words, str(tmp_path / f"{name}.tsv"), *more]) == 0
    own, other = (_rows((tmp_path / f"{name}.tsv").read_text()) for name in ("own", "other"))
    assert [row["predicted"] for row in own] == [row["predicted"] for row in reported]
    p, q, expected = (np.array([float(row["p_1"]) for row in rows]) for rows in (own, other, reported))  # fmt: skip
    assert np.abs(p - expected).max() < 2e-6
    assert np.abs(q - expected).max() > 1e-4


def test_a_closed_pipe_is_no_error(there: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join([random_dna(20, seed=0)] * 20_000))
    command = [sys.executable, "-m", "hyenadna", "predict", "-q", "-m", "plain", str(tmp_path / "a.txt")]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"name\tlength\tpredicted")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=120) in (1, 141)
