from __future__ import annotations

import math

import pytest
import torch

from hyenadna.tasks.causal_lm import bits_per_base, next_base_loss, scored_targets, target_weight

A, C, G, T, N, PAD, CLS = 7, 8, 9, 10, 11, 4, 0


def test_only_bases_after_the_first_are_scored() -> None:
    ids = torch.tensor([[A, C, N, G, PAD, CLS]], dtype=torch.uint8)
    assert scored_targets(ids).tolist() == [[True, False, True, False, False]]


def test_loss_is_the_sum_of_minus_log_softmax_over_the_whole_vocabulary() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[A, C, N, G, T], [T, T, PAD, PAD, PAD]], dtype=torch.uint8)
    logits = torch.randn(2, 5, 16)
    expected, n = 0.0, 0
    for b in range(2):
        for t in range(4):
            target = int(ids[b, t + 1])
            if target in (A, C, G, T):
                z = sum(math.exp(v) for v in logits[b, t].tolist())
                expected -= math.log(math.exp(logits[b, t, target].item()) / z)
                n += 1
    loss = next_base_loss(logits, ids)
    assert loss.weighted.item() == pytest.approx(expected, rel=1e-5)
    assert loss.nats.item() == loss.weighted.item()
    assert (loss.weight.item(), loss.n_scored.item()) == (n, n) == (4, 4)


def test_what_is_not_scored_does_not_change_the_loss_and_what_is_does() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[A, C, N, G, PAD]], dtype=torch.uint8)
    logits = torch.randn(1, 5, 16)
    base = next_base_loss(logits, ids).weighted
    for position, changes in ((0, True), (1, False), (2, True), (3, False), (4, False)):
        other = logits.clone()
        other[0, position] = torch.randn(16)
        assert (next_base_loss(other, ids).weighted != base).item() is changes


def test_soft_mask_weighs_repeats_and_not_the_count() -> None:
    torch.manual_seed(0)
    ids = torch.tensor([[A, C, G, N, T]], dtype=torch.uint8)
    mask = torch.tensor([[True, True, False, True, False]])
    logits = torch.randn(1, 5, 16)
    weight = target_weight(ids, mask, 0.25)
    assert weight.tolist() == [[0.25, 1.0, 0.0, 1.0]]
    plain, weighed = next_base_loss(logits, ids), next_base_loss(logits, ids, weight=weight)
    first = -torch.log_softmax(logits[0, 0], -1)[C]
    assert weighed.weighted.item() == pytest.approx(
        (plain.weighted - 0.75 * first).item(), rel=1e-5
    )
    assert weighed.weight.item() == 2.25
    assert weighed.nats.item() == plain.nats.item()
    assert weighed.n_scored.item() == 3
    assert target_weight(ids, None, 0.25).tolist() == [[1.0, 1.0, 0.0, 1.0]]


def test_gradient_flows_only_through_the_weighted_sum_and_half_precision_is_summed_in_single() -> (
    None
):
    ids = torch.tensor([[A, C, G]], dtype=torch.uint8)
    logits = torch.zeros(1, 3, 16, dtype=torch.bfloat16, requires_grad=True)
    loss = next_base_loss(logits, ids)
    assert loss.weighted.dtype == torch.float32
    assert not loss.nats.requires_grad
    loss.weighted.backward()
    assert logits.grad is not None
    assert logits.grad[0, 2].abs().sum() == 0
    assert next_base_loss(torch.zeros(1, 3, 16).double(), ids).weighted.dtype == torch.float64


def test_uniform_over_four_bases_is_two_bits() -> None:
    assert bits_per_base(math.log(4)) == 2.0
