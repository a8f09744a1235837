import copy
import math
import types
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hyenadna import (
    ByteTokenizer,
    CharacterTokenizer,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    score_sequences,
)
from hyenadna.errors import ConfigError, DataError, SequenceError, SequenceLengthError
from hyenadna.inference import likelihood
from hyenadna.inference.likelihood import SequenceScore, resolve_windows
from hyenadna.io import FastaRecord
from hyenadna.models.filter import ImplicitFilter
from hyenadna.sequence import reverse_complement
from hyenadna.testing import random_dna


def _one(model: HyenaForCausalLM, letters: str, **settings: object) -> SequenceScore:
    [score] = score_sequences(model, [letters], **settings)  # type: ignore[arg-type]
    return score


def _by_hand(model: HyenaForCausalLM, letters: str) -> tuple[float, float]:
    """Sum log p, and the entropy over A, C, G and T, one base at a time, each from its own forward pass over the bases before it, in float64."""
    model = copy.deepcopy(model).double()
    ids = CharacterTokenizer().encode(letters).tolist()
    total = entropy = 0.0
    with torch.no_grad():
        for t in range(1, len(ids)):
            if ids[t] in (7, 8, 9, 10):
                logits = model(torch.tensor([ids[:t]]))[0, -1]
                total += float(logits.log_softmax(-1)[ids[t]])
                entropy += float(torch.distributions.Categorical(logits=logits[7:11]).entropy())
    return total, entropy


@pytest.mark.parametrize("letters", ["AC", "ACGTTGCANNACGRTCA" * 3])
def test_equals_the_chain_rule_base_by_base(small_model: HyenaForCausalLM, letters: str) -> None:
    score = _one(small_model, letters)
    log_likelihood, entropy = _by_hand(small_model, letters)
    assert score.log_likelihood == pytest.approx(log_likelihood, abs=2e-4)
    assert score.entropy == pytest.approx(entropy / score.n_scored, abs=1e-5)
    assert score.mean_log_likelihood == pytest.approx(score.log_likelihood / score.n_scored)
    assert score.bits_per_base == pytest.approx(-score.mean_log_likelihood / math.log(2))
    assert score.perplexity == pytest.approx(2**score.bits_per_base)


def test_the_chain_rule_check_can_fail(small_model: HyenaForCausalLM) -> None:
    letters = random_dna(60, seed=1)
    score, (log_likelihood, entropy) = _one(small_model, letters), _by_hand(small_model, letters[::-1])  # fmt: skip
    assert abs(score.log_likelihood - log_likelihood) > 1
    assert abs(score.entropy - entropy / score.n_scored) > 1e-4


def test_counts_what_it_scores(small_model: HyenaForCausalLM) -> None:
    score = _one(small_model, "NacgtRYUuA")
    assert (score.length, score.n_scored, score.n_ambiguous, score.n_soft_masked) == (10, 7, 3, 5)


def test_case_and_rna_do_not_change_a_score(small_model: HyenaForCausalLM) -> None:
    upper = _one(small_model, "ACGTTGCA")
    assert _one(small_model, "acgTTgcA").log_likelihood == upper.log_likelihood
    assert _one(small_model, "ACGUUGCA").log_likelihood == upper.log_likelihood
    published = CharacterTokenizer(case_sensitive=True)
    assert _one(small_model, "acgTTgcA", tokenizer=published).n_scored == 3


@pytest.mark.parametrize("letters", ["A", "N", "NNNN", "ANN"])
def test_nothing_to_score_is_a_sum_of_zero_and_no_mean(
    small_model: HyenaForCausalLM, letters: str
) -> None:
    score = _one(small_model, letters)
    assert (score.n_scored, score.log_likelihood) == (0, 0.0)
    assert math.isnan(score.mean_log_likelihood)
    assert math.isnan(score.bits_per_base)
    assert math.isnan(score.perplexity)
    assert math.isnan(score.entropy)


def test_both_strands_are_averaged(small_model: HyenaForCausalLM) -> None:
    letters = random_dna(70, seed=2)
    both = _one(small_model, letters, rc=True)
    strands = [_one(small_model, s) for s in (letters, reverse_complement(letters))]
    assert both.log_likelihood == pytest.approx(sum(s.log_likelihood for s in strands) / 2)
    assert both.n_scored == 69
    assert abs(strands[0].log_likelihood - strands[1].log_likelihood) > 0.1
    other = _one(small_model, reverse_complement(letters), rc=True)
    assert both[2:] == pytest.approx(other[2:])


def test_strands_of_unequal_targets_keep_mean_times_count(small_model: HyenaForCausalLM) -> None:
    score = _one(small_model, "NACG", rc=True)
    assert score.n_scored == 2.5
    assert score.mean_log_likelihood * score.n_scored == pytest.approx(score.log_likelihood)


def test_results_come_in_the_order_of_the_input(small_model: HyenaForCausalLM) -> None:
    named = [
        (f"s{i}", random_dna(n, seed=i)) for i, n in enumerate([400, 3, 90, 1, 130, 131, 7] * 3)
    ]
    scores = list(score_sequences(small_model, named, batch_size=2))
    assert [s.name for s in scores] == [name for name, _ in named]
    assert [s.length for s in scores] == [len(letters) for _, letters in named]


