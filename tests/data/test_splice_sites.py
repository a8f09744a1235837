"""Splice sites that were put into a random genome come out where they were put, and negatives only look like them."""

from __future__ import annotations

import csv
import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hyenadna.data.genome import Genome
from hyenadna.data.labelled_task import load_task
from hyenadna.data.shuffle import dinucleotide_shuffle
from hyenadna.data.site_task import SiteSettings
from hyenadna.data.splice_sites import DEFAULTS, build_splice_task
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import ConfigError, DataError
from hyenadna.io.bed import read_bed
from hyenadna.io.gff import Feature, write_gff
from hyenadna.sequence import Interval, reverse_complement
from hyenadna.tasks.audit import audit_task

SMALL = replace(DEFAULTS, upstream=30, downstream=20, max_gc_difference=0.3)
EXON, INTRON, GENES = 200, 120, 12
STEP = 3 * EXON + 2 * INTRON + 100


@pytest.fixture
def toy(tmp_path: Path) -> tuple[Genome, Path]:
    """Three contigs of genes with two introns each, every other one on strand "-"; one intron has other ends."""
    rng = random.Random(1)
    texts, features = {}, []
    for n in range(3):
        chrom, size = f"c{n}", GENES * STEP + 200
        letters = [rng.choice("ACGT") for _ in range(size)]
        for gene in range(GENES):
            start, strand = 100 + gene * STEP, "+-"[gene % 2]
            name = f"t{n}.{gene}"
            for part in range(3):
                low = start + part * (EXON + INTRON)
                features.append(Feature(Interval(chrom, low, low + EXON, strand), "exon", attributes={"Parent": (name,)}))  # fmt: skip
                if part < 2:
                    left, right = low + EXON, low + EXON + INTRON
                    ends = ("GT", "AG") if strand == "+" else ("CT", "AC")
                    if (n, gene, part) == (0, 0, 0):
                        ends = ("GC", "AG")
                    letters[left : left + 2], letters[right - 2 : right] = ends
        texts[chrom] = "".join(letters)
    write_twobit(texts.items(), tmp_path / "toy.2bit")
    random.Random(2).shuffle(features)  # the order of lines is no order of exons
    write_gff(features, tmp_path / "toy.gff3")
    return Genome(tmp_path / "toy.2bit"), tmp_path / "toy.gff3"


def _rows(folder: Path) -> list[tuple[Interval, int, str]]:
    found = []
    places = [record.interval for record in read_bed(folder / "windows.bed")]
    for split in ("train", "dev", "test"):
        with (folder / f"{split}.csv").open() as handle:
            found += [(int(row["label"]), row["sequence"]) for row in csv.DictReader(handle)]
    return [(place, *row) for place, row in zip(places, found, strict=True)]


@pytest.mark.parametrize("negatives", ["gc", "genes", "near", "shuffle"])
def test_sites_stand_at_their_place_and_negatives_carry_the_same_letters(
    toy: tuple[Genome, Path], tmp_path: Path, negatives: str
) -> None:
    genome, genes = toy
    settings = replace(SMALL, negatives=negatives)
    summary = build_splice_task(genome, genes, tmp_path / "task", settings=settings)
    rows = _rows(tmp_path / "task")
    labels = Counter(label for _, label, _ in rows)
    left_out = sum(n for reason, n in summary.skipped.items() if reason != "without GT or AG")
    assert summary.skipped["without GT or AG"] == 1  # the donor GC; its acceptor stays
    assert labels[0] + labels[1] == 3 * GENES * 4 - 1 - left_out
    assert labels[2] == labels[0] + labels[1]
    assert left_out < 10
    at = SMALL.upstream
    for place, label, sequence in rows:
        assert len(sequence) == 50
        if label == 0:
            assert sequence[at - 2 : at] == "AG"
        elif label == 1:
            assert sequence[at : at + 2] == "GT"
        else:
            assert sequence[at - 2 : at] == "AG" or sequence[at : at + 2] == "GT"
        if label < 2 or negatives != "shuffle":
            assert sequence == genome.sequence(place)
    # One partner a site, of its kind: GT alone tells nothing.
    gt = Counter(label for _, label, s in rows if s[at : at + 2] == "GT" and s[at - 2 : at] != "AG")
    assert gt[2] == pytest.approx(gt[1], abs=12)


