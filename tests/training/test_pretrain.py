from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna.errors import CheckpointError, ConfigError, DataError, OutputError
from hyenadna.models import HyenaForCausalLM, load_model
from hyenadna.tasks.causal_lm import next_base_loss, target_weight
from hyenadna.training.config import (
    CallbacksConfig,
    DataConfig,
    LengthWarmupConfig,
    LoggerConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    TaskConfig,
)
from hyenadna.training.metrics_log import read_metrics
from hyenadna.training.pretrain import pretrain
from hyenadna.training.pretrain_module import PretrainModule, dropout_seed, seed_dropout
from hyenadna.training.pretrain_parts import build_language_model

Settings = Callable[..., PretrainConfig]


def losses(run: Path, split: str = "train") -> list[float]:
    return [r["loss_nats"] for r in read_metrics(run / "metrics.csv") if r["split"] == split]


def test_run_folder_holds_everything_and_the_model_loads(settings: Settings) -> None:
    result = pretrain(settings(steps=4))
    root = result.run.root
    assert {p.name for p in root.iterdir()} == {
        "config.yaml", "metrics.csv", "loss.png", "last.ckpt", "model", "report.json",
    }  # fmt: skip
    rows = read_metrics(root / "metrics.csv")
    assert [r["step"] for r in rows if r["split"] == "train"] == [1, 2, 3, 4]
    assert rows[0]["tokens"] == 256
    assert rows[0]["bits_per_base"] == pytest.approx(rows[0]["loss_nats"] / np.log(2))
    report = json.loads((root / "report.json").read_text())
    assert report == result.report
    assert report["status"] == "finished"
    assert report["validation"]["step"] == 4
    assert report["data"][0]["train_bases"] == 12_000
    assert report["config"]["model"]["d_model"] == 8
    assert isinstance(load_model(root / "model"), HyenaForCausalLM)
    assert isinstance(load_model(root), HyenaForCausalLM)


def test_training_learns_the_composition(settings: Settings) -> None:
    config = settings(
        steps=60,
        optimizer=OptimizerConfig(lr=2e-2),
        trainer={"log_every": 10, "validate_every": 30},
    )
    root = pretrain(config).run.root
    rows = read_metrics(root / "metrics.csv")
    assert [r["step"] for r in rows if r["split"] == "train"] == [10, 20, 30, 40, 50, 60]
    assert [r["step"] for r in rows if r["split"] == "validation"] == [30, 60]
    entropy = -2 * (0.35 * np.log(0.35) + 0.15 * np.log(0.15))
    assert losses(root, "validation")[-1] == pytest.approx(entropy, abs=0.05)


def test_reported_loss_is_the_mean_over_scored_bases_of_the_step(settings: Settings) -> None:
    config = settings(
        steps=1,
        model=ModelConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=66, embed_dropout=0.0),
    )
    batches: list[Any] = []
    original = PretrainModule.training_step

    def spy(self: PretrainModule, batch: Any, index: int) -> None:
        batches.append(batch)
        original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainModule, "training_step", spy)
        root = pretrain(config).run.root
    model = build_language_model(config.model, seed=config.seed)
    loss = next_base_loss(model(batches[0].token_ids), batches[0].token_ids)
    assert losses(root)[0] == pytest.approx((loss.nats / loss.n_scored).item(), rel=1e-6)


def test_micro_batches_change_rounding_only_although_they_hold_unequal_numbers_of_n(
    settings: Settings, tmp_path: Path
) -> None:
    rng = np.random.default_rng(5)
    letters = rng.choice(list("ACGT"), size=8000)
    letters[rng.random(8000) < 0.3] = "N"
    letters[2000:4000] = rng.choice(list("ACGT"), size=2000)
    fasta = tmp_path / "n.fa"
    fasta.write_text(">a\n" + "".join(letters) + "\n>v\n" + "ACGTTGCA" * 100 + "\n")
    model = ModelConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=66, embed_dropout=0.0)
    found = {}
    for size in (None, 1, 3):
        data = DataConfig(
            fasta=str(fasta), validation="v", seq_len=64, global_batch_size=4, micro_batch_size=size,
            validation_tokens=64, max_n_fraction=1.0,
        )  # fmt: skip
        config = settings(data=data, model=model, run_dir=str(tmp_path / f"run{size}"))
        found[size] = losses(pretrain(config).run.root)
    np.testing.assert_allclose(found[1], found[None], rtol=2e-6)
    np.testing.assert_allclose(found[3], found[None], rtol=2e-6)


