"""Classes of new sequences: the same alone and in any company, and nothing asked of a model but its interface."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hyenadna import (
    ByteTokenizer,
    CharacterTokenizer,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    predict_sequences,
)
from hyenadna.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    SequenceError,
    SequenceLengthError,
)
from hyenadna.inference import prediction
from hyenadna.inference.runtime import load_classifier
from hyenadna.models import ClassifierEnsemble
from hyenadna.models.language import language_model
from hyenadna.sequence import reverse_complement
from hyenadna.tasks.classification import predict_probabilities
from hyenadna.testing import random_dna

TOLERANCE = 1e-6
LABELS = ("none", "weak", "strong")
SEQUENCES = [
    *(random_dna(n, seed=n) for n in (1, 2, 7, 8, 9, 40, 63, 64, 17, 33)),
    "acgtNNRYacgt",
]


def _build(pooling: str = "attention", seed: int = 0, **shape: object) -> HyenaForSequenceClassification:  # fmt: skip
    torch.manual_seed(seed)
    config = HyenaConfig(d_model=16, n_layers=2, max_seq_len=64, filter_dim=8, initializer_range=0.3, **shape)  # type: ignore[arg-type]  # fmt: skip
    places = 64 if pooling == "positional" else 0
    model = HyenaForSequenceClassification(config, labels=LABELS, pooling=pooling, n_positions=places)  # type: ignore[arg-type]  # fmt: skip
    return model.eval()


def _table(model: nn.Module, sequences: Sequence[str], size: int | str = "auto", rc: bool = False) -> np.ndarray:  # fmt: skip
    found = predict_sequences(model, sequences, batch_size=size, rc=rc)  # type: ignore[arg-type]
    return np.stack([one.probabilities for one in found])


def _largest_change(model: nn.Module, rc: bool = False) -> float:
    alone = np.concatenate([_table(model, [sequence], 1, rc) for sequence in SEQUENCES])
    changes = []
    for size, turn in ((3, 4), (100, 0), ("auto", 7)):
        order = [*range(turn, len(SEQUENCES)), *range(turn)][::-1]
        together = _table(model, [SEQUENCES[i] for i in order], size, rc)
        changes.append(np.abs(together - alone[order]).max())
    return float(max(changes))


@pytest.mark.parametrize("rc", [False, True])
@pytest.mark.parametrize(
    ("pooling", "shape"),
    [("mean", {}), ("last", {}), ("attention", {}), ("positional", {}), ("attention_max", {"bidirectional": True})],
)  # fmt: skip
def test_probabilities_are_the_same_alone_in_any_batch_and_order(
    pooling: str, shape: dict[str, bool], rc: bool
) -> None:
    model = _build(pooling, **shape)
    assert _largest_change(model, rc) <= TOLERANCE
    table = _table(model, SEQUENCES, rc=rc)
    assert np.ptp(table, axis=0).max() > 0.05
    assert np.abs(table.sum(1) - 1).max() < 1e-12


def test_control_what_depends_on_company_or_padding_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Mixing(HyenaForSequenceClassification):
        def forward(self, *given: object, **how: object) -> torch.Tensor:
            logits = super().forward(*given, **how)  # type: ignore[arg-type]
            return logits - logits.mean(0)

    model = _build()
    mixing = Mixing(model.config, labels=LABELS, pooling="attention").eval()
    mixing.load_state_dict(model.state_dict())
    assert _largest_change(mixing) > 10 * TOLERANCE
    right = _table(model, SEQUENCES)
    monkeypatch.setattr(prediction, "to_device", lambda array, device: torch.from_numpy(array | (array.dtype == bool)))  # fmt: skip
    assert np.abs(_table(model, SEQUENCES) - right).max() > 1e-3  # padding as if it were bases


@pytest.mark.parametrize("rc", [False, True])
def test_probabilities_are_those_that_fine_tuning_reports(rc: bool) -> None:
    model = _build()
    reported = predict_probabilities(model, SEQUENCES, tokenizer=CharacterTokenizer(), both_strands=rc)  # fmt: skip
    assert np.abs(_table(model, SEQUENCES, rc=rc) - reported).max() <= TOLERANCE


def test_with_rc_both_strands_of_a_sequence_have_one_answer() -> None:
    model = _build()
    other = [reverse_complement(s) for s in SEQUENCES]
    assert np.abs(_table(model, SEQUENCES, rc=True) - _table(model, other, rc=True)).max() <= TOLERANCE  # fmt: skip
    assert np.abs(_table(model, SEQUENCES) - _table(model, other)).max() > 1e-3


def test_result_has_name_length_and_the_most_probable_label() -> None:
    model = _build().train()
    found = list(predict_sequences(model, [("read", SEQUENCES[5]), SEQUENCES[6]]))
    assert [(one.name, one.length) for one in found] == [("read", 40), ("sequence_2", 63)]
    assert [one.label for one in found] == [LABELS[one.probabilities.argmax()] for one in found]
    assert {one.probabilities.dtype for one in found} == {np.dtype(np.float64)}
    assert all(module.training for module in model.modules())  # and no dropout: see the next line
    assert np.array_equal(found[0].probabilities, _table(model, SEQUENCES[5:6])[0])


def test_sequences_are_read_a_bounded_number_ahead_and_progress_counts_bases() -> None:
    model, taken, bases = _build(), itertools.count(), []

    def endless() -> Iterator[str]:
        for number in taken:
            yield random_dna(1 + number % 64, seed=number)

    found = predict_sequences(model, endless(), batch_size=4, progress=bases.append)
    first = [next(found) for _ in range(500)]
    assert [one.name for one in first] == [f"sequence_{i + 1}" for i in range(500)]
    assert next(taken) < 1500
    assert sum(bases) >= sum(one.length for one in first)


@pytest.mark.parametrize("rc", [False, True])
def test_an_ensemble_predicts_the_mean_probabilities_of_its_members(rc: bool) -> None:
    one, two = _build(seed=0), _build(seed=1)
    both = ClassifierEnsemble([one, two])
    expected = (_table(one, SEQUENCES, rc=rc) + _table(two, SEQUENCES, rc=rc)) / 2
    assert np.abs(_table(both, SEQUENCES, rc=rc) - expected).max() <= TOLERANCE
    assert np.abs(expected - _table(one, SEQUENCES, rc=rc)).max() > 1e-2
    assert _largest_change(both, rc) <= TOLERANCE


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: predict_sequences(m, [("x", "")]), SequenceLengthError, "sequence 'x' is empty"),
        (lambda m: predict_sequences(m, ["ACGT", "A" * 65]), SequenceLengthError, "'sequence_2' has 65 bases, .* 1 to 64"),
        (lambda m: predict_sequences(m, ["ACXT"]), SequenceError, "'X' at position 3"),
        (lambda m: predict_sequences(m, ["ACGT"], batch_size=0), ConfigError, "batch_size is 0"),
        (lambda m: predict_sequences(m, ["ACGT"], tokenizer=ByteTokenizer()), ConfigError, "prediction needs the nucleotide"),
        (lambda m: predict_sequences(HyenaForCausalLM(m.config), ["ACGT"]), ConfigError, "a HyenaForCausalLM knows no classes"),
        (lambda m: predict_sequences(m, "ACGT"), TypeError, "a list of strings"),
    ],
)  # fmt: skip
def test_what_cannot_be_classified_is_refused(
    ask: Callable[[nn.Module], Iterator[object]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(ask(_build()))


def test_a_diverged_model_is_refused_by_the_sequence_it_fails_on() -> None:
    model = _build()
    with torch.no_grad():
        model.backbone.embedding.weight[CharacterTokenizer().n_token_id] = float("nan")
    assert len(list(predict_sequences(model, ["ACGT", "GGCA"]))) == 2
    with pytest.raises(DataError, match="sequence 'bad' with NaN"):
        list(predict_sequences(model, [("good", "ACGT"), ("bad", "ANGT")]))


@pytest.mark.parametrize(
    ("written", "rc"),
    [(None, False), ('{"strands": "forward"}', False), ('{"strands": "both"}', True), ('{"strands": "predict_both", "seed": 1}', True)],
)  # fmt: skip
def test_a_classifier_is_loaded_with_its_tokenizer_and_strands(
    tmp_path: Path, written: str | None, rc: bool
) -> None:
    model = _build()
    model.save_pretrained(tmp_path / "run" / "model", CharacterTokenizer(case_sensitive=True))
    if written is not None:
        (tmp_path / "run" / "model" / "finetuning.json").write_text(written)
    for source in ("run", "run/model", "run/model/model.safetensors"):
        loaded = load_classifier(tmp_path / source)
        assert loaded.rc is rc
        assert loaded.tokenizer.case_sensitive
        assert np.array_equal(_table(loaded.model, SEQUENCES), _table(model, SEQUENCES))


@pytest.mark.parametrize("written", ["", "{", "[]", "{}", json.dumps({"strands": "reverse"}), json.dumps({"strands": ["both"]})])  # fmt: skip
def test_strands_that_cannot_be_read_are_no_guess(tmp_path: Path, written: str) -> None:
    _build().save_pretrained(tmp_path)
    (tmp_path / "finetuning.json").write_text(written)
    with pytest.raises(CheckpointError, match=r"finetuning\.json"):
        load_classifier(tmp_path)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_language_model_is_no_classifier(tmp_path: Path, bidirectional: bool) -> None:
    shape = HyenaConfig(d_model=8, n_layers=1, max_seq_len=16, bidirectional=bidirectional)
    language_model(shape).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="holds a language model, .*hyenadna finetune"):
        load_classifier(tmp_path)
