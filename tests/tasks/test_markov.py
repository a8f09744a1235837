from __future__ import annotations

import math

import numpy as np
import pytest

from hyenadna.errors import DataError
from hyenadna.tasks import markov
from hyenadna.tasks.markov import MarkovModel


def codes(text: str) -> np.ndarray:
    return np.array(["ACGTN".index(letter) for letter in text], dtype=np.uint8)


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, n).astype(np.uint8)


@pytest.mark.parametrize("both_strands", [False, True])
def test_every_order_is_a_distribution_for_every_context(both_strands: bool) -> None:
    model = MarkovModel.fit([random_codes(500)], max_order=4, both_strands=both_strands)
    for order, table in enumerate(model.tables):
        assert table.shape == (4 ** (order + 1),)
        np.testing.assert_allclose(np.exp(-table).reshape(-1, 4).sum(1), 1, rtol=1e-5)


def test_counts_are_of_the_letters_as_they_stand() -> None:
    text = "ACGTNNACGGA"
    for order in (0, 1, 2):
        counted = markov._count([codes(text), codes("AC")], order)
        for index in range(4 ** (order + 1)):
            word = "".join("ACGT"[(index >> 2 * (order - i)) & 3] for i in range(order + 1))
            expected = sum(
                part.startswith(word, i) for part in (text, "AC") for i in range(len(part))
            )
            assert counted[index] == expected, word


def test_counts_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = random_codes(1000)
    whole = markov._count([sequence], 3)
    monkeypatch.setattr(markov, "_CHUNK", 7)
    np.testing.assert_array_equal(markov._count([sequence], 3), whole)


def test_smoothing_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence = random_codes(2000)
    whole = MarkovModel.fit([sequence], max_order=5)
    monkeypatch.setattr(markov, "_BLOCK", 16)
    small = MarkovModel.fit([sequence], max_order=5)
    for a, b in zip(whole.tables, small.tables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_strands_give_a_model_that_does_not_see_the_strand() -> None:
    sequence = random_codes(400)
    model = MarkovModel.fit([sequence], max_order=3)
    turned = MarkovModel.fit([3 - sequence[::-1]], max_order=3)
    for a, b in zip(model.tables, turned.tables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    single = MarkovModel.fit([sequence], max_order=3, both_strands=False)
    assert not np.allclose(single.tables[1], model.tables[1])  # negative control


def test_score_is_the_sum_over_positions_with_shorter_contexts_after_n_and_at_the_start() -> None:
    model = MarkovModel.fit([random_codes(3000)], max_order=3, both_strands=False)
    sequence = codes("ACGTTNGATTACA")
    expected = np.zeros(4)
    n = 0
    for i in range(2, len(sequence)):
        if sequence[i] == 4:
            continue
        n += 1
        for order in range(4):
            clean = 0
            while clean < order and i - clean - 1 >= 0 and sequence[i - clean - 1] < 4:
                clean += 1
            index = 0
            for j in range(i - clean, i + 1):
                index = index * 4 + int(sequence[j])
            expected[order] += model.tables[clean][index]
    found = model.score(sequence, first=2)
    assert found.n_scored == n
    np.testing.assert_allclose(found.nats, expected, rtol=1e-6)


def test_order_zero_is_the_entropy_of_the_composition() -> None:
    sequence = np.repeat(np.arange(4, dtype=np.uint8), [4000, 3000, 2000, 1000])
    model = MarkovModel.fit([sequence], max_order=0, both_strands=False)
    share = np.array([0.4, 0.3, 0.2, 0.1])
    found = model.score(sequence, first=0)
    assert found.nats[0] / found.n_scored == pytest.approx(-(share * np.log(share)).sum(), rel=1e-3)


def test_higher_orders_find_structure_and_do_not_overfit_noise() -> None:
    rng = np.random.default_rng(1)
    steps = rng.choice(4, size=20_000, p=[0.7, 0.1, 0.1, 0.1])
    walk = (np.cumsum(steps) % 4).astype(np.uint8)
    train, test = walk[:15_000], walk[15_000:]
    per_base = MarkovModel.fit([train], max_order=6, both_strands=False).score(test)
    bits = per_base.nats / per_base.n_scored / math.log(2)
    truth = -(0.7 * math.log2(0.7) + 0.3 * math.log2(0.1))
    assert bits[0] == pytest.approx(2.0, abs=0.02)
    assert bits[1] == pytest.approx(truth, abs=0.05)
    assert bits[2:].max() < bits[1] + 0.02
    noise = MarkovModel.fit([random_codes(15_000)], max_order=6).score(random_codes(5000, 9))
    assert (noise.nats / noise.n_scored / math.log(2)).max() < 2.01


def test_smoothing_weight_is_the_best_of_the_grid() -> None:
    n = markov._count([random_codes(3000)], 2)
    lower = np.full(16, 0.25, dtype=np.float32)
    place = markov._best_alpha(n, lower, 0)
    costs = [markov._leave_one_out_nats(n, lower, a) for a in markov._ALPHAS]
    assert costs[place] == min(costs)


@pytest.mark.parametrize("order", [-1, 13])
def test_order_out_of_range_is_refused(order: int) -> None:
    with pytest.raises(DataError, match="0 to 12"):
        MarkovModel.fit([random_codes(100)], max_order=order)


def test_too_few_bases_in_a_row_are_refused() -> None:
    with pytest.raises(DataError, match="3 bases in a row"):
        MarkovModel.fit([codes("ACNGTN")], max_order=2)
