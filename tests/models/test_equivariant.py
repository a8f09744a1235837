"""Equivariant models: what they say of a sequence and of its reverse complement is the same thing."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hyenadna import (
    HyenaConfig,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    load_model,
)
from hyenadna.cli import main
from hyenadna.errors import ConfigError
from hyenadna.inference.embeddings import embed_sequences
from hyenadna.models.equivariant import (
    PairedConv1d,
    PairedEmbedding,
    PairedLayerNorm,
    PairedLinear,
    affine,
    exchanged,
)
from hyenadna.models.heads import Pooling
from hyenadna.models.mixers import rotate
from hyenadna.models.strands import complement_table, reverse_complement_padded
from hyenadna.sequence import reverse_complement
from hyenadna.testing import assert_close, random_dna, relative_error
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.finetune_config import LoraConfig
from hyenadna.training.finetune_module import add_lora, merge_lora

SMALL = HyenaConfig(
    d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, attention_heads=4,
    bidirectional=True, equivariant=True,
)  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "hyena": {},
    "hyena of order 3": {"hyena_order": 3},
    "hyena with heads": {"hyena_heads": 4},
    "learned positions": {"filter_learned_positions": True},
    "attention": {"mixers": "attention"},
    "conv": {"mixers": "conv"},
    "hybrid, untied": {"mixers": ("hyena", "attention"), "tie_embeddings": False},
}
each_kind = pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
POOLINGS: tuple[Pooling, ...] = ("mean", "last", "attention", "attention_max", "positional")
TABLE = complement_table(CharacterTokenizer())
COLUMNS = torch.cat([TABLE.long(), torch.arange(12, 16)])  # complements of the logits' columns
ROUNDING = {torch.float32: 3e-6, torch.float64: 1e-14}


def _shaken(model: nn.Module, dtype: torch.dtype = torch.float64) -> Any:
    """Make weights large: initial ones are so small that much would pass for equal."""
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.to(dtype).eval()


def _masked(dtype: torch.dtype = torch.float64, **changes: Any) -> HyenaForMaskedLM:
    torch.manual_seed(0)
    model: HyenaForMaskedLM = _shaken(HyenaForMaskedLM(dataclasses.replace(SMALL, **changes)), dtype)  # fmt: skip
    return model


def _classifier(pooling: Pooling, **changes: Any) -> HyenaForSequenceClassification:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, **changes)
    n = 24 if pooling == "positional" else 0
    model: HyenaForSequenceClassification = _shaken(
        HyenaForSequenceClassification(config, n_classes=3, pooling=pooling, n_positions=n)
    )
    return model


def _other(token_ids: torch.Tensor) -> torch.Tensor:
    return TABLE[token_ids].long().flip(1)


def _strand_error(model: HyenaForMaskedLM, token_ids: torch.Tensor) -> float:
    with torch.no_grad():
        expected = model(token_ids).flip(1)[..., COLUMNS]
        return relative_error(model(_other(token_ids)), expected)


# Language models


@each_kind
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("length", [1, 2, 101])
def test_logits_of_the_other_strand_are_the_reversed_complements(
    changes: dict[str, Any], dtype: torch.dtype, length: int
) -> None:
    model = _masked(dtype, **changes)
    ids = torch.randint(0, 12, (3, length))  # special tokens and N, too
    ids[:, 0] = torch.tensor([7, 8, 3])
    assert _strand_error(model, ids) <= ROUNDING[dtype]
    with torch.no_grad():  # the control: the complements of the columns matter
        assert relative_error(model(_other(ids)), model(ids).flip(1)) > 1e-2


@each_kind
def test_control_an_ordinary_model_treats_strands_differently(changes: dict[str, Any]) -> None:
    model = _masked(equivariant=False, **changes)
    assert _strand_error(model, torch.randint(0, 12, (3, 101))) > 1e-2


@pytest.mark.parametrize(
    "broken",
    ["short_conv", "filter", "norm1", "in_proj", "embedding", "turning"],
)
def test_control_a_layer_that_does_not_commute_is_caught(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every tie between the strands is needed: with one of them undone, the test above fails."""
    model = _masked(mixers=("hyena", "attention"))
    block: Any = model.backbone.layers[0]
    tied: Any
    if broken == "short_conv":
        filters, bias = block.mixer.short_conv.affine()
        tied = filters[::2].repeat_interleave(2, 0)  # not turned round
        monkeypatch.setattr(block.mixer.short_conv, "affine", lambda: (tied, bias))
    elif broken == "filter":
        original = block.mixer.filter._evaluate
        tied = lambda n: original(n)[::2].repeat_interleave(2, 0)  # sides not exchanged  # noqa: E731
        monkeypatch.setattr(block.mixer.filter, "_evaluate", tied)
    elif broken == "norm1":
        monkeypatch.setattr(PairedLayerNorm, "affine", lambda self: (self.weight.repeat(2), self.bias.repeat(2)))  # fmt: skip
    elif broken == "in_proj":
        monkeypatch.setattr(PairedLinear, "affine", lambda self: (self.strand.weight.repeat_interleave(2, 0), self.strand.bias.repeat(2)))  # fmt: skip
    elif broken == "embedding":
        model.backbone.embedding.complement.copy_(torch.arange(16))
    else:
        monkeypatch.setattr(model.backbone.layers[1].mixer, "paired", False)
    assert _strand_error(model, torch.randint(0, 12, (3, 101))) > 1e-4


