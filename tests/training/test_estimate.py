from __future__ import annotations

import pytest
import torch

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig
from hyenadna.training.config import DataConfig, PretrainConfig, PretrainTrainerConfig
from hyenadna.training.estimate import (
    estimate,
    half_precision_bytes,
    kept_bytes,
    plain_bytes,
)
from hyenadna.training.step_benchmark import StepShape, measure_step

TINY = HyenaConfig(d_model=32, n_layers=2, max_seq_len=514)


def _settings(**data: int) -> PretrainConfig:
    shape = {"seq_len": 512, "global_batch_size": 8} | data
    return PretrainConfig(
        data=DataConfig(fasta="bundled:scerevisiae", **shape),
        trainer=PretrainTrainerConfig(accelerator="cpu"),
    )


def test_what_is_counted_without_numbers_is_what_is_kept() -> None:
    counted, kept = (kept_bytes(TINY, 4, 512, device) for device in ("meta", "cpu"))
    # A CPU's own linear layers and short convolutions keep a little less or more than torch's.
    assert counted == pytest.approx(kept, rel=0.15)
    assert kept > 4 * 512 * 32 * 4 * 10


def test_recomputed_blocks_keep_less() -> None:
    saving = HyenaConfig.from_dict(TINY.to_dict() | {"activation_checkpointing": True})
    assert kept_bytes(saving, 4, 512, "cpu") < 0.5 * kept_bytes(TINY, 4, 512, "cpu")
    assert half_precision_bytes(saving, 4, 512, 1000) < half_precision_bytes(TINY, 4, 512, 1000)


@pytest.mark.parametrize("predict", [half_precision_bytes, plain_bytes])
def test_memory_grows_with_the_batch_and_the_length(predict: object) -> None:
    assert callable(predict)
    one, more, longer = (
        predict(TINY, b, n, 1000) for b, n in ((4096, 512), (8192, 512), (8192, 514))
    )
    assert 1.8 * one < more < 2.1 * one
    assert longer > more


def test_an_estimate_knows_the_run() -> None:
    found = estimate(_settings(micro_batch_size=2), TINY)
    assert (found.tokens_per_step, found.micro_batch, found.seq_len) == (8 * 512, 2, 512)
    from hyenadna.models import HyenaForCausalLM

    assert found.n_parameters == HyenaForCausalLM(TINY).n_parameters()
    assert found.gpu_bytes < estimate(_settings(), TINY).gpu_bytes


def test_windows_beyond_the_model_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"seq_len=600 exceeds the model's max_seq_len of 514"):
        estimate(_settings(seq_len=600), TINY)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "batch", "length", "recompute"),
    [
        ("tiny-1k", 256, 1024, False),
        ("small-32k", 8, 32_768, False),
        ("medium-160k", 1, 160_000, False),
        ("medium-450k", 1, 450_000, True),
    ],
)
def test_the_prediction_is_within_a_fifth_of_the_measurement(
    name: str, batch: int, length: int, recompute: bool
) -> None:
    model = HyenaConfig.from_dict(HyenaConfig.named(name).to_dict() | {"activation_checkpointing": recompute, "embed_dropout": 0.0})  # fmt: skip
    shape = StepShape(model, batch, length, recompute)
    measured = measure_step(shape, torch.bfloat16, torch.device("cuda"), repeats=1).peak_bytes
    predicted = half_precision_bytes(model, batch, length, 6_550_528)
    assert measured is not None
    assert 0.8 * measured < predicted < 1.2 * measured, (predicted / 2**30, measured / 2**30)
