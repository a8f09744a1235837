import gzip
import io
from pathlib import Path

import pytest

from hyenadna.data.genome import pack
from hyenadna.errors import (
    FileFormatError,
    HyenaDNAError,
    IntervalError,
    SequenceError,
    SequenceLengthError,
)
from hyenadna.inference.inputs import read_reference, read_sequences


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def _read(path: Path | str, **columns: str) -> list[tuple[str, str]]:
    return [(s.name, s.sequence) for s in read_sequences(path, **columns)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.fa", ">x first\nAC\nGT\n>y\nGG\n"),
        ("a.txt", "\n>x first\nACGT\n>y\nGG\n"),
        ("a.csv", "name,sequence\nx,ACGT\ny,GG\n"),
        ("a.csv", "\ufeffid,label,Seq\r\nx,0,ACGT\r\n\r\ny,1,GG\r\n"),
        ("a.tsv", "DNA\tname\nACGT\tx\nGG\ty\n"),
        ("a.txt", "name\tsequence\nx\tACGT\ny\tGG\n"),
        ("a.dat", "name,sequence\nx,ACGT\ny,GG\n"),
    ],
)
def test_the_same_sequences_from_every_format(tmp_path: Path, name: str, text: str) -> None:
    path = _write(tmp_path, name, text)
    assert _read(path) == [("x", "ACGT"), ("y", "GG")]
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert _read(packed) == [("x", "ACGT"), ("y", "GG")]


@pytest.mark.parametrize("text", ["ACGT\n\nGGn\n", "sequence\nACGT\nGGn\n", "\r\nACGT\r\nGGn"])
def test_one_sequence_a_line_is_numbered(tmp_path: Path, text: str) -> None:
    expected = [("sequence_1", "ACGT"), ("sequence_2", "GGn")]
    assert _read(_write(tmp_path, "a.txt", text)) == expected


