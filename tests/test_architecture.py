"""The house's rules as tests: imports go down and stay light, rooms stay small, data folders hold no code."""

import subprocess
import sys
from pathlib import Path

import pytest

import hyenadna

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hyenadna"
HEAVY = ("torch", "lightning", "sklearn", "matplotlib", "transformers", "hydra", "Bio", "pyfaidx", "pysam")  # fmt: skip


def _python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout


@pytest.mark.parametrize(
    "module", ["hyenadna", "hyenadna.cli", "hyenadna.sequence", "hyenadna.tokenizers"]
)
def test_import_loads_nothing_heavy(module: str) -> None:
    loaded = _python(f"import sys, {module}; print(*sys.modules)").split()
    assert module in loaded
    assert not set(HEAVY) & set(loaded)


def test_the_import_check_can_fail() -> None:
    loaded = _python("import sys, hyenadna.models; print(*sys.modules)").split()
    assert set(HEAVY) & set(loaded)


def test_import_is_fast() -> None:
    code = "import time; t = time.perf_counter(); import hyenadna; print(time.perf_counter() - t)"
    assert min(float(_python(code)) for _ in range(3)) < 0.3


def test_public_names_are_pinned_and_load() -> None:
    assert hyenadna.__all__ == [
        "ByteTokenizer", "CharacterTokenizer", "Genome", "HyenaConfig", "HyenaDNAError", "HyenaForCausalLM",
        "HyenaForMaskedLM", "HyenaForSequenceClassification", "Interval", "Variant", "load_model", "load_tokenizer", "predict_sequences",
        "score_sequences", "score_variants",
    ]  # fmt: skip
    for name in hyenadna.__all__:
        assert getattr(hyenadna, name) is not None
    assert set(hyenadna.__all__) <= set(dir(hyenadna))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hyenadna.nonsense  # type: ignore[attr-defined]


@pytest.mark.parametrize("folder", ["datasets", "configs", "weights"])
def test_data_folders_hold_no_python(folder: str) -> None:
    files = list((ROOT / folder).rglob("*"))
    assert files
    assert not [f for f in files if f.suffix == ".py"]


def test_modules_fit_in_the_head() -> None:
    long = {
        str(f.relative_to(ROOT)): n
        for f in PACKAGE.rglob("*.py")
        if (n := len(f.read_text().splitlines())) > 600
    }
    assert not long


def test_no_drawers_for_odds_and_ends() -> None:
    names = {f.stem for f in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_tests_mirror_the_rooms() -> None:
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms <= {p.name for p in (ROOT / "tests").iterdir() if p.is_dir()}
