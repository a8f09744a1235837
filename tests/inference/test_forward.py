"""Batches come back in order, whole or in halves; a GPU is given the next one before the last one is waited for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hyenadna.errors import ConfigError
from hyenadna.inference.forward import forward_passes, to_device

BATCHES = [["ACG", "A"], ["AC"], ["ACGT", "ACGT", "C", "CC", "CCC"]]


class Lengths:
    """A forward pass that returns the items' lengths, notes what it was given, and has memory for so many."""

    def __init__(self, most: int = 9, device: str = "cpu") -> None:
        self.model = nn.Linear(1, 1).to(device)
        self.seen: list[Sequence[str]] = []
        self.most = most

    def __call__(self, batch: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen.append(batch)
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        device = self.model.weight.device
        lengths = to_device(np.array([len(item) for item in batch]), device)
        return lengths, lengths.double() / 2

    def passes(self, batches: Any = BATCHES) -> Iterator[tuple[Sequence[str], Any]]:
        return forward_passes(self.model, batches, self, half=False)


def test_batches_come_back_in_order_with_their_arrays() -> None:
    found = list(Lengths().passes())
    assert [batch for batch, _ in found] == BATCHES
    for batch, (lengths, halves) in found:
        assert lengths.tolist() == [len(item) for item in batch]
        np.testing.assert_array_equal(halves, lengths / 2)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_where_memory_ends_a_batch_comes_in_parts(most: int) -> None:
    found = list(Lengths(most).passes())
    assert [item for batch, _ in found for item in batch] == [item for b in BATCHES for item in b]
    assert [n for _, (lengths, _) in found for n in lengths] == [len(i) for b in BATCHES for i in b]
    assert max(len(batch) for batch, _ in found) <= most
    assert len(found) > len(BATCHES)


def test_one_item_that_does_not_fit_is_explained() -> None:
    with pytest.raises(ConfigError, match="3 bases at once do not fit into the memory of cpu"):
        list(Lengths(0).passes())


def test_other_errors_pass_through() -> None:
    def broken(_: Sequence[str]) -> tuple[torch.Tensor, ...]:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        list(forward_passes(nn.Linear(1, 1), BATCHES, broken, half=False))


def test_an_empty_batch_is_not_computed_and_follows_those_before_it() -> None:
    lengths = Lengths()
    assert [(list(b), len(found)) for b, found in lengths.passes([["A"], [], ["C"]])] == [(["A"], 2), ([], 0), (["C"], 2)]  # fmt: skip
    assert lengths.seen == [["A"], ["C"]]


def test_a_cpu_computes_what_is_asked_for_and_no_more() -> None:
    lengths = Lengths()
    stream = lengths.passes(iter(BATCHES))
    next(stream)
    assert lengths.seen == BATCHES[:1]


@pytest.mark.gpu
def test_a_gpu_has_the_next_batch_before_one_is_waited_for() -> None:
    lengths = Lengths(device="cuda")
    stream = lengths.passes(iter(BATCHES))
    batch, (found, _) = next(stream)
    assert (batch, found.tolist()) == (BATCHES[0], [3, 1])
    assert lengths.seen == BATCHES[:2]
    rest = list(stream)
    assert [b for b, _ in rest] == BATCHES[1:]
    assert [n for _, (sizes, _) in rest for n in sizes] == [2, 4, 4, 1, 2, 3]


@pytest.mark.gpu
def test_results_of_a_gpu_are_complete_when_they_come() -> None:
    # Long chains of products, read at once: copies that are not waited for would hold what was there before.
    model = nn.Linear(1, 1).cuda()

    def chain(batch: Sequence[np.ndarray[Any, Any]]) -> tuple[torch.Tensor]:
        x = to_device(np.stack(batch), torch.device("cuda"))
        for _ in range(300):
            x = x @ torch.eye(2048, device="cuda")
        return (x,)

    batches = [[np.full((2048, 2048), i, np.float32)] for i in range(6)]
    for i, (_, (found,)) in enumerate(forward_passes(model, batches, chain, half=False)):
        assert (found == i).all()
