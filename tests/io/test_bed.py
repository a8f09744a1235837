"""BED: what is read, what is passed over, and what each broken line is told."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyenadna.errors import FileFormatError, OutputError
from hyenadna.io import BedRecord, read_bed, write_bed
from hyenadna.sequence import Interval


def read(path: Path, text: str) -> list[BedRecord]:
    path.write_bytes(text.encode())
    return list(read_bed(path))


@pytest.fixture
def bed(tmp_path: Path) -> Path:
    return tmp_path / "spans.bed"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_are_read_and_the_rest_is_passed_over(bed: Path, end: str) -> None:
    lines = [
        "# a comment",
        "browser position chr1:1-100",
        'track name="my track" description="x"',
        "chr1\t0\t10",
        "",
        "chr1\t5\t25\tpeak 1\t0.5\t-",
        "  ",
        "chr2\t1\t2\t.\t.\t.",
        "chr2\t1\t2\tname\t7\t+\t1\t2\t0,0,0\t1\t1,\t0,",
    ]
    assert read(bed, end.join(lines)) == [  # without a last line end
        BedRecord(Interval("chr1", 0, 10)),
        BedRecord(Interval("chr1", 5, 25, "-"), "peak 1", 0.5),
        BedRecord(Interval("chr2", 1, 2)),
        BedRecord(Interval("chr2", 1, 2, "+"), "name", 7.0),
    ]


def test_four_columns_carry_a_split(bed: Path) -> None:
    assert read(bed, "chr1\t0\t10\ttrain\n")[0].name == "train"


@pytest.mark.parametrize(
    "header", ["chrom\tstart\tend\n", "#chrom\tstart\tend\n", "CHR chromStart chromEnd\n"]
)
def test_a_line_of_column_names_is_passed_over(bed: Path, header: str) -> None:
    assert len(read(bed, header + "chr1\t0\t10\n")) == 1


def test_column_names_after_data_are_an_error(bed: Path) -> None:
    with pytest.raises(FileFormatError, match=":2: start is 'start'"):
        read(bed, "chr1\t0\t10\nchrom\tstart\tend\n")


def test_blanks_separate_where_there_is_no_tab(bed: Path) -> None:
    assert read(bed, "chr1  0 10 name 5 +\n") == [
        BedRecord(Interval("chr1", 0, 10, "+"), "name", 5.0)
    ]


def test_contig_names_may_hold_blanks_and_look_like_track(bed: Path) -> None:
    spans = [r.interval.chrom for r in read(bed, "my contig\t0\t1\ntrack\t0\t1\nbrowser\t3\t4\n")]
    assert spans == ["my contig", "track", "browser"]


def test_compressed_bed_and_standard_input(bed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"chr1\t0\t10\n")
    bed.write_bytes(data)
    expected = [BedRecord(Interval("chr1", 0, 10))]
    assert list(read_bed(bed)) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert list(read_bed("-")) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chr1\t10\t10", "start 10 is not below end 10"),
        ("chr1\t11\t10", "start 11 is not below end 10"),
        ("chr1\t-1\t10", "start is '-1'"),
        ("chr1\t0\t1e6", "end is '1e6'"),
        ("chr1\t0\t1,000", "end is '1,000'"),
        ("chr1\t0\t1_000", "end is '1_000'"),
        ("chr1\t0.0\t10", "start is '0.0'"),
        ("chr1\t+1\t10", "start is"),
        ("chr1\t٣\t10", "start is"),
        ("chr1\t\t10", "start is ''"),
        ("chr1\t0\t" + "9" * 5000, "end is"),
        ("chr1\t0", "at least three columns .* found 2: 'chr1 0'"),
        ("chr1", "at least three columns"),
        ("chr1:0-10", "at least three columns"),
        ("\t0\t10", "contig's name, is empty"),
        ("chr1\t0\t10\tn\tx", "score, is 'x'"),
        ("chr1\t0\t10\tn\tnan", "score, is 'nan'"),
        ("chr1\t0\t10\tn\t5\tforward", "strand, is 'forward'"),
    ],
)
def test_broken_line_is_refused_with_its_place(bed: Path, line: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message) as caught:
        read(bed, f"# comment\r\nchr1\t0\t10\r\n{line}\r\n")
    assert caught.value.line == 3
    assert str(caught.value).startswith(f"{bed}:3: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["\n\n", "# nothing\n", "track name=x\n", "chrom\tstart\tend\n"])
def test_file_without_intervals_is_refused(bed: Path, text: str) -> None:
    with pytest.raises(FileFormatError, match="holds no interval"):
        read(bed, text)


def test_missing_empty_and_truncated_files_are_refused(bed: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_bed(bed)
    bed.touch()
    with pytest.raises(FileFormatError, match="empty"):
        read_bed(bed)
    bed.write_bytes(gzip.compress(b"chr1\t0\t10\n" * 999)[:-10])
    with pytest.raises(FileFormatError, match="truncated"):
        list(read_bed(bed))


words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=10).filter(
    lambda s: s != "." and not s.startswith(("#", "\ufeff"))
)
intervals = st.builds(
    lambda chrom, start, size, strand: Interval(chrom, start, start + size, strand),
    words,
    st.integers(0, 10**12),
    st.integers(1, 10**6),
    st.sampled_from("+-."),
)
records = st.builds(
    BedRecord,
    intervals,
    st.just("") | words,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none(),
)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(records, min_size=1, max_size=5))
def test_written_records_are_read_back(tmp_path: Path, written: list[BedRecord]) -> None:
    write_bed(written, tmp_path / "out.bed.gz", force=True)
    assert list(read_bed(tmp_path / "out.bed.gz")) == written


@settings(max_examples=50, deadline=None)
@given(intervals.filter(lambda i: ":" not in i.chrom))
def test_region_string_is_the_same_span(interval: Interval) -> None:
    parsed = Interval.parse(str(interval))
    assert (parsed.chrom, parsed.start, parsed.end) == (
        interval.chrom,
        interval.start,
        interval.end,
    )


def test_write_bed_refuses_what_bed_cannot_say(bed: Path) -> None:
    with pytest.raises(ValueError, match="tab or line end"):
        write_bed([BedRecord(Interval("a\tb", 0, 1))], bed)
    assert not bed.exists()


def test_write_bed_does_not_overwrite(bed: Path) -> None:
    bed.write_text("mine")
    with pytest.raises(OutputError, match="--force"):
        write_bed([], bed)
    assert bed.read_text() == "mine"
