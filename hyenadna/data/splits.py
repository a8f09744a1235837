"""Which parts of a genome train, validate and test, and the proof that they do not meet.

Windows are drawn from the intervals given here (`hyenadna.data.windows`); no window crosses from one interval to
another. The one thing to know: what is held out is taken away from training, and whatever the way in which the parts
were named, that no base is in two of them is checked before anything is returned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hyenadna.data.genome import Genome
from hyenadna.errors import DataError, IntervalError
from hyenadna.io.bed import read_bed
from hyenadna.resources import resolve
from hyenadna.sequence import Interval, parse_region, require_inside

Selection: TypeAlias = str | Path | Sequence[str]
"""Region strings (1-based inclusive) and contig names, or the path of a BED file."""

HELD_OUT_FRACTION = 0.05
LONG_CONTIG = 100_000
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


class Splits(NamedTuple):
    """The parts of a genome: sorted, disjoint intervals; a part may be empty, training never is."""

    train: tuple[Interval, ...]
    validation: tuple[Interval, ...]
    test: tuple[Interval, ...]


def split_genome(
    genome: Genome,
    *,
    train: Selection | None = None,
    validation: Selection | None = None,
    test: Selection | None = None,
) -> Splits:
    """Divide a genome into training, validation and test intervals.

    Parameters
    ----------
    genome
        The genome.
    train, validation, test
        What belongs to each part: region strings and contig names, or a BED file. In a BED file whose fourth column
        names a split in every line (``train``, ``valid``, ``test``, as HyenaDNA's own interval file has it) the lines
        of the part asked for are taken; one such file may be given for all three. Where ``train`` is None, everything
        that is not held out trains. Where all are None, each contig of at least 100,000 bases (or the longest ones, if
        none is) gives its last 5 % to the test and the 5 % before them to the validation.

    Returns
    -------
    Splits
        Overlapping intervals of one part are united.

    Raises
    ------
    IntervalError
        A region is malformed, or leaves the genome.
    FileFormatError
        A BED file is missing or malformed.
    DataError
        Two parts share a base, or nothing is left to train on.

    Examples
    --------
    >>> genome = Genome.open("bundled:scerevisiae/genome.2bit")
    >>> splits = split_genome(genome, validation=["chrI:1-1000"], test=["chrII", "chrIV:500,001-"])
    >>> [str(interval) for interval in splits.train[:2]]
    ['chrI:1001-230218', 'chrIII:1-316620']
    """
    if train is None and validation is None and test is None:
        held_validation, held_test = _default_held_out(genome)
    else:
        held_validation = _select(genome, validation, "validation")
        held_test = _select(genome, test, "test")
    chosen = (
        _rest(genome, (*held_validation, *held_test))
        if train is None
        else _select(genome, train, "train")
    )
    splits = Splits(tuple(chosen), tuple(held_validation), tuple(held_test))
    require_disjoint(splits)
    if not splits.train:
        raise DataError(f"nothing of {genome.path} is left to train on: all of it is held out")
    return splits


def require_disjoint(splits: Splits) -> None:
    """Check that no base is in two of the parts.

    Raises
    ------
    DataError
        One is; the message names the first overlap.
    """
    labelled = sorted(
        (interval.chrom, interval.start, interval.end, part)
        for part, intervals in splits._asdict().items()
        for interval in intervals
    )
    # Sorted by start, an interval meets an earlier one exactly if it begins before the furthest end so far.
    furthest: tuple[str, int, int, str] | None = None
    for entry in labelled:
        chrom, start, end, part = entry
        if furthest is not None and furthest[0] == chrom and start < furthest[2]:
            if furthest[3] != part:
                overlap = Interval(chrom, start, min(end, furthest[2]))
                raise DataError(
                    f"{overlap} is in both the {furthest[3]} and the {part} part; the parts must be disjoint"
                )
            if end <= furthest[2]:
                continue
        furthest = entry


def _default_held_out(genome: Genome) -> tuple[list[Interval], list[Interval]]:
    smallest = min(LONG_CONTIG, max(genome.contigs.values()))
    validation, test = [], []
    for chrom, size in genome.contigs.items():
        length = int(size * HELD_OUT_FRACTION)
        if size >= smallest and length:
            validation.append(Interval(chrom, size - 2 * length, size - length))
            test.append(Interval(chrom, size - length, size))
    return _united(validation), _united(test)


def _select(genome: Genome, selection: Selection | None, part: str) -> list[Interval]:
    if selection is None:
        return []
    words = [selection] if isinstance(selection, str | Path) else list(selection)
    intervals: list[Interval] = []
    for word in words:
        text = str(word)
        if text not in genome.contigs and _is_bed(word):
            intervals.extend(_from_bed(genome, text, part))
        else:
            intervals.append(parse_region(text, genome.contigs))
    return _united(intervals)


def _is_bed(word: str | Path) -> bool:
    if isinstance(word, Path) or word.lower().endswith((".bed", ".bed.gz", ".bed.bgz")):
        return True
    return Path(word).is_file()


def _from_bed(genome: Genome, path: str, part: str) -> list[Interval]:
    source = resolve(path)
    records = list(read_bed(source))
    labels = [_SPLIT_NAMES.get(record.name.lower()) for record in records]
    if all(labels):
        records = [record for record, label in zip(records, labels, strict=True) if label == part]
        if not records:
            raise DataError(f"{source}: no line of this BED file belongs to the {part} part")
    elif any(labels):
        odd = next(record.name for record, label in zip(records, labels, strict=True) if not label)
        raise DataError(
            f"{source}: some lines of this BED file name a split (train, valid, test) in column 4, but one has {odd!r}"
        )
    try:
        for record in records:
            require_inside(record.interval, genome.contigs)
    except IntervalError as error:
        raise IntervalError(f"{source}: {error}") from None
    return [record.interval for record in records]


def _united(intervals: Iterable[Interval]) -> list[Interval]:
    """Sort intervals and unite those that overlap or touch, as they hold the same bases."""
    united: list[Interval] = []
    for interval in sorted(intervals):
        if united and united[-1].chrom == interval.chrom and interval.start <= united[-1].end:
            last = united.pop()
            united.append(Interval(last.chrom, last.start, max(last.end, interval.end)))
        else:
            united.append(Interval(interval.chrom, interval.start, interval.end))
    return united


def _rest(genome: Genome, held_out: Iterable[Interval]) -> list[Interval]:
    rest: list[Interval] = []
    by_chrom: dict[str, list[Interval]] = {}
    for interval in held_out:
        by_chrom.setdefault(interval.chrom, []).append(interval)
    for chrom, size in genome.contigs.items():
        place = 0
        for interval in sorted(by_chrom.get(chrom, [])):
            if interval.start > place:
                rest.append(Interval(chrom, place, interval.start))
            place = max(place, interval.end)
        if place < size:
            rest.append(Interval(chrom, place, size))
    return sorted(rest)
