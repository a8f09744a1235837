"""``hyenadna datasets`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyenadna.cli import main
from hyenadna.data.manifest import BundledDataset

YEAST = ["-g", "bundled:scerevisiae/genome.2bit", "-a", "bundled:scerevisiae/genes.gff3.gz"]


def test_list_names_the_bundled_genome(capsys) -> None:
    assert main(["datasets", "list", "--verify"]) == 0
    out = capsys.readouterr().out
    assert "bundled:scerevisiae/genome.2bit" in out
    assert "verified" in out


def test_list_reports_damage(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BundledDataset, "damaged_files", lambda _self: ["genome.2bit"])
    assert main(["datasets", "list", "--verify"]) == 2
    assert "damaged (genome.2bit)" in capsys.readouterr().err


def test_build_promoters_makes_a_task_of_yeast(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "promoters"
    assert (
        main(
            [
                "datasets",
                "build",
                "promoters",
                *YEAST,
                "-o",
                str(folder),
                "--test-contigs",
                "chrI,chrXVI",
            ]
        )
        == 0
    )
    captured = capsys.readouterr()
    assert "chrI, chrXVI" in captured.out
    assert "left out of 5,953 starts" in captured.err
    lines = (folder / "test.csv").read_text().splitlines()
    assert lines[0] == "sequence,label"
    assert {len(line) for line in lines[1:]} == {302}
    labels = [line[-1] for line in lines[1:]]
    assert labels.count("0") == labels.count("1") > 500
    assert main(["datasets", "build", "promoters", *YEAST, "-o", str(folder)]) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--test-contigs", "chrM"], "'chrM'"),
        (["--upstream", "-5"], "upstream"),
        (["--kinds", "promoter"], "promoter"),
    ],
)
def test_build_promoters_refuses_in_one_sentence(
    tmp_path: Path, capsys, arguments: list[str], words: str
) -> None:
    assert (
        main(["datasets", "build", "promoters", *YEAST, "-o", str(tmp_path / "x"), *arguments]) == 2
    )
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert words in captured.err
    assert list(tmp_path.iterdir()) == []


def test_splice_and_peak_tasks_are_built_and_audited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    genome, genes = "bundled:scerevisiae/genome.2bit", "bundled:scerevisiae/genes.gff3.gz"
    task = str(tmp_path / "splice")
    assert main(["datasets", "build", "splice", "-g", genome, "-a", genes, "-o", task]) == 0
    said = capsys.readouterr()
    assert "train\t" in said.out
    assert "splice sites: 11 without GT or AG" in said.err
    assert main(["datasets", "audit", task, "--json", f"{tmp_path}/audit.json"]) == 0
    assert "cheater's MCC" in capsys.readouterr().out
    pairs = json.loads((tmp_path / "audit.json").read_text())["pairs"]
    assert all(pair["copies"] == pair["reverse_complements"] == 0 for pair in pairs)
    words = ["datasets", "build", "splice", "-g", genome, "-a", genes, "-o", f"{tmp_path}/more", "--split-by", "none", "--negatives", "near"]  # fmt: skip
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("train\t")
    assert not (tmp_path / "more/test.csv").exists()
    files = ["--train", f"{task}/train.csv", "--dev", f"{task}/train.csv"]
    assert main(["datasets", "audit", *files, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"][0]["copies"] == found["pairs"][0]["rows"] > 0
    assert found["files"] == {
        "train": f"{task}/train.csv",
        "dev": f"{task}/train.csv",
        "test": None,
    }
    (tmp_path / "peaks.bed").write_text("".join(f"chr{c}\t{s}\t{s + 99}\n" for c in ("I", "II", "III") for s in range(999, 99999, 3000)))  # fmt: skip
    words = ["datasets", "build", "peaks", "-g", genome, "-p", f"{tmp_path}/peaks.bed", "-o", f"{tmp_path}/peaks"]  # fmt: skip
    assert main(words) == 0
    assert main(words) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*words, "--force", "--negatives", "genes"]) == 2
    assert "need an annotation" in capsys.readouterr().err
    assert main(["datasets", "audit", f"{tmp_path}/nothing"]) == 2


def test_a_genomic_benchmark_becomes_a_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "id,region,start,end,strand\n"
    for split, first in (("train", 1000), ("test", 50_000)):
        for number, label in enumerate(("cds", "other")):
            places = range(first + 50 * number, first + 50 * number + 4000, 100)
            lines = "".join(f"{at},chrI,{at},{at + 40},+\n" for at in places)
            path = tmp_path / "toy" / split / f"{label}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(header + lines)
    yeast, out = "bundled:scerevisiae/genome.2bit", str(tmp_path / "out")
    words = ["datasets", "build", "genomic-benchmark", str(tmp_path / "toy"), "-o", out]
    assert main(words) == 2
    assert "--genome cds=FILE" in capsys.readouterr().err
    assert main([*words, "-g", yeast, "-g", yeast]) == 2
    assert "two files for all classes" in capsys.readouterr().err
    assert main([*words, "-g", yeast, "-g", f"worm={yeast}"]) == 2
    assert "the class 'worm'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*words, "-g", yeast, "-g", f"cds={yeast}", "--dev-fraction", "0.25"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "train\t60 rows\t30 cds, 30 other",
        "dev\t20 rows\t10 cds, 10 other",
        "test\t80 rows\t40 cds, 40 other",
    ]
    assert main([*words, "-g", yeast]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([*words[:3], "human_enhancers_cohn", "-o", str(tmp_path / "x")]) == 2
    assert "datasets fetch genomic_benchmarks" in capsys.readouterr().err