@each_kind
def test_padded_rows_have_the_logits_of_their_strands(changes: dict[str, Any]) -> None:
    model = _masked(**changes)
    lengths = torch.tensor([1, 2, 57, 100])
    mask = torch.arange(120) < lengths[:, None]
    ids = torch.where(mask, torch.randint(5, 12, (4, 120)), 4)
    other = reverse_complement_padded(ids, mask, TABLE)
    with torch.no_grad():
        found, turned = model(ids, mask), model(other, mask)
        unmasked = model(other)
    for row, n in enumerate(lengths):
        expected = found[row, :n].flip(0)[:, COLUMNS]
        assert_close(turned[row, :n], expected, tolerance=1e-14)
        assert relative_error(unmasked[row, :n], expected) > 1e-5  # the control: padding is seen
        # Filters are float32 and round a little differently at other lengths.
        with torch.no_grad():
            assert_close(found[row, :n], model(ids[row : row + 1, :n])[0], tolerance=1e-5)


@each_kind
def test_training_reaches_every_parameter_and_keeps_the_symmetry(changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = HyenaForMaskedLM(dataclasses.replace(SMALL, embed_dropout=0.0, **changes)).double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.randint(0, 12, (4, 64))
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert _strand_error(model.eval(), ids) <= 1e-13


@each_kind
def test_a_sequence_and_its_other_strand_have_the_same_gradients(changes: dict[str, Any]) -> None:
    model, ids = _masked(**changes), torch.randint(0, 12, (2, 40))
    parameters = list(model.parameters())

    def gradients(token_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = nn.functional.cross_entropy(model(token_ids).flatten(0, 1), token_ids.flatten())
        return torch.autograd.grad(loss, parameters)

    for mine, theirs in zip(gradients(ids), gradients(_other(ids)), strict=True):
        assert_close(mine, theirs, tolerance=1e-6)  # those of the filters are float32


def test_strands_of_a_state_are_exchanged_and_turned_round_in_every_layer() -> None:
    model = _masked(mixers=("hyena", "attention"))
    ids = torch.randint(0, 12, (2, 50))
    with torch.no_grad():
        one = model.backbone.embedding(ids)
        other = model.backbone.embedding(_other(ids))
        for block in model.backbone.layers:
            assert_close(other, exchanged(one).flip(1), tolerance=1e-14)
            assert relative_error(other, one.flip(1)) > 0.1
            one, other = block(one), block(other)
        assert_close(other, exchanged(one).flip(1), tolerance=1e-14)


def test_half_of_the_parameters_do_as_many_products() -> None:
    plain = HyenaForMaskedLM(dataclasses.replace(SMALL, equivariant=False))
    model = HyenaForMaskedLM(SMALL)
    mlp_of_filter = [p.numel() for m in model.backbone.modules() if hasattr(m, "freq") for p in (m.freq, *m.linears[:-1].parameters())]  # type: ignore[union-attr, index, operator]  # fmt: skip
    shared = sum(mlp_of_filter)  # has no channels that could be paired
    assert 2 * (model.n_parameters() - shared) == plain.n_parameters() - shared

    def macs(network: nn.Module) -> int:
        full = [affine(m)[0] for m in network.modules() if isinstance(m, PairedLinear)]
        ordinary = [m.weight for n, m in network.named_modules() if type(m).__name__ == "Linear" and n.endswith(("proj", "fc1", "fc2"))]  # fmt: skip
        return sum(w.numel() for w in (*full, *ordinary))  # type: ignore[misc]

    assert macs(model) == macs(plain) > 0


# Layers


@pytest.mark.parametrize(
    "layer", [PairedLinear(6, 10), PairedLayerNorm(6, eps=1e-5)], ids=["linear", "norm"]
)
def test_what_acts_at_a_position_commutes_with_the_exchange(layer: nn.Module) -> None:
    torch.manual_seed(0)
    layer, x = _shaken(copy.deepcopy(layer)), torch.randn(2, 5, 6, dtype=torch.float64)
    assert_close(layer(exchanged(x)), exchanged(layer(x)), tolerance=1e-15)
    assert relative_error(layer(exchanged(x)), layer(x)) > 0.1


def test_a_linear_layer_is_the_strand_of_both_orders() -> None:
    layer, x = _shaken(PairedLinear(6, 10)), torch.randn(7, 6, dtype=torch.float64)
    y = layer(x)
    assert_close(y[:, 0::2], layer.strand(x), tolerance=1e-15)
    assert_close(y[:, 1::2], layer.strand(exchanged(x)), tolerance=1e-15)


def test_a_convolution_and_turned_positions_commute() -> None:
    torch.manual_seed(0)
    conv = _shaken(PairedConv1d(6, 5))
    x = torch.randn(2, 6, 20, dtype=torch.float64)
    turned = exchanged(x.flip(-1).mT).mT
    assert_close(conv(turned), exchanged(conv(x).flip(-1).mT).mT, tolerance=1e-15)
    q, k = torch.randn(2, 1, 9, 8, dtype=torch.float64)
    scores = rotate(q, 100.0, paired=True) @ rotate(k, 100.0, paired=True).mT
    q, k = exchanged(q).flip(1), exchanged(k).flip(1)
    other = rotate(q, 100.0, paired=True) @ rotate(k, 100.0, paired=True).mT
    assert_close(other.flip(1, 2), scores, tolerance=1e-14)
    plain = rotate(q, 100.0) @ rotate(k, 100.0).mT
    assert relative_error(plain.flip(1, 2), scores) > 0.1


def test_complements_are_each_others_exchange_and_special_tokens_their_own() -> None:
    embedding = _shaken(PairedEmbedding(16, 6))
    rows = embedding(torch.arange(16))
    assert torch.equal(rows[COLUMNS], exchanged(rows))
    for token in (0, 3, 4, 6, 11, 15):
        assert torch.equal(rows[token], exchanged(rows[token]))


# Classifiers


@pytest.mark.parametrize("pooling", POOLINGS)
def test_classes_do_not_depend_on_the_strand_nor_on_padding(pooling: Pooling) -> None:
    lengths = torch.tensor([1, 13, 30, 40])
    mask = torch.arange(44) < lengths[:, None]
    ids = torch.where(mask, torch.randint(5, 12, (4, 44)), 4)
    other = reverse_complement_padded(ids, mask, TABLE)
    model = _classifier(pooling)
    with torch.no_grad():
        found = model(ids, mask)
        assert_close(model(other, mask), found, tolerance=1e-14)
        # task.strands=both averages what is the same already: it is left out, exactly.
        assert torch.equal(model(ids, mask, both_strands=True), found)
        for row, n in enumerate(lengths):
            alone = model(ids[row : row + 1, :n])[0]
            assert_close(found[row], alone, tolerance=1e-5)
        assert relative_error(found[2], found[3]) > 1e-2
        plain = _classifier(pooling, equivariant=False)
        assert relative_error(plain(other, mask), plain(ids, mask)) > 1e-3  # the control


def test_last_pools_both_ends() -> None:
    model = _classifier("last", mixers="conv")  # sees six positions to either side
    ids = torch.randint(7, 11, (1, 60))
    with torch.no_grad():
        for position, matters in ((0, True), (30, False), (59, True)):
            changed = ids.clone()
            changed[0, position] = 17 - changed[0, position]
            assert torch.equal(model(ids), model(changed)) != matters, position


def test_every_parameter_of_a_classifier_is_trained() -> None:
    model = _classifier("positional")
    ids = torch.randint(7, 11, (4, 40))
    (model(ids) * torch.randn(4, 3)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_adapters_keep_the_symmetry(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model, ids = _classifier("attention").float(), torch.randint(7, 11, (3, 40))
    with torch.no_grad():
        before = model(ids)
        add_lora(model, LoraConfig(rank=2, dropout=0.0))
        adapters = {n: p for n, p in model.named_parameters() if "lora_" in n}
        assert len(adapters) == 2 * 4 * SMALL.n_layers
        assert_close(model.eval()(ids), before, tolerance=1e-6)
        for parameter in adapters.values():
            parameter += 0.3 * torch.randn_like(parameter)
        adapted = model(ids)
        assert relative_error(adapted, before) > 1e-2
        assert_close(model(_other(ids)), adapted, tolerance=1e-5)
        merge_lora(model)
        assert_close(model(ids), adapted, tolerance=1e-5)
        model.save_pretrained(tmp_path / "m")
        assert_close(load_model(tmp_path / "m")(ids), adapted, tolerance=1e-5)


def test_both_directions_are_refused() -> None:
    with pytest.raises(ConfigError, match="adds nothing to an equivariant model.*both_directions=false"):  # fmt: skip
        HyenaForSequenceClassification(SMALL, both_directions=True)


# Folders, embeddings, settings


@each_kind
def test_a_folder_brings_the_model_back(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = _masked(torch.float32, **changes)
    model.save_pretrained(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["equivariant"] is True
    loaded = load_model(tmp_path / "m")
    assert isinstance(loaded, HyenaForMaskedLM)
    assert loaded.config == model.config
    ids = torch.randint(0, 12, (2, 50))
    with torch.no_grad():
        assert torch.equal(loaded(ids), model(ids))
    classifier = HyenaForSequenceClassification.from_pretrained(tmp_path / "m", n_classes=2)
    assert torch.equal(classifier.backbone.embedding.weight, model.backbone.embedding.weight)


def test_models_that_are_not_equivariant_are_saved_as_before(tmp_path: Path) -> None:
    _masked(torch.float32, equivariant=False).save_pretrained(tmp_path / "m")
    assert "equivariant" not in json.loads((tmp_path / "m" / "config.json").read_text())


@pytest.mark.parametrize("layer", [None, 0, 1])
def test_embeddings_of_the_other_strand_are_the_exchanged_ones(layer: int | None) -> None:
    model = _masked(torch.float32)
    sequences = [random_dna(n, seed=n) for n in (1, 70, 41)]
    others = [reverse_complement(s) for s in sequences]

    def rows(given: list[str], **more: Any) -> Iterator[torch.Tensor]:
        for found in embed_sequences(model, given, layer=layer, **more):
            yield torch.from_numpy(found.values)

    for one, other in zip(rows(sequences), rows(others), strict=True):
        assert_close(other, exchanged(one), tolerance=1e-5)
    for one, other in zip(rows(sequences, pooling="none"), rows(others, pooling="none"), strict=True):  # fmt: skip
        assert_close(other, exchanged(one).flip(0), tolerance=1e-5)
    for one, other in zip(rows(sequences, strands="average"), rows(others), strict=True):
        assert_close(one, (other + exchanged(other)) / 2, tolerance=1e-5)


def test_filters_that_are_kept_are_those_of_both_strands() -> None:
    model, ids = _masked(torch.float32), torch.randint(0, 12, (2, 50))
    trained = model(ids).detach()  # filters are computed anew where gradients are asked for
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
        assert_close(model(ids), trained, tolerance=1e-6)


def test_recomputed_blocks_give_the_same_gradients() -> None:
    one = _masked(embed_dropout=0.0).train()
    again = _masked(embed_dropout=0.0, activation_checkpointing=True).train()
    again.load_state_dict(one.state_dict())
    ids = torch.randint(0, 12, (2, 60))
    for model in (one, again):
        model(ids).square().sum().backward()
    for mine, theirs in zip(one.parameters(), again.parameters(), strict=True):
        assert_close(mine.grad, theirs.grad, tolerance=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bidirectional": False}, "equivariant=true needs bidirectional=true"),
        ({"vocab_size": 256}, "equivariant=true needs vocab_size=12, not 256"),
        ({"d_model": 15}, "d_model=15 is no multiple of 2"),
        ({"d_inner": 33}, "d_inner=33 is no multiple of 2"),
        ({"hyena_heads": 1}, "hyena_heads=1 is no multiple of 2"),
        ({"mixers": "attention", "attention_heads": 8}, "d_model / attention_heads=2 is no multiple of 4"),
        ({"short_kernel_size": 4}, "short_kernel_size=4 is even"),
        ({"mixers": "conv", "conv_kernel_size": 6}, "conv_kernel_size=6 is even"),
        ({"equivariant": 1}, "equivariant=1 is impossible; true or false"),
    ],
)  # fmt: skip
def test_shapes_that_cannot_be_shared_out_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        dataclasses.replace(SMALL, **changes)


def test_what_is_not_there_need_not_suit() -> None:
    dataclasses.replace(SMALL, mixers="conv", short_kernel_size=4, attention_heads=8)
    dataclasses.replace(SMALL, conv_kernel_size=6, attention_heads=8)


def test_the_command_line_knows_equivariant_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _masked(torch.float32).save_pretrained(tmp_path / "m")
    assert main(["info", str(tmp_path / "m")]) == 0
    assert "equivariant\tTrue" in capsys.readouterr().out
