"""A classification task: a folder or files of labelled sequences as train, dev and test.

What is here decides which rows a classifier may learn from: rows of the training split that stand, on either strand, in
a held-out split are left out, and a task without a dev split gets one. The test split is never changed. Rows from elsewhere may be added to
the training split; of them those that only overlap a held-out row are left out, too, as whoever cuts windows from a genome cuts them
anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hyenadna.data.kmers import OVERLAPPING, KmerIndex, sketch_size
from hyenadna.data.labelled import (
    DELIMITERS,
    FASTA_SUFFIXES,
    LabelledSet,
    label_names_of,
    labelled_set,
    read_rows,
)
from hyenadna.errors import DataError, FileFormatError
from hyenadna.resources import resolve
from hyenadna.sequence import reverse_complement

_K = 20


@dataclass(frozen=True)
class LabelledTask:
    """A classification task: its splits, its classes, and what was done to the files on the way.

    Parameters
    ----------
    train, dev
        What a model is fitted on, and what settings and epochs are chosen on.
    test
        What is looked at once, at the end; None where the task has no test file.
    label_names
        Name of class 0, 1, …, C-1.
    notes
        Sentences for the user: rows left out, splits made.
    dropped
        Rows left out, by reason.
    extra
        What train ends with and has from elsewhere, file by file.
    """

    train: LabelledSet
    dev: LabelledSet
    test: LabelledSet | None
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    extra: tuple[LabelledSet, ...] = ()

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return len(self.label_names)

    @property
    def max_length(self) -> int:
        """Length in bases of the longest sequence of any split."""
        return max(s.max_length for s in (self.train, self.dev, self.test) if s is not None)


def strandless(sequence: str) -> str:
    """Return what a sequence and its reverse complement have in common: the one that sorts first, upper case."""
    forward = sequence.upper().replace("U", "T")
    return min(forward, reverse_complement(forward))


def stratified_split(
    labels: npt.NDArray[np.int64], fraction: float, *, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split rows in two so that every class keeps its share.

    Parameters
    ----------
    labels
        int64, shape (n,).
    fraction
        Share of each class that goes to the second part, in (0, 1); at least one row of each class that has two.

    Returns
    -------
    tuple
        Row indices of the first and of the second part, each sorted.
    """
    rng = np.random.default_rng(seed)
    second: list[int] = []
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        if rows.size > 1:
            second += rows[: max(1, round(fraction * rows.size))].tolist()
    chosen = np.zeros(labels.size, dtype=bool)
    chosen[second] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _find_split(folder: Path, names: Sequence[str]) -> Path | None:
    suffixes = (*DELIMITERS, *FASTA_SUFFIXES)
    found = [
        path
        for name in names
        for suffix in suffixes
        for path in (folder / f"{name}{suffix}", folder / f"{name}{suffix}.gz")
        if path.is_file()
    ]
    if len(found) > 1:
        raise FileFormatError(
            f"several files could be the {names[0]} split ({', '.join(p.name for p in found)}); keep one, or name "
            f"it with data.{names[0]}=FILE",
            path=folder,
        )
    return found[0] if found else None


