from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from hyenadna.cli.hydra_app import Invocation, complete_override, run_hydra_command
from hyenadna.cli.schema import config_groups, explain, setting_names, to_dataclass
from hyenadna.errors import ConfigError
from hyenadna.training.config import PretrainConfig


def run(words: list[str]) -> tuple[int, list[tuple[PretrainConfig, Invocation]]]:
    calls: list[tuple[PretrainConfig, Invocation]] = []

    def task(config: PretrainConfig, invocation: Invocation) -> int:
        calls.append((config, invocation))
        return config.seed % 5

    return run_hydra_command("pretrain", PretrainConfig, task, words), calls


def test_task_gets_plain_dataclasses_and_its_own_overrides() -> None:
    status, ((config, invocation),) = run(["seed=3", "data.global_batch_size=2"])
    assert status == 3
    assert isinstance(config, PretrainConfig)
    assert config.data.global_batch_size == 2
    assert invocation == Invocation(("seed=3", "data.global_batch_size=2"), multirun=False)


def test_multirun_calls_the_task_for_every_job_and_returns_the_worst_status(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    status, calls = run(["--multirun", "seed=1,4,2"])
    assert status == 4
    assert [c.seed for c, _ in calls] == [1, 4, 2]
    assert all(invocation.multirun for _, invocation in calls)


def test_task_sees_the_users_own_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # Lightning starts its other processes by repeating it.
    monkeypatch.setattr(sys, "argv", ["hyenadna", "pretrain", "seed=1"])
    seen: list[list[str]] = []
    run_hydra_command(
        "pretrain", PretrainConfig, lambda *_: seen.append(list(sys.argv)), ["seed=1"]
    )
    assert seen == [["hyenadna", "pretrain", "seed=1"]]
    assert sys.argv == ["hyenadna", "pretrain", "seed=1"]


def test_unexpected_errors_of_a_task_are_not_swallowed() -> None:
    def fails(*_: object) -> int:
        raise RuntimeError("ours")

    with pytest.raises(RuntimeError, match="ours"):
        run_hydra_command("pretrain", PretrainConfig, fails, [])


def test_user_may_ask_for_hydras_full_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(Exception, match="max_stps") as caught:
        run(["trainer.max_stps=1"])
    assert not isinstance(caught.value, ConfigError)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("model=ti", "model=tiny_1k"),
        ("trainer.max_", "trainer.max_steps="),
        ("experiment=demo", "experiment=demo_pretrain"),
    ],
)
def test_completion_knows_groups_and_settings(typed: str, expected: str) -> None:
    assert expected in complete_override("pretrain", PretrainConfig, typed)


@pytest.mark.parametrize(
    "words", [["--info", "defaults", "seed=1"], ["-i", "seed=1"], ["seed=1", "--info"]]
)
def test_options_and_settings_may_come_in_any_order(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == (0, [])
    assert "model" in capsys.readouterr().out


def test_completion_of_nonsense_is_empty() -> None:
    assert complete_override("pretrain", PretrainConfig, "zzz=[") == []


@dataclass
class Other:
    a: int = 1


def test_config_that_is_not_of_the_schema_is_refused() -> None:
    with pytest.raises(ConfigError, match="no PretrainConfig"):
        to_dataclass(OmegaConf.create({"seed": 1}), PretrainConfig)
    with pytest.raises(ConfigError, match="unknown setting 'b'"):
        to_dataclass(OmegaConf.create({"b": 1}), Other)


def test_missing_values_and_odd_errors_are_explained() -> None:
    assert "data.fasta" in set(setting_names(PretrainConfig))
    assert {"model", "data", "experiment"} <= config_groups()
    assert explain(ValueError("two\nlines.")) == "two lines"
    with pytest.raises(ConfigError, match="interpolation|Interpolation"):
        run(["run_dir=${no.such.key}"])