def test_mean_of_means_would_not_pass_for_the_mean() -> None:
    # Negative control of the test above: dividing each micro-batch by its own count gives another gradient.
    torch.manual_seed(0)
    ids = torch.tensor([[7, 8, 9, 10], [7, 11, 11, 8]])
    logits = torch.randn(2, 4, 16)
    whole = next_base_loss(logits, ids)
    parts = [next_base_loss(logits[i : i + 1], ids[i : i + 1]) for i in range(2)]
    mean = whole.nats / whole.n_scored
    assert sum(p.nats for p in parts) / sum(p.n_scored for p in parts) == pytest.approx(mean.item())
    of_means = sum(float(p.nats / p.n_scored) for p in parts) / 2
    assert of_means != pytest.approx(mean.item(), abs=1e-3)


@pytest.mark.parametrize("ema", [None, 0.5])
@pytest.mark.parametrize("validate_every", [2, 3])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    settings: Settings, tmp_path: Path, ema: float | None, validate_every: int
) -> None:
    groups: dict[str, Any] = {
        "callbacks": CallbacksConfig(ema_decay=ema),
        "length_warmup": LengthWarmupConfig(start=32, fraction=0.8),
        "trainer": {"validate_every": validate_every, "checkpoint_every": 2},
        "steps": 7,
    }
    whole = pretrain(settings(**groups, run_dir=str(tmp_path / "whole"))).run.root

    broken = settings(**groups, run_dir=str(tmp_path / "broken"))
    original = PretrainModule.training_step

    def dies(self: PretrainModule, batch: Any, index: int) -> None:
        if self.global_step == 5:
            raise RuntimeError("killed")
        original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainModule, "training_step", dies)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(broken)
    assert len(losses(tmp_path / "broken")) == 5
    resumed = pretrain(dataclasses.replace(broken, run_dir=None, resume=str(tmp_path / "broken")))
    for split in ("train", "validation"):
        assert losses(resumed.run.root, split) == losses(whole, split)
    one, other = (load_model(root / "model").state_dict() for root in (whole, resumed.run.root))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_saved_model_is_the_average_where_one_is_kept(settings: Settings, tmp_path: Path) -> None:
    plain = pretrain(settings(run_dir=str(tmp_path / "a"), optimizer=OptimizerConfig(lr=1e-2)))
    averaged = pretrain(
        settings(
            run_dir=str(tmp_path / "b"), optimizer=OptimizerConfig(lr=1e-2),
            callbacks=CallbacksConfig(ema_decay=0.9),
        )
    )  # fmt: skip
    assert losses(plain.run.root) == losses(averaged.run.root)  # training itself is the same
    assert losses(plain.run.root, "validation")[-1] != losses(averaged.run.root, "validation")[-1]
    saved = torch.load(averaged.run.checkpoint, weights_only=True)
    model = load_model(averaged.run.model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved["state_dict"][f"model.{name}"])
    assert any(
        not torch.equal(value, saved["current_model_state"][f"model.{name}"])
        for name, value in model.state_dict().items()
    )


