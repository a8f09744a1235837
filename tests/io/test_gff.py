"""GFF3 and GTF: one `Feature` from both dialects, with every escape undone."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyenadna.errors import FileFormatError
from hyenadna.io import Feature, read_gff, write_gff
from hyenadna.sequence import Interval


def read(path: Path, text: str) -> list[Feature]:
    path.write_bytes(text.encode())
    return list(read_gff(path))


@pytest.fixture
def gff(tmp_path: Path) -> Path:
    return tmp_path / "genes"


def attributes(path: Path, text: str) -> dict[str, tuple[str, ...]]:
    (feature,) = read(path, f"chr1\t.\tgene\t1\t10\t.\t+\t.\t{text}\n")
    return dict(feature.attributes)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_gff3_is_read(gff: Path, end: str) -> None:
    lines = [
        "##gff-version 3.1.26",
        "##sequence-region chr1 1 1000",
        "# comment",
        "",
        "chr1\tSGD\tgene\t11\t20\t.\t-\t.\tID=g1;Name=YAL1",
        "chr%201\t.\tCDS\t1\t1\t1.5\t?\t2\tParent=a,b",
        "###",
        "##FASTA",
        ">chr1",
        "ACGT",
    ]
    assert read(gff, end.join(lines)) == [
        Feature(
            Interval("chr1", 10, 20, "-"),
            "gene",
            "SGD",
            attributes={"ID": ("g1",), "Name": ("YAL1",)},
        ),
        Feature(Interval("chr 1", 0, 1), "CDS", "", 1.5, 2, {"Parent": ("a", "b")}),
    ]


def test_gtf_is_read(gff: Path) -> None:
    (feature,) = read(
        gff,
        '#!genome-build R64\nI\tensembl\texon\t335\t649\t.\t+\t.\tgene_id "YAL069W"; exon_number 1; '
        'tag "basic"; tag "CCDS";\n',
    )
    assert feature.interval == Interval("I", 334, 649, "+")
    assert feature.attributes == {
        "gene_id": ("YAL069W",),
        "exon_number": ("1",),
        "tag": ("basic", "CCDS"),
    }
    assert feature.value("tag") == "basic"
    assert feature.value("missing") == ""
    assert feature.value("missing", "x") == "x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ID=a%3Bb%3Dc%26d%2Ce,f", {"ID": ("a;b=c&d,e", "f")}),
        ("Note=100%25 of it; Name=%C3%A9t%C3%A9;", {"Note": ("100% of it",), "Name": ("été",)}),
        ("Note=50% and 1+1", {"Note": ("50% and 1+1",)}),
        ('Note=a "quoted" word', {"Note": ('a "quoted" word',)}),
        ("ID=x=y", {"ID": ("x=y",)}),
        ("ID=a;;ID=b;", {"ID": ("a", "b")}),
        ("my%20key=", {"my key": ("",)}),
        (".", {}),
        ("", {}),
    ],
)
def test_gff3_escapes_are_undone(
    gff: Path, text: str, expected: dict[str, tuple[str, ...]]
) -> None:
    assert attributes(gff, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'gene_id "a"; note "x; y; z"; k "v"',
            {"gene_id": ("a",), "note": ("x; y; z",), "k": ("v",)},
        ),
        ('gene_id "a=b"; p "100%25"', {"gene_id": ("a=b",), "p": ("100%25",)}),
        ('gene_id ""; transcript_id "";', {"gene_id": ("",), "transcript_id": ("",)}),
        (r'note "5\" end; \\ here"; k "v";', {"note": (r'5" end; \ here',), "k": ("v",)}),
        ('note "ends in \\"; k "v";', {"note": ("ends in \\",), "k": ("v",)}),
        ("gene_id a; level 2;", {"gene_id": ("a",), "level": ("2",)}),
        ('gene_id "a" ;  k "v" ; ', {"gene_id": ("a",), "k": ("v",)}),
        ('gene_id "a"; ;', {"gene_id": ("a",)}),
    ],
)
def test_gtf_quotes_are_undone(gff: Path, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert attributes(gff, text) == expected


def test_dialect_is_seen_in_the_first_attributes(gff: Path) -> None:
    first, second = read(
        gff,
        'a\t.\tgene\t1\t2\t.\t+\t.\t.\na\t.\tgene\t1\t2\t.\t+\t.\tgene_id "x;y"\n',
    )
    assert (first.attributes, second.attributes) == ({}, {"gene_id": ("x;y",)})


def test_version_line_outweighs_the_look_of_the_attributes(gff: Path) -> None:
    line = 'a\t.\tgene\t1\t2\t.\t+\t.\tmy key "v"=1\n'
    assert dict(read(gff, "##gff-version 3\n" + line)[0].attributes) == {'my key "v"': ("1",)}
    with pytest.raises(FileFormatError):
        read(gff, "##gff-version 2\n" + line)


def test_headerless_fasta_part_ends_the_annotation(gff: Path) -> None:
    assert len(read(gff, "a\t.\tgene\t1\t2\t.\t+\t.\tID=a\n>a\nACGT\n")) == 1


def test_compressed_file_and_standard_input(gff: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = gzip.compress(b"a\t.\tgene\t1\t2\t.\t+\t.\tID=a\n")
    gff.write_bytes(data)
    (feature,) = read_gff(gff)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert list(read_gff("-")) == [feature]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a\t.\tgene\t0\t2\t.\t+\t.\tID=a", "runs from 0 to 2"),
        ("a\t.\tgene\t3\t2\t.\t+\t.\tID=a", "runs from 3 to 2"),
        ("a\t.\tgene\t-1\t2\t.\t+\t.\tID=a", "start is '-1'"),
        ("a\t.\tgene\t1\tend\t.\t+\t.\tID=a", "end is 'end'"),
        ("a\t.\tgene\t1\t2\thigh\t+\t.\tID=a", "score .* 'high'"),
        ("a\t.\tgene\t1\t2\tinf\t+\t.\tID=a", "score"),
        ("a\t.\tgene\t1\t2\t.\tplus\t.\tID=a", "strand .* 'plus'"),
        ("a\t.\tgene\t1\t2\t.\t+\t3\tID=a", "phase .* '3'"),
        ("a\t.\tgene\t1\t2\t.\t+\t.", "nine columns .* found 8"),
        ("a . gene 1 2 . + . ID=a", "nine columns .* found 1"),
        ("\t.\tgene\t1\t2\t.\t+\t.\tID=a", "must not be empty"),
        ("a\t.\t\t1\t2\t.\t+\t.\tID=a", "must not be empty"),
        ("a\t.\tgene\t1\t2\t.\t+\t.\tID=a;b", "'b' is not of the form key=value"),
        ("a\t.\tgene\t1\t2\t.\t+\t.\t=a", "key=value"),
    ],
)
def test_broken_line_is_refused_with_its_place(gff: Path, line: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message) as caught:
        read(gff, f"##gff-version 3\r\n{line}\r\n")
    assert caught.value.line == 2
    assert str(caught.value).startswith(f"{gff}:2: ")


@pytest.mark.parametrize(
    "text", ['gene_id "a', 'gene_id "a"; b', 'gene_id "a" "b"', 'gene_id "a"; n "x "y" z";']
)
def test_broken_gtf_attributes_are_refused(gff: Path, text: str) -> None:
    with pytest.raises(FileFormatError, match='of the form key "value"'):
        attributes(gff, text)


def test_long_broken_quotes_are_refused_in_no_time(gff: Path) -> None:
    with pytest.raises(FileFormatError):
        attributes(gff, 'gene_id "' + '\\"' * 50_000)


@pytest.mark.parametrize("text", ["##gff-version 3\n", "\n", "##FASTA\n>a\nA\n"])
def test_file_without_features_is_refused(gff: Path, text: str) -> None:
    with pytest.raises(FileFormatError, match="holds no feature"):
        read(gff, text)


def test_missing_file_is_refused_before_iteration(gff: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        read_gff(gff)


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
features = st.builds(
    lambda chrom, start, size, strand, *rest: Feature(
        Interval(chrom, start, start + size, strand), *rest
    ),
    texts,
    st.integers(0, 10**12),
    st.integers(1, 10**6),
    st.sampled_from("+-."),
    texts,
    st.just("") | texts,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([None, 0, 1, 2]),
    st.dictionaries(
        texts, st.lists(st.just("") | texts, min_size=1, max_size=3).map(tuple), max_size=3
    ),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(features, min_size=1, max_size=4))
def test_written_features_are_read_back(tmp_path: Path, written: list[Feature]) -> None:
    """Any text survives: the escapes of the columns and the attributes undo each other."""
    write_gff(written, tmp_path / "out.gff3", force=True)
    assert list(read_gff(tmp_path / "out.gff3")) == written


def test_features_are_hashable_values() -> None:
    a = Feature(Interval("a", 0, 1), "gene", attributes={"ID": ("x",)})
    assert {a, Feature(Interval("a", 0, 1), "gene", attributes={"ID": ("x",)})} == {a}
