"""UCSC's gene tables: where their columns stand, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hyenadna.errors import FileFormatError
from hyenadna.io import is_genepred, read_genepred
from hyenadna.sequence import Interval

PLAIN = "NM_1\tchr1\t-\t100\t400\t120\t390\t2\t100,300,\t200,400,"
EXTENDED = "\t0\tGENE1\tcmpl\tcmpl\t0,1,"
KNOWN = "\tP12345\tuc001aaa.3"
EXONS = [Interval("chr1", 100, 200, "-"), Interval("chr1", 300, 400, "-")]


@pytest.mark.parametrize(
    ("line", "gene"),
    [
        (PLAIN, ""),
        (PLAIN + KNOWN, ""),
        (PLAIN + EXTENDED, ""),
        (f"585\t{PLAIN}{EXTENDED}", ""),  # a dump of the table, with its bin
        (f"GENE1\t{PLAIN}", "GENE1"),  # refFlat
        (PLAIN.replace(",\t", "\t").rstrip(","), ""),
    ],
)
def test_every_layout_gives_the_same_exons(tmp_path: Path, line: str, gene: str) -> None:
    path = tmp_path / "genes.txt"
    path.write_text(f"#comment\n\n{line}\r\n")
    assert is_genepred(path)
    transcript, *exons = read_genepred(path)
    assert (transcript.kind, transcript.interval) == ("transcript", Interval("chr1", 100, 400, "-"))
    assert (transcript.value("ID"), transcript.value("gene")) == ("NM_1", gene)
    assert [(exon.kind, exon.interval, exon.value("Parent")) for exon in exons] == [
        ("exon", interval, "NM_1") for interval in EXONS
    ]


def test_a_name_at_two_loci_is_two_transcripts(tmp_path: Path) -> None:
    path = tmp_path / "refGene.txt.gz"
    path.write_bytes(gzip.compress(f"{PLAIN}\n{PLAIN}\n".encode()))
    owners = [feature.value("Parent") for feature in read_genepred(path) if feature.kind == "exon"]
    assert owners == ["NM_1", "NM_1", "NM_1-2", "NM_1-2"]


@pytest.mark.parametrize(
    "text",
    [
        "chr1\tx\texon\t1\t9\t.\t+\t.\tParent=a\n",
        "chr1\t100\t400\tNM_1\t0\t-\t120\t390\t0\t2\t100,100\t0,200\n",  # BED12
        "##gff-version 3\nchr1\tx\tgene\t1\t9\t.\t+\t.\tID=a\n",
    ],
)
def test_other_tables_are_told_apart(tmp_path: Path, text: str) -> None:
    path = tmp_path / "genes"
    path.write_text(text)
    assert not is_genepred(path)
    with pytest.raises(FileFormatError, match="expected genePred columns"):
        list(read_genepred(path))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\t2\t", "\t3\t", "exonCount is 3, but there are 2"),
        ("200,400", "200", "2 exonStarts and 1 exonEnds"),
        ("100,300", "300,100", "not ascending"),
        ("200,400", "200,401", "not ascending within the transcript, 100 to 400"),
        ("200,400", "100,400", "not ascending"),
        ("200,400", "2_0,400", "whole numbers"),
        ("chr1", "", "must not be empty"),
        ("\t100\t400", "\t100\t4e2", "expected genePred columns"),
    ],
)
def test_damaged_lines_are_refused_with_their_number(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    path = tmp_path / "genes.txt"
    path.write_text(f"{PLAIN}\n{PLAIN.replace(old, new)}\n")
    with pytest.raises(FileFormatError, match=words) as caught:
        list(read_genepred(path))
    assert f"{path}:2" in str(caught.value)


def test_nothing_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "genes.txt"
    path.write_text("# a comment only\n")
    assert not is_genepred(path)
    with pytest.raises(FileFormatError, match="no transcript"):
        list(read_genepred(path))
