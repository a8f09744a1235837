"""Chunked = whole: where the context of a window covers all that the model can see, windows change nothing."""

import copy

import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM, score_sequences
from hyenadna.models.filter import ImplicitFilter
from hyenadna.testing import random_dna

REACH = 12  # taps of the filters below; two layers see 2·(12 − 1) + 2·2 = 26 tokens back


@pytest.fixture(scope="module")
def short_sighted() -> HyenaForCausalLM:
    torch.manual_seed(0)
    config = HyenaConfig(
        d_model=16, n_layers=2, max_seq_len=1200, filter_dim=8, tie_embeddings=False
    )
    model = HyenaForCausalLM(config).double().eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(60)
    for layer in model.backbone.layers:
        implicit: ImplicitFilter = layer.mixer.filter
        whole = implicit.forward

        def cut(length: int, whole=whole) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[no-untyped-def]
            k, bias = whole(length)
            k = 5 * k.clone()
            k[..., REACH:] = 0.0
            return k, bias

        implicit.forward = cut  # type: ignore[method-assign]
    return model


def _total(model: HyenaForCausalLM, letters: str, **settings: int) -> float:
    [score] = score_sequences(model, [letters], **settings)  # type: ignore[arg-type]
    assert score.n_scored == len(letters) - 1
    return score.log_likelihood


@pytest.mark.parametrize("length", [101, 160, 999, 1200])
@pytest.mark.parametrize(("window", "stride"), [(100, 73), (64, 30), (28, 1), (100, 50)])
def test_windows_with_enough_context_equal_the_whole(
    short_sighted: HyenaForCausalLM, length: int, window: int, stride: int
) -> None:
    assert window - stride >= 27
    letters = random_dna(length, seed=length)
    whole = _total(short_sighted, letters)
    assert _total(short_sighted, letters, window=window, stride=stride) == pytest.approx(
        whole, abs=1e-8
    )


def test_control_too_little_context_is_seen(short_sighted: HyenaForCausalLM) -> None:
    letters = random_dna(999, seed=0)
    whole = _total(short_sighted, letters)
    assert abs(_total(short_sighted, letters, window=100, stride=90) - whole) > 1e-4


def test_control_a_model_that_sees_everything_does_change(short_sighted: HyenaForCausalLM) -> None:
    torch.manual_seed(0)
    model = HyenaForCausalLM(copy.deepcopy(short_sighted.config)).double().eval()
    letters = random_dna(999, seed=0)
    assert abs(_total(model, letters, window=100, stride=50) - _total(model, letters)) > 1e-8


def test_windows_of_any_size_score_every_base_once(short_sighted: HyenaForCausalLM) -> None:
    letters = random_dna(300, seed=1)
    for window, stride in ((2, 1), (3, 2), (299, 298), (300, 1), (17, 5)):
        _total(short_sighted, letters, window=window, stride=stride)
