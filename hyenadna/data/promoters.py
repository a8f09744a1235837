"""A promoter task from a genome and its gene annotation: windows around the starts of genes against matched others.

The result is a folder like those of GUE: ``train.csv``, ``dev.csv`` and ``test.csv`` with columns ``sequence,label``
(1 promoter, 0 not), a BED file that says where every row comes from, and a card.

The one thing to know: a benchmark is only as good as its negatives. Each promoter is paired with a window of the same
chromosome that meets no promoter, has nearly the same GC content, and carries the same three bases at the place of
the start. Without the last, an annotation that begins genes at their start codon would be solved by looking for ATG there.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.data.genome import Genome
from hyenadna.errors import ConfigError, DataError
from hyenadna.io.atomic import atomic_path, check_output
from hyenadna.io.bed import BedRecord, write_bed
from hyenadna.io.gff import read_gff
from hyenadna.resources import resolve
from hyenadna.sequence import Interval, bases, reverse_complement_codes

SPLITS = ("train", "dev", "test")
_START_KINDS = ("mRNA", "transcript", "gene")
_HELD_OUT_FRACTION = 0.1
_ANCHOR = 3
_CANDIDATES_PER_PROMOTER = 40


@dataclass(frozen=True)
class PromoterSettings:
    """How a promoter task is built.

    Parameters
    ----------
    upstream, downstream
        Bases before the start, and from the start on; together the length of a window.
    test_contigs, dev_contigs
        Contigs of the test and the dev split. Empty: the contigs with the fewest promoters, until each split has a
        tenth of all.
    kinds
        Types of features whose 5' ends are starts. Empty: mRNA, else transcript, else gene, whichever the annotation has.
    max_gc_difference
        Largest difference in GC content between a promoter and its partner, 0…1.
    seed
        Another seed chooses other partners and another order of rows.
    """

    upstream: int = 200
    downstream: int = 100
    test_contigs: tuple[str, ...] = ()
    dev_contigs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    max_gc_difference: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if self.upstream < 0 or self.downstream < _ANCHOR:
            raise ConfigError(
                f"a promoter window has upstream >= 0 and downstream >= {_ANCHOR} bases; "
                f"found upstream={self.upstream}, downstream={self.downstream}"
            )
        if not 0 <= self.max_gc_difference <= 1:
            raise ConfigError(
                f"max_gc_difference is {self.max_gc_difference}; expected a number from 0 to 1"
            )
        if both := sorted(set(self.test_contigs) & set(self.dev_contigs)):
            raise ConfigError(f"contig {both[0]!r} cannot be in both the test and the dev split")


class PromoterSummary(NamedTuple):
    """What was built, and what was left out."""

    rows: Mapping[str, int]
    """Rows of each split, half of them promoters."""
    contigs: Mapping[str, tuple[str, ...]]
    """Contigs of each split."""
    starts: int
    """Different starts of genes in the annotation."""
    skipped: Mapping[str, int]
    """Starts left out, by reason."""


class _Row(NamedTuple):
    interval: Interval
    label: int
    sequence: str


def build_promoter_task(
    genome: Genome,
    annotation: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: PromoterSettings | None = None,
    force: bool = False,
) -> PromoterSummary:
    """Build a promoter task and write it as a folder.

    Parameters
    ----------
    genome
        The genome.
    annotation
        GFF3 or GTF of the same assembly.
    output
        Folder to write: train.csv, dev.csv, test.csv, windows.bed, README.md.
    settings
        Windows, splits and seed; None for the defaults.
    force
        Overwrite files of an existing folder.

    Returns
    -------
    PromoterSummary
        Rows and contigs of each split; starts left out. The same input and settings give the same files.

    Raises
    ------
    FileFormatError
        The annotation is missing or malformed.
    DataError
        The annotation has no start of a gene on any contig of the genome, the contigs named are not in the genome, or a
        split would be empty.
    OutputError
        The folder exists, or cannot be written.
    """
    settings = settings or PromoterSettings()
    check_output(output, force=force, folder=True)
    source = resolve(annotation)
    starts, kind, skipped = _starts(genome, source, settings)
    n_starts = sum(map(len, starts.values())) + skipped["on a contig that the genome lacks"]
    contigs = _contigs_of_splits(genome, starts, settings)
    rows: dict[str, list[_Row]] = {}
    seen: set[str] = set()
    # The test first: of two promoters with the same bases it keeps its own, and training loses the other.
    for split in reversed(SPLITS):
        rows[split] = []
        for chrom in contigs[split]:
            order = list(genome.contigs).index(chrom)
            rng = np.random.default_rng([settings.seed, order])
            rows[split] += _rows(genome, chrom, starts[chrom], settings, rng, seen, skipped)
        if not rows[split]:
            raise DataError(
                f"the {split} split ({', '.join(contigs[split])}) has no promoter that can be used"
            )
        rng = np.random.default_rng([settings.seed, 1 << 30, SPLITS.index(split)])
        rows[split] = [rows[split][place] for place in rng.permutation(len(rows[split]))]
    summary = PromoterSummary(
        {split: len(rows[split]) for split in SPLITS}, contigs, n_starts, {**skipped}
    )
    with atomic_path(output, force=force, folder=True) as folder:
        folder.mkdir()
        for split in SPLITS:
            with (folder / f"{split}.csv").open("w", newline="", encoding="ascii") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerow(["sequence", "label"])
                writer.writerows((row.sequence, row.label) for row in rows[split])
        named = ((split, row) for split in SPLITS for row in rows[split])
        write_bed(
            (BedRecord(row.interval, f"{split}_{row.label}") for split, row in named),
            folder / "windows.bed",
        )
        (folder / "README.md").write_text(
            _card(genome, source, kind, settings, summary), encoding="utf-8"
        )
    return summary


def _starts(
    genome: Genome, annotation: Path, settings: PromoterSettings
) -> tuple[dict[str, dict[tuple[int, str], None]], str, Counter[str]]:
    """Collect the different starts (0-based base, strand) of each contig, in the file's order."""
    wanted = settings.kinds or _START_KINDS
    found: dict[str, list[Interval]] = {kind: [] for kind in wanted}
    for feature in read_gff(annotation):
        if feature.kind in found:
            found[feature.kind].append(feature.interval)
    present = [kind for kind in wanted if found[kind]]
    if not present:
        raise DataError(
            f"{annotation}: the annotation has no feature of type {' or '.join(wanted)}"
        )
    kinds = present if settings.kinds else present[:1]
    starts: dict[str, dict[tuple[int, str], None]] = {}
    skipped = Counter(
        dict.fromkeys(
            (
                "without a strand",
                "on a contig that the genome lacks",
                "too near a contig's end",
                "with N",
                "with the same bases as another",
                "without a matching partner",
            ),
            0,
        )
    )
    strange: set[tuple[str, int, str]] = set()
    for span in (span for kind in kinds for span in found[kind]):
        if span.strand == ".":
            skipped["without a strand"] += 1
            continue
        place = span.start if span.strand == "+" else span.end - 1
        if span.chrom not in genome.contigs:
            strange.add((span.chrom, place, span.strand))
        elif place >= genome.contigs[span.chrom]:
            raise DataError(
                f"{annotation}: a {kinds[0]} begins at {span.chrom}:{place + 1}, beyond the contig's "
                f"{genome.contigs[span.chrom]:,} bases; annotation and genome are of different assemblies"
            )
        else:
            starts.setdefault(span.chrom, {})[place, span.strand] = None
    skipped["on a contig that the genome lacks"] = len(strange)
    if not starts:
        theirs = ", ".join(sorted({chrom for chrom, _, _ in strange})[:3]) or "none with a strand"
        raise DataError(
            f"{annotation}: no start of a gene lies on a contig of the genome (annotation: {theirs}; "
            f"genome: {', '.join(list(genome.contigs)[:3])})"
        )
    return starts, ", ".join(kinds), skipped


