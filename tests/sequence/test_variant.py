import pytest

from hyenadna.errors import IntervalError
from hyenadna.sequence import Interval, Variant


@pytest.mark.parametrize(
    "text",
    ["chr22:1024:A>C", "chr22:1,024:a>c", "chr22-1024-A-C", "chr22_1024_A_C", "chr22_1024_A_C_b38"],
)
def test_all_spellings_mean_the_same_variant(text: str) -> None:
    assert Variant.parse(text) == Variant("chr22", 1023, "A", "C")


def test_indels_star_and_symbolic_alleles_are_read() -> None:
    assert Variant.parse("1-10-ACG-A") == Variant("1", 9, "ACG", "A")
    assert Variant.parse("1:10:A>*").alt == "*"
    assert Variant.parse("1:10:A><DEL>").alt == "<DEL>"


def test_contig_names_may_hold_the_separator() -> None:
    assert Variant.parse("chrUn_gl_1_7_A_G").chrom == "chrUn_gl_1"


def test_the_interval_spans_the_reference_allele() -> None:
    assert Variant.parse("1-10-ACG-A").interval == Interval("1", 9, 12)


def test_str_reads_back() -> None:
    variant = Variant("chr1", 0, "AC", "G")
    assert Variant.parse(str(variant)) == variant


@pytest.mark.parametrize(
    "text", ["", "chr1:5", "chr1:x:A>C", "chr1:5:A>", "chr1:5:Z>C", "rs123", "chr1:0:A>C"]
)
def test_bad_variants_are_refused(text: str) -> None:
    with pytest.raises(IntervalError):
        Variant.parse(text)


def test_empty_alleles_are_refused() -> None:
    with pytest.raises(IntervalError, match="empty allele"):
        Variant("chr1", 0, "", "A")
