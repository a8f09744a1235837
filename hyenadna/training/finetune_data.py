"""Training batches of labelled sequences; order and augmentation are pure functions of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hyenadna.data.augment import (
    random_reverse_complement,
    random_shift,
    random_span_mask,
    random_substitution,
)
from hyenadna.data.collate import bucketed_batches, pad_right
from hyenadna.data.labelled import LabelledSet
from hyenadna.data.shuffle import dinucleotide_shuffles
from hyenadna.models.strands import complement_table
from hyenadna.sequence import base_codes
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.finetune_config import LabelledDataConfig


class LabelledBatch(NamedTuple):
    """What the model learns from at once.

    Parameters
    ----------
    token_ids
        uint8, shape (B, L), padded on the right to the longest of the batch.
    mask
        bool, shape (B, L), True at real tokens.
    labels
        int64, shape (B,), in 0…C-1.
    """

    token_ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


class BatchKey(NamedTuple):
    """Which rows make a batch, and where in the run it comes, which decides its augmentation."""

    epoch: int
    number: int
    rows: npt.NDArray[np.int64]


class EpochOrder(Sampler[BatchKey]):
    """Batches of similar length in a new order every epoch; each pass over it is the next epoch."""

    def __init__(self, lengths: npt.ArrayLike, batch_size: int, *, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.lengths.size // self.batch_size)

    def __iter__(self) -> Iterator[BatchKey]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        batches = bucketed_batches(self.lengths, self.batch_size, seed=self.seed, epoch=epoch)
        yield from (BatchKey(epoch, number, rows) for number, rows in enumerate(batches))


class LabelledBatches(Dataset[LabelledBatch]):
    """Encoded training sequences, given out a batch at a time.

    Parameters
    ----------
    split
        The training split.
    config
        Augmentation.
    tokenizer
        The model's tokenizer.
    seed
        Of the augmentation.
    """

    def __init__(
        self,
        split: LabelledSet,
        config: LabelledDataConfig,
        *,
        tokenizer: CharacterTokenizer,
        seed: int,
    ) -> None:
        self.token_ids = [tokenizer.encode(sequence) for sequence in split.sequences]
        self.positives = [s for s, label in zip(split.sequences, split.labels, strict=True) if label == 1]  # fmt: skip
        self.labels = torch.from_numpy(split.labels)
        self.config = config
        self.tokenizer = tokenizer
        self.complement = complement_table(tokenizer).numpy()
        self.seed = seed

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, key: BatchKey) -> LabelledBatch:
        config, tokenizer = self.config, self.tokenizer
        rng = np.random.default_rng((self.seed, key.epoch, key.number, 1))
        labels = self.labels[key.rows]
        sequences = [self.token_ids[row] for row in key.rows]
        if config.shuffled_negatives:
            redrawn = (labels.numpy() == 0) & (rng.random(len(labels)) < config.shuffled_negatives)
            for place, ids in zip(np.flatnonzero(redrawn), self._shuffles(redrawn.sum(), rng), strict=True):  # fmt: skip
                sequences[place] = ids
        lengths = np.array([ids.size for ids in sequences])
        token_ids, mask = pad_right(sequences, pad_token_id=tokenizer.pad_token_id)
        token_ids = random_reverse_complement(
            token_ids, lengths, complement=self.complement, probability=config.rc_probability, rng=rng
        )  # fmt: skip
        hidden = tokenizer.n_token_id
        token_ids = random_shift(token_ids, lengths, most=config.max_shift, fill=hidden, rng=rng)
        token_ids = random_substitution(
            token_ids,
            base_token_ids=tokenizer.base_token_ids,
            probability=config.substitution_probability,
            rng=rng,
        )
        token_ids = random_span_mask(
            token_ids, lengths, span=config.mask_span, fill=hidden, rng=rng
        )
        return LabelledBatch(torch.from_numpy(token_ids), torch.from_numpy(mask), labels)

    def _shuffles(self, n: int, rng: np.random.Generator) -> list[npt.NDArray[np.uint8]]:
        """Return the token ids of dinucleotide shuffles of n random sequences of class 1."""
        chosen = [base_codes(self.positives[i]) for i in rng.integers(len(self.positives), size=n)]
        shuffled = chosen.copy()
        for length in {codes.size for codes in chosen}:  # rows of one length go together
            which = [i for i, codes in enumerate(chosen) if codes.size == length]
            for i, codes in zip(which, dinucleotide_shuffles(np.stack([chosen[i] for i in which]), rng), strict=True):  # fmt: skip
                shuffled[i] = codes
        return [self.tokenizer.code_table[codes] for codes in shuffled]


def training_loader(
    split: LabelledSet,
    config: LabelledDataConfig,
    *,
    tokenizer: CharacterTokenizer,
    seed: int,
    num_workers: int = 0,
) -> DataLoader[LabelledBatch]:
    """Return a loader whose every pass is one epoch over the training split.

    The number of workers has no effect on the batches or their order.
    """
    batches = LabelledBatches(split, config, tokenizer=tokenizer, seed=seed)
    order = EpochOrder([ids.size for ids in batches.token_ids], config.batch_size, seed=seed)
    return DataLoader(batches, batch_size=None, sampler=order, num_workers=num_workers)