def load_task(
    path: str | Path | None = None,
    *,
    train: str | Path | None = None,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    extra_train: Sequence[str | Path] = (),
    sequence_column: str = "sequence",
    label_column: str = "label",
    max_seq_len: int | None = None,
    dev_fraction: float = 0.1,
    drop_leaks: bool = True,
    seed: int = 0,
) -> LabelledTask:
    """Read a labelled task.

    Parameters
    ----------
    path
        Folder with ``train``, ``dev`` (or ``valid``/``validation``) and ``test`` files, as GUE has them; without a train
        file, dev takes its place. Or a single file, which becomes the training split.
    train, dev, test
        Files that replace those of the folder.
    extra_train
        Files of more training rows, of the same classes. Rows that stand in train or overlap a row of dev or test are left out: a tenth
        of the 20-mers of the one that has fewer, on either strand.
    max_seq_len
        Longest sequence allowed, in bases.
    dev_fraction
        Share of the training split, in (0, 1), that becomes the dev split where there is no dev file; stratified.
    drop_leaks
        Leave out training sequences that stand, on either strand, in dev or test, and dev sequences that stand in test, and extra rows as said
        above. The test split is never changed.
    seed
        Chooses the rows of a dev split that is cut from the training split.

    Raises
    ------
    FileFormatError, SequenceError, SequenceLengthError, DataError
        See `read_rows`, `label_names_of` and `labelled_set`; or nothing is left to train on.
    """
    files: dict[str, Path | None] = {"train": None, "dev": None, "test": None}
    if path is not None:
        source = resolve(path)
        if source.is_dir():
            files["train"] = _find_split(source, ("train",))
            files["dev"] = _find_split(source, ("dev", "valid", "validation", "val"))
            files["test"] = _find_split(source, ("test",))
        elif source.is_file():
            files["train"] = source
        else:
            raise FileFormatError("no such file or folder", path=source)
    for name, given in (("train", train), ("dev", dev), ("test", test)):
        if given is not None:
            files[name] = resolve(given)
    notes: list[str] = []
    if files["train"] is None and files["dev"] is not None:
        files["train"], files["dev"] = files["dev"], None
        notes.append("there is no training split: the dev split is trained on")
    if files["train"] is None:
        raise FileFormatError(
            "there is no training split; expected train.csv (or .tsv, .fa) in this folder, or data.train=FILE",
            path=path,
        )
    rows = {
        name: read_rows(file, sequence_column=sequence_column, label_column=label_column)
        for name, file in files.items()
        if file is not None
    }
    names = label_names_of(rows["train"], files["train"])
    sets = {
        name: labelled_set(split, names, path=files[name] or "", max_seq_len=max_seq_len)
        for name, split in rows.items()
    }
    dropped: dict[str, int] = {}
    if drop_leaks:
        sets = _without_leaks(sets, dropped, notes)
    if "dev" not in sets:
        if not 0 < dev_fraction < 1:
            raise DataError(
                f"data.dev_fraction is {dev_fraction}, expected a share between 0 and 1"
            )
        sets["train"], sets["dev"] = cut_dev(sets["train"], dev_fraction, seed)
        notes.append(
            f"there is no dev split: {len(sets['dev']):,} rows, a stratified {100 * dev_fraction:g} % of train, are "
            "held back for it"
        )
    extra = []
    for given in extra_train:
        file = resolve(given)
        more = read_rows(file, sequence_column=sequence_column, label_column=label_column)
        extra.append(labelled_set(more, names, path=file, max_seq_len=max_seq_len))
        if drop_leaks:
            extra[-1] = _without_overlaps(extra[-1], sets, dropped, notes)
        notes.append(f"{len(extra[-1]):,} of {len(more):,} sequences of {file} are trained on, too")
        sets["train"] = _joined(sets["train"], extra[-1])
    _check_classes(sets["train"], sets["dev"], names)
    return LabelledTask(
        sets["train"], sets["dev"], sets.get("test"), names, tuple(notes), dropped, tuple(extra)
    )


def _without_leaks(
    sets: dict[str, LabelledSet], dropped: dict[str, int], notes: list[str]
) -> dict[str, LabelledSet]:
    keys = {name: [strandless(s) for s in split.sequences] for name, split in sets.items()}
    clean = dict(sets)
    for name, held_out in (("train", ("dev", "test")), ("dev", ("test",))):
        if name not in sets:
            continue
        for other in held_out:
            forbidden = set(keys.get(other, ()))
            kept = [i for i, key in enumerate(keys[name]) if key not in forbidden]
            lost = len(keys[name]) - len(kept)
            if lost:
                clean[name] = clean[name].subset(kept)
                keys[name] = [keys[name][i] for i in kept]
                dropped[f"{name}_in_{other}"] = lost
                notes.append(
                    f"{lost:,} of {len(sets[name]):,} {name} sequences are left out because they stand in {other} too, "
                    "on one of the strands"
                )
    return clean


