import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    "text",
    [
        "",
        "chr1:5",
        "chr1:x:A>C",
        "chr1:5:A>",
        "chr1:5:Z>C",
        "rs123",
        "chr1:0:A>C",
        "chr1:,:A>C",
        "chr1:-5:A>C",
        "chr1:" + "9" * 5000 + ":A>C",
        "chr1-5-A",
        "1-5--C",
        "1_5_A_C_b39",
        "1:5:A>C>G",
        "1:5:A>C,G",
        "1 5 A C",
        "1:٣:A>C",
    ],
)
def test_bad_variants_are_refused(text: str) -> None:
    with pytest.raises(IntervalError):
        Variant.parse(text)


def test_empty_alleles_are_refused() -> None:
    with pytest.raises(IntervalError, match="empty allele"):
        Variant("chr1", 0, "", "A")


names = st.from_regex(r"[A-Za-z0-9_.*-]{1,12}", fullmatch=True)
alleles = st.text("ACGTN", min_size=1, max_size=9)
variants = st.builds(
    Variant,
    names,
    st.integers(0, 10**12),
    alleles,
    alleles | st.sampled_from(["*", "<DEL>", "<INS:ME:ALU>"]),
)


@given(variants, st.sampled_from([":{}:{}>{}", ":{}:{}:{}", "-{}-{}-{}", "_{}_{}_{}", "_{}_{}_{}_b38"]))  # fmt: skip
def test_every_spelling_of_any_variant_reads_back(variant: Variant, form: str) -> None:
    text = variant.chrom + form.format(variant.start + 1, variant.ref, variant.alt)
    assert Variant.parse(text) == variant
    assert Variant.parse(f"  {text}\n") == variant


@given(variants)
def test_commas_and_lower_case_are_read(variant: Variant) -> None:
    ref = variant.ref.lower()
    text = f"{variant.chrom}:{variant.start + 1:,}:{ref}>{variant.alt}"
    assert Variant.parse(text) == variant


@settings(max_examples=500)
@given(st.text(max_size=30) | st.text("chr12:-_>,ACGTN*<> \t", max_size=30))
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    with contextlib.suppress(IntervalError):
        variant = Variant.parse(text)
        assert Variant.parse(str(variant)) == variant


def test_the_telomere_is_a_place_of_vcf_but_not_of_text() -> None:
    assert str(Variant("1", -1, "A", "C")) == "1:0:A>C"
    with pytest.raises(IntervalError, match="before the first base"):
        Variant("1", -2, "A", "C")
