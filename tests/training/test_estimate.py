from __future__ import annotations

from typing import Any

import pytest
import torch

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig, HyenaForCausalLM, build_mixer, language_model
from hyenadna.training.config import DataConfig, PretrainConfig, PretrainTrainerConfig
from hyenadna.training.estimate import (
    _half_mixer,
    estimate,
    half_precision_bytes,
    kept_bytes,
    plain_bytes,
)
from hyenadna.training.step_benchmark import StepShape, measure_step, reference_logits

TINY = HyenaConfig(d_model=32, n_layers=2, max_seq_len=514)
OTHERS = {
    "attention": {"mixers": "attention"},
    "conv": {"mixers": "conv"},
    "heads": {"hyena_heads": 8},
    "hybrid": {"mixers": ["hyena", "attention"]},
    "two-sided": {"bidirectional": True},
    "equivariant": {"bidirectional": True, "equivariant": True},
}


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


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_what_other_mixers_keep_is_counted_without_numbers(changes: dict[str, Any]) -> None:
    """Attention, too: on the meta device torch itself would choose a form that keeps (length × length) numbers."""
    model = HyenaConfig.from_dict(TINY.to_dict() | changes)
    counted, kept = (kept_bytes(model, 4, 512, device) for device in ("meta", "cpu"))
    assert counted == pytest.approx(kept, rel=0.15)
    assert kept_bytes(model, 4, 256, "meta") == pytest.approx(kept / 2, rel=0.05)


@pytest.mark.parametrize(("kind", "heads"), [("attention", None), ("conv", None), ("hyena", 8)])
def test_what_mixers_keep_in_half_precision_is_what_autograd_keeps(
    kind: str, heads: int | None
) -> None:
    model = HyenaConfig(d_model=32, n_layers=1, mixers=kind, hyena_heads=heads, max_seq_len=514)
    mixer, norm = build_mixer(kind, model), torch.nn.LayerNorm(32)
    own = {p.untyped_storage()._cdata for p in (*mixer.parameters(), *mixer.buffers(), *norm.parameters())}  # fmt: skip
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        signal = tensor.dim() > 2 or tensor.shape[0] == 2 * 512
        # What a long convolution in torch keeps, complex and float32, is aside.
        if storage._cdata not in own and signal and tensor.dtype == torch.bfloat16:
            found[storage._cdata] = storage
        return tensor

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):  # fmt: skip
        y = mixer(norm(torch.randn(2, 512, 32, requires_grad=True)))
    del y
    kept = sum(storage.nbytes() for storage in found.values())
    if heads is not None:  # a GPU's kernel keeps its signals and filters
        kept += 2 * (2 * 512 * 32) * model.hyena_head_dim + 4 * 512 * heads
    assert _half_mixer(model, kind, 2, 512).kept == pytest.approx(kept, rel=0.15)


def test_an_estimate_depends_on_the_mixers() -> None:
    gpu = {
        name: half_precision_bytes(HyenaConfig.from_dict(TINY.to_dict() | changes), 64, 512, 1000)
        for name, changes in OTHERS.items()
    }
    hyena = half_precision_bytes(TINY, 64, 512, 1000)
    assert hyena < gpu["hybrid"] < gpu["attention"] < gpu["heads"]
    assert hyena < gpu["conv"] < gpu["attention"]
    assert hyena < gpu["two-sided"]
    attention = HyenaConfig.from_dict(TINY.to_dict() | OTHERS["attention"])
    assert estimate(_settings(), attention).n_parameters < estimate(_settings(), TINY).n_parameters


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


@pytest.mark.gpu
@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_the_prediction_of_other_mixers_is_near_the_measurement(changes: dict[str, Any]) -> None:
    shape = {"d_model": 256, "n_layers": 4, "max_seq_len": 8194, "embed_dropout": 0.0}
    model = HyenaConfig.from_dict(shape | changes | ({"hyena_heads": 64} if "hyena_heads" in changes else {}))  # fmt: skip
    step = StepShape(model, 8, 8192, False)
    measured = measure_step(step, torch.bfloat16, torch.device("cuda"), repeats=1).peak_bytes
    predicted = half_precision_bytes(model, 8, 8192, 3_277_568)
    assert measured is not None
    assert 0.67 * measured < predicted < 1.5 * measured, (predicted / 2**30, measured / 2**30)


@pytest.mark.parametrize("changes", [*OTHERS.values(), {"hyena_order": 3}], ids=str)
def test_other_models_are_not_held_against_the_published_arithmetic(
    changes: dict[str, Any],
) -> None:
    model = language_model(HyenaConfig.from_dict(TINY.to_dict() | changes))
    with pytest.raises(ConfigError, match="plain, causal Hyena layers of order 2"):
        reference_logits(model, torch.full((1, 8), 7))
