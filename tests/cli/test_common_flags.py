"""The flags that the verbs with a trained model share: formats, strands, skipping, and how much they say."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.cli import main

pytest.importorskip("pysam", reason="pysam is not installed: vep is left out")

GENOME = "".join(random.Random(1).choices("ACGT", k=200))
FILES = {
    "g.fa": f">c\n{GENOME}\n>n\n{'N' * 30}{GENOME[:30]}\n",
    "mixed.fa": f">good\n{GENOME[:40]}\n>protein\nMKLV\nEFQ\n>empty\n>last\nACGTACGT\n",
    "mixed.csv": "name,sequence\na,ACGTA\nb,\nc,ACXT\nd,ACGTT\n",
    "mixed.txt": "ACGTA\nhello\nACGTT\n",
    "mixed.bed": "c\t1\t9\tin\nz\t1\t5\tnowhere\nc\t190\t400\tbeyond\n",
    "n.bed": "n\t0\t10\nn\t40\t44\n",
    "nowhere.bed": "z\t1\t5\n",
}
VERBS = {
    "score": "score -f g.fa -r c:1-40",
    "vep": f"vep -f g.fa --variant c:5:{GENOME[4]}>{'A' if GENOME[4] != 'A' else 'C'}",
    "embed": "embed -f g.fa -r c:1-40 -o {}.npz",
    "ism": "ism -f g.fa -r c:11-14",
    "generate": "generate -p ACGT -n 5",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=66))
    model.save_pretrained(tmp_path / "model")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run(command: str, *more: str) -> int:
    verb, *words = command.split()
    return main([verb, "-m", "model", *words, *more])


def _refused(capsys: pytest.CaptureFixture[str], command: str, *more: str) -> str:
    assert _run(command, *more) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    return err


@pytest.mark.parametrize("verb", VERBS)
def test_verbose_says_what_a_run_uses_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    assert _run(VERBS[verb].format("x")) == 0
    usual = capsys.readouterr()
    assert _run(VERBS[verb].format("y"), "-v") == 0
    told = capsys.readouterr()
    assert told.out == usual.out
    assert "weights_sha256: " in told.err
    assert "device=cpu" in told.err
    assert "weights_sha256" not in usual.err
    assert "give one of them" in _refused(capsys, VERBS[verb].format("z"), "-v", "-q")


@pytest.mark.parametrize("verb", ["score", "vep", "embed", "ism"])
def test_dtype_auto_is_float32(folder: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    for number, dtype in enumerate(("auto", "fp32")):
        assert _run(VERBS[verb].format(number), "--dtype", dtype, "-v") == 0
    assert capsys.readouterr().err.count("dtype=fp32") == 2
    assert "expected auto, fp32 or bf16" in _refused(capsys, VERBS[verb].format(9), "--dtype", "x")


def _names(text: str, delimiter: str = "\t") -> list[str]:
    return [row["name"] for row in csv.DictReader(io.StringIO(text), delimiter=delimiter)]


@pytest.mark.parametrize(
    ("words", "names", "first"),
    [
        ("-i mixed.fa", ["good", "last"], "mixed.fa:4: record 'protein'"),
        ("-f mixed.fa", ["good", "last"], "mixed.fa:4: record 'protein'"),
        ("-i mixed.csv", ["a", "d"], "mixed.csv:3: sequence 'b' is empty"),
        ("-i mixed.txt", ["sequence_1", "sequence_3"], "mixed.txt:2: sequence 'sequence_2'"),
        ("-f g.fa -b mixed.bed", ["in"], "mixed.bed:2: contig 'z'"),
    ],
)
def test_what_is_wrong_is_skipped_counted_and_told(
    folder: Path, capsys: pytest.CaptureFixture[str], words: str, names: list[str], first: str
) -> None:
    assert first in _refused(capsys, f"score {words}")  # stop is the default
    n_skipped = 1 if "txt" in words else 2
    assert _run(f"score {words} --on-error skip") == 0
    out, err = capsys.readouterr()
    assert _names(out) == names
    assert f"skipped {n_skipped}, the first as {first}" in err
    assert _run(f"score {words} --on-error skip -o x.tsv -q") == 0
    assert json.loads(Path("x.tsv.json").read_text())["results"]["n_skipped"] == n_skipped
    assert _run(f"embed {words} --on-error skip -o x.npz -q") == 0
    with np.load("x.npz") as found:
        assert found["name"].tolist() == names


def test_scores_beside_skipped_sequences_are_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("good.fa").write_text(f">good\n{GENOME[:40]}\n>last\nACGTACGT\n")
    assert _run("score good.fa -q") == 0
    alone = capsys.readouterr().out
    assert _run("score mixed.fa -q --on-error skip") == 0
    assert capsys.readouterr().out == alone


def test_a_file_that_is_wrong_as_such_is_not_skipped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("twice.fa").write_text(">a\nACGT\n>a\nACGT\n")
    assert "was seen before" in _refused(capsys, "score twice.fa --on-error skip")
    for words in ("score -f g.fa", "score --per-base x.npz -f g.fa", "embed -o x.npz -f g.fa", "ism -f g.fa"):  # fmt: skip
        assert "nothing is left: 1 skipped" in _refused(capsys, f"{words} -b nowhere.bed --on-error skip")  # fmt: skip
        assert not list(folder.glob("x.npz*"))
    for words in ("score g.fa", "embed g.fa -o x.npz", "ism -f g.fa -r c:1-5", "generate -p A"):
        assert "expected stop or skip" in _refused(capsys, f"{words} --on-error maybe")


def test_strands_have_one_spelling_in_all_verbs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = []
    for words in ("", "--no-rc", "--rc"):
        assert _run(f"score -f g.fa -r c:1-40 -q {words}") == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    for name, words in (("a", "--rc"), ("b", "--strands average"), ("c", "--no-rc")):
        assert _run(f"embed -f g.fa -r c:1-40 -q -o {name}.npz {words}") == 0
    a, b, c = (np.load(f"{name}.npz")["embedding"] for name in "abc")
    assert (a == b).all()
    assert not np.allclose(a, c)
    assert "short for --strands" in _refused(capsys, "embed g.fa -o d.npz --rc --strands both")


def test_format_says_what_a_name_does_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("score g.fa -q --format csv") == 0
    assert _names(capsys.readouterr().out, ",") == ["c", "n"]
    assert _run("score g.fa -q --format csv -o scores") == 0
    assert Path("scores").read_text().startswith("name,length")
    assert _run("ism -f g.fa -r c:1-3 -q --format npz -o arrays") == 0
    assert np.load("arrays")["llr"].shape == (3, 4)
    assert _run("embed g.fa -q --format h5 -o vectors") == 0
    assert _run("embed g.fa -q --format h5 -o vectors --append") == 0
    assert Path("vectors").read_bytes()[1:4] == b"HDF"
    assert _run("score -f g.fa -q --format npz --per-base track") == 0
    assert np.load("track")["c"].shape == (200,)
    for words, said in (
        ("score g.fa -o x.parquet", "does not tell its format"),
        ("score g.fa --format npz", "expected tsv or csv"),
        ("score -f g.fa --per-base x --format tsv", "expected bedgraph, bigwig, npz"),
        ("score -f g.fa --per-base - --format npz", "standard output takes bedgraph"),
        ("embed g.fa -o x --format csv", "expected npz, parquet, h5 or zarr"),
        ("ism -f g.fa -r c:1-3 -o x.json", "does not tell its format"),
        ("ism -f g.fa -r c:1-3 --format npz", "arrays (npz) need a file"),
    ):
        assert said in _refused(capsys, words)


def test_a_track_goes_to_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("score -f g.fa -r c:11-20 -r c:15-25 --per-base - -q") == 0
    printed = capsys.readouterr().out
    assert _run("score -f g.fa -r c:11-25 --per-base x.bedGraph -q") == 0
    header, *lines = printed.splitlines()
    assert header.startswith("#hyenadna {")
    assert lines == Path("x.bedGraph").read_text().splitlines()[1:]
    assert lines[-1].split("\t")[:3] == ["c", "24", "25"]


def test_a_bigwig_has_its_record_beside_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyBigWig", reason="pyBigWig is not installed")
    Path("x.bw.json").write_text("old")
    assert "x.bw.json exists already" in _refused(capsys, "score -f g.fa --per-base x.bw")
    assert _run("score -f g.fa --per-base x.bw -q --force") == 0
    record = json.loads(Path("x.bw.json").read_text())
    assert len(record["weights_sha256"]) == 64
    assert (record["track"], record["settings"]["rc"]) == ("log_p", False)
