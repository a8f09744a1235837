"""The audit against splits whose leaks are known because they were put there."""

from __future__ import annotations

import random

import numpy as np
import pytest

from hyenadna.data import kmers
from hyenadna.data.labelled import LabelledSet
from hyenadna.data.labelled_task import LabelledTask
from hyenadna.sequence import reverse_complement
from hyenadna.tasks.audit import PairAudit, audit_task

N = 60
LENGTH = 100


def _draw(rng: random.Random, n: int = N, length: int = LENGTH) -> list[str]:
    return ["".join(rng.choices("ACGT", k=length)) for _ in range(n)]


def _set(sequences: list[str], labels: list[int]) -> LabelledSet:
    return LabelledSet(tuple(sequences), np.array(labels, dtype=np.int64), tuple(range(1, len(sequences) + 1)))  # fmt: skip


def _task(train: LabelledSet, dev: LabelledSet, test: LabelledSet | None = None) -> LabelledTask:
    return LabelledTask(train, dev, test, ("0", "1"))


def _pair(train: list[str], dev: list[str], labels: list[int] | None = None) -> PairAudit:
    known = [i % 2 for i in range(len(train))]
    (pair,) = audit_task(_task(_set(train, known), _set(dev, labels or known[: len(dev)]))).pairs
    return pair


def test_unrelated_splits_share_nothing_and_a_cheater_gains_nothing() -> None:
    rng = random.Random(1)
    pair = _pair(_draw(rng), _draw(rng))
    assert pair[3:] == (0, 0, 0, 0, 0, 0, 0.0)


def test_copies_on_both_strands_are_told_apart_and_worth_everything() -> None:
    rng = random.Random(2)
    train = _draw(rng)
    dev = train[:20] + [reverse_complement(s) for s in train[20:40]] + _draw(rng, 20)
    pair = _pair(train, dev)
    assert (pair.copies, pair.reverse_complements) == (20, 20)
    assert (pair.nearly_the_same, pair.overlapping) == (0, 0)
    assert (pair.answered, pair.right) == (40, 40)
    assert 0.6 < pair.cheater_mcc < 1
    assert _pair(train, [s.lower().replace("t", "u") for s in train]).copies == N


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("shift", "near", "over"), [(10, N, 0), (30, N, 0), (60, 0, N), (79, 0, 0)])  # fmt: skip
def test_shifted_windows_are_found_by_what_they_share(
    shift: int, near: int, over: int, flip: bool
) -> None:
    rng = random.Random(3)
    long = _draw(rng, length=LENGTH + shift)
    train, dev = [s[:LENGTH] for s in long], [s[shift:] for s in long]
    if flip:
        dev = [reverse_complement(s) for s in dev]
    pair = _pair(train, dev)
    assert (pair.copies, pair.reverse_complements) == (0, 0)
    assert (pair.nearly_the_same, pair.overlapping) == (near, over)
    assert pair.right == pair.answered == near + over
    assert pair.cheater_mcc == (1.0 if near or over else 0.0)


def test_copies_with_the_other_label_make_a_cheater_worse_than_chance() -> None:
    train = _draw(random.Random(4))
    labels = [1 - i % 2 for i in range(N)]
    pair = _pair(train, train, labels)
    assert (pair.answered, pair.right) == (N, 0)
    assert pair.cheater_mcc == -1.0


def test_a_repeat_of_many_rows_is_no_overlap() -> None:
    rng = random.Random(5)
    repeat = _draw(rng, 1, 50)[0]
    few, many = ([repeat + s for s in _draw(rng, n, 50)] for n in (30, 200))
    assert _pair(few, [repeat + s for s in _draw(rng, 20, 50)]).overlapping == 20
    assert _pair(many, [repeat + s for s in _draw(rng, 20, 50)]).overlapping == 0


def test_splits_say_what_is_doubled_and_what_contradicts_itself() -> None:
    rng = random.Random(6)
    a, b, c = _draw(rng, 3)
    train = _set([a, a, reverse_complement(a), b, b, c], [0, 0, 0, 0, 1, 1])
    dev = _set(_draw(rng, 4), [0, 1, 0, 1])
    first, second = audit_task(_task(train, dev)).splits
    assert first == ("train", 6, 3, 2)
    assert second == ("dev", 4, 4, 0)


def test_ambiguous_letters_and_short_rows_share_no_kmers() -> None:
    train = ["ACGTACGTACGTACGTACGTN" * 3, "ACGTTGCA", "A" * 10 + "N" + "C" * 15]
    pair = _pair(train, ["N" * 50, "ACGTTGCA", "G"])
    assert (pair.copies, pair.nearly_the_same, pair.overlapping) == (1, 0, 0)


def test_a_sketch_finds_what_all_kmers_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    long = _draw(rng, length=2000)
    train, dev = [s[:1800] for s in long], [s[200:] for s in long]
    whole = _pair(train, dev)
    monkeypatch.setattr(kmers, "_MOST_KMERS", 20_000)
    sketched = audit_task(_task(_set(train, [0, 1] * 30), _set(dev, [0, 1] * 30)))
    assert sketched.sketched > 5
    assert sketched.pairs[0].nearly_the_same == whole.nearly_the_same == N
    monkeypatch.setattr(kmers, "_BLOCK", 7)
    assert _pair(train, dev) == whole


def test_all_pairs_of_three_splits_are_compared() -> None:
    rng = random.Random(8)
    a, b, c = (_set(_draw(rng, 10), [0, 1] * 5) for _ in range(3))
    found = audit_task(_task(a, b, c))
    assert [(p.seen, p.held_out) for p in found.pairs] == [("train", "dev"), ("train", "test"), ("dev", "test")]  # fmt: skip
    with pytest.raises(ValueError, match="k is 7"):
        audit_task(_task(a, b), k=7)
