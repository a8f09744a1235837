"""A curve over contexts: every point is about the same bases, and falls where the model reads far enough."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hyenadna.data.genome import Genome
from hyenadna.errors import ConfigError, DataError
from hyenadna.models import HyenaConfig, HyenaForCausalLM
from hyenadna.sequence import Interval
from hyenadna.tasks.markov import MarkovModel
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training import evaluate_contexts as module
from hyenadna.training.contexts_plot import plot_contexts
from hyenadna.training.evaluate import EvaluatedRegions
from hyenadna.training.evaluate_contexts import (
    choose_targets,
    compress_targets,
    default_contexts,
    evaluate_contexts,
)

PERIOD = 100
INTERVALS = (Interval("c1", 100, 4000), Interval("c2", 0, 333), Interval("c2", 1000, 3000))


def write(path: Path, letters: str) -> EvaluatedRegions:
    path.write_text(f">c\n{letters}\n")
    return EvaluatedRegions(Genome.open(path), ())


def letters(n: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), n))


@pytest.fixture
def regions(genome: Path) -> EvaluatedRegions:
    return EvaluatedRegions(Genome.open(genome), INTERVALS)


class Constant(torch.nn.Module):
    """Always the same distribution: 2, 3, 4 and 5 bits for A, C, G and T."""

    def __init__(self, max_seq_len: int = 4096) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(max_seq_len=max_seq_len, bidirectional=False)
        self.longest = 0

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        self.longest = max(self.longest, ids.shape[1])
        logits = torch.full((*ids.shape, 16), math.log(2.0**-5))
        logits[..., 7:11] = math.log(2) * torch.tensor([-2.0, -3.0, -4.0, -5.0])
        logits[..., 0] = math.log(1 - 2.0**-2 - 2.0**-3 - 2.0**-4 - 2.0**-5 - 11 * 2.0**-5)
        return logits


class Copies(Constant):
    """The base that stood a period ago, where the window reaches there."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*ids.shape, 16)
        logits[..., 7:11] = 20.0
        source = ids[:, : -PERIOD + 1].long()
        if source.shape[1]:
            logits[:, PERIOD - 1 :].scatter_(-1, source.unsqueeze(-1), 40.0)
        return logits


def test_every_context_is_about_the_same_bases(regions: EvaluatedRegions) -> None:
    # composition changes along the genome, so another set of bases would have another price
    targets = choose_targets([regions], [64, 16, 256])
    found = evaluate_contexts(Constant(), targets, batch_size=1)
    text = targets.text()
    expected = (2.0 + text).mean()
    assert [s.bits_per_base for s in found.scores] == pytest.approx([expected] * 3, rel=1e-6)
    assert [s.context for s in found.scores] == [16, 64, 256]
    assert found.n_scored == len(text)
    assert [s.gain for s in found.scores] == pytest.approx([0.0] * 3, abs=1e-9)
    shifted = targets._replace(
        blocks=[(p, Interval(b.chrom, b.start + 8, b.end + 8)) for p, b in targets.blocks]
    )
    other = evaluate_contexts(Constant(), shifted).scores[0].bits_per_base
    assert other != pytest.approx(expected, rel=1e-5)  # negative control


