from __future__ import annotations

import numpy as np
import torch

from hyenadna.data.labelled import LabelledSet
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.finetune_config import LabelledDataConfig
from hyenadna.training.finetune_data import LabelledBatch, training_loader


def split(n: int = 20) -> LabelledSet:
    rng = np.random.default_rng(0)
    sequences = tuple("".join(rng.choice(list("ACGT"), rng.integers(5, 12))) for _ in range(n))
    return LabelledSet(sequences, np.arange(n) % 3, tuple(range(n)))


def epochs(
    config: LabelledDataConfig, n: int, *, seed: int = 0, workers: int = 0
) -> list[list[LabelledBatch]]:
    loader = training_loader(
        split(), config, tokenizer=CharacterTokenizer(), seed=seed, num_workers=workers
    )
    assert len(loader) == 4
    return [list(loader) for _ in range(n)]


def rows(batches: list[LabelledBatch]) -> list[tuple[str, int]]:
    tokenizer = CharacterTokenizer()
    return [
        (tokenizer.decode(ids[mask].numpy()), int(label))
        for batch in batches
        for ids, mask, label in zip(*batch, strict=True)
    ]


def test_an_epoch_is_every_row_once_with_its_label() -> None:
    data = split()
    expected = sorted(zip(data.sequences, data.labels.tolist(), strict=True))
    for epoch in epochs(LabelledDataConfig(batch_size=6), 2):
        assert sorted(rows(epoch)) == expected


def test_epochs_differ_and_runs_repeat_whatever_the_workers() -> None:
    config = LabelledDataConfig(batch_size=6, rc_probability=0.5, substitution_probability=0.1)
    first, second = (rows(e) for e in epochs(config, 2))
    assert first != second
    assert [rows(e) for e in epochs(config, 2)] == [first, second]
    assert [rows(e) for e in epochs(config, 2, workers=2)] == [first, second]
    assert rows(epochs(config, 1, seed=1)[0]) != first


def test_batches_are_padded_and_typed() -> None:
    batch = epochs(LabelledDataConfig(batch_size=6), 1)[0][0]
    assert batch.token_ids.dtype == torch.uint8
    assert batch.mask.dtype == torch.bool
    assert batch.labels.dtype == torch.int64
    assert (batch.token_ids[~batch.mask] == 4).all()
