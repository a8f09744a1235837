from __future__ import annotations

import time

import numpy as np
import pytest

from hyenadna.errors import DataError
from hyenadna.tasks.metrics import classification_metrics
from hyenadna.tasks.paired import (
    PairedDifference,
    Predictions,
    SeedScores,
    holm,
    mean_difference,
    paired_difference,
    score_runs,
)

LABELS = np.arange(400) % 2


def recipe(
    rng: np.random.Generator,
    difficulty: np.ndarray,
    *,
    gain: float = 0.0,
    seed_sd: float = 0.0,
    seeds: int = 3,
    labels: np.ndarray = LABELS,
) -> Predictions:
    """Seeds that err on rows by their shared difficulty, noise of their own, and a skill that varies between seeds."""
    skill = 1.0 + gain + seed_sd * rng.standard_normal((seeds, 1))
    right = skill - difficulty + rng.standard_normal((seeds, difficulty.size)) > 0
    return Predictions(np.where(right, labels, 1 - labels))


def difference(a: Predictions, b: Predictions, **how: object) -> PairedDifference:
    how = {"n_resamples": 200, **how}
    labels = how.pop("labels", LABELS)
    return paired_difference(*score_runs(labels, [a, b], **how))  # type: ignore[arg-type]


def rejections(n: int, *, gain: float = 0.0, seed_sd: float = 0.0, difficulty_sd: float = 1.5, seeds: int = 3) -> float:  # fmt: skip
    rng = np.random.default_rng(7)
    found = []
    for _ in range(n):
        hard = difficulty_sd * rng.standard_normal(400)  # new rows: the test is about others, too
        a = recipe(rng, hard, seed_sd=seed_sd, seeds=seeds)
        b = recipe(rng, hard, seed_sd=seed_sd, seeds=seeds, gain=gain)
        found.append(difference(a, b).p < 0.05)
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("seed_sd", "seeds", "highest"), [(0.0, 3, 0.06), (0.1, 3, 0.07), (0.5, 3, 0.08), (0.1, 5, 0.08)]
)  # fmt: skip
def test_equal_recipes_are_told_apart_about_as_often_as_promised(
    seed_sd: float, seeds: int, highest: float
) -> None:
    found = rejections(400, seed_sd=seed_sd, seeds=seeds)
    assert 0.002 <= found <= highest  # 0.05 ± 0.02; below it where seeds hardly differ


def test_without_the_seeds_part_equal_recipes_would_be_told_apart_far_too_often() -> None:
    rng = np.random.default_rng(7)
    wrong = []
    for _ in range(200):
        hard = 1.5 * rng.standard_normal(400)
        a, b = (recipe(rng, hard, seed_sd=0.5) for _ in range(2))
        scores = score_runs(LABELS, [a, b], n_resamples=200)
        rows = scores[1].resampled.mean(0) - scores[0].resampled.mean(0)
        wrong.append(abs(rows.mean()) > 1.96 * rows.std(ddof=1))
    assert np.mean(wrong) > 0.3


def test_a_planted_difference_is_found_and_its_interval_holds_it() -> None:
    assert rejections(100, gain=0.6, seed_sd=0.05) > 0.95
    rng = np.random.default_rng(3)
    held = []
    labels = np.arange(40_000) % 2
    hard = 1.5 * rng.standard_normal(40_000)
    truth = difference(recipe(rng, hard, seeds=20, labels=labels), recipe(rng, hard, seeds=20, gain=0.6, labels=labels),
                       labels=labels, n_resamples=10).value  # fmt: skip
    for _ in range(200):
        hard = 1.5 * rng.standard_normal(400)
        found = difference(recipe(rng, hard), recipe(rng, hard, gain=0.6))
        held.append(found.low < truth < found.high)
    assert 0.9 <= np.mean(held) <= 1.0


def test_exchanging_the_runs_changes_the_sign_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    hard = rng.standard_normal(400)
    a, b = recipe(rng, hard, seeds=3), recipe(rng, hard, gain=0.3, seeds=4)
    forth, back = difference(a, b), difference(b, a)
    assert forth.value == -back.value
    assert (forth.low, forth.high) == (-back.high, -back.low)
    assert (forth.p, forth.standard_error, forth.df) == (back.p, back.standard_error, back.df)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_run_and_itself_do_not_differ(seeds: int) -> None:
    run = recipe(np.random.default_rng(0), np.random.default_rng(1).standard_normal(400), seeds=seeds)  # fmt: skip
    found = difference(run, run)
    assert (found.value, found.p) == (0.0, 1.0)
    assert found.low <= 0 <= found.high
    if seeds == 1:
        assert (found.low, found.high) == (0.0, 0.0)


