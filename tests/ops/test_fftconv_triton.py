"""The Triton kernels under Triton's interpreter, which must be chosen before triton is imported: in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed here")

CASES = Path(__file__).with_name("interpreted_cases.py")
ROOT = CASES.parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "group",
    [
        "TestNumbers::test_of_short_rows_equal_float64",
        "TestNumbers::test_of_long_rows_equal_float64",
        "TestNumbers::test_are_right_after_a_middle_pass",
        "TestNumbers::test_are_right_in_bfloat16",
        "TestInvariants",
        "TestTorch",
    ],
)
def test_interpreted_kernels(group: str) -> None:
    inherited = {name: v for name, v in os.environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}  # fmt: skip
    environment = inherited | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:xdist", f"{CASES}::{group}"]  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = f"{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said
    assert re.search(r"\b\d+ passed", said), said
    assert not re.search(r"\b\d+ (?:skipped|deselected)", said), said


def test_every_interpreted_case_is_in_a_group_that_runs() -> None:
    found = set(re.findall(r"^class (\w+)", CASES.read_text(), flags=re.MULTILINE))
    assert found == {"TestNumbers", "TestInvariants", "TestTorch"}
    numbers = CASES.read_text().split("class TestNumbers")[1].split("\nclass ")[0]
    assert numbers.count("def test_") == 4
    assert not re.search(r"^def test_", CASES.read_text(), flags=re.MULTILINE)
