from __future__ import annotations

import pytest
import torch

from hyenadna.errors import ConfigError
from hyenadna.training.config import LengthWarmupConfig, ScheduleConfig
from hyenadna.training.schedules import LengthPlan, build_scheduler, lr_factor, warmup_steps


@pytest.mark.parametrize("name", ["cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_lr_rises_to_one_and_falls_to_the_final_fraction(name: str, warmup: int) -> None:
    config = ScheduleConfig(name=name, warmup_steps=warmup, final_lr_fraction=0.1)
    factors = [lr_factor(s, config=config, max_steps=50) for s in range(50)]
    peak = max(warmup - 1, 0)
    assert factors[peak] == 1.0
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert factors[-1] == pytest.approx(0.1)
    assert min(factors) > 0


def test_constant_stays_and_a_run_may_go_past_its_end() -> None:
    config = ScheduleConfig(name="constant", warmup_steps=2)
    assert [lr_factor(s, config=config, max_steps=4) for s in range(5)] == [0.5, 1, 1, 1, 1]
    cosine = ScheduleConfig(final_lr_fraction=0.2)
    assert lr_factor(1000, config=cosine, max_steps=10) == pytest.approx(0.2)


def test_warmup_is_a_fraction_or_a_number_and_fits_the_run() -> None:
    assert warmup_steps(ScheduleConfig(warmup_fraction=0.01), 20) == 1
    assert warmup_steps(ScheduleConfig(warmup_fraction=0.0), 20) == 0
    assert warmup_steps(ScheduleConfig(warmup_steps=50), 20) == 20
    assert lr_factor(0, config=ScheduleConfig(), max_steps=1) == 1.0


def test_scheduler_sets_every_groups_rate() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    other = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([{"params": [weight], "lr": 1.0}, {"params": [other], "lr": 0.5}])
    scheduler = build_scheduler(optimizer, ScheduleConfig(name="constant", warmup_steps=2), 4)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25]
    optimizer.step()
    scheduler.step()
    assert [g["lr"] for g in optimizer.param_groups] == [1.0, 0.5]


def test_without_warmup_every_step_has_the_full_length_and_its_own_windows() -> None:
    plan = LengthPlan(64, 4, 10, LengthWarmupConfig())
    steps = [plan.at(s) for s in range(10)]
    assert {s.seq_len for s in steps} == {64}
    assert [s.first_window for s in steps] == list(range(0, 40, 4))


def test_lengths_double_while_tokens_per_step_stay() -> None:
    plan = LengthPlan(512, 2, 20, LengthWarmupConfig(start=64, fraction=0.6))
    steps = [plan.at(s) for s in range(20)]
    assert [s.seq_len for s in steps] == [64] * 4 + [128] * 4 + [256] * 4 + [512] * 8
    assert {s.seq_len * s.n_windows for s in steps} == {plan.tokens_per_step}
    ends = [s.first_window + s.n_windows for s in steps]
    assert [s.first_window for s in steps[1:]] == ends[:-1]


def test_zero_fraction_means_no_short_windows() -> None:
    plan = LengthPlan(256, 2, 10, LengthWarmupConfig(start=64, fraction=0.0))
    assert {plan.at(s).seq_len for s in range(10)} == {256}


@pytest.mark.parametrize("start", [100, 96, 1024])
def test_first_length_must_halve_out_of_the_full_length(start: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        LengthPlan(512, 2, 10, LengthWarmupConfig(start=start))


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_shares_of_all_processes_are_the_windows_of_one(world_size: int) -> None:
    step = LengthPlan(64, 8, 10, LengthWarmupConfig()).at(3)
    together = [w for rank in range(world_size) for w in step.share(rank, world_size)]
    assert together == list(range(24, 32))
