"""What the tests of kernels share: machine code to read, and Triton's interpreter in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def resources() -> ModuleType:
    """The module resources.py, which is no test and no part of the package."""
    spec = importlib.util.spec_from_file_location("kernel_resources", HERE / "resources.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_interpreted() -> Callable[[Path, str], None]:
    """Run a group of tests of a file under the interpreter; all must pass, and none may be left out."""

    def run(cases: Path, group: str) -> None:
        inherited = {name: v for name, v in os.environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}  # fmt: skip
        environment = inherited | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:xdist", f"{cases}::{group}"]  # fmt: skip
        done = subprocess.run(command, cwd=HERE.parents[1], env=environment, capture_output=True, text=True, check=False)  # fmt: skip
        said = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        assert re.search(r"\b\d+ passed", said), said
        assert not re.search(r"\b\d+ (?:skipped|deselected)", said), said

    return run
