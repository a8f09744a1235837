"""Random windows: pure, uniform, inside their intervals, and never all N. Tiled windows: every base, once."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hyenadna.data.genome import Genome
from hyenadna.data.twobit import write_twobit
from hyenadna.data.windows import GenomeSource, RandomWindows, TiledWindows
from hyenadna.errors import DataError, IntervalError
from hyenadna.sequence import Interval
from hyenadna.tokenizers import CharacterTokenizer

TOKENIZER = CharacterTokenizer()
TABLE = TOKENIZER.code_table


def make_genome(folder: Path, **contigs: str) -> Genome:
    path = folder / f"{'_'.join(contigs)}.2bit"
    write_twobit(contigs.items(), path)
    return Genome(path)


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    rng = random.Random(5)
    text = "".join(rng.choice("ACGT") for _ in range(400))
    return make_genome(
        tmp_path, a=text[:200] + "N" * 30 + text[200:].lower(), b=text[:50], tiny="ACG"
    )


def test_window_is_a_function_of_seed_number_and_length(genome: Genome) -> None:
    one = RandomWindows([GenomeSource(genome)], table=TABLE, seed=1)
    forward = [one.window(index, 20) for index in range(50)]
    other = pickle.loads(pickle.dumps(RandomWindows([GenomeSource(genome)], table=TABLE, seed=1)))
    other.window(7, 33)
    backward = [other.window(index, 20) for index in reversed(range(50))][::-1]
    assert np.array_equal(forward, backward)
    assert np.array_equal(one.batch(range(50), 20), forward)
    again = RandomWindows([GenomeSource(genome)], table=TABLE, seed=2).batch(range(50), 20)
    assert not np.array_equal(again, forward)
    assert one.location(3, 20) != one.location(3, 21)


def test_window_holds_the_bases_of_its_location(genome: Genome) -> None:
    windows = RandomWindows([GenomeSource(genome)], table=TABLE, seed=0)
    strands = Counter()
    for index in range(200):
        _, interval = windows.location(index, 16)
        strands[interval.strand] += 1
        assert TOKENIZER.decode(windows.window(index, 16)) == genome.sequence(interval).upper()
        assert np.array_equal(windows.soft_mask_window(index, 16), genome.soft_mask(interval))
    assert 60 < strands["-"] < 140


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {"+"}), (1.0, {"-"})])
def test_strand_probability_is_kept_at_its_ends(
    genome: Genome, probability: float, expected: set[str]
) -> None:
    windows = RandomWindows([GenomeSource(genome)], table=TABLE, seed=0, rc_probability=probability)
    assert {windows.location(index, 8)[1].strand for index in range(300)} == expected


def brute_force(text: str, seq_len: int, fraction: float) -> set[int]:
    return {
        start
        for start in range(len(text) - seq_len + 1)
        if (count := text[start : start + seq_len].count("N")) <= fraction * seq_len
        and count < seq_len
    }


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_admissible_starts_are_those_of_brute_force(tmp_path: Path, fraction: float) -> None:
    rng = random.Random(int(fraction * 10))
    for number in range(25):
        text = "".join(
            rng.choice(["A", "N"]) * rng.randint(1, 9) for _ in range(rng.randint(1, 12))
        )
        genome = make_genome(tmp_path, **{f"c{number}": text})
        for seq_len in (1, 2, 5, 8, 17, len(text)):
            expected = brute_force(text, seq_len, fraction)
            windows = RandomWindows(
                [GenomeSource(genome)], table=TABLE, seed=0, max_n_fraction=fraction
            )
            if not expected:
                with pytest.raises(DataError):
                    windows.n_starts(seq_len)
                continue
            assert windows.n_starts(seq_len) == (len(expected),)
            seen = {
                windows.location(index, seq_len)[1].start for index in range(12 * len(expected))
            }
            assert seen <= expected
            assert len(seen) > 0.95 * len(expected)


def test_every_start_is_equally_likely(genome: Genome) -> None:
    windows = RandomWindows([GenomeSource(genome)], table=TABLE, seed=3, max_n_fraction=0.0)
    # 191 + 191 starts in contig a around its N, 41 in b, none in the tiny contig
    assert windows.n_starts(10) == (423,)
    counts = Counter(
        (windows.location(i, 10)[1].chrom, windows.location(i, 10)[1].start) for i in range(42_300)
    )
    assert len(counts) == 423
    chi_square = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi_square < 422 + 5 * (2 * 422) ** 0.5  # five standard deviations


def test_windows_stay_in_their_intervals_and_overlaps_count_once(genome: Genome) -> None:
    spans = [Interval("a", 100, 130), Interval("a", 120, 150), Interval("b", 10, 20)]
    windows = RandomWindows([GenomeSource(genome, spans)], table=TABLE, seed=0)
    assert windows.n_starts(10) == (41 + 1,)
    for index in range(300):
        _, found = windows.location(index, 10)
        assert (found.chrom == "a" and 100 <= found.start <= 140) or (found.chrom, found.start) == (
            "b",
            10,
        )


def test_intervals_that_touch_do_not_join(genome: Genome) -> None:
    # A window across the border would mix what a split keeps apart.
    spans = [Interval("a", 0, 50), Interval("a", 50, 100)]
    windows = RandomWindows([GenomeSource(genome, spans)], table=TABLE, seed=0)
    assert windows.n_starts(50) == (2,)


def test_genomes_are_drawn_by_weight(genome: Genome, tmp_path: Path) -> None:
    other = make_genome(tmp_path, x="ACGT" * 5000)
    windows = RandomWindows(
        [GenomeSource(genome, weight=3), GenomeSource(other)], table=TABLE, seed=0
    )
    drawn = Counter(windows.location(index, 20)[0] for index in range(4000))
    assert 2850 < drawn[0] < 3150
    assert windows.window(0, 20).shape == (20,)


def test_impossible_windows_are_named(genome: Genome, tmp_path: Path) -> None:
    all_n = make_genome(tmp_path, n="N" * 100)
    for sources, seq_len, words in (
        ([GenomeSource(all_n)], 10, "all N"),
        ([GenomeSource(genome), GenomeSource(all_n)], 10, "all N"),
        ([GenomeSource(genome, [Interval("a", 203, 225)])], 5, "all N"),
        ([GenomeSource(genome)], 431, "longest of the 3 interval"),
        ([GenomeSource(genome, [])], 5, "longest of the 0"),
        ([GenomeSource(genome)], 0, "at least 1"),
    ):
        with pytest.raises(DataError, match=words):
            RandomWindows(sources, table=TABLE, seed=0).window(0, seq_len)
    assert RandomWindows([GenomeSource(genome)], table=TABLE, seed=0).window(0, 430).shape == (430,)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rc_probability": 1.5}, "rc_probability"),
        ({"max_n_fraction": -0.1}, "max_n_fraction"),
        ({"max_n_fraction": float("nan")}, "max_n_fraction"),
    ],
)
def test_settings_out_of_range_are_refused(genome: Genome, settings, words: str) -> None:
    with pytest.raises(DataError, match=words):
        RandomWindows([GenomeSource(genome)], table=TABLE, seed=0, **settings)


def test_sources_that_cannot_serve_are_refused(genome: Genome) -> None:
    with pytest.raises(DataError, match="at least one"):
        RandomWindows([], table=TABLE, seed=0)
    for weight in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match="weights"):
            RandomWindows([GenomeSource(genome, weight=weight)], table=TABLE, seed=0)
    with pytest.raises(IntervalError, match="beyond"):
        RandomWindows([GenomeSource(genome, [Interval("b", 0, 51)])], table=TABLE, seed=0)
    with pytest.raises(IntervalError, match="not in the genome"):
        TiledWindows(genome, [Interval("c", 0, 51)], 10, table=TABLE)


# --- tiles ------------------------------------------------------------------------------------------------------------


def test_tiles_cover_every_base_once_and_pad_the_last(genome: Genome) -> None:
    tiles = TiledWindows(genome, [Interval("b", 0, 50), Interval("a", 5, 8)], 20, table=TABLE)
    assert [str(tiles.location(i)) for i in range(len(tiles))] == [
        "b:1-20",
        "b:21-40",
        "b:41-50",
        "a:6-8",
    ]
    assert tiles.batch(range(4)).shape == (4, 20)
    text = "".join(TOKENIZER.decode(tiles.window(i)[: len(tiles.location(i))]) for i in range(3))
    assert text == genome.sequence(Interval("b", 0, 50))
    assert tiles.window(2)[10:].tolist() == [4] * 10
    assert not tiles.soft_mask_window(2)[10:].any()


@pytest.mark.parametrize("size", [1, 2, 3, 19, 20, 21, 39, 40, 50])
def test_overlap_of_one_makes_every_base_but_the_first_a_target_once(
    genome: Genome, size: int
) -> None:
    tiles = TiledWindows(genome, [Interval("b", 0, size)], 20, table=TABLE, overlap=1)
    targets = [
        base
        for i in range(len(tiles))
        for base in range(tiles.location(i).start + 1, tiles.location(i).end)
    ]
    assert targets == list(range(1, size))


def test_tiles_of_n_only_are_left_out(genome: Genome) -> None:
    tiles = TiledWindows(genome, [Interval("a", 190, 240)], 10, table=TABLE)
    assert [tiles.location(i).start for i in range(len(tiles))] == [190, 230]
    assert tiles.soft_mask_window(1).all()
    with pytest.raises(DataError, match="all N"):
        TiledWindows(genome, [Interval("a", 200, 230)], 10, table=TABLE)


def test_no_interval_has_no_tiles(genome: Genome) -> None:
    with pytest.raises(DataError, match="no interval"):
        TiledWindows(genome, [], 10, table=TABLE)


def test_limit_keeps_evenly_spread_tiles(genome: Genome) -> None:
    spans = [Interval("a", 0, 200)]
    starts = [
        TiledWindows(genome, spans, 10, table=TABLE, limit=4).location(i).start for i in range(4)
    ]
    assert starts == [20, 70, 120, 170]
    assert len(TiledWindows(genome, spans, 10, table=TABLE, limit=400)) == 20
    assert (
        len(TiledWindows(genome, None, 10, table=TABLE)) == 43 + 5 + 1 - 3
    )  # three tiles are all N


@pytest.mark.parametrize("settings", [{"overlap": 10}, {"overlap": -1}, {"limit": 0}])
def test_tile_settings_out_of_range_are_refused(genome: Genome, settings) -> None:
    with pytest.raises(DataError, match="tiled windows need"):
        TiledWindows(genome, None, 10, table=TABLE, **settings)
