"""What reports say of scores, tracks, variants and mutageneses: the numbers, from small made-up results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hyenadna.inference.likelihood import SequenceScore
from hyenadna.inference.mutagenesis import Mutagenesis
from hyenadna.inference.mutagenesis_report import mutagenesis_sections
from hyenadna.inference.score_report import ScoreReport, TrackReport
from hyenadna.inference.tracks import TrackBlock
from hyenadna.inference.variant_report import VariantReport, auroc
from hyenadna.inference.variants import VariantScore
from hyenadna.io.html import Picture, Section, Table
from hyenadna.io.vcf import VariantRecord
from hyenadna.sequence import Interval, Variant


def _table(sections: list[Section], title: str) -> Any:
    (section,) = [s for s in sections if s.title == title]
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    return table.rows


def _pictures(sections: list[Section]) -> list[Picture]:
    return [part for s in sections for part in s.parts if isinstance(part, Picture)]


def _score(name: str, bits: float) -> SequenceScore:
    return SequenceScore(name, 9, 8, -bits, -bits * math.log(2), bits, 2**bits, 1.3, 0, 0)


def test_extremes_of_scores_are_ranked_and_ties_keep_the_order_of_the_input() -> None:
    report = ScoreReport()
    report.add(_score("none", math.nan), None)
    for i in range(50):
        report.add(_score(f"s{i}", 1.9 if i in (7, 8) else 2 + i / 100), Interval("c", i, i + 9))
    sections = report.sections()
    least = _table(sections, "Most predictable sequences")
    assert [row[0] for row in least[:3]] == ["s7", "s8", "s0"]
    assert len(least) == 20
    assert least[0][1] == "c:8-16"
    assert [row[0] for row in _table(sections, "Most surprising sequences")[:2]] == ["s49", "s48"]
    (levels,) = _table(sections, "Bits per base")
    assert levels[0] == pytest.approx(1.9)
    assert all(p.png.startswith(b"\x89PNG") for p in _pictures(sections))


def test_one_sequence_is_shown_once() -> None:
    report = ScoreReport()
    report.add(_score("only", 2.5), None)
    titles = [section.title for section in report.sections()]
    assert titles == ["Bits per base", "Sequences, the most predictable first"]


def test_track_is_binned_over_its_spans_and_gaps_do_not_count() -> None:
    spans = [Interval("a", 100, 1100), Interval("b", 0, 10)]
    report = TrackReport(spans)
    log_p = np.full(1000, -math.log(2), np.float32)
    log_p[:500] *= 2
    log_p[990:] = np.nan
    entropy = np.full(1000, math.log(4), np.float32)
    for start in range(0, 1000, 300):
        where = slice(start, min(start + 300, 1000))
        place = Interval("a", 100 + start, 100 + min(start + 300, 1000))
        report.add(TrackBlock(place, log_p[where], entropy[where]))
    report.add(TrackBlock(spans[1], np.full(10, -3 * math.log(2), np.float32), entropy[:10]))
    sections = report.sections()
    least = _table(sections, "Most predictable stretches")
    assert [row[2] for row in least] == pytest.approx([1.0] * 20)
    most = _table(sections, "Most surprising stretches")
    assert {row[0] for row in most[:10]} == {f"b:{i}-{i}" for i in range(1, 11)}
    assert [row[2] for row in most] == pytest.approx([3.0] * 10 + [2.0] * 10)
    rows = list(report._rows())
    assert sum(row[1] for row in rows) == 1000  # 990 of a, 10 of b
    assert rows[0][0] == "a:101-103"
    assert len(_pictures(sections)) == 3


def _record(at: int, ref: str, alts: str, info: str) -> VariantRecord:
    line = f"c\t{at}\t.\t{ref}\t{alts}\t.\t.\t{info}"
    return VariantRecord("c", at - 1, ref, tuple(alts.split(",")), "", line)


def _scored(record: VariantRecord, *llrs: float | str) -> tuple[VariantRecord, list[VariantScore]]:
    scores = []
    for alt, llr in zip(record.alts, llrs, strict=True):
        variant = Variant(record.chrom, record.start, record.ref, alt)
        scores.append(VariantScore(variant, reason=llr) if isinstance(llr, str) else VariantScore(variant, llr))  # type: ignore[arg-type]  # fmt: skip
    return record, scores


def test_variants_are_counted_classed_and_ranked() -> None:
    report = VariantReport()
    results = [
        _scored(_record(5, "A", "C,G", "CLNSIG=Pathogenic,Benign"), -3.0, 1.0),
        _scored(_record(6, "A", "<DEL>", "CLNSIG=Benign"), "symbolic"),
        _scored(_record(7, "AT", "A,ATT", "CLNSIG=Likely_pathogenic"), -2.0, -1.0),
        _scored(_record(8, "AT", "CG", "DB"), 0.5),
    ]
    assert list(report.watch(iter(results))) == results
    sections = report.sections()
    counts = {row[0]: row[1] for row in _table(sections, "Alleles")}
    assert counts == {"scored": 5, "symbolic": 1}
    kinds = {row[0]: (row[1], row[4]) for row in _table(sections, "By kind of variant")}
    assert kinds == {"SNV": (2, -1.0), "deletion": (1, -2.0), "insertion": (1, -1.0), "MNV": (1, 0.5)}  # fmt: skip
    classes = {row[0]: row[1] for row in _table(sections, "By CLNSIG")}
    assert classes == {"Likely pathogenic": 2, "Pathogenic": 1, "Benign": 1}
    (section,) = [s for s in sections if s.title == "Pathogenic against benign"]
    assert "with probability 1.000 (AUROC" in str(section.parts[0])
    (row,) = _table(sections, "Pathogenic against benign")
    assert row[:4] == ("all", 3, 1, 1.0)
    assert math.isnan(row[4])  # one benign allele has no spread
    first = _table(sections, "Alternatives that the model finds least likely")[0]
    assert first[:5] == ("c:5", "–", "A → C", "Pathogenic", -3.0)


def test_class_can_be_any_entry_and_hostile() -> None:
    report = VariantReport("MINE")
    hostile = "$\\frac{$<b>"
    list(report.watch([_scored(_record(5, "A", "C", f"MINE={hostile};CLNSIG=Benign"), -3.0)]))
    sections = report.sections()
    assert _table(sections, "By MINE")[0][0] == hostile
    assert len(_pictures(sections)) == 3


def test_auroc_is_the_share_of_pairs_with_ties_halved() -> None:
    above, below = np.float32([3, 1, 2]), np.float32([2, 0])
    value, low, high = auroc(above, below)
    assert value == pytest.approx((2 + 1 + 1.5) / 6)
    assert 0 <= low < value < high <= 1


def test_the_interval_of_an_auroc_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(0)
    draws = [
        auroc(rng.normal(0.5, 1, 120).astype("f"), rng.normal(0, 1, 60).astype("f"))
        for _ in range(500)
    ]
    truth = 0.6381632  # the normal distribution function at 0.5 / sqrt(2)
    covered = np.mean([low <= truth <= high for _, low, high in draws])
    assert 0.92 < covered < 0.98
    assert np.mean([low <= 0.5 <= high for _, low, high in draws]) < 0.3  # it could fail


def test_every_kind_of_variant_with_enough_of_both_has_its_auroc() -> None:
    report = VariantReport()
    results = [
        _scored(_record(5 + i, "A", alt, f"CLNSIG={name}"), sign * i / 10)
        for alt, n in (("C", 10), ("AT", 9))
        for name, sign in (("Pathogenic", -1.0), ("Benign", 1.0))
        for i in range(1, n + 1)
    ]
    list(report.watch(iter(results)))
    rows = _table(report.sections(), "Pathogenic against benign")
    assert [row[:4] for row in rows] == [("all", 19, 19, 1.0), ("SNV", 10, 10, 1.0)]
    assert VariantReport().sections()[0].title == "Alleles"


def test_variants_without_any_score_still_have_a_report() -> None:
    report = VariantReport()
    list(report.watch([_scored(_record(6, "A", "<DEL>", "."), "symbolic")]))
    assert [section.title for section in report.sections()] == ["Alleles"]


def test_mutagenesis_shows_lines_and_the_strongest_changes() -> None:
    length = 60 * 13
    llr = np.zeros((length, 4))
    llr[100, 2], llr[700, 3] = -9.0, 4.0
    found = Mutagenesis(Interval("c", 50, 50 + length), "A" * length, llr, np.full(length, np.nan))
    sections = mutagenesis_sections([found])
    assert len(_pictures(sections)) == 12
    assert "Of 13 lines" in str(sections[0].parts[0])
    shown = [p.alt for p in _pictures(sections)]
    assert any("c:111-170" in alt for alt in shown)
    least = _table(sections, "Substitutions that the model finds least likely")
    assert least == [("c:151", "A → G", -9.0)]
    more = _table(sections, "Substitutions that the model finds more likely than what is there")
    assert more == [("c:751", "A → T", 4.0)]
    assert not [s for s in sections if s.title.startswith("Deletions")]
