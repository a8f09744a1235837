"""What is hidden is what the settings say, the same everywhere; what is scored is the hidden bases and nothing else."""

from __future__ import annotations

import math

import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForMaskedLM
from hyenadna.tasks.masked_lm import MASK_TOKEN_ID, Masking, mask_bases, masked_base_loss
from hyenadna.tasks.objectives import MaskedBases
from hyenadna.testing import assert_close

A, C, G, T, N, PAD = 7, 8, 9, 10, 11, 4


def _bases(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(7, 11, (batch, length), generator=draw, dtype=torch.uint8)


def _hidden(ids: torch.Tensor, first: int = 0, seed: int = 1, **settings: float) -> torch.Tensor:
    return mask_bases(ids, first, seed=seed, masking=Masking(**settings)).targets != PAD


def _runs(hidden: torch.Tensor) -> list[int]:
    """Lengths of the runs of hidden bases that touch neither end of a window."""
    found: list[int] = []
    for row in hidden.tolist():
        text = "".join("x" if h else "." for h in row)
        found += [len(run) for run in text.strip("x").split(".") if run]
    return found


@pytest.mark.parametrize("span", [1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.5])
def test_the_hidden_share_is_the_one_asked_for_at_every_place(fraction: float, span: float) -> None:
    hidden = _hidden(_bases(4000, 200), mask_fraction=fraction, mean_span=span)
    error = 5 * math.sqrt(fraction * (1 - fraction) * 2 * span / hidden.numel())
    assert hidden.float().mean().item() == pytest.approx(fraction, abs=error)
    for place in (0, 1, 100, 199):  # no end of a window is hidden more or less often
        at = 5 * math.sqrt(fraction * (1 - fraction) / len(hidden))
        assert hidden[:, place].float().mean().item() == pytest.approx(fraction, abs=at)


@pytest.mark.parametrize("span", [1.0, 3.0, 8.0])
def test_runs_are_geometric_with_the_mean_that_spans_give(span: float) -> None:
    masking = Masking(mask_fraction=0.1, mean_span=span)
    hidden = mask_bases(_bases(500, 2000), 0, seed=2, masking=masking).targets != PAD
    runs = torch.tensor(_runs(hidden), dtype=torch.float64)
    mean = span / (1 - masking.start_probability)  # one that begins in another goes on with it
    assert runs.mean().item() == pytest.approx(mean, rel=0.03)
    longer = (runs > mean).double().mean().item()
    assert longer == pytest.approx((1 - 1 / mean) ** math.floor(mean), rel=0.05)


def test_single_bases_are_hidden_independently_and_spans_are_not() -> None:
    for span, least, most in ((1.0, -0.01, 0.01), (5.0, 0.7, 0.9)):
        hidden = _hidden(_bases(500, 1000), mean_span=span).double()
        one, other = hidden[:, :-1].flatten(), hidden[:, 1:].flatten()
        assert least < float(torch.corrcoef(torch.stack([one, other]))[0, 1]) < most


def test_what_is_read_instead_follows_the_shares() -> None:
    ids = _bases(400, 1000)
    masking = Masking(mask_share=0.6, random_share=0.3)
    read, targets = mask_bases(ids, 0, seed=3, masking=masking)
    hidden = targets != PAD
    assert read.dtype == targets.dtype == ids.dtype
    assert torch.equal(targets[hidden], ids[hidden])
    assert torch.equal(read[~hidden], ids[~hidden])
    share = (read[hidden] == MASK_TOKEN_ID).float().mean().item()
    assert share == pytest.approx(0.6, abs=0.01)
    others = read[hidden & (read != MASK_TOKEN_ID)]
    assert set(others.tolist()) == {A, C, G, T}
    changed = hidden & (read != MASK_TOKEN_ID) & (read != ids)
    assert changed.sum() / hidden.sum() == pytest.approx(0.3 * 3 / 4, abs=0.01)
    for base in (A, C, G, T):
        where = changed & (read == base)
        assert where.sum() / changed.sum() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(("shares", "read"), [((1.0, 0.0), {MASK_TOKEN_ID}), ((0.0, 0.0), {A})])
def test_shares_of_none_and_all(shares: tuple[float, float], read: set[int]) -> None:
    masking = Masking(mask_share=shares[0], random_share=shares[1])
    found = mask_bases(torch.full((50, 100), A), 0, seed=1, masking=masking)
    assert set(found.read[found.targets != PAD].tolist()) == read


def test_only_bases_are_hidden() -> None:
    ids = _bases(100, 300)
    ids[:, ::3] = N
    ids[:, 200:] = PAD
    read, targets = mask_bases(ids, 0, seed=1, masking=Masking(mask_fraction=0.9))
    assert (targets != PAD).any()
    assert not (targets == N).any()
    assert torch.equal(read[ids == N], ids[ids == N])
    assert torch.equal(read[:, 200:], ids[:, 200:])


def test_a_window_is_hidden_alike_in_every_batch_and_unlike_others() -> None:
    ids = _bases(1, 500).expand(8, 500).contiguous()
    masking = Masking(mean_span=3.0)
    whole = mask_bases(ids, 10, seed=1, masking=masking)
    for first, rows in ((10, slice(0, 3)), (13, slice(3, 8)), (17, slice(7, 8))):
        part = mask_bases(ids[rows], first, seed=1, masking=masking)
        assert torch.equal(part.read, whole.read[rows])
        assert torch.equal(part.targets, whole.targets[rows])
    assert len({tuple(row) for row in whole.read.tolist()}) == 8
    again = mask_bases(ids, 10, seed=1, masking=masking)
    assert torch.equal(again.read, whole.read)
    other = mask_bases(ids, 10, seed=2, masking=masking)
    assert not torch.equal(other.read, whole.read)
    longer = mask_bases(torch.cat([ids, ids], 1), 10, seed=1, masking=masking)
    assert torch.equal(longer.read[:, :500], whole.read)
    huge = mask_bases(ids, 2**62, seed=1, masking=masking)
    assert 0.05 < (huge.targets != PAD).float().mean() < 0.3


def test_neighbouring_windows_and_seeds_have_nothing_in_common() -> None:
    ids = _bases(1, 100_000)
    one = _hidden(ids, 0, mask_fraction=0.5).double().flatten()
    for other in (_hidden(ids, 1, mask_fraction=0.5), _hidden(ids, 0, seed=2, mask_fraction=0.5)):
        pair = torch.stack([one, other.double().flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02
    shifted = torch.stack([one[1:], one[:-1]])
    assert abs(float(torch.corrcoef(shifted)[0, 1])) < 0.02


def test_loss_is_the_sum_over_hidden_bases_at_their_own_place() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([[PAD, C, PAD, T], [A, PAD, N, PAD]], dtype=torch.uint8)
    logits = torch.randn(2, 4, 16)
    log_p = logits.log_softmax(-1)
    terms = [-log_p[0, 1, C], -log_p[0, 3, T], -log_p[1, 0, A]]
    loss = masked_base_loss(logits, targets)
    assert loss.n_scored == 3
    assert loss.nats.item() == pytest.approx(float(sum(terms)), rel=1e-6)
    weight = torch.tensor([[9.0, 2.0, 9.0, 1.0], [0.0, 9.0, 9.0, 9.0]])
    weighted = masked_base_loss(logits, targets, weight=weight)
    assert weighted.weighted.item() == pytest.approx(float(2 * terms[0] + terms[1]), rel=1e-6)
    assert weighted.weight == 3
    assert weighted.n_scored == 3
    shifted = masked_base_loss(logits.roll(1, dims=1), targets)  # the control
    assert shifted.nats.item() != pytest.approx(float(sum(terms)), rel=1e-2)


def test_a_soft_mask_weighs_and_hides_nothing() -> None:
    ids = _bases(4, 200)
    soft = torch.arange(200).expand(4, 200) < 100
    plain = MaskedBases(Masking(), seed=1)
    light = MaskedBases(Masking(), seed=1, soft_mask_weight=0.25)
    read, targets, weight = plain.examples(ids, None, 5)
    read2, targets2, weight2 = light.examples(ids, soft, 5)
    assert torch.equal(read, read2)
    assert torch.equal(targets, targets2)
    assert torch.equal(weight, (targets != PAD).float())
    assert torch.equal(weight2, torch.where(soft, weight * 0.25, weight))


def test_validation_hides_the_same_in_every_run() -> None:
    ids = _bases(4, 200)
    one, other = (MaskedBases(Masking(), seed=s) for s in (1, 2))
    held = [o.examples(ids, None, 0, held_out=True)[0] for o in (one, other)]
    assert torch.equal(*held)
    trained = [o.examples(ids, None, 0)[0] for o in (one, other)]
    assert not torch.equal(*trained)
    assert not torch.equal(held[0], trained[0])


def test_padded_windows_are_scored_as_if_they_were_alone() -> None:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, bidirectional=True)
    model = HyenaForMaskedLM(config).double().eval()
    objective = MaskedBases(Masking(mask_fraction=0.5), seed=1)
    ids = _bases(1, 60)
    padded = torch.cat([ids, torch.full((1, 40), PAD, dtype=torch.uint8)], dim=1)
    alone = objective.loss(model, *objective.examples(ids, None, 3))
    found = objective.loss(model, *objective.examples(padded, None, 3), padded=True)
    careless = objective.loss(model, *objective.examples(padded, None, 3))
    assert found.n_scored == alone.n_scored
    assert_close(found.nats, alone.nats, tolerance=1e-7)
    assert abs(float(careless.nats - alone.nats)) > 1e-4  # the control
