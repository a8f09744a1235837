"""Compile the kernels for a GPU that is not here, and read what they need: registers, spills, shared memory, matrix instructions."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hyenadna.ops.fftconv import inner_kernels, outer_kernels, tile_kernels
from hyenadna.ops.fftconv.launching import precision
from hyenadna.ops.fftconv.plan import DeviceLimits, LongPlan, TilePlan, plan_fftconv

LIMITS = {
    80: DeviceLimits(n_sm=108, shared_bytes=166_912),
    86: DeviceLimits(n_sm=84, shared_bytes=101_376),
    90: DeviceLimits(n_sm=132, shared_bytes=232_448),
}
_SIGNALS = (
    "p_p",
    "q_p",
    "a_p",
    "b_p",
    "out_a_p",
    "out_b_p",
    "dy_p",
    "x0_p",
    "x1_p",
    "v_p",
    "y_p",
    "dx0_p",
    "dx1_p",
    "dv_p",
)
_FLOATS = (
    "skip_p",
    "k_p",
    "dk_p",
    "bias_p",
    "dbias_p",
    "gain_p",
    "scale_p",
    "share_p",
    "dot_p",
    "tc_p",
    "tj_p",
    "mc_p",
    "mj_p",
)
_INTEGERS = ("exponent_p", "share_exponent_p", "top_p", "filter_top_p", "share_top_p", "peak_p")  # fmt: skip
_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


class Resources(NamedTuple):
    """What one kernel needs.

    Attributes
    ----------
    registers : int
        Per thread.
    spills : int
        Instructions that move registers to local memory or back.
    shared : int
        Bytes of shared memory of one program.
    matrix_instructions : int
        In the PTX.
    wrong_addresses : int
        See `count_broken_descriptors` and `count_undefined_addresses`.
    """

    registers: int
    spills: int
    shared: int
    matrix_instructions: int
    wrong_addresses: int


def compile_kernel(
    kernel: Any,
    constants: dict[str, Any],
    dtype: torch.dtype,
    capability: int,
    *,
    divisible: bool = True,
) -> Resources:
    """Compile one kernel with tensors aligned to 16 bytes; with `divisible`, lengths and strides are multiples of 16."""
    constants = dict(constants)
    options = {
        "num_warps": constants.pop("num_warps", 4),
        "num_stages": constants.pop("num_stages", 3),
    }
    if (limit := constants.pop("maxnreg", None)) is not None:
        options["maxnreg"] = limit
    working = "*fp32" if dtype == torch.float32 else "*fp16"
    signature: dict[str, str] = {}
    attributes = {}
    for index, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in _SIGNALS:
            signature[name] = f"*{_NAMES[dtype]}"
        elif name in _FLOATS or (name == "tw_p" and kernel.__module__ == inner_kernels.__name__):
            signature[name] = "*fp32"
        elif name in _INTEGERS:
            signature[name] = "*i32"
        elif name.endswith("_p"):
            signature[name] = working
        elif name == "root":
            signature[name] = "fp32"
        else:
            signature[name] = "i32"
        strided = name == "L" or re.fullmatch(r"(dy|x0|x1|v|p|q|r|s|a|b)_[bd]", name)
        if name.endswith("_p") or (divisible and strided):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return inspect(compiled)


def inspect(compiled: Any) -> Resources:
    """Read what a compiled kernel needs."""
    registers, sass = _disassemble(compiled.asm["cubin"])
    return Resources(
        registers,
        spills=len(re.findall(r"\b(?:LDL|STL)\b", sass)),
        shared=compiled.metadata.shared,
        matrix_instructions=len(
            re.findall(r"\b(?:wgmma\.mma_async|mma\.sync)", compiled.asm["ptx"])
        ),
        wrong_addresses=count_broken_descriptors(sass) + count_undefined_addresses(sass),
    )


def count_broken_descriptors(sass: str) -> int:
    """Count 64-bit additions to matrix descriptors whose high word is made from the low word.

    ptxas 12.8 (which Triton 3.6 brings along) does this to wgmma descriptors of a buffer at the base of shared memory: it adds the
    address (low word) in the high word, too, where zero belongs. The matrix is then read from elsewhere, and nothing fails. It hits
    kernels whose row loop the compiler can remove. In the carry chain

        UIADD3   URa, UPx, URb, imm, URZ
        UIADD3.X URc, URd, imm, URZ, UPx, !UPT

    URd must not be URb, unless URb was written in between.
    """
    low_words: dict[str, str] = {}  # carry predicate: register of the low word
    broken = 0
    for line in sass.splitlines():
        high = re.search(r"\bUIADD3\.X (UR\d+|URZ), (\S+), (\S+), URZ, (UP\d)", line)
        if high and low_words.get(high[4]) in (high[2], high[3]):
            broken += 1
        if written := _written(line):
            low_words = {carry: low for carry, low in low_words.items() if low not in written}
        if low := re.search(r"\bUIADD3 (?:UR\d+|URZ), (UP\d), (UR\d+), \S+, URZ", line):
            low_words[low[1]] = low[2]
    return broken


def count_undefined_addresses(sass: str) -> int:
    """Count additions to matrix descriptors whose low word, the address, comes from a register that nothing was written to.

    ptxas 12.8 does this to right operands of 16 columns: `IADD3 R2, P0, R2, 0x20, RZ` as R2's first use, or with the stack
    pointer R1. The kernel reads shared memory at random addresses, and sometimes beyond its end.
    """
    written: set[str] = set()
    wrong = 0
    for line in sass.splitlines():
        found = re.search(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\d\s+)?([A-Z][\w.]*)\s+([^;]*)", line)
        if not found:
            continue
        operation, operands = found[1], [part.strip() for part in found[2].split(",")]
        if operation == "IADD3" and re.match(r"P\d", operands[1]):
            read = re.match(r"-?(R\d+)", operands[2])
            wrong += bool(read) and (read[1] == "R1" or read[1] not in written)
        if first := re.match(r"R(\d+)\b", operands[0]):
            size = re.search(r"\.(64|128)\b", operation)
            count = 64 if operation.startswith("HGMMA") else int(size[1]) // 32 if size else 1
            count = 2 if "WIDE" in operation or operation.startswith("CS2R") else count
            count = 4 if operation.startswith(("LDSM", "HMMA")) else count
            written |= {f"R{int(first[1]) + i}" for i in range(count)}
    return wrong


def _written(line: str) -> set[str]:
    """Return the uniform registers that an instruction writes: its first operand, or two with a 64-bit result."""
    found = re.search(r"\b([A-Z][A-Z0-9_.]*) UR(\d+)\b", line)
    if not found:
        return set()
    first = int(found[2])
    wide = ".64" in found[1] or ".WIDE" in found[1]
    return {f"UR{first + i}" for i in range(2 if wide else 1)}


def _disassemble(cubin: bytes) -> tuple[int, str]:
    """Return the registers per thread and the machine code."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", "-sass", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers = re.search(r"REG:(\d+)", text)
    assert registers
    return int(registers[1]), text


