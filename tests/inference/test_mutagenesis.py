"""Every effect is the score of its variant; gradients are the first order of the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM, score_variants
from hyenadna.data.genome import Genome
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import ConfigError, DataError, IntervalError
from hyenadna.inference.mutagenesis import Mutagenesis, mutate_region
from hyenadna.inference.mutagenesis_plot import plot_mutagenesis
from hyenadna.sequence import Interval, reverse_complement


@pytest.fixture(scope="module")
def model() -> HyenaForCausalLM:
    torch.manual_seed(0)
    model = HyenaForCausalLM(HyenaConfig(d_model=16, n_layers=2, max_seq_len=130)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "filter" not in name:
                parameter.mul_(2)
    return model


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    text = "".join(random.Random(0).choices("ACGT", k=600))
    text = text[:300] + "N" + text[301:]
    write_twobit([("c", text), ("r", reverse_complement(text))], tmp_path / "x.2bit")
    return Genome(tmp_path / "x.2bit")


@pytest.mark.parametrize("rc", [True, False])
@pytest.mark.parametrize("start", [0, 295, 590])
def test_effects_are_the_scores_of_the_variants(
    model: HyenaForCausalLM, genome: Genome, start: int, rc: bool
) -> None:
    region = Interval("c", start, start + 10)
    found = mutate_region(model, genome, region, deletions=True, rc=rc)
    assert found.letters == genome.sequence(region)
    for at, letter in enumerate(found.letters):
        place = start + at + 1
        if letter == "N":
            assert np.isnan(found.llr[at]).all()
            assert np.isnan(found.deletion[at])
            continue
        texts = [f"c:{place}:{letter}>{other}" for other in "ACGT"]
        expected = [s.llr for s in score_variants(model, texts, genome, rc=rc)]
        np.testing.assert_allclose(found.llr[at], expected, atol=1e-6)
        if place > 1 and found.letters[at - 1] != "N":
            before = genome.sequence(Interval("c", place - 2, place - 1))
            (score,) = score_variants(model, [f"c:{place - 1}:{before}{letter}>{before}"], genome, rc=rc)  # fmt: skip
            assert found.deletion[at] == pytest.approx(score.llr, abs=1e-6, nan_ok=True)
        assert found.importance[at] == pytest.approx(-sum(expected) / 3, abs=1e-6)


def test_a_region_and_its_reverse_complement_have_the_same_effects(
    model: HyenaForCausalLM, genome: Genome
) -> None:
    for method in ("exact", "gradient"):
        one = mutate_region(model, genome, Interval("c", 100, 140), method=method)  # type: ignore[arg-type]
        other = mutate_region(model, genome, Interval("r", 460, 500), method=method)  # type: ignore[arg-type]
        np.testing.assert_allclose(one.llr, other.llr[::-1, ::-1], atol=1e-5)


def test_a_radius_sums_to_it_only(model: HyenaForCausalLM, genome: Genome) -> None:
    region = Interval("c", 100, 104)
    near = mutate_region(model, genome, region, radius=0, rc=False)
    texts = [f"c:{101 + at}:{letter}>{other}" for at, letter in enumerate(near.letters) for other in "ACGT"]  # fmt: skip
    expected = [s.llr_local for s in score_variants(model, texts, genome, radius=0, rc=False)]
    np.testing.assert_allclose(near.llr.ravel(), expected, atol=1e-6)
    assert np.abs(near.llr - mutate_region(model, genome, region, rc=False).llr).max() > 1e-3


def test_gradients_are_the_first_order(model: HyenaForCausalLM, genome: Genome) -> None:
    region = Interval("c", 60, 260)  # more than one window
    exact = mutate_region(model, genome, region, window=128).llr
    quick = mutate_region(model, genome, region, window=128, method="gradient").llr
    other = exact != 0
    assert np.corrcoef(exact[other], quick[other])[0, 1] > 0.8
    # With embeddings that hardly differ, first order is all there is; a base's own probability is exact in both.
    small = HyenaForCausalLM(model.config).eval()
    small.load_state_dict(model.state_dict())
    small.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    with torch.no_grad():
        table = small.backbone.embedding.weight
        table.copy_(table.mean(0) + 1e-3 * (table - table.mean(0)))
    for start in (100, 120, 250, 401):  # one base: both forms read the same window
        exact, quick = (
            mutate_region(small, genome, Interval("c", start, start + 1), window=128, rc=False, method=method).llr  # type: ignore[arg-type]
            for method in ("exact", "gradient")
        )  # fmt: skip
        np.testing.assert_allclose(quick, exact, atol=5e-3 * np.abs(exact).max())


def test_the_model_is_left_as_it_was(model: HyenaForCausalLM, genome: Genome) -> None:
    model.train()
    mutate_region(model, genome, Interval("c", 5, 9), method="gradient")
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.backbone.embedding._forward_hooks
    model.eval()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "guess"}, "exact or gradient"),
        ({"method": "gradient", "deletions": True}, "are of method 'exact'"),
        ({"method": "gradient", "radius": 3}, "are of method 'exact'"),
        ({"window": 200}, "4 to 130"),
    ],
)
def test_impossible_settings_are_refused(
    model: HyenaForCausalLM, genome: Genome, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        mutate_region(model, genome, Interval("c", 5, 9), **settings)
    with pytest.raises(IntervalError):
        mutate_region(model, genome, Interval("c", 599, 602))
    with pytest.raises(DataError, match="none of the 1 bases of c:301-301"):
        mutate_region(model, genome, Interval("c", 300, 301))


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_drawn_also_of_ambiguous_bases(tmp_path: Path, suffix: str) -> None:
    llr = np.array([[0, -1, 2, -0.5], [np.nan] * 4, [-1, -1, -1, 0.0]])
    found = Mutagenesis(Interval("c", 7, 10), "ANT", llr, np.full(3, np.nan))
    np.testing.assert_allclose(found.importance, [-1 / 6, np.nan, 1])
    path = tmp_path / f"x{suffix}"
    plot_mutagenesis([found], path)
    head = path.read_bytes()[:200]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<svg" in path.read_bytes()
