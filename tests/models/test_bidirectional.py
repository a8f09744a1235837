"""Bidirectional models: every position sees both sides, and nothing of its padding."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaBackbone, HyenaConfig, HyenaOperator, build_mixer
from hyenadna.models.hyena import blank
from hyenadna.ops.fftconv import fftconv_direct
from hyenadna.testing import assert_close, relative_error

SMALL = HyenaConfig(
    d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, attention_heads=4, bidirectional=True
)
KINDS: dict[str, dict[str, Any]] = {
    "hyena": {},
    "hyena of order 3": {"hyena_order": 3},
    "hyena of order 4, even taps": {"hyena_order": 4, "short_kernel_size": 4},
    "hyena with heads": {"hyena_heads": 4},
    "attention": {"mixers": "attention"},
    "conv": {"mixers": "conv"},
    "hybrid": {"mixers": ("hyena", "attention")},
}
each_kind = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)


def _backbone(changes: dict[str, Any], **more: Any) -> HyenaBackbone:
    torch.manual_seed(0)
    backbone = HyenaBackbone(dataclasses.replace(SMALL, **changes, **more))
    return backbone.double().eval()


def _change(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Largest change at each position, shape (L,)."""
    return (one - other).detach().abs().amax(dim=(0, 2))


@each_kind
def test_every_position_sees_both_sides(changes: dict[str, Any]) -> None:
    backbone = _backbone(changes)
    one = torch.randint(7, 11, (1, 100))
    two = one.clone()
    two[:, 50] = (one[:, 50] - 6) % 4 + 7
    change = _change(backbone(one), backbone(two))
    reach = change > 1e-9
    assert reach[50]
    if changes.get("mixers") == "conv":  # two layers, three positions to either side
        assert reach[44:57].all()
        assert not reach[:44].any()
        assert not reach[57:].any()
    else:
        assert reach.all()


@each_kind
def test_a_causal_model_sees_one_side(changes: dict[str, Any]) -> None:
    """The control of the test above, and the check that the mask means nothing to a causal model."""
    backbone = _backbone(changes, bidirectional=False)
    one = torch.randint(7, 11, (1, 100))
    two = one.clone()
    two[:, 50] = (one[:, 50] - 6) % 4 + 7
    change = _change(backbone(one), backbone(two))
    assert change[50] > 1e-9
    assert change[:50].max() < 1e-12
    mask = torch.ones(1, 100, dtype=torch.bool)
    mask[:, 70:] = False
    assert torch.equal(backbone(one, mask), backbone(one))


@each_kind
@pytest.mark.parametrize("padding", [1, 2, 30])
def test_states_do_not_depend_on_padding(changes: dict[str, Any], padding: int) -> None:
    backbone = _backbone(changes)
    rows = [torch.randint(7, 11, (n,)) for n in (1, 2, 57, 100)]
    ids = torch.full((len(rows), 100 + padding), 4)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, True
    found, without = backbone(ids, mask), backbone(ids)
    other = backbone(torch.where(mask, ids, 9), mask)
    for i, row in enumerate(rows):
        n = len(row)
        alone = backbone(row[None])[0]
        # Filters are float32 and round a little differently at other lengths.
        assert_close(found[i, :n], alone, tolerance=5e-7)
        assert_close(other[i, :n], alone, tolerance=5e-7)  # whatever stands in the padding
        assert relative_error(without[i, :n], alone) > 1e-5  # the control: padding is seen


@each_kind
def test_gradients_of_padded_rows_are_those_of_the_rows(changes: dict[str, Any]) -> None:
    backbone = _backbone(changes)
    row, weight = torch.randint(7, 11, (1, 40)), torch.randn(1, 40, 16, dtype=torch.float64)
    padded = torch.cat([row, torch.full((1, 25), 4)], dim=1)
    mask = torch.arange(65)[None] < 40
    parameters = list(backbone.parameters())
    alone = torch.autograd.grad((backbone(row) * weight).sum(), parameters)
    found = torch.autograd.grad((backbone(padded, mask)[:, :40] * weight).sum(), parameters)
    for mine, theirs in zip(found, alone, strict=True):
        assert_close(mine, theirs, tolerance=1e-8)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("taps", [1, 3, 4])
