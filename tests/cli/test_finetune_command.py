from __future__ import annotations

import json
from pathlib import Path

import pytest

from hyenadna.cli import main

SMALL = ["model.d_model=8", "model.n_layers=1", "model.filter_dim=8", "trainer.progress=false",
         "trainer.accelerator=cpu", "task.n_resamples=20"]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "task"
    path.mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        rows = [f"{'ACGT'[i % 4] * (i + 4)}{'ACGT'[number]}C,{i % 2}" for i in range(12)]
        (path / f"{split}.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    return path


def test_command_trains_tests_and_says_where_things_are(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["finetune", f"data.path={folder}", "trainer.max_epochs=1", f"run_dir={run}", *SMALL]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "test split, 12 sequences" in out
    assert "kmer logistic regression" in out
    assert "95 % bootstrap interval" in out
    assert str(run / "model") in out
    assert json.loads((run / "results.json").read_text())["config"]["trainer"]["max_epochs"] == 1
    assert main(words) == 2
    assert "not empty" in capsys.readouterr().err


def test_several_seeds_and_no_test_split_are_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "test.csv").unlink()
    words = [
        "finetune",
        f"data.path={folder}",
        "trainer.max_epochs=1",
        "seeds=[3,4]",
        f"run_dir={tmp_path / 'r'}",
    ]
    assert main([*words, *SMALL]) == 0
    out = capsys.readouterr().out
    assert "mean of 2 seeds" in out
    assert "flatter the model" in out


def test_composed_config_has_the_default_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--cfg", "job"]) == 0
    out = capsys.readouterr().out
    assert "short_kernel_size: 7" in out
    assert "max_epochs: 25" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "data.path=None is impossible"),
        (["data.path=nowhere"], "nowhere: no such file or folder"),
        (["data.path=x", "trainer.max_epoch=3"], "did you mean trainer.max_epochs"),
        (["data.path=x", "trainer.max_epochs=many"], "trainer.max_epochs"),
        (["data.path=x", "task.strands=all"], "task.strands='all'"),
        (["data.path=x", "strategy=frozen"], "model.pretrained is needed"),
        (["data.path=x", "model=giant"], "there is no config 'giant'"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", *words]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (",1", "train.csv:14: the sequence is empty"),
        ("ACGT,7", "label 2 never occurs"),
        ("MKLV,1", "is this protein?"),
        ("ACGT", "has 1 fields"),
    ],
)
def test_bad_rows_are_one_sentence_with_their_place(
    row: str, says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "train.csv").open("a") as out:
        out.write(row + "\n")
    assert main(["finetune", f"data.path={folder}", f"run_dir={tmp_path / 'run'}", *SMALL]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", "--help"]) == 0
    assert "strategy=full|frozen|lora" in " ".join(capsys.readouterr().out.split())