def _contigs_of_splits(
    genome: Genome, starts: Mapping[str, Mapping[tuple[int, str], None]], settings: PromoterSettings
) -> dict[str, tuple[str, ...]]:
    for chrom in (*settings.test_contigs, *settings.dev_contigs):
        if chrom not in starts:
            what = "has no start of a gene" if chrom in genome.contigs else "is not in the genome"
            raise DataError(f"contig {chrom!r} cannot be held out: it {what}")
    counts = {chrom: len(starts[chrom]) for chrom in genome.contigs if chrom in starts}
    chosen = {"test": list(settings.test_contigs), "dev": list(settings.dev_contigs)}
    free = sorted(
        (chrom for chrom in counts if chrom not in chosen["test"] + chosen["dev"]),
        key=lambda chrom: (counts[chrom], chrom),
    )
    if len(free) < 1 + sum(not contigs for contigs in chosen.values()):
        raise DataError(
            f"a split by chromosome needs a contig with genes for each of train, dev and test; {genome.path} has "
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


def _window(
    chrom: str, place: int, strand: str, settings: PromoterSettings
) -> tuple[str, int, int, str]:
    if strand == "+":
        return chrom, place - settings.upstream, place + settings.downstream, strand
    return chrom, place + 1 - settings.downstream, place + 1 + settings.upstream, strand


def _rows(
    genome: Genome,
    chrom: str,
    starts: Mapping[tuple[int, str], None],
    settings: PromoterSettings,
    rng: np.random.Generator,
    seen: set[str],
    skipped: Counter[str],
) -> Iterator[_Row]:
    """Yield the promoters of a contig, each followed by its partner."""
    size = genome.contigs[chrom]
    codes = genome.codes(Interval(chrom, 0, size))
    taken = np.zeros(size, dtype=np.bool_)
    promoters: list[_Row] = []
    for place, strand in starts:
        _, low, high, _ = _window(chrom, place, strand, settings)
        taken[max(low, 0) : high] = True  # of the windows left out, too
        if low < 0 or high > size:
            skipped["too near a contig's end"] += 1
            continue
        row = _row(codes, Interval(chrom, low, high, strand), 1)
        if "N" in row.sequence:
            skipped["with N"] += 1
        elif not _is_new(row.sequence, seen):
            skipped["with the same bases as another"] += 1
        else:
            promoters.append(row)
    pools = _Candidates(codes, taken, promoters, settings, rng)
    for place in rng.permutation(len(promoters)):
        partner = pools.partner(promoters[place], chrom, seen)
        if partner is None:
            skipped["without a matching partner"] += 1
        else:
            yield promoters[place]
            yield partner


def _row(codes: npt.NDArray[np.uint8], interval: Interval, label: int) -> _Row:
    window = codes[interval.start : interval.end]
    return _Row(
        interval,
        label,
        bases(window if interval.strand == "+" else reverse_complement_codes(window)),
    )


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


class _Candidates:
    """Windows of one contig that could be partners, by the bases at the start and the number of G and C."""

    def __init__(
        self,
        codes: npt.NDArray[np.uint8],
        taken: npt.NDArray[np.bool_],
        promoters: Sequence[_Row],
        settings: PromoterSettings,
        rng: np.random.Generator,
    ) -> None:
        self._codes, self._taken, self._settings = codes, taken, settings
        self._largest_difference = int(
            settings.max_gc_difference * (settings.upstream + settings.downstream)
        )
        self._pools: dict[tuple[str, int], list[tuple[int, str]]] = {}
        wanted = Counter(self._anchor(row) for row in promoters)
        # A window is usable where it holds no N and no base of a promoter, told from running counts at its ends.
        blocked = np.concatenate([[0], np.cumsum(taken | (codes > 3), dtype=np.int32)])
        length = settings.upstream + settings.downstream
        low = np.flatnonzero(blocked[length:] == blocked[:-length])
        is_gc = np.concatenate([[0], np.cumsum((codes == 1) | (codes == 2), dtype=np.int32)])
        for strand in "+-":
            place = low + (settings.upstream if strand == "+" else settings.downstream - 1)
            step = 1 if strand == "+" else -1
            other_strand = np.uint8(3 if strand == "-" else 0)  # complements codes 0…3
            triplets = np.zeros(len(place), dtype=np.uint8)
            for offset in range(_ANCHOR):
                triplets = triplets * np.uint8(4) + (codes[place + step * offset] ^ other_strand)
            for anchor, count in wanted.items():
                number = int("".join(str("ACGT".index(letter)) for letter in anchor), 4)
                fitting = np.flatnonzero(triplets == number)
                some = rng.choice(
                    fitting, min(len(fitting), count * _CANDIDATES_PER_PROMOTER), replace=False
                )
                gc = is_gc[low[some] + length] - is_gc[low[some]]
                for at, content in zip(place[some].tolist(), gc.tolist(), strict=True):
                    self._pools.setdefault((anchor, content), []).append((at, strand))
        for key in sorted(self._pools):
            rng.shuffle(self._pools[key])

    def partner(self, promoter: _Row, chrom: str, seen: set[str]) -> _Row | None:
        """Take the unused candidate of nearest GC content, or None where none is near enough."""
        anchor, content = self._anchor(promoter), _gc(promoter.sequence)
        for difference in range(self._largest_difference + 1):
            for wanted in sorted({content - difference, content + difference}):
                pool = self._pools.get((anchor, wanted), [])
                while pool:
                    place, strand = pool.pop()
                    interval = Interval(*_window(chrom, place, strand, self._settings))
                    if self._taken[interval.start : interval.end].any():
                        continue
                    row = _row(self._codes, interval, 0)
                    if _is_new(row.sequence, seen):
                        self._taken[interval.start : interval.end] = True
                        return row
        return None

    def _anchor(self, row: _Row) -> str:
        return row.sequence[self._settings.upstream : self._settings.upstream + _ANCHOR]


def _card(
    genome: Genome,
    annotation: Path,
    kind: str,
    settings: PromoterSettings,
    summary: PromoterSummary,
) -> str:
    length = settings.upstream + settings.downstream
    lines = [
        "# Promoter task",
        "",
        f"Windows of {length} bases around the starts of genes (label 1: {settings.upstream} before the start, "
        f"{settings.downstream} from it on, in the gene's direction) against windows that meet none (label 0). Each label-0 row "
        "is the partner of a label-1 row: same contig, GC content within "
        f"{settings.max_gc_difference:.1%}, same {_ANCHOR} bases at the place of the start. Splits are whole contigs; no sequence "
        "occurs twice, on either strand.",
        "",
        "| split | rows | contigs |",
        "|---|---|---|",
        *(
            f"| {split} | {summary.rows[split]} | {', '.join(summary.contigs[split])} |"
            for split in SPLITS
        ),
        "",
        f"Of {summary.starts} different starts ({kind}) these were left out: "
        + "; ".join(f"{count} {reason}" for reason, count in summary.skipped.items())
        + ".",
        "",
        f"- genome: {genome.path.name}, SHA-256 {genome.checksum}",
        f"- annotation: {annotation.name}, SHA-256 {hashlib.sha256(annotation.read_bytes()).hexdigest()}",
        f"- settings: {settings}",
        "- `windows.bed` says where each row comes from, in the order of the files; its fourth column is split_label.",
        "",
        "Where the annotation has no untranslated regions, a gene begins at its start codon, and so do these windows.",
        "",
    ]
    return "\n".join(lines)
