"""What the filter's kernels need on GPUs that are not here: they are compiled, and their machine code is read."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed here")
pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") != "0", reason="the interpreter compiles nothing"
)

# Instructions that move registers to local memory or back, and how many a backward kernel may have: what was found with Triton 3.6 and
# 3.9, and some margin. Forward kernels have none.
ALLOWED_SPILLS = {(90, 64): 200, (90, 128): 80}


def compile_kernel(resources: ModuleType, name: str, width: int, capability: int, *, learned: bool, divisible: bool) -> Any:  # fmt: skip
    """Compile a kernel with the sizes of its plan; with `divisible`, lengths are multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hyenadna.ops.implicit_filter import kernels
    from hyenadna.ops.implicit_filter.triton_backend import plan_filter

    kernel = getattr(kernels, name)
    plan = plan_filter(2**20, 256, width, 132, backward=name == "filter_backward")
    constants: dict[str, Any] = {"E": 5, "WP": plan.width, "T": plan.tile, "CB": plan.block}
    if name == "filter_backward":
        constants["LEARNED"] = learned
    signature, attributes = {}, {}
    for index, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in ("high_p", "low_p"):
            signature[argument] = "*fp16"
        elif argument in ("b_high_p", "b_low_p"):
            signature[argument] = "*bf16"
        elif argument.endswith("_p"):
            signature[argument] = "*fp32"
        else:
            signature[argument] = "fp32" if argument in ("step", "shift") else "i32"
        if argument.endswith("_p") or argument == "W" or (argument == "L" and divisible):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": plan.num_warps, "num_stages": 1}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return resources.inspect(compiled)


@pytest.mark.parametrize(
    ("capability", "width", "divisible"),
    [(90, 64, True), (90, 64, False), (90, 128, False), (80, 64, False), (86, 64, False)],
)
def test_kernels_fit_the_device(
    resources: ModuleType,
    capability: int,
    width: int,
    divisible: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    limit = resources.LIMITS[capability].shared_bytes
    cases = [("filter_forward", False), ("filter_backward", True), ("filter_backward", False)]
    for name, learned in cases if capability == 90 else cases[:2]:
        needs = compile_kernel(
            resources, name, width, capability, learned=learned, divisible=divisible
        )
        assert needs.shared <= limit, (name, needs)
        assert needs.matrix_instructions > 0, (name, needs)
        assert needs.wrong_addresses == 0, (name, needs)
        assert needs.registers <= 255, (name, needs)
        if name == "filter_forward":
            assert needs.spills == 0, (name, needs)
        elif (capability, width) in ALLOWED_SPILLS:
            assert needs.spills <= ALLOWED_SPILLS[capability, width], (name, needs)


def test_undefined_addresses_are_found(resources: ModuleType) -> None:
    # From a kernel that read beyond shared memory on an H100; the lines between are left out.
    sass = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0030*/                   IADD3 R1, R1, -0x100, RZ ;
        /*0090*/                   IADD3 R2, P0, R2, 0x20, RZ ;
        /*00d0*/                   R2UR UR6, R2.reuse ;
        /*01c0*/                   IADD3 R3, P1, R1, 0x20, RZ ;
        /*0200*/                   IADD3 R5, P4, R3.reuse, 0x20, RZ ;
        /*05a0*/                   SGXT.U32 R13, R13, 0xe ;
        /*0660*/                   IADD3 R13, P0, R13, 0x80, RZ ;
    """
    assert resources.count_undefined_addresses(sass) == 2
    assert resources.count_undefined_addresses(sass.replace("P0, R2", "P0, R1").replace(", R1,", ", R5,")) == 2  # fmt: skip
    assert resources.count_undefined_addresses("\n".join(sass.splitlines()[-3:])) == 0
