"""What the Triton kernels must hold, on the CPU under Triton's interpreter; `test_fftconv_triton.py` runs this file in processes of its own.

By hand: TRITON_INTERPRET=1 python -m pytest tests/ops/interpreted_cases.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops._backend import interpreted
from hyenadna.ops.bench import Shape, gated_inputs
from hyenadna.ops.fftconv import fftconv, fftconv_direct, gated_fftconv, resolve_backend
from hyenadna.ops.fftconv.autograd import triton_fftconv
from hyenadna.ops.fftconv.plan import DeviceLimits, LongPlan, plan_fftconv
from hyenadna.ops.fftconv.reference import gated_fftconv_reference
from hyenadna.testing import assert_causal, assert_close, relative_error

CPU = torch.device("cpu")
DIRECT_LENGTH = (
    1100  # longest row held against the O(L²) sum; longer ones against the float64 transform
)
TILE_LENGTHS = (1, 2, 63, 100, 1000, 1023, 1025, 4097, 5000)
LONG_LENGTHS = (9001,)
# Relative L2 errors. float16 operands cost 5e-4 to 9e-4, rounding the result 2e-4; the interpreter cuts bfloat16 results off
# instead of rounding them, which costs 3.5e-3. dbias is a sum of few numbers, and does not average errors out.
TOLERANCES = {
    torch.float32: {"y": 2e-6, "dx0": 4e-6, "dx1": 4e-6, "dv": 4e-6, "dk": 4e-6, "dbias": 4e-6},
    torch.float16: {"y": 1e-3, "dx0": 2e-3, "dx1": 2e-3, "dv": 2e-3, "dk": 2e-3, "dbias": 4e-3},
    torch.bfloat16: {"y": 6e-3, "dx0": 6e-3, "dx1": 6e-3, "dv": 6e-3, "dk": 2e-3, "dbias": 4e-3},
}
Inputs = tuple[torch.Tensor, ...]
Function = Callable[..., torch.Tensor]


@pytest.fixture(autouse=True)
def _interpreted_on_poisoned_memory() -> Iterator[None]:
    """Fresh tensors are NaN (the largest number, for integers): an output that is never written cannot pass."""
    if not interpreted():
        pytest.fail("TRITON_INTERPRET=1 must be set before this process starts")
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert torch.empty(3).isnan().all()
        yield
        torch.use_deterministic_algorithms(False)


def _draw(
    length: int,
    dtype: torch.dtype = torch.float32,
    *,
    batch: int | None = None,
    width: int | None = None,
) -> tuple[Inputs, torch.Tensor]:
    """Draw inputs and dy; fewer long rows than short ones, for the interpreter takes half a second for each."""
    batch = batch or (3 if length <= 2048 else 2)
    width = width or (2 if length <= 2048 else 1)
    return gated_inputs(Shape(batch, width, length), dtype, CPU, seed=length)


def _run(*inputs: torch.Tensor) -> torch.Tensor:
    """Convolve on Triton; with gates for five inputs, without for three."""
    return (gated_fftconv if len(inputs) == 5 else fftconv)(*inputs, backend="triton")


def _oracle(*inputs: torch.Tensor) -> torch.Tensor:
    *gates, v, k, bias = inputs
    if v.shape[-1] > DIRECT_LENGTH:
        x0, x1 = gates or (torch.ones_like(v), torch.ones_like(v))
        return gated_fftconv_reference(x0, x1, v, k, bias)
    y = fftconv_direct(gates[1] * v if gates else v, k, bias)
    return gates[0] * y if gates else y


def _with_gradients(
    function: Function, inputs: Inputs, dy: torch.Tensor
) -> dict[str, torch.Tensor]:
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    names = ("dx0", "dx1", "dv", "dk", "dbias")[-len(leaves) :]
    grads = torch.autograd.grad(y, leaves, dy)
    return {"y": y.detach(), **dict(zip(names, grads, strict=True))}


def _check(
    function: Function, inputs: Inputs, dy: torch.Tensor, tolerances: dict[str, float] | None = None
) -> None:
    """Compare a convolution and all its gradients with float64."""
    tolerances = tolerances or TOLERANCES[dy.dtype]
    found = _with_gradients(function, inputs, dy)
    expected = _with_gradients(_oracle, tuple(t.detach().double() for t in inputs), dy.double())
    errors = {name: relative_error(found[name], expected[name]) for name in found}
    wrong = {name: error for name, error in errors.items() if not error <= tolerances[name]}
    assert not wrong, errors
    for name, one in found.items():
        assert one.shape == expected[name].shape
        assert one.dtype == (torch.float32 if name in ("dk", "dbias") else dy.dtype)


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name in one:
        assert torch.equal(one[name], other[name]), name


class TestNumbers:
    @pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
    @pytest.mark.parametrize("length", TILE_LENGTHS)
    def test_of_short_rows_equal_float64(
        self, length: int, dtype: torch.dtype, gated: bool
    ) -> None:
        # Of a few numbers the rounding alone may exceed a tolerance: the shortest rows come in larger batches.
        inputs, dy = _draw(length, dtype, batch=24 if length < 8 else None)
        _check(_run, inputs if gated else inputs[2:], dy)

    @pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
    @pytest.mark.parametrize("length", LONG_LENGTHS)
    def test_of_long_rows_equal_float64(self, length: int, dtype: torch.dtype, gated: bool) -> None:
        inputs, dy = _draw(length, dtype, width=2 if dtype == torch.float16 else 1)
        _check(_run, inputs if gated else inputs[2:], dy)

    def test_are_right_after_a_middle_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Rows that need one would take the interpreter an hour; shorter ones can take it, too.
        from hyenadna.ops.fftconv import triton_backend

        def with_middle(batch, width, length, *args, **keywords):
            plan = plan_fftconv(batch, width, 9001, *args, **keywords)
            assert isinstance(plan, LongPlan)
            plan = replace(plan, n1=2, m1=16, nm=16, nb=4, rows=4, tile=32)
            assert plan.length >= length
            return plan

        monkeypatch.setattr(triton_backend, "plan_fftconv", with_middle)
        _check(_run, *_draw(5000, torch.float16, batch=2))

    @pytest.mark.parametrize("length", [100, 1025])
    def test_are_right_in_bfloat16(self, length: int) -> None:
        _check(_run, *_draw(length, torch.bfloat16))


class TestInvariants:
    @pytest.mark.parametrize("length", [100, 9001])
    def test_a_wrong_convolution_is_caught(self, length: int) -> None:
        def rolled(x0, x1, v, k, bias):
            return _run(x0, x1, v, k.roll(1, -1), bias)

        def unwritten(*inputs):
            return torch.cat((_run(*inputs)[..., :-1], torch.empty_like(inputs[2])[..., -1:]), -1)

        inputs, dy = _draw(length, torch.float16, batch=1)
        for wrong in (rolled, unwritten):
            with pytest.raises(AssertionError, match="'y'"):
                _check(wrong, inputs, dy)

    @pytest.mark.parametrize("batch", [1, 3, 5])
    @pytest.mark.parametrize("length", [100, 600])
    def test_any_batch_size_will_do(self, batch: int, length: int) -> None:
        _check(_run, *_draw(length, torch.float16, batch=batch, width=3))

    def test_any_batch_size_will_do_for_long_rows(self) -> None:
        _check(_run, *_draw(8200, torch.float16, batch=5))

    def test_an_empty_batch_gives_empty_results(self) -> None:
        (*signals, k, bias), dy = _draw(100)
        inputs = (*(t[:0] for t in signals), k, bias)
        found = _with_gradients(_run, inputs, dy[:0])
        assert found["y"].shape == (0, 2, 100)
        assert not found["dk"].any()
        assert not found["dbias"].any()

    def test_devices_with_little_shared_memory_take_the_long_path_sooner(self) -> None:
        from hyenadna.ops.fftconv import triton_backend

        small = DeviceLimits(n_sm=84, shared_bytes=101_376)
        (x0, x1, v, k, bias), _dy = _draw(5000, torch.float16)
        y = triton_backend.forward(x0, x1, v, k, bias, limits=small)
        assert_close(y, _oracle(*(t.double() for t in (x0, x1, v, k, bias))), tolerance=1e-3)

    @pytest.mark.parametrize("length", [100, 1025, 8200])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
    def test_the_same_bits_come_twice(self, length: int, dtype: torch.dtype) -> None:
        inputs, dy = _draw(length, dtype)
        _same(_with_gradients(_run, inputs, dy), _with_gradients(_run, inputs, dy))


class TestRows:
    @pytest.mark.parametrize(
        ("length", "batch", "bad"),
        [(100, 5, torch.nan), (100, 5, torch.inf), (9001, 3, torch.nan)],
    )
    def test_nan_stays_in_its_row(self, length: int, batch: int, bad: float) -> None:
        inputs, dy = _draw(length, torch.float16, batch=batch, width=2)
        inputs[2].data[1, 1, 50] = bad
        found = _with_gradients(_run, inputs, dy)
        for name in ("y", "dx0"):
            assert not found[name][1, 1, 50:].isfinite().any()
        for name in ("y", "dx0", "dx1", "dv"):
            found[name][1, 1] = 0.0
            assert found[name].isfinite().all(), name
        assert found["dk"][0].isfinite().all()
        assert not found["dk"][1].isfinite().all()

    @pytest.mark.parametrize(("length", "batch"), [(100, 5), (9001, 2)])
    def test_nan_in_a_gradient_stays_in_its_row(self, length: int, batch: int) -> None:
        inputs, dy = _draw(length, torch.float16, batch=batch)
        dy[1, 0, 70] = torch.nan
        found = _with_gradients(_run, inputs, dy)
        for name in ("dx1", "dv"):
            assert not found[name][1, 0, :70].isfinite().any()
        for name in ("dx0", "dx1", "dv"):
            found[name][1, 0] = 0.0
            assert found[name].isfinite().all(), name

    @pytest.mark.parametrize("length", [100, 1025, 9001])
    def test_small_gradients_keep_their_digits(self, length: int) -> None:
        inputs, dy = _draw(length, torch.bfloat16)
        _check(_run, inputs, dy * 1e-7)

    @pytest.mark.parametrize("length", [100, 8200])
    def test_rows_of_very_different_size_keep_their_digits(self, length: int) -> None:
        inputs, dy = _draw(length, torch.bfloat16, batch=3)
        sizes = torch.tensor([1e-6, 1.0, 1e4])[:, None, None]
        x0, x1, v, k, bias = (t.detach() for t in inputs)
        v = (v * sizes).bfloat16()
        found = _with_gradients(_run, (x0, x1, v, k, bias), dy)
        expected = _with_gradients(
            _oracle, tuple(t.double() for t in (x0, x1, v, k, bias)), dy.double()
        )
        for name in ("y", "dx0", "dx1", "dv"):
            for row in range(3):
                assert_close(found[name][row], expected[name][row], tolerance=6e-3)

    @pytest.mark.parametrize("length", [100, 1025, 9001])
    def test_rows_with_a_mean_keep_their_digits(self, length: int) -> None:
        (x0, x1, v, k, bias), dy = _draw(length, torch.float16)
        raised = (v.detach() + 10, k, bias)
        two_permille = dict.fromkeys(TOLERANCES[torch.float16], 2e-3)
        _check(_run, raised, dy, two_permille | {"dbias": 4e-3})
        ones = torch.ones_like(x1)
        y = _run(x0, ones, *raised)
        expected = _oracle(*(t.detach().double() for t in (x0, ones, *raised)))
        assert_close(y, expected, tolerance=2e-3)

    @pytest.mark.parametrize("length", [100, 8200])
    def test_strides_do_not_matter(self, length: int) -> None:
        (x0, x1, v, k, bias), dy = _draw(length, torch.float16, width=2)
        expected = _with_gradients(_run, (x0, x1, v, k, bias), dy)
        chunks = torch.cat((x0, x1, v), dim=1).detach().chunk(3, dim=1)
        assert not chunks[1].is_contiguous()
        _same(_with_gradients(_run, (*chunks, k, bias), dy), expected)
        turned = [t.detach().mT.contiguous().mT for t in (x0, x1, v, dy)]
        assert turned[0].stride(-1) != 1
        _same(_with_gradients(_run, (*turned[:3], k, bias), turned[3]), expected)

    @pytest.mark.parametrize("length", [1, 100])
    def test_an_expanded_gradient_will_do(self, length: int) -> None:
        inputs, dy = _draw(length, torch.float16)
        one = torch.ones(()).expand_as(dy)
        assert one.stride() == (0, 0, 0)
        _same(_with_gradients(_run, inputs, one), _with_gradients(_run, inputs, one.contiguous()))

    @pytest.mark.parametrize("length", [257, 1025])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-2)], ids=str
    )
    def test_past_outputs_do_not_depend_on_the_future(
        self, length: int, dtype: torch.dtype, tolerance: float
    ) -> None:
        (_, _, v, k, bias), _dy = _draw(length, dtype, batch=2, width=1)
        before = v.detach()[:, 0]
        after = before.clone()
        after[:, 100:] = 3.0

        def function(u: torch.Tensor) -> torch.Tensor:
            return _run(u[:, None], k, bias).mT.float()

        assert_causal(function, before, after, position=100, tolerance=tolerance)

    def test_past_gradients_alone_depend_on_the_future(self) -> None:
        inputs, dy = _draw(257)
        changed = dy.clone()
        changed[..., :100] = 3.0
        one, other = (_with_gradients(_run, inputs, g)["dv"] for g in (dy, changed))
        change = (one - other).abs().amax(dim=(0, 1))
        assert change[100:].max() < 1e-5
        assert change[:100].max() > 0.1


class TestTorch:
    @pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
    def test_the_operator_is_sound(self, gated: bool, dtype: torch.dtype) -> None:
        inputs, _dy = _draw(20, dtype, width=1)
        gates = inputs[:2] if gated else (None, None)
        torch.library.opcheck(triton_fftconv, (*gates, *inputs[2:]))

    @pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
    def test_compiled_equals_eager(self, gated: bool) -> None:
        inputs, dy = _draw(100, torch.float16)
        inputs = inputs if gated else inputs[2:]
        compiled = torch.compile(_run, fullgraph=True, backend="aot_eager")
        _same(_with_gradients(compiled, inputs, dy), _with_gradients(_run, inputs, dy))

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpointing_changes_nothing(self, reentrant: bool) -> None:
        inputs, dy = _draw(100, torch.float16)

        def checkpointed(*leaves):
            return checkpoint(_run, *leaves, use_reentrant=reentrant)

        leaves = [t.detach().requires_grad_() for t in inputs]
        checkpointed(*leaves).backward(dy)
        expected = list(_with_gradients(_run, inputs, dy).values())[1:]
        for leaf, gradient in zip(leaves, expected, strict=True):
            assert leaf.grad is not None
            assert torch.equal(leaf.grad, gradient)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
    def test_autocast_changes_nothing(self, dtype: torch.dtype) -> None:
        inputs, dy = _draw(100, dtype)
        expected = _with_gradients(_run, inputs, dy)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = _with_gradients(_run, inputs, dy)
        assert found["y"].dtype == dtype
        _same(found, expected)

    def test_only_inputs_are_saved_for_the_backward_pass(self) -> None:
        inputs, _dy = _draw(100)
        saved = []

        def pack(t: torch.Tensor) -> torch.Tensor:
            saved.append(t.data_ptr())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            _run(*inputs)
        assert set(saved) <= {t.data_ptr() for t in inputs}

    def test_tables_made_in_inference_mode_serve_a_backward_pass(self) -> None:
        from hyenadna.ops.fftconv import tables

        tables.tile_tables.cache_clear()
        inputs, dy = _draw(100)
        with torch.inference_mode():
            y = _run(*inputs)
        assert torch.equal(_with_gradients(_run, inputs, dy)["y"], y)

    def test_what_the_kernels_do_not_take_is_refused(self) -> None:
        inputs, _dy = _draw(100)
        with pytest.raises(BackendUnavailableError, match="not float64"):
            _run(*(t.double() for t in inputs))
        with pytest.raises(BackendUnavailableError, match="not 4,194,305"):
            resolve_backend("triton", CPU, length=4_194_305)

    def test_auto_stays_with_torch_under_the_interpreter(self) -> None:
        assert resolve_backend("auto", CPU) == "torch"
        assert resolve_backend("triton", CPU) == "triton"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
    @pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
    def test_two_sides_equal_the_direct_sum(self, gated: bool, dtype: torch.dtype) -> None:
        inputs, dy = _draw(100, dtype)
        tensors = inputs if gated else inputs[2:]
        k_back = torch.randn_like(tensors[-2])

        def run(*leaves: torch.Tensor) -> torch.Tensor:
            *rest, back = leaves
            op = gated_fftconv if gated else fftconv
            return op(*rest, k_back=back, backend="triton")

        def direct(*leaves: torch.Tensor) -> torch.Tensor:
            *gates, v, k, bias, back = leaves
            y = fftconv_direct(gates[1] * v if gates else v, k, bias, back)
            return gates[0] * y if gates else y

        found, expected = [], []
        for function, names, kind in ((run, found, None), (direct, expected, torch.float64)):
            leaves = [t.detach().to(kind or t.dtype).requires_grad_() for t in (*tensors, k_back)]
            y = function(*leaves)
            names += [y.detach(), *torch.autograd.grad(y, leaves, dy.to(y.dtype))]
        for mine, theirs in zip(found, expected, strict=True):
            assert relative_error(mine, theirs) < 2 * max(TOLERANCES[dtype].values())