def test_sites_are_the_ends_of_the_introns(toy: tuple[Genome, Path], tmp_path: Path) -> None:
    genome, genes = toy
    build_splice_task(genome, genes, tmp_path / "task", settings=SMALL)
    found = {(i.chrom, i.start + SMALL.upstream if i.strand == "+" else i.end - SMALL.upstream - 1, i.strand, label)
             for i, label, _ in _rows(tmp_path / "task") if label < 2}  # fmt: skip
    expected = set()
    for n in range(3):
        for gene in range(GENES):
            for part in range(2):
                left = 100 + gene * STEP + part * (EXON + INTRON) + EXON
                right, strand = left + INTRON, "+-"[gene % 2]
                donor, acceptor = (left, right) if strand == "+" else (right - 1, left - 1)
                expected |= {(f"c{n}", donor, strand, 1), (f"c{n}", acceptor, strand, 0)}
    expected.discard(("c0", 100 + EXON, "+", 1))
    assert found <= expected
    assert len(expected - found) < 10


def test_negatives_from_genes_lie_in_genes_on_their_strand(
    toy: tuple[Genome, Path], tmp_path: Path
) -> None:
    genome, genes = toy
    build_splice_task(genome, genes, tmp_path / "task", settings=SMALL)
    span = STEP - 100
    for interval, label, _ in _rows(tmp_path / "task"):
        if label == 2:
            place = interval.start + SMALL.upstream if interval.strand == "+" else interval.end - SMALL.upstream - 1  # fmt: skip
            gene, offset = divmod(place - 100, STEP)
            assert offset < span
            assert interval.strand == "+-"[gene % 2]


@pytest.mark.parametrize("negatives", ["near", "genes"])
def test_near_negatives_stand_beside_a_site_and_others_meet_none(
    toy: tuple[Genome, Path], tmp_path: Path, negatives: str
) -> None:
    genome, genes = toy
    build_splice_task(
        genome, genes, tmp_path / "task", settings=replace(SMALL, negatives=negatives)
    )
    places = set()
    for n in range(3):
        for gene in range(GENES):
            for part in range(2):
                left = 100 + gene * STEP + part * (EXON + INTRON) + EXON
                right = left + INTRON
                places |= {(f"c{n}", at) for at in ((left, right) if gene % 2 == 0 else (right - 1, left - 1))}  # fmt: skip
    found = 0
    for window, label, _ in _rows(tmp_path / "task"):
        if label == 2:
            place = window.start + SMALL.upstream if window.strand == "+" else window.end - SMALL.upstream - 1  # fmt: skip
            gene = (place - 100) // STEP
            assert window.strand == "+-"[gene % 2]
            beside = min(abs(place - at) for chrom, at in places if chrom == window.chrom)
            assert (0 < beside <= 30) if negatives == "near" else beside > 20
            found += 1
    assert found > 100


def test_similar_rows_stay_in_one_split(toy: tuple[Genome, Path], tmp_path: Path) -> None:
    genome, genes = toy
    settings = replace(SMALL, upstream=90, downstream=90, negatives="gc", split_by="similarity")
    summary = build_splice_task(genome, genes, tmp_path / "task", settings=settings)
    total = sum(summary.rows.values())
    assert 0.08 * total < summary.rows["test"] < 0.25 * total
    assert summary.rows["dev"] > 0.05 * total
    # Windows of both ends of an intron of 120 overlap: held out together, where contigs would be, too.
    pairs = audit_task(load_task(tmp_path / "task", drop_leaks=False)).pairs
    assert all(pair.overlapping == pair.nearly_the_same == pair.copies == 0 for pair in pairs)
    # negative control: rows that are dealt out singly do overlap
    rows = [(label, s) for _, label, s in _rows(tmp_path / "task")]
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[::2]), ("dev", rows[1::2])):
        lines = "".join(f"{s},{label}\n" for label, s in part)
        (tmp_path / f"{name}.csv").write_text("sequence,label\n" + lines)
    assert audit_task(load_task(tmp_path, drop_leaks=False)).pairs[0].overlapping > 0
    with pytest.raises(ConfigError, match="holds out no contigs"):
        replace(settings, test_contigs=("c0",))


def test_rows_of_another_tasks_training_need_no_split(
    toy: tuple[Genome, Path], tmp_path: Path
) -> None:
    genome, genes = toy
    settings = replace(SMALL, split_by="none")
    summary = build_splice_task(genome, genes, tmp_path / "task", settings=settings)
    assert sorted(path.name for path in (tmp_path / "task").iterdir()) == ["README.md", "train.csv", "windows.bed"]  # fmt: skip
    assert summary.contigs == {"train": ("c0", "c1", "c2")}
    by_contig = build_splice_task(genome, genes, tmp_path / "split", settings=SMALL)
    assert list(summary.rows) == ["train"]
    assert summary.rows["train"] == pytest.approx(sum(by_contig.rows.values()), abs=4)
    assert "All rows are for training" in (tmp_path / "task/README.md").read_text()
    with pytest.raises(ConfigError, match="holds out no contigs"):
        replace(settings, dev_contigs=("c0",))


