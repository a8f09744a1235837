"""``hyenadna vep`` as a user meets it."""

import csv
import gzip
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hyenadna import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    score_variants,
)
from hyenadna.cli import main
from hyenadna.data.genome import open_reference

pysam = pytest.importorskip("pysam", reason="pysam is not installed: vep is left out")

FLOATS = ["HYENADNA_LLR", "HYENADNA_LLR_FWD", "HYENADNA_LLR_REV", "HYENADNA_LLR_LOCAL", "HYENADNA_EMB_DIST"]  # fmt: skip
KEYS = [*FLOATS, "HYENADNA_REASON"]
COLUMNS = ["llr", "llr_forward", "llr_reverse", "llr_local", "embedding_distance"]
HEADER = """##fileformat=VCFv4.2
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">
##contig=<ID=chrA,length=600>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1
"""
# The toy genome: chrA is ACGTTGCAAC repeated, then N, then soft-masked; chrB is GGCATTTACG repeated.
DECLARED = [
    "##contig=<ID=B,length=400>", "##contig=<ID=chrC,length=400>", '##FILTER=<ID=q10,Description="Low quality">',
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="In a database">', '##INFO=<ID=END,Number=1,Type=Integer,Description="Last position">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
]  # fmt: skip
BODY = """chrA\t101\trs1\tA\tC,*,G\t99.123456789\tPASS\tAF=0.123456789,0.1,0.2\tGT\t0/1
chrA\t105\t.\tTGCAA\tT\t.\tq10\tDB\tGT\t0/1
chrA\t111\t.\tA\tATTT,AC,<DEL>\t.\t.\t.\tGT\t./.
chrA\t120\t.\tC\t.\t.\t.\t.\tGT\t0/0
chrA\t120\t.\tC\tC\t.\t.\tEND=120\tGT\t0/0
chrA\t151\t.\tACG\tTCA\t.\t.\t.\tGT\t0/0
chrA\t161\t.\tG\tA\t.\t.\t.\tGT\t0/0
B\t7\t.\tT\tA\t.\t.\t.\tGT\t0/0
chrC\t7\t.\tT\tA\t.\t.\t.\tGT\t0/0
"""
REASONS = [
    (None, "symbolic", None), (None,), (None, None, "symbolic"), ("no_alternative",), (None,), (None,), ("ref_mismatch",),
    (None,), ("unknown_contig",),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    network = HyenaForCausalLM(
        HyenaConfig(d_model=16, n_layers=1, max_seq_len=130, filter_dim=8, tie_embeddings=False)
    )
    with torch.no_grad():
        network.lm_head.weight.mul_(50)
    network.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def genome(toy_fasta: Path) -> str:
    return str(toy_fasta)


@pytest.fixture
def vcf(tmp_path: Path) -> str:
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + BODY)
    return str(path)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def set_stdin(text: str) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return set_stdin


