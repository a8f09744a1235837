"""Freed memory stays with the process once the C library is told so: counted in page faults, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hyenadna.ops.memory import keep_freed_memory

_COUNT = """
import resource, sys
import torch
from hyenadna.ops.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 * 2**20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(sum(faults() > 1000 for _ in range(40)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_large_tensors_take_the_place_of_earlier_ones() -> None:
    def count(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True, check=True)  # fmt: skip
        return int(done.stdout)

    # Of 40 tensors, how many were given fresh pages. Small blocks take bites of the freed ones at first, up to ten times.
    assert count("usual") == 40
    assert count("keep") <= 20


def test_other_systems_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