def test_the_operator_equals_the_written_out_sum(order: int, taps: int) -> None:
    torch.manual_seed(order)
    config = dataclasses.replace(SMALL, hyena_order=order, d_model=4, short_kernel_size=taps)
    operator = HyenaOperator(config).double()
    x = torch.randn(2, 65, 4, dtype=torch.float64)
    mask = torch.arange(65)[None] < torch.tensor([[65], [40]])
    z = blank(operator.in_proj(x).transpose(1, 2), mask)
    weight, ahead = operator.short_conv.weight[:, 0], (taps - 1) // 2
    smooth = operator.short_conv.bias[:, None].expand(z.shape).clone()
    for t in range(65):
        for j in range(taps):
            s = t + ahead - (taps - 1 - j)
            if 0 <= s < 65:
                smooth[..., t] += weight[:, j] * z[..., s]
    *gates, v = smooth.chunk(order + 1, dim=1)
    k, bias = operator.filter(65)
    for j in range(order - 1):
        w = blank(gates[order - 1 - j] * v, mask)
        v = fftconv_direct(w, k[j], bias[j], k[order - 1 + j])
    expected = operator.out_proj((gates[0] * v).transpose(1, 2))
    found = operator(x, mask)
    for i, n in enumerate((65, 40)):  # filters are float32
        assert_close(found[i, :n], expected[i, :n], tolerance=1e-7)


def test_attention_equals_the_softmax_over_real_positions() -> None:
    torch.manual_seed(0)
    mixer: Any = build_mixer("attention", dataclasses.replace(SMALL, mixers="attention")).double()
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    mask = torch.arange(9)[None] < torch.tensor([[9], [5]])
    q, k, v = mixer.heads(x)
    scores = (q @ k.transpose(-1, -2) / 2).masked_fill(~mask[:, None, None], -torch.inf)
    expected = mixer.join(scores.softmax(-1) @ v)
    assert_close(mixer(x, mask), expected, tolerance=1e-12)


def test_the_sides_have_filters_of_their_own_that_begin_alike() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, hyena_order=3)
    implicit = HyenaOperator(config).filter
    k, bias = implicit(50)
    assert k.shape == (4, 16, 50)
    assert bias.shape == (2, 16)
    assert relative_error(k[2:], k[:2]) > 0.1
    assert torch.equal(implicit.decay[:32], implicit.decay[32:])
    causal = HyenaOperator(dataclasses.replace(config, bidirectional=False)).filter
    assert torch.equal(causal.decay, implicit.decay[:32])


@each_kind
def test_training_reaches_every_parameter(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    backbone = HyenaBackbone(dataclasses.replace(SMALL, **changes))
    weight = torch.randn(2, 64, 16)
    (backbone(torch.randint(0, 12, (2, 64))) * weight).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_recomputed_blocks_see_the_mask() -> None:
    backbone = _backbone({}, embed_dropout=0.0)
    again = _backbone({}, embed_dropout=0.0, activation_checkpointing=True)
    again.load_state_dict(backbone.state_dict())
    ids, mask = torch.randint(7, 11, (2, 60)), torch.arange(60)[None] < torch.tensor([[60], [33]])
    for model in (backbone.train(), again.train()):
        model(ids, mask)[mask].square().sum().backward()
    for mine, theirs in zip(backbone.parameters(), again.parameters(), strict=True):
        assert_close(mine.grad, theirs.grad, tolerance=1e-12)  # type: ignore[arg-type]


def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(ConfigError, match="bidirectional='yes' is impossible; true or false"):
        HyenaConfig.from_dict({"bidirectional": "yes"})