def test_resuming_what_cannot_be_resumed_is_one_sentence(
    settings: Settings, tmp_path: Path
) -> None:
    config = settings(steps=2)
    root = pretrain(config).run.root
    resume = dataclasses.replace(config, run_dir=None, resume=str(root))
    with pytest.raises(ConfigError, match="done its 2 steps"):
        pretrain(resume)
    longer = dataclasses.replace(resume, trainer=dataclasses.replace(config.trainer, max_steps=4))
    switched = dataclasses.replace(longer, callbacks=CallbacksConfig(ema_decay=0.9))
    with pytest.raises(ConfigError, match="ema_decay"):
        pretrain(switched)
    with pytest.raises(ConfigError, match="no run folder"):
        pretrain(dataclasses.replace(resume, resume=str(tmp_path)))
    assert losses(pretrain(longer).run.root)[:2] == losses(root)[:2]
    (root / "last.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="no checkpoint of a pretraining run"):
        pretrain(longer)


def test_stopped_run_says_so_and_resumes(settings: Settings) -> None:
    config = settings(steps=500)
    config.trainer.max_hours = 1e-9
    result = pretrain(config)
    assert result.stopped == "max_hours"
    assert result.report["status"] == "stopped by max_hours"
    done = result.report["steps"]
    assert done < 500
    config.trainer.max_hours = None
    config.trainer.max_steps = done + 2
    again = pretrain(dataclasses.replace(config, run_dir=None, resume=str(result.run.root)))
    steps = [r["step"] for r in read_metrics(again.run.metrics) if r["split"] == "train"]
    assert steps == list(range(1, done + 3))


@pytest.mark.parametrize(
    ("change", "error", "named"),
    [
        ({"data": {"seq_len": 128}}, ConfigError, "max_seq_len of 66"),
        (
            {"data": {"global_batch_size": 3}, "trainer": {"devices": 2}},
            ConfigError,
            "multiple of 2",
        ),
        ({"length_warmup": {"start": 20}}, ConfigError, "power of two"),
        ({"data": {"fasta": None}}, ConfigError, "no genome"),
        ({"model": {"extend_max_seq_len": 99}}, ConfigError, "needs model.pretrained"),
        ({"model": {"hyena_order": 1}}, ConfigError, "hyena_order"),
        ({"data": {"seq_len": 64, "train": ["c1:301-390"]}}, DataError, "can be used|N"),
        ({"trainer": {"strategy": "warp"}}, ConfigError, "strategy=warp"),
    ],
)
def test_mistakes_are_found_before_a_folder_is_made(
    settings: Settings, change: dict[str, dict[str, Any]], error: type[Exception], named: str
) -> None:
    config = settings()
    for group, values in change.items():
        for name, value in values.items():
            setattr(getattr(config, group), name, value)
    with pytest.raises(error, match=named):
        pretrain(config)
    assert not Path(str(config.run_dir)).exists()


def test_existing_folder_is_kept_unless_forced(settings: Settings) -> None:
    config = settings(steps=1)
    root = pretrain(config).run.root
    before = (root / "metrics.csv").read_text()
    with pytest.raises(OutputError, match="not empty"):
        pretrain(config)
    assert (root / "metrics.csv").read_text() == before
    assert len(losses(pretrain(dataclasses.replace(config, force=True)).run.root)) == 1


def test_diverging_run_is_stopped_with_advice(settings: Settings) -> None:
    config = settings(steps=20, optimizer=OptimizerConfig(lr=1e30))
    config.trainer.gradient_clip_norm = None
    with pytest.raises(DataError, match=r"diverged.*lower optimizer.lr"):
        pretrain(config)


def test_pretrained_model_gives_shape_and_weights_and_is_not_needed_to_resume(
    settings: Settings, tmp_path: Path
) -> None:
    first = pretrain(settings(steps=1)).run
    config = settings(
        steps=2, run_dir=str(tmp_path / "second"),
        model=ModelConfig(pretrained=str(first.model), embed_dropout=0.0, activation_checkpointing=True, extend_max_seq_len=130),
    )  # fmt: skip
    start = build_language_model(config.model, seed=0)
    assert (start.config.d_model, start.config.max_seq_len) == (8, 130)
    assert start.config.activation_checkpointing
    for name, value in load_model(first.model).state_dict().items():
        assert torch.equal(start.state_dict()[name], value), name
    second = pretrain(config)
    saved = second.report["config"]["model"]
    assert (saved["d_model"], saved["max_seq_len"], saved["pretrained"]) == (
        8,
        130,
        str(first.model),
    )


def test_activation_checkpointing_changes_no_key_and_no_loss(
    settings: Settings, tmp_path: Path
) -> None:
    found = []
    for on in (False, True):
        model = ModelConfig(
            d_model=8,
            n_layers=2,
            filter_dim=8,
            max_seq_len=66,
            resid_dropout=0.1,
            activation_checkpointing=on,
        )
        run = pretrain(settings(model=model, run_dir=str(tmp_path / str(on)))).run
        found.append((losses(run.root), list(load_model(run.model).state_dict())))
    assert found[0] == found[1]


def test_soft_mask_weight_changes_training_and_not_what_is_reported(
    settings: Settings, tmp_path: Path
) -> None:
    runs = [
        pretrain(
            settings(task=TaskConfig(soft_mask_weight=w), run_dir=str(tmp_path / str(w)))
        ).run.root
        for w in (1.0, 0.0)
    ]
    assert losses(runs[0])[0] == losses(runs[1])[0]
    assert losses(runs[0])[-1] != losses(runs[1])[-1]


def test_dropout_depends_on_seed_and_window_only() -> None:
    assert dropout_seed(1, 5) == dropout_seed(1, 5)
    assert len({dropout_seed(s, w) for s in range(5) for w in range(5)}) == 25
    assert 0 <= dropout_seed(2**32 - 1, 10**12) < 2**63


def test_dropout_is_what_torch_draws_after_its_own_seeding() -> None:
    for seed in (0, 2**63 - 1):
        torch.manual_seed(seed)
        expected = torch.rand(5)
        torch.manual_seed(1)
        seed_dropout(seed, torch.device("cpu"))
        assert torch.equal(torch.rand(5), expected)


def test_random_start_depends_on_the_seed_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    config = ModelConfig(d_model=8, n_layers=1, max_seq_len=16)
    one, two, other = (
        build_language_model(config, seed=s).backbone.embedding.weight for s in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(torch.rand(1), expected)


def test_tensorboard_gets_the_same_metrics(settings: Settings) -> None:
    pytest.importorskip("tensorboard")
    run = pretrain(settings(steps=1, logger=LoggerConfig(name="tensorboard"))).run
    assert list((run.root / "tensorboard").glob("events*"))
    assert len(losses(run.root)) == 1


def test_weights_of_unscored_targets_are_zero() -> None:
    assert target_weight(torch.tensor([[7, 11, 4]]), None, 1.0).tolist() == [[0.0, 0.0]]
