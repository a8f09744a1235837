"""Splits: what is held out does not train, and parts that meet are refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hyenadna.data.genome import Genome
from hyenadna.data.splits import Splits, require_disjoint, split_genome
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import DataError, FileFormatError, IntervalError
from hyenadna.sequence import Interval


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    path = tmp_path / "x.2bit"
    write_twobit([("a", "ACGTA" * 200), ("b", "C" * 300), ("c", "G" * 7), ("none", "")], path)
    return Genome(path)


def texts(intervals: tuple[Interval, ...]) -> list[str]:
    return [str(interval) for interval in intervals]


def bases(intervals: tuple[Interval, ...]) -> set[tuple[str, int]]:
    return {
        (interval.chrom, place)
        for interval in intervals
        for place in range(interval.start, interval.end)
    }


def test_held_out_regions_do_not_train(genome: Genome) -> None:
    splits = split_genome(genome, validation=["a:101-200"], test=["b", "a:901-"])
    assert texts(splits.validation) == ["a:101-200"]
    assert texts(splits.test) == ["a:901-1000", "b:1-300"]
    assert texts(splits.train) == ["a:1-100", "a:201-900", "c:1-7"]


def test_one_region_needs_no_list(genome: Genome) -> None:
    assert texts(split_genome(genome, test="a:1-900").train) == ["a:901-1000", "b:1-300", "c:1-7"]


def test_given_training_part_is_taken_as_it_is(genome: Genome) -> None:
    splits = split_genome(genome, train=["a:1-100", "a:51-150", "a:151-160"], test=["b"])
    assert texts(splits.train) == ["a:1-160"]
    assert splits.validation == ()


def test_default_holds_out_the_ends_of_long_contigs(tmp_path: Path) -> None:
    write_twobit([("long", "A" * 100_000), ("short", "C" * 99_999)], tmp_path / "x.2bit")
    splits = split_genome(Genome(tmp_path / "x.2bit"))
    assert texts(splits.validation) == ["long:90001-95000"]
    assert texts(splits.test) == ["long:95001-100000"]
    assert texts(splits.train) == ["long:1-90000", "short:1-99999"]


def test_default_of_a_small_genome_holds_out_of_its_longest_contig(genome: Genome) -> None:
    splits = split_genome(genome)
    assert texts(splits.test) == ["a:951-1000"]
    assert texts(splits.validation) == ["a:901-950"]


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_disjoint_and_complete(genome: Genome, seed: int) -> None:
    rng = random.Random(seed)

    def some(low: int, high: int) -> list[str]:
        return [
            f"a:{(start := rng.randint(low, high))}-{rng.randint(start, high)}" for _ in range(3)
        ]

    splits = split_genome(genome, validation=some(1, 400), test=some(401, 1000))
    parts = [bases(part) for part in splits]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 1307


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"validation": ["a:1-100"], "test": ["a:100-200"]},
            "a:100-100 is in both the validation and the test",
        ),
        ({"train": ["a"], "test": ["a:500-600"]}, "train"),
        ({"train": ["a:1-10", "a:50-60"], "validation": ["a:5-55"]}, "train"),
        ({"test": ["a", "b", "c"]}, "left to train on"),
    ],
)
def test_parts_that_meet_or_leave_nothing_are_refused(
    genome: Genome, arguments, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        split_genome(genome, **arguments)


def test_overlap_behind_a_contained_interval_is_found() -> None:
    long, inside, late = Interval("a", 0, 100), Interval("a", 10, 20), Interval("a", 50, 60)
    with pytest.raises(DataError, match="a:51-60"):
        require_disjoint(Splits((long, inside), (), (late,)))
    require_disjoint(Splits((long, inside), (), (Interval("a", 100, 110),)))


@pytest.mark.parametrize("region", ["a:1-1001", "d", "none", "a:5-4", "a:x"])
def test_regions_outside_are_refused(genome: Genome, region: str) -> None:
    with pytest.raises(IntervalError):
        split_genome(genome, test=[region])


def test_bed_files_give_their_spans(genome: Genome, tmp_path: Path) -> None:
    bed = tmp_path / "held.bed"
    bed.write_text("a\t100\t200\tgene1\na\t150\t250\tgene2\n")
    assert texts(split_genome(genome, validation=str(bed)).validation) == ["a:101-250"]
    assert texts(split_genome(genome, validation=bed).validation) == ["a:101-250"]
    assert texts(split_genome(genome, validation=[str(bed), "b"]).validation) == [
        "a:101-250",
        "b:1-300",
    ]


def test_bed_file_with_split_column_serves_all_parts(genome: Genome, tmp_path: Path) -> None:
    bed = tmp_path / "sequences.bed"
    bed.write_text("a\t0\t100\ttrain\na\t200\t300\tvalid\nb\t0\t50\ttest\n")
    splits = split_genome(genome, train=bed, validation=bed, test=bed)
    assert [texts(part) for part in splits] == [["a:1-100"], ["a:201-300"], ["b:1-50"]]


def test_bed_files_that_cannot_serve_are_refused(genome: Genome, tmp_path: Path) -> None:
    bed = tmp_path / "x.bed"
    for text, error, words in (
        ("a\t0\t100\ttrain\na\t200\t300\tother\n", DataError, "'other'"),
        ("a\t0\t100\ttrain\n", DataError, "belongs to the test part"),
        ("a\t0\t2000\n", IntervalError, "x.bed"),
        ("a\t10\t10\n", FileFormatError, ":1:"),
    ):
        bed.write_text(text)
        with pytest.raises(error, match=words):
            split_genome(genome, test=bed)
    with pytest.raises(FileFormatError, match="no such file"):
        split_genome(genome, test=tmp_path / "none.bed")
