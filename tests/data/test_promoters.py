"""The promoter task: right bases, matched partners, splits that share nothing."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from hyenadna.data.genome import Genome
from hyenadna.data.promoters import build_promoter_task
from hyenadna.data.site_task import SPLITS, SiteSettings
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import ConfigError, DataError, FileFormatError, OutputError
from hyenadna.io.bed import read_bed
from hyenadna.io.gff import Feature, read_gff, write_gff
from hyenadna.sequence import Interval, reverse_complement

SMALL = SiteSettings(upstream=20, downstream=10, max_gc_difference=0.1)


@pytest.fixture
def toy(tmp_path: Path) -> tuple[Genome, Path]:
    """Four contigs with genes on both strands, some at the edges, twice, on N, or on no contig at all."""
    rng = random.Random(0)
    texts = {f"c{n}": "".join(rng.choice("ACGT") for _ in range(4000)) for n in range(4)}
    texts["c3"] = (
        texts["c3"][:500]
        + "N" * 40
        + texts["c3"][540:2000]
        + texts["c0"][480:520]
        + texts["c3"][2040:]
    )
    write_twobit(texts.items(), tmp_path / "toy.2bit")
    features = [
        Feature(Interval(chrom, start, start + 90, "+-"[(start // 250) % 2]), "mRNA")
        for chrom in texts
        for start in range(250, 3800, 250)
    ]
    odd = [
        Interval("c0", 5, 90, "+"),
        Interval("c0", 3900, 4000, "-"),
        Interval("c3", 525, 600, "+"),
        Interval("c3", 2020, 2100, "+"),
        Interval("c1", 250, 999, "-"),
        Interval("c1", 100, 200),
        Interval("elsewhere", 100, 200, "+"),
    ]
    features += [Feature(interval, "mRNA") for interval in odd] + [
        Feature(Interval("c2", 1, 9, "+"), "gene")
    ]
    write_gff(features, tmp_path / "toy.gff3")
    return Genome(tmp_path / "toy.2bit"), tmp_path / "toy.gff3"


def rows(folder: Path) -> dict[str, list[tuple[str, int]]]:
    found = {}
    for split in SPLITS:
        with (folder / f"{split}.csv").open() as handle:
            reader = csv.DictReader(handle)
            assert reader.fieldnames == ["sequence", "label"]
            found[split] = [(row["sequence"], int(row["label"])) for row in reader]
    return found


def test_rows_are_the_bases_at_their_place(toy, tmp_path: Path) -> None:
    genome, gff = toy
    summary = build_promoter_task(genome, gff, tmp_path / "task", settings=SMALL)
    found = rows(tmp_path / "task")
    flat = [(split, *row) for split in SPLITS for row in found[split]]
    records = list(read_bed(tmp_path / "task/windows.bed"))
    assert len(records) == len(flat) == sum(summary.rows.values())
    for (split, sequence, label), record in zip(flat, records, strict=True):
        assert record.name == f"{split}_{label}"
        assert genome.sequence(record.interval) == sequence
        assert record.interval.chrom in summary.contigs[split]


def test_promoters_are_the_windows_around_starts(toy, tmp_path: Path) -> None:
    genome, gff = toy
    build_promoter_task(genome, gff, tmp_path / "task", settings=SMALL)
    starts = {
        (
            f.interval.chrom,
            f.interval.start if f.interval.strand == "+" else f.interval.end - 1,
            f.interval.strand,
        )
        for f in read_gff(gff)
        if f.kind == "mRNA"
    }
    n_promoters = 0
    for record in read_bed(tmp_path / "task/windows.bed"):
        span = record.interval
        assert len(span) == 30
        place = span.start + 20 if span.strand == "+" else span.end - 1 - 20
        is_promoter = record.name.endswith("_1")
        assert is_promoter == ((span.chrom, place, span.strand) in starts)
        n_promoters += is_promoter
    assert n_promoters > 50


def test_partners_are_matched_and_meet_no_promoter(toy, tmp_path: Path) -> None:
    genome, gff = toy
    build_promoter_task(genome, gff, tmp_path / "task", settings=SMALL)
    records = list(read_bed(tmp_path / "task/windows.bed"))
    kinds = {
        label: [r.interval for r in records if r.name.endswith(label)] for label in ("_0", "_1")
    }
    assert not any(a.overlaps(b) for a in kinds["_0"] for b in kinds["_1"])
    assert not any(a.overlaps(b) for i, a in enumerate(kinds["_0"]) for b in kinds["_0"][:i])
    for chrom in genome.contigs:
        pairs = [
            [genome.sequence(s) for s in kinds[label] if s.chrom == chrom] for label in ("_0", "_1")
        ]
        assert len(pairs[0]) == len(pairs[1])
        anchors = [sorted(sequence[20:23] for sequence in side) for side in pairs]
        assert anchors[0] == anchors[1]
        contents = [
            sorted(sequence.count("G") + sequence.count("C") for sequence in side) for side in pairs
        ]
        assert all(abs(a - b) <= 3 for a, b in zip(*contents, strict=True))


def test_no_sequence_occurs_twice_on_either_strand(toy, tmp_path: Path) -> None:
    build_promoter_task(*toy, tmp_path / "task", settings=SMALL)
    sequences = [sequence for split in rows(tmp_path / "task").values() for sequence, _ in split]
    both = {min(sequence, reverse_complement(sequence)) for sequence in sequences}
    assert len(both) == len(sequences)
    assert not any("N" in sequence for sequence in sequences)


def test_what_is_left_out_is_counted(toy, tmp_path: Path) -> None:
    summary = build_promoter_task(*toy, tmp_path / "task", settings=SMALL)
    skipped = dict(summary.skipped)
    assert skipped.pop("without a matching partner") < 20
    assert skipped == {
        "without a strand": 1,
        "on a contig that the genome lacks": 1,
        "too near a contig's end": 2,
        "with N": 2,
        "with the same bases as another": 1,
    }
    assert summary.sites == 4 * 15 + 6
    card = (tmp_path / "task/README.md").read_text()
    assert "1 with the same bases as another" in card
    assert toy[0].checksum in card


def test_same_input_and_seed_give_the_same_files(toy, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        settings = SiteSettings(upstream=20, downstream=10, max_gc_difference=0.1, seed=seed)
        build_promoter_task(*toy, tmp_path / name, settings=settings)
    files = {
        name: [p.read_bytes() for p in sorted((tmp_path / name).iterdir())]
        for name in ("one", "two", "other")
    }
    assert files["one"] == files["two"] != files["other"]


def test_contigs_of_the_splits_can_be_chosen(toy, tmp_path: Path) -> None:
    settings = SiteSettings(
        upstream=20,
        downstream=10,
        max_gc_difference=0.1,
        test_contigs=("c1",),
        dev_contigs=("c2", "c0"),
    )
    summary = build_promoter_task(*toy, tmp_path / "task", settings=settings)
    assert summary.contigs == {"train": ("c3",), "dev": ("c2", "c0"), "test": ("c1",)}
    chosen = build_promoter_task(*toy, tmp_path / "default", settings=SMALL).contigs
    assert sorted(chrom for chroms in chosen.values() for chrom in chroms) == [
        "c0",
        "c1",
        "c2",
        "c3",
    ]
    assert all(chosen.values())


def test_gtf_and_other_kinds_are_read(toy, tmp_path: Path) -> None:
    genome, _ = toy
    gtf = tmp_path / "toy.gtf"
    gtf.write_text(
        "".join(
            f'c{n}\tx\t{kind}\t{start}\t{start + 50}\t.\t+\t.\tgene_id "g"; transcript_id "t";\n'
            for n in range(3)
            for kind, start in (("gene", 101), ("transcript", 301), ("exon", 501))
        )
    )
    build_promoter_task(genome, gtf, tmp_path / "default", settings=SMALL)
    places = {
        r.interval.start + 20
        for r in read_bed(tmp_path / "default/windows.bed")
        if r.name.endswith("_1")
    }
    assert places == {300}
    settings = SiteSettings(upstream=20, downstream=10, max_gc_difference=0.1)
    build_promoter_task(genome, gtf, tmp_path / "chosen", settings=settings, kinds=("gene", "exon"))
    places = {
        r.interval.start + 20
        for r in read_bed(tmp_path / "chosen/windows.bed")
        if r.name.endswith("_1")
    }
    assert places == {100, 500}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"upstream": -1}, "upstream"),
        ({"downstream": 2}, "downstream"),
        ({"max_gc_difference": 2.0}, "max_gc_difference"),
        ({"negatives": "random"}, "gc, genes, near, shuffle"),
        ({"test_contigs": ("a",), "dev_contigs": ("a",)}, "both"),
    ],
)
def test_impossible_settings_are_refused(toy, tmp_path: Path, settings, words: str) -> None:
    genome, genes = toy
    with pytest.raises(ConfigError, match=words):
        build_promoter_task(genome, genes, tmp_path / "task", settings=SiteSettings(**settings))
    assert not (tmp_path / "task").exists()


def annotation(folder: Path, *lines: str) -> Path:
    path = folder / "x.gff3"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["c0 x exon 100 200 . + . ."], "no feature of type"),
        (["chr9 x mRNA 100 200 . + . ."], "annotation: chr9; genome: c0"),
        (["c0 x mRNA 100 200 . . . ."], "none with a strand"),
        (["c0 x mRNA 9100 9200 . + . ."], "different assemblies"),
        (["c0 x mRNA 100 200 . + . ."], "needs a contig with sites"),
        ([f"c{n} x mRNA 1 9 . + . ." for n in range(3)], "no start that can be used"),
    ],
)
def test_annotation_that_cannot_serve_is_refused(
    toy, tmp_path: Path, lines: list[str], words: str
) -> None:
    gff = annotation(tmp_path, *(line.replace(" ", "\t") for line in lines))
    with pytest.raises(DataError, match=words):
        build_promoter_task(toy[0], gff, tmp_path / "task", settings=SMALL)
    assert not (tmp_path / "task").exists()


@pytest.mark.parametrize(("contig", "words"), [("c9", "not in the genome"), ("empty", "no site")])
def test_held_out_contig_must_have_genes(toy, tmp_path: Path, contig: str, words: str) -> None:
    write_twobit([("c0", "ACGT" * 99), ("empty", "ACGT")], tmp_path / "y.2bit")
    gff = annotation(tmp_path, "c0\tx\tmRNA\t100\t200\t.\t+\t.\t.")
    settings = SiteSettings(upstream=20, downstream=10, test_contigs=(contig,))
    with pytest.raises(DataError, match=words):
        build_promoter_task(Genome(tmp_path / "y.2bit"), gff, tmp_path / "task", settings=settings)


def test_existing_folder_and_missing_annotation_are_refused(toy, tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task/mine.txt").write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        build_promoter_task(*toy, tmp_path / "task", settings=SMALL)
    build_promoter_task(*toy, tmp_path / "task", settings=SMALL, force=True)
    assert (tmp_path / "task/mine.txt").read_text() == "precious"
    with pytest.raises(FileFormatError, match="no such file"):
        build_promoter_task(toy[0], tmp_path / "none.gff", tmp_path / "other", settings=SMALL)
