from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from hyenadna.data.synthetics.published import PublishedFigures, published_figures
from hyenadna.errors import ConfigError, FileFormatError
from hyenadna.resources import config_dir
from hyenadna.training.grid_report import (
    METRICS,
    GridCell,
    grid_markdown,
    plot_grid,
    write_grid,
)

CELLS = [
    GridCell("a", "hyena", {"optimizer.lr": 1e-3}, 91.0, (90.0, 92.0), 100, 2.0),
    GridCell("a", "attention", {"optimizer.lr": 1e-4}, 70.0, (71.5,), 90, 3.0),
    GridCell("b", "hyena", {"optimizer.lr": 1e-3}, 50.0, (50.0, 50.0), 100, 2.0),
    GridCell("b", "attention", note="failed: error: no memory"),
]
OTHERS = PublishedFigures("Somebody (1999)", "Mind the gap.", {"theirs": {"a": 88.0, "b": 1.0, "average": 44.5}})  # fmt: skip


def test_table_has_spreads_failures_published_figures_and_complete_means() -> None:
    text = grid_markdown(CELLS, OTHERS)
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]  # fmt: skip
    assert cells[0] == ["accuracy, %", "hyena", "attention", "theirs (published)"]
    assert cells[2] == ["a", "91.0 ± 1.4", "71.5", "88.0"]
    assert cells[3] == ["b", "50.0 ± 0.0", "failed", "1.0"]
    assert cells[4] == ["average", "70.5", "", "44.5"]
    assert "Somebody (1999). Mind the gap." in text


def test_figures_that_unfinished_runs_may_change_have_stars() -> None:
    cells = [dataclasses.replace(CELLS[0], unfinished=2), CELLS[1], CELLS[2], GridCell("b", "attention", note="unfinished: stopped", unfinished=6)]  # fmt: skip
    text = grid_markdown(cells, OTHERS)
    assert "91.0 ± 1.4*" in text
    assert "71.5 " in text
    assert "| unfinished |" in text
    assert "70.5*" in text  # the mean of the column
    assert "are missing: a, hyena (2); b, attention (6)." in text
    assert "*" not in grid_markdown(CELLS, OTHERS)


def test_no_mean_over_some_rows_stands_beside_one_over_all() -> None:
    assert "average" not in grid_markdown(CELLS[:2], OTHERS)
    assert "average" not in grid_markdown(CELLS, None)


def test_files_hold_the_same_numbers_and_a_picture_is_drawn(tmp_path: Path) -> None:
    write_grid(tmp_path, CELLS, [{"row": "a"}], OTHERS, {"command": ["x"]})
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [r["mean"] for r in rows] == ["91.0", "71.5", "50.0", ""]
    assert rows[0]["chosen"] == "optimizer.lr=0.001"
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["cells"][0]["test"] == [90.0, 92.0]
    assert content["runs"] == [{"row": "a"}]
    assert (tmp_path / "results.md").read_text() == grid_markdown(CELLS, OTHERS)
    plot_grid(CELLS, OTHERS, tmp_path / "results.png", axis="length")
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["mad", "recall"])
def test_published_figures_are_about_rows_of_our_grids(name: str) -> None:
    import yaml

    found = published_figures(name)
    rows = yaml.safe_load((config_dir() / f"experiment/synthetics/{name}.yaml").read_text())["grid"]["rows"]  # fmt: skip
    for figures in found.values.values():
        assert set(figures) - {"average"} <= set(rows)
        if "average" in figures:
            mean = sum(figures[row] for row in rows) / len(rows)
            assert figures["average"] == pytest.approx(mean, abs=0.06)
    assert "arXiv" in found.source


def test_mistakes_in_published_figures_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are recall, mad"):
        published_figures("nonsense")
    file = tmp_path / "published.yaml"
    file.write_text("x:\n  source: s\n  note: n\n  values: {m: {a: 101}}\n")
    with pytest.raises(FileFormatError, match="101 for m on a"):
        published_figures("x", file)
    file.write_text("x: {source: s}\n")
    with pytest.raises(FileFormatError, match="note, source, values"):
        published_figures("x", file)


def test_bits_have_their_own_title_and_digits(tmp_path: Path) -> None:
    bits = METRICS["bits_per_byte"]
    cells = [GridCell("a", "hyena", {}, 1.6, (1.61234, 1.62345)), GridCell("a", "attention", {}, 1.5, (1.5,))]  # fmt: skip
    text = grid_markdown(cells, None, bits)
    assert text.splitlines()[0].split("|")[1].strip() == "bits per byte"
    assert "1.6179 ± 0.0079" in text
    assert "1.5000" in text
    write_grid(tmp_path, cells, [], None, {}, bits)
    assert (tmp_path / "results.md").read_text() == text
    assert json.loads((tmp_path / "results.json").read_text())["metric"] == "bits per byte"
    plot_grid(cells, None, tmp_path / "results.png", axis="text", metric=bits)
    assert METRICS["accuracy"].higher_is_better > bits.higher_is_better