@pytest.mark.parametrize(
    "text", [">x\nACGT\n", "name,sequence\nx,ACGT\n", "name\tsequence\nx\tACGT\n"]
)
def test_standard_input_is_told_by_its_first_line(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    for raw in (text.encode(), gzip.compress(text.encode())):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert _read("-") == [("x", "ACGT")]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "gene,promoter,sequence\ng1,AC,GT\n,CC,GT\n")
    assert _read(path, sequence_column="Promoter", name_column="gene") == [
        ("g1", "AC"),
        ("sequence_2", "CC"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        (
            "a.csv",
            "gene,promoter\ng,AC\n",
            FileFormatError,
            r"a.csv:1: .*'gene', 'promoter'.*--sequence-column",
        ),
        ("a.csv", "sequence,sequence\nA,C\n", FileFormatError, "2 columns 'sequence'"),
        (
            "a.csv",
            "sequence,label\nACGT\n",
            FileFormatError,
            "a.csv:2: the row has 1 fields, the header 2",
        ),
        ("a.csv", "sequence,label\n", FileFormatError, "a header but no rows"),
        (
            "a.csv",
            "sequence,label\nAC,1\n,0\n",
            SequenceLengthError,
            "a.csv:3: sequence 'sequence_2' is empty",
        ),
        ("a.csv", "\nsequence,label\nACZT,1\n", SequenceError, "a.csv:3: .*'Z' at position 3"),
        ("a.csv", 'sequence,label\n"AC"T,1\n', FileFormatError, "a.csv:2: the table is malformed"),
        ("a.csv", "\n\n", FileFormatError, "holds no sequence"),
        ("a.csv", "", FileFormatError, "the file is empty"),
        ("a.txt", "ACGT\nMEEPQ\n", SequenceError, "a.txt:2: .*protein"),
        ("a.txt", "@read\nACGT\n+\nIIII\n", FileFormatError, "a.txt:1: this looks like FASTQ"),
        ("a.fa", "ACGT\n", FileFormatError, "expected a header that starts with '>'"),
        (
            "a.txt",
            "\n\n>x\nAC\n>x\nAC\n",
            FileFormatError,
            "a.txt:5: record 'x' was seen before, on line 3",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, name: str, text: str, error: type[HyenaDNAError], message: str
) -> None:
    path = _write(tmp_path, name, text)
    with pytest.raises(error, match=message):
        _read(path)


def test_unknown_columns_are_refused(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "sequence,label\nAC,1\n")
    with pytest.raises(
        FileFormatError, match=r"no column 'seq' \(--sequence-column\), it has 'sequence', 'label'"
    ):
        _read(path, sequence_column="seq")
    with pytest.raises(FileFormatError, match=r"no column 'gene' \(--name-column\)"):
        _read(path, name_column="gene")


def test_a_missing_file_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_sequences(tmp_path / "none.csv")


def test_long_fields_are_read_whole(tmp_path: Path) -> None:
    path = _write(tmp_path, "a.csv", "sequence\n" + "A" * 300_000 + "\n")
    assert len(_read(path)[0][1]) == 300_000


@pytest.mark.parametrize("packed", [False, True])
def test_regions_then_bed_in_the_order_asked_for(
    tmp_path: Path, toy_fasta: Path, packed: bool
) -> None:
    genome = toy_fasta
    if packed:
        genome = tmp_path / "toy.2bit"
        pack(toy_fasta, genome)
    bed = _write(tmp_path, "a.bed", "chrB\t0\t4\tpeak\t0\t-\nchrA\t10\t14\n")
    source = read_reference(genome, regions=["chrA:1-4", " chrB:397- "], bed=bed)
    assert (source.n_sequences, source.n_bases) == (4, 16)
    found = [(s.name, s.sequence, s.interval and s.interval.start) for s in source.sequences]
    assert found == [
        ("chrA:1-4", "ACGT", 0), ("chrB:397-", "TACG", 396), ("peak", "TGCC", 0), ("chrA:11-14", "ACGT", 10),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["fasta", "gzip", "2bit"])
def test_without_regions_every_contig_is_one_sequence(
    tmp_path: Path, toy_fasta: Path, kind: str
) -> None:
    genome = tmp_path / f"toy.{kind}"
    if kind == "2bit":
        pack(toy_fasta, genome)
    else:
        raw = toy_fasta.read_bytes()
        genome.write_bytes(gzip.compress(raw) if kind == "gzip" else raw)
    found = [
        (s.name, len(s.sequence), s.interval and s.interval.end)
        for s in read_reference(genome).sequences
    ]
    assert found == [("chrA", 600, 600), ("chrB", 400, 400)]


@pytest.mark.parametrize(
    ("region", "message"),
    [("chrC:1-5", "contig 'chrC' is not in the genome"), ("chrA:1-601", "beyond contig 'chrA'"), ("chrA:0-5", "start is at least 1"),
     ("chrA:9-5", "from 9 to 5"), ("chrA:x-y", "malformed")],
)  # fmt: skip
def test_impossible_regions_are_refused_before_any_is_read(
    toy_fasta: Path, region: str, message: str
) -> None:
    with pytest.raises(IntervalError, match=message):
        read_reference(toy_fasta, regions=["chrA:1-10", region])


def test_bed_intervals_are_checked_against_the_genome(tmp_path: Path, toy_fasta: Path) -> None:
    for text, message in (
        ("chrC\t0\t5\n", "a.bed:1: contig 'chrC'"),
        ("chrA\t590\t601\n", "a.bed:1: region .* ends beyond"),
    ):
        with pytest.raises(IntervalError, match=message):
            read_reference(toy_fasta, bed=_write(tmp_path, "a.bed", text))
    with pytest.raises(FileFormatError, match=r"a.bed:1: start 5 is not below end 5"):
        read_reference(toy_fasta, bed=_write(tmp_path, "a.bed", "chrA\t5\t5\n"))