def kernels(
    length: int, dtype: torch.dtype, capability: int, *, batch: int = 64, width: int = 768
) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return the kernels of one call, forward and backward, with the constants of its plan."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    for backward in (False, True):
        plan = plan_fftconv(batch, width, length, dtype, LIMITS[capability], backward=backward)
        if isinstance(plan, TilePlan):
            found |= _tile_kernels(plan, dtype, backward=backward)
        else:
            found |= _long_kernels(plan, dtype, backward=backward)
    return found


def _tile_kernels(plan: TilePlan, dtype: torch.dtype, *, backward: bool) -> dict[str, Any]:
    base = {
        "N1": plan.n1, "N2": plan.n2, "STACKED": plan.stacked, "PREC": precision(dtype), "num_warps": plan.num_warps,
    }  # fmt: skip
    walk = base | {"GATED": True, "HOIST": plan.hoist, "STAGES": plan.stages}
    if not backward:
        return {
            "forward": (tile_kernels.tile_forward, walk),
            "spectrum": (tile_kernels.tile_spectrum, base),
        }
    limit = {"maxnreg": plan.registers} if plan.registers else {}
    working = tl.float32 if dtype == torch.float32 else tl.float16
    return {
        "backward": (tile_kernels.tile_backward, walk | limit),
        "adjoint": (tile_kernels.tile_adjoint, base | {"DT": working}),
    }


def _long_kernels(plan: LongPlan, dtype: torch.dtype, *, backward: bool) -> dict[str, Any]:
    common = {"PREC": precision(dtype), "num_stages": 1}
    outer = common | {
        "M1": plan.m1, "N2": plan.columns, "T": plan.tile, "STAGES": plan.outer_stages, "num_warps": plan.outer_warps,
    }  # fmt: skip
    inner = common | {
        "NA": plan.na, "NB": plan.nb, "R": plan.rows, "COUNT": plan.outer_tiles, "T": plan.tile,
        "SCALED": plan.nm == 1, "STAGES": plan.inner_stages, "num_warps": plan.inner_warps,
    }  # fmt: skip
    if plan.inner_registers:
        inner["maxnreg"] = plan.inner_registers
    forth = outer | {"PAIR": True, "SKIP": False}
    found: dict[str, Any] = {}
    if plan.nm > 1:
        sizes = {"NM": plan.nm, "N3": plan.na * plan.nb, "T": plan.tile, "STAGES": plan.outer_stages}  # fmt: skip
        found = {
            "middle": (outer_kernels.middle, common | sizes | {"INVERSE": False}),
            "middle back": (outer_kernels.middle, common | sizes | {"INVERSE": True}),
        }
    if backward:
        found |= {
            "backward outer": (outer_kernels.outer_forward, forth | {"DOT": True}),
            "backward inner": (inner_kernels.inner_backward, inner | {"GATED": True}),
            "backward outer back": (outer_kernels.outer_inverse, outer | {"GATES": 2}),
        }
    else:
        found |= {
            "outer": (outer_kernels.outer_forward, forth | {"DOT": False}),
            "inner": (inner_kernels.inner_product, inner),
            "outer back": (outer_kernels.outer_inverse, outer | {"GATES": 1}),
        }
    return found


if __name__ == "__main__":
    import sys

    for text in sys.argv[2].split(","):
        for name, (kernel, constants) in kernels(
            int(text), getattr(torch, sys.argv[1]), 90
        ).items():
            needs = compile_kernel(kernel, constants, getattr(torch, sys.argv[1]), 90)
            sys.stdout.write(f"{text} {name} {needs}\n")
