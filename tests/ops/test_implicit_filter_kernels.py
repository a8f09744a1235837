"""The kernels of the implicit filter against float64: on a CUDA device, or on the CPU under Triton's interpreter.

Where there is neither, `test_implicit_filter_triton.py` runs this file in a process of its own. By hand:
TRITON_INTERPRET=1 python -m pytest tests/ops/test_implicit_filter_kernels.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from hyenadna.errors import BackendUnavailableError
from hyenadna.models import HyenaConfig
from hyenadna.models.filter import ImplicitFilter, positional_features
from hyenadna.ops._backend import interpreted
from hyenadna.ops.implicit_filter import implicit_filter, resolve_backend
from hyenadna.ops.implicit_filter.autograd import triton_implicit_filter
from hyenadna.testing import assert_close, relative_error

if not (interpreted() or torch.cuda.is_available()):
    pytest.skip("needs a CUDA device or TRITON_INTERPRET=1", allow_module_level=True)

DEVICE = torch.device("cpu" if interpreted() else "cuda")
GRID, SHIFT = 2000, 0.05
TOLERANCE = 2e-5  # relative L2, of the filters and of every gradient; 5e-6 to 1.5e-5 are found
Tensors = dict[str, torch.Tensor]


class Size(NamedTuple):
    length: int
    channels: int = 20
    width: int = 64
    layers: int = 2
    emb_dim: int = 5


SIZES = [
    Size(1),
    Size(63, layers=1),
    Size(1000, channels=100),
    Size(1025, width=16, layers=1, emb_dim=3),
    Size(70, channels=1, width=10, layers=0),
    Size(100, channels=70, width=128, layers=1),
]


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fresh tensors are NaN: an output that is never written cannot pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        assert torch.empty(3, device=DEVICE).isnan().all()
        yield
        torch.use_deterministic_algorithms(False)


def draw(size: Size) -> tuple[Tensors, torch.Tensor]:
    """Draw the inputs of a filter by name, and dk."""
    torch.manual_seed(size.length)
    config = HyenaConfig(
        d_model=size.channels, filter_dim=size.width, filter_layers=size.layers, filter_emb_dim=size.emb_dim,
        max_seq_len=GRID,
    )  # fmt: skip
    model = ImplicitFilter(config)
    *hidden, out = model.linears
    inputs = {"features": positional_features(GRID, size.length, size.emb_dim).float()}
    for i, linear in enumerate(hidden):
        inputs |= {f"weight{i}": linear.weight, f"bias{i}": linear.bias}
    freq = model.freq[0] + torch.randn(size.width)
    inputs |= {"out": out.weight, "freq": freq, "decay": model.decay}
    dk = torch.randn(size.channels, size.length)
    return {name: t.detach().to(DEVICE) for name, t in inputs.items()}, dk.to(DEVICE)


def run(inputs: Tensors, backend: str = "triton") -> torch.Tensor:
    layers = range(sum(name.startswith("bias") for name in inputs))
    return implicit_filter(
        inputs["features"], [inputs[f"weight{i}"] for i in layers], [inputs[f"bias{i}"] for i in layers],
        inputs["out"], inputs["freq"], inputs["decay"], SHIFT, GRID, backend=backend,
    )  # fmt: skip


def oracle(inputs: Tensors) -> torch.Tensor:
    """The definition, written down once more."""
    h = inputs["features"].T
    for i in range(sum(name.startswith("bias") for name in inputs)):
        h = torch.sin(
            inputs["freq"][:, None] * (inputs[f"weight{i}"] @ h + inputs[f"bias{i}"][:, None])
        )
    t = torch.arange(h.shape[1], dtype=h.dtype, device=h.device) / (GRID - 1)
    return (torch.exp(-inputs["decay"].abs()[:, None] * t) + SHIFT) * (inputs["out"] @ h)


def with_gradients(
    function: Callable[[Tensors], torch.Tensor],
    inputs: Tensors,
    dk: torch.Tensor,
    *,
    learned: bool = True,
) -> Tensors:
    """Return k, and the gradients of all inputs but the decay, and the features unless they are `learned`."""
    constant = {"decay"} if learned else {"decay", "features"}
    leaves = {n: t.detach().requires_grad_() for n, t in inputs.items() if n not in constant}
    k = function(inputs | leaves)
    return {"k": k.detach()} | dict(
        zip(leaves, torch.autograd.grad(k, list(leaves.values()), dk), strict=True)
    )


def check(
    function: Callable[[Tensors], torch.Tensor], inputs: Tensors, dk: torch.Tensor, *, learned: bool = True
) -> None:  # fmt: skip
    """Compare filters and all gradients with float64."""
    found = with_gradients(function, inputs, dk, learned=learned)
    doubles = {name: t.double() for name, t in inputs.items()}
    expected = with_gradients(oracle, doubles, dk.double(), learned=learned)
    errors = {name: relative_error(found[name], expected[name]) for name in found}
    assert not {name for name, error in errors.items() if not error <= TOLERANCE}, errors
    for name, one in found.items():
        assert one.shape == expected[name].shape
        assert one.dtype == torch.float32
    assert found["k"].is_contiguous()


def same(one: Tensors, other: Tensors) -> None:
    for name in one:
        assert torch.equal(one[name], other[name]), name


class TestNumbers:
    @pytest.mark.parametrize("learned", [True, False], ids=["learned", "fixed"])
    @pytest.mark.parametrize("size", SIZES, ids=str)
    def test_equal_float64(self, size: Size, learned: bool) -> None:
        check(run, *draw(size), learned=learned)

    def test_a_wrong_filter_is_caught(self) -> None:
        inputs, dk = draw(Size(100))

        def less_exact(inputs: Tensors) -> torch.Tensor:
            return run(inputs | {"weight1": inputs["weight1"].bfloat16().float()})

        def unwritten(inputs: Tensors) -> torch.Tensor:
            k = run(inputs)
            return torch.cat([k[:, :-1], torch.empty_like(k[:, -1:])], dim=1)

        def later(inputs: Tensors) -> torch.Tensor:
            return run(inputs | {"features": inputs["features"].roll(1, 0)})

        for wrong in (less_exact, unwritten, later):
            with pytest.raises(AssertionError, match="'k'"):
                check(wrong, inputs, dk)

    def test_a_wrong_gradient_is_caught(self) -> None:
        inputs, dk = draw(Size(100))

        def no_gradient(inputs: Tensors) -> torch.Tensor:
            k = run(inputs | {"bias1": inputs["bias1"].detach()})
            return k + 0 * inputs["bias1"].sum()

        with pytest.raises(AssertionError, match="'bias1'"):
            check(no_gradient, inputs, dk)

    def test_a_position_does_not_depend_on_the_others(self) -> None:
        inputs, _ = draw(Size(300, channels=70))
        k = run(inputs)
        short = run(inputs | {"features": inputs["features"][:65]})
        assert torch.equal(short, k[:, :65])

    def test_the_same_bits_come_twice(self) -> None:
        inputs, dk = draw(Size(300))
        same(with_gradients(run, inputs, dk), with_gradients(run, inputs, dk))

    @pytest.mark.parametrize("programs", [1, 3])
    def test_programs_may_walk_over_many_tiles(self, programs: int) -> None:
        from hyenadna.ops.implicit_filter import triton_backend

        inputs, dk = draw(Size(300, channels=70))
        args = (
            inputs["features"], inputs["weight0"], torch.stack([inputs["weight1"], inputs["weight2"]]),
            torch.stack([inputs[f"bias{i}"] for i in range(3)]), *(inputs[n] for n in ("out", "freq", "decay")),
            SHIFT, GRID,
        )  # fmt: skip
        plan = triton_backend.plan_filter(300, 70, 64, n_sm=100, backward=True)
        assert plan.programs == 5
        plan = plan._replace(programs=programs)
        found = triton_backend.backward(dk, *args, learned=True, plan=plan)
        doubles = {name: t.double() for name, t in inputs.items()}
        expected = with_gradients(oracle, doubles, dk.double())
        assert_close(found.dz, expected["features"], tolerance=TOLERANCE)
        assert_close(found.dhidden[1], expected["weight2"], tolerance=TOLERANCE)
        assert_close(found.dbiases[0], expected["bias0"], tolerance=TOLERANCE)
        assert_close(found.dout, expected["out"], tolerance=TOLERANCE)
        plan = triton_backend.plan_filter(300, 70, 64, n_sm=100, backward=False)
        assert plan.groups == 2
        together = triton_backend.forward(*args, plan=plan._replace(groups=1, blocks=2))
        assert torch.equal(triton_backend.forward(*args, plan=plan), together)


class TestRange:
    @pytest.mark.parametrize("size", [1e-9, 1e9])
    def test_any_size_of_output_weights_and_gradients_keeps_its_digits(self, size: float) -> None:
        inputs, dk = draw(Size(100))
        check(run, inputs | {"out": inputs["out"] * size}, dk)
        check(run, inputs, dk * size)

    def test_channels_of_very_different_size_keep_their_digits(self) -> None:
        inputs, _ = draw(Size(100, channels=3))
        inputs["out"] *= torch.tensor([1e-8, 1.0, 1e6], device=DEVICE)[:, None]
        k, expected = run(inputs), oracle({name: t.double() for name, t in inputs.items()})
        for c in range(3):
            assert_close(k[c], expected[c], tolerance=TOLERANCE)

    def test_phases_of_a_hundred_radians_are_exact(self) -> None:
        inputs, _ = draw(Size(1000, layers=0))
        inputs["freq"] *= 10
        check(run, inputs, torch.ones(20, 1000, device=DEVICE))

    def test_phases_beyond_float32_stay_sines(self) -> None:
        inputs, _ = draw(Size(100, layers=0))
        k = run(inputs | {"freq": inputs["freq"] * 1e9})
        assert (k.abs() <= (1 + SHIFT) * inputs["out"].abs().sum(1, keepdim=True)).all()

    @pytest.mark.parametrize("name", ["weight1", "out", "freq", "features"])
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_nan_and_infinity_are_seen(self, name: str, bad: float) -> None:
        inputs, _ = draw(Size(10))
        inputs[name].view(-1)[3] = bad
        assert not run(inputs).isfinite().all()

    def test_a_frequency_of_zero_has_a_gradient(self) -> None:
        inputs, dk = draw(Size(100))
        inputs["freq"][5] = 0
        check(run, inputs, dk)
        assert with_gradients(run, inputs, dk)["freq"][5] != 0


class TestTorch:
    @pytest.mark.parametrize("learned", [True, False])
    def test_the_operator_is_sound(self, learned: bool) -> None:
        inputs, _ = draw(Size(20, layers=1))
        args = (
            inputs["features"].requires_grad_(learned), inputs["weight0"].requires_grad_(), inputs["weight1"][None].requires_grad_(),
            torch.stack([inputs["bias0"], inputs["bias1"]]).requires_grad_(), inputs["out"].requires_grad_(),
            inputs["freq"].requires_grad_(), inputs["decay"], SHIFT, GRID,
        )  # fmt: skip
        torch.library.opcheck(triton_implicit_filter, args)

    @pytest.mark.parametrize("layers", [0, 2])
    def test_compiled_equals_eager(self, layers: int) -> None:
        inputs, dk = draw(Size(100, layers=layers))
        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
        same(with_gradients(compiled, inputs, dk), with_gradients(run, inputs, dk))

    def test_checkpointing_changes_nothing(self) -> None:
        inputs, dk = draw(Size(100))

        def checkpointed(inputs: Tensors) -> torch.Tensor:
            return checkpoint(run, inputs, use_reentrant=False)

        same(with_gradients(checkpointed, inputs, dk), with_gradients(run, inputs, dk))

    def test_autocast_changes_nothing(self) -> None:
        inputs, dk = draw(Size(100))
        expected = with_gradients(run, inputs, dk)
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            same(with_gradients(run, inputs, dk), expected)

    def test_strides_do_not_matter(self) -> None:
        inputs, dk = draw(Size(100))
        turned = {n: t.mT.contiguous().mT if t.dim() == 2 else t for n, t in inputs.items()}
        expected = with_gradients(run, inputs, dk)
        same(with_gradients(run, turned, dk.mT.contiguous().mT), expected)
        one = torch.ones((), device=DEVICE).expand_as(dk)
        same(with_gradients(run, inputs, one), with_gradients(run, inputs, one.contiguous()))

    def test_no_hidden_layer_is_saved(self) -> None:
        inputs, _ = draw(Size(1000))
        saved: list[torch.Tensor] = []

        def pack(t: torch.Tensor) -> torch.Tensor:
            saved.append(t)
            return t

        leaves = {n: t.requires_grad_(n != "decay") for n, t in inputs.items()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            run(leaves)
        assert max(t.numel() for t in saved) <= 3 * 64 * 64

    def test_what_the_kernels_do_not_take_is_refused(self) -> None:
        inputs, _ = draw(Size(10))
        with pytest.raises(BackendUnavailableError, match="take float32, not float64"):
            run({name: t.double() for name, t in inputs.items()})
        with pytest.raises(BackendUnavailableError, match="at most 128 hidden units, not 129"):
            resolve_backend("triton", DEVICE, width=129)
        with pytest.raises(BackendUnavailableError, match="at most 15 features, not 17"):
            resolve_backend("triton", DEVICE, emb_dim=17)
        with pytest.raises(BackendUnavailableError, match="at most 16,777,216 positions"):
            resolve_backend("triton", DEVICE, length=2**24 + 1)
        assert resolve_backend("auto", DEVICE, width=129) == "torch"

    def test_auto_is_triton_on_the_gpu_alone(self) -> None:
        assert resolve_backend("auto", DEVICE) == ("torch" if interpreted() else "triton")
        assert resolve_backend("triton", DEVICE) == "triton"
