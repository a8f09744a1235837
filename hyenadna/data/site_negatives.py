"""The partners of sites: windows that are as much like a site's as the task asks for, and no site.

`Candidates` are windows of the same contig, `Shuffles` the site's own bases in another order. Both give each site one partner, or None.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hyenadna.data.shuffle import dinucleotide_shuffle
from hyenadna.data.site_task import Row, SiteSettings, SiteTask, is_new, row_of, window_of
from hyenadna.sequence import Interval

__all__ = ["Candidates", "Shuffles"]

_CANDIDATES_PER_SITE = 40


def _gc(sequence: str) -> int:
    return sequence.count("G") + sequence.count("C")


class Shuffles:
    """Partners that are their sites' windows in another order, with every dinucleotide as often as before."""

    def __init__(self, task: SiteTask, settings: SiteSettings, rng: np.random.Generator) -> None:
        self._task, self._settings, self._rng = task, settings, rng

    def partner(self, site: Row, seen: set[str]) -> Row | None:
        """Return a shuffled window whose anchor is where it was, or None where ten trials give nothing new."""
        first, last = (self._settings.upstream + at for at in self._task.kinds[site.kind].anchor)
        before, anchor, after = site.sequence[:first], site.sequence[first:last], site.sequence[last:]  # fmt: skip
        for _ in range(10):
            letters = f"{dinucleotide_shuffle(before, self._rng)}{anchor}{dinucleotide_shuffle(after, self._rng)}"
            if is_new(letters, seen):
                return Row(site.interval, self._task.negative_label, letters, site.kind)
        return None


class Candidates:
    """Windows of one contig that could be partners, by kind, the bases of the anchor, and the number of G and C."""

    def __init__(
        self,
        codes: npt.NDArray[np.uint8],
        taken: npt.NDArray[np.bool_],
        sites: Sequence[Row],
        task: SiteTask,
        settings: SiteSettings,
        genes: Sequence[Interval] | None,
        beside: npt.NDArray[np.bool_] | None,
        rng: np.random.Generator,
    ) -> None:
        self._codes, self._taken, self._task, self._settings = codes, taken, task, settings
        length = settings.upstream + settings.downstream
        self._largest_difference = int(settings.max_gc_difference * length)
        self._pools: dict[tuple[str, str, int], list[tuple[int, str]]] = {}
        wanted = Counter((row.kind, self._anchor(row)) for row in sites)
        # A window is usable where it holds no N and no base of a site's window, told from running counts at its ends, or whose place is beside a site.
        self._may_meet_sites = beside is not None
        unusable = codes > 3 if self._may_meet_sites else taken | (codes > 3)
        blocked = np.concatenate([[0], np.cumsum(unusable, dtype=np.int32)])
        low = np.flatnonzero(blocked[length:] == blocked[:-length])
        is_gc = np.concatenate([[0], np.cumsum((codes == 1) | (codes == 2), dtype=np.int32)])
        for strand in "+-":
            place = low + (settings.upstream if strand == "+" else settings.downstream - 1)
            usable = np.ones(len(place), np.bool_)
            if genes is not None:
                usable &= _inside(genes, strand, len(codes))[place]
            if beside is not None:
                usable &= beside[place]
            numbers = {kind: self._numbers(task.kinds[kind].anchor, place, strand) for kind in task.kinds}  # fmt: skip
            for (kind, anchor), count in wanted.items():
                fits = numbers[kind] == _number(anchor)
                fitting = np.flatnonzero(fits & usable)
                some = rng.choice(
                    fitting, min(len(fitting), count * _CANDIDATES_PER_SITE), replace=False
                )
                gc = is_gc[low[some] + length] - is_gc[low[some]]
                for at, content in zip(place[some].tolist(), gc.tolist(), strict=True):
                    self._pools.setdefault((kind, anchor, content), []).append((at, strand))
        for key in sorted(self._pools):
            rng.shuffle(self._pools[key])

    def partner(self, site: Row, seen: set[str]) -> Row | None:
        """Take the unused candidate of nearest GC content, or None where none is near enough."""
        anchor, content = self._anchor(site), _gc(site.sequence)
        for difference in range(self._largest_difference + 1):
            for wanted in sorted({content - difference, content + difference}):
                pool = self._pools.get((site.kind, anchor, wanted), [])
                while pool:
                    place, strand = pool.pop()
                    window = window_of(site.interval.chrom, place, strand, self._settings)
                    interval = Interval(*window)
                    if (
                        not self._may_meet_sites
                        and self._taken[interval.start : interval.end].any()
                    ):
                        continue
                    row = row_of(self._codes, interval, self._task.negative_label, site.kind)
                    if is_new(row.sequence, seen):
                        self._taken[interval.start : interval.end] = True
                        return row
        return None

    def _anchor(self, row: Row) -> str:
        first, last = self._task.kinds[row.kind].anchor
        return row.sequence[self._settings.upstream + first : self._settings.upstream + last]

    def _numbers(self, anchor: tuple[int, int], place: npt.NDArray[np.int64], strand: str) -> npt.NDArray[np.uint32]:  # fmt: skip
        """Return the bases of the anchor at each place, in reading direction, as numbers of base 4."""
        step, complement = (1, np.uint8(0)) if strand == "+" else (-1, np.uint8(3))
        numbers = np.zeros(len(place), dtype=np.uint32)
        for offset in range(*anchor):
            numbers = numbers * np.uint32(4) + (self._codes[place + step * offset] ^ complement)
        return numbers


def _number(anchor: str) -> int:
    number = 0
    for letter in anchor:
        number = 4 * number + "ACGT".index(letter)
    return number


def _inside(genes: Sequence[Interval], strand: str, size: int) -> npt.NDArray[np.bool_]:
    inside = np.zeros(size, dtype=np.bool_)
    for gene in genes:
        if gene.strand == strand:
            inside[gene.start : gene.end] = True
    return inside
