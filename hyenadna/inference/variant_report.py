"""What a report says of variants: how many have a score, how scores differ between classes, and which variants stand out."""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hyenadna.inference.plotting import BLUE, draw, histogram
from hyenadna.inference.variants import REASONS, VariantScore
from hyenadna.io.html import Picture, Section, Table
from hyenadna.io.vcf import VariantRecord, info_values

__all__ = ["VariantReport", "allele_kind", "auroc", "clinical_class"]

_SHOWN = 25
_LEAST = 10  # alleles of either class, for a kind of variant to have its AUROC
_CLASSES = 8  # the largest are shown by name
_USUAL_KEYS = ("CLNSIG", "CLINICAL_SIGNIFICANCE", "CLASS", "LABEL")
_Row = tuple[object, ...]
Scored = tuple[VariantRecord, list[VariantScore]]


class VariantReport:
    """Scores of alleles: four bytes for each, and the extremes.

    Parameters
    ----------
    class_key
        INFO entry whose value says an allele's class; None takes the first of CLNSIG, CLINICAL_SIGNIFICANCE, CLASS and LABEL that occurs, and the kind of
        the variant where none does.
    """

    def __init__(self, class_key: str | None = None, *, masked: bool = False) -> None:
        self._ratio = (
            "Σ log p(ALT base) − log p(REF base) over the bases that differ, all masked"
            if masked
            else "log p(window with ALT) − log p(window with REF)"
        )
        self._key = class_key
        self._reasons: Counter[str] = Counter()
        self._kinds: dict[str, array[float]] = defaultdict(lambda: array("f"))
        self._classes: dict[str, array[float]] = defaultdict(lambda: array("f"))
        self._judged: dict[tuple[str, str], array[float]] = defaultdict(lambda: array("f"))
        self._least: list[tuple[float, int, _Row]] = []
        self._most: list[tuple[float, int, _Row]] = []
        self._count = itertools.count()

    def watch(self, results: Iterable[Scored]) -> Iterator[Scored]:
        """Pass results on and take them in."""
        for record, scores in results:
            classes = self._classes_of(record)
            for score, name in zip(scores, classes, strict=True):
                if score.reason is None:
                    self._add(record, score, name)
                else:
                    self._reasons[score.reason] += 1
            yield record, scores

    def _classes_of(self, record: VariantRecord) -> list[str]:
        """Return each allele's class; an entry with one value is every allele's."""
        entries = info_values(record.line)
        if self._key is None:
            self._key = next((key for key in _USUAL_KEYS if key in entries), None)
        n = max(1, len(record.alts))
        text = entries.get(self._key or "", "")
        parts = text.split(",")
        return parts if len(parts) == n else [text] * n

    def _add(self, record: VariantRecord, score: VariantScore, name: str) -> None:
        kind = allele_kind(record.ref, score.variant.alt)
        self._kinds[kind].append(score.llr)
        if name:
            self._classes[name.replace("_", " ")].append(score.llr)
            if judged := clinical_class(name):
                self._judged[judged, kind].append(score.llr)
        place = f"{record.chrom}:{record.start + 1:,}"
        change = f"{_cut(record.ref)} → {_cut(score.variant.alt)}"
        row = (
            place, record.name or "–", change, name.replace("_", " ") or kind,
            score.llr, score.llr_forward, score.llr_reverse, score.llr_local, score.embedding_distance,
        )  # fmt: skip
        for heap, key in ((self._least, -score.llr), (self._most, score.llr)):
            entry = (key, -next(self._count), row)
            if len(heap) < _SHOWN:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)

    def sections(self) -> list[Section]:
        """Return what there is to tell."""
        n_scored = sum(map(len, self._kinds.values()))
        counts: list[_Row] = [("scored", n_scored, "")]
        counts += [(reason, n, REASONS[reason]) for reason, n in self._reasons.most_common()]  # type: ignore[index]
        found = [Section("Alleles", [Table(("what became of them", "alleles", "meaning"), counts)])]
        if not n_scored:
            return found
        llr = np.concatenate([np.asarray(values) for values in self._kinds.values()])
        low, high = np.quantile(llr, (0.001, 0.999)).tolist()
        margin = 0.05 * (high - low) or 0.5
        heights, edges = np.histogram(np.clip(llr, low, high), bins=60, range=(low - margin, high + margin))  # fmt: skip
        picture = histogram(heights, edges, xlabel="LLR, nats", ylabel="alleles", marks={"median": float(np.median(llr)), "no difference": 0.0})  # fmt: skip
        text = (
            f"LLR is {self._ratio}, in nats: negative where the model finds the alternative less likely than the reference. "
            "Values beyond the 0.1 % at either end are drawn at the ends."
        )
        found.append(Section("Log-likelihood ratios", [text, Picture(picture, f"Histogram of the LLR of {n_scored:,} alleles")]))  # fmt: skip
        found.append(_by_class("By kind of variant", self._kinds))
        if self._classes:
            found[2:2] = [_by_class(f"By {self._key}", self._classes), *self._judgement()]
        header = ("place (1-based)", "ID", "change", "class" if self._classes else "kind", "LLR", "forward", "reverse", "local", "distance")  # fmt: skip
        for title, heap in (
            ("Alternatives that the model finds least likely", self._least),
            ("Alternatives that the model finds most likely", self._most),
        ):
            found.append(Section(title, [Table(header, [row for _, _, row in sorted(heap, reverse=True)])]))  # fmt: skip
        return found

    def _judgement(self) -> list[Section]:
        """Return how well LLR tells pathogenic from benign, without any training for it; nothing where there is none of either."""
        rows: list[tuple[str, int, int, float, float, float]] = []
        for what, kinds in (("all", tuple(self._kinds)), *((kind, (kind,)) for kind in sorted(self._kinds))):  # fmt: skip
            bad, good = (
                np.concatenate([np.asarray(self._judged.get((judged, kind), ()), np.float32) for kind in kinds])
                for judged in ("pathogenic", "benign")
            )  # fmt: skip
            least = 1 if what == "all" else _LEAST
            if len(bad) >= least and len(good) >= least:
                value, low, high = auroc(-bad, -good)
                rows.append((what, len(bad), len(good), value, low, high))
        if not rows:
            return []
        _, n_bad, n_good, value, low, high = rows[0]
        interval = "" if math.isnan(low) else f"; 95 % interval {low:.3f} to {high:.3f}"
        text = (
            f"Of a (likely) pathogenic and a (likely) benign allele, drawn at random from {n_bad:,} and {n_good:,}, the pathogenic one has the lower LLR "
            f"with probability {value:.3f} (AUROC{interval}; 0.5 is chance). The model was not trained for it. "
            f"By kind of variant where there are at least {_LEAST} of both; intervals are DeLong's."
        )
        table = Table(("kind", "pathogenic", "benign", "AUROC of −LLR", "95 % from", "to"), rows)
        return [Section("Pathogenic against benign", [text, table])]


