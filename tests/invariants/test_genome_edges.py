"""What is drawn from a genome: exact at contig edges, and never from two parts of a split."""

from pathlib import Path

import numpy as np
import pytest

from hyenadna import CharacterTokenizer, Genome, Interval
from hyenadna.data.genome import pack
from hyenadna.data.splits import Splits, require_disjoint, split_genome
from hyenadna.data.windows import GenomeSource, RandomWindows, TiledWindows
from hyenadna.errors import DataError, IntervalError
from hyenadna.sequence import reverse_complement
from hyenadna.testing import random_dna

TABLE = CharacterTokenizer().code_table
CONTIGS = {
    "c1": random_dna(211, seed=1),
    "c2": random_dna(5003, seed=2),
    "c3": random_dna(64, seed=3),
}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    fasta = folder / "g.fa"
    fasta.write_text("".join(f">{name}\n{letters}\n" for name, letters in CONTIGS.items()))
    pack(fasta, folder / "g.2bit")
    return Genome(folder / "g.2bit")


def _letters(interval: Interval) -> str:
    letters = CONTIGS[interval.chrom][interval.start : interval.end]
    return reverse_complement(letters) if interval.strand == "-" else letters


@pytest.mark.parametrize("strand", ["+", "-"])
def test_every_span_at_a_contig_edge_is_exact(genome: Genome, strand: str) -> None:
    for chrom, letters in CONTIGS.items():
        n = len(letters)
        for width in (1, 2, 3, 4, 5, 63, 64):
            for start in {0, 1, 2, 3, n - width, n - width - 1} & set(range(n - width + 1)):
                interval = Interval(chrom, start, start + width, strand)
                assert genome.sequence(interval) == _letters(interval)
                assert CharacterTokenizer().decode(genome.token_ids(interval, TABLE)) == _letters(
                    interval
                )


def test_nothing_lies_beyond_a_contig_edge(genome: Genome) -> None:
    for chrom, letters in CONTIGS.items():
        with pytest.raises(IntervalError):
            genome.codes(Interval(chrom, len(letters) - 1, len(letters) + 1))


def test_random_windows_reach_both_edges_and_cross_none(genome: Genome) -> None:
    spans = [Interval("c1", 0, 211), Interval("c3", 0, 64)]
    windows = RandomWindows([GenomeSource(genome, spans)], table=TABLE, seed=0)
    seen = set()
    for index in range(3000):
        _, interval = windows.location(index, 60)
        assert interval.start >= 0
        assert interval.end <= len(CONTIGS[interval.chrom])
        seen.add((interval.chrom, interval.start))
        if index < 200:
            assert CharacterTokenizer().decode(windows.window(index, 60)) == _letters(interval)
    assert seen == {("c1", start) for start in range(152)} | {("c3", start) for start in range(5)}


def test_tiles_cover_every_base_once_and_pad_only_the_end(genome: Genome) -> None:
    spans = [Interval("c1", 3, 207), Interval("c3", 0, 64)]
    tiles = TiledWindows(genome, spans, 50, table=TABLE)
    text = "".join(
        CharacterTokenizer().decode(tiles.window(i)).replace("[PAD]", "") for i in range(len(tiles))
    )
    assert text == "".join(_letters(span) for span in spans)


def _bases(intervals: tuple[Interval, ...]) -> set[tuple[str, int]]:
    return {(i.chrom, position) for i in intervals for position in range(i.start, i.end)}


@pytest.mark.parametrize(
    "parts",
    [
        {"validation": ["c2:1001-2000"], "test": ["c2:2001-3000", "c3"]},
        {"validation": ["c1"], "test": ["c2:5000-"]},
        {"train": ["c2:501-"], "validation": ["c2:1-500"], "test": ["c1"]},
    ],
)
def test_train_and_test_never_share_a_base(genome: Genome, parts: dict[str, list[str]]) -> None:
    splits = split_genome(genome, **parts)  # type: ignore[arg-type]
    train, validation, test = map(_bases, splits)
    assert train
    assert not train & validation
    assert not (train | validation) & test
    windows = RandomWindows([GenomeSource(genome, splits.train)], table=TABLE, seed=0)
    held_out = validation | test
    for index in range(300):
        _, interval = windows.location(index, 40)
        assert not _bases((interval,)) & held_out


def test_control_windows_of_the_whole_genome_do_meet_the_test_part(genome: Genome) -> None:
    held_out = _bases(split_genome(genome, validation=["c1"], test=["c2:2001-3000"]).test)
    windows = RandomWindows([GenomeSource(genome)], table=TABLE, seed=0)
    assert any(_bases((windows.location(i, 40)[1],)) & held_out for i in range(300))


def test_control_overlapping_parts_are_refused(genome: Genome) -> None:
    with pytest.raises(DataError, match="both the"):
        split_genome(genome, train=["c2"], validation=["c2:1-500"], test=["c1"])
    with pytest.raises(DataError, match="both the"):
        require_disjoint(Splits((Interval("c", 0, 100),), (Interval("c", 99, 120),), ()))
    require_disjoint(Splits((Interval("c", 0, 100),), (Interval("c", 100, 120),), ()))


def test_windows_are_pure_functions_of_seed_and_index(genome: Genome) -> None:
    def draw(seed: int) -> list[bytes]:
        windows = RandomWindows([GenomeSource(genome)], table=TABLE, seed=seed)
        return [windows.window(i, 50).tobytes() for i in (5, 1, 900, 1)]

    assert draw(3) == draw(3)
    assert draw(3)[1] == draw(3)[3]
    assert draw(3) != draw(4)  # the control: it is the seed that decides


def test_the_bundled_genome_splits_without_overlap(tmp_path: Path) -> None:
    yeast = Genome.open("bundled:scerevisiae/genome.2bit")
    splits = split_genome(yeast)
    require_disjoint(splits)
    held = sum(map(len, splits.validation)) + sum(map(len, splits.test))
    total = sum(yeast.contigs.values())
    assert sum(map(len, splits.train)) + held == total
    assert 0.05 < held / total < 0.15
    codes = [yeast.codes(i) for part in splits for i in part[:1]]
    assert all(np.isin(c, range(5)).all() for c in codes)
