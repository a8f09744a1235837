"""What a report says of scores: how bits per base are distributed, which sequences stand out, and how a track runs along the genome.

Both collectors are fed as results come and keep little of them.
"""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyenadna.inference.likelihood import SequenceScore
from hyenadna.inference.plotting import BLUE, RED, draw, histogram
from hyenadna.inference.tracks import TrackBlock
from hyenadna.io.html import Picture, Section, Table
from hyenadna.sequence import Interval

__all__ = ["ScoreReport", "TrackReport"]

_SHOWN = 20  # rows of each table of extremes
_BINS = 400  # along one span
_SPANS = 24  # spans that are drawn
_MEANING = (
    "Bits per base say how surprised the model is by a base, on average: 2 is a guess among A, C, G and T; less means that the model "
    "predicts the sequence, as it does repeats and what its training data were full of; more means that the sequence misleads it."
)


class ScoreReport:
    """Scores of sequences: four bytes for each, and the extremes."""

    def __init__(self) -> None:
        self._bits = array("f")
        self._least: list[tuple[float, int, tuple[object, ...]]] = []
        self._most: list[tuple[float, int, tuple[object, ...]]] = []
        self._count = itertools.count()

    def add(self, score: SequenceScore, place: Interval | None) -> None:
        """Take a sequence's score; one without a number is left out."""
        bits = score.bits_per_base
        if math.isnan(bits):
            return
        self._bits.append(bits)
        row = (score.name, str(place) if place else "", score.length, bits, score.log_likelihood)
        # Of equals the first one in the input stays: the number after it decides, which differs always.
        for heap, key in ((self._least, -bits), (self._most, bits)):
            entry = (key, -next(self._count), row)
            if len(heap) < _SHOWN:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)

    def sections(self) -> list[Section]:
        """Return what there is to tell."""
        bits = np.asarray(self._bits)
        levels = np.quantile(bits, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)).tolist()
        quantiles = Table(("least", "5 %", "25 %", "median", "75 %", "95 %", "largest"), [levels])
        counts, edges = np.histogram(bits, bins=min(60, 10 + len(bits) // 20), range=_span(bits))
        picture = histogram(
            counts, edges, xlabel="bits per base", ylabel="sequences", marks={"median": levels[3], "uniform guess": 2.0}
        )  # fmt: skip
        shown = Picture(picture, f"Histogram of the bits per base of {len(bits):,} sequences")
        found = [Section("Bits per base", [_MEANING, shown, quantiles])]
        header = ("name", "place (1-based)", "length", "bits per base", "log-likelihood, nats")
        for title, heap in (
            ("Most predictable sequences", self._least),
            ("Most surprising sequences", self._most),
        ):
            rows = [row for _, _, row in sorted(heap, reverse=True)]
            found.append(Section(title, [Table(header, rows)]))
        if len(bits) <= _SHOWN:
            found[1:] = [Section("Sequences, the most predictable first", found[1].parts)]
        return found


class TrackReport:
    """Numbers of every base of some spans, as means over a few hundred bins of each.

    Parameters
    ----------
    spans
        What will come, in order, without overlaps.
    """

    def __init__(self, spans: Sequence[Interval]) -> None:
        self._spans = list(spans)
        self._sums = [np.zeros((3, min(_BINS, len(span)))) for span in spans]  # bits, entropy, n
        self._counts = np.zeros(80, np.int64)
        self._at = 0

    def add(self, block: TrackBlock) -> None:
        """Take the next block, which has entropies."""
        assert block.entropy is not None
        while not (self._spans[self._at].chrom == block.interval.chrom and block.interval.start < self._spans[self._at].end):  # fmt: skip
            self._at += 1
        span, sums = self._spans[self._at], self._sums[self._at]
        known = ~np.isnan(block.log_p)
        bits = -block.log_p[known].astype(np.float64) / math.log(2)
        offsets = np.flatnonzero(known) + (block.interval.start - span.start)
        bins = offsets * sums.shape[1] // len(span)
        values = (bits, block.entropy[known] / math.log(2), np.ones(len(bits)))
        for row, value in zip(sums, values, strict=True):
            np.add.at(row, bins, value)
        self._counts += np.histogram(np.minimum(bits, 7.99), bins=80, range=(0, 8))[0]

    def sections(self) -> list[Section]:
        """Return what there is to tell."""
        total = sum(float(sums[0].sum()) for sums in self._sums) / max(1, int(self._counts.sum()))
        picture = histogram(
            self._counts, np.linspace(0, 8, 81), xlabel="bits of a base (8 stands for all beyond)", ylabel="bases",
            marks={"mean": total, "uniform guess": 2.0},
        )  # fmt: skip
        found = [Section("Bits of the bases", [_MEANING, Picture(picture, "Histogram of the bits of single bases")])]  # fmt: skip
        order = sorted(range(len(self._spans)), key=lambda i: -len(self._spans[i]))[:_SPANS]
        drawn = [self._along(i) for i in sorted(order)]
        note = "Means of bits (blue) and of the prediction's entropy, in bits (red); gaps are N."
        if len(self._spans) > _SPANS:
            note += f" The {_SPANS} longest of {len(self._spans):,} spans."
        found.append(Section("Along the sequence", [note, *drawn]))
        header = ("place (1-based)", "bases scored", "mean bits", "mean entropy, bits")
        rows = list(self._rows())
        if len(rows) > 1:
            rows.sort(key=lambda row: row[2])
            found.append(Section("Most predictable stretches", [Table(header, rows[:_SHOWN])]))
            found.append(Section("Most surprising stretches", [Table(header, rows[: -_SHOWN - 1 : -1])]))  # fmt: skip
        return found

    def _rows(self) -> Any:
        """Yield a row for every bin that has at least half of its bases."""
        for span, sums in zip(self._spans, self._sums, strict=True):
            edges = _edges(span, sums.shape[1])
            for i, n in enumerate(sums[2].tolist()):
                if n >= max(1, (edges[i + 1] - edges[i]) / 2):
                    place = f"{span.chrom}:{edges[i] + 1:,}-{edges[i + 1]:,}"
                    yield place, int(n), float(sums[0, i] / n), float(sums[1, i] / n)

    def _along(self, number: int) -> Picture:
        span, sums = self._spans[number], self._sums[number]
        edges = _edges(span, sums.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums[:2] / sums[2]
        middles = (edges[:-1] + edges[1:]) / 2 + 0.5

        def paint(figure: Any) -> None:
            axes = figure.subplots()
            axes.grid(True)
            axes.plot(middles, means[1], color=RED, linewidth=0.8, alpha=0.8, label="entropy")
            axes.plot(middles, means[0], color=BLUE, linewidth=1.1, label="bits")
            axes.set(xlim=(span.start + 1, span.end), ylabel="bits", title=span.chrom)
            axes.ticklabel_format(axis="x", useOffset=False, style="plain")
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")

        return Picture(draw((8.6, 1.9), paint), f"Bits along {span}")


def _edges(span: Interval, n: int) -> npt.NDArray[np.int64]:
    """Return the first base of each bin, and the end: those offsets whose floor(offset · n / length) is the bin."""
    return span.start + -(-np.arange(n + 1) * len(span) // n)


def _span(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    low, high = min(float(values.min()), 1.99), max(float(values.max()), 2.01)
    return low, high
