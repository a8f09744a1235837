"""``hyenadna datasets`` as a user meets it."""

from __future__ import annotations

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
