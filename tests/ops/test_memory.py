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
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_a_large_tensor_takes_the_place_of_the_last_one() -> None:
    def count(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True, check=True)  # fmt: skip
        return int(done.stdout)

    assert count("usual") > 5000
    assert count("keep") < 1000


def test_other_systems_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
