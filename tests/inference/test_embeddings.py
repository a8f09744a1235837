"""Embeddings are the model's own hidden states, whatever the batch, the padding and the windows."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.errors import ConfigError, DataError, SequenceError, SequenceLengthError
from hyenadna.inference.embeddings import Embedding, embed_sequences
from hyenadna.models import HyenaForSequenceClassification
from hyenadna.sequence import reverse_complement
from hyenadna.tokenizers import CharacterTokenizer

WIDTH, LONGEST = 16, 64
LENGTHS = (1, 2, 10, 63, 64, 65, 150, 200, 33, 10)


@pytest.fixture(scope="module")
def model() -> HyenaForCausalLM:
    torch.manual_seed(0)
    return HyenaForCausalLM(HyenaConfig(d_model=WIDTH, n_layers=2, max_seq_len=LONGEST))


@pytest.fixture(scope="module")
def sequences() -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices("ACGTNacgtn", k=n)) for n in LENGTHS]


def _states(model: HyenaForCausalLM, sequence: str, layer: int | None = None) -> np.ndarray[Any, Any]:  # fmt: skip
    """Hidden states of one sequence that fits into one window, by hand: (L, D)."""
    ids = torch.from_numpy(CharacterTokenizer().encode(sequence))[None]
    training = model.training
    model.eval()
    with torch.no_grad():
        if layer is None:
            found = model.backbone(ids)
        else:
            found = model.backbone.embedding(ids.int())
            for block in list(model.backbone.layers)[:layer]:
                found = block(found)
    model.train(training)
    array: np.ndarray[Any, Any] = found[0].numpy()
    return array


@pytest.mark.parametrize("layer", [None, 0, 1, 2])
def test_vectors_pool_the_states_of_real_bases(
    model: HyenaForCausalLM, sequences: list[str], layer: int | None
) -> None:
    short = [s for s in sequences if len(s) <= LONGEST]
    pools = {"mean": lambda h: h.mean(0), "last": lambda h: h[-1], "max": lambda h: h.max(0), "none": lambda h: h}  # fmt: skip
    for pooling, pool in pools.items():
        found = list(embed_sequences(model, short, pooling=pooling, layer=layer))  # type: ignore[arg-type]
        for one, sequence in zip(found, short, strict=True):
            assert one.length == len(sequence)
            assert one.values.dtype == np.float32
            np.testing.assert_allclose(one.values, pool(_states(model, sequence, layer)), atol=1e-5)
    with pytest.raises(AssertionError):  # negative control: padding or another layer would show
        np.testing.assert_allclose(found[3].values, _states(model, short[3] + "A", layer)[1:], atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("pooling", ["mean", "last", "max", "none"])
@pytest.mark.parametrize("strands", ["forward", "average", "both"])
def test_company_order_and_batches_do_not_matter(
    model: HyenaForCausalLM, sequences: list[str], pooling: Any, strands: Any
) -> None:
    def embed(some: list[str], **more: Any) -> list[Embedding]:
        return list(embed_sequences(model, some, pooling=pooling, strands=strands, **more))

    alone = [embed([s], batch_size=1)[0].values for s in sequences]
    for found in (embed(sequences), embed(sequences, batch_size=3), embed(sequences[::-1])[::-1]):
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.values, other, atol=1e-6)
    assert embed(sequences)[3].values.shape == ((63,) if pooling == "none" else ()) + (
        WIDTH * (2 if strands == "both" else 1),
    )


def test_the_reverse_strand_stands_at_the_forward_positions(model: HyenaForCausalLM) -> None:
    sequence = "".join(random.Random(1).choices("ACGT", k=40))
    other = reverse_complement(sequence)
    (both,) = embed_sequences(model, [sequence], pooling="none", strands="both")
    np.testing.assert_allclose(both.values[:, :WIDTH], _states(model, sequence), atol=1e-5)
    np.testing.assert_allclose(both.values[:, WIDTH:], _states(model, other)[::-1], atol=1e-5)
    (average,) = embed_sequences(model, [sequence], pooling="none", strands="average")
    np.testing.assert_allclose(average.values, (both.values[:, :WIDTH] + both.values[:, WIDTH:]) / 2, atol=1e-6)  # fmt: skip
    # A sequence and its reverse complement have one average.
    for pooling in ("mean", "max", "last"):
        one, two = embed_sequences(model, [sequence, other], pooling=pooling, strands="average")  # type: ignore[arg-type]
        np.testing.assert_allclose(one.values, two.values, atol=1e-6)


def test_windows_read_each_base_once_with_the_promised_context(model: HyenaForCausalLM) -> None:
    sequence = "".join(random.Random(2).choices("ACGT", k=150))
    (rows,) = embed_sequences(model, [sequence], pooling="none", window=40, stride=30)
    expected = [_states(model, sequence[:40])]
    for start in range(30, 150, 30):
        end = min(start + 40, 150)
        expected.append(_states(model, sequence[start:end])[10:])
        if end == 150:
            break
    np.testing.assert_allclose(rows.values, np.concatenate(expected), atol=1e-5)
    (mean,) = embed_sequences(model, [sequence], window=40, stride=30)
    np.testing.assert_allclose(mean.values, rows.values.mean(0), atol=1e-6)
    (last,) = embed_sequences(model, [sequence], pooling="last", window=40, stride=30)
    np.testing.assert_allclose(last.values, rows.values[-1], atol=1e-6)
    (most,) = embed_sequences(model, [sequence], pooling="max", window=40, stride=30)
    np.testing.assert_allclose(most.values, rows.values.max(0), atol=1e-6)


def test_the_model_keeps_its_mode_and_a_classifier_will_do(
    model: HyenaForCausalLM, sequences: list[str]
) -> None:
    model.train()
    list(embed_sequences(model, sequences[:3]))
    assert all(module.training for module in model.modules())
    assert not model.backbone.layers[0]._forward_hooks
    classifier = HyenaForSequenceClassification(model.config, n_classes=2)
    classifier.backbone.load_state_dict(model.backbone.state_dict())
    (one,), (other,) = (embed_sequences(m, sequences[3:4], layer=1) for m in (model, classifier))
    np.testing.assert_array_equal(one.values, other.values)


def test_names_come_along_and_reading_is_lazy(model: HyenaForCausalLM) -> None:
    def endless() -> Any:
        number = 0
        while True:
            yield f"s{number}", "ACGT" * 8
            number += 1

    stream = embed_sequences(model, endless(), batch_size=1)
    assert [next(stream).name for _ in range(3)] == ["s0", "s1", "s2"]
    assert next(embed_sequences(model, ["ACGT"])).name == "sequence_1"
    assert list(embed_sequences(model, [])) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pooling": "median"}, "mean, last, max, none"),
        ({"strands": "reverse"}, "forward, average, both"),
        ({"layer": 3}, "0 .the embedding. to 2"),
        ({"layer": -1}, "layer is -1"),
        ({"window": 65}, "2 to 64"),
    ],
)
def test_impossible_settings_are_refused(
    model: HyenaForCausalLM, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        embed_sequences(model, ["ACGT"], **settings)


def test_sequences_that_cannot_be_embedded_are_refused(model: HyenaForCausalLM) -> None:
    with pytest.raises(SequenceLengthError, match="empty"):
        list(embed_sequences(model, ["ACGT", ""]))
    with pytest.raises(SequenceError):
        list(embed_sequences(model, ["AC GT"]))
    with pytest.raises(TypeError, match="list of strings"):
        embed_sequences(model, "ACGT")
    broken = HyenaForCausalLM(model.config)
    with torch.no_grad():
        broken.backbone.final_norm.weight[0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        list(embed_sequences(broken, ["ACGT"]))
