"""Every kind of mixer is causal, equals its definition, and fits the same block, checkpoint and training as Hyena does."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hyenadna import score_sequences
from hyenadna.errors import CheckpointError, ConfigError, SequenceLengthError
from hyenadna.models import (
    CausalAttention,
    GatedConvolution,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    HyenaOperator,
    MultiHeadHyena,
    build_mixer,
    load_model,
)
from hyenadna.models.checkpoint import write_hf_folder
from hyenadna.models.hyena import MLP, HyenaBlock
from hyenadna.models.mixers import rotate
from hyenadna.ops import block as half_blocks
from hyenadna.testing import assert_causal, assert_close, random_dna

SMALL = HyenaConfig(d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, attention_heads=4)
HYBRID = dataclasses.replace(SMALL, n_layers=4, mixers=("hyena", "attention", "conv", "hyena"))
KINDS: dict[str, dict[str, Any]] = {
    "attention": {"mixers": "attention"},
    "conv": {"mixers": "conv"},
    "hyena of order 3": {"hyena_order": 3},
    "hyena with heads": {"hyena_heads": 4},
    "hybrid": {"mixers": ("attention", "conv"), "hyena_heads": 4},
}
each_kind = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)


def _model(changes: dict[str, Any], **more: Any) -> HyenaForCausalLM:
    torch.manual_seed(0)
    model = HyenaForCausalLM(dataclasses.replace(SMALL, **changes, **more))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # attention far from even, gates far from closed
    return model.eval()


def _mixer(kind: str, **changes: Any) -> Any:
    torch.manual_seed(1)
    mixer = build_mixer(kind, dataclasses.replace(SMALL, mixers=kind, **changes))
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.mul_(2)
    return mixer.double()


# The pattern


def test_a_pattern_is_repeated_over_the_layers_or_given_for_each() -> None:
    four = {"n_layers": 4}
    assert HyenaConfig(**four).layer_mixers == ("hyena",) * 4
    assert HyenaConfig(**four, mixers="attention").layer_mixers == ("attention",) * 4
    assert HyenaConfig(**four, mixers=["hyena", "conv"]).layer_mixers == ("hyena", "conv") * 2  # type: ignore[arg-type]
    each = ("hyena", "hyena", "attention", "conv")
    assert HyenaConfig(**four, mixers=each).layer_mixers == each
    layers = HyenaForCausalLM(dataclasses.replace(SMALL, n_layers=4, mixers=each)).backbone.layers
    kinds = [HyenaOperator, HyenaOperator, CausalAttention, GatedConvolution]
    assert [type(layer.mixer) for layer in layers] == kinds


def test_one_pattern_has_one_form() -> None:
    names = HyenaConfig(n_layers=4, mixers=["conv", "conv"])  # type: ignore[arg-type]
    assert names == HyenaConfig(n_layers=4, mixers="conv")
    again = HyenaConfig.from_dict(json.loads(json.dumps(HYBRID.to_dict())))
    assert again == HYBRID
    assert hash(again) == hash(HYBRID)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"mixers": "mamba"}, "one of hyena, attention, conv, or a list"),
        ({"mixers": ["hyena", "Attention"]}, "one of hyena"),
        ({"mixers": []}, "one of hyena"),
        ({"mixers": None}, "one of hyena"),
        ({"mixers": ["hyena", 1]}, "one of hyena"),
        ({"mixers": ["hyena", "hyena", "conv"]}, "3 kinds, which cannot be repeated over n_layers=4"),
        ({"mixers": ["conv"] * 8}, "8 kinds"),
        ({"mixers": "attention", "attention_heads": 0}, "attention_heads=0"),
        ({"mixers": "attention", "attention_heads": 3}, "attention_heads=3 does not suit d_model=16"),
        ({"mixers": "attention", "attention_heads": 16}, "whole, even number"),
        ({"hyena_heads": 3}, "divisor of d_model=16"),
        ({"hyena_heads": 0}, "divisor"),
        ({"hyena_heads": True}, "divisor"),
        ({"hyena_heads": 4, "hyena_order": 3}, "needs hyena_order=2, not 3"),
        ({"conv_kernel_size": 0}, "conv_kernel_size=0"),
        ({"rotary_base": 1.0}, "rotary_base"),
        ({"rotary_base": float("nan")}, "rotary_base"),
    ],
)  # fmt: skip
def test_impossible_mixers_are_refused_in_one_sentence(bad: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        HyenaConfig.from_dict({"d_model": 16, "n_layers": 4} | bad)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 220


def test_heads_of_attention_matter_only_where_there_is_attention() -> None:
    assert HyenaConfig(d_model=12, attention_heads=5).attention_heads == 5


# What was there before is what it was


def _as_before(config: HyenaConfig, seed: int) -> tuple[dict[str, torch.Tensor], Any]:
    """Weights and logits of the model before there was a choice: embedding, blocks of the Hyena operator, final norm."""
    torch.manual_seed(seed)
    embedding = nn.Embedding(config.padded_vocab_size, config.d_model)
    layers = [(HyenaOperator(config), MLP(config)) for _ in range(config.n_layers)]
    nn.Linear(config.d_model, config.padded_vocab_size, bias=False)  # the head, tied later
    nn.init.normal_(embedding.weight, std=config.initializer_range)
    state = {"backbone.embedding.weight": embedding.weight}
    for i, parts in enumerate(layers):
        for part, name in zip(parts, ("mixer", "mlp"), strict=True):
            for inner, layer in part.named_modules():
                if isinstance(layer, nn.Linear):
                    out = inner in ("out_proj", "fc2")
                    scale = (2 * config.n_layers) ** -0.5 if out else 1.0
                    nn.init.normal_(layer.weight, std=config.initializer_range * scale)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
            state |= {f"backbone.layers.{i}.{name}.{n}": t for n, t in part.state_dict().items()}

    def logits(ids: torch.Tensor) -> torch.Tensor:
        x = embedding(ids)
        norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        for mixer, mlp in layers:
            x = x + mixer(norm(x))
            x = x + mlp(norm(x))
        return norm(x) @ embedding.weight.T

    return state, logits


@pytest.mark.parametrize("changes", [{}, {"hyena_order": 3}, {"mixers": ["hyena", "hyena"]}, {"hyena_heads": 16}])  # fmt: skip
def test_the_default_is_bit_for_bit_what_it_was(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **changes)
    torch.manual_seed(3)
    model = HyenaForCausalLM(config).eval()
    expected, logits = _as_before(config, 3)
    state = model.state_dict()
    norms = {n for n in state if "norm" in n}
    assert set(state) == set(expected) | norms | {"lm_head.weight"}
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    ids = torch.randint(7, 11, (2, 100))
    with torch.no_grad():
        assert torch.equal(model.backbone(ids) @ model.lm_head.weight.T, logits(ids))


def test_folders_of_hyena_models_hold_the_settings_that_they_held(tmp_path: Path) -> None:
    HyenaForCausalLM(SMALL).save_pretrained(tmp_path / "m")
    default = HyenaForCausalLM(dataclasses.replace(SMALL, attention_heads=8))
    default.save_pretrained(tmp_path / "default")
    settings = json.loads((tmp_path / "default" / "config.json").read_text())
    new = {"mixers", "hyena_heads", "attention_heads", "rotary_base", "conv_kernel_size", "bidirectional", "equivariant"}  # fmt: skip
    assert set(SMALL.to_dict()) - set(settings) == new
    assert load_model(tmp_path / "m").config == SMALL  # what is not the default is kept


# Causality, padding, length


@each_kind
def test_no_output_depends_on_a_later_input(changes: dict[str, Any]) -> None:
    model = _model(changes).double()
    one = torch.randint(7, 11, (2, 120))
    two = one.clone()
    two[:, 60:] = (one[:, 60:] - 6) % 4 + 7
    with torch.no_grad():
        assert_causal(lambda ids: model(ids), one, two, position=60, tolerance=1e-9)


@pytest.mark.parametrize("kind", ["attention", "conv", "hyena"])
def test_control_a_mixer_that_sees_the_next_position_is_caught(kind: str) -> None:
    model = _model({"mixers": kind}).double()
    mixer = model.backbone.layers[0].mixer
    mixer.register_forward_hook(lambda module, inputs, y: y.roll(-1, dims=1))
    one = torch.randint(7, 11, (2, 120))
    two = one.clone()
    two[:, 60:] = (one[:, 60:] - 6) % 4 + 7
    with torch.no_grad(), pytest.raises(AssertionError, match="position 5[0-9] changed"):
        assert_causal(lambda ids: model(ids), one, two, position=60, tolerance=1e-9)


@each_kind
def test_padding_and_company_change_no_real_position(changes: dict[str, Any]) -> None:
    model = _model(changes).double()
    ids = torch.randint(7, 11, (1, 50))
    batch = torch.full((3, 110), 4)
    batch[0, :50] = ids
    batch[1:] = torch.randint(7, 11, (2, 110))
    with torch.no_grad():
        assert (model(batch)[0, :50] - model(ids)[0]).abs().max() <= 1e-12


@each_kind
def test_class_logits_ignore_padding(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, **changes)
    model = HyenaForSequenceClassification(config, both_directions=True).double().eval()
    ids = torch.randint(7, 11, (1, 33))
    padded = torch.cat([ids, torch.full((1, 60), 4)], dim=1)
    with torch.no_grad():
        found = model(padded, padded != 4, both_strands=True)
        assert_close(found, model(ids, both_strands=True), tolerance=1e-10)


@each_kind
def test_a_sequence_has_the_same_score_alone_and_in_a_batch(changes: dict[str, Any]) -> None:
    model = _model(changes)
    sequences = [random_dna(n, seed=n) for n in (20, 77, 400, 121)]  # the third in windows
    together = score_sequences(model, sequences, rc=True, batch_size=4)
    for sequence, found in zip(sequences, together, strict=True):
        (alone,) = score_sequences(model, [sequence], rc=True)
        assert found.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-6)


@each_kind
def test_the_longest_input_is_a_bound_for_all_and_can_be_raised_on_purpose(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = _model(changes)
    ids = torch.randint(7, 11, (1, 200))
    with pytest.raises(SequenceLengthError, match="200 tokens but the model reads at most 130"):
        model(ids)
    model.save_pretrained(tmp_path / "m")
    longer = HyenaForCausalLM.from_pretrained(tmp_path / "m", max_seq_len=200)
    with torch.no_grad():
        assert torch.isfinite(longer(ids)).all()
        assert_close(longer(ids)[:, :130], model(ids[:, :130]), tolerance=1e-5)


# What each computes


def test_attention_is_the_sum_over_earlier_positions() -> None:
    mixer: CausalAttention = _mixer("attention")
    x = torch.randn(2, 23, 16, dtype=torch.float64)
    q, k, v = (mixer.in_proj(x)[..., 16 * i : 16 * i + 16].unflatten(-1, (4, 4)) for i in range(3))

    def turned(u: torch.Tensor, t: int) -> torch.Tensor:
        """Channels j and j + 2 as a complex number, times exp(i·t·base^(−j/2))."""
        angles = torch.tensor([t * 1.0, t * 10_000.0**-0.5], dtype=torch.float64)
        turned = torch.complex(u[..., :2], u[..., 2:]) * torch.exp(1j * angles)
        return torch.cat([turned.real, turned.imag], dim=-1)

    expected = torch.empty_like(x)
    for t in range(23):
        logits = torch.stack([(turned(q[:, t], t) * turned(k[:, s], s)).sum(-1) for s in range(t + 1)])  # fmt: skip
        p = (logits / 4**0.5).softmax(0)
        mixed = sum(p[s][..., None] * v[:, s] for s in range(t + 1))
        expected[:, t] = mixer.out_proj(mixed.flatten(1))  # type: ignore[union-attr]
    assert_close(mixer(x), expected, tolerance=1e-10)


def test_products_of_turned_vectors_depend_on_their_distance_alone() -> None:
    q, k = torch.randn(2, 1, 8, dtype=torch.float64)

    def product(t: int, s: int) -> float:
        return float((rotate(q, 100.0, t) * rotate(k, 100.0, s)).sum())

    assert product(900_017, 900_000) == pytest.approx(product(17, 0), rel=1e-9)
    assert product(17, 0) == pytest.approx(product(20, 3), rel=1e-12)
    assert abs(product(17, 0) - product(16, 0)) > 1e-3  # the control: the distance matters
    assert float(rotate(q, 100.0, 17).norm()) == pytest.approx(float(q.norm()), rel=1e-12)
    assert torch.equal(rotate(q, 100.0, 0), q)


def test_rows_turn_as_they_would_alone_in_every_dtype() -> None:
    x = torch.randn(3, 5, 6)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3)):
        whole = rotate(x.to(dtype), 10_000.0, 1_000_000)
        exact = rotate(x.to(dtype).double(), 10_000.0, 1_000_000)
        assert whole.dtype == dtype
        assert (whole - exact).abs().max() <= tolerance * 4
        one = rotate(x[:, 3:4].to(dtype), 10_000.0, 1_000_003)
        assert torch.equal(one, whole[:, 3:4])


@pytest.mark.parametrize("taps", [1, 3, 7])
def test_a_gated_convolution_is_its_sum(taps: int) -> None:
    mixer: GatedConvolution = _mixer("conv", conv_kernel_size=taps)
    x = torch.randn(2, 12, 16, dtype=torch.float64)
    x0, x1, v = mixer.in_proj(x).chunk(3, dim=-1)
    y = torch.zeros_like(x)
    assert mixer.conv.bias is not None
    for t in range(12):
        for lag in range(min(taps, t + 1)):
            y[:, t] += mixer.conv.weight[:, 0, taps - 1 - lag] * (x1 * v)[:, t - lag]
        y[:, t] = x0[:, t] * (y[:, t] + mixer.conv.bias)
    assert_close(mixer(x), mixer.out_proj(y), tolerance=1e-10)


@pytest.mark.parametrize("heads", [1, 2, 8, 16])
def test_hyena_with_heads_is_its_sum(heads: int) -> None:
    torch.manual_seed(2)
    config = dataclasses.replace(SMALL, hyena_heads=heads)
    mixer = MultiHeadHyena(config).double()
    width, length = 16 // heads, 15
    x = torch.randn(2, length, 16, dtype=torch.float64)
    k, bias = (t[0].double() for t in mixer.filter(length))
    assert k.shape == (heads, length)
    smooth = mixer.smooth(mixer.in_proj(x).transpose(1, 2))
    # Channel p·H + h is component p of head h.
    x0, x1, v = (s.reshape(2, width, heads, length) for s in smooth.chunk(3, dim=1))
    y = torch.zeros_like(x0)
    for h in range(heads):
        for p in range(width):
            for r in range(width):
                for t in range(length):
                    total = bias[h] * x1[:, r, h, t] * v[:, p, h, t]
                    for s in range(t + 1):
                        total = total + k[h, t - s] * x1[:, r, h, s] * v[:, p, h, s]
                    y[:, p, h, t] += x0[:, r, h, t] * total
    expected = mixer.out_proj(y.reshape(2, 16, length).transpose(1, 2))
    assert_close(mixer(x), expected, tolerance=1e-10)


def test_as_many_heads_as_channels_are_the_ordinary_hyena() -> None:
    torch.manual_seed(0)
    ordinary = HyenaOperator(SMALL)
    heads = MultiHeadHyena(dataclasses.replace(SMALL, hyena_heads=16))
    heads.load_state_dict(ordinary.state_dict())
    x = torch.randn(2, 100, 16)
    assert_close(heads(x), ordinary(x), tolerance=1e-6)
    assert type(build_mixer("hyena", dataclasses.replace(SMALL, hyena_heads=16))) is HyenaOperator
    assert type(build_mixer("hyena", dataclasses.replace(SMALL, hyena_heads=8))) is MultiHeadHyena


# Gradients, precision, initial weights


@pytest.mark.parametrize(("kind", "heads"), [("attention", None), ("conv", None), ("hyena", None), ("hyena", 8)])  # fmt: skip
def test_gradients_are_those_of_finite_differences(kind: str, heads: int | None) -> None:
    mixer = _mixer(kind, hyena_heads=heads)
    names = [n for n, _ in mixer.named_parameters() if not n.startswith("filter.")]  # float32
    weights = [mixer.get_parameter(n).detach().requires_grad_() for n in names]
    x = torch.randn(1, 5, 16, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, *weights: torch.Tensor) -> Any:
        return torch.func.functional_call(mixer, dict(zip(names, weights, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *weights), fast_mode=True)


@each_kind
def test_training_reaches_every_parameter(changes: dict[str, Any]) -> None:
    model = _model(changes).train()
    model(torch.randint(0, 12, (2, 64))).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@each_kind
def test_recomputed_blocks_give_the_same_gradients(changes: dict[str, Any]) -> None:
    plain = _model(changes, embed_dropout=0.0)
    saving = _model(changes, embed_dropout=0.0, activation_checkpointing=True)
    ids = torch.randint(7, 11, (2, 64))
    for model in (plain, saving):
        model.train()(ids).square().mean().backward()
    for mine, theirs in zip(plain.parameters(), saving.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, atol=1e-7)


@each_kind
def test_under_autocast_mixers_are_in_half_precision_and_the_stream_is_not(
    changes: dict[str, Any],
) -> None:
    model = _model(changes)
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    for layer in model.backbone.layers:
        layer.mixer.register_forward_hook(
            lambda module, inputs, y: seen.append((inputs[0].dtype, y.dtype))
        )
    streams: list[torch.dtype] = []
    model.backbone.layers[0].register_forward_hook(lambda m, i, y: streams.append(y.dtype))
    ids = torch.randint(7, 11, (2, 100))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(ids)
    assert {y for _, y in seen} == {torch.bfloat16}
    assert streams == [torch.float32]
    with torch.no_grad():
        assert_close(half.float(), model(ids), tolerance=4e-2)


def test_initial_weights_follow_the_house_scheme() -> None:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=128, n_layers=8, mixers=("attention", "conv"), max_seq_len=66)
    for layer in HyenaForCausalLM(config).backbone.layers:
        mixer = layer.mixer
        assert float(mixer.in_proj.weight.detach().std()) == pytest.approx(0.02, rel=0.03)
        assert float(mixer.out_proj.weight.detach().std()) == pytest.approx(
            0.02 / math.sqrt(16), rel=0.03
        )
        assert not mixer.in_proj.bias.any()
        assert not mixer.out_proj.bias.any()


# What surrounds them


@each_kind
def test_folders_round_trip_bit_for_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    model = _model(changes)
    model.save_pretrained(tmp_path / "m")
    loaded = HyenaForCausalLM.from_pretrained(tmp_path / "m")
    assert loaded.config == model.config
    ids = torch.randint(7, 11, (2, 64))
    assert torch.equal(loaded(ids), model(ids))
    classifier = HyenaForSequenceClassification.from_pretrained(tmp_path / "m", n_classes=2)
    assert torch.equal(classifier.backbone(ids), model.backbone(ids))


def test_weights_of_another_pattern_are_refused_by_name(tmp_path: Path) -> None:
    HyenaForCausalLM(HYBRID).save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    settings = json.loads(file.read_text())
    assert settings["mixers"] == ["hyena", "attention", "conv", "hyena"]
    settings["mixers"] = ["hyena", "attention", "hyena", "hyena"]
    file.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path / "m")
    assert "backbone.layers.2.mixer.conv.weight" in caught.value.unexpected
    assert "backbone.layers.2.mixer.filter.bias" in caught.value.missing


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"mixers": "attention"}, "attention, attention"), ({"hyena_heads": 4}, "Hyena heads"),
     ({"mixers": ("hyena", "conv")}, "hyena, conv")],
)  # fmt: skip
def test_the_published_layout_refuses_what_it_cannot_hold(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"only layers of plain Hyena; this model has {words}"):  # fmt: skip
        write_hf_folder(tmp_path / "hf", _model(changes))
    assert not (tmp_path / "hf").exists()


def test_only_hyena_layers_have_filter_parameters() -> None:
    model = HyenaForCausalLM(HYBRID)
    chosen = {id(p) for p in model.filter_parameters()}
    names = {n for n, p in model.named_parameters() if id(p) in chosen}
    assert {n.split(".")[2] for n in names} == {"0", "3"}
    assert not list(_model({"mixers": "attention"}).filter_parameters())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, ["mixer", "mlp"]), ({"mixers": "attention"}, ["mlp"]), ({"mixers": "conv"}, ["mlp"]), ({"hyena_heads": 4}, ["mlp"])],
)  # fmt: skip
def test_in_half_precision_other_mixers_run_as_they_are_beside_the_fused_mlp(
    changes: dict[str, Any], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The choice that a GPU meets: there, `half_dtype` answers, and rows are long enough."""
    config = dataclasses.replace(SMALL, **changes)
    layer = HyenaBlock(config, build_mixer(config.layer_mixers[0], config)).eval()
    used: list[str] = []

    def stand_in(name: str) -> Any:
        def run(x: torch.Tensor, *rest: Any, **more: Any) -> torch.Tensor:
            used.append(name)
            return x

        return run

    monkeypatch.setattr(half_blocks, "half_dtype", lambda x: torch.bfloat16)
    monkeypatch.setattr(HyenaBlock, "_long_enough", lambda self, x, dtype: True)
    for name in ("mixer", "mlp"):
        monkeypatch.setattr(half_blocks, f"{name}_half", stand_in(name))
    with torch.no_grad():
        layer(torch.randn(1, 20, 16))
        assert used == expected
        layer.mlp.fc1.register_forward_hook(lambda *_: None)  # who wants to see it, does
        layer(torch.randn(1, 20, 16))
    assert used == expected


@pytest.mark.gpu
@each_kind
def test_a_gpu_in_half_precision_computes_the_same(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(SMALL, **changes, d_model=64, max_seq_len=1026, embed_dropout=0.0)
    torch.manual_seed(0)
    model = HyenaForCausalLM(config).cuda()
    ids = torch.randint(7, 11, (2, 1024), device="cuda")
    exact = model(ids)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        half = model(ids)
    assert_close(half.float(), exact, tolerance=3e-2)
    half.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
