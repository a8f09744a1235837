"""The windows in which two alleles are compared: which alleles can be, where the windows lie, and what they read.

How a model's answers become numbers is said by the two kinds of comparison, `hyenadna.inference.window_ratios` for causal models and
`hyenadna.inference.masked_marginals` for masked ones. `hyenadna.inference.variants` runs either over many variants.

On the reverse strand everything is done to the reverse complement: the context of a variant is then what follows it on the forward
strand.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, IntervalError
from hyenadna.sequence import Interval, Variant, find_contig, require_inside, reverse_complement
from hyenadna.tokenizers import CharacterTokenizer

Reason = Literal[
    "no_alternative",
    "symbolic",
    "not_acgt",
    "unknown_contig",
    "outside_contig",
    "ref_mismatch",
    "too_long",
    "contig_edge",
    "masked_model",
]

#: Why an allele has no score, one word each, with what the word means.
REASONS: dict[Reason, str] = {
    "no_alternative": "there is no alternative allele",
    "symbolic": "the allele is symbolic, a breakend or *, and has no bases of its own",
    "not_acgt": "REF or ALT has letters other than A, C, G and T",
    "unknown_contig": "the genome has no such contig",
    "outside_contig": "REF is not inside its contig",
    "ref_mismatch": "REF is not what the genome has at this place",
    "too_long": "REF or ALT is longer than half the window",
    "contig_edge": "the contig ends too early for a reference window as long as the insertion's",
    "masked_model": "REF and ALT differ in length, and a masked model compares bases at the same places",
}
#: The reasons that say that the variants are those of another genome, or named in another way.
MISMATCHES: tuple[Reason, ...] = ("unknown_contig", "outside_contig", "ref_mismatch")

_LONGEST_DEFAULT_WINDOW = 8192
_BASES = frozenset("ACGT")


def resolve_window(max_seq_len: int, window: int | None) -> int:
    """Return the window in bases; the default is the largest power of two that the model reads, but at most 8,192.

    Raises
    ------
    ConfigError
        It is out of range.
    """
    if window is None:
        return min(1 << (max_seq_len.bit_length() - 1), _LONGEST_DEFAULT_WINDOW)
    if not 4 <= window <= max_seq_len:
        raise ConfigError(
            f"window is {window:,}; expected 4 to {max_seq_len:,}, the longest input of this model"
        )
    return window


def place_windows(
    before: int, ref_length: int, alt_length: int, after: int, window: int
) -> tuple[int, int]:
    """Say where the two windows of an allele begin and how long both are.

    The longer allele is put into the middle. Both windows then begin at the same base; behind the allele each is filled with as much
    reference as makes it `window` bases. Near the end of a contig both begin earlier, near its start both end later, and where the contig
    is too short both are shortened alike. All distances are in reading direction: on the reverse strand, `before` is what follows REF.

    Parameters
    ----------
    before, after
        Bases of the contig on either side of REF.
    ref_length, alt_length
        Bases of the alleles.
    window
        Bases of a window.

    Returns
    -------
    tuple of int
        Bases before the allele, and bases of each window: at most `window`, and fewer only where the contig has no more.

    Examples
    --------
    >>> place_windows(5000, 1, 1, 5000, 1024)
    (511, 1024)
    >>> place_windows(5000, 1, 1, 10, 1024), place_windows(7, 1, 1, 5000, 1024)
    ((1013, 1024), (7, 1024))
    >>> place_windows(20, 3, 1, 30, 1024)  # a window without two of the bases, and one that leaves the last two out
    (20, 51)
    """
    shortest, longest = sorted((ref_length, alt_length))
    left = min(before, max((window - longest) // 2, window - shortest - after))
    return left, min(window, left + shortest + after)


class AlleleWindows(NamedTuple):
    """The two windows of a variant on one strand, in reading direction.

    Parameters
    ----------
    ref, alt
        Token ids of the windows, equally many.
    ref_last, alt_last
        Offset of the allele's last base.
    first, end
        Offsets of the first base that differs, and of the end of the longer allele.
    """

    ref: bytes
    alt: bytes
    ref_last: int
    alt_last: int
    first: int
    end: int


class Refusal(NamedTuple):
    """Why an allele is not compared, as a word and as a sentence."""

    reason: Reason
    detail: str


class WindowCutter:
    """Cuts the windows of variants out of a genome.

    Parameters
    ----------
    reference, tokenizer
        The genome, and what makes ids of its letters.
    window
        Bases of a window.
    n_strands
        1 or 2.
    of_one_length
        Refuse alleles that are not as long as REF, which a masked model cannot compare.
    """

    def __init__(
        self,
        reference: ReferenceSequence,
        tokenizer: CharacterTokenizer,
        *,
        window: int,
        n_strands: int,
        of_one_length: bool,
    ) -> None:
        self.reference, self.contigs = reference, reference.contigs
        self.tokenizer = tokenizer
        self.window, self.n_strands = window, n_strands
        self.of_one_length = of_one_length

    def cut(self, variant: Variant) -> list[AlleleWindows] | Refusal:
        """Return the windows on each strand, or say why there are none: what is wrong with the variant itself comes first."""
        ref, alt = variant.ref.upper(), variant.alt.upper()

        def refused(reason: Reason, detail: str = "") -> Refusal:
            return Refusal(reason, f"{shown(variant)}: {detail or REASONS[reason]}")

        if alt == ".":
            return refused("no_alternative")
        if alt == "*" or any(mark in alt for mark in "<>[]."):
            return refused("symbolic")
        if not (_BASES.issuperset(ref) and _BASES.issuperset(alt)):
            return refused("not_acgt")
        chrom = find_contig(variant.chrom, self.contigs)
        try:
            place = Interval(chrom or variant.chrom, variant.start, variant.start + len(ref))
            require_inside(place, self.contigs)
        except IntervalError as error:
            return refused("outside_contig" if chrom else "unknown_contig", str(error))
        shortest, longest = sorted((len(ref), len(alt)))
        if longest > self.window // 2:
            return refused("too_long")
        around = (place.start, self.contigs[place.chrom] - place.end)  # bases before and after it
        reads = [
            place_windows(before, len(ref), len(alt), after, self.window)
            for before, after in (around, around[::-1])[: self.n_strands]
        ]
        # The windows of both strands, read once: what they have before the allele and behind it
        sides = [(left, length - left - shortest) for left, length in reads]
        sides[1:] = [side[::-1] for side in sides[1:]]
        start, end = place.start - max(s[0] for s in sides), place.end + max(s[1] for s in sides)
        letters = self.reference.sequence(Interval(place.chrom, start, end)).upper()
        found = letters[place.start - start : place.end - start]
        if found != ref:
            i = _shared_prefix(found, ref)
            where = f"{place.chrom}:{place.start + i + 1}"
            return refused(
                "ref_mismatch", f"REF has {ref[i]} where the genome has {found[i]} ({where})"
            )
        if self.of_one_length and shortest != longest:
            return refused("masked_model")
        if any(left + longest > length for left, length in reads):
            return refused("contig_edge")
        ids, before = self.tokenizer.encode(letters), place.start - start
        strands = []
        for strand, (left, length) in enumerate(reads):
            if strand:
                ids, before = self.tokenizer.reverse_complement(ids), end - place.end
                ref, alt = reverse_complement(ref), reverse_complement(alt)
            read = ids[before - left :].tobytes()
            with_alt = read[:left] + self.tokenizer.encode(alt).tobytes() + read[left + len(ref) :]
            strands.append(
                AlleleWindows(
                    read[:length],
                    with_alt[:length],
                    left + len(ref) - 1,
                    left + len(alt) - 1,
                    left + _shared_prefix(ref, alt),
                    left + longest,
                )
            )
        return strands


def shown(variant: Variant) -> str:
    """Return a variant for a message, long alleles cut."""
    ref, alt = (a if len(a) <= 20 else f"{a[:17]}…" for a in (variant.ref, variant.alt))
    return f"{variant.chrom}:{variant.start + 1}:{ref}>{alt}"


def _shared_prefix(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
