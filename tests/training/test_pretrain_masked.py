"""Masked pretraining: the trainer does for it all that it does for causal models, and fine-tuning begins from what it leaves."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna import HyenaForCausalLM, HyenaForMaskedLM, load_model
from hyenadna.data.windows import TiledWindows
from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig, HyenaForSequenceClassification
from hyenadna.tasks.masked_lm import Masking, mask_bases, masked_base_loss
from hyenadna.testing import random_dna
from hyenadna.training.config import (
    CallbacksConfig,
    DataConfig,
    LengthWarmupConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    TaskConfig,
)
from hyenadna.training.finetune import finetune
from hyenadna.training.finetune_config import (
    ClassificationConfig,
    ClassifierConfig,
    FinetuneConfig,
    FinetuneOptimizerConfig,
    FinetuneTrainerConfig,
    LabelledDataConfig,
)
from hyenadna.training.metrics_log import read_metrics
from hyenadna.training.pretrain import pretrain
from hyenadna.training.pretrain_module import PretrainModule
from hyenadna.training.pretrain_parts import build_language_model

Settings = Callable[..., PretrainConfig]
SHAPE: dict[str, Any] = {"d_model": 8, "n_layers": 1, "filter_dim": 8, "max_seq_len": 66}


def losses(run: Path, split: str = "train") -> list[float]:
    return [r["loss_nats"] for r in read_metrics(run / "metrics.csv") if r["split"] == split]


@pytest.fixture
def masked(settings: Settings) -> Settings:
    """Build settings of a masked run, as `settings` does of a causal one."""

    def build(*, model: dict[str, Any] | None = None, task: dict[str, Any] | None = None, **rest: Any) -> PretrainConfig:  # fmt: skip
        shape = ModelConfig(**SHAPE | {"bidirectional": True} | (model or {}))
        return settings(model=shape, task=TaskConfig(name="masked_lm", **(task or {})), **rest)

    return build


def test_a_run_leaves_a_masked_model_and_says_of_what_its_bits_are(masked: Settings) -> None:
    result = pretrain(masked(steps=4))
    report = json.loads((result.run.root / "report.json").read_text())
    assert report["unit"] == "bits per masked base"
    assert report["config"]["task"]["name"] == "masked_lm"
    assert report["config"]["model"]["bidirectional"] is True
    assert 0.1 < report["validation"]["n_scored"] / 640 < 0.2
    assert type(load_model(result.run.root)) is HyenaForMaskedLM


@pytest.mark.parametrize("equivariant", [False, True])
def test_what_an_equivariant_run_learns_does_not_depend_on_the_strand(
    masked: Settings, equivariant: bool
) -> None:
    """With Muon, whose steps are those of whole matrices; what an ordinary model says of the strands differs (the control)."""
    config = masked(steps=6, model={"equivariant": equivariant}, optimizer=OptimizerConfig(name="muon", lr=0.02))  # fmt: skip
    model = load_model(pretrain(config).run.root)
    ids = torch.tensor([[7, 9, 3, 10, 8, 8, 11, 3, 7]])
    other = torch.tensor([[10, 3, 11, 9, 9, 7, 3, 8, 10]])
    with torch.no_grad():
        one, turned = model(ids)[0, :, 7:12], model(other)[0].flip(0)[:, [10, 9, 8, 7, 11]]
    difference = float((one - turned).abs().max())
    assert difference < 1e-5 if equivariant else difference > 1e-3


def test_the_reported_loss_is_that_of_the_hidden_bases_of_the_step(masked: Settings) -> None:
    config = masked(steps=1, model={"embed_dropout": 0.0}, task={"mean_span": 3.0})
    batches: list[Any] = []
    original = PretrainModule.training_step

    def spy(self: PretrainModule, batch: Any, index: int) -> None:
        batches.append(batch)
        original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainModule, "training_step", spy)
        root = pretrain(config).run.root
    model = build_language_model(config.model, seed=config.seed, task="masked_lm")
    hidden = mask_bases(batches[0].token_ids, 0, seed=config.seed, masking=Masking(mean_span=3.0))
    loss = masked_base_loss(model(hidden.read), hidden.targets)
    assert losses(root)[0] == pytest.approx((loss.nats / loss.n_scored).item(), rel=1e-6)


def test_it_learns_from_both_sides(settings: Settings, tmp_path: Path) -> None:
    """A base is the one before it with probability 0.9: 0.63 bits for whoever sees one side, 0.26 from both."""
    rng = np.random.default_rng(3)
    steps = np.where(rng.random(30_000) < 0.9, 0, rng.integers(1, 4, size=30_000))
    letters = "".join(np.array(list("ACGT"))[steps.cumsum() % 4])
    fasta = tmp_path / "runs.fa"
    fasta.write_text(f">c1\n{letters[:20_000]}\n>c2\n{letters[20_000:]}\n")
    config = settings(
        steps=150,
        data=DataConfig(
            fasta=str(fasta), validation="c2", seq_len=64, global_batch_size=16, validation_tokens=8000
        ),
        model=ModelConfig(**SHAPE | {"d_model": 16, "embed_dropout": 0.0, "bidirectional": True}),
        task=TaskConfig(name="masked_lm"), optimizer=OptimizerConfig(lr=1e-2),
        trainer={"validate_every": 150, "log_every": 50},
    )  # fmt: skip
    bits = pretrain(config).report["validation"]["bits_per_base"]
    assert 0.26 < bits < 0.55


@pytest.mark.parametrize("ema", [None, 0.5])
def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    masked: Settings, tmp_path: Path, ema: float | None
) -> None:
    groups: dict[str, Any] = {
        "callbacks": CallbacksConfig(ema_decay=ema),
        "length_warmup": LengthWarmupConfig(start=32, fraction=0.8),
        "trainer": {"validate_every": 3, "checkpoint_every": 2},
        "task": {"mean_span": 4.0}, "steps": 7,
    }  # fmt: skip
    whole = pretrain(masked(**groups, run_dir=str(tmp_path / "whole"))).run.root
    broken = masked(**groups, run_dir=str(tmp_path / "broken"))
    original = PretrainModule.training_step

    def dies(self: PretrainModule, batch: Any, index: int) -> None:
        if self.global_step == 5:
            raise RuntimeError("killed")
        original(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainModule, "training_step", dies)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain(broken)
    resumed = pretrain(dataclasses.replace(broken, run_dir=None, resume=str(tmp_path / "broken")))
    for split in ("train", "validation"):
        assert losses(resumed.run.root, split) == losses(whole, split)
    one, other = (load_model(root).state_dict() for root in (whole, resumed.run.root))
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = pretrain(masked(**groups, run_dir=str(tmp_path / "other"), seed=7)).run.root
    assert losses(again) != losses(whole)  # the control


def test_micro_batches_change_rounding_only(masked: Settings, tmp_path: Path) -> None:
    found = {}
    for size in (None, 1, 3):
        config = masked(model={"embed_dropout": 0.0}, run_dir=str(tmp_path / f"run{size}"))
        config.data.micro_batch_size = size
        root = pretrain(config).run.root
        found[size] = losses(root) + losses(root, "validation")
    np.testing.assert_allclose(found[1], found[None], rtol=2e-6)
    np.testing.assert_allclose(found[3], found[None], rtol=2e-6)


def test_validation_hides_the_same_bases_each_time_and_in_every_run(
    masked: Settings, tmp_path: Path
) -> None:
    runs = []
    for seed in (1, 2):  # a rate of almost 0: what changes is what is hidden, if anything
        config = masked(
            steps=4, seed=seed, run_dir=str(tmp_path / str(seed)), optimizer=OptimizerConfig(lr=1e-30),
            trainer={"validate_every": 2},
        )  # fmt: skip
        runs.append(pretrain(config))
    for run in runs:
        first, last = losses(run.run.root, "validation")
        assert first == last
        assert losses(run.run.root)[0] != losses(run.run.root)[1]
    assert len({run.report["validation"]["n_scored"] for run in runs}) == 1


def test_validation_of_padded_windows_is_exact(masked: Settings) -> None:
    """The last window of an interval is padded; what the run reports is what its rows give alone."""
    config = masked(steps=1)
    config.data.validation, config.data.validation_tokens = ["c2:1-170"], 10_000
    seen: list[TiledWindows] = []
    original = PretrainModule.on_validation_epoch_end

    def spy(self: PretrainModule) -> None:
        seen.extend(self.trainer.datamodule.tiled)  # type: ignore[attr-defined]
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainModule, "on_validation_epoch_end", spy)
        report = pretrain(config).report
    model, tiled = load_model(str(config.run_dir)), seen[0]
    nats, n = 0.0, 0
    for i in range(len(tiled)):
        ids = torch.from_numpy(tiled.window(i))[: len(tiled.location(i))][None]
        hidden = mask_bases(ids, i, seed="validation", masking=Masking())
        loss = masked_base_loss(model(hidden.read), hidden.targets)
        nats, n = nats + float(loss.nats), n + int(loss.n_scored)
    assert [len(tiled.location(i)) for i in range(len(tiled))] == [64, 64, 42]
    assert report["validation"]["n_scored"] == n
    assert report["validation"]["loss_nats"] == pytest.approx(nats / n, rel=1e-6)


@pytest.mark.parametrize(
    ("task", "bidirectional", "says"),
    [
        ("masked_lm", False, r"is causal, and task=masked_lm .*set model\.bidirectional=true"),
        ("causal_lm", True, "is bidirectional and would see .*set task=masked_lm"),
    ],
)
def test_a_model_that_does_not_suit_its_task_is_refused_before_a_folder_is_made(
    settings: Settings, tmp_path: Path, task: str, bidirectional: bool, says: str
) -> None:
    model = ModelConfig(**SHAPE, bidirectional=bidirectional)
    config = settings(model=model, task=TaskConfig(name=task))
    with pytest.raises(ConfigError, match=says):
        pretrain(config)
    kind = HyenaForMaskedLM if bidirectional else HyenaForCausalLM
    kind(HyenaConfig(**SHAPE, bidirectional=bidirectional)).save_pretrained(tmp_path / "m")
    config.model = ModelConfig(pretrained=str(tmp_path / "m"))
    with pytest.raises(ConfigError, match=says):
        pretrain(config)
    assert not Path(str(config.run_dir)).exists()


def test_a_masked_model_is_trained_on_from_its_folder(masked: Settings, tmp_path: Path) -> None:
    first = pretrain(masked(steps=1)).run
    config = masked(steps=1, run_dir=str(tmp_path / "second"))
    config.model = ModelConfig(pretrained=str(first.model), embed_dropout=0.0)
    start = build_language_model(config.model, seed=0, task="masked_lm")
    for name, value in load_model(first.model).state_dict().items():
        assert torch.equal(start.state_dict()[name], value), name
    second = pretrain(config)
    assert second.report["config"]["model"]["bidirectional"] is True
    assert type(load_model(second.run.root)) is HyenaForMaskedLM


# Fine-tuning


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences of 18 to 30 bases, poor in G and C, or rich."""
    folder = tmp_path_factory.mktemp("task")
    rng = np.random.default_rng(0)
    for split, size in (("train", 96), ("dev", 30), ("test", 30)):
        rows = [(random_dna(int(rng.integers(18, 31)), seed=int(rng.integers(2**31)), gc=0.2 + 0.6 * (i % 2)), i % 2) for i in range(size)]  # fmt: skip
        text = "".join(f"{sequence},{label}\n" for sequence, label in rows)
        (folder / f"{split}.csv").write_text("sequence,label\n" + text)
    return folder


