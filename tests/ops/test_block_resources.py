"""What the kernels of a block need on GPUs that are not here: they are compiled as the operators launch them, and their machine code is read.

The launches are recorded: the operators run forward and backward on tensors without memory, and every kernel keeps what it is called with.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed here")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") != "0", reason="the interpreter compiles nothing"
)

MATRIX_KERNELS = ("hidden_backward", "sum_by_token")
LONG, ODD = 131_072, 1001  # lengths: multiples of 16, and none
COMPILED = [
    (80, 128, LONG, torch.bfloat16),
    (80, 256, LONG, torch.bfloat16),
    (80, 768, LONG, torch.bfloat16),
    (90, 128, LONG, torch.bfloat16),
    (90, 256, LONG, torch.bfloat16),
    (90, 768, LONG, torch.bfloat16),
    (90, 256, ODD, torch.bfloat16),
    (90, 256, LONG, torch.float16),
    (86, 256, LONG, torch.bfloat16),
]
# Instructions that move registers to local memory or back, and how many a kernel may have: two are found with Triton 3.9, and cost nothing.
ALLOWED_SPILLS = {(86, "norm_backward"): 4}
_POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
}


class Launch(NamedTuple):
    """A kernel as Triton compiles it for one call: types of arguments, constants, options, and which arguments are multiples of 16."""

    name: str
    signature: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, int], ...]
    divisible: tuple[int, ...]


class Recorder:
    """Stands in for a kernel."""

    def __init__(self, name: str, kernel: Any, launches: list[Launch]) -> None:
        self.name, self.kernel, self.launches = name, kernel, launches

    def __getitem__(self, grid: tuple[int, ...]) -> Recorder:
        assert all(n >= 1 for n in grid)
        return self

    def __call__(self, *args: Any, **keywords: Any) -> None:
        names = self.kernel.arg_names
        options = {n: keywords.pop(n) for n in keywords.keys() - set(names)}
        given = dict(zip(names, args, strict=False)) | keywords
        constants = {p.name: given[p.name] for p in self.kernel.params if p.is_constexpr}
        constants |= {n: 1 for n, value in given.items() if type(value) is int and value == 1}
        types = {n: "constexpr" if n in constants else _type(given[n]) for n in names}
        divisible = (i for i, n in enumerate(names) if n not in constants and _divisible(given[n]))
        self.launches.append(
            Launch(self.name, *(tuple(d.items()) for d in (types, constants, options)), tuple(divisible))
        )  # fmt: skip


def _type(argument: Any) -> str:
    if isinstance(argument, torch.Tensor):
        return _POINTERS[argument.dtype]
    if isinstance(argument, float):
        return "fp32"
    return "i32" if argument < 2**31 else "i64"


def _divisible(argument: Any) -> bool:
    if isinstance(argument, torch.Tensor):
        return argument.storage_offset() * argument.itemsize % 16 == 0
    return type(argument) is int and argument % 16 == 0


def recorded(width: int, length: int, dtype: torch.dtype, vocabulary: int = 16) -> list[Launch]:
    """Return every different launch of a block's operators, forward and backward."""
    from hyenadna.ops import block
    from hyenadna.ops.block import functions, kernels, launches

    made: list[Launch] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in kernels.__all__:
            patch.setattr(launches, name, Recorder(name, getattr(kernels, name), made))
        patch.setattr(functions, "triton_backend", _NoConvolution)
        _run_block(block, width, length, dtype, vocabulary)
    return list(dict.fromkeys(made))


class _NoConvolution:
    """Gives the long convolution's results their shapes."""

    @staticmethod
    def forward(x0: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x0)

    @staticmethod
    def backward(
        dy: torch.Tensor,
        x0: torch.Tensor,
        x1: torch.Tensor,
        v: torch.Tensor,
        k: torch.Tensor,
        bias: torch.Tensor,
        *,
        out: torch.Tensor,
    ) -> Any:
        from hyenadna.ops.fftconv.triton_backend import Gradients

        return Gradients(*out.unbind(), torch.empty_like(k), torch.empty_like(bias))


