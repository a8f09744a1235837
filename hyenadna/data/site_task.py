"""What a task of sites is: its sites and settings, and the rows that are made of them. `hyenadna.data.sites` builds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import ConfigError
from hyenadna.sequence import Interval, bases, reverse_complement_codes

SPLITS = ("train", "dev", "test")
NEGATIVES = ("gc", "genes", "near", "shuffle")
SPLIT_BY = ("contig", "similarity", "none")
ELSEWHERE = "on a contig that the genome lacks"
"""Reason under which `SiteTask.skipped` counts sites that are in no contig of the genome."""


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


class Row(NamedTuple):
    """A window of the task, in reading direction, and the kind of site that it is or stands beside."""

    interval: Interval
    label: int
    sequence: str
    kind: str


def window_of(
    chrom: str, place: int, strand: str, settings: SiteSettings
) -> tuple[str, int, int, str]:
    """Return contig, start, end (0-based half-open) and strand of the window around a place."""
    if strand == "+":
        return chrom, place - settings.upstream, place + settings.downstream, strand
    return chrom, place + 1 - settings.downstream, place + 1 + settings.upstream, strand


def row_of(codes: npt.NDArray[np.uint8], interval: Interval, label: int, kind: str) -> Row:
    """Read a row off the codes of its contig."""
    window = codes[interval.start : interval.end]
    letters = bases(window if interval.strand == "+" else reverse_complement_codes(window))
    return Row(interval, label, letters, kind)


def is_new(sequence: str, seen: set[str]) -> bool:
    """Tell whether neither strand of a sequence was seen, and note it."""
    other = sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))
    known = min(sequence, other)
    if known in seen:
        return False
    seen.add(known)
    return True