def _table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def _refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail: one sentence on stderr, nothing on stdout, status 2."""
    assert main(["vep", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in err
    return lines[0]


def test_every_record_comes_out_in_order_with_scores_or_reasons(
    model: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.vcf.gz"
    assert (
        main(["vep", "-m", model, "-f", genome, "-i", vcf, "-o", str(out), "--window", "64"]) == 0
    )
    stdout, err = capsys.readouterr()
    assert stdout == ""
    assert err.startswith("scored 8 of 12 alleles in 9 records (")
    assert "not scored: 2 symbolic, 1 no_alternative, 1 ref_mismatch, 1 unknown_contig" in err
    assert "without an index" not in err

    with pysam.VariantFile(str(out)) as found:
        for key in KEYS:
            meta = found.header.info[key]
            assert (meta.number, meta.type) == ("A", "String" if key == KEYS[-1] else "Float")
        assert (
            "log p(window with ALT) - log p(window with REF)"
            in found.header.info[FLOATS[0]].description
        )
        records = list(found)
        assert [r.pos for r in found.fetch("chrA", 119, 155)] == [120, 120, 151]
    for record, reasons in zip(records, REASONS, strict=True):
        n_alts = len(record.alts or ())
        for key in KEYS:
            assert len(record.info.get(key, (None,) * n_alts)) == n_alts
        given = record.info.get("HYENADNA_REASON", (None,) * n_alts)
        if n_alts:
            assert tuple(None if g in (None, ".") else g for g in given) == reasons
            for key in FLOATS:
                numbers = record.info.get(key, (None,) * n_alts)
                assert [n is None for n in numbers] == [r is not None for r in reasons]
    assert [records[4].info[key] for key in FLOATS] == [(0.0,)] * 5  # ref = alt


def test_bcf_holds_what_the_vcf_does(model: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    argv = ["vep", "-m", model, "-f", genome, "-i", vcf, "-q", "-o"]
    out = tmp_path / "out.bcf"
    assert main([*argv, str(out)]) == 2
    assert "does not declare its FORMAT 'GT'; declare it" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.vcf", "toy.fa"]
    Path(vcf).write_text("\n".join([*HEADER.splitlines()[:3], *DECLARED, HEADER.splitlines()[-1], BODY]))  # fmt: skip
    assert main([*argv, str(out)]) == 0
    assert main([*argv, str(tmp_path / "out.vcf")]) == 0
    assert (tmp_path / "out.bcf.csi").exists()
    with pysam.VariantFile(str(out)) as one, pysam.VariantFile(str(tmp_path / "out.vcf")) as other:
        pairs = [(dict(a.info), dict(b.info)) for a, b in zip(one, other, strict=True)]
    assert len(pairs) == 9
    for a, b in pairs:
        assert repr(a) == repr(b)


def test_nothing_else_in_a_record_changes(
    model: str, genome: str, vcf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vep", "-m", model, "-f", genome, "-i", vcf, "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert [h for h in lines if h.startswith("#") and "yena" not in h] == HEADER.splitlines()
    stripped = []
    for line in lines:
        if not line.startswith("#"):
            columns = line.split("\t")
            own = [e for e in columns[7].split(";") if not e.startswith("HYENADNA_")]
            columns[7] = ";".join(own) or "."
            stripped.append("\t".join(columns))
    assert stripped == BODY.splitlines()


def test_scores_are_those_of_python(
    model: str, genome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["chrA:101:A>C", "A-101-A-G", "chrA_105_TGCAA_T", "B_7_T_A_b38"]
    given = [word for text in texts for word in ("--variant", text)]
    settings = ["--window", "64", "--radius", "5"]
    assert main(["vep", "-m", model, "-f", genome, *given, *settings, "-q"]) == 0
    rows = _table(capsys.readouterr().out)
    network = HyenaForCausalLM.from_pretrained(model)
    expected = list(score_variants(network, texts, open_reference(genome), window=64, radius=5))
    for row, score in zip(rows, expected, strict=True):
        place = (row["chrom"], row["pos"], row["ref"], row["alt"])
        v = score.variant
        assert place == (v.chrom, str(v.start + 1), v.ref, v.alt)
        for column in COLUMNS:
            assert float(row[column]) == pytest.approx(getattr(score, column), rel=1e-5)
        assert row["reason"] == "."


def test_multiallelic_equals_split_records_in_any_batch(
    model: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(path: str, *more: str) -> list[list[str]]:
        command = ["vep", "-m", model, "-f", genome, "-i", path, "--format", "tsv", "-q", *more]
        assert main(command) == 0
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]

    together = rows(vcf)
    split = []
    for line in BODY.splitlines():
        columns = line.split("\t")
        alts = columns[4].split(",")
        split += ["\t".join([*columns[:4], alt, ".", ".", ".", "GT", "./."]) for alt in alts]
    path = tmp_path / "split.vcf"
    for order in (split, split[::-1]):
        path.write_text(HEADER + "\n".join(order) + "\n")
        for size in ("1", "5", "auto"):
            found = rows(str(path), "--batch-size", size)
            assert found == (together if order is split else together[::-1])
    assert len(together) == 13  # twelve alleles, and a record without


def test_bcftools_reads_and_splits_the_output(
    model: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pysam import bcftools

    # unlike us, bcftools refuses what the header does not declare
    declared = """##contig=<ID=B,length=400>