def _run_block(block: ModuleType, width: int, length: int, dtype: torch.dtype, vocabulary: int) -> None:  # fmt: skip
    def leaf(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta", requires_grad=True)

    def affine(*shape: int) -> Any:
        return block.Affine(leaf(*shape), leaf(shape[0]))

    norm, eps = block.Affine(leaf(width), leaf(width)), 1e-5
    ids = torch.empty(2, length, dtype=torch.int32, device="meta")
    x = block.embed(ids, leaf(vocabulary, width))
    x = block.mixer_half(
        x, norm, eps, affine(3 * width, width), affine(3 * width, 1, 3), leaf(width, length), leaf(width),
        affine(width, width), dtype,
    )  # fmt: skip
    x = block.mlp_half(x, norm, eps, affine(4 * width, width), affine(width, 4 * width), dtype)
    block.layer_norm(x, norm, eps).sum().backward()


def compile_launch(resources: ModuleType, launch: Launch, capability: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hyenadna.ops.block import kernels

    source = ASTSource(
        fn=getattr(kernels, launch.name),
        signature=dict(launch.signature),
        constexprs=dict(launch.constants),
        attrs={(i,): [["tt.divisibility", 16]] for i in launch.divisible},
    )
    target = GPUTarget("cuda", capability, 32)
    return resources.inspect(triton.compile(source, target=target, options=dict(launch.options)))


def faults(resources: ModuleType, launch: Launch, capability: int) -> list[str]:
    """Compile a launch and say what is wrong with it."""
    needs = compile_launch(resources, launch, capability)
    limit = resources.LIMITS[capability].shared_bytes
    found = {
        "shared memory": needs.shared > limit,
        "spills": needs.spills > ALLOWED_SPILLS.get((capability, launch.name), 0),
        "registers": not 0 < needs.registers <= 255,
        "wrong addresses": needs.wrong_addresses > 0,
        "matrix instructions": (needs.matrix_instructions > 0) != (launch.name in MATRIX_KERNELS),
    }
    return [f"{launch.name}: {fault}, {needs}" for fault, is_so in found.items() if is_so]


@pytest.fixture(autouse=True)
def _own_triton_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("capability", "width", "length", "dtype"),
    COMPILED,
    ids=[f"sm_{c}-{w}-{n}-{str(d).removeprefix('torch.')}" for c, w, n, d in COMPILED],
)
def test_kernels_fit_the_device(
    resources: ModuleType, capability: int, width: int, length: int, dtype: torch.dtype
) -> None:
    launches = recorded(width, length, dtype)
    wrong = [fault for launch in launches for fault in faults(resources, launch, capability)]
    assert not wrong


def test_every_kernel_is_launched_and_compiled() -> None:
    from hyenadna.ops.block import kernels

    assert {launch.name for launch in recorded(128, 1024, torch.bfloat16)} == set(kernels.__all__)


def test_launches_are_those_of_half_precision_with_the_constants_of_the_module() -> None:
    from hyenadna.ops.block.launches import HIDDEN

    (hidden,) = (n for n in recorded(128, 1024, torch.bfloat16) if n.name == "hidden_backward")
    types = dict(hidden.signature)
    assert [types[n] for n in ("h_p", "dy_p", "w1_p", "w2_p", "act_p", "dpre_p")] == ["*bf16"] * 6
    assert types["b1_p"] == types["sum_p"] == "*fp32"
    assert dict(hidden.constants) | dict(hidden.options) == {"D": 128, "H": 512, **HIDDEN}


@pytest.mark.parametrize(
    ("change", "fault"), [({"STAGES": 4}, "shared memory"), ({"maxnreg": 64}, "spills")]
)
def test_a_kernel_that_does_not_fit_is_found(
    resources: ModuleType, change: dict[str, int], fault: str
) -> None:
    (hidden,) = (n for n in recorded(256, LONG, torch.bfloat16) if n.name == "hidden_backward")
    constants, options = dict(hidden.constants), dict(hidden.options)
    (constants if "STAGES" in change else options).update(change)
    changed = hidden._replace(constants=tuple(constants.items()), options=tuple(options.items()))
    assert [text.split(",")[0] for text in faults(resources, changed, 86)] == [
        f"hidden_backward: {fault}"
    ]
