"""The filter's kernels under Triton's interpreter, which must be chosen before triton is imported: in processes of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed here")

CASES = Path(__file__).with_name("test_implicit_filter_kernels.py")
GROUPS = ["TestNumbers", "TestRange", "TestTorch"]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GROUPS)
def test_interpreted_kernels(run_interpreted: Callable[[Path, str], None], group: str) -> None:
    run_interpreted(CASES, group)


def test_every_interpreted_case_is_in_a_group_that_runs() -> None:
    text = CASES.read_text()
    assert re.findall(r"^class (Test\w+)", text, flags=re.MULTILINE) == GROUPS
    assert not re.search(r"^def test_", text, flags=re.MULTILINE)
