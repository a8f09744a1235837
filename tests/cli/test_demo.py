"""The demo: its steps are real commands, its table says what the files say, and a failing step ends it."""

import json
from pathlib import Path

import pytest

from hyenadna.cli import demo, main


def _results(folder: Path) -> None:
    (folder / "finetune").mkdir(parents=True)
    markov = [1.96 - 0.005 * k for k in range(12)]
    (folder / "evaluation.json").write_text(
        json.dumps({"bits_per_base": 1.931, "markov_bits_per_base": markov})
    )
    test = {"n": 1212, "mcc": {"mean": 0.612, "ci95": [0.58, 0.64]}}
    baselines = {
        "majority": {"test": {"mcc": 0.0}},
        "kmer_logistic_regression": {"k": 6, "test": {"mcc": 0.561}},
    }
    (folder / "finetune" / "results.json").write_text(
        json.dumps({"test": test, "baselines": baselines})
    )
    (folder / "scores.tsv").write_text("name\tbits_per_base\nregion\t1.9377\n")


def test_the_steps_are_commands_and_the_table_shows_their_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done: list[list[str]] = []
    monkeypatch.setattr(demo, "_run", done.append)
    _results(tmp_path / "out")
    assert main(["demo", "-o", str(tmp_path / "out")]) == 0
    assert [words[0] for words in done] == ["pretrain", "evaluate", "datasets", "finetune", "score"]
    shown = capsys.readouterr().out
    for number in ("1.931", "1.960", "1.905", "0.612", "0.580", "0.561", "1.938"):
        assert number in shown
    assert str(tmp_path / "out" / "pretrain" / "loss.png") in shown.replace("\n", "")


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_the_configured_steps_compose(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [words] = [w for _, w in demo._steps(tmp_path / "out") if w[0] == command]
    assert main([*words, "--cfg", "job"]) == 0
    assert f"run_dir: {tmp_path / 'out' / command}" in capsys.readouterr().out


def test_a_failing_step_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [("broken", ["score", "-m", str(tmp_path / "nothing"), "-i", "-"])]
    monkeypatch.setattr(demo, "_steps", lambda _output: steps)
    assert main(["demo", "-o", str(tmp_path / "out")]) == 2
    assert (
        "error: the demo stopped: 'hyenadna score' ended with status 2" in capsys.readouterr().err
    )