def test_records_and_bare_letters_are_taken(small_model: HyenaForCausalLM) -> None:
    record = FastaRecord("chr1", "a contig", "ACGT")
    scores = list(score_sequences(small_model, ["ACGT", record, ("x", "ACGT")]))
    assert [s.name for s in scores] == ["sequence_1", "chr1", "x"]
    assert len({s.log_likelihood for s in scores}) == 1


def test_memory_is_bounded_input_is_read_a_little_ahead(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "automatic_batch_tokens", lambda *_: 64)
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "ACGTACGT"

    scores = score_sequences(small_model, endless())
    assert [next(scores).n_scored for _ in range(300)] == [7] * 300
    assert read <= 300 + 2 * 16 * 64 // 8


def test_sequences_without_a_target_do_not_pile_up(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "_MAX_WAITING", 10)
    scores = score_sequences(small_model, iter(["N"] * 25))
    assert sum(1 for _ in scores) == 25


def test_windows_are_the_model_on_each_stretch(small_model: HyenaForCausalLM) -> None:
    letters = random_dna(330, seed=3)
    whole = _one(small_model, letters, window=100, stride=40)
    # Window k scores bases (k-1)·40+100 … k·40+100 after 60 bases of context: the difference of two plain scores.
    total = _one(small_model, letters[:100]).log_likelihood
    for start in range(40, 270, 40):
        stretch = letters[start : start + 100]
        total += (
            _one(small_model, stretch).log_likelihood
            - _one(small_model, stretch[:60]).log_likelihood
        )
    assert whole.log_likelihood == pytest.approx(total, abs=1e-3)
    assert whole.n_scored == 329


def test_the_default_window_is_the_longest_input(small_model: HyenaForCausalLM) -> None:
    letters = random_dna(300, seed=4)
    assert _one(small_model, letters) == _one(small_model, letters, window=130, stride=65)
    assert (
        _one(small_model, letters).log_likelihood
        != _one(small_model, letters, stride=1).log_likelihood
    )


def test_the_callers_model_keeps_mode_and_dtype(small_model: HyenaForCausalLM) -> None:
    model = copy.deepcopy(small_model).double()
    model.train()
    model.backbone.layers[0].eval()
    before = [module.training for module in model.modules()]
    first = _one(model, "ACGTACGTAA")
    assert [module.training for module in model.modules()] == before
    assert next(model.parameters()).dtype == torch.float64
    assert all(p.requires_grad for p in model.parameters())
    assert first == _one(model, "ACGTACGTAA"), "dropout was on"


def test_progress_adds_up_to_all_bases(small_model: HyenaForCausalLM) -> None:
    reported: list[int] = []
    sequences = ["ACGT", "N" * 200, random_dna(500, seed=5), "A"]
    list(
        score_sequences(
            small_model, sequences, rc=True, window=50, stride=20, progress=reported.append
        )
    )
    assert sum(reported) == 2 * sum(map(len, sequences))


