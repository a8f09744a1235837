"""Variants in and out: what is read, what stays as it was, and that half a file never appears."""

import gzip
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hyenadna.errors import BackendUnavailableError, FileFormatError, OutputError
from hyenadna.io.vcf import (
    InfoField,
    VariantRecord,
    extended_header,
    new_header,
    open_variants,
    with_info,
)
from hyenadna.io.vcf_output import check_vcf_output, open_vcf_output

pysam = pytest.importorskip("pysam", reason="pysam is not installed: VCF is left out")

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
HEADER = f"""##fileformat=VCFv4.2
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency, of alleles">
##contig=<ID=1,length=1000>
{COLUMNS}\tFORMAT\tS1
"""
# What htslib would print in another way, or complain about: digits of floats, undeclared keys and contigs, odd quality.
BODY = """1\t10\trs1\tA\tC,*,<DEL>\t2235.77123\tPASS\tAF=0.12345678901,0.1,.;END=30\tGT:XX\t0/1:7
1\t11\t.\tA\t.\t.\tq10;s50\tFLAG;FOO=3\tGT\t0/0
2\t11\t.\tacg\tG]1:20]\t.\t.\t.\tGT\t./.
2\t0\t.\tN\tC\t.\t.\tAF=x\tGT\t./.
"""
RECORDS = [
    ("1", 9, "A", ("C", "*", "<DEL>"), "rs1"),
    ("1", 10, "A", (), ""),
    ("2", 10, "acg", ("G]1:20]",), ""),
    ("2", -1, "N", ("C",), ""),
]


def _read(path: object) -> tuple[list[str] | None, list[VariantRecord]]:
    with open_variants(path) as source:  # type: ignore[arg-type]
        return source.header, list(source.records)


def _write(path: Path, text: str, kind: str = "plain") -> Path:
    if kind == "plain":
        path.write_bytes(text.encode())
    elif kind == "gzip":
        path.write_bytes(gzip.compress(text.encode()))
    elif kind == "bgzip":
        with pysam.BGZFile(str(path), "wb") as out:
            out.write(text.encode())
    return path


# --- reading ---


@pytest.mark.parametrize("kind", ["plain", "gzip", "bgzip"])
def test_vcf_is_read_and_its_lines_are_kept(tmp_path: Path, kind: str) -> None:
    header, records = _read(_write(tmp_path / "any.name", HEADER + BODY, kind))
    assert header == HEADER.splitlines()
    assert [r[:5] for r in records] == RECORDS
    assert "".join(r.line + "\n" for r in records) == BODY


