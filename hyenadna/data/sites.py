"""Labelled tasks of windows around sites of a genome: positives at the sites, and a matched negative for each.

The result is a folder like those of GUE: ``train.csv``, ``dev.csv`` and ``test.csv`` with columns ``sequence,label``, a BED file that says where
every row comes from, and a card.

The one thing to know: a benchmark is only as good as its negatives. Each site is paired with a window that meets no site (or, where
asked for, nearly one) and carries the same bases at the place of the site, its anchor; otherwise a few letters at a fixed place would solve the task. What kinds of sites there are is said by
`hyenadna.data.promoters`, `splice_sites` and `peaks`.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hyenadna.data.genome import Genome
from hyenadna.data.kmers import OVERLAPPING, KmerIndex, sketch_size
from hyenadna.data.site_negatives import Candidates, Shuffles
from hyenadna.data.site_task import (
    ELSEWHERE,
    SPLITS,
    Row,
    Site,
    SiteSettings,
    SiteTask,
    is_new,
    row_of,
    window_of,
)
from hyenadna.errors import ConfigError, DataError
from hyenadna.io.atomic import atomic_path
from hyenadna.io.bed import BedRecord, write_bed
from hyenadna.sequence import Interval

_HELD_OUT_FRACTION = 0.1
_K = 20  # rows with a tenth of their 20-mers in common stay in one split
_MOST_OF_A_GROUP = 0.05  # larger groups of similar rows train


class SiteSummary(NamedTuple):
    """What was built, and what was left out."""

    rows: Mapping[str, int]
    """Rows of each split, half of them sites."""
    contigs: Mapping[str, tuple[str, ...]]
    """Contigs of each split."""
    sites: int
    """Different sites that were found."""
    skipped: Mapping[str, int]
    """Sites left out, by reason."""


def build_site_task(
    genome: Genome,
    task: SiteTask,
    output: str | os.PathLike[str],
    *,
    settings: SiteSettings,
    force: bool = False,
) -> SiteSummary:
    """Build a task and write it as a folder.

    Parameters
    ----------
    genome
        The genome.
    task
        Its sites, and what they are.
    output
        Folder to write: train.csv, dev.csv, test.csv (not without a split), windows.bed, README.md.
    settings
        Windows, negatives, splits and seed.
    force
        Overwrite files of an existing folder.

    Returns
    -------
    SiteSummary
        Rows and contigs of each split; sites left out. The same input and settings give the same files.

    Raises
    ------
    ConfigError
        A window does not hold the anchor of its site.
    DataError
        The contigs named are not in the genome, or a split would be empty.
    OutputError
        The folder exists, or cannot be written.
    """
    for name, kind in task.kinds.items():
        first, last = kind.anchor
        if first < -settings.upstream or last > settings.downstream or settings.upstream < 0:
            raise ConfigError(
                f"a window around a {name} has upstream >= {max(0, -first)} and downstream >= {max(1, last)} bases; "
                f"found upstream={settings.upstream}, downstream={settings.downstream}"
            )
    skipped = Counter(task.skipped)
    for reason in ("too near a contig's end", "with N", "with the same bases as another", "without a matching partner"):  # fmt: skip
        skipped[reason] += 0
    seen: set[str] = set()

    def rows_of(chroms: Iterable[str]) -> list[Row]:
        found: list[Row] = []
        for chrom in chroms:
            rng = np.random.default_rng([settings.seed, list(genome.contigs).index(chrom)])
            found += _rows(genome, chrom, task, settings, rng, seen, skipped)
        return found

    if settings.split_by == "contig":
        contigs = _contigs_of_splits(genome, task.sites, settings)
        # The test first: of two windows with the same bases it keeps its own, and training loses the other.
        rows = {split: rows_of(contigs[split]) for split in reversed(SPLITS)}
    else:
        found = rows_of(c for c in genome.contigs if c in task.sites)
        alone = settings.split_by == "none"
        rows = {"train": found} if alone else _split_by_similarity(found, settings)
        contigs = {
            split: tuple(c for c in genome.contigs if any(row.interval.chrom == c for row in rows[split]))
            for split in rows
        }  # fmt: skip
    splits = [split for split in SPLITS if split in rows]
    for split in splits:
        if not rows[split]:
            raise DataError(
                f"the {split} split ({', '.join(contigs[split])}) has no {' or '.join(task.kinds)} that can be used"
            )
        rng = np.random.default_rng([settings.seed, 1 << 30, SPLITS.index(split)])
        rows[split] = [rows[split][place] for place in rng.permutation(len(rows[split]))]
    n_sites = sum(map(len, task.sites.values())) + task.skipped.get(ELSEWHERE, 0)
    summary = SiteSummary(
        {split: len(rows[split]) for split in splits}, contigs, n_sites, {**skipped}
    )
    with atomic_path(output, force=force, folder=True) as folder:
        folder.mkdir()
        for split in splits:
            with (folder / f"{split}.csv").open("w", newline="", encoding="ascii") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(["sequence", "label"])
                writer.writerows((row.sequence, row.label) for row in rows[split])
        named = ((split, row) for split in splits for row in rows[split])
        write_bed(
            (BedRecord(row.interval, f"{split}_{row.label}") for split, row in named),
            folder / "windows.bed",
        )
        (folder / "README.md").write_text(_card(genome, task, settings, summary), encoding="utf-8")
    return summary


def _contigs_of_splits(
    genome: Genome, sites: Mapping[str, Mapping[Site, None]], settings: SiteSettings
) -> dict[str, tuple[str, ...]]:
    for chrom in (*settings.test_contigs, *settings.dev_contigs):
        if chrom not in sites:
            what = "has no site" if chrom in genome.contigs else "is not in the genome"
            raise DataError(f"contig {chrom!r} cannot be held out: it {what}")
    counts = {chrom: len(sites[chrom]) for chrom in genome.contigs if chrom in sites}
    chosen = {"test": list(settings.test_contigs), "dev": list(settings.dev_contigs)}
    free = sorted(
        (chrom for chrom in counts if chrom not in chosen["test"] + chosen["dev"]),
        key=lambda chrom: (counts[chrom], chrom),
    )
    if len(free) < 1 + sum(not contigs for contigs in chosen.values()):
        raise DataError(
            f"a split by chromosome needs a contig with sites for each of train, dev and test; {genome.path} has "
            f"{len(counts)} ({', '.join(list(counts)[:5])})"
        )
    enough = _HELD_OUT_FRACTION * sum(counts.values())
    for split, contigs in chosen.items():
        if not contigs:
            to_come = 1 + (split == "test" and not chosen["dev"])
            while len(free) > to_come and sum(counts[chrom] for chrom in contigs) < enough:
                contigs.append(free.pop(0))
    held = {chrom for contigs in chosen.values() for chrom in contigs}
    return {
        "train": tuple(chrom for chrom in counts if chrom not in held),
        "dev": tuple(chosen["dev"]),
        "test": tuple(chosen["test"]),
    }


def _split_by_similarity(rows: Sequence[Row], settings: SiteSettings) -> dict[str, list[Row]]:
    """Share out groups of similar rows; each site is followed by its partner, and both stay together."""
    sequences = [row.sequence for row in rows]
    index = KmerIndex(sequences, _K, sketch_size(sequences))
    pairs = np.arange(len(rows)).reshape(-1, 2)
    groups = index.clusters(OVERLAPPING, pairs)
    sizes = np.bincount(groups)
    wanted = _HELD_OUT_FRACTION * len(rows)
    held = {"test": 0, "dev": 0}
    split_of = dict.fromkeys(range(len(sizes)), "train")
    rng = np.random.default_rng([settings.seed, 1 << 31])
    for group in rng.permutation(len(sizes)).tolist():
        split = "test" if held["test"] < wanted else "dev"
        if held[split] < wanted and sizes[group] <= max(2, _MOST_OF_A_GROUP * len(rows)):
            split_of[group] = split
            held[split] += int(sizes[group])
    found: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row, group in zip(rows, groups.tolist(), strict=True):
        found[split_of[group]].append(row)
    return found


def _rows(
    genome: Genome,
    chrom: str,
    task: SiteTask,
    settings: SiteSettings,
    rng: np.random.Generator,
    seen: set[str],
    skipped: Counter[str],
) -> Iterator[Row]:
    """Yield the sites of a contig, each followed by its partner."""
    size = genome.contigs[chrom]
    codes = genome.codes(Interval(chrom, 0, size))
    taken = np.zeros(size, dtype=np.bool_)
    sites: list[Row] = []
    for place, strand, kind in task.sites[chrom]:
        _, low, high, _ = window_of(chrom, place, strand, settings)
        taken[max(low, 0) : high] = True  # of the windows left out, too
        if low < 0 or high > size:
            skipped["too near a contig's end"] += 1
            continue
        row = row_of(codes, Interval(chrom, low, high, strand), task.kinds[kind].label, kind)
        if "N" in row.sequence:
            skipped["with N"] += 1
        elif not is_new(row.sequence, seen):
            skipped["with the same bases as another"] += 1
        else:
            sites.append(row)
    partners: Shuffles | Candidates
    if settings.negatives == "shuffle":
        partners = Shuffles(task, settings, rng)
    else:
        genes = task.genes.get(chrom, ()) if settings.negatives in ("genes", "near") else None
        beside = None
        if settings.negatives == "near":
            beside = taken.copy()
            beside[[site.place for site in task.sites[chrom]]] = False
        partners = Candidates(codes, taken, sites, task, settings, genes, beside, rng)
    for at in rng.permutation(len(sites)):
        partner = partners.partner(sites[at], seen)
        if partner is None:
            skipped["without a matching partner"] += 1
        else:
            yield sites[at]
            yield partner


def _card(genome: Genome, task: SiteTask, settings: SiteSettings, summary: SiteSummary) -> str:
    anchors = ", ".join(f"{name} {last - first}" for name, (_, (first, last)) in task.kinds.items() if last > first)  # fmt: skip
    same = f", the same bases at the place of the site (their number: {anchors})" if anchors else ""
    partner = {
        "gc": f"same contig, GC content within {settings.max_gc_difference:.1%}{same}",
        "genes": f"inside a gene of the same contig, on its strand, GC content within {settings.max_gc_difference:.1%}{same}",
        "near": f"its place inside a gene of the same contig, on its strand, and in a site's window, but no site; GC content within {settings.max_gc_difference:.1%}{same}",
        "shuffle": f"the same bases in another order with the same dinucleotides{same}",
    }[settings.negatives]
    splits = {
        "contig": "Splits are whole contigs",
        "similarity": f"Rows of different splits share less than {OVERLAPPING:.0%} of their {_K}-mers, on either strand",
        "none": "All rows are for training",
    }[settings.split_by]
    lines = [
        f"# {task.title}",
        "",
        f"{task.about} Each row of label {task.negative_label} is the partner of a site's row: {partner}. {splits}; no sequence "
        "occurs twice, on either strand.",
        "",
        "| split | rows | contigs |",
        "|---|---|---|",
        *(
            f"| {split} | {summary.rows[split]} | {', '.join(summary.contigs[split])} |"
            for split in summary.rows
        ),
        "",
        f"Of {summary.sites} different sites these were left out: "
        + "; ".join(f"{count} {reason}" for reason, count in summary.skipped.items())
        + ".",
        "",
        f"- genome: {genome.path.name}, SHA-256 {genome.checksum}",
        *task.sources,
        f"- settings: {settings}",
        "- `windows.bed` says where each row comes from, in the order of the files; its fourth column is split_label.",
        "",
    ]
    return "\n".join(lines)
