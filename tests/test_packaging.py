"""The wheel holds what it needs, and works from an empty folder outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import venv
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
    for file in ("README.md", "SHA256SUMS", "config.json", "model.safetensors", "report.json"):
        assert f"hyenadna/_resources/weights/human-tiny-1k/{file}" in names
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


@pytest.mark.slow
def test_an_installed_wheel_scores_at_once(wheel: Path, tmp_path: Path) -> None:
    """A fresh environment, the installed command, another folder; libraries come from the environment of the tests."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=os.name != "nt")
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")
    say = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", say], capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", str(wheel)]  # fmt: skip
    subprocess.run(install, check=True, capture_output=True, text=True)
    # A .pth line adds the folder, but no .pth file in it: an editable hyenadna there stays out.
    Path(site, "libraries.pth").write_text("\n".join(sysconfig.get_path(n) for n in ("purelib", "platlib")))  # fmt: skip
    work = tmp_path / "work"
    work.mkdir()
    (work / "my.fa").write_text(">one\nACGTTGCATTGACCAGTAGGATCCAAAATTGGG\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(scripts / "hyenadna"), "score", "my.fa", "-o", "scores.tsv"],
        cwd=work, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "model: bundled:human-tiny-1k" in result.stderr
    table = (work / "scores.tsv").read_text().splitlines()
    assert (len(table), table[1].split("\t")[:3]) == (2, ["one", "33", "32"])
    found = subprocess.run(
        [python, "-c", "import hyenadna.resources as r; print(r.resolve(r.DEFAULT_MODEL))"],
        cwd=work, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(found.stdout.strip()).is_relative_to(Path(site))
