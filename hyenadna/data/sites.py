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
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.data.genome import Genome
from hyenadna.data.kmers import OVERLAPPING, KmerIndex, sketch_size
from hyenadna.data.shuffle import dinucleotide_shuffle
from hyenadna.errors import ConfigError, DataError
from hyenadna.io.atomic import atomic_path
from hyenadna.io.bed import BedRecord, write_bed
from hyenadna.sequence import Interval, bases, reverse_complement_codes

SPLITS = ("train", "dev", "test")
NEGATIVES = ("gc", "genes", "near", "shuffle")
SPLIT_BY = ("contig", "similarity", "none")
_HELD_OUT_FRACTION = 0.1
_CANDIDATES_PER_SITE = 40
_K = 20  # rows with a tenth of their 20-mers in common stay in one split
_MOST_OF_A_GROUP = 0.05  # larger groups of similar rows train


class Site(NamedTuple):
    """A place in the genome (0-based base), the strand it is read on, and what is there."""

    place: int
    strand: str
    kind: str


class SiteKind(NamedTuple):
    """What a kind of site is to the task.

    Parameters
    ----------
    label
        Class of its windows.
    anchor
        Offsets, first and last exclusive, from the place in reading direction: the bases that a negative has in common with its site.
    """

    label: int
    anchor: tuple[int, int]


@dataclass(frozen=True)
class SiteSettings:
    """How windows, negatives and splits are chosen.

    Parameters
    ----------
    upstream, downstream
        Bases before the place, and from the place on; together the length of a window.
    test_contigs, dev_contigs
        Contigs of the test and the dev split. Empty: the contigs with the fewest sites, until each split has a tenth of all.
    negatives
        ``"gc"``: windows of the same contig with nearly the same GC content and the same anchor. ``"genes"``: such windows whose place lies inside a
        gene, on its strand. ``"near"``: such windows inside genes whose place lies in a site's window without being a site, so that the exact place
        has to be known; these meet sites and each other. ``"shuffle"``: the window's own bases in another order with the same dinucleotides, the anchor left where it is.
    max_gc_difference
        Largest difference in GC content between a site's window and its partner, 0…1.
    seed
        Another seed chooses other partners and another order of rows.
    split_by
        ``"contig"``: whole contigs. ``"similarity"``: rows that share a tenth of their 20-mers on either strand, and pairs, stay together.
        ``"none"``: all rows train, for a task that has its dev and test from elsewhere.
    """

    upstream: int = 200
    downstream: int = 100
    test_contigs: tuple[str, ...] = ()
    dev_contigs: tuple[str, ...] = ()
    negatives: str = "gc"
    max_gc_difference: float = 0.02
    seed: int = 0
    split_by: str = "contig"

    def __post_init__(self) -> None:
        if self.split_by not in SPLIT_BY:
            raise ConfigError(
                f"split_by {self.split_by!r} is unknown; expected one of {', '.join(SPLIT_BY)}"
            )
        if self.split_by != "contig" and (self.test_contigs or self.dev_contigs):
            raise ConfigError(f"a split by {self.split_by} holds out no contigs; leave them away")
        if self.negatives not in NEGATIVES:
            raise ConfigError(
                f"negatives {self.negatives!r} are unknown; expected one of {', '.join(NEGATIVES)}"
            )
        if not 0 <= self.max_gc_difference <= 1:
            raise ConfigError(
                f"max_gc_difference is {self.max_gc_difference}; expected a number from 0 to 1"
            )
        if both := sorted(set(self.test_contigs) & set(self.dev_contigs)):
            raise ConfigError(f"contig {both[0]!r} cannot be in both the test and the dev split")


class SiteTask(NamedTuple):
    """What a task is about.

    Parameters
    ----------
    title, about
        Head line and first paragraph of the card; `about` says what a window of each label is.
    kinds
        Kinds of sites by name.
    negative_label
        Class of the negatives.
    sites
        Different sites of each contig of the genome.
    genes
        Spans of genes of each contig, for negatives from genes.
    sources
        Lines of the card about the files that the sites come from.
    skipped
        Sites left out so far, by reason.
    """

    title: str
    about: str
    kinds: Mapping[str, SiteKind]
    negative_label: int
    sites: Mapping[str, Mapping[Site, None]]
    genes: Mapping[str, Sequence[Interval]]
    sources: Sequence[str]
    skipped: Mapping[str, int]


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


