"""Masked language models: their folders, what refuses them, and classifiers and embeddings made from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from hyenadna import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    load_model,
)
from hyenadna.cli import main
from hyenadna.errors import CheckpointError, ConfigError
from hyenadna.inference.embeddings import embed_sequences
from hyenadna.inference.generation import generate
from hyenadna.inference.likelihood import score_sequences
from hyenadna.models import language_model
from hyenadna.models.checkpoint import write_hf_folder
from hyenadna.sequence import reverse_complement
from hyenadna.testing import assert_close, random_dna, relative_error
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.evaluate import nats_of_rows

CAUSAL = HyenaConfig(d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, attention_heads=4)
SMALL = dataclasses.replace(CAUSAL, bidirectional=True)
POOLINGS = ("mean", "last", "attention", "attention_max", "positional")


def _model(**changes: object) -> HyenaForMaskedLM:
    torch.manual_seed(0)
    return HyenaForMaskedLM(dataclasses.replace(SMALL, **changes)).eval()  # type: ignore[arg-type]


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    _model().save_pretrained(tmp_path / "masked")
    return tmp_path / "masked"


@pytest.mark.parametrize("changes", [{}, {"mixers": ("hyena", "attention")}, {"tie_embeddings": False}, {"hyena_heads": 4}])  # fmt: skip
def test_a_folder_holds_the_kind_the_shape_and_the_weights(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    model = _model(**changes)
    model.save_pretrained(tmp_path / "m")
    settings = json.loads((tmp_path / "m" / "config.json").read_text())
    assert settings["bidirectional"] is True
    assert settings["architectures"] == ["HyenaForMaskedLM"]
    loaded = load_model(tmp_path / "m")
    assert type(loaded) is HyenaForMaskedLM
    assert loaded.config == model.config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    ids = torch.randint(7, 11, (2, 50))
    assert torch.equal(loaded(ids), model(ids))
    longer = HyenaForMaskedLM.from_pretrained(tmp_path / "m", max_seq_len=300)
    assert_close(longer(ids), model(ids), tolerance=1e-6)


def test_the_kind_follows_from_the_shape() -> None:
    assert type(language_model(SMALL)) is HyenaForMaskedLM
    assert type(language_model(CAUSAL)) is HyenaForCausalLM
    with pytest.raises(ConfigError, match="set bidirectional=True, or use HyenaForCausalLM"):
        HyenaForMaskedLM(CAUSAL)
    with pytest.raises(ConfigError, match="HyenaForMaskedLM is for it, or set bidirectional=False"):
        HyenaForCausalLM(SMALL)


def test_folders_of_the_other_kind_are_refused_in_one_sentence(
    masked: Path, tmp_path: Path
) -> None:
    HyenaForCausalLM(CAUSAL).save_pretrained(tmp_path / "causal")
    with pytest.raises(CheckpointError, match=r"masked \(bidirectional\) language model, which has no likelihood"):  # fmt: skip
        HyenaForCausalLM.from_pretrained(masked)
    with pytest.raises(CheckpointError, match="causal holds a causal language model, not a masked"):
        HyenaForMaskedLM.from_pretrained(tmp_path / "causal")
    HyenaForSequenceClassification(SMALL).save_pretrained(tmp_path / "classifier")
    with pytest.raises(CheckpointError, match="sequence classifier, not a language model"):
        HyenaForMaskedLM.from_pretrained(tmp_path / "classifier")
    with pytest.raises(CheckpointError, match="-hf layout knows only causal models"):
        write_hf_folder(tmp_path / "hf", _model())


VERBS = [
    "score -m {m} -i reads.fa -o o.tsv",
    "score -m {m} -f reads.fa -r a:1-20 --per-base o.npz",
    "ism -m {m} -f reads.fa -r a:1-4 -o o.tsv",
    "generate -m {m} -p ACGT -n 4 -o o.fa",
    "evaluate -m {m} -f reads.fa -r a:1-40 -o o.json",
]


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_that_need_a_causal_model_refuse_a_masked_one(
    masked: Path, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(masked.parent)
    Path("reads.fa").write_text(f">a\n{random_dna(60, seed=1)}\n")
    assert main(verb.format(m="masked").split()) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (sentence,) = [line for line in said.err.splitlines() if "masked" in line]
    assert "has no likelihood of a next base" in sentence
    assert not list(masked.parent.glob("o.*"))


def test_python_calls_that_need_a_causal_model_refuse_a_masked_one() -> None:
    model = _model()
    with pytest.raises(ConfigError, match="needs a causal model"):
        list(score_sequences(model, ["ACGT"]))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="needs a causal model"):
        list(generate(model, ["ACGT"], 3))  # type: ignore[arg-type]
    ids = CharacterTokenizer().encode("ACGTAA")[None]
    with pytest.raises(ConfigError, match="evaluate a causal one"):
        nats_of_rows(model, ids, [1], "cpu")  # type: ignore[arg-type]


def test_convert_and_info_know_masked_models(
    masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(masked), "-o", str(tmp_path / "copy")]) == 0
    assert type(load_model(tmp_path / "copy")) is HyenaForMaskedLM
    assert main(["info", str(masked)]) == 0
    said = capsys.readouterr().out
    assert "model\tHyenaForMaskedLM" in said
    assert "bidirectional\tTrue" in said


# Classifiers


def _rows(*lengths: int) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    rows = [torch.randint(7, 11, (n,)) for n in lengths]
    ids = torch.full((len(rows), max(lengths) + 9), 4)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, True
    return rows, ids, mask


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("both_directions", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_classifiers_begin_with_masked_models_and_ignore_padding(
    masked: Path, pooling: str, both_directions: bool, both_strands: bool
) -> None:
    torch.manual_seed(1)
    model = HyenaForSequenceClassification.from_pretrained(
        masked, n_classes=3, pooling=pooling, both_directions=both_directions,  # type: ignore[arg-type]
        n_positions=60 if pooling == "positional" else 0,
    ).double()  # fmt: skip
    for name, tensor in load_model(masked).backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor.double()), name
    rows, ids, mask = _rows(1, 17, 100)
    found = model(ids, mask, both_strands=both_strands)
    without = model(ids, torch.ones_like(mask), both_strands=both_strands)
    for i, row in enumerate(rows):
        alone = model(row[None], both_strands=both_strands)[0]
        assert_close(found[i], alone, tolerance=1e-6)
        assert relative_error(without[i], alone) > 1e-6  # the control
    if both_strands:
        other = [torch.from_numpy(CharacterTokenizer().reverse_complement(r.byte().numpy())) for r in rows]  # fmt: skip
        for i, row in enumerate(other):
            assert_close(model(row[None], both_strands=True)[0], found[i], tolerance=1e-6)


def test_classifiers_are_saved_with_what_they_see(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = HyenaForSequenceClassification(SMALL, labels=["a", "b"], pooling="attention").eval()
    model.save_pretrained(tmp_path / "c")
    loaded = load_model(tmp_path / "c")
    assert isinstance(loaded, HyenaForSequenceClassification)
    assert loaded.config.bidirectional
    ids = torch.randint(7, 11, (2, 40))
    assert torch.equal(loaded(ids), model(ids))


# Embeddings


@pytest.mark.parametrize("layer", [None, 0, 1, 2])
@pytest.mark.parametrize("pooling", ["mean", "last", "max", "none"])
def test_embeddings_are_those_of_the_sequence_alone(pooling: str, layer: int | None) -> None:
    model = _model(mixers=("hyena", "attention"))
    sequences = [random_dna(n, seed=n) for n in (1, 5, 66, 130, 71, 70)]
    found = list(embed_sequences(model, sequences, pooling=pooling, layer=layer))  # type: ignore[arg-type]
    for sequence, one in zip(sequences, found, strict=True):
        ids = torch.from_numpy(CharacterTokenizer().encode(sequence))[None]
        seen = [model.backbone.embedding(ids.int())]
        with torch.no_grad():
            for block in model.backbone.layers:
                seen.append(block(seen[-1]))
            hidden = (model.backbone(ids) if layer is None else seen[layer])[0]
        pooled = {"mean": hidden.mean(0), "last": hidden[-1], "max": hidden.amax(0), "none": hidden}
        assert_close(torch.from_numpy(one.values), pooled[pooling], tolerance=2e-6)


def test_embeddings_do_not_depend_on_the_batch_nor_averages_on_the_strand() -> None:
    model = _model()
    sequences = [random_dna(n, seed=n) for n in (65, 70, 66, 71, 72)]
    together = list(embed_sequences(model, sequences, batch_size=5))
    for sequence, one in zip(sequences, together, strict=True):
        (alone,) = embed_sequences(model, [sequence])
        assert_close(torch.from_numpy(one.values), torch.from_numpy(alone.values), tolerance=1e-6)
        (both,) = embed_sequences(model, [sequence], strands="average")
        (turned,) = embed_sequences(model, [reverse_complement(sequence)], strands="average")
        assert_close(torch.from_numpy(both.values), torch.from_numpy(turned.values), tolerance=1e-6)
