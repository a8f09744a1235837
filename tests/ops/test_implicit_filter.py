"""The implicit filter in torch, and what its entry point refuses."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from hyenadna.errors import BackendUnavailableError
from hyenadna.models.filter import initial_decay, positional_features
from hyenadna.ops._backend import interpreted
from hyenadna.ops.implicit_filter import implicit_filter, implicit_filter_reference, resolve_backend
from hyenadna.testing import assert_close

CPU = torch.device("cpu")
WIDTH, CHANNELS, GRID, SHIFT = 16, 6, 500, 0.05
Args = tuple[
    torch.Tensor, list[torch.Tensor], list[torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor
]


def _draw(length: int, *, layers: int = 2, emb_dim: int = 5, dtype: torch.dtype = torch.float32) -> Args:  # fmt: skip
    generator = torch.Generator().manual_seed(length)

    def uniform(*shape: int) -> torch.Tensor:
        t = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
        return (t / math.sqrt(shape[-1])).to(dtype).requires_grad_()

    widths = [emb_dim, *[WIDTH] * layers]
    features = positional_features(GRID, length, emb_dim).to(dtype).requires_grad_()
    weights = [uniform(WIDTH, w) for w in widths]
    biases = [uniform(WIDTH) for _ in widths]
    freq = (10 + uniform(WIDTH).detach()).requires_grad_()
    decay = initial_decay(CHANNELS).to(dtype)
    return features, weights, biases, uniform(CHANNELS, WIDTH), freq, decay


def _leaves(args: Args) -> list[torch.Tensor]:
    features, weights, biases, out, freq, _decay = args
    return [features, *weights, *biases, out, freq]


def _direct(args: Args) -> torch.Tensor:
    """The definition, one position at a time."""
    features, weights, biases, out, freq, decay = args
    columns = []
    for t in range(len(features)):
        h = features[t]
        for weight, bias in zip(weights, biases, strict=True):
            h = torch.sin(freq * (weight @ h + bias))
        columns.append((torch.exp(-decay.abs() * (t / (GRID - 1))) + SHIFT) * (out @ h))
    return torch.stack(columns, dim=1)


def _gradients(k: torch.Tensor, args: Args) -> list[torch.Tensor]:
    dk = torch.randn(k.shape, generator=torch.Generator().manual_seed(0)).to(k.dtype)
    return list(torch.autograd.grad(k, _leaves(args), dk))


@pytest.mark.parametrize(
    ("length", "layers", "emb_dim"), [(1, 2, 5), (2, 0, 3), (63, 1, 5), (300, 2, 7)]
)
def test_filters_and_gradients_equal_the_definition(length: int, layers: int, emb_dim: int) -> None:
    args = _draw(length, layers=layers, emb_dim=emb_dim)
    doubles = _draw(length, layers=layers, emb_dim=emb_dim, dtype=torch.float64)
    k, expected = implicit_filter(*args, SHIFT, GRID), _direct(doubles)
    assert k.dtype == torch.float32
    assert k.is_contiguous()
    assert_close(k, expected, tolerance=2e-5)
    for mine, theirs in zip(_gradients(k, args), _gradients(expected, doubles), strict=True):
        assert_close(mine, theirs, tolerance=4e-5)


def test_float64_is_computed_in_float64() -> None:
    args = _draw(50, dtype=torch.float64)
    assert_close(implicit_filter(*args, SHIFT, GRID), _direct(args), tolerance=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_chunks_change_nothing(chunk: int) -> None:
    args = _draw(100, dtype=torch.float64)
    whole = implicit_filter_reference(*args, SHIFT, GRID, chunk=1000)
    parts = implicit_filter_reference(*args, SHIFT, GRID, chunk=chunk)
    assert_close(parts, whole, tolerance=1e-12)
    for mine, theirs in zip(_gradients(parts, args), _gradients(whole, args), strict=True):
        assert_close(mine, theirs, tolerance=1e-12)
    with torch.no_grad():
        assert_close(implicit_filter_reference(*args, SHIFT, GRID, chunk=chunk), whole, tolerance=1e-12)  # fmt: skip


def test_a_wrong_filter_is_caught() -> None:
    args = _draw(63)
    doubles = _draw(63, dtype=torch.float64)
    for wrong in (
        lambda: implicit_filter(*args, SHIFT, GRID + 1),
        lambda: implicit_filter(*args, SHIFT + 1e-4, GRID),
        lambda: implicit_filter(args[0].bfloat16().float(), *args[1:], SHIFT, GRID),
    ):
        with pytest.raises(AssertionError, match="relative L2 error"):
            assert_close(wrong(), _direct(doubles), tolerance=2e-5)


def _bytes_saved(function: Callable[[], torch.Tensor]) -> int:
    saved: dict[int, int] = {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function()
    return sum(saved.values())


def test_long_filters_keep_no_hidden_layer() -> None:
    args = _draw(20_000)
    hidden_layer = 4 * 20_000 * WIDTH
    assert _bytes_saved(lambda: implicit_filter(*args, SHIFT, GRID)) < hidden_layer
    whole = _bytes_saved(lambda: implicit_filter_reference(*args, SHIFT, GRID, chunk=2**20))
    assert whole > 5 * hidden_layer


def test_autocast_changes_nothing() -> None:
    args = _draw(63)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        k = implicit_filter(*args, SHIFT, GRID)
    assert torch.equal(k, implicit_filter(*args, SHIFT, GRID))


def test_compiled_equals_eager() -> None:
    args = _draw(63)
    compiled = torch.compile(implicit_filter, fullgraph=True, backend="aot_eager")
    k = compiled(*args, SHIFT, GRID)
    assert torch.equal(k, implicit_filter(*args, SHIFT, GRID))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    features, weights, biases, out, freq, decay = (*_draw(10),)
    for args, message in (
        ((features[0], weights, biases, out, freq, decay), r"\(L, E\) and \(C, W\) are needed"),
        ((features[:, :3], weights, biases, out, freq, decay), r"the weights have the shapes"),
        ((features, [], biases, out, freq, decay), r"the weights have the shapes \[\]"),
        ((features, weights, biases[1:], out, freq, decay), r"3 times \(16,\) is needed"),
        ((features, weights, biases, out, freq[1:], decay), r"16 frequencies and \(6,\) are needed"),
        ((features, weights, biases, out, freq, decay[1:]), r"16 frequencies and \(6,\) are needed"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            implicit_filter(*args, SHIFT, GRID)
    with pytest.raises(ValueError, match="at least 2 is needed"):
        implicit_filter(features, weights, biases, out, freq, decay, SHIFT, 1)


def test_a_decay_that_asks_for_a_gradient_is_refused() -> None:
    *args, decay = _draw(10)
    with pytest.raises(ValueError, match="it gets no gradient"):
        implicit_filter(*args, decay.requires_grad_(), SHIFT, GRID)


def test_unknown_and_unavailable_backends_are_refused() -> None:
    args = _draw(10)
    with pytest.raises(BackendUnavailableError, match="'cuda' is not known"):
        implicit_filter(*args, SHIFT, GRID, backend="cuda")
    assert resolve_backend("auto", CPU) == "torch"
    if not interpreted():
        with pytest.raises(BackendUnavailableError, match="use backend='auto' or 'torch'"):
            implicit_filter(*args, SHIFT, GRID, backend="triton")