def _finetuning(folder: Path, run: Path, model: dict[str, Any], **more: Any) -> FinetuneConfig:
    return FinetuneConfig(
        model=ClassifierConfig(**model), data=LabelledDataConfig(path=str(folder), batch_size=16),
        task=ClassificationConfig(n_resamples=50, baselines=False, **more.pop("task", {})),
        optimizer=FinetuneOptimizerConfig(lr=1e-2), run_dir=str(run),
        trainer=FinetuneTrainerConfig(max_epochs=3, progress=False, accelerator="cpu"), **more,
    )  # fmt: skip


@pytest.mark.parametrize("equivariant", [False, True])
@pytest.mark.parametrize("strategy", ["full", "frozen", "lora"])
def test_fine_tuning_begins_with_a_masked_model(
    masked: Settings, task_folder: Path, tmp_path: Path, strategy: str, equivariant: bool
) -> None:
    if strategy == "lora":
        pytest.importorskip("peft")
    shape = {"d_model": 16, "equivariant": equivariant}
    pretrained = pretrain(masked(steps=1, model=shape)).run
    result = finetune(
        _finetuning(
            task_folder, tmp_path / "ft", {"pretrained": str(pretrained.root), "both_directions": strategy == "full" and not equivariant},
            strategy=strategy, task={"strands": "both"},
        )
    )  # fmt: skip
    classifier = load_model(tmp_path / "ft" / "model")
    assert isinstance(classifier, HyenaForSequenceClassification)
    assert classifier.config.bidirectional
    assert classifier.config.equivariant == equivariant
    before = load_model(pretrained.root).backbone.state_dict()
    after = classifier.backbone.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert bool(moved) == (strategy != "frozen")
    assert result.results["test"]["mcc"]["mean"] > 0.5


@pytest.mark.parametrize("equivariant", [False, True])
def test_a_bidirectional_classifier_is_trained_from_scratch(
    task_folder: Path, tmp_path: Path, equivariant: bool
) -> None:
    model = {"d_model": 16, "n_layers": 1, "filter_dim": 8, "bidirectional": True, "equivariant": equivariant}  # fmt: skip
    result = finetune(_finetuning(task_folder, tmp_path / "ft", model))
    config = load_model(tmp_path / "ft" / "model").config
    assert config.bidirectional
    assert config.equivariant == equivariant
    assert result.results["test"]["mcc"]["mean"] > 0.5
