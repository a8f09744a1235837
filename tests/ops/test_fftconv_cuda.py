"""Both backends on a CUDA device: the same numbers as float64 at odd lengths and in every dtype, and what only a GPU can show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest
import torch

from hyenadna import HyenaConfig
from hyenadna.errors import BackendUnavailableError
from hyenadna.models.hyena import HyenaOperator
from hyenadna.ops.bench import (
    InputSet,
    Shape,
    check_gated,
    gated_inputs,
    input_sets,
    measure,
    run_gated,
)
from hyenadna.ops.fftconv import (
    explain_backend,
    fftconv,
    fftconv_direct,
    gated_fftconv,
    resolve_backend,
    tables,
)
from hyenadna.ops.fftconv.autograd import triton_fftconv
from hyenadna.testing import assert_close, relative_error

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda", 0)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)
TORCH_TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2.2e-3, torch.float16: 3e-4}
# Relative L2 errors. One rounding to bfloat16 costs 1.7e-3, one to float16 2e-4, float16 operands up to 1e-3.
TRITON_TOLERANCE = {
    torch.float32: {"y": 2e-6, "dv": 1e-5, "dk": 1e-5, "dbias": 1e-5},
    torch.bfloat16: {"y": 2.2e-3, "dv": 4e-3, "dk": 2e-3, "dbias": 4e-3},
    torch.float16: {"y": 1e-3, "dv": 2e-3, "dk": 2e-3, "dbias": 4e-3},
}
LENGTHS = (
    1, 2, 63, 100, 1000, 1023, 1025, 4097, 5000, 8192, 16_384, 40_000, 160_000, 450_000, 1_000_003, 1_200_001,
)  # fmt: skip
Inputs = tuple[torch.Tensor, ...]


@pytest.fixture
def _poisoned() -> Iterator[None]:
    """Fresh tensors are NaN: an output that is never written cannot pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield
        torch.use_deterministic_algorithms(False)


def _draw(length: int, dtype: torch.dtype, *, batch: int = 3, width: int = 4, seed: int = 0):
    batch = max(batch, 512 // length)
    return gated_inputs(Shape(batch, width, length), dtype, CUDA, seed=seed)


def _run(*inputs: torch.Tensor) -> torch.Tensor:
    """Convolve on Triton; with gates for five inputs, without for three."""
    return (gated_fftconv if len(inputs) == 5 else fftconv)(*inputs, backend="triton")


def _padded(*inputs: torch.Tensor) -> torch.Tensor:
    """Convolve by a zero-padded FFT in the dtype of the inputs, float64."""
    *gates, v, k, bias = inputs
    w = gates[1] * v if gates else v
    length = w.shape[-1]
    n = 2 * length
    y = torch.fft.irfft(torch.fft.rfft(w, n=n) * torch.fft.rfft(k, n=n), n=n)[..., :length]
    y = y + bias[:, None] * w
    return gates[0] * y if gates else y


def _with_gradients(
    function: Callable[..., torch.Tensor], inputs: Inputs, dy: torch.Tensor
) -> dict[str, torch.Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    names = ("dx0", "dx1", "dv", "dk", "dbias")[-len(leaves) :]
    return {"y": y.detach(), **dict(zip(names, torch.autograd.grad(y, leaves, dy), strict=True))}


def _errors(found: dict[str, torch.Tensor], inputs: Inputs, dy: torch.Tensor) -> dict[str, float]:
    doubles = tuple(t.detach().double() for t in inputs)
    expected = _with_gradients(_padded, doubles, dy.double())
    return {name: relative_error(found[name], expected[name]) for name in found}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 63, 100, 1000, 1023, 1025, 4097])
def test_torch_equals_the_direct_sum(length: int, dtype: torch.dtype) -> None:
    (x0, x1, v, k, bias), _dy = _draw(length, dtype)
    y = gated_fftconv(x0, x1, v, k, bias, backend="torch")
    assert y.dtype == dtype
    expected = x0.double() * fftconv_direct(x1.double() * v.double(), k, bias)
    assert_close(y.double(), expected, tolerance=TORCH_TOLERANCE[dtype])


@pytest.mark.parametrize("length", [160_000, 1_000_003])
def test_torch_equals_a_float64_transform_at_long_lengths(length: int) -> None:
    inputs, _dy = _draw(length, torch.float32)
    y = gated_fftconv(*inputs, backend="torch")
    assert_close(y, _padded(*(t.double() for t in inputs)), tolerance=2e-6)


