"""The tutorials run as they stand, in order, each continuing with what the one before left."""

import os
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="the extra 'test' is not installed")

import jupytext
import matplotlib

TUTORIALS = Path(__file__).resolve().parent.parent / "tutorials"


def _run(path: Path) -> dict[str, object]:
    notebook = jupytext.read(path)
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        exec(compile(cell.source, f"{path.name}, code cell {number + 1}", "exec"), names)
    return names


@pytest.mark.slow
def test_the_tutorials_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    sources = sorted(TUTORIALS.glob("*.py"))
    assert [p.name[:2] for p in sources] == ["01", "02", "03"]
    for source in sources:
        _run(source)
    out = capfd.readouterr().out
    assert "bits per base" in out
    assert "llr" in out
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}, "a tutorial writes below runs/ only"


@pytest.mark.parametrize("path", sorted(TUTORIALS.glob("*.py")), ids=lambda p: p.stem)
def test_a_tutorial_is_a_notebook_with_explanations(path: Path) -> None:
    cells = jupytext.read(path).cells
    prose = [c for c in cells if c.cell_type == "markdown"]
    assert prose[0].source.startswith("# ")
    assert len(prose) >= len(cells) // 3
    assert str(Path.home()) + os.sep not in path.read_text()


def test_control_a_failing_cell_fails_the_test(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("# %% [markdown]\n# # Title\n\n# %%\nassert 1 == 2\n")
    with pytest.raises(AssertionError):
        _run(bad)
