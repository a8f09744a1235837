import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyenadna.errors import IntervalError
from hyenadna.sequence import Interval, find_contig, parse_region, require_inside

CONTIGS = {"chr1": 1000, "chr2": 10, "HLA:01": 50, "empty": 0}


def test_region_strings_are_one_based_inclusive() -> None:
    assert parse_region("chr1:1-10", CONTIGS) == Interval("chr1", 0, 10)
    assert Interval.parse("chr1:1,000-2,000") == Interval("chr1", 999, 2000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr2", Interval("chr2", 0, 10)),
        ("chr2:4", Interval("chr2", 3, 10)),
        ("chr2:4-", Interval("chr2", 3, 10)),
        ("HLA:01", Interval("HLA:01", 0, 50)),
        ("HLA:01:2-3", Interval("HLA:01", 1, 3)),
        (" chr1:1,0-1,0 ", Interval("chr1", 9, 10)),
    ],
)
def test_open_ends_and_odd_names_are_read(text: str, expected: Interval) -> None:
    assert parse_region(text, CONTIGS) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1:0-10", "1-based"),
        ("chr1:10-9", "runs from 10 to 9"),
        ("chr1:1-1001", "beyond contig 'chr1' of 1,000 bases"),
        ("chr1:1001", "runs from 1001"),
        ("chr1:a-b", "malformed"),
        ("chr1:", "malformed"),
        (":1-2", "malformed"),
        ("chr1:1-2-3", "malformed"),
        ("chr1:-5", "malformed"),
        ("1:1-10", "did you mean chr1"),
        ("chrZZ", "not in the genome"),
        ("empty", "empty"),
        ("", "is malformed"),
    ],
)
def test_bad_regions_are_refused(text: str, message: str) -> None:
    with pytest.raises(IntervalError, match=message):
        parse_region(text, CONTIGS)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 5), (6, 5)])
def test_empty_and_reversed_intervals_are_refused(start: int, end: int) -> None:
    with pytest.raises(IntervalError, match="empty or reversed"):
        Interval("chr1", start, end)


def test_strand_and_name_are_checked() -> None:
    with pytest.raises(IntervalError, match="strand"):
        Interval("chr1", 0, 1, "*")
    with pytest.raises(IntervalError, match="no contig name"):
        Interval("", 0, 1)


def test_text_without_both_ends_needs_the_contigs() -> None:
    with pytest.raises(IntervalError, match="malformed"):
        Interval.parse("chr1:5")


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_parse_undoes_str(start: int, length: int) -> None:
    interval = Interval("chr1", start, start + length)
    assert Interval.parse(str(interval)) == interval
    assert len(interval) == length


def test_overlap_needs_a_shared_base() -> None:
    one = Interval("chr1", 0, 10)
    assert one.overlaps(Interval("chr1", 9, 20))
    assert not one.overlaps(Interval("chr1", 10, 20))
    assert not one.overlaps(Interval("chr2", 0, 10))


def test_require_inside_names_the_contigs() -> None:
    require_inside(Interval("chr2", 0, 10), CONTIGS)
    with pytest.raises(IntervalError, match="ends beyond contig 'chr2'"):
        require_inside(Interval("chr2", 0, 11), CONTIGS)
    with pytest.raises(IntervalError, match="it has x"):
        require_inside(Interval("chr2", 0, 11), {"x": 1})


@pytest.mark.parametrize(
    ("name", "contigs", "found"),
    [
        ("20", ["20", "chr20"], "20"),
        ("chr20", ["20", "chr20"], "chr20"),
        ("20", ["chr20"], "chr20"),
        ("chr20", ["20"], "20"),
        ("MT", ["chrM"], "chrM"),
        ("chrM", ["MT"], "MT"),
        ("chr2", ["chr20", "20"], None),
        ("chr", ["1"], None),
        ("NC_000020.10", ["20"], None),
    ],
)
def test_the_other_name_of_a_contig_is_found(
    name: str, contigs: list[str], found: str | None
) -> None:
    assert find_contig(name, dict.fromkeys(contigs, 10)) == found
