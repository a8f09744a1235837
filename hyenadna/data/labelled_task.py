"""A classification task: a folder or files of labelled sequences as train, dev and test.

What is here decides which rows a classifier may learn from: rows of the training split that stand, on either strand, in
a held-out split are left out, and a task without a dev split gets one. The test split is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
    """

    train: LabelledSet
    dev: LabelledSet
    test: LabelledSet | None
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)

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
    max_seq_len
        Longest sequence allowed, in bases.
    dev_fraction
        Share of the training split, in (0, 1), that becomes the dev split where there is no dev file; stratified.
    drop_leaks
        Leave out training sequences that stand, on either strand, in dev or test, and dev sequences that stand in test.
        The test split is never changed.
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
    _check_classes(sets["train"], sets["dev"], names)
    return LabelledTask(sets["train"], sets["dev"], sets.get("test"), names, tuple(notes), dropped)


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
