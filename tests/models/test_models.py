import dataclasses
import math

import pytest
import torch

from hyenadna.errors import ConfigError, SequenceLengthError
from hyenadna.models import (
    NAMED_SIZES,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
)
from hyenadna.models.filter import ImplicitFilter
from hyenadna.testing import assert_causal, assert_close

SMALL = HyenaConfig(d_model=16, n_layers=2, max_seq_len=130, filter_dim=8)
# Trainable parameters of the published backbones (facts of the field: shared sine frequencies counted once).
PUBLISHED = {
    "tiny-1k": 436_096,
    "tiny-1k-d256": 1_641_088,
    "small-32k": 3_277_568,
    "large-1m": 6_550_528,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_named_sizes_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = HyenaForCausalLM(HyenaConfig.named(name))
    assert model.n_parameters() == PUBLISHED[name]


def test_every_named_size_is_known_and_others_are_refused() -> None:
    assert HyenaConfig.named("tiny-16k").max_seq_len == 16_386
    assert set(PUBLISHED) < set(NAMED_SIZES)
    with pytest.raises(ConfigError, match="there are tiny-1k"):
        HyenaConfig.named("huge")


@pytest.mark.parametrize(
    "bad",
    [
        {"d_model": 0}, {"n_layers": 0}, {"hyena_order": 1}, {"filter_emb_dim": 4}, {"embed_dropout": 1.0},
        {"d_model": 1.5}, {"max_seq_len": 1}, {"d_inner": 0}, {"filter_grid_len": 1}, {"nonsense": 1}, {"d_model": "x"},
        {"filter_shortest_reach": 0}, {"filter_shortest_reach": 1027}, {"filter_shortest_reach": 1.5}, {"filter_shortest_reach": True},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        HyenaConfig.from_dict(bad)


def test_windows_reach_as_far_as_is_said_in_even_ratios() -> None:
    config = dataclasses.replace(SMALL, max_seq_len=1001, filter_shortest_reach=50)
    decay = ImplicitFilter(config).decay.double()
    reaches = 1000 * math.log(100) / decay.abs()  # where exp(−t·|δ|) is 1 %
    assert reaches[[0, -1]].tolist() == pytest.approx([1500, 50], rel=1e-5)
    ratios = reaches[:-1] / reaches[1:]
    assert ratios.tolist() == pytest.approx([float(ratios[0])] * len(ratios), rel=1e-4)
    # Without it, rates are evenly spaced, as in published models.
    rates = ImplicitFilter(dataclasses.replace(config, filter_shortest_reach=None)).decay.abs()
    assert rates.diff().tolist() == pytest.approx([float(rates.diff()[0])] * (len(rates) - 1), rel=1e-4)  # fmt: skip
    assert float(1000 * math.log(100) / rates[-1]) == pytest.approx(300, rel=1e-5)


def test_learned_positions_cannot_be_continued() -> None:
    with pytest.raises(ConfigError, match="cannot be continued"):
        HyenaConfig(filter_learned_positions=True, max_seq_len=200, filter_grid_len=100)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_the_model_is_causal_at_every_order(order: int) -> None:
    torch.manual_seed(0)
    model = HyenaForCausalLM(dataclasses.replace(SMALL, hyena_order=order)).double().eval()
    one = torch.randint(7, 11, (2, 120))
    two = one.clone()
    two[:, 60:] = torch.randint(0, 4, (2, 60))
    assert_causal(lambda ids: model(ids), one, two, position=60, tolerance=1e-9)


def test_the_causality_check_can_fail() -> None:
    one = torch.zeros(1, 10)
    two = one.clone()
    two[:, 5:] = 1.0
    with pytest.raises(AssertionError, match="changed by"):
        assert_causal(
            lambda x: x.flip(1).cumsum(1)[..., None], one, two, position=5, tolerance=1e-9
        )
    with pytest.raises(AssertionError, match="nothing was tested"):
        assert_causal(lambda x: 0 * x[..., None], one, two, position=5, tolerance=1e-9)


def test_a_short_input_sees_the_same_filter_as_a_long_one() -> None:
    implicit = ImplicitFilter(SMALL)
    short, long = implicit(40)[0], implicit(130)[0]
    assert_close(short, long[..., :40], tolerance=1e-6)


def test_the_filter_is_float32_under_autocast() -> None:
    implicit = ImplicitFilter(SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        k, _ = implicit(100)
    assert k.dtype == torch.float32
    assert torch.equal(k, implicit(100)[0])


def test_right_padding_changes_no_real_position() -> None:
    torch.manual_seed(0)
    model = HyenaForCausalLM(SMALL).eval()
    ids = torch.randint(7, 11, (1, 50))
    padded = torch.cat([ids, torch.full((1, 60), 4)], dim=1)
    assert_close(model(padded)[:, :50], model(ids), tolerance=2e-6)


@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_class_logits_ignore_padding_and_batch(pooling: str) -> None:
    torch.manual_seed(0)
    model = HyenaForSequenceClassification(SMALL, n_classes=3, pooling=pooling).double().eval()  # type: ignore[arg-type]
    lengths = [1, 17, 120]
    rows = [torch.randint(7, 11, (n,)) for n in lengths]
    ids = torch.full((3, 120), 4)
    mask = torch.zeros(3, 120, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, True
    batched = model(ids, mask)
    for i, row in enumerate(rows):
        assert_close(batched[i], model(row[None])[0], tolerance=1e-9)
    without_mask = model(ids)
    assert (
        without_mask[0] - batched[0]
    ).abs().max() > 1e-6  # the control: ignoring the mask is seen


def test_masks_that_do_not_pad_on_the_right_are_refused() -> None:
    model = HyenaForSequenceClassification(SMALL)
    ids = torch.full((1, 4), 7)
    for bad in ([0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]):
        with pytest.raises(ValueError, match="pad on the right"):
            model(ids, torch.tensor([bad], dtype=torch.bool))
    with pytest.raises(ValueError, match="bool of shape"):
        model(ids, torch.ones(1, 3, dtype=torch.bool))


def test_lengths_outside_the_model_are_refused() -> None:
    model = HyenaForCausalLM(SMALL)
    with pytest.raises(SequenceLengthError, match="131 tokens but the model reads at most 130"):
        model(torch.full((1, 131), 7))
    with pytest.raises(SequenceLengthError, match="length 0"):
        model(torch.empty(1, 0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"\(B, L\) is needed"):
        model(torch.full((5,), 7))


def test_any_integer_dtype_is_read_alike() -> None:
    model = HyenaForCausalLM(SMALL).eval()
    ids = torch.randint(0, 12, (1, 20))
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert torch.equal(model(ids.to(dtype)), model(ids))


def test_checkpointing_changes_no_key_and_no_gradient() -> None:
    torch.manual_seed(0)
    plain = HyenaForCausalLM(dataclasses.replace(SMALL, embed_dropout=0.0))
    config = dataclasses.replace(SMALL, embed_dropout=0.0, activation_checkpointing=True)
    checkpointed = HyenaForCausalLM(config)
    checkpointed.load_state_dict(plain.state_dict())
    ids = torch.randint(7, 11, (2, 64))
    for model in (plain, checkpointed):
        model.train()(ids).square().mean().backward()
    for (name, mine), (other, theirs) in zip(
        plain.named_parameters(), checkpointed.named_parameters(), strict=True
    ):
        assert name == other
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-7)


def test_filter_parameters_are_the_filters_and_nothing_else() -> None:
    model = HyenaForCausalLM(SMALL)
    chosen = {id(p) for p in model.filter_parameters()}
    names = {n for n, p in model.named_parameters() if id(p) in chosen}
    assert names == {n for n, _ in model.named_parameters() if ".filter." in n}
    assert len(names) == 2 * 9


def test_training_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = HyenaForCausalLM(dataclasses.replace(SMALL, hyena_order=3))
    model(torch.randint(0, 12, (2, 64))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_bad_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="pooling 'max'"):
        HyenaForSequenceClassification(SMALL, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least 2"):
        HyenaForSequenceClassification(SMALL, n_classes=1)
    with pytest.raises(ValueError, match="2 labels were given for 3"):
        HyenaForSequenceClassification(SMALL, n_classes=3, labels=["a", "b"])
