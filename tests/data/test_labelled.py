from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from hyenadna.data.labelled import label_names_of, labelled_set, read_rows
from hyenadna.errors import DataError, FileFormatError, SequenceError, SequenceLengthError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_csv_rows_carry_their_line(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path / "a.csv", "sequence,label\nACGT,0\n\nGGn,1\n"))
    assert [tuple(r) for r in rows] == [("ACGT", "0", 2), ("GGn", "1", 4)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "id\tLabel\tSequence\nx\t1\tACGT\n"),
        ("a.csv", "\ufeffsequence,label\r\nACGT,1\r\n"),
        ("a.csv", 'extra,sequence,label\n"a,b",ACGT,1\n'),
        ("a.fa", ">x|1\nAC\nGT\n"),
        ("a.fasta", ">x some words 1\nACGT\n"),
    ],
)
def test_every_format_reads_the_same_row(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8"))
    (row,) = read_rows(path)
    assert row[:2] == ("ACGT", "1")


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"sequence,label\nACGT,1\n"))
    assert read_rows(path)[0].sequence == "ACGT"


def test_long_sequences_fit_into_a_table(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", f"sequence,label\n{'ACGT' * 50_000},1\n")
    assert len(read_rows(path)[0].sequence) == 200_000


def test_other_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "seq,label,class\nACGT,7,1\n")
    assert read_rows(path, sequence_column="seq", label_column="class")[0].label == "1"


@pytest.mark.parametrize(
    ("name", "content", "error", "says"),
    [
        ("a.csv", b"", FileFormatError, "is empty"),
        ("a.csv", b"sequence,label\n", FileFormatError, "holds no sequence"),
        ("a.csv", b"seq,label\nACGT,1\n", FileFormatError, "columns seq, label"),
        ("a.csv", b"sequence,label,label\nACGT,1,1\n", FileFormatError, "exactly one column"),
        ("a.csv", b"sequence,label\nACGT,1\nACGT\n", FileFormatError, "a.csv:3: the row has 1 "),
        ("a.csv", b"sequence,label\nACGT,\n", FileFormatError, "a.csv:2: the label is empty"),
        ("a.csv", b"sequence,label\n,1\n", SequenceLengthError, "a.csv:2: the sequence is empty"),
        ("a.csv", b"sequence,label\nACGT,1\nMKVL,1\n", SequenceError, "a.csv:3"),
        ("a.csv", b'sequence,label\n"ACGT,1\n', FileFormatError, "cannot be read"),
        ("a.csv", b"sequence,label\n\xff\xfe,1\n", FileFormatError, "not text"),
        (
            "a.csv.gz",
            gzip.compress(b"sequence,label\nACGT,1\n" * 99, mtime=0)[:-9],
            FileFormatError,
            "gzip",
        ),
        ("a.csv.gz", b"sequence,label\nACGT,1\n", FileFormatError, "gzip"),
        ("a.parquet", b"x", FileFormatError, "suffix '.parquet'"),
        ("a.fa", b">x\nACGT\n", FileFormatError, "record 1, 'x', has no label"),
    ],
)
def test_bad_files_are_refused_with_their_place(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(error) as caught:
        read_rows(path)
    assert says in str(caught.value)
    assert name in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_rows(tmp_path / "none.csv")


def rows_of(tmp_path: Path, *labels: str) -> tuple[list, Path]:
    path = write(tmp_path / "t.csv", "sequence,label\n" + "".join(f"ACGT,{x}\n" for x in labels))
    return read_rows(path), path


def test_integers_are_class_numbers(tmp_path: Path) -> None:
    rows, path = rows_of(tmp_path, "2", "0", "01", "10", *map(str, range(3, 10)))
    names = label_names_of(rows, path)
    assert names == tuple(map(str, range(11)))
    assert labelled_set(rows, names).labels[:4].tolist() == [2, 0, 1, 10]


def test_names_are_sorted_classes(tmp_path: Path) -> None:
    rows, path = rows_of(tmp_path, "promoter", "other", "promoter")
    names = label_names_of(rows, path)
    split = labelled_set(rows, names, path=path)
    assert names == ("other", "promoter")
    assert split.labels.tolist() == [1, 0, 1]
    assert split.labels.dtype == np.int64
    assert len(split.sha256) == 64


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        (("0", "x"), FileFormatError, "t.csv:3: the label 'x' does not go with"),
        (("0", "1", "-1"), FileFormatError, "t.csv:4: the label -1 is out of range"),
        (("0", "123456789123"), FileFormatError, "out of range"),
        (("0.0", "1.0"), FileFormatError, "is a fraction"),
        (("0", "2"), DataError, "label 1 never occurs"),
        (("1", "1"), DataError, "label 0 never occurs"),
        (("a", "a"), DataError, "expected at least two classes"),
    ],
)
def test_bad_labels_are_refused(
    tmp_path: Path, labels: tuple[str, ...], error: type[Exception], says: str
) -> None:
    rows, path = rows_of(tmp_path, *labels)
    with pytest.raises(error) as caught:
        label_names_of(rows, path)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("names", "label"), [(("0", "1"), "2"), (("a", "b"), "c"), (("0", "1"), "x")]
)
def test_label_unknown_to_training_is_out_of_range(
    tmp_path: Path, names: tuple[str, ...], label: str
) -> None:
    rows, path = rows_of(tmp_path, label)
    with pytest.raises(FileFormatError, match=r"t\.csv:2: the label .* is out of range"):
        labelled_set(rows, names, path=path)


def test_over_long_sequence_is_refused_and_a_fitting_one_is_not(tmp_path: Path) -> None:
    rows, path = rows_of(tmp_path, "0", "1")
    assert labelled_set(rows, ("0", "1"), path=path, max_seq_len=4).max_length == 4
    with pytest.raises(SequenceLengthError, match=r"t\.csv:2: the sequence has 4 bases") as caught:
        labelled_set(rows, ("0", "1"), path=path, max_seq_len=3)
    assert caught.value.record.endswith("t.csv:2")
