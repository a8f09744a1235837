from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from hyenadna.data.genome import Genome
from hyenadna.data.peaks import build_peak_task
from hyenadna.data.site_task import SiteSettings
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import ConfigError, DataError, FileFormatError
from hyenadna.io.bed import read_bed

SMALL = SiteSettings(upstream=20, downstream=21, max_gc_difference=0.2)


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    rng = random.Random(0)
    texts = {f"c{n}": "".join(rng.choices("ACGT", k=5000)) for n in range(3)}
    write_twobit(texts.items(), tmp_path / "x.2bit")
    return Genome(tmp_path / "x.2bit")


def _peaks(path: Path, *, summit: str) -> Path:
    path.write_text(
        "".join(
            f"c{n}\t{start}\t{start + 100}\tp\t9\t.\t1\t1\t1\t{summit}\n"
            for n in range(3)
            for start in range(200, 4800, 400)
        )
    )
    return path


def _starts(folder: Path, label: int) -> set[tuple[str, int]]:
    records = read_bed(folder / "windows.bed")
    return {(r.interval.chrom, r.interval.start) for r in records if r.name.endswith(f"_{label}")}


@pytest.mark.parametrize(("summit", "place"), [("10", 10), ("-1", 50), ("99", 99)])
def test_windows_lie_around_summits_or_middles(
    genome: Genome, tmp_path: Path, summit: str, place: int
) -> None:
    peaks = _peaks(tmp_path / "a.narrowPeak", summit=summit)
    summary = build_peak_task(genome, peaks, tmp_path / "task", settings=SMALL)
    expected = {(f"c{n}", s + place - 20) for n in range(3) for s in range(200, 4800, 400)}
    assert _starts(tmp_path / "task", 1) == expected
    assert summary.sites == 36
    assert sum(summary.rows.values()) == 72
    negatives = _starts(tmp_path / "task", 0)
    assert len(negatives) == 36
    assert all(abs(a - b) >= 41 for c, a in negatives for d, b in expected if c == d)


def test_a_plain_bed_has_middles(genome: Genome, tmp_path: Path) -> None:
    peaks = _peaks(tmp_path / "a.bed", summit="10")
    build_peak_task(genome, peaks, tmp_path / "task", settings=SMALL)
    assert ("c0", 230) in _starts(tmp_path / "task", 1)


def test_shuffled_negatives_hold_the_same_letters(genome: Genome, tmp_path: Path) -> None:
    peaks = _peaks(tmp_path / "a.narrowPeak", summit="10")
    settings = SiteSettings(upstream=20, downstream=21, negatives="shuffle")
    build_peak_task(genome, peaks, tmp_path / "task", settings=settings)
    with (tmp_path / "task/train.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    letters = [sorted("".join(r["sequence"] for r in rows if r["label"] == x)) for x in "01"]  # fmt: skip
    assert letters[0] == letters[1]
    assert not {r["sequence"] for r in rows if r["label"] == "0"} & {r["sequence"] for r in rows if r["label"] == "1"}  # fmt: skip


@pytest.mark.parametrize("summit", ["100", "-2", "x", "1.5"])
def test_impossible_summits_are_refused(genome: Genome, tmp_path: Path, summit: str) -> None:
    peaks = _peaks(tmp_path / "a.narrowPeak", summit=summit)
    with pytest.raises(FileFormatError, match="below 100, or -1"):
        build_peak_task(genome, peaks, tmp_path / "task", settings=SMALL)
    assert not (tmp_path / "task").exists()


def test_peaks_of_another_assembly_and_negatives_from_genes_are_refused(
    genome: Genome, tmp_path: Path
) -> None:
    for line, words in (("chr1\t1\t9", "no peak lies"), ("c0\t4990\t5001", "different assemblies")):
        (tmp_path / "x.bed").write_text(line + "\n")
        with pytest.raises(DataError, match=words):
            build_peak_task(genome, tmp_path / "x.bed", tmp_path / "task", settings=SMALL)
    with pytest.raises(ConfigError, match="need an annotation"):
        build_peak_task(genome, tmp_path / "x.bed", tmp_path / "task", settings=SiteSettings(negatives="genes"))  # fmt: skip