def test_torch_gradients_equal_those_of_the_cpu() -> None:
    inputs, dy = _draw(1000, torch.float32)
    here = _with_gradients(run_gated("torch"), inputs, dy)
    there = _with_gradients(run_gated("torch"), tuple(t.cpu().double() for t in inputs), dy.cpu().double())  # fmt: skip
    for name, gradient in here.items():
        assert_close(gradient.cpu(), there[name], tolerance=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_gated_triton_equals_float64_with_all_gradients(length: int, dtype: torch.dtype) -> None:
    found = check_gated(run_gated("triton"), Shape(3, 6, length), dtype, CUDA)
    assert found.correct, found


@pytest.mark.usefixtures("_poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_plain_triton_equals_float64_with_all_gradients(length: int, dtype: torch.dtype) -> None:
    inputs, dy = _draw(length, dtype)
    errors = _errors(_with_gradients(_run, inputs[2:], dy), inputs[2:], dy)
    tolerances = TRITON_TOLERANCE[dtype]
    assert all(error <= tolerances[name] for name, error in errors.items()), errors


@pytest.mark.parametrize("length", [100, 9001])
def test_the_check_can_fail_a_shifted_filter_is_caught(length: int) -> None:
    def rolled(x0, x1, v, k, bias):
        return _run(x0, x1, v, k.roll(1, -1), bias)

    assert not check_gated(rolled, Shape(3, 4, length), torch.bfloat16, CUDA).correct


@pytest.mark.usefixtures("_poisoned")
@pytest.mark.parametrize("batch", [1, 2, 3, 5, 17, 64])
@pytest.mark.parametrize("length", [100, 1024, 9001])
def test_any_batch_size_will_do(length: int, batch: int) -> None:
    inputs, dy = _draw(length, torch.bfloat16, batch=batch, width=7)
    errors = _errors(_with_gradients(_run, inputs, dy), inputs, dy)
    assert max(errors.values()) <= 4e-3, errors
    assert errors["y"] <= 2.2e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [100, 1024, 5000, 16_384, 450_000])
def test_the_same_bits_come_every_time(length: int, dtype: torch.dtype) -> None:
    inputs, dy = _draw(length, dtype, batch=8, width=64 if length < 100_000 else 8)
    first = _with_gradients(_run, inputs, dy)
    for _ in range(3):
        _same(_with_gradients(_run, inputs, dy), first)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [100, 1024, 5000, 40_000])
def test_nan_stays_in_its_row(length: int, dtype: torch.dtype) -> None:
    inputs, dy = _draw(length, dtype, batch=9)
    inputs[2].data[1, 2, 50] = torch.nan
    found = _with_gradients(_run, inputs, dy)
    for name in ("y", "dx0"):
        assert found[name][1, 2, 50:].isnan().all(), name
    for name in ("y", "dx0", "dx1", "dv"):
        found[name][1, 2] = 0.0
        assert found[name].isfinite().all(), name
    others = torch.tensor([0, 1, 3], device=CUDA)
    assert found["dk"][others].isfinite().all()


@pytest.mark.parametrize("length", [100, 1024, 5000, 160_000])
def test_small_gradients_keep_their_digits(length: int) -> None:
    inputs, dy = _draw(length, torch.bfloat16)
    small = dy * 1e-7
    errors = _errors(_with_gradients(_run, inputs, small), inputs, small)
    assert max(errors.values()) <= 4e-3, errors


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [100, 1024, 5000, 160_000])
def test_rows_with_a_mean_keep_their_digits(length: int, dtype: torch.dtype) -> None:
    (_, _, v, k, bias), dy = _draw(length, dtype)
    raised = (v.detach() + 10, k, bias)
    errors = _errors(_with_gradients(_run, raised, dy), raised, dy)
    assert errors["y"] <= max(2e-3, TRITON_TOLERANCE[dtype]["y"]), errors
    assert max(errors.values()) <= 4e-3, errors


