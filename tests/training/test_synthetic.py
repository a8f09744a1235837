"""Training on synthetic tasks: the same run folders and resuming as language models, rows that are counted once, and tasks that are learnt."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna.data.synthetics import IGNORED, Rows, build_task
from hyenadna.errors import ConfigError
from hyenadna.models import HyenaAutoencoder, HyenaForCausalLM, load_model
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.config import (
    DataConfig,
    LengthWarmupConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    PretrainTrainerConfig,
)
from hyenadna.training.metrics_log import read_metrics
from hyenadna.training.pretrain import pretrain
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.synthetic_config import SyntheticConfig
from hyenadna.training.synthetic_data import EvaluatedRows, FreshRows, KeptRows
from hyenadna.training.synthetic_module import SyntheticModule

RECALL = {"vocab_size": 10}


def settings(run_dir: Path, *, steps: int = 4, task: str = "associative_recall", seq_len: int = 32,
             **groups: Any) -> PretrainConfig:  # fmt: skip
    synthetic = {"settings": RECALL} if task == "associative_recall" else {}
    synthetic |= {"validation_rows": 20, "test_rows": 30} | groups.pop("synthetic", {})
    trainer = {"accelerator": "cpu", "max_steps": steps, "progress": False} | groups.pop("trainer", {})  # fmt: skip
    model = {"d_model": 8, "n_layers": 1, "filter_dim": 8, "max_seq_len": seq_len} | groups.pop("model", {})  # fmt: skip
    return PretrainConfig(
        model=ModelConfig(**model),
        data=DataConfig(kind="synthetic", seq_len=seq_len, global_batch_size=8, synthetic=SyntheticConfig(task=task, **synthetic)),
        trainer=PretrainTrainerConfig(**trainer), run_dir=str(run_dir), **groups,
    )  # fmt: skip


def test_a_run_leaves_what_every_run_leaves_and_tells_the_test_rows(tmp_path: Path) -> None:
    result = pretrain(settings(tmp_path / "run"))
    root = result.run.root
    assert {p.name for p in root.iterdir()} == {
        "config.yaml", "metrics.csv", "loss.png", "last.ckpt", "model", "report.json",
    }  # fmt: skip
    rows = read_metrics(root / "metrics.csv")
    assert [r["step"] for r in rows if r["split"] == "train"] == [1, 2, 3, 4]
    assert all(0 <= r["accuracy"] <= 1 for r in rows)
    report = json.loads((root / "report.json").read_text())
    assert report["status"] == "finished"
    assert report["config"]["model"]["vocab_size"] == 10
    assert report["data"][0]["task"] == "AssociativeRecall"
    assert (report["validation"]["n_scored"], report["test"]["n_scored"]) == (20, 30)

    model = load_model(root)
    assert isinstance(model, HyenaForCausalLM)
    test = build_task("associative_recall", 32, RECALL).batch("test", range(30), seed=0)
    with torch.no_grad():
        answers = model(torch.from_numpy(test.token_ids))[:, -1].argmax(-1).numpy()
    right = answers == test.targets[:, -1]
    assert report["test"]["accuracy"] == pytest.approx(right.mean())
    per_answer = [right[test.targets[:, -1] == v].mean() for v in np.unique(test.targets[:, -1])]
    assert report["test"]["class_accuracy"] == pytest.approx(np.mean(per_answer))
    tokenizer = json.loads((root / "model" / "tokenizer_config.json").read_text())
    assert tokenizer == {"kind": "symbol", "vocab_size": 10}


@pytest.mark.parametrize("train_rows", [None, 20])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, train_rows: int | None) -> None:
    more = {"synthetic": {"train_rows": train_rows}, "trainer": {"checkpoint_every": 2}}
    constant = {"schedule": dataclasses.replace(PretrainConfig().schedule, name="constant")}
    whole = pretrain(settings(tmp_path / "whole", steps=6, **more, **constant))
    part = settings(tmp_path / "part", steps=3, **more, **constant)
    pretrain(part)
    part.trainer.max_steps, part.resume = 6, str(tmp_path / "part")
    resumed = pretrain(part)
    a, b = (
        [(r["step"], r["loss_nats"]) for r in read_metrics(x.run.metrics) if r["split"] == "train"]
        for x in (whole, resumed)
    )
    assert a == b
    assert whole.report["test"] == resumed.report["test"]


def test_kept_rows_come_once_an_epoch_in_another_order_however_many_processes() -> None:
    task = build_task("associative_recall", 16, RECALL)
    rows = task.batch("train", range(20), seed=0)
    plan = LengthPlan(16, 8, 10, LengthWarmupConfig())
    device = torch.device("cpu")

    def read(rank: int, size: int) -> list[list[int]]:
        numbers = Rows(np.arange(20, dtype=np.uint8)[:, None].repeat(16, 1), rows.targets)
        kept = KeptRows(numbers, plan, seed=3, rank=rank, world_size=size, device=device)
        return [kept[step].token_ids[:, 0].tolist() for step in range(5)]

    whole = read(0, 1)
    read_in_order = [number for batch in whole for number in batch]
    first, second = read_in_order[:20], read_in_order[20:]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    shares = zip(read(0, 2), read(1, 2), strict=True)
    assert [a + b for a, b in shares] == whole


def test_fresh_rows_never_repeat_and_follow_the_length_of_the_plan() -> None:
    task = build_task("associative_recall", 64, RECALL)
    plan = LengthPlan(64, 4, 8, LengthWarmupConfig(start=16, fraction=0.5))
    fresh = FreshRows(task, plan, seed=0, rank=0, world_size=1)
    assert [tuple(fresh[step].token_ids.shape) for step in (0, 3, 7)] == [(16, 16), (8, 32), (4, 64)]  # fmt: skip
    full = [row.tobytes() for step in (5, 6, 7) for row in fresh[step].token_ids.numpy()]
    assert len(set(full)) == len(full)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluated_rows_are_counted_once_and_equally_many_batches_come(world_size: int) -> None:
    rows = Rows(np.arange(10, dtype=np.uint8)[:, None], np.ones((10, 1), dtype=np.int16))
    parts = [EvaluatedRows(rows, 2, rank=r, world_size=world_size) for r in range(world_size)]
    assert len({len(p) for p in parts}) == 1
    batches = [p[i] for p in parts for i in range(len(p))]
    asked = [int(t) for b in batches for t in b.token_ids[b.targets != IGNORED]]
    assert sorted(asked) == list(range(10))


def test_answers_at_the_asked_positions_are_those_of_all_positions(tmp_path: Path) -> None:
    config = settings(tmp_path)
    task = build_task("mqar", 32, {"vocab_size": 64, "n_pairs": 3})
    model = HyenaForCausalLM(dataclasses.replace(config.model, vocab_size=64).hyena_config()).eval()
    module = SyntheticModule(model, config, LengthPlan(32, 8, 4, LengthWarmupConfig()), task)
    rows = task.batch("test", range(6), seed=0)
    ids, targets = torch.from_numpy(rows.token_ids), torch.from_numpy(rows.targets)
    with torch.no_grad():
        logits, asked = module._answers(ids, targets, training=False)
        everywhere = model(ids)[targets != IGNORED]
    assert logits.shape == (18, 64)
    assert (asked != IGNORED).all()
    key = lambda values, answers: sorted(zip(answers.tolist(), values[:, 0].tolist(), strict=True))  # noqa: E731
    expected = key(everywhere, targets[targets != IGNORED])
    torch.testing.assert_close(torch.tensor(key(logits, asked)), torch.tensor(expected))


def test_a_run_ends_where_it_is_good_enough_and_not_before(tmp_path: Path) -> None:
    trainer = {"validate_every": 2}
    done = pretrain(settings(tmp_path / "a", steps=8, synthetic={"stop_at": 0.0}, trainer=trainer))
    assert done.report["status"] == "finished"
    assert done.report["steps"] == done.report["validation"]["step"] == 2
    other = pretrain(settings(tmp_path / "b", steps=8, synthetic={"stop_at": 1.0}, trainer=trainer))
    assert other.report["steps"] == 8


def test_an_autoencoder_learns_to_compress_and_is_loaded_as_one(tmp_path: Path) -> None:
    config = settings(
        tmp_path / "run", steps=60, task="compression", seq_len=4, model={"d_model": 32},
        synthetic={"settings": {"vocab_size": 4}, "train_rows": 64}, optimizer=OptimizerConfig(lr=1e-2),
        trainer={"log_every": 10},
    )  # fmt: skip
    result = pretrain(config)
    assert result.report["test"]["accuracy"] > 0.6  # a quarter is the sign, the rest 1/3 by chance
    model = HyenaAutoencoder.from_pretrained(result.run.root)
    assert model(torch.tensor([[0, 1, 2, 3]])).shape == (1, 4, 8)
    config.model.pretrained, config.force = str(tmp_path), True
    with pytest.raises(ConfigError, match="starts from random weights"):
        pretrain(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"synthetic": {"task": "nonsense"}}, "there is no task 'nonsense'"),
        ({"synthetic": {"settings": {"vocabulary": 3}}}, "has no setting 'vocabulary'"),
        ({"model": {"max_seq_len": 16}}, "exceeds the model's max_seq_len"),
        ({"synthetic": {"train_rows": 8}, "length_warmup": LengthWarmupConfig(start=16)}, "of one length"),
        ({"synthetic": {"train_rows": 2**30}}, "new rows are drawn"),
    ],
)  # fmt: skip
def test_impossible_settings_are_found_before_a_folder_is_made(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    synthetic = change.get("synthetic", {})
    task = synthetic.pop("task", "associative_recall")
    with pytest.raises(ConfigError, match=words):
        pretrain(settings(tmp_path / "run", task=task, **change))
    assert not (tmp_path / "run").exists()


def test_a_pretrained_model_of_fewer_ids_is_refused(tmp_path: Path) -> None:
    small = HyenaForCausalLM(ModelConfig(d_model=8, n_layers=1, filter_dim=8).hyena_config())
    small.save_pretrained(tmp_path / "dna", CharacterTokenizer())
    config = settings(tmp_path / "run", synthetic={"settings": {"vocab_size": 30}})
    config.model.pretrained = str(tmp_path / "dna")
    with pytest.raises(ConfigError, match="has 12 token ids, but the task 30"):
        pretrain(config)


@pytest.mark.slow
def test_the_small_recipe_learns_to_recall(tmp_path: Path) -> None:
    from tests.test_configs import composed

    config = composed("experiment=synthetics/recall_tiny", "trainer.accelerator=cpu")
    config.run_dir, config.trainer.progress = str(tmp_path / "run"), False
    report = pretrain(config).report
    assert report["test"]["accuracy"] >= 0.99
    assert report["test"]["n_scored"] == 1000