##contig=<ID=chrC,length=400>
##FILTER=<ID=q10,Description="Low quality">
##INFO=<ID=DB,Number=0,Type=Flag,Description="In a database">
##INFO=<ID=END,Number=1,Type=Integer,Description="Last position">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
#CHROM"""
    Path(vcf).write_text(HEADER.replace("#CHROM", declared) + BODY)
    out = str(tmp_path / "out.vcf.gz")
    argv = ["vep", "-m", model, "-f", genome, "-i", vcf, "-q"]
    assert main([*argv, "-o", out]) == 0
    assert main([*argv, "--format", "tsv"]) == 0
    rows = _table(capsys.readouterr().out)
    names = " ".join(f"%INFO/{key}" for key in KEYS)
    # norm, told to split, divides entries by their Number=A
    split = bcftools.norm("-m-", out)
    (tmp_path / "split.vcf").write_text(split)
    text = bcftools.query("-f", f"%POS %ALT {names}\n", str(tmp_path / "split.vcf"))
    found = [line.split() for line in text.splitlines()]
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        if row["reason"] == "no_alternative":
            assert line == [row["pos"], ".", *["."] * 6]
            continue
        assert line[:2] + line[-1:] == [row["pos"], row["alt"], row["reason"]]
        for text, column in zip(line[2:-1], COLUMNS, strict=True):
            number = float(row[column])
            assert (text == ".") if math.isnan(number) else float(text) == pytest.approx(number)


def test_standard_input_and_tsv_with_its_record(
    model: str, genome: str, tmp_path: Path, stdin: Callable[[str], None]
) -> None:
    out = tmp_path / "out.tsv.gz"
    stdin(HEADER + BODY)
    argv = ["vep", "-m", model, "-f", genome, "-i", "-", "-o", str(out), "-q", "--no-rc"]
    assert main(argv) == 0
    rows = _table(gzip.decompress(out.read_bytes()).decode())
    assert list(rows[0]) == ["chrom", "pos", "id", "ref", "alt", "llr", "llr_local", "embedding_distance", "reason"]  # fmt: skip
    assert rows[0]["id"] == "rs1"
    assert [r["reason"] for r in rows] == [r or "." for group in REASONS for r in group]
    assert all(math.isnan(float(r["llr"])) == (r["reason"] != ".") for r in rows)
    record = json.loads((tmp_path / "out.tsv.gz.json").read_text())
    assert record["results"] == {
        "n_records": 9, "n_alleles": 12, "n_scored": 8,
        "not_scored": {"symbolic": 2, "no_alternative": 1, "ref_mismatch": 1, "unknown_contig": 1},
    }  # fmt: skip
    assert record["settings"]["rc"] is False
    assert len(record["weights_sha256"]) == 64
    assert record["versions"]["hyenadna"]


def test_variant_text_to_vcf_names_contigs_as_the_genome(
    model: str, genome: str, tmp_path: Path, stdin: Callable[[str], None]
) -> None:
    stdin("A:101:A>C\n\n# a comment\nchrB-7-T-<DEL>\nchrC_5_A_T\n")
    out = tmp_path / "out.vcf"
    assert main(["vep", "-m", model, "-f", genome, "-i", "-", "-o", str(out), "-q"]) == 0
    with pysam.VariantFile(str(out)) as found:
        assert {c.name: c.length for c in found.header.contigs.values()} == {
            "chrA": 600,
            "chrB": 400,
        }
        assert [r.chrom for r in found] == ["chrA", "chrB", "chrC"]