def _by_class(title: str, classes: dict[str, array[float]]) -> Section:
    order = sorted(classes, key=lambda name: (-len(classes[name]), name))
    groups = {name: np.asarray(classes[name]) for name in order[:_CLASSES]}
    if rest := order[_CLASSES:]:
        groups[f"{len(rest)} others"] = np.concatenate([np.asarray(classes[n]) for n in rest])
    rows = [(_cut(name, 60), len(v), *np.quantile(v, (0.05, 0.25, 0.5, 0.75, 0.95)).tolist()) for name, v in groups.items()]  # fmt: skip
    table = Table(("class", "alleles", "5 %", "25 %", "median LLR", "75 %", "95 %"), rows)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(True, axis="x")
        names = [f"{_cut(name, 36)} ({len(v):,})" for name, v in groups.items()]
        axes.boxplot(
            list(groups.values()), orientation="horizontal", whis=(5, 95), showfliers=False, widths=0.6, patch_artist=True,
            boxprops={"facecolor": "#c9d9e6", "edgecolor": BLUE}, medianprops={"color": BLUE, "linewidth": 2},
            whiskerprops={"color": BLUE}, capprops={"color": BLUE},
        )  # fmt: skip
        axes.set_yticks(range(1, len(names) + 1), names)
        axes.invert_yaxis()
        axes.axvline(0, color="#8a94a0", linewidth=0.8)
        axes.set_xlabel("LLR, nats: quartiles and median, whiskers at 5 % and 95 %")

    picture = draw((8.4, 1.0 + 0.34 * len(groups)), paint)
    return Section(title, [Picture(picture, f"LLR {title.lower()}"), table])


def clinical_class(name: str) -> str:
    """Return ``benign`` or ``pathogenic`` for a significance as ClinVar words it; empty where it says neither, or both."""
    words = name.lower()
    benign, pathogenic = "benign" in words, "pathogenic" in words
    if benign == pathogenic or "conflict" in words:
        return ""
    return "benign" if benign else "pathogenic"


def auroc(
    above: npt.NDArray[np.float32], below: npt.NDArray[np.float32]
) -> tuple[float, float, float]:
    """Return the share of pairs in which the first is larger, ties counted half, and the ends of its 95 % interval.

    The variance is that of DeLong et al. (1988), Biometrics 44:837; the interval is normal, cut to 0 … 1, and NaN where a group has one member.
    """
    places = []
    for own, other in ((above, below), (below, above)):
        ranked = np.sort(other)
        lower = np.searchsorted(ranked, own, "left") + np.searchsorted(ranked, own, "right")
        places.append(lower / (2 * len(other)))
    value = float(places[0].mean())
    if min(map(len, places)) < 2:
        return value, math.nan, math.nan
    half = 1.96 * math.sqrt(sum(float(p.var(ddof=1)) / len(p) for p in places))
    return value, max(0.0, value - half), min(1.0, value + half)


def allele_kind(ref: str, alt: str) -> str:
    """Return ``SNV``, ``MNV``, ``deletion`` or ``insertion``."""
    if len(ref) == len(alt):
        return "SNV" if len(ref) == 1 else "MNV"
    return "deletion" if len(ref) > len(alt) else "insertion"


def _cut(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
