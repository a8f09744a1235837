from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hyenadna.errors import ConfigError, OutputError
from hyenadna.training import run_folder as rf


def test_unnamed_runs_go_to_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = rf.plan_run_folder("pretrain", None, force=False)
    assert not planned.root.exists()
    roots = [rf.create_run_folder(planned, named=False, force=False).root for _ in range(3)]
    assert roots[0].parent == Path("runs/pretrain")
    assert len(set(roots)) == 3
    assert [r.name.removeprefix(roots[0].name) for r in roots] == ["", "-1", "-2"]


def test_named_folder_that_is_not_empty_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(OutputError, match=r"resume=.*force=true"):
        rf.plan_run_folder("pretrain", str(tmp_path), force=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        rf.plan_run_folder("pretrain", str(tmp_path / "file"), force=True)


def test_force_removes_a_runs_files_and_no_others(tmp_path: Path) -> None:
    run = rf.RunFolder(tmp_path)
    for file in (run.config, run.metrics, run.checkpoint, run.report, tmp_path / "notes.txt"):
        file.write_text("x")
    run.model.mkdir()
    planned = rf.plan_run_folder("pretrain", str(tmp_path), force=True)
    rf.create_run_folder(planned, named=True, force=True)
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]


def test_other_processes_do_not_refuse_the_folder_that_the_first_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text("")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert rf.plan_run_folder("pretrain", str(tmp_path), force=False).root == tmp_path


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True), ({"RANK": "0", "LOCAL_RANK": "0"}, True), ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "1"}, False), ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
    ],
)  # fmt: skip
def test_first_process_is_known_from_every_launcher(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rf.is_first_process() is first


def test_folder_in_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        rf.create_run_folder(rf.RunFolder(tmp_path / "file" / "run"), named=True, force=False)


def test_only_a_run_with_a_checkpoint_can_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder"):
        rf.open_run_folder(str(tmp_path))
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(ConfigError, match="before its first checkpoint"):
        rf.open_run_folder(str(tmp_path))
    (tmp_path / "last.ckpt").write_text("")
    assert rf.open_run_folder(str(tmp_path)).root == tmp_path


def test_config_and_report_are_written_readably(tmp_path: Path) -> None:
    run = rf.RunFolder(tmp_path)
    run.write_config({"b": 1, "a": {"µ": None}})
    assert run.config.read_text().startswith("b: 1")
    assert yaml.safe_load(run.config.read_text()) == {"b": 1, "a": {"µ": None}}
    run.write_report({"x": 1})
    run.write_report({"x": 2})
    assert json.loads(run.report.read_text()) == {"x": 2}


def test_environment_names_machine_and_versions() -> None:
    found = rf.environment()
    assert found["hardware"]["cpu_cores"] >= 1
    assert set(found["versions"]) >= {"python", "torch", "lightning", "hyenadna"}
    assert rf._version("no-such-package-here") is None
