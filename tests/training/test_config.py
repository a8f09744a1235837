from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig
from hyenadna.training import config as c


def test_model_config_has_every_field_and_default_of_hyena_config() -> None:
    ours = {f.name: f.default for f in dataclasses.fields(c.ModelConfig)}
    theirs = {f.name: f.default for f in dataclasses.fields(HyenaConfig)}
    assert {k: ours[k] for k in theirs} == theirs
    assert set(ours) - set(theirs) == {"pretrained", "extend_max_seq_len"}
    assert c.ModelConfig(d_model=24).hyena_config() == HyenaConfig(d_model=24)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (c.DataConfig, {"seq_len": 1}, "data.seq_len=1"),
        (c.DataConfig, {"global_batch_size": 0}, "data.global_batch_size"),
        (c.DataConfig, {"micro_batch_size": 0}, "data.micro_batch_size"),
        (c.DataConfig, {"rc_probability": 1.5}, "data.rc_probability"),
        (c.DataConfig, {"validation": {"a": 1}}, "data.validation"),
        (c.DataConfig, {"test": [True]}, "data.test"),
        (c.GenomeConfig, {}, "fasta"),
        (c.GenomeConfig, {"fasta": "x", "weight": 0.0}, "weight"),
        (c.TaskConfig, {"soft_mask_weight": -0.1}, "task.soft_mask_weight"),
        (
            c.TaskConfig,
            {"name": "next"},
            "task.name='next' is impossible; one of causal_lm, masked_lm",
        ),
        (c.TaskConfig, {"name": "masked_lm", "mask_fraction": 0.0}, "task.mask_fraction"),
        (c.TaskConfig, {"name": "masked_lm", "mask_fraction": 1.0}, "task.mask_fraction"),
        (c.TaskConfig, {"name": "masked_lm", "mean_span": 0.5}, "task.mean_span=0.5"),
        (c.TaskConfig, {"name": "masked_lm", "random_share": 0.3}, "task.mask_share=0.8"),
        (c.TaskConfig, {"mean_span": 3.0}, "task.mean_span=3.0 is for task=masked_lm"),
        (c.OptimizerConfig, {"lr": 0.0}, "optimizer.lr"),
        (c.OptimizerConfig, {"lr": float("nan")}, "optimizer.lr"),
        (c.OptimizerConfig, {"weight_decay": -1.0}, "optimizer.weight_decay"),
        (c.OptimizerConfig, {"betas": [0.9]}, "optimizer.betas"),
        (c.ScheduleConfig, {"name": "step"}, "cosine, linear, constant"),
        (c.ScheduleConfig, {"warmup_fraction": 2.0}, "schedule.warmup_fraction"),
        (c.ScheduleConfig, {"warmup_steps": -1}, "schedule.warmup_steps"),
        (c.LengthWarmupConfig, {"start": 1}, "length_warmup.start"),
        (c.TrainerConfig, {"accelerator": "tpu"}, "trainer.accelerator"),
        (c.TrainerConfig, {"precision": "8"}, "trainer.precision"),
        (c.TrainerConfig, {"devices": -1}, "trainer.devices"),
        (c.TrainerConfig, {"gradient_clip_norm": 0.0}, "trainer.gradient_clip_norm"),
        (c.PretrainTrainerConfig, {"max_steps": 0}, "trainer.max_steps"),
        (c.PretrainTrainerConfig, {"max_hours": 0.0}, "trainer.max_hours"),
        (c.CallbacksConfig, {"ema_decay": 1.0}, "callbacks.ema_decay"),
        (c.LoggerConfig, {"name": "mlflow"}, "logger.name"),
        (c.PretrainConfig, {"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_value_is_refused_by_name(
    kind: type[Any], values: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        kind(**values)


def test_regions_may_be_one_text_a_number_or_a_list() -> None:
    assert c.DataConfig(validation="chr1").validation == ["chr1"]
    assert c.DataConfig(validation=20).validation == ["20"]
    assert c.DataConfig(test=["chr1:1-5", 7]).test == ["chr1:1-5", "7"]
    assert c.DataConfig().test is None


def test_sources_are_one_genome_or_several_but_not_mixed() -> None:
    one = c.DataConfig(fasta="a.fa", validation="c1").sources()
    assert [(s.fasta, s.validation) for s in one] == [("a.fa", ["c1"])]
    several = [c.GenomeConfig(fasta="a"), c.GenomeConfig(fasta="b", weight=2.0)]
    assert c.DataConfig(genomes=several).sources() == several
    with pytest.raises(ConfigError, match="no genome is given"):
        c.DataConfig().sources()
    with pytest.raises(ConfigError, match="each genome has its own"):
        c.DataConfig(genomes=several, test="c1").sources()
