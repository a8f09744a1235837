"""What only a GPU can show of the filter's kernels; on one, `test_implicit_filter_kernels.py` runs there, too."""

from __future__ import annotations

import math

import pytest
import torch

from hyenadna.models import HyenaConfig
from hyenadna.models.filter import ImplicitFilter, positional_features
from hyenadna.ops.implicit_filter import implicit_filter, implicit_filter_reference, resolve_backend
from hyenadna.testing import assert_close, relative_error

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


def _model(length: int, channels: int, *, learned: bool) -> ImplicitFilter:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=channels, max_seq_len=length, filter_learned_positions=learned)
    return ImplicitFilter(config).to(CUDA)


def _reference(model: ImplicitFilter, length: int, **options: int) -> torch.Tensor:
    """The filters in the dtype of the module, by torch."""
    *hidden, out = model.linears
    z = model.positions
    if z is None:
        z = positional_features(model.grid_len, length, model.emb_dim, device=CUDA).float()
    return implicit_filter_reference(
        z[:length].to(model.freq.dtype), [layer.weight for layer in hidden], [layer.bias for layer in hidden],
        out.weight, model.freq.reshape(-1), model.decay, model.shift, model.grid_len, **options,
    )  # fmt: skip


@pytest.mark.parametrize("learned", [True, False], ids=["learned", "fixed"])
@pytest.mark.parametrize(
    ("length", "channels"), [(1024, 128), (1025, 130), (2**20, 256), (999_999, 40)]
)
def test_filters_and_gradients_equal_float64(length: int, channels: int, learned: bool) -> None:
    model = _model(length, channels, learned=learned)
    dk = torch.randn(channels, length, device=CUDA)
    parameters = {n: p for n, p in model.named_parameters() if n != "bias"}
    found = {}
    for repeat in range(2):
        k = model(length)[0][0]
        gradients = torch.autograd.grad(k, list(parameters.values()), dk)
        now = {"k": k.detach()} | dict(zip(parameters, gradients, strict=True))
        assert not repeat or all(torch.equal(now[name], found[name]) for name in now)
        found = now
    model.double()
    parameters = {n: p for n, p in model.named_parameters() if n != "bias"}
    k = _reference(model, length, chunk=65_536)
    gradients = torch.autograd.grad(k, list(parameters.values()), dk.double())
    expected = {"k": k.detach()} | dict(zip(parameters, gradients, strict=True))
    errors = {name: relative_error(found[name], expected[name]) for name in found}
    assert max(errors.values()) <= 2e-5, errors


def test_the_torch_backend_agrees() -> None:
    model = _model(70_000, 64, learned=False)
    with torch.no_grad():
        assert_close(model(70_000)[0][0], _reference(model, 70_000), tolerance=2e-5)


def test_compiled_equals_eager() -> None:
    model = _model(1000, 64, learned=True)
    compiled = torch.compile(lambda: model(1000)[0], fullgraph=True)
    assert torch.equal(compiled(), model(1000)[0])


def test_offsets_may_exceed_32_bits() -> None:
    length, channels = 2**22 + 3, 520
    model = _model(length, channels, learned=False)
    with torch.no_grad():
        k = model(length)[0][0]
        assert k.numel() > 2**31
        tail = _reference(model, length, chunk=2**18)[-3:, -1000:]
    assert_close(k[-3:, -1000:], tail, tolerance=2e-5)


def test_a_call_needs_little_more_memory_than_its_results() -> None:
    length, channels = 2**20, 256
    model = _model(length, channels, learned=False)
    dk = torch.randn(channels, length, device=CUDA)
    k_bytes = 4 * length * channels

    def extra() -> int:
        return torch.cuda.max_memory_allocated() - before

    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    k = model(length)[0]
    assert extra() < k_bytes + 150 * 2**20  # features in float64 among it
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    k.backward(dk[None])
    assert extra() < 100 * 2**20


def test_kept_filters_know_their_device() -> None:
    model = _model(500, 16, learned=False).eval()
    with torch.no_grad():
        k = model(500)[0]
        assert model(500)[0].data_ptr() == k.data_ptr()
        on_cpu = model.cpu()(500)[0]
        assert on_cpu.device.type == "cpu"
        assert_close(on_cpu, k.cpu(), tolerance=2e-5)
        assert model.to(CUDA)(500)[0].device.type == "cuda"


def test_auto_is_triton_and_widths_beyond_it_run_in_torch() -> None:
    assert resolve_backend("auto", CUDA) == "triton"
    assert resolve_backend("auto", CUDA, width=200) == "torch"
    generator = torch.Generator(CUDA).manual_seed(0)
    width, channels, length = 200, 8, 300

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=CUDA, generator=generator) / math.sqrt(shape[-1])

    args = (
        draw(length, 5), [draw(width, 5)], [draw(width)], draw(channels, width), draw(width), draw(channels), 0.05, length
    )  # fmt: skip
    assert torch.equal(implicit_filter(*args), implicit_filter(*args, backend="torch"))
