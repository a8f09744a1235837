"""Sequences that share a beginning with others: their states are those of whole passes, and nothing before the fork is computed twice."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import CharacterTokenizer, HyenaConfig, HyenaForCausalLM, Variant
from hyenadna.inference import window_ratios
from hyenadna.inference.branches import branch_states
from hyenadna.inference.comparison import Question
from hyenadna.inference.variant_windows import AlleleWindows, WindowCutter
from hyenadna.inference.window_ratios import WindowRatios
from hyenadna.testing import random_dna

SMALL = HyenaConfig(d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, attention_heads=4)
KINDS: dict[str, dict[str, Any]] = {
    "hyena": {},
    "hyena of order 3": {"hyena_order": 3},
    "hyena of order 4, even taps": {"hyena_order": 4, "short_kernel_size": 4},
    "hyena with heads": {"hyena_heads": 4},
    "attention": {"mixers": "attention"},
    "conv": {"mixers": "conv", "conv_kernel_size": 15},
    "hybrid": {"mixers": ("hyena", "conv", "attention", "hyena"), "n_layers": 4},
}
LENGTH = 100


def _model(dtype: torch.dtype = torch.float64, **changes: Any) -> HyenaForCausalLM:
    torch.manual_seed(0)
    model = HyenaForCausalLM(dataclasses.replace(SMALL, **changes))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.to(dtype).eval()


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("start", [0, 1, 2, 37, 64, LENGTH - 1])
def test_branches_have_the_states_of_whole_passes(changes: dict[str, Any], start: int) -> None:
    backbone = _model(**changes).backbone
    generator = torch.Generator().manual_seed(start)
    trunks = torch.randint(7, 11, (3, LENGTH), generator=generator)
    ends = torch.randint(7, 11, (4, LENGTH - start), generator=generator)
    of = torch.tensor([0, 2, 2, 1])
    whole = torch.cat([trunks[of][:, :start], ends], dim=1)
    with torch.inference_mode():
        found, branched = branch_states(backbone, trunks, ends, of, start)
        torch.testing.assert_close(found, backbone(trunks)[:, start:], rtol=0, atol=1e-12)
        torch.testing.assert_close(branched, backbone(whole)[:, start:], rtol=0, atol=1e-12)
        if start > 1:  # of another trunk they would have other states
            _, wrong = branch_states(backbone, trunks, ends, of.roll(1), start)
            assert (wrong - branched).abs().max() > 1e-3


class _Genome:
    """One contig."""

    def __init__(self, letters: str) -> None:
        self.letters = letters
        self.contigs = {"c": len(letters)}

    def sequence(self, interval: Any) -> str:
        return self.letters[interval.start : interval.end]


def _questions(comparison: WindowRatios, variants: list[str], genome: _Genome) -> list[Question]:
    cutter = WindowCutter(genome, comparison.tokenizer, window=96, n_strands=2, of_one_length=False)  # type: ignore[arg-type]
    questions = []
    for text in variants:
        cut = cutter.cut(Variant.parse(text))
        assert isinstance(cut, list)
        questions += [Question(text, windows, comparison.reads(windows)) for windows in cut]
    return questions


@pytest.mark.parametrize("batch_size", [1, 2, "auto"])
@pytest.mark.parametrize("changes", [{}, {"mixers": "attention"}])
def test_ratios_from_the_fork_are_those_of_whole_windows(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], batch_size: Any
) -> None:
    genome = _Genome(random_dna(400, seed=3))
    at = {n: genome.letters[n - 1] for n in (5, 150, 200, 201, 390)}
    other = {n: "ACGT"[("ACGT".index(letter) + 1) % 4] for n, letter in at.items()}
    third = "ACGT"[("ACGT".index(at[200]) + 2) % 4]
    variants = [
        f"c:200:{at[200]}>{other[200]}", f"c:200:{at[200]}>{third}", f"c:200:{at[200]}>{at[200]}",
        f"c:201:{at[201]}>{at[201]}GGTA", f"c:150:{genome.letters[149:153]}>{at[150]}", f"c:200:{at[200]}>{at[200]}T",
        f"c:5:{at[5]}>{other[5]}", f"c:390:{at[390]}>{other[390]}",
    ]  # fmt: skip
    comparison = WindowRatios(_model(**changes), CharacterTokenizer(), window=96, radius=20, batch_size=batch_size)  # fmt: skip
    questions = _questions(comparison, variants, genome)
    assert len({len(q) for q in questions}) == 1
    with torch.inference_mode():
        (found,) = comparison.forward(questions)
        monkeypatch.setattr(WindowRatios, "forks", False)  # whole windows, as on a GPU
        (whole,) = comparison.forward(questions)
    np.testing.assert_allclose(found, whole, atol=1e-9)
    same = [q.owner == variants[2] for q in questions]
    assert (found[same] == 0).all()
    assert (found[~np.array(same)].abs().amin(dim=1) > 1e-6).all()


def test_what_lies_before_the_fork_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    genome = _Genome(random_dna(400, seed=3))
    letter = genome.letters[199]
    others = [x for x in "ACGT" if x != letter]
    comparison = WindowRatios(_model(), CharacterTokenizer(), window=96, radius=20, batch_size="auto")  # fmt: skip
    questions = _questions(comparison, [f"c:200:{letter}>{x}" for x in others], genome)
    shapes = []

    def spied(backbone: Any, trunks: Any, ends: Any, of: Any, start: int) -> Any:
        shapes.append((tuple(trunks.shape), tuple(ends.shape), start))
        return branch_states(backbone, trunks, ends, of, start)

    monkeypatch.setattr(window_ratios, "branch_states", spied)
    with torch.inference_mode():
        comparison.forward(questions)
    first = min(q.windows.first for q in questions)
    start = (first - 1) // 32 * 32
    assert start > 0
    assert shapes == [((2, 96), (6, 96 - start), start)]  # both strands; three alleles each


def test_a_window_with_another_beginning_is_no_branch() -> None:
    """A negative control: were alleles to differ before the fork, the numbers would be wrong, and these tests would see it."""
    comparison = WindowRatios(_model(), CharacterTokenizer(), window=96, radius=20, batch_size="auto")  # fmt: skip
    ids = CharacterTokenizer().encode(random_dna(96, seed=1))
    other = ids.copy()
    other[10] = ids[10] % 4 + 7 if ids[10] % 4 + 7 != ids[10] else 7 + (ids[10] - 6) % 4
    windows = AlleleWindows(ids.tobytes(), other.tobytes(), 60, 60, 60, 61)  # says 60, is 10
    question = Question("x", windows, comparison.reads(windows))
    stack = comparison.stack([question])
    with torch.inference_mode():
        log_p, _ = comparison._ask_from(32, stack)
        whole, _ = comparison.ask(stack, lambda part: comparison._log_p(stack.token_ids[part]))
    assert (log_p[1, 60:] - whole[1, 60:]).abs().max() > 1e-6
