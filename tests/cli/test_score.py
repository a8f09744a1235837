"""``hyenadna score`` as a user meets it."""

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM, HyenaForSequenceClassification
from hyenadna.cli import main
from hyenadna.testing import random_dna


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    network = HyenaForCausalLM(
        HyenaConfig(d_model=16, n_layers=1, max_seq_len=130, filter_dim=8, tie_embeddings=False)
    )
    with torch.no_grad():
        network.lm_head.weight.mul_(50)
    network.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_stdin(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return set_stdin


def _table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def _refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail: one sentence on stderr, nothing on stdout, status 2."""
    assert main(["score", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err
    return lines[0]


def test_regions_and_bed_to_standard_output(
    model: str, toy_fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bed = tmp_path / "a.bed"
    bed.write_text("chrB\t0\t100\tpeak\t0\t-\n")
    argv = [
        "score",
        "-m",
        model,
        "-f",
        str(toy_fasta),
        "-r",
        "chrA:1-50",
        "-r",
        "chrB",
        "-b",
        str(bed),
    ]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    rows = _table(out)
    assert [(r["name"], r["chrom"], r["start"], r["end"], r["strand"]) for r in rows] == [
        ("chrA:1-50", "chrA", "0", "50", "."), ("chrB", "chrB", "0", "400", "."), ("peak", "chrB", "0", "100", "-"),
    ]  # fmt: skip
    assert [(r["length"], r["n_scored"]) for r in rows] == [
        ("50", "49"),
        ("400", "399"),
        ("100", "99"),
    ]
    assert err.startswith("scored 3 sequences, 550 bases: ")
    assert "longer than 130 bases in overlapping windows" in err


def test_a_score_does_not_depend_on_its_company(
    model: str, toy_fasta: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(*words: str) -> dict[str, float]:
        assert main(["score", "-m", model, "-f", str(toy_fasta), *words]) == 0
        return {r["name"]: float(r["mean_log_likelihood"]) for r in _table(capsys.readouterr().out)}

    regions = ["chrA:1-50", "chrA:1-7", "chrB:11-140", "chrB", "chrA:470-600"]
    together = score(*(w for r in regions for w in ("-r", r)))
    for i, region in enumerate(regions):
        assert score("-r", region)[region] == pytest.approx(together[region], abs=1e-5)
        turned = regions[i:] + regions[:i]
        again = score("--batch-size", str(i + 1), *(w for r in turned for w in ("-r", r)))
        assert again == pytest.approx(together, abs=1e-5)
    assert len(set(together.values())) == len(regions)


def test_file_output_is_complete_with_its_record(
    model: str, toy_fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scores.tsv"
    argv = [
        "score",
        "-m",
        model,
        "-f",
        str(toy_fasta),
        "-o",
        str(out),
        "--rc",
        "--window",
        "64",
        "--stride",
        "16",
    ]
    assert main(argv) == 0
    assert capsys.readouterr().out == ""
    assert [r["name"] for r in _table(out.read_text())] == ["chrA", "chrB"]
    record = json.loads((tmp_path / "scores.tsv.json").read_text())
    assert record["settings"] == {
        "rc": True,
        "window": 64,
        "stride": 16,
        "batch_size": "auto",
        "device": record["settings"]["device"],
        "dtype": "fp32",
    }
    assert len(record["weights_sha256"]) == 64
    assert record["results"]["n_sequences"] == 2
    assert record["versions"]["hyenadna"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scores.tsv", "scores.tsv.json", "toy.fa"]

    before = out.read_text()
    for blocker in ("scores.tsv", "scores.tsv.json"):
        assert "exists already" in _refused(capsys, *argv[1:])
        (tmp_path / blocker).rename(tmp_path / "aside")
        assert "exists already" in _refused(capsys, *argv[1:])
        (tmp_path / "aside").rename(tmp_path / blocker)
    assert out.read_text() == before
    assert main([*argv, "--force", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert out.read_text() == before


def test_csv_and_gzip_output(model: str, toy_fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv.gz"
    assert main(["score", "-m", model, "-f", str(toy_fasta), "-o", str(out), "-q"]) == 0
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(out.read_bytes()).decode())))
    assert [r["name"] for r in rows] == ["chrA", "chrB"]


@pytest.mark.parametrize("text", ["name,sequence\nx,ACGTAC\ny,n\n", ">x\nacgtac\n>y\nN\n"])
def test_sequences_from_standard_input(
    model: str, stdin: Callable[[str], None], capsys: pytest.CaptureFixture[str], text: str
) -> None:
    stdin(text)
    assert main(["score", "-m", model, "-i", "-", "-o", "-"]) == 0
    out, err = capsys.readouterr()
    first, second = _table(out)
    assert (first["name"], first["length"], first["n_scored"]) == ("x", "6", "5")
    assert (second["n_scored"], second["log_likelihood"], second["bits_per_base"]) == (
        "0",
        "0.000000",
        "NaN",
    )
    assert "1 without a base to score (NaN)" in err


def test_a_genome_from_standard_input(
    model: str, stdin: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    stdin(">x\nACGTAC\n")
    assert main(["score", "-m", model, "-f", "-"]) == 0
    assert _table(capsys.readouterr().out)[0]["chrom"] == "x"
    stdin(">x\nACGTAC\n")
    assert "must be a regular file" in _refused(capsys, "-m", model, "-f", "-", "-r", "x:1-2")


def test_other_column_names(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "a.csv"
    table.write_text("gene,promoter,label\ng1,ACGTTT,1\n")
    columns = ["--sequence-column", "promoter", "--name-column", "gene"]
    assert main(["score", "-m", model, "-i", str(table), *columns]) == 0
    assert _table(capsys.readouterr().out)[0]["name"] == "g1"
    assert "--sequence-column" in _refused(capsys, "-m", model, "-i", str(table))


@pytest.mark.parametrize("text", [">n\nNNNNNN\n", ">a\nA\n", ">a\nRYRY\n>b\nN\n"])
def test_nothing_to_score_leaves_no_output(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    fasta = tmp_path / "n.fa"
    fasta.write_text(text)
    for out in ("-", str(tmp_path / "out.tsv")):
        assert "there is nothing to score" in _refused(
            capsys, "-m", model, "-f", str(fasta), "-o", out
        )
    assert [p.name for p in tmp_path.iterdir()] == ["n.fa"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to score"),
        (["-f", "{fasta}", "-i", "{fasta}"], "one of the two"),
        (["-i", "{fasta}", "-r", "chrA:1-5"], "give the genome with -f"),
        (["-f", "{fasta}", "--name-column", "x"], "about tables given with -i"),
        (
            ["-f", "{fasta}", "-r", "chrC:1-5"],
            "contig 'chrC' is not in the genome (did you mean chrB, chrA)",
        ),
        (["-f", "{fasta}", "-r", "chrA:590-601"], "beyond contig 'chrA'"),
        (["-f", "{fasta}", "-r", "chrA:5-1"], "from 5 to 1"),
        (["-f", "{fasta}", "-b", "{bed}"], "start 9 is not below end 3"),
        (["-f", "{folder}/none.fa"], "no such file"),
        (["-f", "{protein}"], "is this a protein"),
        (["-i", "{empty}"], "is empty"),
        (["-f", "{fasta}", "-o", "{folder}/none/out.tsv"], "does not exist"),
        (["-f", "{fasta}", "-o", "{folder}"], "is a folder"),
        (["-f", "{fasta}", "--window", "131"], "expected 2 to 130"),
        (["-f", "{fasta}", "--window", "9", "--stride", "9"], "stride is 9"),
        (["-f", "{fasta}", "--batch-size", "0"], "--batch-size is '0'"),
        (["-f", "{fasta}", "--device", "tpu"], "device 'tpu' is unknown"),
        (
            ["-f", "{fasta}", "--dtype", "fp8"],
            "--dtype 'fp8' is unknown; expected auto, fp32 or bf16",
        ),
        (["-f", "{fasta}", "--device", "cuda:77"], "is not there"),
        (["-f", "{fasta}", "--window", "many"], "Invalid value for '--window'"),
    ],
)
def test_a_users_mistake_is_one_sentence(
    model: str,
    toy_fasta: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    places = {"folder": str(tmp_path), "fasta": str(toy_fasta)}
    for name, text in (("bed", "chrA\t9\t3\n"), ("protein", ">p\nMEEPQ\n"), ("empty", "")):
        places[name] = str(tmp_path / f"{name}.{'bed' if name == 'bed' else 'fa'}")
        Path(places[name]).write_text(text)
    before = sorted(tmp_path.iterdir())
    found = _refused(capsys, "-m", model, *(word.format(**places) for word in words))
    assert message.split(" (")[0] in found
    assert sorted(tmp_path.iterdir()) == before


def test_models_that_cannot_score_are_refused(
    model: str, toy_fasta: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = HyenaConfig(d_model=8, n_layers=1, max_seq_len=16)
    HyenaForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    fasta = str(toy_fasta)
    assert "a sequence classifier" in _refused(
        capsys, "-m", str(tmp_path / "classifier"), "-f", fasta
    )
    assert "no model at" in _refused(capsys, "-m", str(tmp_path / "none"), "-f", fasta)
    wide = tmp_path / "wide"
    HyenaForCausalLM(HyenaConfig(d_model=16, n_layers=1, max_seq_len=16)).save_pretrained(wide)
    settings = json.loads((wide / "config.json").read_text())
    (wide / "config.json").write_text(json.dumps(settings | {"d_model": 8}))
    assert "of another shape than its configuration" in _refused(
        capsys, "-m", str(wide), "-f", fasta
    )


def test_a_closed_pipe_is_no_error(model: str, tmp_path: Path) -> None:
    table = tmp_path / "a.txt"
    table.write_text("\n".join([random_dna(20, seed=0)] * 20_000))
    command = [sys.executable, "-m", "hyenadna", "score", "-q", "-m", model, "-i", str(table)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"name\tlength")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=120) in (1, 141)  # click answers 1 before our main can


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_one_sentence(
    model: str, toy_fasta: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("-m", model, "-f", str(toy_fasta), "-o", "/dev/full")
    assert "no space is left" in _refused(capsys, *argv)


def test_real_chromosome(model: str, test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fasta = str(test_data / "genomes" / "human_grch37_chr20.fa.gz")
    assert (
        main(
            [
                "score",
                "-m",
                model,
                "-f",
                fasta,
                "-r",
                "20:1,000,001-1,000,500",
                "-r",
                "20:60000-60010",
            ]
        )
        == 0
    )
    rows = _table(capsys.readouterr().out)
    assert [r["n_scored"] for r in rows] == ["499", "10"]
    assert "beyond contig '20'" in _refused(
        capsys, "-m", model, "-f", fasta, "-r", "20:63,025,000-63,025,521"
    )
    assert "nothing to score" in _refused(capsys, "-m", model, "-f", fasta, "-r", "20:1-1000")
    assert "did you mean 20" in _refused(capsys, "-m", model, "-f", fasta, "-r", "chr20:1-1000")


def test_an_input_is_never_overwritten(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = tmp_path / "reads.fa"
    reads.write_text(">a\nACGTACGT\n")
    assert main(["score", "-m", model, "-i", str(reads), "-o", str(reads), "--force"]) == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert reads.read_text() == ">a\nACGTACGT\n"