def test_pairing_helps_where_runs_find_the_same_rows_hard() -> None:
    rng = np.random.default_rng(0)
    hard = 3 * rng.standard_normal(400)
    a, b = recipe(rng, hard), recipe(rng, hard, gain=0.3)
    # The same confusion matrices, but the rows of the second run have nothing to do with those of the first.
    order = np.concatenate([rng.permutation(np.flatnonzero(y == LABELS)) for y in (0, 1)])
    target = np.concatenate([np.flatnonzero(y == LABELS) for y in (0, 1)])
    shuffled = np.empty_like(b.predicted)
    shuffled[:, target] = b.predicted[:, order]
    paired, unpaired = difference(a, b), difference(a, Predictions(shuffled))
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.standard_error < 0.75 * unpaired.standard_error


def test_scores_and_intervals_agree_with_the_metrics_room() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 3):
        labels = rng.integers(0, classes, 300)
        shares = rng.random((2, 300, classes))
        shares[:, np.arange(300), labels] += 0.4
        run = Predictions(shares.argmax(2), shares)
        for metric in ("mcc", "f1_macro", "accuracy", "auroc", "auprc"):
            (scores,) = score_runs(labels, [run], metric=metric, n_resamples=1000)
            for seed in range(2):
                expected = getattr(classification_metrics(labels, shares[seed]), metric)
                assert scores.values[seed] == pytest.approx(expected.value, abs=1e-12)
                low, high = np.quantile(scores.resampled[seed], [0.025, 0.975])
                assert high - low == pytest.approx(expected.high - expected.low, rel=0.12)


def test_resamples_are_the_same_rows_for_every_run_and_do_not_depend_on_the_company() -> None:
    rng = np.random.default_rng(0)
    a, b = (recipe(rng, rng.standard_normal(400)) for _ in range(2))
    alone, (first, _, again) = score_runs(LABELS, [a])[0], score_runs(LABELS, [a, b, a])
    assert np.array_equal(alone.resampled, first.resampled)
    assert np.array_equal(first.resampled, again.resampled)


def test_variation_between_seeds_widens_and_one_seed_is_said() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.01, 1000)
    steady = SeedScores(np.full(3, 0.7), 0.7 + rows + np.zeros((3, 1)), 400)
    values = np.array([0.6, 0.7, 0.8])
    shaky = SeedScores(values, values[:, None] + rows, 400)
    found = paired_difference(steady, shaky)
    assert found.standard_error == pytest.approx(np.sqrt(values.var(ddof=1) / 3), rel=1e-6)
    assert found.df == pytest.approx(2, rel=1e-6)
    assert paired_difference(steady, shaky, bound=0.1).high == 0.1
    single = SeedScores(np.array([0.7]), 0.7 + rows[None], 400)
    both = paired_difference(single, SeedScores(np.array([0.72]), 0.72 + rows[None] + rng.normal(0, 0.01, (1, 1000)), 400))  # fmt: skip
    assert not both.seeds
    assert both.df == np.inf
    borrowed = paired_difference(single, shaky)  # varies as the other does
    assert borrowed.seeds
    assert borrowed.standard_error == pytest.approx(np.sqrt(values.var(ddof=1) * (1 + 1 / 3)), rel=1e-6)  # fmt: skip


def test_few_rows_never_give_a_small_p() -> None:
    labels = np.array([0, 1, 0, 1])
    found = difference(Predictions(1 - labels[None]), Predictions(labels[None]), labels=labels,
                       metric="accuracy")  # fmt: skip
    assert (found.value, found.standard_error, found.p) == (1.0, 0.0, 0.125)


def test_the_mean_over_tasks_is_that_of_independent_normal_numbers() -> None:
    parts = [PairedDifference(v, 0, 0, 0.5, 0.03, np.inf, True) for v in (0.01, 0.05)]
    mean = mean_difference(parts)
    assert mean.value == pytest.approx(0.03)
    assert mean.standard_error == pytest.approx(0.03 / np.sqrt(2))
    assert mean.high - mean.value == pytest.approx(1.959964 * 0.03 / np.sqrt(2), rel=1e-5)
    few = mean_difference([p._replace(df=4.0) for p in parts])
    assert few.df == pytest.approx(8)


def test_holm_is_monotone_and_holds_the_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.2]) == [0.2]
    assert holm([0.9, 0.8, 0.5]) == [1.0, 1.0, 1.0]
    assert holm([]) == []


def test_what_cannot_be_compared_is_refused() -> None:
    run = Predictions(np.zeros((1, 4), dtype=np.int64), np.ones((1, 4, 2)) / 2)
    with pytest.raises(DataError, match="the same rows"):
        score_runs([0, 1], [run])
    with pytest.raises(DataError, match="auroc is not defined"):
        score_runs([0, 0, 0, 0], [run], metric="auroc")
    with pytest.raises(ValueError, match="expected one of mcc"):
        score_runs([0, 1, 0, 1], [run], metric="loss")


def test_a_large_task_takes_less_than_a_second_or_two() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(6000) % 2
    hard = rng.standard_normal(6000)
    runs = [recipe(rng, hard, labels=labels) for _ in range(2)]
    started = time.process_time()
    paired_difference(*score_runs(labels, runs))
    assert time.process_time() - started < 3  # 0.25 s on a free core
