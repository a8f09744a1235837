"""Measuring a whole training step: the model's forward pass, its gradients, and the optimizer, in tokens per second.

The reference beside it is the arithmetic of the published stand-alone HyenaDNA code in plain torch, with the same weights: channels last, a
transposed copy, torch's depthwise convolution, real FFTs of twice the length, filters evaluated in every pass. It is also the gate: logits and
gradients that differ get no speed.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch.nn.functional import conv1d, embedding, gelu, layer_norm, linear

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig, HyenaForCausalLM, HyenaForMaskedLM, language_model
from hyenadna.models.equivariant import affine
from hyenadna.models.filter import ImplicitFilter
from hyenadna.models.hyena import HyenaBlock, HyenaOperator
from hyenadna.tasks.causal_lm import next_base_loss
from hyenadna.training.config import OptimizerConfig
from hyenadna.training.optim import build_optimizer, parameter_groups
from hyenadna.training.recorded import RecordedPass

__all__ = ["PARTS", "TOLERANCES", "StepShape", "StepTiming", "check_step", "measure_reference", "measure_step", "reference_logits"]  # fmt: skip

PARTS = ("forward", "forward_backward", "step")
# Relative L2 errors of the logits, and of all gradients together, against the reference in float32.
TOLERANCES = {torch.float32: (1e-4, 1e-3), torch.bfloat16: (3e-2, 6e-2)}

LanguageModel = HyenaForCausalLM | HyenaForMaskedLM
Logits = Callable[[LanguageModel, torch.Tensor], torch.Tensor]


class StepShape(NamedTuple):
    """What one row of the benchmark is about: a model, B sequences of L tokens, and whether blocks are recomputed in the backward pass."""

    model: HyenaConfig
    B: int
    L: int
    checkpointing: bool = False


class StepTiming(NamedTuple):
    """Median milliseconds of each of `PARTS`, and the peak memory on a GPU, bytes."""

    milliseconds: dict[str, float]
    peak_bytes: int | None

    def tokens_per_s(self, part: str, shape: StepShape) -> float:
        """Return B·L over the time of a part."""
        return 1e3 * shape.B * shape.L / self.milliseconds[part]


def reference_logits(model: LanguageModel, token_ids: torch.Tensor) -> torch.Tensor:
    """Compute the logits (B, L, V) of a model of order 2, without dropout, by the published code's operations.

    Raises
    ------
    ConfigError
        The model has other mixers, which the published code has not.
    """
    backbone, config = model.backbone, model.config
    plain = config.mixers == "hyena" and config.hyena_head_dim == 1 and config.hyena_order == 2
    if not plain or config.bidirectional:
        raise ConfigError(
            "the published code's arithmetic is that of plain, causal Hyena layers of order 2"
        )
    x = embedding(token_ids.long(), backbone.embedding.weight)
    for layer in backbone.layers:
        block = cast(HyenaBlock, layer)
        x = x + _reference_mixer(block, _norm(x, block.norm1))
        hidden = gelu(
            linear(_norm(x, block.norm2), *affine(block.mlp.fc1)),
            approximate="tanh",
        )
        x = x + linear(hidden, *affine(block.mlp.fc2))
    return linear(_norm(x, backbone.final_norm), model.lm_head.weight)


def _norm(x: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _reference_mixer(block: HyenaBlock, x: torch.Tensor) -> torch.Tensor:
    mixer, length = cast(HyenaOperator, block.mixer), x.shape[1]
    projected = linear(x, *affine(mixer.in_proj)).transpose(1, 2)
    short = mixer.short_conv
    padding = short.kernel_size[0] - 1
    smooth = conv1d(projected, short.weight, short.bias, padding=padding, groups=short.groups)
    x0, x1, v = smooth[..., :length].chunk(3, dim=1)
    k = _reference_filter(mixer.filter, length)
    w = v * x1
    spectrum = torch.fft.rfft(k, n=2 * length) / (2 * length)
    product = torch.fft.rfft(w.float(), n=2 * length) * spectrum
    y = torch.fft.irfft(product, n=2 * length, norm="forward")[..., :length]
    y = (y + w * mixer.filter.bias[:, None]).to(w.dtype) * x0
    return linear(y.transpose(1, 2), *affine(mixer.out_proj))


def _reference_filter(module: ImplicitFilter, length: int) -> torch.Tensor:
    with torch.autocast(module.freq.device.type, enabled=False):
        *hidden, out = cast(list[torch.nn.Linear], list(module.linears))
        h = module._features(length)
        for one in hidden:
            h = torch.sin(module.freq * linear(h, one.weight, one.bias))
        t = torch.arange(length, device=h.device) / (module.grid_len - 1)
        window = torch.exp(-t[:, None] * module.decay.abs()) + module.shift
        return (linear(h, out.weight) * window).T


def own_logits(model: LanguageModel, token_ids: torch.Tensor) -> torch.Tensor:
    """Compute the logits as the package does."""
    return cast(torch.Tensor, model(token_ids))


def draw(shape: StepShape, device: torch.device) -> tuple[LanguageModel, torch.Tensor]:
    """Make a model with random weights, without dropout, and random bases (B, L)."""
    torch.manual_seed(0)
    changes = {"embed_dropout": 0.0, "resid_dropout": 0.0, "activation_checkpointing": shape.checkpointing}  # fmt: skip
    config = HyenaConfig.from_dict(shape.model.to_dict() | changes)
    model = language_model(config).to(device)
    return model, torch.randint(7, 11, (shape.B, shape.L), device=device)


def check_step(
    shape: StepShape, dtype: torch.dtype, device: torch.device
) -> tuple[float, float, bool]:
    """Compare logits and gradients with the reference in float32, on at most 2 sequences of 4,096 tokens.

    Returns
    -------
    tuple of float, float, bool
        Relative L2 errors of the logits and of all gradients together, and whether both are within `TOLERANCES`.
    """
    small = shape._replace(B=min(shape.B, 2), L=min(shape.L, 4096))
    model, ids = draw(small, device)
    expected = _gradients(reference_logits, model, ids, torch.float32)
    found = _gradients(own_logits, model, ids, dtype)
    errors = [_relative(found[:1], expected[:1]), _relative(found[1:], expected[1:])]
    good = all(error <= most for error, most in zip(errors, TOLERANCES[dtype], strict=True))
    return errors[0], errors[1], good


def _gradients(
    logits: Logits, model: LanguageModel, ids: torch.Tensor, dtype: torch.dtype
) -> list[torch.Tensor]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    with _precision(dtype, ids.device):
        found = logits(model, ids)
        loss = next_base_loss(found, ids)
    gradients = torch.autograd.grad(loss.weighted / loss.weight, parameters)
    return [found.detach().float(), *gradients]


def _relative(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    norm = torch.stack([t.norm() for t in expected]).norm()
    difference = [(a - b).norm() for a, b in zip(found, expected, strict=True)]
    return float(torch.stack(difference).norm() / norm)


def measure_step(
    shape: StepShape,
    dtype: torch.dtype,
    device: torch.device,
    *,
    repeats: int,
    logits: Logits = own_logits,
) -> StepTiming:
    """Time the parts of a step: logits without gradients, loss with all gradients, and the same with an AdamW update."""
    model, ids = draw(shape, device)
    config = OptimizerConfig()
    optimizer = build_optimizer(parameter_groups(model, config), config)

    def forward() -> None:
        with torch.no_grad(), _precision(dtype, device):
            logits(model, ids)

    def loss_backward(token_ids: torch.Tensor) -> tuple[torch.Tensor]:
        with _precision(dtype, device):
            loss = next_base_loss(logits(model, token_ids), token_ids)
        (loss.weighted / loss.weight).backward()  # type: ignore[no-untyped-call]
        return (loss.nats,)

    # As pretraining does it; the reference as its users do.
    record = device.type == "cuda" and logits is own_logits and not shape.checkpointing
    compute: Callable[[torch.Tensor], object] = loss_backward

    def without_update() -> None:
        compute(ids)
        optimizer.zero_grad(set_to_none=not record)

    def step() -> None:
        compute(ids)
        optimizer.step()
        optimizer.zero_grad(set_to_none=not record)

    model.eval()
    times = {"forward": _median_ms(forward, device, repeats)}
    model.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if record:
        compute = RecordedPass(loss_backward, [ids], list(model.parameters()))
    times["forward_backward"] = _median_ms(without_update, device, repeats)
    times["step"] = _median_ms(step, device, repeats)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return StepTiming(times, peak)


def measure_reference(
    shape: StepShape, dtype: torch.dtype, device: torch.device, *, repeats: int
) -> StepTiming:
    """Time the reference; on a CPU in float32 and in a process of its own, as its users run it, for this one may keep freed memory."""
    if device.type != "cpu":
        return measure_step(shape, dtype, device, repeats=repeats, logits=reference_logits)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_reference, (shape, repeats, torch.get_num_threads()))


def _reference(shape: StepShape, repeats: int, threads: int) -> StepTiming:
    torch.set_num_threads(threads)
    cpu = torch.device("cpu")
    return measure_step(shape, torch.float32, cpu, repeats=repeats, logits=reference_logits)


def _precision(
    dtype: torch.dtype, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype, cache_enabled=device.type == "cpu")


def _median_ms(call: Callable[[], None], device: torch.device, repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