class _Row(NamedTuple):
    interval: Interval
    label: int
    sequence: str
    kind: str


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

    def rows_of(chroms: Iterable[str]) -> list[_Row]:
        found: list[_Row] = []
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


ELSEWHERE = "on a contig that the genome lacks"
"""Reason under which `SiteTask.skipped` counts sites that are in no contig of the genome."""


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


def _split_by_similarity(rows: Sequence[_Row], settings: SiteSettings) -> dict[str, list[_Row]]:
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
    found: dict[str, list[_Row]] = {split: [] for split in SPLITS}
    for row, group in zip(rows, groups.tolist(), strict=True):
        found[split_of[group]].append(row)
    return found


def _window(
    chrom: str, place: int, strand: str, settings: SiteSettings
) -> tuple[str, int, int, str]:
    if strand == "+":
        return chrom, place - settings.upstream, place + settings.downstream, strand
    return chrom, place + 1 - settings.downstream, place + 1 + settings.upstream, strand


def _rows(
    genome: Genome,
    chrom: str,
    task: SiteTask,
    settings: SiteSettings,
    rng: np.random.Generator,
    seen: set[str],
    skipped: Counter[str],
) -> Iterator[_Row]:
    """Yield the sites of a contig, each followed by its partner."""
    size = genome.contigs[chrom]
    codes = genome.codes(Interval(chrom, 0, size))
    taken = np.zeros(size, dtype=np.bool_)
    sites: list[_Row] = []
    for place, strand, kind in task.sites[chrom]:
        _, low, high, _ = _window(chrom, place, strand, settings)
        taken[max(low, 0) : high] = True  # of the windows left out, too
        if low < 0 or high > size:
            skipped["too near a contig's end"] += 1
            continue
        row = _row(codes, Interval(chrom, low, high, strand), task.kinds[kind].label, kind)
        if "N" in row.sequence:
            skipped["with N"] += 1
        elif not _is_new(row.sequence, seen):
            skipped["with the same bases as another"] += 1
        else:
            sites.append(row)
    partners: _Shuffles | _Candidates
    if settings.negatives == "shuffle":
        partners = _Shuffles(task, settings, rng)
    else:
        genes = task.genes.get(chrom, ()) if settings.negatives in ("genes", "near") else None
        beside = None
        if settings.negatives == "near":
            beside = taken.copy()
            beside[[site.place for site in task.sites[chrom]]] = False
        partners = _Candidates(codes, taken, sites, task, settings, genes, beside, rng)
    for at in rng.permutation(len(sites)):
        partner = partners.partner(sites[at], seen)
        if partner is None:
            skipped["without a matching partner"] += 1
        else:
            yield sites[at]
            yield partner


def _row(codes: npt.NDArray[np.uint8], interval: Interval, label: int, kind: str) -> _Row:
    window = codes[interval.start : interval.end]
    letters = bases(window if interval.strand == "+" else reverse_complement_codes(window))
    return _Row(interval, label, letters, kind)


def _is_new(sequence: str, seen: set[str]) -> bool:
    """Tell whether neither strand of a sequence was seen, and note it."""
    other = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    known = min(sequence, other)
    if known in seen:
        return False
    seen.add(known)
    return True


def _gc(sequence: str) -> int:
    return sequence.count("G") + sequence.count("C")


class _Shuffles:
    """Partners that are their sites' windows in another order, with every dinucleotide as often as before."""

    def __init__(self, task: SiteTask, settings: SiteSettings, rng: np.random.Generator) -> None:
        self._task, self._settings, self._rng = task, settings, rng

    def partner(self, site: _Row, seen: set[str]) -> _Row | None:
        """Return a shuffled window whose anchor is where it was, or None where ten trials give nothing new."""
        first, last = (self._settings.upstream + at for at in self._task.kinds[site.kind].anchor)
        before, anchor, after = site.sequence[:first], site.sequence[first:last], site.sequence[last:]  # fmt: skip
        for _ in range(10):
            letters = f"{dinucleotide_shuffle(before, self._rng)}{anchor}{dinucleotide_shuffle(after, self._rng)}"
            if _is_new(letters, seen):
                return _Row(site.interval, self._task.negative_label, letters, site.kind)
        return None


