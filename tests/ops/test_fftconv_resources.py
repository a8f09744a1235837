"""What the kernels need on GPUs that are not here: they are compiled, and their machine code is read."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed here")


pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") != "0", reason="the interpreter compiles nothing"
)
HALF, FULL = torch.bfloat16, torch.float32

# Kernels that may move registers to local memory, and with how many instructions at most: what was found with Triton 3.9 and a
# margin of about a quarter, for compilers differ. All others must not spill at all.
ALLOWED_SPILLS = {
    # Three programs of 1,024 numbers share a multiprocessor where two would not spill: faster by a tenth.
    (90, HALF, 1024, "backward"): 50,
    # Tiles of 2,048 to 8,192 numbers hold their complex spectra in float32: a quarter of the register file, half of it, or all. The
    # backward kernel keeps those of the signal, the gradient and the filter's share.
    (90, HALF, 2048, "backward"): 55,
    (90, HALF, 4096, "forward"): 20,
    (90, HALF, 4096, "backward"): 120,
    (90, HALF, 8192, "forward"): 45,
    # Inner passes: three programs to a multiprocessor again, or a tile of 64 × 32.
    (90, HALF, 8192, "backward inner"): 85,
    (90, HALF, 16_384, "backward inner"): 80,
    (90, HALF, 131_072, "backward inner"): 85,
    (90, HALF, 4_194_304, "backward inner"): 35,
    # 128 × 64: forward at a million, faster than a middle pass.
    (90, HALF, 1_048_576, "inner"): 50,
    (90, HALF, 1_048_576, "outer back"): 12,
    (90, HALF, 1_048_576, "backward inner"): 35,
    # tf32x3 splits each operand in two.
    (90, FULL, 16_384, "backward inner"): 110,
    (90, FULL, 131_072, "inner"): 130,
    (90, FULL, 131_072, "backward inner"): 620,
}
# Spills on Ampere are not held: without wgmma, operands pass through registers. Its shared memory is.
COMPILED = [
    (90, HALF, 1024),
    (90, HALF, 2048),
    (90, HALF, 4096),
    (90, HALF, 8192),
    (90, HALF, 16_384),
    (90, HALF, 131_072),
    (90, HALF, 1_048_576),
    (90, HALF, 4_194_304),
    (90, FULL, 1024),
    (90, FULL, 16_384),
    (90, FULL, 131_072),
    (80, HALF, 4096),
    (80, HALF, 8192),
    (80, HALF, 16_384),
    (86, HALF, 4096),
    (86, HALF, 8192),
    (86, HALF, 1_048_576),
]


@pytest.mark.parametrize(
    ("capability", "dtype", "length"),
    COMPILED,
    ids=[f"sm_{c}-{str(d).removeprefix('torch.')}-{n}" for c, d, n in COMPILED],
)
def test_kernels_fit_the_device(
    resources: ModuleType,
    capability: int,
    dtype: torch.dtype,
    length: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    limit = resources.LIMITS[capability].shared_bytes
    needs = {
        name: resources.compile_kernel(kernel, constants, dtype, capability)
        for name, (kernel, constants) in resources.kernels(length, dtype, capability).items()
    }
    assert len(needs) >= 4
    wrong = []
    for name, need in needs.items():
        allowed = ALLOWED_SPILLS.get((capability, dtype, length, name), 0)
        if need.shared > limit:
            wrong.append(f"{name}: {need.shared:,} bytes of shared memory, {limit:,} are there")
        if capability == 90 and need.spills > allowed:
            wrong.append(f"{name}: {need.spills} spills, {allowed} are allowed")
        if need.matrix_instructions == 0:
            wrong.append(f"{name}: no matrix instructions")
        if need.wrong_addresses:
            wrong.append(f"{name}: {need.wrong_addresses} wrong addresses of matrices")
        if not 0 < need.registers <= 255:
            wrong.append(f"{name}: {need.registers} registers")
    assert not wrong, needs


def test_allowed_spills_name_kernels_that_exist(resources: ModuleType) -> None:
    for capability, dtype, length, name in ALLOWED_SPILLS:
        assert (capability, dtype, length) in COMPILED
        assert name in resources.kernels(length, dtype, capability)


# The additions were copied from the machine code of a kernel for sm_90a; the lines around them are made up.
BROKEN = """
        /*2ae0*/                   USHF.R.U32.HI UR20, URZ, 0x4, UR6 ;
        /*2af0*/                   UIADD3 UR6, UP0, UR20, 0x20, URZ ;
        /*2b00*/                   UMOV UR24, UR20 ;
        /*2b10*/                   UIADD3.X UR7, UR20, -0x3ffffff0, URZ, UP0, !UPT ;
        /*2b20*/                   UIADD3.64 UR26, UR6, 0x20, URZ ;
"""
CORRECT = """
        /*13a0*/                   UMOV UR4, URZ ;
        /*13b0*/                   UIADD3 UR12, UP0, UR8, 0x2, URZ ;
        /*13c0*/                   UMOV UR5, URZ ;
        /*13d0*/                   UIADD3 UR14, UP1, UR10, 0x20, URZ ;
        /*13e0*/                   R2UR UR9, R12 ;
        /*1410*/                   UIADD3.X UR13, UR4, 0x40000040, URZ, UP0, !UPT ;
        /*1420*/                   UIADD3.X UR15, UR5, -0x3ffffff0, URZ, UP1, !UPT ;
"""


def test_broken_descriptors_are_found(resources: ModuleType) -> None:
    assert resources.count_broken_descriptors(BROKEN) == 1
    assert resources.count_broken_descriptors(BROKEN + CORRECT + BROKEN) == 2
    # The same in the format of `cuobjdump -sass`, with the machine words behind.
    words = BROKEN.replace(" ;", " ;   /* 0x0000002014067890 */")
    assert resources.count_broken_descriptors(words) == 1


def test_correct_descriptors_are_not_reported(resources: ModuleType) -> None:
    assert resources.count_broken_descriptors(CORRECT) == 0
    # A register that was written in between is another value, and so is one after another carry.
    rewritten = BROKEN.replace("UMOV UR24, UR20", "UMOV UR20, URZ")
    assert resources.count_broken_descriptors(rewritten) == 0
    pair = BROKEN.replace("UMOV UR24, UR20", "ULDC.64 UR20, c[0x0][0x208]")
    assert resources.count_broken_descriptors(pair) == 0
    assert resources.count_broken_descriptors(BROKEN.replace("URZ, UP0, !", "URZ, UP1, !")) == 0
