from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig
from hyenadna.inference.batching import (
    Piece,
    automatic_batch_tokens,
    batches,
    collate,
    padded_length,
    windows,
)


def _piece(length: int, owner: int = 0) -> Piece:
    return Piece(owner, np.full(length, 7, dtype=np.uint8), 1)


def test_padding_is_small_and_within_the_limit() -> None:
    for length in range(1, 3000):
        padded = padded_length(length, 10**9)
        assert length <= padded <= max(8, 1.25 * length)
        assert padded_length(length, length) == length


def test_padding_grows_with_the_length() -> None:
    grid = [padded_length(n, 10**9) for n in range(1, 3000)]
    assert grid == sorted(grid)
    assert len(set(grid)) < 60


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(1, 4, 2), (4, 4, 1), (5, 4, 3), (103, 10, 1), (103, 10, 9)]
)
def test_windows_score_every_token_but_the_first_once(
    length: int, window: int, stride: int
) -> None:
    scored: list[int] = []
    for start, end, first in windows(length, window, stride):
        assert 0 < end - start <= window
        assert start == 0 or first >= window - stride
        scored += range(start + first, end)
    assert scored == list(range(1, length))


def test_windows_without_overlap_would_lose_tokens() -> None:
    # The control: first = 1 in every window, as if nothing overlapped, scores some tokens twice.
    scored = [t for start, end, _ in windows(10, 4, 2) for t in range(start + 1, end)]
    assert scored != list(range(1, 10))


def test_batches_hold_one_padded_length_and_lose_nothing() -> None:
    pieces = [_piece(n, owner) for owner, n in enumerate([5, 100, 8, 97, 3, 100, 64])]
    seen = []
    for batch in batches([pieces], limit=128, max_tokens=210):
        lengths = {padded_length(len(piece.token_ids), 128) for piece in batch}
        assert len(lengths) == 1
        assert len(batch) * lengths.pop() <= 210
        seen += [piece.owner for piece in batch]
    assert sorted(seen) == list(range(7))


def test_a_fixed_number_of_rows_wins_over_the_token_budget() -> None:
    sizes = [len(b) for b in batches([[_piece(100)] * 7], limit=128, max_tokens=1, max_rows=3)]
    assert sizes == [3, 3, 1]


def test_a_piece_beyond_the_budget_is_a_batch_of_its_own() -> None:
    assert [len(b) for b in batches([[_piece(100)] * 2], limit=128, max_tokens=10)] == [1, 1]


def test_a_full_batch_comes_before_more_is_read_and_the_rest_within_bounds() -> None:
    read: list[int] = []

    def groups() -> Iterator[list[Piece]]:
        for i in range(10**6):
            read.append(i)
            yield [_piece(8)] if i else [_piece(100)]

    stream = batches(groups(), limit=128, max_tokens=240)
    assert [len(piece) for piece in next(stream)] == [8] * 30
    assert len(read) == 31
    for batch in stream:
        if len(batch[0]) == 100:  # which fills no batch
            break
    assert len(read) <= 16 * 240 // 8


def test_groups_without_pieces_give_the_turn() -> None:
    stream = batches(([] for _ in range(10**6)), limit=128, max_tokens=24, max_groups=5)
    assert [next(stream), next(stream)] == [[], []]
    waiting = batches(iter([[_piece(9)], [], [], [_piece(9)]]), limit=128, max_tokens=999, max_groups=3)  # fmt: skip
    assert [len(batch) for batch in waiting] == [1, 0, 1]


def test_collate_pads_on_the_right() -> None:
    stacked = collate([_piece(3), _piece(8)], limit=130, pad_token_id=4)
    assert stacked.tolist() == [[7, 7, 7, 4, 4, 4, 4, 4], [7] * 8]
    assert stacked.dtype == np.uint8


def test_larger_models_get_smaller_batches() -> None:
    cpu = torch.device("cpu")
    tiny = automatic_batch_tokens(HyenaConfig.named("tiny-1k"), cpu)
    assert tiny > automatic_batch_tokens(HyenaConfig.named("small-32k"), cpu) >= 1
    assert automatic_batch_tokens(HyenaConfig(d_model=1_000_000), cpu) == 1


def test_heads_that_mix_channels_get_smaller_batches() -> None:
    cpu = torch.device("cpu")
    one, eight, attention = (
        automatic_batch_tokens(HyenaConfig(**changes), cpu)  # type: ignore[arg-type]
        for changes in ({}, {"hyena_heads": 16}, {"mixers": "attention", "hyena_heads": 16})
    )
    assert one == attention > 2 * eight
