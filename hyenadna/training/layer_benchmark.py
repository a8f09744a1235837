"""Measuring whole layers, Hyena beside attention: is each right, and how long does it take.

A layer is the first half of a block, x + mixer(norm(x)): of Hyena the projections, short convolutions, the filter (evaluated in every call, as in training), gates, the
long convolution and the output projection; of attention the projections, rotary positions, causal softmax attention and the output projection. Both run as models run them.

The one idea to know: no float64 layer of a million positions and 768 channels fits anywhere, so three comparisons stand for it (`check_layer`).
"""

from __future__ import annotations

import contextlib
import copy
from typing import NamedTuple, cast

import torch
from torch import nn
from torch.nn.functional import layer_norm, linear, pad

from hyenadna.models import HyenaConfig
from hyenadna.models.equivariant import affine
from hyenadna.models.filter import ImplicitFilter, positional_features
from hyenadna.models.hyena import HyenaBlock, HyenaOperator
from hyenadna.models.mixers import Attention, build_mixer
from hyenadna.ops.bench import (  # fmt: skip
    Function,
    InputSet,
    Shape,
    Timing,
    input_sets,
    measure,
    measure_on_kernel,
)

__all__ = ["HEAD_DIM", "LAYERS", "NAMES", "TOLERANCES", "LayerCheck", "build_layer", "check_layer", "checked_shape", "measure_layer"]  # fmt: skip

LAYERS = ("hyena", "attention")
HEAD_DIM = 64
NAMES = ("y", "dx", "weights")
# Relative L2 errors of what the mixer adds to x, of the gradient beside dy, and of all weights' gradients together. About ten roundings lie on the way.
TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    torch.bfloat16: dict.fromkeys(NAMES, 2e-2),
    torch.float16: dict.fromkeys(NAMES, 3e-3),
    torch.float32: dict.fromkeys(NAMES, 1e-4),
}
_SHORT = 2048  # positions that are held against float64 at the full width
_NARROW = 64  # channels that are held against float64 at the full length


class LayerCheck(NamedTuple):
    """The worst relative L2 error of each of `NAMES`, and whether all are within `TOLERANCES`."""

    errors: dict[str, float]
    correct: bool


