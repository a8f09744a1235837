"""The wheel holds what it needs, and works from an empty folder outside the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(out),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (found,) = out.glob("*.whl")
    return found


def test_only_hyenadna_becomes_importable(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"hyenadna"}


def test_configs_and_data_travel_inside_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "hyenadna/_resources/configs/pretrain.yaml" in names
    assert "hyenadna/_resources/datasets/scerevisiae/genome.2bit" in names
    assert "hyenadna/_resources/datasets/gue/dataset.yaml" in names
    assert "hyenadna/_resources/datasets/gue/README.md" in names
    assert "hyenadna/_resources/datasets/gue/published.yaml" in names
    assert "hyenadna/py.typed" in names
    assert not any(
        name.startswith("hyenadna/_resources") and name.endswith(".py") for name in names
    )


def test_the_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import hyenadna, hyenadna.resources as r; print(hyenadna.__file__); print(r.config_dir());"
        "print(r.resolve('bundled:scerevisiae/genome.2bit'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(str(site)) for line in lines)
