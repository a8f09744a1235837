"""Spans of a genome.

One convention: 0-based half-open in Python and BED. Region *strings* are samtools' 1-based inclusive
``chrom:start-end``; this module is the only place that converts between the two.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from hyenadna.errors import IntervalError

_RANGE = re.compile(r"([0-9][0-9,]*)(?:-([0-9][0-9,]*)?)?")


@dataclass(frozen=True, order=True, slots=True)
class Interval:
    """A span of one contig.

    Parameters
    ----------
    chrom
        Name of the contig.
    start, end
        Bases, 0-based half-open: the span holds ``end - start`` bases. Empty spans are refused.
    strand
        ``"+"``, ``"-"`` or ``"."`` where it does not matter.

    Raises
    ------
    IntervalError
        ``start`` is negative, ``end`` is not beyond ``start``, or the strand is none of the three.
    """

    chrom: str
    start: int
    end: int
    strand: str = "."

    def __post_init__(self) -> None:
        if not self.chrom:
            raise IntervalError("an interval has no contig name")
        if self.start < 0 or self.end <= self.start:
            raise IntervalError(
                f"interval {self.chrom} start={self.start} end={self.end} (0-based half-open) "
                "is empty or reversed: 0 <= start < end is needed"
            )
        if self.strand not in ("+", "-", "."):
            raise IntervalError(
                f"interval {self.chrom}:{self.start + 1}-{self.end} has the strand "
                f"{self.strand!r}; expected '+', '-' or '.'"
            )

    def __len__(self) -> int:
        """Return the number of bases."""
        return self.end - self.start

    def __str__(self) -> str:
        """Return the region string, 1-based inclusive."""
        return f"{self.chrom}:{self.start + 1}-{self.end}"

    def overlaps(self, other: Interval) -> bool:
        """Tell whether the two spans share a base, on whatever strand."""
        return self.chrom == other.chrom and self.start < other.end and other.start < self.end

    @classmethod
    def parse(cls, text: str) -> Interval:
        """Read a complete region string ``chrom:start-end`` (1-based inclusive, commas allowed).

        Use `parse_region` where the contigs are known: it also takes bare names and open ends and checks the bounds.

        Raises
        ------
        IntervalError
            The text has another form.

        Examples
        --------
        >>> Interval.parse("chr1:1,001-2,000")
        Interval(chrom='chr1', start=1000, end=2000, strand='.')
        """
        chrom, colon, span = text.strip().rpartition(":")
        match = _RANGE.fullmatch(span)
        if not (colon and chrom and match and match[2]):
            raise _malformed(text)
        return _from_one_based(text, chrom, match[1], match[2])


def parse_region(text: str, contigs: Mapping[str, int]) -> Interval:
    """Read a region string against the contigs of a genome.

    Parameters
    ----------
    text
        samtools' forms, 1-based inclusive, commas allowed: ``chrom:start-end``, ``chrom:start-`` (to the contig's
        end), ``chrom:start`` (likewise, as samtools reads it) and ``chrom`` (the whole contig). A contig whose own name holds a
        colon is recognised.
    contigs
        Length of each contig, by name.

    Raises
    ------
    IntervalError
        The text is malformed, the contig unknown, or the region leaves the contig.
    """
    text = text.strip()
    if not text:
        raise _malformed(text)
    chrom, colon, span = text.rpartition(":")
    if text in contigs or not colon:
        _require_contig(text, contigs)
        if contigs[text] == 0:
            raise IntervalError(f"region {text!r}: the contig is empty")
        return Interval(text, 0, contigs[text])
    match = _RANGE.fullmatch(span)
    if not match or not chrom:
        raise _malformed(text)
    _require_contig(chrom, contigs)
    length = contigs[chrom]
    interval = _from_one_based(text, chrom, match[1], match[2] or str(max(length, 1)))
    if interval.end > length:
        raise IntervalError(
            f"region {text!r} ends at {interval.end:,}, beyond contig {chrom!r} "
            f"of {length:,} bases (positions are 1-based inclusive); {chrom}:{interval.start + 1}- runs to the contig's end"
        )
    return interval


def require_inside(interval: Interval, contigs: Mapping[str, int]) -> None:
    """Check that an interval's contig is known and holds the whole interval.

    Raises
    ------
    IntervalError
        It does not; the message names contigs of similar spelling.
    """
    _require_contig(interval.chrom, contigs)
    if interval.end > contigs[interval.chrom]:
        raise IntervalError(
            f"region {interval} ends beyond contig {interval.chrom!r} "
            f"of {contigs[interval.chrom]:,} bases"
        )


def find_contig(name: str, contigs: Mapping[str, int]) -> str | None:
    """Return what a genome calls a contig: the name itself, or the other of UCSC's and Ensembl's names for it; None for neither.

    Examples
    --------
    >>> find_contig("chr20", {"20": 63025520}), find_contig("MT", {"chrM": 16569}), find_contig("chr20", {"chr2": 9})
    ('20', 'chrM', None)
    """
    bare = name.removeprefix("chr")
    names = [name, f"chr{name}", bare]
    if bare in ("M", "MT"):
        names += ["chrM", "MT", "M"]
    return next((other for other in names if other in contigs), None)


def _require_contig(chrom: str, contigs: Mapping[str, int]) -> None:
    if chrom in contigs:
        return
    other = chrom[3:] if chrom.startswith("chr") else f"chr{chrom}"
    near = [name for name in contigs if name == other or name.lower() == chrom.lower()]
    near = near or difflib.get_close_matches(chrom, list(contigs), 3)
    known = ", ".join(near or list(contigs)[:5]) + ("" if near or len(contigs) <= 5 else ", …")
    raise IntervalError(
        f"contig {chrom!r} is not in the genome ({'did you mean' if near else 'it has'} {known})"
    )


def _malformed(text: str) -> IntervalError:
    return IntervalError(
        f"region {text!r} is malformed; expected chrom:start-end, 1-based inclusive, such as chr20:1,000-2,000"
    )


def _from_one_based(text: str, chrom: str, start: str, end: str) -> Interval:
    first, last = int(start.replace(",", "")), int(end.replace(",", ""))
    if first < 1 or last < first:
        raise IntervalError(
            f"region {text!r} runs from {first} to {last}; positions are 1-based inclusive, "
            "so the start is at least 1 and the end not before it"
        )
    return Interval(chrom, first - 1, last)