def build_layer(kind: str, width: int, length: int, device: torch.device) -> HyenaBlock:
    """Return a block of one of `LAYERS` with random weights, in training mode, so that no filter is kept from call to call."""
    config = HyenaConfig(
        d_model=width, n_layers=1, mixers=kind, max_seq_len=max(length, 2), attention_heads=max(1, width // HEAD_DIM),
        d_inner=2, embed_dropout=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HyenaBlock(config, build_mixer(kind, config)).train().to(device)


def check_layer(
    kind: str, shape: Shape, dtype: torch.dtype, device: torch.device, *, layer: Function | None = None
) -> LayerCheck:  # fmt: skip
    """Compare a layer and its gradients with what they should be.

    At the full width, 2 sequences of at most 2,048 positions against plain sums and softmax, or FFTs of twice the length, in float64. Of Hyena also at the full length, one sequence of at
    most 64 channels against the same; and at the shape that will be timed, the first positions of its first and last sequence against the same sequences cut off there: what
    follows must change nothing, in any of so many numbers.

    Parameters
    ----------
    kind
        One of `LAYERS`.
    shape
        That will be timed.
    dtype
        Of autocast; float32 is without.
    device
        Where it is timed.
    layer
        Takes the block and x; None is the block's own first half. For tests.
    """
    run = layer or _own
    short = min(shape.L, _SHORT)
    checks = [_against_float64(kind, Shape(2, shape.D, short), shape.L, dtype, device, run)]
    if kind == "hyena" and short < shape.L:
        narrow = Shape(1, min(shape.D, _NARROW), shape.L)
        checks.append(_against_float64(kind, narrow, shape.L, dtype, device, run))
        checks.append(_against_prefix(kind, shape, short, dtype, device, run))
    worst = {name: max(check[i] for check in checks) for i, name in enumerate(NAMES)}
    # NaN is never within.
    return LayerCheck(worst, all(worst[name] <= TOLERANCES[dtype][name] for name in NAMES))


def checked_shape(kind: str, shape: Shape) -> Shape:
    """Return what of a shape decides how `check_layer` compares: two shapes with the same are checked by the same comparison.

    Nothing of attention depends on the longest length that it is made for.

    Examples
    --------
    >>> checked_shape("attention", Shape(4, 64, 2**20)), checked_shape("hyena", Shape(4, 64, 2**20))
    (Shape(B=2, D=64, L=2048), Shape(B=4, D=64, L=1048576))
    """
    return Shape(2, shape.D, min(shape.L, _SHORT)) if kind == "attention" else shape


def measure_layer(
    kind: str,
    shape: Shape,
    dtype: torch.dtype,
    device: torch.device,
    *,
    repeats: int,
    seconds: float,
    kernel: str | None = None,
) -> dict[str, Timing]:
    """Time a layer, forward, and forward with the gradients of x and of all weights.

    Parameters
    ----------
    kind, shape, dtype, device
        As in `check_layer`.
    repeats, seconds
        How many calls are timed: `hyenadna.ops.bench.timed_calls`.
    kernel
        Of attention: ``"flash"`` or ``"cudnn"``.

    Raises
    ------
    BackendUnavailableError
        The kernel does not run on this device, with this dtype or shape.
    """
    block = build_layer(kind, shape.D, shape.L, device)
    weights = _weights(block)

    def draw(seed: int) -> InputSet:
        x, dy = _signals(shape, device, seed)
        return InputSet((x, *weights), dy)

    def run(x: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        with _precision(dtype, device):
            return block.mix(x)

    sets = input_sets(draw, device)
    if kernel is None:
        return measure(run, sets, repeats=repeats, seconds=seconds)
    return measure_on_kernel(kernel, run, sets, repeats=repeats, seconds=seconds)


def _own(block: HyenaBlock, x: torch.Tensor) -> torch.Tensor:
    return block.mix(x)


def _weights(block: HyenaBlock) -> list[nn.Parameter]:
    return [*block.norm1.parameters(), *block.mixer.parameters()]


def _signals(shape: Shape, device: torch.device, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator(device).manual_seed(seed)
    x, dy = (
        torch.randn(shape.B, shape.L, shape.D, generator=draw, device=device) for _ in range(2)
    )
    return x.requires_grad_(), dy


def _precision(
    dtype: torch.dtype, device: torch.device
) -> contextlib.AbstractContextManager[object]:
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def _results(
    run: Function, block: HyenaBlock, x: torch.Tensor, dy: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Return what the mixer adds to x, its gradient beside dy, and the weights' gradients."""
    y = run(block, x)
    dx, *others = torch.autograd.grad(y, [x, *_weights(block)], dy)
    return (y - x).detach(), dx - dy, others


def _against_float64(
    kind: str, shape: Shape, length: int, dtype: torch.dtype, device: torch.device, run: Function
) -> tuple[float, ...]:
    block = build_layer(kind, shape.D, length, device)
    x, dy = _signals(shape, device, 1)
    with _precision(dtype, device):
        found = _results(run, block, x, dy)
    exact = copy.deepcopy(block).double()
    expected = _results(_oracle, exact, x.detach().double().requires_grad_(), dy.double())
    return _errors(found, expected)


def _against_prefix(
    kind: str, shape: Shape, short: int, dtype: torch.dtype, device: torch.device, run: Function
) -> tuple[float, ...]:
    block = build_layer(kind, shape.D, shape.L, device)
    x, dy = _signals(shape, device, 2)
    rows = torch.tensor(sorted({0, shape.B - 1}), device=device)
    kept = torch.zeros_like(dy)
    kept[rows, :short] = dy[rows, :short]
    del dy
    with _precision(dtype, device):
        y, dx, weights = _results(run, block, x, kept)
        y, dx = y[rows, :short].clone(), dx[rows, :short].clone()
        part = x.detach()[rows, :short].clone().requires_grad_()
        expected = _results(run, block, part, kept[rows, :short])
    return _errors((y, dx, weights), expected)


def _errors(
    found: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]],
    expected: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]],
) -> tuple[float, ...]:
    groups = (([a], [b]) for a, b in zip(found[:2], expected[:2], strict=True))
    return tuple(_relative(a, b) for a, b in (*groups, (found[2], expected[2])))


def _relative(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    norm = torch.stack([b.double().norm() for b in expected]).norm()
    distance = torch.stack([(a.double() - b).norm() for a, b in zip(found, expected, strict=True)])
    error = float(distance.norm() / norm)
    return float("inf") if error != error else error


def _oracle(block: HyenaBlock, x: torch.Tensor) -> torch.Tensor:
    """Compute the layer by textbook formulas; nothing of the package's operators is in it."""
    norm = block.norm1
    h = layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    of = _attention if isinstance(block.mixer, Attention) else _hyena
    return x + of(block.mixer, h)


def _hyena(module: nn.Module, h: torch.Tensor) -> torch.Tensor:
    mixer, length = cast(HyenaOperator, module), h.shape[1]
    projected = linear(h, *affine(mixer.in_proj)).transpose(1, 2)
    weight, bias = affine(mixer.short_conv)
    taps = weight.shape[-1]
    padded = pad(projected, (taps - 1, 0))
    smooth = bias[:, None] + sum(weight[:, :, j] * padded[..., j : j + length] for j in range(taps))
    x0, x1, v = smooth.chunk(3, dim=1)
    w, k = x1 * v, _filter(mixer.filter, length)
    spectrum = torch.fft.rfft(w, n=2 * length) * torch.fft.rfft(k, n=2 * length)
    y = torch.fft.irfft(spectrum, n=2 * length)[..., :length] + mixer.filter.bias[:, None] * w
    return linear((x0 * y).transpose(1, 2), *affine(mixer.out_proj))


def _filter(module: ImplicitFilter, length: int) -> torch.Tensor:
    *hidden, out = cast(list[nn.Linear], list(module.linears))
    h = positional_features(module.grid_len, length, module.emb_dim, device=module.freq.device)
    t = h[:, :1]
    for one in hidden:
        h = torch.sin(module.freq * linear(h, one.weight, one.bias))
    window = torch.exp(-t * module.decay.abs()) + module.shift
    return (linear(h, out.weight) * window).T


def _attention(module: nn.Module, h: torch.Tensor) -> torch.Tensor:
    mixer, length = cast(Attention, module), h.shape[1]
    q, k, v = (
        s.reshape(*s.shape[:2], mixer.n_heads, -1).transpose(1, 2)
        for s in linear(h, *affine(mixer.in_proj)).chunk(3, dim=-1)
    )
    half = q.shape[-1] // 2
    place = torch.arange(length, dtype=h.dtype, device=h.device)[:, None]
    angle = place * mixer.base ** -(torch.arange(half, dtype=h.dtype, device=h.device) / half)
    turn = torch.polar(torch.ones_like(angle), angle)
    q, k = (torch.complex(s[..., :half], s[..., half:]) * turn for s in (q, k))
    scores = (q @ k.conj().transpose(-1, -2)).real / (2 * half) ** 0.5
    ahead = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
    y = scores.masked_fill(ahead, float("-inf")).softmax(-1) @ v
    return linear(y.transpose(1, 2).flatten(2), *affine(mixer.out_proj))
