"""A residual convolutional network on one-hot bases: the baseline without long filters or pretraining that a classifier has to beat.

Both strands are one example: training reads either at random, prediction averages them. Weights are averaged over steps; the epoch is chosen on dev.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from hyenadna.sequence import base_codes
from hyenadna.tasks.metrics import confusion_matrices, matthews

Floats = npt.NDArray[np.float64]
Labelled = tuple[Sequence[str], npt.NDArray[np.int64]]


class CnnFit(NamedTuple):
    """A trained network's predictions.

    Parameters
    ----------
    n_parameters, best_epoch
        Weights of the network, and the epoch chosen on dev, from 1.
    dev_mcc
        Matthews correlation on dev.
    dev_probabilities, test_probabilities
        Shape (n, C); None without a test split.
    """

    n_parameters: int
    best_epoch: int
    dev_mcc: float
    dev_probabilities: Floats
    test_probabilities: Floats | None


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(2))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, 7, padding=3 * d, dilation=d) for d in (dilation, 1)
        )

    def forward(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            # Nothing of the padding reaches a base: a sequence has the same logits in any company.
            x = convolution(torch.where(inside, functional.relu(norm(x)), 0.0))
        return x


class ResidualCnn(nn.Module):
    """One-hot bases (B, 4, L), zero at ambiguous ones and padding, to logits (B, C)."""

    def __init__(self, n_classes: int, *, width: int = 128, n_blocks: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv1d(4, width, 15, padding=7)
        self.blocks = nn.ModuleList(_Residual(width, 2 ** (i % 3)) for i in range(n_blocks))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * width, n_classes))

    def forward(self, bases: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Compute logits; mask (B, L) is True at real bases, and nothing else is pooled."""
        inside = mask[:, None]
        x = self.stem(bases)
        for block in self.blocks:
            x = x + block(x, inside)
        mean = torch.where(inside, x, 0.0).sum(-1) / inside.sum(-1)
        most = torch.where(inside, x, -torch.inf).amax(-1)
        return cast(torch.Tensor, self.head(torch.cat([mean, most], dim=1)))


def fit_cnn_baseline(
    train: Labelled,
    dev: Labelled,
    test_sequences: Sequence[str] | None = None,
    *,
    n_classes: int,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 2e-3,
    width: int = 128,
    seed: int = 0,
    device: torch.device | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> CnnFit:
    """Train a network, and keep the averaged weights of the epoch with the best Matthews correlation on dev.

    Parameters
    ----------
    train, dev
        Sequences and labels, int64, in 0…C-1.
    test_sequences
        Sequences to predict with the chosen weights.
    n_classes
        C.
    epochs, batch_size, lr, width
        AdamW with a one-cycle schedule up to `lr`; channels of the network.
    seed
        Of weights, order and strands; the global generator is left as it was.
    device
        Where it trains; None is the CPU.
    progress
        Called after each epoch with its number, from 1, and the correlation on dev.
    """
    device = device or torch.device("cpu")
    ids, labels = _encoded(train[0]), torch.from_numpy(train[1])
    dev_ids = _encoded(dev[0])
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = ResidualCnn(n_classes, width=width).to(device)
        average = copy.deepcopy(model).eval()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        steps = epochs * math.ceil(len(ids) / batch_size)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(steps, 2))
        best: tuple[float, int, dict[str, torch.Tensor]] | None = None
        done = 0
        for epoch in range(1, epochs + 1):
            model.train()
            for rows in np.array_split(rng.permutation(len(ids)), math.ceil(len(ids) / batch_size)):
                batch = [ids[i] if flip else _other_strand(ids[i]) for i, flip in zip(rows, rng.random(len(rows)) < 0.5, strict=True)]  # fmt: skip
                logits = model(*_one_hot(batch, device))
                loss = functional.cross_entropy(logits, labels[rows].to(device), label_smoothing=0.05)  # fmt: skip
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                done += 1
                _follow(average, model, min(0.99, (1 + done) / (10 + done)))
            probabilities = _predict(average, dev_ids, device, batch_size)
            confusion = confusion_matrices(dev[1], probabilities.argmax(1), n_classes, np.ones((1, len(dev[1]))))  # fmt: skip
            mcc = float(matthews(confusion)[0])
            if progress is not None:
                progress(epoch, mcc)
            if best is None or mcc > best[0]:
                best = mcc, epoch, copy.deepcopy(average.state_dict())
    if best is None:
        raise ValueError(f"epochs is {epochs}; at least 1 is needed")
    average.load_state_dict(best[2])
    test = None if test_sequences is None else _predict(average, _encoded(test_sequences), device, batch_size)  # fmt: skip
    n_parameters = sum(parameter.numel() for parameter in average.parameters())
    return CnnFit(n_parameters, best[1], best[0], _predict(average, dev_ids, device, batch_size), test)  # fmt: skip


def _encoded(sequences: Sequence[str]) -> list[npt.NDArray[np.uint8]]:
    return [base_codes(sequence) for sequence in sequences]


def _other_strand(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.where(codes < 4, 3 - codes, codes)[::-1]


def _one_hot(
    batch: Sequence[npt.NDArray[np.uint8]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack codes 0…4, padded on the right: bases (B, 4, L), and True at real ones (B, L)."""
    length = max(len(codes) for codes in batch)
    stacked = np.full((len(batch), length), 5, dtype=np.int64)
    for row, codes in zip(stacked, batch, strict=True):
        row[: len(codes)] = codes
    ids = torch.from_numpy(stacked).to(device)
    bases = functional.one_hot(ids, 6)[..., :4].transpose(1, 2).float()
    return bases, ids < 5


def _predict(
    model: nn.Module, ids: Sequence[npt.NDArray[np.uint8]], device: torch.device, batch_size: int
) -> Floats:
    parts = []
    with torch.inference_mode():
        for first in range(0, len(ids), batch_size):
            batch = ids[first : first + batch_size]
            logits = model(*_one_hot(batch, device)) + model(*_one_hot([_other_strand(c) for c in batch], device))  # fmt: skip
            parts.append((logits / 2).double().softmax(-1).cpu().numpy())
    return np.concatenate(parts)


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; statistics of batches are taken as they are."""
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for mine, other in zip(average.buffers(), model.buffers(), strict=True):
            mine.copy_(other)
