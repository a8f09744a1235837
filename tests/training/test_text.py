"""Training on text: the same run folders and resuming as genomes, and figures that are what they say."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hyenadna.data.text import TextFile, TextSpan, count_words
from hyenadna.errors import ConfigError
from hyenadna.models import HyenaForCausalLM, load_model
from hyenadna.tokenizers import ByteTokenizer, load_tokenizer
from hyenadna.training.config import (
    DataConfig,
    LengthWarmupConfig,
    ModelConfig,
    OptimizerConfig,
    PretrainConfig,
    PretrainTrainerConfig,
    ScheduleConfig,
    TaskConfig,
)
from hyenadna.training.evaluate_text import evaluate_text
from hyenadna.training.metrics_log import read_metrics
from hyenadna.training.pretrain import pretrain
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.text_config import TextConfig
from hyenadna.training.text_data import TextBatches, TextData, TextSteps, open_texts
from hyenadna.training.text_module import text_measures


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "book.txt"
    path.write_text("".join(f"This is line {i % 7}, naïve.\n\n" for i in range(400)), "utf-8")
    return path


def settings(run_dir: Path, book: Path, *, steps: int = 4, **groups: Any) -> PretrainConfig:
    trainer = {"accelerator": "cpu", "max_steps": steps, "progress": False} | groups.pop("trainer", {})  # fmt: skip
    model = {"d_model": 8, "n_layers": 1, "filter_dim": 8, "max_seq_len": 32, "embed_dropout": 0.0} | groups.pop("model", {})  # fmt: skip
    text = {"train": str(book)} | groups.pop("text", {})
    return PretrainConfig(
        model=ModelConfig(**model),
        data=DataConfig(kind="text", text=TextConfig(**text), seq_len=32, global_batch_size=8),
        trainer=PretrainTrainerConfig(**trainer), run_dir=str(run_dir), **groups,
    )  # fmt: skip


def test_a_run_leaves_what_every_run_leaves_and_scores_every_byte_of_the_test(
    tmp_path: Path, book: Path
) -> None:
    result = pretrain(settings(tmp_path / "run", book))
    root = result.run.root
    assert {p.name for p in root.iterdir()} == {
        "config.yaml", "metrics.csv", "loss.png", "last.ckpt", "model", "report.json",
    }  # fmt: skip
    report = json.loads((root / "report.json").read_text())
    assert report["unit"] == "bits per byte"
    assert report["config"]["model"]["vocab_size"] == 256
    assert [part["split"] for part in report["data"][:-1]] == ["train", "validation", "test"]
    assert isinstance(load_tokenizer(root / "model"), ByteTokenizer)

    model = load_model(root)
    assert isinstance(model, HyenaForCausalLM)
    (span,) = open_texts(TextConfig(train=str(book))).test
    assert (report["test"]["n_scored"], report["data"][-1]["test_words"]) == (span.n_bytes, count_words([span]))  # fmt: skip
    # By hand: one long window, of which the model sees no more than its length.
    raw = b"\n" + span.file.read(span.start, span.end)
    nats, scored = 0.0, 0
    with torch.no_grad():
        for at in range(0, len(raw) - 8, 24):  # windows of 32 with a context of 8
            ids = torch.tensor(list(raw[at : at + 32]))[None]
            log_p = model(ids).log_softmax(-1)[0]
            first = 8 if at else 1
            for t in range(first, ids.shape[1]):
                nats -= float(log_p[t - 1, ids[0, t]])
                scored += 1
    assert scored == span.n_bytes
    assert report["test"]["bits_per_byte"] == pytest.approx(nats / scored / math.log(2), rel=1e-5)
    perplexity = math.exp(nats / count_words([span]))
    assert report["test"]["word_perplexity"] == pytest.approx(perplexity, rel=1e-4)
    found = evaluate_text(model, [span], window=32)
    assert found.word_perplexity == pytest.approx(perplexity, rel=1e-4)
    assert (found.n_scored, found.context) == (span.n_bytes, 8)
    rows = read_metrics(root / "metrics.csv")
    assert all(r["bits_per_byte"] > 0 for r in rows)
    assert {r["split"] for r in rows if "word_perplexity" in r} == {"validation"}


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, book: Path) -> None:
    more = {"trainer": {"checkpoint_every": 2}, "schedule": ScheduleConfig(name="constant"),
            "length_warmup": LengthWarmupConfig(start=16, fraction=0.5)}  # fmt: skip
    whole = pretrain(settings(tmp_path / "whole", book, steps=6, **more))
    more["length_warmup"] = LengthWarmupConfig(start=16, fraction=1.0)  # the same first three steps
    part = settings(tmp_path / "part", book, steps=3, **more)
    pretrain(part)
    part.trainer.max_steps, part.resume = 6, str(tmp_path / "part")
    part.length_warmup = LengthWarmupConfig(start=16, fraction=0.5)
    resumed = pretrain(part)
    a, b = (
        [(r["step"], r["loss_nats"]) for r in read_metrics(x.run.metrics) if r["split"] == "train"]
        for x in (whole, resumed)
    )
    assert a == b
    assert whole.report["test"] == resumed.report["test"]


@pytest.mark.slow
@pytest.mark.parametrize("mixers", [["conv", "hyena"], "attention"])
def test_a_text_that_repeats_is_learnt(tmp_path: Path, book: Path, mixers: Any) -> None:
    config = settings(
        tmp_path / "run", book, steps=150, optimizer=OptimizerConfig(lr=1e-2),
        model={"d_model": 32, "n_layers": 2, "mixers": mixers, "attention_heads": 2},
    )  # fmt: skip
    report = pretrain(config).report
    assert report["test"]["bits_per_byte"] < 0.3
    assert report["validation"]["bits_per_byte"] < 0.3


def test_processes_share_batches_and_tiles_without_loss_or_double(book: Path) -> None:
    config = DataConfig(kind="text", text=TextConfig(train=str(book)), seq_len=32)
    plan = LengthPlan(32, 8, 10, LengthWarmupConfig())
    data = TextData(open_texts(config.text), config, plan, seed=1, start_step=0, max_steps=10)
    whole = TextSteps(data.windows, plan, rank=0, world_size=1)[3]
    halves = [TextSteps(data.windows, plan, rank=r, world_size=2)[3] for r in (0, 1)]
    assert torch.equal(torch.cat([h.token_ids for h in halves]), whole.token_ids)
    assert halves[1].first_window == whole.first_window + 4

    tiles = data.tiles["test"]
    shares = [TextBatches(tiles, 5, rank=r, world_size=3) for r in range(3)]
    assert len({len(share) for share in shares}) == 1
    scored = 0
    for share in shares:
        for number in range(len(share)):
            batch = share[number]
            place = torch.arange(32)
            scored += int(((batch.token_ids != 0) & (place >= batch.firsts[:, None])).sum())
    assert scored == open_texts(config.text).test[0].n_bytes


def test_a_context_changes_what_is_seen_but_not_what_is_scored(book: Path) -> None:
    torch.manual_seed(0)
    model = HyenaForCausalLM(
        dataclasses.replace(ModelConfig().hyena_config(), vocab_size=256, d_model=8, n_layers=1)
    )
    file = TextFile(book)
    spans = [TextSpan(file, 0, 700)]
    little, much = (evaluate_text(model, spans, window=64, context=c) for c in (1, 60))
    assert little.n_scored == much.n_scored == 700
    assert little.loss_nats != much.loss_nats
    whole = evaluate_text(model, spans, window=701, context=1)
    assert evaluate_text(model, spans, window=701, context=700, batch_size=3).loss_nats == pytest.approx(whole.loss_nats)  # fmt: skip
    thinned = evaluate_text(model, spans, window=64, context=14, max_bytes=100)
    assert (thinned.n_scored, thinned.n_bytes) == (100, 700)
    assert model.training
    with pytest.raises(ConfigError, match="context of 64"):
        evaluate_text(model, spans, window=64, context=64)


def test_a_word_costs_its_bytes_and_no_impossible_number_is_told() -> None:
    assert text_measures(math.log(2), 5.0)["word_perplexity"] == pytest.approx(32.0)
    assert text_measures(math.log(256), 1.0)["bits_per_byte"] == pytest.approx(8.0)
    assert "word_perplexity" not in text_measures(2.0, 1000.0)
    assert "word_perplexity" not in text_measures(2.0, None)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"task": TaskConfig(name="masked_lm")}, "predicts the next byte"),
        ({"task": TaskConfig(soft_mask_weight=0.5)}, "predicts the next byte"),
        ({"model": {"bidirectional": True}}, "bidirectional"),
        ({"model": {"max_seq_len": 16}}, "exceeds the model's max_seq_len"),
        ({"model": {"pretrained": "bundled:human-tiny-1k", "max_seq_len": 1026}}, "take a model of text"),
        ({"text": {"context": 32}}, "leaves nothing"),
        ({"text": {"train": None}}, r"data\.text\.train=FILE"),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_a_folder_is_made(
    tmp_path: Path, book: Path, groups: dict[str, Any], message: str
) -> None:
    from hyenadna.errors import HyenaDNAError

    with pytest.raises(HyenaDNAError, match=message):
        pretrain(settings(tmp_path / "run", book, **groups))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [({"train": 3}, "a file, or a list"), ({"held_out": 0.5}, "between 0 and 0.5"), ({"context": 0}, "at least 1")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextConfig(**values)
