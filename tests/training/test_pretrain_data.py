from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hyenadna.errors import DataError, FileFormatError, IntervalError
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.config import DataConfig, GenomeConfig, LengthWarmupConfig
from hyenadna.training.pretrain_data import (
    PretrainData,
    TiledBatches,
    TrainSteps,
    absolute_path,
    absolute_sources,
    n_bases,
    open_genomes,
)
from hyenadna.training.schedules import LengthPlan


def config(genome: Path, **values: Any) -> DataConfig:
    base: dict[str, Any] = {
        "fasta": str(genome), "validation": "c2:1-2000", "test": "c2:2001-4000", "seq_len": 64,
        "global_batch_size": 8, "validation_tokens": 640,
    }  # fmt: skip
    return DataConfig(**{**base, **values})


def build(
    settings: DataConfig, *, start: int = 0, warmup: int | None = None, **rest: Any
) -> PretrainData:
    plan = LengthPlan(
        settings.seq_len, settings.global_batch_size, 10, LengthWarmupConfig(start=warmup)
    )
    return PretrainData(
        open_genomes(settings), settings, plan, tokenizer=CharacterTokenizer(), seed=1,
        start_step=start, max_steps=10, **rest,
    )  # fmt: skip


def test_splits_are_what_the_settings_say(genome: Path) -> None:
    (opened,) = open_genomes(config(genome))
    assert [str(i) for i in opened.splits.train] == ["c1:1-12000"]
    described = opened.describe()
    assert (described["train_bases"], described["validation_bases"], described["test_bases"]) == (
        12_000, 2000, 2000,
    )  # fmt: skip
    assert len(described["sha256"]) == 64


@pytest.mark.parametrize(
    ("values", "error", "named"),
    [
        ({"validation": "c9"}, IntervalError, "c9"),
        ({"validation": "c2:3990-5000"}, IntervalError, "4,000"),
        ({"test": None, "validation": None, "train": "c1"}, DataError, "validation split .* empty"),
        ({"train": "c2:1-100"}, DataError, "c2"),
        ({"fasta": "/nowhere.fa"}, FileFormatError, "nowhere"),
    ],
)
def test_bad_genome_or_split_is_one_sentence(
    genome: Path, values: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        open_genomes(config(genome, **values))


def test_split_of_n_only_is_refused_before_training(tmp_path: Path) -> None:
    fasta = tmp_path / "n.fa"
    fasta.write_text(">a\n" + "N" * 3000 + "\n>b\n" + "ACGT" * 500 + "\n")
    with pytest.raises(DataError, match="all N"):
        build(config(fasta, validation="b", test=None))
    with pytest.raises(DataError, match="all N"):
        build(config(fasta, validation="a", test=None))


def test_processes_share_the_windows_of_one(genome: Path) -> None:
    data = build(config(genome))
    whole = TrainSteps(data.windows, data.plan, rank=0, world_size=1, soft_mask=False)[3]
    parts = [
        TrainSteps(data.windows, data.plan, rank=r, world_size=4, soft_mask=False)[3]
        for r in range(4)
    ]
    assert torch.equal(torch.cat([p.token_ids for p in parts]), whole.token_ids)
    assert [p.first_window for p in parts] == [24, 26, 28, 30]
    assert whole.soft_mask is None
    other = TrainSteps(data.windows, data.plan, rank=0, world_size=1, soft_mask=False)[4]
    assert not torch.equal(other.token_ids, whole.token_ids)  # negative control


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_loader_goes_on_where_the_other_would_be(genome: Path, num_workers: int) -> None:
    whole = [b.token_ids for b in build(config(genome)).train_dataloader()]
    resumed = build(config(genome), start=7, num_workers=num_workers).train_dataloader()
    rest = [b.token_ids for b in resumed]
    assert (len(whole), len(rest)) == (10, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole[7:], rest, strict=True))


def test_soft_mask_comes_with_its_window(genome: Path) -> None:
    data = build(config(genome), soft_mask=True)
    batch = next(iter(data.train_dataloader()))
    assert batch.soft_mask is not None
    for i, mask in enumerate(batch.soft_mask):
        expected = data.windows.soft_mask_window(batch.first_window + i, 64)
        np.testing.assert_array_equal(mask.numpy(), expected)
    masks = [b.soft_mask.float().mean() for b in data.train_dataloader() if b.soft_mask is not None]
    assert 0 < float(torch.stack(masks).mean()) < 0.5


def test_length_warmup_keeps_the_tokens_of_a_step(genome: Path) -> None:
    shapes = [tuple(b.token_ids.shape) for b in build(config(genome), warmup=16).train_dataloader()]
    assert shapes[0] == (32, 16)
    assert shapes[-1] == (8, 64)
    assert {rows * columns for rows, columns in shapes} == {512}


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_validation_window_is_read_once_and_processes_have_equally_many_batches(
    genome: Path, world_size: int
) -> None:
    tiled = build(config(genome, validation_tokens=100_000)).tiled
    per_rank = [
        list(TiledBatches(tiled, 4, rank=r, world_size=world_size, pad_token_id=4))
        for r in range(world_size)
    ]
    assert len({len(batches) for batches in per_rank}) == 1
    rows = [
        tuple(row.tolist()) for batches in per_rank for batch in batches for row in batch.token_ids
    ]
    rows = [row for row in rows if set(row) != {4}]
    assert sorted(rows) == sorted(tuple(tiled[0].window(i).tolist()) for i in range(len(tiled[0])))


def test_several_genomes_are_weighted(tmp_path: Path) -> None:
    sources = []
    for name, letter, weight in (("a", "A", 3.0), ("c", "C", 1.0)):
        fasta = tmp_path / f"{name}.fa"
        fasta.write_text(f">{name}\n{letter * 5000}\n>v\n{'ACGT' * 100}\n")
        sources.append(GenomeConfig(fasta=str(fasta), weight=weight, validation="v"))
    settings = DataConfig(genomes=sources, seq_len=64, global_batch_size=100, rc_probability=0.0)
    data = build(settings)
    first = torch.cat([b.token_ids[:, 0] for b in data.train_dataloader()])
    assert float((first == 7).float().mean()) == pytest.approx(0.75, abs=0.05)
    assert len(data.tiled) == 2


def test_one_genome_of_several_may_validate_for_all(genome: Path) -> None:
    both = [
        GenomeConfig(fasta=str(genome), validation="c2:1-2000", test="c2:2001-4000"),
        GenomeConfig(fasta=str(genome), test="c1:1-600"),
    ]
    settings = DataConfig(genomes=both, seq_len=64, validation_tokens=640)
    (tiled,) = build(settings).tiled
    assert len(tiled) == 10  # all of the tokens, not half of them
    assert {tiled.location(i).chrom for i in range(10)} == {"c2"}
    with pytest.raises(DataError, match="validation split .* empty"):
        open_genomes(DataConfig(genomes=both[1:]))


def test_paths_become_absolute_and_bundled_names_stay(
    genome: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(genome.parent)
    (genome.parent / "held.bed").write_text("c2\t0\t2000\n")
    settings = config(Path("genome.fa"), validation=["held.bed", "c2:1-5"])
    settings.genomes = [GenomeConfig(fasta="bundled:x/y.2bit")]
    absolute_sources(settings)
    assert settings.fasta == str(genome)
    assert settings.validation == [str(genome.parent / "held.bed"), "c2:1-5"]
    assert settings.genomes[0].fasta == "bundled:x/y.2bit"
    assert absolute_path("~").startswith("/")
    assert n_bases([]) == 0
