from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hyenadna.data.manifest import RemoteDataset, find_dataset
from hyenadna.resources import config_dir
from hyenadna.training.finetune_config import FinetuneConfig
from tests.training.test_finetune import write_task

SMALL = [
    "model.pretrained=null", "model.d_model=16", "model.n_layers=1", "model.filter_dim=8", "trainer.max_epochs=1",
    "trainer.min_steps=0", "task.n_resamples=50", "seeds=[1,2]", "trainer.accelerator=cpu",
]  # fmt: skip


def suite(
    experiments: str, root: Path, run_dir: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "hyenadna", "finetune", "experiment=gue/all", f"suite.experiments=[{experiments}]",
        f"data.root={root}", f"run_dir={run_dir}", *SMALL, *words,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


def test_a_suite_makes_one_table_says_what_is_missing_and_does_not_run_twice(
    tmp_path: Path,
) -> None:
    root = tmp_path / "gue"
    write_task(root / "prom" / "prom_core_tata", n=64)
    write_task(root / "mouse" / "3", n=64)
    broken = write_task(root / "tf" / "0", n=64)
    (broken / "train.csv").write_text("sequence,label\nACGT\n")
    names = "gue/prom_core_tata,gue/mouse_3,gue/tf_0,gue/covid"
    done = suite(names, root, tmp_path / "run", "suite.jobs=2")
    assert done.returncode == 1, done.stderr  # tf_0 failed
    table = json.loads((tmp_path / "run" / "results.json").read_text())
    tata, mouse, failed, missing = table["tasks"]
    assert (tata["task"], tata["split"], tata["n"]) == ("prom/prom_core_tata", "test", 33)
    assert tata["others"]["HyenaDNA"] == 72.87
    assert len(tata["seeds"]) == 2
    assert tata["mean"] == pytest.approx(sum(tata["seeds"]) / 2)
    assert tata["interval"][0] < tata["mean"] < tata["interval"][1]
    assert mouse["note"] == ""
    assert failed["note"].startswith("failed: error: ")
    assert "train.csv" in failed["note"]
    assert missing["note"].startswith("no data")
    text = (tmp_path / "run" / "results.md").read_text()
    assert text in done.stdout
    assert "72.9" in text
    rows = list(csv.DictReader((tmp_path / "run" / "results.csv").open()))
    assert [row["task"] for row in rows] == [t["task"] for t in table["tasks"]]

    single = json.loads((tmp_path / "run" / "mouse_3" / "results.json").read_text())
    before = (tmp_path / "run" / "mouse_3" / "results.json").stat().st_mtime_ns
    again = suite("gue/prom_core_tata,gue/mouse_3", root, tmp_path / "run")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "mouse_3" / "results.json").stat().st_mtime_ns == before
    assert 100 * single["test"]["mcc"]["mean"] == pytest.approx(mouse["mean"])

    other = suite("gue/mouse_3", root, tmp_path / "run", "optimizer.lr=1e-4")
    assert other.returncode == 2
    assert "ran with the settings" in other.stderr
    assert (tmp_path / "run" / "mouse_3" / "results.json").stat().st_mtime_ns == before


def test_an_unknown_experiment_is_one_sentence(tmp_path: Path) -> None:
    failed = suite("gue/nonsense", tmp_path, tmp_path / "run")
    assert failed.returncode == 2
    assert "gue/nonsense" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_root_that_is_not_there_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    failed = suite("gue/mouse_3", tmp_path / "typo", tmp_path / "run")
    assert failed.returncode == 2
    assert "typo: no such folder" in failed.stderr
    assert not (tmp_path / "run").exists()


def test_every_gue_task_has_a_recipe_that_composes() -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from hyenadna.cli.schema import register_schema, to_dataclass

    register_schema("finetune", FinetuneConfig)
    names = yaml.safe_load((config_dir() / "experiment/gue/all.yaml").read_text())["suite"][
        "experiments"
    ]
    found = find_dataset("gue")
    assert isinstance(found, RemoteDataset)
    GlobalHydra.instance().clear()
    paths, strands = [], {}
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for name in names:
            config = to_dataclass(compose("finetune", [f"experiment={name}"]), FinetuneConfig)
            paths.append(config.data.path)
            strands[config.data.path] = config.task.strands
            assert len(config.seeds) >= 3
            assert (
                config.data.extra_train == []
            )  # GUE's own rows alone are what published figures learnt from
        more = compose("finetune", ["experiment=gue/splice_annotated"]).data
        assert (more.path, list(more.extra_train)) == (
            "splice/reconstructed",
            ["splice_genes/train.csv", "splice_near/train.csv"],
        )
    assert sorted(map(str, paths)) == sorted(t.name for t in found.tasks)
    assert {strands[p] for p in strands if str(p).startswith(("tf", "mouse", "EMP"))} == {"both"}
    assert {strands[p] for p in strands if str(p).startswith(("prom", "splice"))} == {"forward"}
