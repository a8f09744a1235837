"""Every base of a track is predicted once, from the promised context, whatever the blocks and batches."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import CharacterTokenizer, HyenaConfig, HyenaForCausalLM, score_sequences
from hyenadna.data.genome import Genome
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import ConfigError, DataError, IntervalError
from hyenadna.inference import tracks
from hyenadna.inference.tracks import TrackBlock, score_tracks
from hyenadna.sequence import Interval, reverse_complement

SIZE = 700


@pytest.fixture(scope="module")
def model() -> HyenaForCausalLM:
    torch.manual_seed(0)
    model = HyenaForCausalLM(HyenaConfig(d_model=16, n_layers=2, max_seq_len=130)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    text = "".join(random.Random(0).choices("ACGTacgt", k=SIZE))
    text = text[:300] + "N" * 7 + text[307:]
    write_twobit([("c", text), ("r", reverse_complement(text))], tmp_path / "x.2bit")
    return Genome(tmp_path / "x.2bit")


def _track(blocks: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    found = list(blocks)
    edges = [(b.interval.start, b.interval.end) for b in found]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(edges))
    return tuple(np.concatenate([getattr(b, what) for b in found]) for what in ("log_p", "entropy"))  # type: ignore[return-value]


def _direct(model: HyenaForCausalLM, letters: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:  # fmt: skip
    """Log-probabilities and entropies of the bases 1 … of one window."""
    tokenizer = CharacterTokenizer()
    ids = torch.from_numpy(tokenizer.encode(letters).astype(np.int64))
    with torch.no_grad():
        log_p = model(ids[None])[0, :-1].log_softmax(-1)
    bases = log_p[:, list(tokenizer.base_token_ids)].log_softmax(-1)
    return log_p.gather(-1, ids[1:, None])[:, 0].numpy(), -(bases.exp() * bases).sum(-1).numpy()


def test_bases_are_predicted_from_the_promised_context(model: HyenaForCausalLM, genome: Genome) -> None:  # fmt: skip
    log_p, entropy = _track(score_tracks(model, genome, [Interval("c", 0, SIZE)], window=100, context=60))  # fmt: skip
    assert len(log_p) == SIZE
    letters = genome.sequence(Interval("c", 0, SIZE))
    for start in range(0, SIZE, 40):  # blocks of 100 − 60
        low, end = max(0, start - 60), min(start + 40, SIZE)
        one, other = _direct(model, letters[low:end])
        real = np.array([letter in "ACGTacgt" for letter in letters[start:end]])
        where = slice(max(start, 1) - low - 1, None)
        offset = 1 if start == 0 else 0
        np.testing.assert_allclose(log_p[start + offset : end][real[offset:]], one[where][real[offset:]], atol=1e-5)  # fmt: skip
        np.testing.assert_allclose(entropy[start + offset : end], other[where], atol=1e-5)
    assert np.flatnonzero(np.isnan(log_p)).tolist() == [0, *range(300, 307)]
    assert np.flatnonzero(np.isnan(entropy)).tolist() == [0]
    assert entropy[1:].max() <= math.log(4) + 1e-6


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 3}, {"batch_size": 7}])
def test_batches_do_not_matter(model: HyenaForCausalLM, genome: Genome, settings: dict[str, Any]) -> None:  # fmt: skip
    spans = [Interval("c", 17, 500), Interval("r", 0, 30), Interval("r", 200, SIZE)]
    usual, other = (
        list(score_tracks(model, genome, spans, rc=True, window=100, **more))
        for more in ({}, settings)
    )
    assert [b.interval for b in usual] == [b.interval for b in other]
    for one, two in zip(usual, other, strict=True):
        np.testing.assert_allclose(one.log_p, two.log_p, atol=1e-6)
        np.testing.assert_allclose(one.entropy, two.entropy, atol=1e-6)


def test_both_strands_are_matched_base_by_base(model: HyenaForCausalLM, genome: Genome) -> None:
    # One block, which the windows of both strands hold whole, with context from either side.
    block = Interval("c", 400, 440)
    (both,) = score_tracks(model, genome, [block], rc=True, window=100, context=60)
    before = genome.sequence(Interval("c", 340, 440))
    after = reverse_complement(genome.sequence(Interval("c", 400, 500)))
    forward, backward = _direct(model, before)[0][59:], _direct(model, after)[0][59:][::-1]
    np.testing.assert_allclose(both.log_p, (forward + backward) / 2, atol=1e-5)
    assert np.abs(forward - backward).max() > 0.1
    # The mirrored block of the mirrored contig is the same.
    (mirrored,) = score_tracks(model, genome, [Interval("r", SIZE - 440, SIZE - 400)], rc=True, window=100, context=60)  # fmt: skip
    np.testing.assert_allclose(mirrored.log_p, both.log_p[::-1], atol=1e-5)
    np.testing.assert_allclose(mirrored.entropy, both.entropy[::-1], atol=1e-5)
    whole = _track(score_tracks(model, genome, [Interval("c", 0, SIZE)], rc=True, window=100))[0]
    assert np.flatnonzero(np.isnan(whole)).tolist() == list(range(300, 307))  # ends have one strand


def test_the_sum_of_a_window_is_its_score(model: HyenaForCausalLM, genome: Genome) -> None:
    span = Interval("c", 0, 120)
    log_p, _ = _track(score_tracks(model, genome, [span], window=128, context=5))
    (score,) = score_sequences(model, [genome.sequence(span)])
    assert np.nansum(log_p) == pytest.approx(score.log_likelihood, abs=1e-3)


@pytest.mark.parametrize("rc", [False, True])
@pytest.mark.parametrize("context", [5, 50, 93])
def test_blocks_do_not_matter(model: HyenaForCausalLM, genome: Genome, rc: bool, context: int, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    # Near both ends of the contig, where several windows have less context, and in its middle.
    span = Interval("c", 3, SIZE - 2)
    whole, other = [], []
    for size, found in ((1 << 16, whole), (1, other)):
        monkeypatch.setattr(tracks, "_BLOCK", size)
        blocks = list(score_tracks(model, genome, [span], rc=rc, window=100, context=context))
        found += _track(blocks)
    assert len(blocks) == -(-(SIZE - 5) // (100 - context))
    for one, two in zip(whole, other, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_entropies_are_left_out_where_nobody_asks(model: HyenaForCausalLM, genome: Genome) -> None:
    span = [Interval("c", 0, SIZE)]
    with_them, without = (next(score_tracks(model, genome, span, rc=True, entropy=e)) for e in (True, False))  # fmt: skip
    assert without.entropy is None
    assert with_them.entropy is not None
    np.testing.assert_array_equal(with_them.log_p, without.log_p)


def test_blocks_come_lazily(model: HyenaForCausalLM, genome: Genome) -> None:
    done: list[int] = []
    stream = score_tracks(model, genome, iter([Interval("c", 0, SIZE)] * 10**6), batch_size=1, progress=done.append)  # fmt: skip
    assert isinstance(next(stream), TrackBlock)
    assert sum(done) == SIZE  # one block


def test_what_cannot_be_scored_is_refused(model: HyenaForCausalLM, genome: Genome) -> None:
    span = [Interval("c", 0, 9)]
    for settings in ({"window": 131}, {"window": 1}, {"context": 130}, {"context": 0}, {"batch_size": 0}):  # fmt: skip
        with pytest.raises(ConfigError):
            list(score_tracks(model, genome, span, **settings))  # type: ignore[arg-type]
    with pytest.raises(IntervalError):
        list(score_tracks(model, genome, [Interval("c", 0, SIZE + 1)]))
    broken = HyenaForCausalLM(model.config)
    with torch.no_grad():
        broken.lm_head.weight[0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        list(score_tracks(broken, genome, span))