def test_cds_pieces_and_gtf_will_do(toy: tuple[Genome, Path], tmp_path: Path) -> None:
    genome, _ = toy
    lines = "".join(
        f'c{n}\tx\tCDS\t{low + 1}\t{low + EXON}\t.\t{"+-"[gene % 2]}\t.\tgene_id "g{gene}"; transcript_id "t{gene}";\n'
        for n in range(3)
        for gene in range(GENES)
        for low in (100 + gene * STEP + part * (EXON + INTRON) for part in range(3))
    )
    (tmp_path / "toy.gtf").write_text(lines)
    build_splice_task(genome, toy[1], tmp_path / "gff", settings=SMALL)
    build_splice_task(genome, tmp_path / "toy.gtf", tmp_path / "gtf", settings=SMALL)
    one, other = ({(i, label) for i, label, _ in _rows(tmp_path / f) if label < 2} for f in ("gff", "gtf"))  # fmt: skip
    assert len(one & other) > 0.9 * len(one)
    assert "CDS features" in (tmp_path / "gtf/README.md").read_text()


def test_a_table_of_ucsc_gives_the_same_task(toy: tuple[Genome, Path], tmp_path: Path) -> None:
    genome, gff = toy
    lines = []
    for n in range(3):
        for gene in range(GENES):
            starts = [100 + gene * STEP + part * (EXON + INTRON) for part in range(3)]
            ends = [start + EXON for start in starts]
            lists = (",".join(map(str, places)) + "," for places in (starts, ends))
            columns = (f"g{gene}", f"t{n}.{gene}", f"chrc{n}", "+-"[gene % 2], starts[0], ends[-1], 0, 0, 3, *lists)  # fmt: skip
            lines.append("\t".join(map(str, columns)) + "\n")
    (tmp_path / "refFlat.txt").write_text("".join(lines))
    build_splice_task(genome, gff, tmp_path / "gff", settings=SMALL)
    build_splice_task(genome, tmp_path / "refFlat.txt", tmp_path / "refflat", settings=SMALL)
    one, other = ({(i, label) for i, label, _ in _rows(tmp_path / f) if label < 2} for f in ("gff", "refflat"))  # fmt: skip
    assert len(one & other) > 0.9 * len(one | other)


def test_annotations_that_cannot_serve_are_refused(
    toy: tuple[Genome, Path], tmp_path: Path
) -> None:
    genome, genes = toy
    for lines, words in (
        ("c0\tx\tgene\t1\t99\t.\t+\t.\tID=a\n", "no exon or CDS"),
        ("c0\tx\texon\t1\t99\t.\t+\t.\tParent=a\n", "no intron with GT and AG"),
        ("".join(f"c0\tx\texon\t{s}\t{s + 9}\t.\t+\t.\tParent=a\n" for s in (1, 99999)), "different assemblies"),
    ):  # fmt: skip
        path = tmp_path / "x.gff3"
        path.write_text(lines)
        with pytest.raises(DataError, match=words):
            build_splice_task(genome, path, tmp_path / "task", settings=SMALL)
    with pytest.raises(ConfigError, match="upstream >= 2"):
        build_splice_task(genome, genes, tmp_path / "task", settings=replace(SMALL, upstream=1))
    assert not (tmp_path / "task").exists()


@pytest.mark.parametrize("length", [0, 1, 3, 4, 50, 333])
def test_a_shuffle_keeps_every_dinucleotide_and_both_ends(length: int) -> None:
    draw, rng = random.Random(length), np.random.default_rng(length)
    for letters in ("ACGT", "AC", "A", "AAAAACG"):
        sequence = "".join(draw.choices(letters, k=length))
        shuffled = dinucleotide_shuffle(sequence, rng)
        pairs, others = (Counter(itertools.pairwise(s)) for s in (sequence, shuffled))
        assert pairs == others
        assert (shuffled[:1], shuffled[-1:]) == (sequence[:1], sequence[-1:])
    if length > 49:
        sequence = "".join(draw.choices("ACGT", k=length))
        assert dinucleotide_shuffle(sequence, rng) != sequence


def test_all_orders_of_a_shuffle_are_equally_likely() -> None:
    rng = np.random.default_rng(0)
    found = Counter(dinucleotide_shuffle("AACAGAA", rng) for _ in range(3000))
    # Ways from A: A, C, G, A; back from C and G. The last way out of A is drawn among its 4, the others permuted.
    assert len(found) == len({s for s in found if sorted(s) == sorted("AACAGAA")}) > 3
    assert max(found.values()) < 1.6 * min(found.values())


def test_settings_are_those_of_the_command() -> None:
    assert SiteSettings(200, 200, negatives="genes", max_gc_difference=0.05) == DEFAULTS
    assert reverse_complement("AG") == "CT"