def _without_overlaps(
    extra: LabelledSet, sets: dict[str, LabelledSet], dropped: dict[str, int], notes: list[str]
) -> LabelledSet:
    """Leave out extra rows that overlap a row of dev or test, stand in train, or stand among the extra ones before."""
    keys = np.array([strandless(s) for s in extra.sequences], dtype=object)
    left = np.ones(len(extra), dtype=bool)
    for other in ("test", "dev"):
        if other in sets:
            held_out = sets[other].sequences
            sketched = sketch_size((*extra.sequences, *held_out))
            mine, theirs = (KmerIndex(s, _K, sketched) for s in (extra.sequences, held_out))
            copies = {strandless(s) for s in held_out}  # also of rows too short for k-mers
            leaks = mine.overlaps(theirs, OVERLAPPING) | np.array([key in copies for key in keys])
            if lost := int((leaks & left).sum()):
                reason = f"overlap one of {other} (a tenth of its {_K}-mers, on either strand)"
                _note_lost(f"extra_in_{other}", lost, reason, extra, dropped, notes)
            left &= ~leaks
    seen = {strandless(s) for s in sets["train"].sequences}
    new: list[int] = []
    for row in np.flatnonzero(left).tolist():
        if keys[row] not in seen:
            seen.add(keys[row])
            new.append(row)
    if lost := int(left.sum()) - len(new):
        reason = "stand in train, or among them before, on one of the strands"
        _note_lost("extra_in_train", lost, reason, extra, dropped, notes)
    return extra.subset(new)


def _note_lost(
    name: str, lost: int, why: str, extra: LabelledSet, dropped: dict[str, int], notes: list[str]
) -> None:
    dropped[name] = dropped.get(name, 0) + lost
    notes.append(
        f"{lost:,} of {len(extra):,} sequences of {extra.path} are left out because they {why}"
    )


def _joined(train: LabelledSet, extra: LabelledSet) -> LabelledSet:
    """Return the rows of both; file and checksum are those of the first."""
    return replace(
        train,
        sequences=train.sequences + extra.sequences,
        labels=np.concatenate([train.labels, extra.labels]),
        lines=train.lines + extra.lines,
    )


def cut_dev(train: LabelledSet, fraction: float, seed: int) -> tuple[LabelledSet, LabelledSet]:
    """Cut a stratified share off a training split.

    Copies of one sequence, on either strand, stay together, so the cut is made between distinct sequences.

    Parameters
    ----------
    fraction
        As in `stratified_split`.

    Returns
    -------
    tuple of LabelledSet
        What is left for training, and the dev split; both in the order of the rows.
    """
    keys = [strandless(s) for s in train.sequences]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    ids = np.array([numbers[key] for key in keys], dtype=np.int64)
    first = np.unique(ids, return_index=True)[1]
    _, held = stratified_split(train.labels[first], fraction, seed=seed)
    in_dev = np.isin(ids, held)
    return train.subset(np.flatnonzero(~in_dev)), train.subset(np.flatnonzero(in_dev))


def _check_classes(train: LabelledSet, dev: LabelledSet, names: Sequence[str]) -> None:
    for split, name in ((train, "train"), (dev, "dev")):
        if len(split) == 0:
            raise DataError(
                f"no sequence is left in the {name} split once those that stand in later splits too are left out; "
                "expected some (data.drop_leaks=false keeps them)"
            )
    missing = sorted(set(range(len(names))) - set(train.labels.tolist()))
    if missing:
        raise DataError(
            f"no training sequence is left of class {names[missing[0]]!r}; expected some of every class"
        )
