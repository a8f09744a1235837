"""A grid of runs as its user meets it: one table, nothing run twice, and no mixture of settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hyenadna.cli import main
from hyenadna.resources import config_dir
from tests.test_configs import composed

SMALL = [
    "model.d_model=16", "model.filter_dim=8", "model.hyena_heads=4", "model.attention_heads=2", "trainer.max_steps=2", "trainer.validate_every=2",
    "trainer.accelerator=cpu", "data.synthetic.train_rows=16", "data.synthetic.validation_rows=16", "data.synthetic.test_rows=16",
]  # fmt: skip


def words_of(run_dir: Path, *words: str) -> list[str]:
    return [
        "pretrain", "experiment=synthetics/mad", "grid.only=[memorisation,hyena]",
        "grid.tune={optimizer.lr:[1e-5,1e-2],optimizer.weight_decay:[0.0]}", f"run_dir={run_dir}", *SMALL, *words,
    ]  # fmt: skip


def grid(run_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hyenadna", *words_of(run_dir, *words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.slow
def test_a_grid_takes_the_best_of_validation_and_does_not_run_twice(tmp_path: Path) -> None:
    root = tmp_path / "run"
    done = grid(root, "grid.jobs=2", "grid.seeds=[1,2]")
    assert done.returncode == 0, done.stderr
    table = json.loads((root / "results.json").read_text())
    assert len(table["cells"]) == 1
    assert len(table["runs"]) == 3  # two settings with one seed, the best with another
    for cell in table["cells"]:
        runs = [r for r in table["runs"] if (r["row"], r["model"]) == (cell["row"], cell["model"])]
        tried = [r for r in runs if r["seed"] == 1]
        best = max(tried, key=lambda r: (r["validation"]["class_accuracy"], -r["validation"]["loss_nats"]))  # fmt: skip
        assert cell["chosen"]["optimizer.lr"] == best["optimizer.lr"]
        assert cell["validation"] == pytest.approx(100 * best["validation"]["class_accuracy"])
        seeds = [r["test"]["class_accuracy"] for r in runs if r["optimizer.lr"] == best["optimizer.lr"]]  # fmt: skip
        assert sorted(cell["test"]) == pytest.approx(sorted(100 * s for s in seeds))
    assert (root / "results.md").read_text() in done.stdout
    reports = {p: p.stat().st_mtime_ns for p in root.rglob("report.json")}

    again = grid(root, "grid.seeds=[1]")
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in root.rglob("report.json")} == reports
    (cell,) = json.loads((root / "results.json").read_text())["cells"]
    assert len(cell["test"]) == 1

    other = grid(root, "model.n_layers=4")
    assert other.returncode == 2
    assert "holds a grid that ran with the settings" in other.stderr


@pytest.mark.slow
def test_what_fails_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    one = "grid.tune={optimizer.lr:[1e-3],optimizer.weight_decay:[0.0]}"
    done = grid(tmp_path / "run", "grid.only=[memorisation,hyena,attention]", "model.attention_heads=3", one)  # fmt: skip
    assert done.returncode == 1
    cells = json.loads((tmp_path / "run" / "results.json").read_text())["cells"]
    assert cells[0]["note"] == ""
    assert cells[1]["note"].startswith("failed: error: model attention_heads=3")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("grid.only=[hyenas]", "there are compression"),
        ("grid.published=nonsense", "no such published figures"),
        ("resume=x", "a grid goes on with the same run_dir"),
        ("grid.metric=f1", "one of accuracy, class_accuracy, bits_per_byte"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert main(words_of(tmp_path / "run", word)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mad", "recall", "mqar"])
def test_every_run_of_every_grid_composes(name: str) -> None:
    content = yaml.safe_load((config_dir() / f"experiment/synthetics/{name}.yaml").read_text())["grid"]  # fmt: skip
    found = composed(f"experiment=synthetics/{name}").grid
    assert set(found.rows) == set(content["rows"])
    for row in found.rows.values():
        for model in found.models.values():
            tuned = [f"{key}={values[0]}" for key, values in found.tune.items()]
            config = composed(*row, *model, *tuned)
            assert config.data.kind == "synthetic"
            assert config.model.max_seq_len == config.data.seq_len
            kept = config.data.synthetic.train_rows
            if name == "mad" and kept:  # 200 epochs
                assert config.trainer.max_steps == 200 * kept / config.data.global_batch_size
            if name == "mqar":  # 64 epochs
                assert config.trainer.max_steps == 64 * 100_000 / config.data.global_batch_size
