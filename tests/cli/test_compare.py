from __future__ import annotations

import csv
import hashlib
import json
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from hyenadna.cli import main
from tests.training.test_finetune import write_task

N = 300
LABELS = np.arange(N) % 2
HARD = np.random.default_rng(99).standard_normal(N)


def make_run(
    folder: Path,
    *,
    gain: float = 0.0,
    seeds: Sequence[int] = (1, 2, 3),
    noise: int = 0,
    names: Sequence[str] = ("neg", "pos"),
    lines: Sequence[int] = range(2, N + 2),
    splits: Sequence[str] = ("dev", "test"),
    sha256: str = "same file",
    lr: float = 1e-3,
) -> Path:
    """A run folder as `hyenadna finetune` leaves it, whose seeds find the same rows hard."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng([noise, int(1000 * abs(gain))])
    with (folder / "predictions.csv").open("w") as out:
        out.write(f"seed,split,line,label,predicted,{','.join(f'p_{n}' for n in names)}\n")
        for seed in seeds:
            for split in splits:
                margin = 1 + gain - 1.5 * HARD + rng.standard_normal(N)
                positive = 1 / (1 + np.exp(-np.where(LABELS, margin, -margin)))
                for line, label, p in zip(lines, LABELS, positive, strict=False):
                    out.write(f"{seed},{split},{line},{names[label]},{names[int(p > 0.5)]},{1 - p:.6g},{p:.6g}\n")  # fmt: skip
    described = {"rows": len(lines[:N]), "sha256": hashlib.sha256(sha256.encode()).hexdigest()}
    results = {
        "test": {"n": N} if "test" in splits else None,
        "dev": {"n": N},
        "seeds": [{"seed": seed} for seed in seeds],
        "n_parameters": 1234,
        "commit": "0123abc",
        "data": {"train": described, **dict.fromkeys(splits, described)},
        "config": {
            "data": {"path": "toy/task"},
            "model": {"pretrained": "some/model"},
            "optimizer": {"lr": lr},
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.yaml").write_text("made: up\n")
    return folder


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_suites_are_compared_task_by_task_and_it_is_said_plainly_where_it_does_not_help(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gains = {"same": 0.0, "up": 1.0, "down": -1.0}
    for task, gain in gains.items():
        make_run(tmp_path / "scratch" / task, noise=1)
        make_run(tmp_path / "pre" / task, gain=gain, noise=2, lr=3e-4)
        make_run(tmp_path / "pub" / task, gain=gain / 50, noise=3)
    make_run(tmp_path / "scratch" / "only_here")
    (tmp_path / "pre" / "unfinished").mkdir()
    (tmp_path / "pre" / "unfinished" / "config.yaml").write_text("")
    (tmp_path / "pre" / "logs").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    words = [
        f"scratch={tmp_path / 'scratch'}", f"pretrained={tmp_path / 'pre'}", str(tmp_path / "pub"),
        "-o", str(out / "t.md"), "-o", str(out / "t.csv"), "-o", str(out / "t.json"), "--plot", str(out / "t.svg"),
    ]  # fmt: skip
    assert main(["compare", *words]) == 0
    text = capsys.readouterr().out
    assert text == (out / "t.md").read_text()
    assert "pretrained against scratch: better on 1, worse on 1 (down), no difference shown on 1 of 3 tasks" in text  # fmt: skip
    assert "pub against scratch: better on 0, worse on 0, no difference shown on 3" in text
    assert "optimizer.lr (0.001 → 0.0003)" in text
    assert "only_here (no results in pretrained, pub)" in text
    assert "unfinished (no results in scratch, pretrained, pub)" in text
    assert "corrected for the number of tasks" in text
    assert "one seed" not in text

    rows = {(row["run"], row["task"]): row for row in table(out / "t.csv")}
    assert len(rows) == 6
    for task, verdict in (("same", "no difference shown"), ("up", "better"), ("down", "worse")):
        row = rows["pretrained", task]
        assert row["verdict"] == verdict
        shift = float(row["run_mean"]) - float(row["reference_mean"])
        assert float(row["difference"]) == pytest.approx(shift, abs=2e-4)
        assert float(row["low"]) < float(row["difference"]) < float(row["high"])
        assert float(row["p"]) <= float(row["p_holm"])

    found = json.loads((out / "t.json").read_text())
    assert found["reference"] == "scratch"
    assert found["counts"]["pretrained"] == {"better": 1, "worse": 1, "no difference shown": 1}
    up = next(t for t in found["tasks"] if t["task"] == "up")
    assert len(up["seeds"]["scratch"]) == 3
    assert up["against_reference"]["pretrained"]["p_holm"] < 0.01
    mean = found["means"]["pretrained"]["difference"]
    assert mean == pytest.approx(np.mean([t["against_reference"]["pretrained"]["difference"] for t in found["tasks"]]))  # fmt: skip
    assert "hardware" in found
    picture = (out / "t.svg").read_text()
    assert picture.count("<!-- up -->") == 1
    assert "pretrained, pub against scratch" in picture

    assert main(["compare", *words]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["compare", *words, "--force"]) == 0
    assert (out / "t.svg").read_text() == picture


def test_single_runs_metrics_and_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", gain=1.0)
    for metric in ("mcc", "f1_macro", "accuracy", "auroc", "auprc"):
        for split in ("test", "dev"):
            path = tmp_path / f"{metric}-{split}.json"
            words = ["compare", str(a), str(b), "--metric", metric, "--split", split]
            assert main([*words, "-o", str(path), "--resamples", "200"]) == 0
            assert "b against a: better than a, +" in capsys.readouterr().out
            task = json.loads(path.read_text())["tasks"][0]
            assert (task["task"], task["split"], task["rows"]) == ("toy/task", split, N)
    assert main(["compare", str(b), str(a)]) == 0
    assert "a against b: worse than b, -" in capsys.readouterr().out


def test_a_run_and_a_copy_of_it_do_not_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run(tmp_path / "a", seeds=[1]), make_run(tmp_path / "b", seeds=[1])
    assert main(["compare", str(a), str(b), "-o", str(tmp_path / "t.json")]) == 0
    text = capsys.readouterr().out
    assert "b against a: no difference shown, 0.0 MCC points (95 % interval 0.0 to 0.0)" in text
    assert "have one seed each: the test is about these two trained models" in text
    assert json.loads((tmp_path / "t.json").read_text())["tasks"][0]["against_reference"]["b"]["p"] == 1.0  # fmt: skip


def test_tasks_without_a_test_split_are_compared_on_dev_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in ("a", "b"):
        make_run(tmp_path / run / "tested")
        make_run(tmp_path / run / "untested", splits=["dev"])
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    assert main([*words, "-o", str(tmp_path / "t.csv")]) == 0
    text = capsys.readouterr().out
    assert "untested (dev)" in text
    assert "Dev chose the epoch" in text
    assert [row["split"] for row in table(tmp_path / "t.csv")] == ["test", "dev"]
    assert main([*words, "--split", "test"]) == 0
    text = capsys.readouterr().out
    assert "Left out: untested (there is no test split)" in text
    assert "Dev chose" not in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sha256": "another"}, "the file's sha256 is"),
        ({"lines": range(3, N + 3)}, "row 1 is line 2 with label neg in the first, line 3 with label neg in the second"),
        ({"lines": range(2, N)}, "300 rows in the first, 298 in the second"),
        ({"names": ("neg", "yes")}, "classes neg, pos in the first, neg, yes in the second"),
    ],
)  # fmt: skip
def test_other_rows_are_refused_in_one_sentence(
    changes: dict[str, object], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", **changes)  # type: ignore[arg-type]
    assert main(["compare", str(a), str(b), "-o", str(tmp_path / "t.md")]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert "tested on different data" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "t.md").exists()


def test_other_labels_of_the_same_lines_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    text = (b / "predictions.csv").read_text()
    (b / "predictions.csv").write_text(text.replace(",7,pos,", ",7,neg,"))
    assert main(["compare", str(a), str(b)]) == 2
    assert "row 6 is line 7 with label pos in the first, line 7 with label neg" in capsys.readouterr().err  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["a"], "at least two runs"),
        (["a", "nowhere"], "nowhere names no folder"),
        (["a", "empty"], "empty is no run of hyenadna finetune"),
        (["a", "half"], "half is a run that is not finished"),
        (["a", "suite"], "name the task's folder in the suite, suite/x"),
        (["suite", "suite2"], "no task in common that can be compared (x: no results in suite2; y: no results in suite)"),
        (["a", "suite/../a"], "two runs are called 'a'; name them with NAME=FOLDER"),
        (["a", "b", "--metric", "loss"], "--metric loss is unknown; expected mcc"),
        (["a", "b", "--split", "train"], "--split train is unknown"),
        (["a", "b", "-o", "t.txt"], "expected a name that ends with .md, .csv, .json"),
        (["a", "b", "--plot", "t.pdf"], "expected a name that ends with .png, .svg"),
        (["a", "b", "-o", "a/results.json", "--force"], "a/results.json is a file of a; choose another"),
        (["a", "short"], "short/predictions.csv: found 300 rows of seed 1, 300 rows of seed 2, 4 rows of seed 3 of test"),
        (["a", "torn"], "torn/predictions.csv:1802: the row has 3 fields, expected 7"),
        (["a", "strange"], "strange/results.json: these are no results of hyenadna finetune"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(
    words: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "short", "torn", "strange", "suite/x", "suite2/y"):
        make_run(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.yaml").write_text("")
    whole = (tmp_path / "short" / "predictions.csv").read_text().splitlines()
    (tmp_path / "short" / "predictions.csv").write_text("\n".join(whole[:-296]) + "\n")
    with (tmp_path / "torn" / "predictions.csv").open("a") as out:
        out.write("3,test,9\n")
    (tmp_path / "strange" / "results.json").write_text("[]")
    before = (tmp_path / "a" / "results.json").read_bytes()
    assert main(["compare", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert (tmp_path / "a" / "results.json").read_bytes() == before


def test_real_runs_are_read_as_they_were_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path / "task", names=("rich", "poor"), n=64)
    shared = [
        "finetune", f"data.path={task}", "model.n_layers=1", "model.filter_dim=8", "trainer.progress=false", "seeds=[1,2]",
        "trainer.accelerator=cpu", "task.n_resamples=0", "task.baselines=false",
    ]  # fmt: skip
    for name, words in {
        "small": ["model.d_model=8", "trainer.max_epochs=1", "optimizer.lr=1e-5"],
        "large": ["model.d_model=16", "trainer.max_epochs=3", "optimizer.lr=1e-2"],
    }.items():
        assert main([*shared, *words, f"run_dir={tmp_path / name}"]) == 0
    capsys.readouterr()
    path = tmp_path / "t.json"
    assert main(["compare", str(tmp_path / "small"), str(tmp_path / "large"), "-o", str(path)]) == 0
    found = json.loads(path.read_text())
    for run in ("small", "large"):
        results = json.loads((tmp_path / run / "results.json").read_text())
        expected = [100 * seed["test"]["mcc"] for seed in results["seeds"]]
        assert found["tasks"][0]["seeds"][run] == pytest.approx(expected)
    differs = found["runs"][1]["differs"]
    assert set(differs) == {"model.d_model", "trainer.max_epochs", "optimizer.lr"}
    assert differs["model.d_model"] == ["8 → 16"]
    assert found["runs"][0]["differs"] == {}


def test_the_scratch_arm_of_the_help_has_the_shape_of_the_bundled_model(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import dataclasses

    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from hyenadna.cli.schema import register_schema, to_dataclass
    from hyenadna.data.labelled import LabelledSet
    from hyenadna.data.labelled_task import LabelledTask
    from hyenadna.resources import config_dir
    from hyenadna.training.finetune import build_classifier
    from hyenadna.training.finetune_config import FinetuneConfig

    assert main(["compare", "--help"]) == 0
    commands = capsys.readouterr().out.replace("\\\n", " ").splitlines()
    (line,) = [c for c in commands if "model.pretrained=null" in c]
    words = [w for w in shlex.split(line) if w.startswith("model.")]
    assert len(words) == 8
    rows = LabelledSet(("ACGT" * 10,) * 2, np.array([0, 1]), (2, 3))
    task = LabelledTask(train=rows, dev=rows, test=rows, label_names=("0", "1"), notes=(), dropped={})  # fmt: skip
    register_schema("finetune", FinetuneConfig)
    GlobalHydra.instance().clear()
    models = []
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for override in ([], words):
            composed = compose("finetune", ["experiment=gue/prom_300_all", *override])
            models.append(build_classifier(to_dataclass(composed, FinetuneConfig), task, seed=1))
    bundled, scratch = models
    assert dataclasses.asdict(bundled.config) == dataclasses.asdict(scratch.config)
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in models]
    assert shapes[0] == shapes[1]
    name = next(k for k in shapes[0] if k.endswith("weight"))
    assert not np.array_equal(bundled.state_dict()[name], scratch.state_dict()[name])


def test_28_tasks_of_three_arms_take_seconds(tmp_path: Path) -> None:
    for arm in range(3):
        for task in range(28):
            make_run(tmp_path / str(arm) / f"task{task:02}", noise=arm)
    started = time.process_time()
    assert main(["compare", *(str(tmp_path / str(arm)) for arm in range(3)), "-q"]) == 0
    assert time.process_time() - started < 60