def test_a_full_memory_halves_the_batch_and_changes_nothing(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [random_dna(64, seed=i) for i in range(9)]
    expected = list(score_sequences(small_model, sequences))
    model = copy.deepcopy(small_model)
    forward = model.forward

    def little_memory(self: HyenaForCausalLM, token_ids: torch.Tensor) -> torch.Tensor:
        if len(token_ids) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(token_ids)

    monkeypatch.setattr(model, "forward", types.MethodType(little_memory, model))
    found = list(score_sequences(model, sequences))
    assert [s.log_likelihood for s in found] == pytest.approx(
        [s.log_likelihood for s in expected], abs=1e-4
    )

    def no_memory(self: HyenaForCausalLM, token_ids: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(model, "forward", types.MethodType(no_memory, model))
    with pytest.raises(ConfigError, match="64 bases at once do not fit into the memory of cpu"):
        list(score_sequences(model, sequences))


def test_other_errors_of_the_model_pass_through(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(small_model)
    monkeypatch.setattr(model, "forward", lambda _: (_ for _ in ()).throw(RuntimeError("boom")))
    with pytest.raises(RuntimeError, match="boom"):
        list(score_sequences(model, ["ACGT"]))


def test_a_model_of_nan_is_refused(small_model: HyenaForCausalLM) -> None:
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        model.backbone.final_norm.weight[0] = torch.nan
    with pytest.raises(DataError, match=r"'sequence_1' with nan.*diverged"):
        list(score_sequences(model, ["ACGT"]))


def test_the_default_window_is_a_power_of_two_where_little_is_lost() -> None:
    kept = {130: 130, 160_002: 160_002, 450_000: 450_000, 2: 2, 3: 3}
    cut = {1026: 1024, 32_770: 32_768, 1024: 1024, 2068: 2048}
    assert {n: resolve_windows(n, None, None) for n in kept | cut} == {n: (w, w // 2) for n, w in (kept | cut).items()}  # fmt: skip
    assert resolve_windows(2069, None, None) == (2069, 1034)
    assert resolve_windows(1026, 1026, None) == (1026, 513)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1}, "window is 1; expected 2 to 130"),
        ({"window": 131}, "window is 131; expected 2 to 130"),
        ({"stride": 0}, "stride is 0; expected 1 to 129"),
        ({"window": 10, "stride": 10}, "stride is 10; expected 1 to 9"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": "many"}, "batch_size is 'many'"),
        ({"batch_size": True}, "batch_size is True"),
        ({"tokenizer": ByteTokenizer()}, "scoring needs the nucleotide tokenizer"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    small_model: HyenaForCausalLM, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        score_sequences(small_model, [], **settings)  # type: ignore[arg-type]


def test_a_classifier_is_refused() -> None:
    classifier = HyenaForSequenceClassification(HyenaConfig(d_model=8, n_layers=1, max_seq_len=16))
    with pytest.raises(ConfigError, match="needs a language model"):
        score_sequences(classifier, ["ACGT"])  # type: ignore[arg-type]


def test_bad_sequences_are_refused_by_name(small_model: HyenaForCausalLM) -> None:
    with pytest.raises(SequenceLengthError, match="'empty' is empty"):
        list(score_sequences(small_model, [("empty", "")]))
    with pytest.raises(SequenceError, match="'protein' has 'E' at position 2"):
        list(score_sequences(small_model, [("protein", "MEEPQ")]))
    with pytest.raises(SequenceError, match="refuses"):
        list(score_sequences(small_model, ["ACR"], tokenizer=CharacterTokenizer(ambiguous="error")))
    with pytest.raises(TypeError, match="pass a list"):
        score_sequences(small_model, "ACGT")


def test_no_sequences_give_no_scores(small_model: HyenaForCausalLM) -> None:
    assert list(score_sequences(small_model, [])) == []


def test_an_untrained_model_is_near_its_uniform_guess() -> None:
    torch.manual_seed(0)
    model = HyenaForCausalLM(
        HyenaConfig(d_model=8, n_layers=1, max_seq_len=64, initializer_range=1e-4)
    )
    assert _one(model, "ACGT" * 16).bits_per_base == pytest.approx(4.0, abs=1e-3)  # 16 columns


def test_precision_is_full_inside_and_restored_outside(small_model: HyenaForCausalLM) -> None:
    expected = _one(small_model, "ACGTTGCA" * 8)
    seen: list[tuple[str, bool, bool]] = []

    def spy(*_: object) -> None:
        backends = torch.backends.cudnn
        seen.append(
            (
                torch.get_float32_matmul_precision(),
                backends.allow_tf32,
                torch.is_autocast_enabled("cpu"),
            )
        )

    handle = small_model.register_forward_pre_hook(spy)
    torch.set_float32_matmul_precision("medium")
    before = torch.backends.cudnn.allow_tf32
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = _one(small_model, "ACGTTGCA" * 8)
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32 == before
    finally:
        torch.set_float32_matmul_precision("highest")
        handle.remove()
    assert seen == [("highest", False, False)]
    assert found == expected


def test_half_precision_is_near_and_is_not_the_default(small_model: HyenaForCausalLM) -> None:
    letters = "ACGTTGCA" * 12
    exact, half = _one(small_model, letters), _one(small_model, letters, half=True)
    assert half.log_likelihood != exact.log_likelihood
    assert half.mean_log_likelihood == pytest.approx(exact.mean_log_likelihood, abs=2e-3)
    assert _one(small_model, letters) == exact


def test_filters_are_evaluated_once_for_a_model_in_evaluation(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = ImplicitFilter._evaluate

    def count(self: ImplicitFilter, length: int) -> torch.Tensor:
        calls.append(length)
        return original(self, length)

    monkeypatch.setattr(ImplicitFilter, "_evaluate", count)
    small_model.eval()
    list(score_sequences(small_model, ["ACGT" * 8] * 5, batch_size=1))
    assert len(calls) == small_model.config.n_layers
    small_model.train()
    list(score_sequences(small_model, ["ACGT" * 8] * 5, batch_size=1))
    assert len(calls) == 6 * small_model.config.n_layers


@pytest.mark.gpu
def test_gpu_scores_equal_cpu_scores(small_model: HyenaForCausalLM) -> None:
    rng = np.random.default_rng(0)
    sequences = [random_dna(int(n), seed=i) for i, n in enumerate(rng.integers(1, 300, 40))]
    cpu = list(score_sequences(small_model, sequences))
    gpu_model = copy.deepcopy(small_model).cuda()
    gpu = list(score_sequences(gpu_model, sequences, rc=False))
    alone = [_one(gpu_model, s) for s in sequences]
    assert next(gpu_model.parameters()).is_cuda
    for a, b, c in zip(cpu, gpu, alone, strict=True):
        if a.n_scored:
            assert abs(a.mean_log_likelihood - b.mean_log_likelihood) < 1e-4
            assert abs(b.mean_log_likelihood - c.mean_log_likelihood) < 1e-5
