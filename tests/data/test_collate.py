from __future__ import annotations

import numpy as np
import pytest

from hyenadna.data.collate import bucketed_batches, pad_right, padded_length, prediction_batches


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad_right([np.array([7, 8], np.uint8), np.array([9], np.uint8)], pad_token_id=4)
    assert ids.tolist() == [[7, 8], [9, 4]]
    assert mask.tolist() == [[True, True], [True, False]]
    assert ids.dtype == np.uint8


def test_pad_token_inside_a_sequence_stays_real() -> None:
    _, mask = pad_right([np.array([4, 4], np.uint8)], pad_token_id=4)
    assert mask.all()


@pytest.mark.parametrize("sequences", [[], [np.zeros(0, np.uint8)]])
def test_empty_batches_and_sequences_are_refused(sequences: list[np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        pad_right(sequences, pad_token_id=4)


@pytest.mark.parametrize("lengths", [np.full(103, 70), np.arange(1, 104), np.zeros(0, int)])
def test_batches_hold_every_row_once(lengths: np.ndarray) -> None:
    batches = bucketed_batches(lengths, 8, seed=1, epoch=0, pool_batches=3)
    assert sorted(i for b in batches for i in b) == list(range(lengths.size))
    assert all(len(b) <= 8 for b in batches)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(bucketed_batches(np.full(50, 9), 8, seed=seed, epoch=epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_bucketing_pads_less_than_a_plain_shuffle() -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, 2000)

    def padded(batches: list[np.ndarray]) -> int:
        return sum(int(lengths[b].max()) * len(b) for b in batches)

    bucketed = padded(bucketed_batches(lengths, 16, seed=0, epoch=0))
    plain = padded(bucketed_batches(lengths, 16, seed=0, epoch=0, pool_batches=1))
    assert bucketed < 1.1 * lengths.sum() < plain


def test_prediction_batches_hold_every_row_once_at_its_own_padded_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 200)
    batches = prediction_batches(lengths, 7, limit=299)
    assert sorted(i for _, rows in batches for i in rows) == list(range(200))
    for padded, rows in batches:
        assert len(rows) <= 7
        assert {padded_length(int(n), 299) for n in lengths[rows]} == {padded}
        assert lengths[rows].max() <= padded <= 299


def test_padding_for_prediction_wastes_an_eighth_at_most() -> None:
    for length in range(1, 3000):
        assert length <= padded_length(length, 10_000) <= max(length, 1.125 * length + 1)


def test_padding_to_a_given_length() -> None:
    ids, mask = pad_right([np.array([7, 8], np.uint8)], pad_token_id=4, length=3)
    assert ids.tolist() == [[7, 8, 4]]
    assert mask.tolist() == [[True, True, False]]
    with pytest.raises(ValueError, match="does not fit"):
        pad_right([np.array([7, 8], np.uint8)], pad_token_id=4, length=1)