def test_scoring_again_replaces_the_scores(
    model: str, genome: str, vcf: str, tmp_path: Path
) -> None:
    once, twice = str(tmp_path / "once.vcf"), str(tmp_path / "twice.vcf")
    argv = ["vep", "-m", model, "-f", genome, "-q", "-i"]
    assert main([*argv, vcf, "-o", once, "--window", "32"]) == 0
    assert main([*argv, once, "-o", twice]) == 0
    assert main([*argv, vcf, "-o", once, "--force"]) == 0
    one, two = ([x for x in Path(p).read_text().splitlines() if "VepCommand" not in x] for p in (once, twice))  # fmt: skip
    assert sorted(one) == sorted(two)


def test_provenance_is_in_the_header(
    model: str, genome: str, vcf: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vep", "-m", model, "-f", genome, "-i", vcf, "--window", "32", "-q"]) == 0
    header = [h for h in capsys.readouterr().out.splitlines() if h.startswith("##hyenadnaVep")]
    version, command, which, settings = (h.partition("=")[2] for h in header)
    assert version
    assert command
    assert which.startswith(f"{model} weights_sha256=")
    assert settings == "rc=True window=32 radius=64 batch_size=auto device=cpu dtype=fp32"


def test_unsorted_records_are_written_without_an_index(
    model: str, genome: str, tmp_path: Path, stdin: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    stdin("chrA:105:T>A\nchrA:101:A>C\n")
    out = tmp_path / "out.vcf.gz"
    assert main(["vep", "-m", model, "-f", genome, "-i", "-", "-o", str(out)]) == 0
    assert "without an index: the records are not sorted" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.vcf.gz", "toy.fa"]


def test_a_vcf_without_records_gives_one(
    model: str, genome: str, tmp_path: Path, stdin: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    stdin(HEADER)
    assert main(["vep", "-m", model, "-f", genome, "-i", "-"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("##fileformat")
    assert err.startswith("scored 0 of 0 alleles in 0 records")


def test_records_without_a_genome_are_held_until_one_fits(
    model: str, genome: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("chrC:1:A>C\n" * 20 + "chrA:101:A>C\n")
    assert main(["vep", "-m", model, "-f", genome, "-i", str(path)]) == 0
    out, err = capsys.readouterr()
    assert len(_table(out)) == 21
    assert "scored 1 of 21 alleles" in err
    path.write_text("chrC:1:A>C\n" * 20)
    found = _refused(capsys, "-m", model, "-f", genome, "-i", str(path), "-o", str(tmp_path / "o.tsv"))  # fmt: skip
    assert "no allele fits the genome (20 unknown_contig)" in found
    assert not (tmp_path / "o.tsv").exists()
    path.write_text("chrC:1:A><DEL>\n")  # structural variants alone are no sign of another genome
    assert main(["vep", "-m", model, "-f", genome, "-i", str(path), "-q"]) == 0


LINE = "chrA\t101\t.\tA\tC\t.\t.\t.\tGT\t0/1\n"
MISTAKES: dict[str, tuple[str | None, list[str], str]] = {
    # name: (content of the input, words, what is said)
    "nothing to score": (None, [], "say what to score"),
    "two inputs": (BODY, ["--variant", "1:5:A>C"], "one of the two"),
    "no such file": (None, ["-i", "{folder}/none.vcf"], "there is no such file"),
    "a folder": (None, ["-i", "{folder}"], "this is a folder"),
    "empty": ("", [], "is empty"),
    "no variant": ("# none\n", [], "the file holds no variant"),
    "bad text": ("chrA:101:A>C\nrs123\n", [], ":2: variant 'rs123' is malformed"),
    "bad --variant": (None, ["--variant", "chrA:x:A>C"], "variant 'chrA:x:A>C' is malformed"),
    "position 0": (None, ["--variant", "chrA:0:A>C"], "positions are 1-based"),
    "huge position": (None, ["--variant", f"chrA:{'9' * 5000}:A>C"], "is malformed"),
    "a BED": ("chrA\t5\t10\n", [], "is malformed; expected chr22:1024:A>C"),
    "a FASTA": (">a\nACGT\n", [], "variant '>a' is malformed"),
    "no fileformat": (HEADER.partition("\n")[2] + LINE, [], "does not begin with ##fileformat"),
    "no #CHROM": (HEADER.partition("#CHROM")[0] + LINE, [], "the VCF header is malformed"),
    "few columns": (HEADER + LINE + "chrA\t9\n", [], ":6: this is no VCF record"),
    "spaces": (HEADER + LINE.replace("\t", " "), [], ":5: this is no VCF record"),
    "POS": (HEADER + LINE.replace("101", "1e3"), [], ":5: this is no VCF record"),
    "blank line": (HEADER + "\n" + LINE, [], "the line is blank"),
    "binary": ("chrA:5:A>C\0", [], "binary file"),
    "other names": ("chr7:5:A>C\n", [], "contig 'chr7' is not in the genome"),
    "other genome": ("chrA:101:G>C\n", [], "REF has G where the genome has A (chrA:101)"),
    "beyond the end": ("chrA:601:G>C\n", [], "beyond contig 'chrA' of 600"),
    "stop at a contig": ("chrA:101:A>C\nchrC:1:A>C\n", ["--on-error", "stop", "-o", "{folder}/out.tsv"], "chrC:1:A>C: contig 'chrC' is not"),
    "stop at a mismatch": ("chrA:101:G>C\n", ["--on-error", "stop"], "--on-error skip would go on"),
    "--on-error": (LINE, ["--on-error", "ignore"], "--on-error 'ignore' is unknown; expected skip or stop"),
    "--format": (LINE, ["--format", "bed"], "--format 'bed' is unknown; expected vcf or tsv"),
    "unknown format": (LINE, ["-o", "{folder}/out.parquet"], "add --format vcf or tsv"),
    "output folder": (LINE, ["-o", "{folder}/none/out.vcf"], "does not exist"),
    "output is input": (LINE, ["-o", "{folder}/in", "--format", "tsv", "--force"], "is an input of this command"),
    "output is the genome": (LINE, ["-o", "{folder}/toy.fa", "--format", "vcf", "--force"], "is an input of this command"),
    "window too long": ("chrA:101:A>C\n", ["--window", "131"], "window is 131; expected 4 to 130"),
    "window too short": ("chrA:101:A>C\n", ["--window", "3"], "window is 3"),
    "radius": ("chrA:101:A>C\n", ["--radius", "-1"], "radius is -1"),
    "batch size": ("chrA:101:A>C\n", ["--batch-size", "0"], "--batch-size is '0'"),
    "device": ("chrA:101:A>C\n", ["--device", "tpu"], "device 'tpu' is unknown"),
    "dtype": ("chrA:101:A>C\n", ["--dtype", "fp8"], "--dtype 'fp8' is unknown"),
    "no number": ("chrA:101:A>C\n", ["--window", "many"], "Invalid value for '--window'"),
    "no genome": ("chrA:101:A>C\n", ["-f", "{folder}/none.fa"], "there is no such file"),
    "no model": ("chrA:101:A>C\n", ["-m", "{folder}/none"], "no model at"),
    "a classifier": ("chrA:101:A>C\n", ["-m", "{folder}/classifier"], "a sequence classifier"),
}  # fmt: skip


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("masked")
    network = HyenaForMaskedLM(
        HyenaConfig(d_model=16, n_layers=1, max_seq_len=130, filter_dim=8, bidirectional=True)
    )
    network.save_pretrained(folder)
    return str(folder)


def test_a_masked_model_scores_substitutions_and_gives_a_reason_for_the_rest(
    masked: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "out.vcf", tmp_path / "out.html"
    words = ["vep", "-m", masked, "-f", genome, "-i", vcf, "--window", "64"]
    assert main([*words, "-o", str(out), "--report", str(report)]) == 0
    err = capsys.readouterr().err
    assert err.startswith("scored 5 of 12 alleles in 9 records (")
    assert "3 masked_model" in err
    assert "bases that differ, all masked" in report.read_text()
    with pysam.VariantFile(str(out)) as found:
        assert "bases that differ, all masked" in found.header.info[FLOATS[0]].description
        assert "masked_model (REF and ALT differ" in found.header.info[KEYS[-1]].description
        assert "scoring=masked_marginal" in str(found.header)
        records = list(found)
    given = [record.info.get("HYENADNA_REASON") for record in records]
    expected = list(REASONS)
    expected[1:3] = [("masked_model",), ("masked_model", "masked_model", "symbolic")]
    for record, found_reasons, reasons in zip(records, given, expected, strict=True):
        if record.alts:
            assert tuple(None if g in (None, ".") else g for g in found_reasons or (None,) * len(reasons)) == reasons  # fmt: skip
    assert records[4].info["HYENADNA_LLR"] == (0.0,)  # C>C
    assert records[0].info["HYENADNA_LLR"][0] != 0

    tsv = tmp_path / "out.tsv"
    assert main([*words, "-o", str(tsv)]) == 0
    capsys.readouterr()
    rows = _table(tsv.read_text())
    assert [r["reason"] for r in rows] == [r or "." for group in expected for r in group]
    record = json.loads((tmp_path / "out.tsv.json").read_text())
    assert record["settings"]["scoring"] == "masked_marginal"
    assert record["model_config"]["bidirectional"] is True
    network = HyenaForMaskedLM.from_pretrained(masked)
    (score,) = score_variants(network, ["chrA:151:ACG>TCA"], open_reference(genome), window=64)
    (row,) = (r for r in rows if r["pos"] == "151")
    for column in COLUMNS:
        assert float(row[column]) == pytest.approx(getattr(score, column), rel=1e-4, abs=1e-5)


def test_only_indels_under_a_masked_model_are_no_other_genome(
    masked: str, genome: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reasons are of the variants first: an indel that fits the genome shows that the genome is right, one that does not, does not."""
    words = ["vep", "-m", masked, "-f", genome, "-o", str(tmp_path / "o.tsv")]
    assert main([*words, "--variant", "chrA:101:A>ACG"]) == 0
    assert "not scored: 1 masked_model" in capsys.readouterr().err
    said = _refused(capsys, *words[1:], "--variant", "chrA:101:C>CGT", "--force")
    assert "no allele fits the genome" in said


def test_what_a_causal_model_writes_says_nothing_of_masked_ones(
    model: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.vcf"
    assert main(["vep", "-m", model, "-f", genome, "-i", vcf, "-o", str(out)]) == 0
    lines = [s for s in out.read_text().splitlines() if not s.startswith("##hyenadnaVepCommand")]
    assert "masked" not in "".join(lines)
    assert "contig_edge" in "".join(lines)


@pytest.mark.parametrize("case", MISTAKES)
def test_a_users_mistake_is_one_sentence(
    model: str, genome: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    content, words, message = MISTAKES[case]
    if content is not None:
        (tmp_path / "in").write_text(content)
        words = ["-i", str(tmp_path / "in"), *words]
    if case == "a classifier":
        config = HyenaConfig(d_model=8, n_layers=1, max_seq_len=16)
        HyenaForSequenceClassification(config).save_pretrained(tmp_path / "classifier")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    given = [word.format(folder=tmp_path) for word in words]
    assert message in _refused(capsys, "-m", model, "-f", genome, *given)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before


def test_outputs_are_kept_unless_forced(
    model: str, genome: str, vcf: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, beside in (("out.vcf.gz", "out.vcf.gz.tbi"), ("out.tsv", "out.tsv.json")):
        argv = ["-m", model, "-f", genome, "-i", vcf, "-o", str(tmp_path / name), "-q"]
        (tmp_path / beside).write_text("mine")
        assert f"{beside} exists already" in _refused(capsys, *argv)
        assert not (tmp_path / name).exists()
        assert (tmp_path / beside).read_text() == "mine"
        assert main(["vep", *argv, "--force"]) == 0
        assert f"{name} exists already" in _refused(capsys, *argv)


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.tsv"])
def test_a_failure_on_the_way_leaves_no_file(
    model: str, genome: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + LINE * 50 + "chrA\tx\n")
    argv = ["-m", model, "-f", genome, "-i", str(path), "-o", str(tmp_path / name)]
    assert ":55: this is no VCF record" in _refused(capsys, *argv)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.vcf", "toy.fa"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize("name", ["out.vcf.gz", "out.tsv"])
def test_an_interrupted_run_leaves_no_output_but_its_finished_work(
    model: str, genome: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "in.vcf"
    path.write_text(HEADER + LINE * 200_000)
    out = tmp_path / name
    # A test run that was started in the background (cmd &) ignores SIGINT, and so would what it starts.
    start = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); runpy.run_module('hyenadna', run_name='__main__')"
    command = [sys.executable, "-c", start, "vep", "-m", model, "-f", genome, "-i", str(path), "-o", str(out)]  # fmt: skip
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not sum(p.stat().st_size for p in tmp_path.glob(".partial-*")):  # fmt: skip
            time.sleep(0.02)
        assert list(tmp_path.glob(".partial-*")), "nothing had been written when it was interrupted"
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 130
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said
    assert {p.name for p in tmp_path.iterdir()} - {f"{name}.partial"} == {"in.vcf", "toy.fa"}


def test_real_variants(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every tenth record of ClinVar's chromosome X, which holds indels and MNVs, under a small model."""
    torch.manual_seed(0)
    HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=256)).save_pretrained(tmp_path / "m")  # fmt: skip
    source = test_data / "variants" / "clinvar_2016-09_grch37_chrX_first70Mb.vcf"
    lines = source.read_text().splitlines(keepends=True)
    header = [line for line in lines if line.startswith("#")]
    body = [line for line in lines if not line.startswith("#")]
    assert len(body) == 3768
    thinned = tmp_path / "in.vcf"
    thinned.write_text("".join(header + body[::10]))
    fasta = str(test_data / "genomes" / "human_grch37_chrX_first70Mb.fa.gz")
    out = tmp_path / "out.vcf.gz"
    argv = ["-m", str(tmp_path / "m"), "-f", fasta, "-i", str(thinned)]
    assert main(["vep", *argv, "-o", str(out)]) == 0
    with pysam.VariantFile(str(thinned)) as given, pysam.VariantFile(str(out)) as found:
        n_scored = n_alleles = 0
        for a, b in zip(given, found, strict=True):
            assert (a.chrom, a.pos, a.ref, a.alts) == (b.chrom, b.pos, b.ref, b.alts)
            assert set(dict(b.info)) - set(dict(a.info)) <= set(KEYS)
            n_alleles += len(b.alts)
            numbers = b.info.get("HYENADNA_LLR", (None,) * len(b.alts))
            reasons = b.info.get("HYENADNA_REASON", (".",) * len(b.alts))
            assert len(numbers) == len(reasons) == len(b.alts)
            n_scored += sum(n is not None for n in numbers)
            assert all((n is None) == (r not in (None, ".")) for n, r in zip(numbers, reasons, strict=True))  # fmt: skip
        first = next(iter(found.fetch("X", 585121, 585122)))
        assert first.alts == ("TTTG",)
    assert f"scored {n_scored} of {n_alleles} alleles in 377 records" in capsys.readouterr().err
    assert n_scored / n_alleles > 0.98
