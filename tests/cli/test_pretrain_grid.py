"""A grid of runs as its user meets it: one table, nothing run twice, and no mixture of settings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hyenadna.cli import main, side_by_side
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


@pytest.fixture
def fake_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let runs be a script that reports 50 % at once, or after a minute with lr=0.01; returns the list of those that began."""
    report = {"status": "finished", "steps": 2, "n_parameters": 1, "throughput": {"seconds": 1.0}}
    figures = {"class_accuracy": 0.5, "accuracy": 0.5, "loss_nats": 1.0}
    text = json.dumps({**report, "validation": figures, "test": figures})
    began, script = tmp_path / "began.txt", tmp_path / "fake"
    script.write_text(f"""#!/bin/sh
for word in "$@"; do case $word in run_dir=*) dir=${{word#run_dir=}};; optimizer.lr=*) lr=${{word#*=}};; esac; done
echo "$dir" >> {began}
mkdir -p "$dir"
if [ "$lr" = 0.01 ] && [ ! -e {tmp_path}/fast ]; then exec sleep 60; fi
echo '{text}' > "$dir/report.json"
""")
    script.chmod(0o755)
    monkeypatch.setattr(side_by_side.sys, "executable", str(script))
    return began


def began_of(file: Path) -> list[str]:
    """Return task and learning rate of each run that began, in order."""
    folders = [Path(line) for line in file.read_text().split()]
    return [f"{f.parts[-3]} {f.name.split('_')[0].removeprefix('lr-')}" for f in folders]


def test_a_grid_whose_time_is_up_has_a_table_that_says_what_is_missing(
    tmp_path: Path, fake_runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "run"
    words = words_of(root, "grid.only=[memorisation,compression,hyena]", "grid.jobs=3")
    assert main([*words, "grid.seconds=4"]) == 1
    out, err = capsys.readouterr()
    assert "the time is up: 2 runs are stopped, 0 do not begin" in err
    text = (root / "results.md").read_text()
    assert text in out
    assert text.count("50.0*") == 2
    assert "* Unfinished, with the number of runs that are missing: compression, hyena (1); memorisation, hyena (1)." in text  # fmt: skip
    cells = json.loads((root / "results.json").read_text())["cells"]
    assert [(cell["unfinished"], cell["note"]) for cell in cells] == [(1, ""), (1, "")]

    # The same command goes on, another limit is no other grid, and what is finished keeps its report.
    (tmp_path / "fast").touch()
    fake_runs.unlink()
    assert main([*words, "grid.seconds=100"]) == 0
    assert sorted(began_of(fake_runs)) == ["compression 0.01", "memorisation 0.01"]
    text = (root / "results.md").read_text()
    assert "*" not in text
    assert "Unfinished" not in text


@pytest.mark.usefixtures("fake_runs")
def test_a_cell_without_any_finished_run_is_unfinished_not_failed(tmp_path: Path) -> None:
    one = "grid.tune={optimizer.lr:[1e-2],optimizer.weight_decay:[0.0]}"
    assert main(words_of(tmp_path / "run", one, "grid.seconds=2")) == 1
    (cell,) = json.loads((tmp_path / "run/results.json").read_text())["cells"]
    assert cell["note"] == "unfinished: stopped"
    assert "| unfinished" in (tmp_path / "run/results.md").read_text()


@pytest.mark.parametrize(("enough", "expected"), [(0.4, 1), (0.6, 2)])
def test_settings_beside_one_that_is_good_enough_are_not_tried(
    tmp_path: Path, fake_runs: Path, enough: float, expected: int
) -> None:
    (tmp_path / "fast").touch()
    words = words_of(tmp_path / "run", f"grid.enough={enough}", "grid.jobs=1")
    for _ in range(2):  # the same command again does not try them, either
        assert main(words) == 0
        assert len(began_of(fake_runs)) == expected
        content = json.loads((tmp_path / "run/results.json").read_text())
        notes = [run.get("note", "") for run in content["runs"]]
        assert sum(note.startswith("not needed") for note in notes) == 2 - expected
        assert [(c["note"], c["unfinished"], c["test"]) for c in content["cells"]] == [("", 0, [50.0])]  # fmt: skip


@pytest.mark.parametrize(
    ("enough", "order"),
    [
        ("null", ["selective_copying 1e-05", "selective_copying 0.01", "compression 1e-05", "compression 0.01"]),
        ("0.9", ["selective_copying 1e-05", "compression 1e-05", "selective_copying 0.01", "compression 0.01"]),
    ],
)  # fmt: skip
def test_long_runs_begin_first(
    tmp_path: Path, fake_runs: Path, enough: str, order: list[str]
) -> None:
    (tmp_path / "fast").touch()
    words = words_of(tmp_path / "run", "grid.only=[compression,selective_copying,hyena]", "grid.jobs=1")  # fmt: skip
    assert main([*words, f"grid.enough={enough}"]) == 0
    assert began_of(fake_runs) == order


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("grid.seconds=0", "a number above 0 is needed"),
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