class _Candidates:
    """Windows of one contig that could be partners, by kind, the bases of the anchor, and the number of G and C."""

    def __init__(
        self,
        codes: npt.NDArray[np.uint8],
        taken: npt.NDArray[np.bool_],
        sites: Sequence[_Row],
        task: SiteTask,
        settings: SiteSettings,
        genes: Sequence[Interval] | None,
        beside: npt.NDArray[np.bool_] | None,
        rng: np.random.Generator,
    ) -> None:
        self._codes, self._taken, self._task, self._settings = codes, taken, task, settings
        length = settings.upstream + settings.downstream
        self._largest_difference = int(settings.max_gc_difference * length)
        self._pools: dict[tuple[str, str, int], list[tuple[int, str]]] = {}
        wanted = Counter((row.kind, self._anchor(row)) for row in sites)
        # A window is usable where it holds no N and no base of a site's window, told from running counts at its ends, or whose place is beside a site.
        self._may_meet_sites = beside is not None
        unusable = codes > 3 if self._may_meet_sites else taken | (codes > 3)
        blocked = np.concatenate([[0], np.cumsum(unusable, dtype=np.int32)])
        low = np.flatnonzero(blocked[length:] == blocked[:-length])
        is_gc = np.concatenate([[0], np.cumsum((codes == 1) | (codes == 2), dtype=np.int32)])
        for strand in "+-":
            place = low + (settings.upstream if strand == "+" else settings.downstream - 1)
            usable = np.ones(len(place), np.bool_)
            if genes is not None:
                usable &= _inside(genes, strand, len(codes))[place]
            if beside is not None:
                usable &= beside[place]
            numbers = {kind: self._numbers(task.kinds[kind].anchor, place, strand) for kind in task.kinds}  # fmt: skip
            for (kind, anchor), count in wanted.items():
                fits = numbers[kind] == _number(anchor)
                fitting = np.flatnonzero(fits & usable)
                some = rng.choice(
                    fitting, min(len(fitting), count * _CANDIDATES_PER_SITE), replace=False
                )
                gc = is_gc[low[some] + length] - is_gc[low[some]]
                for at, content in zip(place[some].tolist(), gc.tolist(), strict=True):
                    self._pools.setdefault((kind, anchor, content), []).append((at, strand))
        for key in sorted(self._pools):
            rng.shuffle(self._pools[key])

    def partner(self, site: _Row, seen: set[str]) -> _Row | None:
        """Take the unused candidate of nearest GC content, or None where none is near enough."""
        anchor, content = self._anchor(site), _gc(site.sequence)
        for difference in range(self._largest_difference + 1):
            for wanted in sorted({content - difference, content + difference}):
                pool = self._pools.get((site.kind, anchor, wanted), [])
                while pool:
                    place, strand = pool.pop()
                    window = _window(site.interval.chrom, place, strand, self._settings)
                    interval = Interval(*window)
                    if (
                        not self._may_meet_sites
                        and self._taken[interval.start : interval.end].any()
                    ):
                        continue
                    row = _row(self._codes, interval, self._task.negative_label, site.kind)
                    if _is_new(row.sequence, seen):
                        self._taken[interval.start : interval.end] = True
                        return row
        return None

    def _anchor(self, row: _Row) -> str:
        first, last = self._task.kinds[row.kind].anchor
        return row.sequence[self._settings.upstream + first : self._settings.upstream + last]

    def _numbers(self, anchor: tuple[int, int], place: npt.NDArray[np.int64], strand: str) -> npt.NDArray[np.uint32]:  # fmt: skip
        """Return the bases of the anchor at each place, in reading direction, as numbers of base 4."""
        step, complement = (1, np.uint8(0)) if strand == "+" else (-1, np.uint8(3))
        numbers = np.zeros(len(place), dtype=np.uint32)
        for offset in range(*anchor):
            numbers = numbers * np.uint32(4) + (self._codes[place + step * offset] ^ complement)
        return numbers


def _number(anchor: str) -> int:
    number = 0
    for letter in anchor:
        number = 4 * number + "ACGT".index(letter)
    return number


def _inside(genes: Sequence[Interval], strand: str, size: int) -> npt.NDArray[np.bool_]:
    inside = np.zeros(size, dtype=np.bool_)
    for gene in genes:
        if gene.strand == strand:
            inside[gene.start : gene.end] = True
    return inside


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
