"""GenBank: sequence and features, and refusal of what Biopython would read as if it were whole."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from hyenadna.errors import FileFormatError, SequenceError
from hyenadna.io import read_genbank
from hyenadna.sequence import Interval

RECORD = """\
LOCUS       TOY1                      30 bp    DNA     linear   PLN 01-JAN-2020
DEFINITION  Toy contig.
ACCESSION   TOY1
VERSION     TOY1.2
KEYWORDS    .
SOURCE      .
  ORGANISM  .
FEATURES             Location/Qualifiers
     source          1..30
                     /organism="toy"
     gene            complement(<4..9)
                     /gene="abc"
                     /note="one; two"
     mRNA            join(11..15,21..25)
                     /locus_tag="T1"
     misc_feature    3^4
     misc_feature    J00194.1:1..5
     misc_feature    join(1..3,complement(7..9))
ORIGIN
        1 acgtacgtac ggggggcccc ttttttaaan
//
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_record_has_sequence_and_features(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "toy.gb"
    path.write_bytes(gzip.compress(RECORD.encode()) if packed else RECORD.encode())
    (record,) = read_genbank(path)
    assert record.name == "TOY1.2"
    assert record.description == "Toy contig"
    assert record.sequence == "ACGTACGTACGGGGGGCCCCTTTTTTAAAN"
    source, gene, mrna, trans = record.features
    assert source.interval == Interval("TOY1.2", 0, 30, "+")
    assert (gene.kind, gene.interval) == ("gene", Interval("TOY1.2", 3, 9, "-"))
    assert (gene.value("gene"), gene.value("note"), gene.parts) == ("abc", "one; two", ())
    assert mrna.interval == Interval("TOY1.2", 10, 25, "+")
    assert mrna.parts == (Interval("TOY1.2", 10, 15, "+"), Interval("TOY1.2", 20, 25, "+"))
    assert trans.interval == Interval("TOY1.2", 0, 9, ".")
    assert record.n_skipped_features == 2


def test_windows_line_ends_and_several_records(tmp_path: Path) -> None:
    text = (RECORD + "\n" + RECORD.replace("TOY1", "TOY2")).replace("\n", "\r\n")
    names = [record.name for record in read_genbank(write(tmp_path / "two.gb", text))]
    assert names == ["TOY1.2", "TOY2.2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECORD.replace("//\n", ""), "truncated|end of file"),
        (RECORD[: RECORD.index("cccc")], "truncated|end of file|length"),
        (RECORD[: RECORD.index("ORIGIN")], "end of|truncated"),
        (RECORD[: RECORD.index("misc_feature")], "end of|truncated"),
        (RECORD.replace("ttttttaaan", "tttt"), "length"),
        (RECORD.replace("30 bp", "xx bp"), "malformed GenBank"),
        (RECORD[: RECORD.index("ORIGIN")] + "//\n", "marker '//' found"),
        (RECORD[: RECORD.index("ORIGIN")] + "CONTIG      join(X1.1:1..30)\n//\n", "no sequence"),
        (RECORD + RECORD, "'TOY1.2' was seen before"),
        (">a\nACGT\n", "holds no record"),
        ("\n\n", "holds no record"),
    ],
    ids=[
        "no-end",
        "cut-in-sequence",
        "cut-before-origin",
        "cut-in-features",
        "short",
        "bad-locus",
        "no-origin",
        "contig-only",
        "duplicate",
        "fasta",
        "blank",
    ],
)
def test_broken_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "broken.gb", text)
    with pytest.raises(FileFormatError, match=message) as caught:
        list(read_genbank(path))
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)


def test_protein_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "protein.gb", RECORD.replace("acgtacgtac", "mkvlaaefil"))
    with pytest.raises(SequenceError, match="protein"):
        list(read_genbank(path))


def test_missing_and_truncated_gzip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_genbank(tmp_path / "missing.gb")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(RECORD.encode())[:-20])
    with pytest.raises(FileFormatError, match="truncated"):
        list(read_genbank(tmp_path / "cut.gz"))


def test_feature_of_unknown_place_is_counted(tmp_path: Path) -> None:
    text = RECORD.replace("join(11..15,21..25)", "join(11..15,?..25)")
    (record,) = read_genbank(write(tmp_path / "open.gb", text))
    assert record.n_skipped_features == 3
