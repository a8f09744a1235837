"""Sequence variants as values, and the four spellings in which people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hyenadna.errors import IntervalError
from hyenadna.sequence.interval import Interval

_ALLELES = r"(?P<ref>[ACGTNacgtn]+){sep}(?P<alt>[ACGTNacgtn]+|\*|<[^<>\s]+>)"
_FORMS = (
    re.compile(r"(?P<chrom>\S+):(?P<pos>[0-9][0-9,]{0,17}):" + _ALLELES.format(sep="[>:]")),
    re.compile(r"(?P<chrom>\S+)-(?P<pos>[0-9]{1,18})-" + _ALLELES.format(sep="-")),
    re.compile(
        r"(?P<chrom>\S+)_(?P<pos>[0-9]{1,18})_" + _ALLELES.format(sep="_") + r"(?:_b(?:37|38))?"
    ),
)


@dataclass(frozen=True, order=True, slots=True)
class Variant:
    """One alternative allele at one place.

    Parameters
    ----------
    chrom
        Name of the contig.
    start
        0-based position of the first base of ``ref``; VCF's POS is ``start + 1``. −1 is VCF's POS 0, the telomere.
    ref, alt
        Alleles as VCF writes them; ``alt`` may be ``*`` or symbolic (``<DEL>``).
    """

    chrom: str
    start: int
    ref: str
    alt: str

    def __post_init__(self) -> None:
        if self.start < -1:
            raise IntervalError(
                f"variant at {self.chrom}:{self.start + 1} is before the first base of its contig"
            )
        if not self.ref or not self.alt:
            raise IntervalError(f"variant at {self.chrom}:{self.start + 1} has an empty allele")

    def __str__(self) -> str:
        """Return ``chrom:position:ref>alt``, 1-based."""
        return f"{self.chrom}:{self.start + 1}:{self.ref}>{self.alt}"

    @property
    def interval(self) -> Interval:
        """The span of the reference allele, 0-based half-open."""
        return Interval(self.chrom, self.start, self.start + len(self.ref))

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read variant text, 1-based: ``chr22:1024:A>C``, ``22-1024-A-C``, ``22_1024_A_C`` or ``chr22_1024_A_C_b38``.

        Alleles become upper case.

        Raises
        ------
        IntervalError
            The text has none of these forms.

        Examples
        --------
        >>> Variant.parse("chr22:1024:A>C")
        Variant(chrom='chr22', start=1023, ref='A', alt='C')
        """
        text = text.strip()
        for form in _FORMS:
            if match := form.fullmatch(text):
                alt = match["alt"]
                position = int(match["pos"].replace(",", ""))
                if position < 1:
                    raise IntervalError(
                        f"variant {text[:60]!r} has position 0; positions are 1-based, so at least 1"
                    )
                return cls(
                    match["chrom"],
                    position - 1,
                    match["ref"].upper(),
                    alt if alt.startswith("<") else alt.upper(),
                )
        raise IntervalError(
            f"variant {text[:60]!r} is malformed; expected chr22:1024:A>C, 22-1024-A-C, 22_1024_A_C "
            "or chr22_1024_A_C_b38, with 1-based positions"
        )