def test_bcf_is_read(tmp_path: Path) -> None:
    text = _write(
        tmp_path / "a.vcf", HEADER.replace("\tFORMAT\tS1", "") + "1\t10\trs1\tA\tC,*\t7\tPASS\t.\n"
    )
    with (
        pysam.VariantFile(str(text)) as source,
        pysam.VariantFile(str(tmp_path / "a.bcf"), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    header, records = _read(tmp_path / "a.bcf")
    assert header is not None
    assert header[-1] == COLUMNS
    assert records == [("1", 9, "A", ("C", "*"), "rs1", "1\t10\trs1\tA\tC,*\t7\tPASS\t.")]
    raw = (tmp_path / "a.bcf").read_bytes()
    (tmp_path / "cut.bcf").write_bytes(raw[:-40])
    with pytest.raises(FileFormatError, match="truncated"):
        _read(tmp_path / "cut.bcf")


@pytest.mark.parametrize("kind", ["plain", "gzip", "bgzip"])
def test_standard_input_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    for text, n in ((HEADER + BODY, 4), ("1:5:A>C\n\n#no\n2-7-A-<DEL>\n", 2)):
        raw = _write(tmp_path / "in", text, kind).read_bytes()
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert len(_read("-")[1]) == n


def test_a_list_of_variant_text_is_read(tmp_path: Path) -> None:
    header, records = _read(
        _write(tmp_path / "a.txt", "# mine\nchr1:1,005:a>c\r\n\n2_7_AC_A_b38\n")
    )
    assert header is None
    assert records == [
        ("chr1", 1004, "A", ("C",), "", "chr1\t1005\t.\tA\tC\t.\t.\t."),
        ("2", 6, "AC", ("A",), "", "2\t7\t.\tAC\tA\t.\t.\t."),
    ]


def test_a_vcf_without_records_is_none_but_fine(tmp_path: Path) -> None:
    assert _read(_write(tmp_path / "a.vcf", HEADER)) == (HEADER.splitlines(), [])


LINE = "1\t10\t.\tA\tC\t.\t.\t.\tGT\t0/1\n"
BAD = {
    "empty": ("", "is empty"),
    "comments only": ("# nothing\n", ":1: the file holds no variant"),
    "text": ("1:5:A>C\nrs123\n", ":2: variant 'rs123' is malformed"),
    "text at 0": ("1:0:A>C\n", ":1: variant '1:0:A>C' has position 0"),
    "a table": ("chrom\tpos\tref\talt\n1\t5\tA\tC\n", ":1: variant 'chrom"),
    "no fileformat": (HEADER.partition("\n")[2] + LINE, "does not begin with ##fileformat"),
    "only columns": (COLUMNS + "\n" + LINE, "does not begin with ##fileformat"),
    "byte-order mark": ("\ufeff" + HEADER + LINE, "with nothing before it"),
    "no columns": (HEADER.partition("#CHROM")[0] + LINE, "header is malformed"),
    "few columns": (HEADER + LINE + "1\t10\t.\tA\n", ":6: this is no VCF record: expected 8"),
    "spaces": (HEADER + "1 10 . A C . . .\n", ":5: this is no VCF record"),
    "position": (HEADER + LINE + "1\tten\t.\tA\tC\t.\t.\t.\tGT\t0/1\n", ":6: this is no VCF"),
    "negative": (HEADER + "1\t-3\t.\tA\tC\t.\t.\t.\tGT\t0/1\n", "found '1\\\\t-3"),
    "blank line": (HEADER + "\n" + LINE, ":5: this is no VCF record.*the line is blank"),
    "carriage return": (HEADER + LINE.replace("10", "1\r0"), ":5: this is no VCF record"),
    "binary": ("1:5:A>C\0\n", "binary file"),
}


@pytest.mark.parametrize("case", BAD)
def test_malformed_input_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(FileFormatError, match=message) as caught:
        _read(_write(tmp_path / "a.vcf", text))
    assert str(caught.value).startswith(str(tmp_path / "a.vcf"))
    assert "\n" not in str(caught.value)


def test_damaged_input_is_refused(tmp_path: Path) -> None:
    many = HEADER + LINE * 20_000
    for kind in ("gzip", "bgzip"):
        raw = _write(tmp_path / "a.vcf.gz", many, kind).read_bytes()
        (tmp_path / "cut.vcf.gz").write_bytes(raw[: len(raw) // 2])
        with pytest.raises(FileFormatError, match="truncated"):
            _read(tmp_path / "cut.vcf.gz")
    with pytest.raises(FileFormatError, match="no such file"):
        _read(tmp_path / "none.vcf")
    latin = tmp_path / "latin.vcf"
    latin.write_bytes((HEADER + LINE.replace("\t.\tA", "\tm\xfc\tA")).encode("latin-1"))
    with pytest.raises(FileFormatError, match=":5: .*in UTF-8"):
        _read(latin)


def test_htslib_is_silent_while_reading(tmp_path: Path) -> None:
    _write(tmp_path / "a.vcf", HEADER + BODY + "1\tx\n")
    code = f"from hyenadna.io.vcf import open_variants\nwith open_variants({str(tmp_path / 'a.vcf')!r}) as s: list(s.records)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "FileFormatError" in result.stderr
    assert "[W::" not in result.stderr
    assert "[E::" not in result.stderr


# --- headers and lines ---

FIELD = InfoField("X", "Float", "What X is, in nats")


def test_a_header_is_extended_once() -> None:
    once = extended_header(HEADER.splitlines(), [FIELD], {"tool": "a\n b"}, version="1.0")
    assert once[-1] == HEADER.splitlines()[-1]
    assert once[:3] == HEADER.splitlines()[:3]
    assert once[3:5] == [
        '##INFO=<ID=X,Number=A,Type=Float,Description="What X is, in nats",Source="hyenadna",Version="1.0">',
        "##tool=a b",
    ]
    assert extended_header(once, [FIELD], {"tool": "a b"}, version="1.0") == once


@pytest.mark.parametrize(
    ("info", "entries", "expected"),
    [
        (".", {"X": "1"}, "X=1"),
        (".", {}, "."),
        ("AF=1;DB", {"X": "1"}, "AF=1;DB;X=1"),
        ("X=9;AF=1;Y=7", {"X": "1"}, "AF=1;X=1"),
        ("X=9", {}, "."),
        ("XY=9;X", {"Y": "2"}, "XY=9;Y=2"),
    ],
)
def test_info_is_added_and_replaced(info: str, entries: dict[str, str], expected: str) -> None:
    for rest in ("", "\tGT\t0/1\t./."):
        found = with_info(f"1\t5\t.\tA\tC\t.\t.\t{info}{rest}", entries, replaced=["X", "Y"])
        assert found == f"1\t5\t.\tA\tC\t.\t.\t{expected}{rest}"


# --- writing ---


def _records(*places: tuple[str, int]) -> list[VariantRecord]:
    return [VariantRecord(c, s, "A", ("C",), "", f"{c}\t{s + 1}\t.\tA\tC\t.\t.\tX=1.5") for c, s in places]  # fmt: skip


def _save(path: Path, records: list[VariantRecord], **options: Any) -> str:
    header = extended_header(new_header({"1": 10**6, "2": 10**6}), [FIELD], {}, version="1.0")
    with open_vcf_output(path, **options) as out:
        out.header(header)
        for record in records:
            out.record(record, record.line)
    return out.not_indexed


def test_bgzip_output_has_an_index_that_works(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf.gz"
    assert _save(path, _records(("1", 5), ("1", 5), ("1", 900), ("2", 3))) == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.vcf.gz", "out.vcf.gz.tbi"]
    with pysam.VariantFile(str(path)) as found:
        assert [r.info["X"] for r in found] == [(1.5,)] * 4
        assert [r.pos for r in found.fetch("1", 100, 1000)] == [901]
        assert [r.pos for r in found.fetch("2")] == [4]


@pytest.mark.parametrize(
    ("places", "why"),
    [
        ([("1", 5), ("1", 4)], "not sorted"),
        ([("1", 5), ("2", 4), ("1", 6)], "not sorted"),
        ([("1", 5), ("1", 2**29 + 1)], "beyond 536,870,912"),
    ],
)
def test_what_cannot_be_indexed_is_written_without(
    tmp_path: Path, places: list[tuple[str, int]], why: str
) -> None:
    path = tmp_path / "out.vcf.gz"
    _save(path, _records(("1", 5)))
    assert why in _save(path, _records(*places), force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.vcf.gz"]  # no index of the older file
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == 6 + len(places)
    assert _save(tmp_path / "out.vcf", _records(*places)) == ""


def test_an_empty_vcf_is_written(tmp_path: Path) -> None:
    assert _save(tmp_path / "out.vcf.gz", []) == ""
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as found:
        assert list(found) == []


def test_bcf_has_an_index_that_works(tmp_path: Path) -> None:
    path = tmp_path / "out.bcf"
    assert _save(path, _records(("1", 5), ("1", 900), ("2", 3))) == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.bcf", "out.bcf.csi"]
    with pysam.VariantFile(str(path)) as found:
        assert found.format == "BCF"
        assert [r.info["X"] for r in found] == [(1.5,)] * 3
        assert [r.pos for r in found.fetch("1", 100, 1000)] == [901]
    assert "not sorted" in _save(path, _records(("1", 5), ("1", 4)), force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.bcf"]
    header, records = _read(path)
    assert header
    assert [record.start for record in records] == [5, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("1\t", "3\t"),
            "3:6 cannot be written as BCF: the header does not declare its contig '3'",
        ),
        (("X=1.5", "Y=1"), "INFO 'Y'"),
        (("\t.\t.\tX", "\t.\tq10\tX"), "FILTER 'q10'"),
        (("X=1.5", "X=1.5\tGT:DP\t0/1:3"), "FORMAT 'GT'"),
    ],
)
def test_bcf_needs_declarations(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    (record,) = _records(("1", 5))
    line = record.line.replace(*change, 1)
    wrong = record._replace(chrom=line.partition("\t")[0], line=line)
    with pytest.raises(OutputError, match=f"{re.escape(said)}; declare it, or write .vcf.gz"):
        _save(tmp_path / "out.bcf", [record, wrong])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.bcf"])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, name: str) -> None:
    def interrupted() -> None:
        with open_vcf_output(tmp_path / name) as out:
            out.header(new_header({"1": 10}))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "out.vcf.gz.tbi").write_text("mine")
    with pytest.raises(OutputError, match="tbi exists already"):
        check_vcf_output(tmp_path / "out.vcf.gz")
    check_vcf_output(tmp_path / "out.vcf.gz", force=True)
    check_vcf_output(tmp_path / "out.vcf")
    with pytest.raises(OutputError, match="tbi exists already"):
        _save(tmp_path / "out.vcf.gz", _records(("1", 5)))
    assert [p.name for p in tmp_path.iterdir()] == ["out.vcf.gz.tbi"]


def test_without_pysam_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(BackendUnavailableError, match="pip install pysam"):
        _read(_write(tmp_path / "a.vcf", HEADER + BODY))
    with pytest.raises(BackendUnavailableError, match="pip install pysam"):
        check_vcf_output(tmp_path / "out.vcf.gz")
    assert len(_read(_write(tmp_path / "a.txt", "1:5:A>C\n"))[1]) == 1
