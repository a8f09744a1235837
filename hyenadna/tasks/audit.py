"""What the splits of a labelled task share: copies, reverse complements, overlapping windows, and what these are worth to a cheater.

Two sequences overlap where they share k-mers, read on either strand (`hyenadna.data.kmers`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.data.kmers import OVERLAPPING, KmerIndex, sketch_size
from hyenadna.data.labelled import LabelledSet
from hyenadna.data.labelled_task import LabelledTask
from hyenadna.sequence import reverse_complement
from hyenadna.tasks.metrics import confusion_matrices, matthews

__all__ = ["NEARLY_THE_SAME", "OVERLAPPING", "PairAudit", "SplitAudit", "TaskAudit", "audit_task"]

NEARLY_THE_SAME = 0.5
"""As `OVERLAPPING`, a share of a sequence's k-mers that one sequence of another split holds."""

Ints = npt.NDArray[np.int64]


class SplitAudit(NamedTuple):
    """One split.

    Parameters
    ----------
    name
        ``"train"``, ``"dev"`` or ``"test"``.
    rows, distinct
        Sequences, and how many differ, reverse complements counted as the same.
    contradicting
        Rows whose sequence, on either strand, stands in the split with another label, too.
    """

    name: str
    rows: int
    distinct: int
    contradicting: int


class PairAudit(NamedTuple):
    """What a held-out split shares with one that a model learns from.

    Parameters
    ----------
    seen, held_out
        Names of the splits.
    rows
        Sequences of the held-out split.
    copies, reverse_complements
        Rows that stand in the seen split as they are, and those of which only the reverse complement does.
    nearly_the_same, overlapping
        Other rows of whose k-mers one seen sequence holds at least `NEARLY_THE_SAME`, and at least `OVERLAPPING` but fewer than that.
    answered, right
        Rows for which a cheater has a seen sequence to copy the label from, and how many of these labels are right.
    cheater_mcc
        Matthews correlation of such a cheater, who gives all other rows the most frequent label.
    """

    seen: str
    held_out: str
    rows: int
    copies: int
    reverse_complements: int
    nearly_the_same: int
    overlapping: int
    answered: int
    right: int
    cheater_mcc: float


class TaskAudit(NamedTuple):
    """All splits and pairs of a task; of `sketched` k-mers one is kept (1 keeps all)."""

    splits: tuple[SplitAudit, ...]
    pairs: tuple[PairAudit, ...]
    k: int
    sketched: int


def audit_task(task: LabelledTask, *, k: int = 20) -> TaskAudit:
    """Compare the splits of a task.

    Parameters
    ----------
    task
        Read with ``drop_leaks=False``, or its splits share no copies any more.
    k
        Length of k-mers, 8 … 31. Shorter sequences are only compared whole.

    Raises
    ------
    ValueError
        k is out of range.
    """
    if not 8 <= k <= 31:
        raise ValueError(f"k is {k}; expected 8 to 31")
    sets = {"train": task.train, "dev": task.dev} | ({"test": task.test} if task.test else {})
    sketched = sketch_size(s for split in sets.values() for s in split.sequences)
    kmers = {name: KmerIndex(split.sequences, k, sketched) for name, split in sets.items()}
    strands = {name: _strandless(split) for name, split in sets.items()}
    pairs = [("train", "dev")] + [(seen, "test") for seen in ("train", "dev") if "test" in sets]
    return TaskAudit(
        tuple(_audit_split(name, sets[name], strands[name]) for name in sets),
        tuple(_audit_pair(seen, held, sets, strands, kmers, task.n_classes) for seen, held in pairs),
        k,
        sketched,
    )  # fmt: skip


def _strandless(split: LabelledSet) -> list[str]:
    """Return of each sequence the strand that comes first by the alphabet, in upper-case DNA letters."""
    forward = [s.upper().replace("U", "T") for s in split.sequences]
    return [min(s, reverse_complement(s)) for s in forward]


def _audit_split(name: str, split: LabelledSet, strands: list[str]) -> SplitAudit:
    labels: dict[str, set[int]] = {}
    for strand, label in zip(strands, split.labels.tolist(), strict=True):
        labels.setdefault(strand, set()).add(label)
    contradicting = sum(len(labels[strand]) > 1 for strand in strands)
    return SplitAudit(name, len(split), len(labels), contradicting)


def _audit_pair(
    seen: str,
    held: str,
    sets: dict[str, LabelledSet],
    strands: dict[str, list[str]],
    kmers: dict[str, KmerIndex],
    n_classes: int,
) -> PairAudit:
    as_they_are = {s.upper().replace("U", "T") for s in sets[seen].sequences}
    either = dict(zip(reversed(strands[seen]), range(len(sets[seen]) - 1, -1, -1), strict=True))
    best, share = kmers[held].nearest_in(kmers[seen])
    copies = reverse = 0
    for row, (sequence, strand) in enumerate(zip(sets[held].sequences, strands[held], strict=True)):
        if strand in either:
            copied = sequence.upper().replace("U", "T") in as_they_are
            copies, reverse = copies + copied, reverse + (not copied)
            best[row], share[row] = either[strand], 2.0  # beyond any share of k-mers
    truth, known = sets[held].labels, sets[seen].labels
    answered = share >= OVERLAPPING
    usual = int(np.bincount(known).argmax())
    guess = np.where(answered, known[best], usual)
    confusion = confusion_matrices(truth, guess, n_classes, np.ones((1, len(truth))))
    return PairAudit(
        seen,
        held,
        len(truth),
        copies,
        reverse,
        int(((share >= NEARLY_THE_SAME) & (share <= 1)).sum()),
        int(((share >= OVERLAPPING) & (share < NEARLY_THE_SAME)).sum()),
        int(answered.sum()),
        int((answered & (guess == truth)).sum()),
        float(matthews(confusion)[0]),
    )
