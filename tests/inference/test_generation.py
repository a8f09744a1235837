"""Generated bases have the probabilities of the full forward pass, and keep to every rule."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import CharacterTokenizer, HyenaConfig, HyenaForCausalLM, score_sequences
from hyenadna.errors import ConfigError, DataError, SequenceError, SequenceLengthError
from hyenadna.inference import decoding
from hyenadna.inference.generation import Generated, Rules, generate
from hyenadna.models import CausalAttention


def _model(**changes: Any) -> HyenaForCausalLM:
    torch.manual_seed(0)
    model = HyenaForCausalLM(HyenaConfig(**{"d_model": 16, "n_layers": 2, "max_seq_len": 600} | changes))  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # predictions that differ from base to base
    return model.eval()


@pytest.fixture(scope="module")
def model() -> HyenaForCausalLM:
    return _model()


def _prompt(n: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices("ACGT", k=n))


def _full(model: HyenaForCausalLM, one: Generated) -> np.ndarray[Any, Any]:
    """Log-probabilities of the generated bases from one forward pass over everything."""
    ids = CharacterTokenizer().encode(one.prompt + one.sequence).astype(np.int64)
    with torch.no_grad():
        log_p = model(torch.from_numpy(ids)[None]).double().log_softmax(-1)[0]
    start = len(one.prompt)
    found: np.ndarray[Any, Any] = log_p[torch.arange(start - 1, len(ids) - 1), ids[start:]].numpy()
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"hyena_order": 3, "short_kernel_size": 4}, {"hyena_order": 4}, {"hyena_heads": 4}, {"mixers": "attention"},
        {"mixers": "conv"}, {"mixers": "conv", "conv_kernel_size": 1},
        {"mixers": ["hyena", "attention", "conv", "hyena"], "n_layers": 4, "hyena_heads": 8, "attention_heads": 2},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(("n", "read"), [(1, 1), (5, 2), (130, 17), (300, 299), (64, 500)])
def test_log_probabilities_are_those_of_the_full_pass(
    changes: dict[str, Any], n: int, read: int
) -> None:
    model = _model(**changes)
    found = list(generate(model, [_prompt(read)], n, n_samples=3, seed=5))
    assert len(found) == 3
    for one in found:
        assert len(one.sequence) == len(one.log_probabilities) == n
        np.testing.assert_allclose(one.log_probabilities, _full(model, one), atol=2e-5)
    assert n == 1 or len({one.sequence for one in found}) > 1


def test_the_check_can_fail(model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    original = decoding._LongConvolution._tile
    monkeypatch.setattr(decoding._LongConvolution, "_tile", lambda self, w: original(self, w) * 1.05)  # fmt: skip
    (one,) = generate(model, [_prompt(9)], 100)
    assert np.abs(one.log_probabilities - _full(model, one)).max() > 1e-4


@pytest.mark.parametrize("kind", ["attention", "conv"])
def test_the_check_sees_what_other_mixers_remember(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(mixers=kind)
    if kind == "attention":  # every new position is turned as if it were the first
        original = CausalAttention.heads
        monkeypatch.setattr(CausalAttention, "heads", lambda self, x, first=0: original(self, x))
    else:
        step = decoding._ShortConvolution.step
        monkeypatch.setattr(decoding._ShortConvolution, "step", lambda self, w: step(self, w) * 1.05)  # fmt: skip
    (one,) = generate(model, [_prompt(9)], 100)
    assert np.abs(one.log_probabilities - _full(model, one)).max() > 1e-4


def test_their_sum_is_what_scoring_gives(model: HyenaForCausalLM) -> None:
    (one,) = generate(model, [_prompt(50)], 200)
    whole, prompt = score_sequences(model, [one.prompt + one.sequence, one.prompt])
    total = whole.log_likelihood - prompt.log_likelihood
    assert one.log_probabilities.sum() == pytest.approx(total, abs=200 * 1e-5)
    assert one.bits_per_base == pytest.approx(-total / 200 / np.log(2), abs=1e-4)


def test_the_same_seed_gives_the_same_bases_and_prompts_do_not_disturb_each_other(
    model: HyenaForCausalLM,
) -> None:
    one, two = _prompt(20, 1), _prompt(33, 2)
    first = list(generate(model, [one, two], 40, n_samples=2, seed=3))
    again = list(generate(model, [one, _prompt(5, 9)], 40, n_samples=2, seed=3))
    assert [g.sequence for g in first[:2]] == [g.sequence for g in again[:2]]
    other = list(generate(model, [one], 40, n_samples=2, seed=4))
    assert [g.sequence for g in first[:2]] != [g.sequence for g in other]
    assert [g.prompt for g in first] == [one, one, two, two]


def test_temperature_zero_and_one_base_are_the_likeliest(model: HyenaForCausalLM) -> None:
    (cold,) = generate(model, [_prompt(10)], 60, temperature=0)
    for same in ({"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}):
        (other,) = generate(model, [_prompt(10)], 60, seed=7, **same)  # type: ignore[arg-type]
        assert other.sequence == cold.sequence
    (warm,) = generate(model, [_prompt(10)], 60)
    assert warm.log_probabilities.sum() < cold.log_probabilities.sum()


def test_bases_are_drawn_with_their_probabilities(model: HyenaForCausalLM) -> None:
    prompt = _prompt(30)
    ids = torch.from_numpy(CharacterTokenizer().encode(prompt))[None]
    with torch.no_grad():
        p = model(ids)[0, -1].double().softmax(-1)[list(CharacterTokenizer().base_token_ids)]
    for power, settings in ((1.0, {}), (2.0, {"temperature": 0.5})):
        found = Counter(
            g.sequence for g in generate(model, [prompt], 1, n_samples=6000, **settings)
        )  # type: ignore[arg-type]
        expected = (p**power / (p**power).sum()).numpy()
        shares = np.array([found[letter] / 6000 for letter in "ACGT"])
        np.testing.assert_allclose(shares, expected, atol=0.025)
    two = Counter(g.sequence for g in generate(model, [prompt], 1, n_samples=500, top_k=2))
    assert set(two) == {"ACGT"[i] for i in p.argsort(descending=True)[:2]}


def test_rules_are_kept_and_do_not_change_probabilities(model: HyenaForCausalLM) -> None:
    template = "N" * 30 + "GATTACA" + "N" * 43
    rules = Rules(gc=(0.45, 0.55), forbidden=("AA", "GC", "T"[:1] * 3), template=template)
    found = list(generate(model, [_prompt(12) + "TT"], 80, n_samples=20, rules=rules))
    for one in found:
        assert one.sequence[30:37] == "GATTACA"
        assert 0.45 <= sum(letter in "GC" for letter in one.sequence) / 80 <= 0.55
        joined = "TT" + one.sequence
        assert not any(motif in joined for motif in ("AA", "GC", "TTT"))
        np.testing.assert_allclose(one.log_probabilities, _full(model, one), atol=2e-5)
    free = "".join(g.sequence for g in generate(model, [_prompt(12) + "TT"], 80, n_samples=20))
    assert "AA" in free
    assert "GC" in free


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_an_exact_share_of_gc_is_reached(model: HyenaForCausalLM, share: float) -> None:
    for one in generate(model, ["ACGT"], 40, n_samples=5, rules=Rules(gc=(share, share))):
        assert sum(letter in "GC" for letter in one.sequence) == 40 * share


def test_rules_that_leave_nothing_are_said(model: HyenaForCausalLM) -> None:
    with pytest.raises(DataError, match="no base to choose at generated position 1;"):
        list(generate(model, ["A"], 5, rules=Rules(forbidden=("A", "C", "G", "T"))))
    with pytest.raises(DataError, match="generated position"):
        list(generate(model, ["A"], 4, rules=Rules(gc=(1, 1), template="NNAN")))
    with pytest.raises(ConfigError, match="no number of G and C in 3 bases"):
        generate(model, ["A"], 3, rules=Rules(gc=(0.4, 0.5)))


def test_the_model_keeps_its_mode(model: HyenaForCausalLM) -> None:
    model.train()
    list(generate(model, ["ACGT"], 3))
    assert all(module.training for module in model.modules())
    model.eval()


@pytest.mark.parametrize(
    ("prompts", "n", "settings", "error", "words"),
    [
        ([""], 5, {}, SequenceLengthError, "prompt 1 is empty"),
        (["A", "AC GT"], 5, {}, SequenceError, "' '"),
        (["A" * 599], 2, {}, SequenceLengthError, "beyond the 600"),
        (["A"], 0, {}, ConfigError, "n_bases is 0"),
        (["A"], 1, {"temperature": -1}, ConfigError, "temperature is -1"),
        (["A"], 1, {"temperature": float("nan")}, ConfigError, "temperature is nan"),
        (["A"], 1, {"top_p": 0.0}, ConfigError, "top_p is 0"),
        (["A"], 1, {"top_k": 0}, ConfigError, "top_k is 0"),
        (["A"], 3, {"rules": Rules(template="NN")}, ConfigError, "2 letters for 3"),
    ],
)
def test_impossible_requests_are_refused(
    model: HyenaForCausalLM, prompts: list[str], n: int, settings: dict[str, Any], error: type[Exception], words: str
) -> None:  # fmt: skip
    with pytest.raises(error, match=words):
        list(generate(model, prompts, n, **settings))


def test_impossible_rules_are_refused() -> None:
    for rules in ({"gc": (0.6, 0.4)}, {"gc": (float("nan"), 1)}, {"forbidden": ("",)}, {"forbidden": ("AN",)}, {"template": "AX"}):  # fmt: skip
        with pytest.raises(ConfigError):
            Rules(**rules)  # type: ignore[arg-type]
