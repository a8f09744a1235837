"""``hyenadna pack`` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyenadna.cli import main
from hyenadna.data.genome import Genome


def test_pack_writes_a_genome_and_one_line(toy_fasta: Path, tmp_path: Path, capsys) -> None:
    assert main(["pack", str(toy_fasta), "-o", str(tmp_path / "toy.2bit")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path}/toy.2bit: 2 contigs, 1,000 bases, 20 N, 100 soft-masked\n"
    assert captured.err == ""
    assert Genome(tmp_path / "toy.2bit").contigs == {"chrA": 600, "chrB": 400}


def test_pack_counts_ambiguous_letters(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGRYN\n")
    assert main(["pack", str(tmp_path / "x.fa"), "-o", str(tmp_path / "x.2bit")]) == 0
    assert (
        "1 contig, 6 bases, 3 N (2 of them were other IUPAC codes), 0 soft-masked"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (">p\nMKLVE\n", "protein"),
        ("", "empty"),
        (">a\nAC\n>a\nGT\n", "seen before"),
        ("ACGT\n", "expected a header"),
    ],
)
def test_pack_refuses_in_one_sentence(tmp_path: Path, capsys, content: str, words: str) -> None:
    (tmp_path / "x.fa").write_text(content)
    assert main(["pack", str(tmp_path / "x.fa"), "-o", str(tmp_path / "x.2bit")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert [file.name for file in tmp_path.iterdir()] == ["x.fa"]


def test_pack_does_not_overwrite_without_force(toy_fasta: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "toy.2bit"
    target.write_text("precious")
    assert main(["pack", str(toy_fasta), "-o", str(target)]) == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert main(["pack", str(toy_fasta), "-o", str(target), "--force"]) == 0
    assert Genome(target).contigs["chrB"] == 400
