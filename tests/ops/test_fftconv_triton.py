"""The Triton kernels under Triton's interpreter, which must be chosen before triton is imported: in processes of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed here")

CASES = Path(__file__).with_name("interpreted_cases.py")


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
        "TestRows",
        "TestTorch",
    ],
)
def test_interpreted_kernels(run_interpreted: Callable[[Path, str], None], group: str) -> None:
    run_interpreted(CASES, group)


def test_every_interpreted_case_is_in_a_group_that_runs() -> None:
    found = set(re.findall(r"^class (\w+)", CASES.read_text(), flags=re.MULTILINE))
    assert found == {"TestNumbers", "TestInvariants", "TestRows", "TestTorch"}
    numbers = CASES.read_text().split("class TestNumbers")[1].split("\nclass ")[0]
    assert numbers.count("def test_") == 4
    assert not re.search(r"^def test_", CASES.read_text(), flags=re.MULTILINE)
