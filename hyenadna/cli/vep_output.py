"""What ``hyenadna vep`` writes: INFO entries and rows, and the counts of a run."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from hyenadna.errors import DataError
from hyenadna.inference.variants import MISMATCHES, REASONS, VariantScore
from hyenadna.io.vcf import InfoField, VariantRecord, extended_header, with_info
from hyenadna.io.vcf_output import open_vcf_output
from hyenadna.resources import package_version

_REASON_KEY = "HYENADNA_REASON"
Scored = tuple[VariantRecord, list[VariantScore]]


class Totals:
    """Counts of a run."""

    def __init__(self) -> None:
        self.n_records = self.n_alleles = self.n_scored = 0
        self.reasons: Counter[str] = Counter()
        self.not_indexed = ""

    def watch(self, results: Iterator[Scored], *, stop: bool) -> Iterator[Scored]:
        """Pass results on and count them. None comes before an allele fits the genome, so that a useless run leaves no output.

        Raises
        ------
        DataError
            No allele fits the genome, or, with `stop`, one does not.
        """
        held: list[Scored] = []
        fits = False
        for record, scores in results:
            self.n_records += 1
            self.n_alleles += len(record.alts)
            for score in scores:
                if score.reason is None:
                    self.n_scored += 1
                else:
                    self.reasons[score.reason] += 1
                if score.reason not in MISMATCHES:
                    fits = True
                elif stop:
                    raise DataError(f"{score.detail} (--on-error skip would go on)")
            held.append((record, scores))
            if fits:
                yield from held
                held.clear()
        if held:
            raise DataError(
                f"no allele fits the genome ({self._not_scored()}); the first is {held[0][1][0].detail}; "
                "give the genome that the variants were called on"
            )

    def _not_scored(self) -> str:
        return ", ".join(f"{n:,} {reason}" for reason, n in self.reasons.most_common())

    def summary(self) -> dict[str, Any]:
        """Return the counts for the record."""
        return {
            "n_records": self.n_records,
            "n_alleles": self.n_alleles,
            "n_scored": self.n_scored,
            "not_scored": dict(self.reasons),
        }

    def facts(self) -> dict[str, str]:
        """Return what stands at the top of a report."""
        return {
            "records": f"{self.n_records:,}",
            "alleles": f"{self.n_alleles:,}",
            "scored": f"{self.n_scored:,}",
            "not scored": f"{self.reasons.total():,}",
        }

    def sentence(self, rc: bool, window: int, seconds: float) -> str:
        """Return the summary for the user."""
        text = (
            f"scored {self.n_scored:,} of {self.n_alleles:,} alleles in {self.n_records:,} record{'s' if self.n_records != 1 else ''} "
            f"({self.n_alleles / max(seconds, 1e-9):,.1f} alleles/s), "
            f"{'both strands' if rc else 'forward strand'}, windows of {window:,} bases"
        )
        if self.reasons:
            text += f"; not scored: {self._not_scored()}"
        if self.not_indexed:
            text += f"; without an index: {self.not_indexed}"
        return text


def info_fields(rc: bool, radius: int, *, masked: bool = False) -> dict[str, InfoField]:
    """Return the INFO entry of each number of a result, of a causal or a masked model."""
    strands = "mean of both strands" if rc else "forward strand"
    of_what = (
        "log p(ALT bases) - log p(REF bases), summed over the bases that differ, all masked, "
        if masked
        else "log p(window with ALT) - log p(window with REF) "
    )
    ratio = (
        f"Log-likelihood ratio, {of_what}in nats, negative where the model finds ALT less likely"
    )
    local = "the same" if masked else f"to {radius} bases beyond the allele"
    texts = {
        "llr": ("LLR", f"{ratio}; {strands}"),
        "llr_forward": ("LLR_FWD", f"{ratio}; forward strand"),
        "llr_reverse": ("LLR_REV", f"{ratio}; reverse strand"),
        "llr_local": ("LLR_LOCAL", f"{ratio}; {local}; {strands}"),
        "embedding_distance": (
            "EMB_DIST",
            "Mean Euclidean distance between the final hidden states with ALT and with REF, "
            f"over the last base of the allele and the {radius} bases after it; {strands}",
        ),
    }
    return {
        number: InfoField(f"HYENADNA_{key}", "Float", text)
        for number, (key, text) in texts.items()
        if rc or number not in ("llr_forward", "llr_reverse")
    }


def vcf_header(
    lines: list[str],
    fields: dict[str, InfoField],
    provenance: dict[str, str],
    *,
    masked: bool = False,
) -> list[str]:
    """Return the lines of a header with the INFO entries and the provenance of this run, of a causal or a masked model."""
    never = "contig_edge" if masked else "masked_model"
    meanings = ", ".join(f"{r} ({meaning})" for r, meaning in REASONS.items() if r != never)
    reason = InfoField(_REASON_KEY, "String", f"Why an allele has no score: {meanings}")
    own = package_version()
    notes = {f"hyenadnaVep{key}": text for key, text in ({"Version": own} | provenance).items()}
    return extended_header(lines, [*fields.values(), reason], notes, version=own)


def write_vcf(
    results: Iterable[Scored],
    header: list[str],
    fields: dict[str, InfoField],
    output: str,
    *,
    force: bool,
) -> str:
    """Write every record with the scores and reasons of its alleles, and return why there is no index, if it should have one."""
    keys = [*(field.key for field in fields.values()), _REASON_KEY]
    with open_vcf_output(output, force=force) as out:
        out.header(header)
        for record, scores in results:
            entries = {}
            if any(score.reason is None for score in scores):
                for number, field in fields.items():
                    entries[field.key] = ",".join(_number(getattr(s, number), ".") for s in scores)
            if record.alts and any(score.reason for score in scores):
                entries[_REASON_KEY] = ",".join(score.reason or "." for score in scores)
            out.record(record, with_info(record.line, entries, replaced=keys))
    return out.not_indexed


def write_tsv(results: Iterable[Scored], fields: dict[str, InfoField], out: TextIO) -> None:
    """Write one row an allele, and one for a record without any."""
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(("chrom", "pos", "id", "ref", "alt", *fields, "reason"))
    for record, scores in results:
        for score in scores:
            place = (record.chrom, record.start + 1, record.name or ".", record.ref)
            # NaN is spelled so that R, pandas and polars read a number.
            numbers = [_number(getattr(score, number), "NaN") for number in fields]
            writer.writerow((*place, score.variant.alt, *numbers, score.reason or "."))


def _number(value: float, missing: str) -> str:
    return missing if math.isnan(value) else f"{value + 0.0:.6g}"  # + 0.0: no "-0"
