from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from hyenadna.errors import BackendUnavailableError, ConfigError
from hyenadna.training import trainer as t
from hyenadna.training.config import LoggerConfig, TrainerConfig
from hyenadna.training.metrics_log import MetricsLog


def test_precision_is_bf16_only_where_a_gpu_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert t.resolve_precision("auto", "auto") == "bf16-mixed"
    assert t.resolve_precision("auto", "cpu") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert t.resolve_precision("auto", "gpu") == "32-true"
    assert t.resolve_precision("bf16-true", "cpu") == "bf16-true"


def test_more_gpus_than_there_are_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match="0 that torch sees"):
        t.resolve_devices(TrainerConfig(accelerator="gpu"))
    assert t.resolve_devices(TrainerConfig()) == 1
    assert t.resolve_devices(TrainerConfig(accelerator="cpu", devices=3)) == 3


def test_trainer_has_the_settings_and_nothing_of_lightnings_own() -> None:
    trainer = t.build_trainer(
        TrainerConfig(accelerator="cpu"), loggers=(), callbacks=(), max_steps=3
    )
    assert trainer.max_steps == 3
    assert trainer.checkpoint_callback is None
    assert trainer.loggers == []


def test_impossible_combination_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="strategy=warp"):
        t.build_trainer(TrainerConfig(accelerator="cpu", strategy="warp"), loggers=(), callbacks=())


def test_asked_for_logger_stands_beside_ours_or_its_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = MetricsLog(tmp_path / "metrics.csv")
    assert t.build_loggers(LoggerConfig(), first, tmp_path) == [first]
    monkeypatch.setattr(t.importlib.util, "find_spec", lambda _: None)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(BackendUnavailableError, match=rf"pip install 'hyenadna\[{name}\]'"):
            t.require_logger(LoggerConfig(name=name))
    t.require_logger(LoggerConfig())


def test_lightning_is_quiet_only_inside() -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with t.quiet_lightning():
        assert logger.level == logging.WARNING
    assert logger.level == before