@pytest.mark.parametrize("length", [100, 1023, 1024, 9001, 16_384])
def test_strides_do_not_matter(length: int) -> None:
    (x0, x1, v, k, bias), dy = _draw(length, torch.bfloat16)
    expected = _with_gradients(_run, (x0, x1, v, k, bias), dy)
    chunks = torch.cat((x0, x1, v), dim=1).detach().chunk(3, dim=1)
    assert not chunks[1].is_contiguous()
    _same(_with_gradients(_run, (*chunks, k, bias), dy), expected)
    turned = [t.detach().mT.contiguous().mT for t in (x0, x1, v, dy)]
    _same(_with_gradients(_run, (*turned[:3], k, bias), turned[3]), expected)
    # Rows that begin at odd addresses: nothing may be taken for aligned.
    odd = [torch.nn.functional.pad(t.detach(), (1, 2))[..., 1 : 1 + length] for t in (x0, x1, v)]
    _same(_with_gradients(_run, (*odd, k, bias), dy), expected)
    one = torch.ones((), device=CUDA, dtype=dy.dtype).expand_as(dy)
    _same(_with_gradients(_run, (x0, x1, v, k, bias), one), _with_gradients(_run, (x0, x1, v, k, bias), one.contiguous()))  # fmt: skip


@pytest.mark.parametrize("shape", [(2100, 1024, 1024), (2, 1100, 1_048_576)], ids=["tile", "long"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_indices_beyond_2_to_the_31_are_right(shape: tuple[int, int, int], backward: bool) -> None:
    torch.cuda.empty_cache()
    needed = 76e9 if backward else 60e9
    if (free := torch.cuda.mem_get_info()[0]) < needed:
        pytest.skip(f"{needed / 1e9:.0f} GB of GPU memory are needed, {free / 1e9:.0f} are free")
    assert shape[0] * shape[1] * shape[2] > 2**31
    generator = torch.Generator(CUDA).manual_seed(0)

    def draw(*size: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.randn(size, generator=generator, device=CUDA, dtype=dtype)

    inputs = (
        draw(*shape), draw(*shape), draw(*shape),
        draw(*shape[1:], dtype=torch.float32).div_(shape[2] ** 0.5), draw(shape[1], dtype=torch.float32),
    )  # fmt: skip
    dy = draw(*shape) if backward else None
    if dy is None:
        with torch.no_grad():
            found = {"y": _run(*inputs)}
    else:
        found = _with_gradients(_run, inputs, dy)
    for d in (0, shape[1] - 1):
        *signals, k, bias = inputs
        some = (*(t[:, d : d + 1] for t in signals), k[d : d + 1], bias[d : d + 1])
        mine = {
            n: t[d : d + 1] if n in ("dk", "dbias") else t[:, d : d + 1] for n, t in found.items()
        }
        if dy is None:
            errors = {"y": relative_error(mine["y"], _padded(*(t.double() for t in some)))}
        else:
            errors = _errors(mine, some, dy[:, d : d + 1])
        assert errors["y"] <= 2.2e-3, errors
        assert max(errors.values()) <= 4e-3, errors
    del found, inputs, dy
    torch.cuda.empty_cache()


@pytest.mark.parametrize("length", [1024, 16_384, 450_000])
def test_a_cuda_graph_replays_what_eager_computes(length: int) -> None:
    static, static_dy = _draw(length, torch.bfloat16, width=8)
    leaves = [t.detach().requires_grad_() for t in static]

    def step() -> list[torch.Tensor]:
        y = _run(*leaves)
        return [y, *torch.autograd.grad(y, leaves, static_dy)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for seed in (1, 2):
        fresh, dy = _draw(length, torch.bfloat16, width=8, seed=seed)
        with torch.no_grad():
            for leaf, new in zip(leaves, fresh, strict=True):
                leaf.copy_(new)
            static_dy.copy_(dy)
        graph.replay()
        torch.cuda.synchronize()
        expected = _with_gradients(_run, fresh, dy)
        for mine, theirs in zip(captured, expected.values(), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("length", [1024, 40_000])
def test_two_streams_do_not_disturb_each_other(length: int) -> None:
    data = [_draw(length, torch.bfloat16, batch=4, width=64, seed=seed) for seed in (1, 2)]
    expected = [_with_gradients(_run, *one) for one in data]
    streams = [torch.cuda.Stream() for _ in data]
    tables.tile_tables.cache_clear()  # made on one stream, used on both
    tables.outer_tables.cache_clear()
    tables.inner_tables.cache_clear()
    torch.cuda.synchronize()
    found = []
    for _ in range(5):
        for which, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                found.append((which, _with_gradients(_run, *data[which])))
    torch.cuda.synchronize()
    for which, one in found:
        _same(one, expected[which])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("length", [600, 1023, 4097, 40_000])
def test_two_sides_on_triton_equal_those_in_float64(length: int, dtype: torch.dtype) -> None:
    (x0, x1, v, k, bias), dy = _draw(length, dtype)
    k_back = torch.randn_like(k)

    def run(leaves: list[torch.Tensor], backend: str) -> list[torch.Tensor]:
        y = gated_fftconv(*leaves[:5], k_back=leaves[5], backend=backend)
        return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(y.dtype))]

    tensors = (x0, x1, v, k, bias, k_back)
    found = run([t.detach().requires_grad_() for t in tensors], "triton")
    expected = run([t.detach().double().requires_grad_() for t in tensors], "torch")
    for mine, theirs in zip(found, expected, strict=True):
        assert relative_error(mine, theirs) < 6e-3  # two results, each rounded, and their sum


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("length", [1024, 9001])
def test_compiled_equals_eager(length: int, gated: bool) -> None:
    inputs, dy = _draw(length, torch.bfloat16)
    inputs = inputs if gated else inputs[2:]
    compiled = torch.compile(_run, fullgraph=True)
    _same(_with_gradients(compiled, inputs, dy), _with_gradients(_run, inputs, dy))


@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [100, 9001])
def test_the_operator_is_sound(length: int, dtype: torch.dtype, gated: bool) -> None:
    inputs, _dy = _draw(length, dtype)
    gates = inputs[:2] if gated else (None, None)
    torch.library.opcheck(triton_fftconv, (*gates, *inputs[2:]))


@pytest.mark.parametrize("order", [2, 3])
def test_the_models_operator_agrees_with_torch_under_autocast(
    order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=64, n_layers=1, max_seq_len=1026, hyena_order=order)
    operator = HyenaOperator(config).to(CUDA)
    x = torch.randn(3, 1000, 64, device=CUDA)

    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            y = operator(x)
        parameters = [p for p in operator.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(y.float().square().mean(), parameters, allow_unused=True)
        return y.detach(), [g for g in gradients if g is not None]

    y, gradients = step()
    monkeypatch.setattr("hyenadna.models.hyena.gated_fftconv", run_gated("torch"))
    monkeypatch.setattr(
        "hyenadna.models.hyena.fftconv", lambda u, k, b: fftconv(u, k, b, backend="torch")
    )
    plain_y, plain_gradients = step()
    assert y.dtype == plain_y.dtype
    assert not torch.equal(y, plain_y)  # two backends did run
    assert_close(y, plain_y, tolerance=8e-3)
    for mine, theirs in zip(gradients, plain_gradients, strict=True):
        assert_close(mine, theirs, tolerance=2e-2)


@pytest.mark.parametrize(
    "shape", [Shape(4, 256, 65_536), Shape(1, 256, 65_536), Shape(1, 128, 1_048_576)], ids=str
)
def test_a_call_needs_a_tensor_or_two_of_extra_memory(shape: Shape) -> None:
    sets = input_sets(lambda seed: gated_inputs(shape, torch.bfloat16, CUDA, seed=seed), CUDA)
    found = measure(run_gated("triton"), [InputSet(*sets[0])], repeats=3)
    forward, both = (found[part].extra_memory for part in ("forward", "forward_backward"))
    assert forward is not None
    assert both is not None
    assert forward <= 1.2
    assert both <= 2.5


def test_auto_is_triton_and_nothing_falls_back_silently() -> None:
    assert resolve_backend("auto", CUDA) == "triton"
    assert explain_backend(CUDA) == "triton"
    inputs, _dy = _draw(1000, torch.bfloat16)
    assert torch.equal(gated_fftconv(*inputs), gated_fftconv(*inputs, backend="triton"))
    assert not torch.equal(gated_fftconv(*inputs), gated_fftconv(*inputs, backend="torch"))
    doubles = tuple(t.double() for t in inputs)
    with pytest.raises(BackendUnavailableError, match="not float64"):
        gated_fftconv(*doubles, backend="triton")
    assert gated_fftconv(*doubles).dtype == torch.float64
    with pytest.raises(BackendUnavailableError, match="not 4,194,305"):
        resolve_backend("triton", CUDA, length=4_194_305)
    assert resolve_backend("auto", CUDA, length=4_194_305) == "torch"
