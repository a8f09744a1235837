"""FASTA as a stream: every accepted layout gives the same records, every broken file one sentence with its place."""

from __future__ import annotations

import gzip
import io
import os
from pathlib import Path

import pytest
from Bio import bgzf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyenadna.errors import FileFormatError, SequenceError
from hyenadna.io import FastaRecord, read_fasta

RECORDS = [
    FastaRecord("chr1", "first contig  of two", "ACGTNacgtnRYswKM"),
    FastaRecord("chr2", "", "GGGGCCCC"),
]
PLAIN = b">chr1 first contig  of two\nACGTNacg\ntnRYswKM\n>chr2\nGGGGCCCC\n"


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN.rstrip(b"\n"),
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r"),
        b"\n\n" + PLAIN.replace(b"\n", b"\n\n") + b"\n \n",
        b"; an old comment\n" + PLAIN,
        b"\xef\xbb\xbf" + PLAIN,
        b">chr1 first contig  of two\nA\nCGTNacgtnRYswK\nM\n> chr2 \nGGGG CC\tCC  \n",
    ],
    ids=[
        "plain",
        "no-final-newline",
        "crlf",
        "cr",
        "blank-lines",
        "comment",
        "byte-order-mark",
        "ragged",
    ],
)
def test_read_fasta_accepts_every_layout(tmp_path: Path, data: bytes) -> None:
    assert list(read_fasta(write(tmp_path / "a.fa", data))) == RECORDS


def test_read_fasta_decompresses_gzip_and_bgzip(tmp_path: Path) -> None:
    assert list(read_fasta(write(tmp_path / "a.fa.gz", gzip.compress(PLAIN)))) == RECORDS
    with bgzf.BgzfWriter(os.fspath(tmp_path / "b.fa.gz"), "wb") as out:
        out.write(PLAIN)
    assert list(read_fasta(tmp_path / "b.fa.gz")) == RECORDS


def test_read_fasta_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PLAIN)))
    assert list(read_fasta("-")) == RECORDS


def test_tab_ends_the_name(tmp_path: Path) -> None:
    (record,) = read_fasta(write(tmp_path / "a.fa", ">chr1\tthe rest\nA\n"))
    assert record[:2] == ("chr1", "the rest")


def test_records_are_streamed(tmp_path: Path) -> None:
    """The first record comes out although the third is broken."""
    records = read_fasta(write(tmp_path / "a.fa", ">a\nA\n>b\nC\n>c\nEEE\n"))
    assert next(records).name == "a"
    with pytest.raises(SequenceError):
        list(records)


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        ("\n\n", 2, "holds no record"),
        ("ACGT\n", 1, "expected a header that starts with '>', found 'ACGT'"),
        ("\nname,sequence\n>a\nA\n", 2, "expected a header"),
        ("@read1\nACGT\n+\nIIII\n", 1, "looks like FASTQ"),
        (">a\nA\n>\nC\n", 3, "no name"),
        (">a\nA\n>  \nC\n", 3, "no name"),
        (">a\nA\n>b\nC\n>a other\nG\n", 5, "'a' was seen before, on line 1"),
        (">a\n>b\nC\n", 1, "'a' has no bases"),
        (">a\nA\n\n>b\n\n", 4, "'b' has no bases"),
        (">a", 1, "'a' has no bases"),
    ],
)
def test_broken_fasta_is_refused_with_its_line(
    tmp_path: Path, data: str, line: int, message: str
) -> None:
    path = write(tmp_path / "broken.fa", data)
    with pytest.raises(FileFormatError, match=message) as caught:
        list(read_fasta(path))
    assert caught.value.line == line
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert "\n" not in str(caught.value)


def test_protein_is_refused_with_line_and_position(tmp_path: Path) -> None:
    path = write(tmp_path / "protein.fa", ">a\nACGT\n>sp|P1 kinase\nMKV\nATEL\n")
    with pytest.raises(SequenceError, match="is this a protein FASTA") as caught:
        list(read_fasta(path))
    error = caught.value
    assert str(error).startswith(f"{path}:5: record 'sp|P1' has 'E' at position 6")
    assert (error.record, error.position, error.character) == ("sp|P1", 5, "E")


@pytest.mark.parametrize("letter", ["-", "*", ".", "1", "é", ";", "J"])
def test_letters_that_are_no_nucleotides_are_refused(tmp_path: Path, letter: str) -> None:
    with pytest.raises(SequenceError) as caught:
        list(read_fasta(write(tmp_path / "a.fa", f">a\nAC{letter}T\n")))
    assert (caught.value.position, caught.value.character) == (2, letter)


def test_missing_file_is_refused_before_iteration(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_fasta(tmp_path / "missing.fa")


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    data = gzip.compress(
        b">a\n"
        + os.urandom(3000).hex().encode().translate(bytes(b"ACGT"[i % 4] for i in range(256)))
    )
    with pytest.raises(FileFormatError, match="truncated"):
        list(read_fasta(write(tmp_path / "a.fa.gz", data[:-100])))


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
sequences = st.text("ACGTNacgtnRY", min_size=1, max_size=50)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(names, sequences, min_size=1, max_size=5), st.integers(1, 20))
def test_what_was_written_is_read(tmp_path: Path, contigs: dict[str, str], width: int) -> None:
    text = "".join(
        f">{name}\n" + "".join(f"{s[i : i + width]}\n" for i in range(0, len(s), width))
        for name, s in contigs.items()
    )
    records = read_fasta(write(tmp_path / "a.fa", text))
    assert {record.name: record.sequence for record in records} == contigs


def test_real_genome_is_read_whole(test_data: Path) -> None:
    records = list(read_fasta(test_data / "genomes" / "scerevisiae_s288c.fa.gz"))
    assert len(records) == 16
    assert sum(len(record.sequence) for record in records) == 12_071_326
