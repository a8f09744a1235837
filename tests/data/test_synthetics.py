"""Every task can be solved from its inputs alone, no guess does it, and no row is in two splits."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hyenadna.data.synthetics import IGNORED, SPLITS, TASKS, SyntheticTask, build_task
from hyenadna.data.synthetics.base import split_mask
from hyenadna.data.synthetics.draws import Draws, fingerprints, first_occurrences, row_keys
from hyenadna.data.synthetics.mad import Memorisation
from hyenadna.errors import ConfigError, DataError

SMALL: dict[str, tuple[int, dict[str, Any]]] = {
    "associative_recall": (64, {"vocab_size": 10}),
    "mqar": (64, {"vocab_size": 64, "n_pairs": 8}),
    "in_context_recall": (128, {}),
    "noisy_in_context_recall": (128, {}),
    "fuzzy_in_context_recall": (128, {}),
    "selective_copying": (256, {}),
    "compression": (32, {}),
    "memorisation": (32, {}),
}
Solver = Callable[[SyntheticTask, list[int], list[int]], list[int]]


def small(name: str, **settings: Any) -> SyntheticTask:
    seq_len, others = SMALL[name]
    return build_task(name, seq_len, others | settings)


def look_up(task: SyntheticTask, row: list[int], asked: list[int]) -> list[int]:
    """What followed the token that stands here, when it came first at a place like this."""
    return [row[row.index(row[t]) + 1] for t in asked]


def look_up_motifs(task: SyntheticTask, row: list[int], asked: list[int]) -> list[int]:
    """Parse keys and values, and continue the value of a key that was seen."""
    n_keys, pad = (task.vocab_size - 1) // 2, task.vocab_size - 1
    known: dict[tuple[int, ...], list[int]] = {}
    key: list[int] = []
    value: list[int] = []
    answers = []
    for t, token in enumerate(row):
        if token < n_keys:
            if value:
                known.setdefault(tuple(key), value)
                key, value = [], []
            key = [*key, token]
        elif token != pad:
            value = [*value, token]
        if t in asked:
            answers.append(known[tuple(key)][len(value)])
    return answers


def copy(task: SyntheticTask, row: list[int], asked: list[int]) -> list[int]:
    return [token for token in row if token < task.vocab_size - 2]


def know(task: SyntheticTask, row: list[int], asked: list[int]) -> list[int]:
    assert isinstance(task, Memorisation)
    return [int(task.values()[row[t - 1]]) for t in asked]


SOLVERS: dict[str, Solver] = {
    "associative_recall": look_up,
    "mqar": look_up,
    "in_context_recall": look_up,
    "noisy_in_context_recall": look_up,
    "fuzzy_in_context_recall": look_up_motifs,
    "selective_copying": copy,
    "compression": lambda task, row, asked: row,
    "memorisation": know,
}


def accuracy(task: SyntheticTask, split: str, solve: Solver) -> float:
    rows = task.batch(split, range(100), seed=1)
    right = total = 0
    for ids, targets in zip(rows.token_ids.tolist(), rows.targets.tolist(), strict=True):
        asked = [t for t, target in enumerate(targets) if target != IGNORED]
        answers = solve(task, ids, asked)
        assert len(answers) == len(asked) >= 1
        right += sum(answer == targets[t] for answer, t in zip(answers, asked, strict=True))
        total += len(asked)
    return right / total


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_solved_from_its_inputs(name: str) -> None:
    for split in ("validation", "test"):
        assert accuracy(small(name), split, SOLVERS[name]) == 1.0


@pytest.mark.parametrize("name", TASKS)
def test_no_guess_solves_a_task(name: str) -> None:
    """Neither the commonest answer, nor the token before, nor the dictionary of another row."""
    task = small(name)
    targets = task.batch("train", range(400), seed=1).targets
    counts = Counter(targets[targets != IGNORED].tolist())
    commonest = max(counts, key=lambda token: counts[token])
    before = lambda task, row, asked: [row[t - 1] for t in asked]  # noqa: E731
    assert accuracy(task, "test", lambda task, row, asked: [commonest] * len(asked)) < 0.45
    assert accuracy(task, "test", before) < 0.45
    if name == "memorisation":
        other = dataclasses.replace(task, dictionary=1)  # type: ignore[call-arg]
        assert accuracy(task, "test", lambda task, row, asked: know(other, row, asked)) < 0.1


@pytest.mark.parametrize("name", [n for n in TASKS if "recall" in n])
def test_training_on_all_asks_what_can_be_known_and_no_more(name: str) -> None:
    task = small(name, asked="all")
    assert accuracy(task, "train", SOLVERS[name]) == 1.0
    rows = task.batch("train", range(50), seed=0)
    if name in ("associative_recall", "in_context_recall"):
        first = first_occurrences(rows.token_ids.astype(np.int64), task.vocab_size)
        asked = rows.targets != IGNORED
        # asked are exactly the keys that were seen before
        n_keys = (task.vocab_size - (2 if name == "associative_recall" else 0)) // 2
        seen = (first < np.arange(task.seq_len)) & (rows.token_ids < n_keys)
        assert (asked == seen).all()


@pytest.mark.parametrize("name", [n for n in TASKS if "recall" in n])
def test_training_on_tokens_asks_for_the_next_one(name: str) -> None:
    rows = small(name, asked="tokens").batch("train", range(20), seed=0)
    assert (rows.targets[:, :-1] == rows.token_ids[:, 1:]).all()


def test_tests_of_associative_recall_ask_the_last_position_alone() -> None:
    for asked in ("last", "all", "tokens"):
        task = small("associative_recall", asked=asked)
        rows = task.batch("test", range(50), seed=0)
        assert (rows.targets[:, :-1] == IGNORED).all()
        assert (rows.targets[:, -1] >= task.vocab_size // 2 - 1).all()
    last = small("associative_recall", asked="last").batch("train", range(50), seed=0)
    assert (last.targets[:, :-1] == IGNORED).all()


@pytest.mark.parametrize("name", TASKS)
def test_a_row_is_the_same_alone_and_in_any_batch(name: str) -> None:
    task = small(name)
    for split in SPLITS:
        together = task.batch(split, [4, 9, 2, 7], seed=5)
        alone = task.batch(split, [2], seed=5)
        assert (together.token_ids[2] == alone.token_ids[0]).all()
        assert (together.targets[2] == alone.targets[0]).all()
    other = task.batch("train", [2], seed=6)
    assert (other.token_ids != task.batch("train", [2], seed=5).token_ids).any()


@pytest.mark.parametrize("name", TASKS)
def test_no_row_is_in_two_splits_whatever_the_seeds(name: str) -> None:
    task = small(name)
    if name == "associative_recall":  # so few different rows that chance would repeat many
        task = build_task(name, 10, {"vocab_size": 6})
    content = {
        split: {row.tobytes() for seed in (1, 2) for row in task.batch(split, range(1500), seed=seed).token_ids}
        for split in SPLITS
    }  # fmt: skip
    assert not content["train"] & content["test"]
    assert not content["train"] & content["validation"]
    assert not content["validation"] & content["test"]
    for split in SPLITS:
        assert split_mask(task.batch(split, range(50), seed=3).token_ids, split).all()


def test_splits_would_share_rows_if_nothing_kept_them_apart() -> None:
    task = build_task("associative_recall", 10, {"vocab_size": 6})
    a, b = (
        task.draw(Draws(row_keys((s,), np.arange(1500))), training=False).token_ids for s in (1, 2)
    )
    assert {row.tobytes() for row in a} & {row.tobytes() for row in b}


def test_a_task_with_hardly_any_rows_is_refused() -> None:
    with pytest.raises(DataError, match="hardly any different rows"):
        build_task("compression", 2, {"vocab_size": 3}).batch("test", range(8), seed=0)


def test_gaps_of_mqar_follow_the_power_law() -> None:
    def first_question(power: float) -> float:
        task = build_task("mqar", 64, {"vocab_size": 64, "n_pairs": 4, "power": power})
        rows = task.batch("test", range(400), seed=0)
        return float((rows.targets != IGNORED).argmax(axis=1).mean())

    assert first_question(0.01) < 11
    assert first_question(1.0) > 15


def test_questions_of_mqar_are_in_an_order_of_their_own() -> None:
    rows = build_task("mqar", 64, {"vocab_size": 64, "n_pairs": 4}).batch(
        "test", range(300), seed=0
    )
    asked = rows.token_ids[rows.targets != IGNORED].reshape(300, 4)
    in_order = (asked == rows.token_ids[:, :8:2]).all(axis=1).mean()
    assert 0.01 < in_order < 0.09  # 1 / 24


def test_noise_and_blanks_have_their_share() -> None:
    rows = small("noisy_in_context_recall").batch("test", range(200), seed=0).token_ids
    assert (rows >= 16).mean() == pytest.approx(0.2 * 63 / 64, abs=0.02)
    assert ((rows[:, ::2] >= 16) == (rows[:, 1::2] >= 16)).all()
    copying = small("selective_copying").batch("test", range(20), seed=0).token_ids
    assert ((copying == 14).sum(axis=1) == 256 - 16 - 1).all()
    assert (copying[:, -17] == 15).all()


def test_fuzzy_tests_have_keys_of_full_size_and_training_has_all() -> None:
    def sizes(split: str) -> set[int]:
        rows = small("fuzzy_in_context_recall").batch(split, range(100), seed=0).token_ids
        runs = [run for row in rows for run in "".join("k" if t < 7 else "v" for t in row).split("v")]  # fmt: skip
        return {len(run) for run in runs} - {0}

    assert sizes("test") == {3}
    assert sizes("train") == {1, 2, 3}


def test_random_numbers_are_uniform_and_arrangements_equally_likely() -> None:
    draws = Draws(row_keys((0,), np.arange(6000)))
    counts = np.bincount(draws.below(10, 10).ravel(), minlength=10)
    assert abs(counts - 6000).max() < 5 * 6000**0.5
    seen = Counter(map(tuple, draws.arrangement(4, 3).tolist()))
    assert len(seen) == 24
    assert all(abs(n - 250) < 5 * 250**0.5 for n in seen.values())
    assert 0.49 < draws.uniform(5).mean() < 0.51


def test_fingerprints_are_about_content_alone() -> None:
    rows = np.random.default_rng(0).integers(0, 30, (500, 101)).astype(np.uint8)
    prints = fingerprints(rows)
    assert (fingerprints(rows[::-1].copy())[::-1] == prints).all()
    changed = rows.copy()
    changed[:, 50] ^= 1
    assert (fingerprints(changed) != prints).all()
    assert len(set(prints.tolist())) == 500
    counts = np.bincount((prints >> np.uint64(61)).astype(int), minlength=8)
    assert (abs(counts - 62.5) < 40).all()


@pytest.mark.parametrize("n_symbols", [7, 5000])
def test_first_occurrences_agree_with_a_search(n_symbols: int) -> None:
    symbols = np.random.default_rng(1).integers(0, 7, (20, 30))
    expected = [[row.index(s) for s in row] for row in symbols.tolist()]
    assert first_occurrences(symbols, n_symbols).tolist() == expected


@pytest.mark.parametrize(
    ("name", "seq_len", "settings", "words"),
    [
        ("recall", 64, {}, "there is no task 'recall'"),
        ("mqar", 64, {"pairs": 4}, "has no setting 'pairs'"),
        ("mqar", 64, {"n_pairs": "4"}, "a value like 8"),
        ("mqar", 64, {"n_pairs": 17}, "1 to 16 are possible here"),
        ("associative_recall", 63, {}, "an even number"),
        ("associative_recall", 64, {"vocab_size": 11}, "from 6 to 256"),
        ("associative_recall", 64, {"asked": "some"}, "last, all, tokens"),
        ("in_context_recall", 64, {"noise_share": 0.2}, "noise_vocab where"),
        ("selective_copying", 32, {}, "at least 34"),
    ],
)
def test_impossible_settings_are_one_sentence(
    name: str, seq_len: int, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build_task(name, seq_len, settings)
