"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave GPU tests out where there is no CUDA device."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real data, described in its own README."""
    value = os.environ.get("HYENADNA_TEST_DATA")
    if not value:
        pytest.skip("HYENADNA_TEST_DATA is not set: tests on the real data are left out")
    folder = Path(value) if Path(value).is_absolute() else ROOT / value
    if not folder.is_dir():
        pytest.fail(f"HYENADNA_TEST_DATA={value} is no folder")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's cache and off the network."""
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def toy_fasta(tmp_path: Path) -> Path:
    """Two small contigs with soft-masked and N bases, 60 letters a line."""
    first = ("ACGTTGCAAC" * 50)[:480] + "N" * 20 + "acgtacgtaa" * 10
    second = "GGCATTTACG" * 40
    path = tmp_path / "toy.fa"
    with path.open("w") as out:
        for name, sequence in (("chrA", first), ("chrB", second)):
            out.write(f">{name} toy contig\n")
            out.writelines(sequence[i : i + 60] + "\n" for i in range(0, len(sequence), 60))
    return path