def test_a_model_is_read_at_the_end_of_windows_of_the_context(regions: EvaluatedRegions) -> None:
    torch.manual_seed(0)
    lm = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=66)).train()
    targets = choose_targets([regions], [16, 64], max_bases=600)
    found = evaluate_contexts(lm, targets, batch_size=1)
    assert lm.training
    lm.eval()
    for score in found.scores:
        nats, n, seen = 0.0, 0, set()
        for _, block in targets.blocks:
            for at in range(block.start, block.end):
                piece = min(score.context // 4, targets.block_len)
                end = block.start + (at - block.start) // piece * piece + piece
                codes = regions.genome.codes(Interval(block.chrom, end - score.context, at + 1))
                seen.add(len(codes) - 1)
                ids = torch.from_numpy(CharacterTokenizer().encode_codes(codes))[None]
                if codes[-1] < 4:
                    with torch.no_grad():
                        nats -= float(torch.log_softmax(lm(ids)[0, -2], -1)[int(ids[0, -1])])
                    n += 1
        assert min(seen) == score.context * 3 // 4
        assert max(seen) == score.context - 1
        assert found.n_scored == n
        assert score.bits_per_base == pytest.approx(nats / n / math.log(2), rel=1e-5)


def test_bits_fall_where_the_context_reaches_what_repeats(tmp_path: Path) -> None:
    periodic = write(tmp_path / "periodic.fa", letters(PERIOD) * 60)
    targets = choose_targets([periodic], [64, 256], max_bases=2000)
    near, far = evaluate_contexts(Copies(), targets).scores
    assert near.bits_per_base == pytest.approx(2.0, abs=1e-3)
    assert far.bits_per_base < 1e-3
    assert far.gain == pytest.approx(2.0, abs=2e-3)
    assert far.gain_error is not None
    assert far.gain_error < 1e-3
    # so does LZMA, which has to find out
    assert min(near.compressors.values()) > 1.5
    assert far.compressors["lzma letters"] < 1.0
    noise = write(tmp_path / "noise.fa", letters(6000))  # negative control
    _, far = evaluate_contexts(Copies(), choose_targets([noise], [64, 256], max_bases=2000)).scores
    assert far.bits_per_base > 2
    assert min(far.compressors.values()) > 1.9


@pytest.mark.parametrize("max_bases", [None, 5000, 600, 64, 1])
def test_windows_stay_inside_their_regions_and_blocks_apart(
    regions: EvaluatedRegions, max_bases: int | None
) -> None:
    targets = choose_targets([regions, regions], [16, 1024], max_bases=max_bases)
    longest_start = 1024 - targets.block_len
    for _, block in targets.blocks:
        assert len(block) == targets.block_len
        assert any(
            i.chrom == block.chrom and i.start <= block.start - longest_start and block.end <= i.end
            for i in INTERVALS
        )
    for part in (0, 1):
        places = sorted(b for p, b in targets.blocks if p == part)
        assert all(a.chrom != b.chrom or a.end <= b.start for a, b in itertools.pairwise(places))
    if max_bases is None:
        assert {p for p, _ in targets.blocks} == {0, 1}
        assert {b.chrom for _, b in targets.blocks} == {"c1", "c2"}
    else:
        assert targets.n_bases <= max(max_bases, 4)
    if max_bases == 600:
        assert len(targets.blocks) >= 16
        assert {b.chrom for _, b in targets.blocks} == {"c1", "c2"}


def test_n_is_context_and_never_scored(regions: EvaluatedRegions) -> None:
    # c1:301-390 is N
    whole = EvaluatedRegions(regions.genome, (Interval("c1", 0, 700),))
    targets = choose_targets([whole], [16, 128])
    starts = {block.start for _, block in targets.blocks}
    assert 320 not in starts  # all N
    assert {288, 384} <= starts  # some N
    found = evaluate_contexts(Constant(), targets)
    known = regions.genome.codes(Interval("c1", 96, 672))
    assert found.n_scored == (known < 4).sum() == len(targets.text())
    assert all(math.isfinite(s.bits_per_base) for s in found.scores)


def test_markov_models_pay_for_the_same_bases_with_all_their_context(
    regions: EvaluatedRegions,
) -> None:
    codes = regions.genome.codes(Interval("c1", 0, 12_000))
    markov = MarkovModel.fit([codes], max_order=4)
    targets = choose_targets([regions], [16, 64])
    found = evaluate_contexts(Constant(), targets, markov=markov)
    nats = sum(
        markov.score(regions.genome.codes(Interval(b.chrom, b.start - 16, b.end)), first=16).nats
        for _, b in targets.blocks
    )
    np.testing.assert_allclose(
        found.markov_bits_per_base, nats / found.n_scored / math.log(2), rtol=1e-9
    )


def test_batches_do_not_change_the_curve_and_progress_adds_up(regions: EvaluatedRegions) -> None:
    torch.manual_seed(0)
    lm = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=66))
    targets = choose_targets([regions], [16, 64])
    done: list[int] = []
    curves = []
    for window in (64, 200, 4096):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_WINDOW", window)
            curves.append(evaluate_contexts(lm, targets, batch_size=1, progress=done.append))
    assert sum(done) == 3 * 2 * targets.n_bases
    for curve in curves[1:]:
        assert [s.bits_per_base for s in curve.scores] == pytest.approx(
            [s.bits_per_base for s in curves[0].scores], rel=1e-6
        )
        assert [s.compressors for s in curve.scores] == [s.compressors for s in curves[0].scores]


def test_trained_compressor_knows_what_it_read(tmp_path: Path) -> None:
    scored = write(tmp_path / "scored.fa", letters(8000, 1))
    targets = choose_targets([scored], [64])
    same = EvaluatedRegions(scored.genome, (Interval("c", 0, 8000),))
    bits = compress_targets(targets, [same])
    assert bits["lzma packed"] == pytest.approx(2.0, abs=0.05)
    assert bits["lzma packed, trained"] < 0.1
    other = write(tmp_path / "other.fa", letters(8000, 2))
    unrelated = EvaluatedRegions(other.genome, (Interval("c", 0, 8000),))
    assert compress_targets(targets, [unrelated])["lzma packed, trained"] > 1.9  # negative control
    assert sorted(compress_targets(targets)) == [
        "bz2 letters", "bz2 packed", "lzma letters", "lzma packed",
    ]  # fmt: skip


def test_default_contexts_suit_the_model_and_the_regions() -> None:
    assert default_contexts(1026, 10**6) == (64, 256, 1024)
    assert default_contexts(1_000_002, 10**8)[-1] == 2**19
    assert default_contexts(32_770, 5000) == (64, 256, 1024)
    assert default_contexts(66, 10**6) == (64,)
    assert default_contexts(32_770, 5) == (16,)


@pytest.mark.parametrize("contexts", [[], [8], [16, 100], [64, 64], [0], [-16]])
def test_impossible_contexts_are_refused(regions: EvaluatedRegions, contexts: list[int]) -> None:
    with pytest.raises(ConfigError, match="powers of two"):
        choose_targets([regions], contexts)


def test_contexts_longer_than_the_regions_or_the_model_are_refused(
    regions: EvaluatedRegions,
) -> None:
    with pytest.raises(DataError, match="longest region has 3,900 bases"):
        choose_targets([regions], [4096])
    nothing = EvaluatedRegions(regions.genome, (Interval("c1", 300, 390),))
    with pytest.raises(DataError, match="N among them"):
        choose_targets([nothing], [16])
    with pytest.raises(ConfigError, match="at most 60"):
        evaluate_contexts(Constant(60), choose_targets([regions], [64]))


def test_picture_is_a_picture(regions: EvaluatedRegions, tmp_path: Path) -> None:
    targets = choose_targets([regions], [16, 64])
    found = evaluate_contexts(Constant(), targets, compressors=compress_targets(targets))
    plot_contexts(found, tmp_path / "x.png", title="here")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    plot_contexts(found, tmp_path / "x.svg")
    assert "three quarters" in (tmp_path / "x.svg").read_text()
