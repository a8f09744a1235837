"""A genome that trains in seconds, and settings to match."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyenadna.training.config import (
    DataConfig,
    LoggerConfig,
    ModelConfig,
    PretrainConfig,
    PretrainTrainerConfig,
)


def write_genome(path: Path, sizes: tuple[int, ...] = (12_000, 4_000), seed: int = 0) -> Path:
    """Random contigs c1, c2 … with a repeat-like bias, an N run and a soft-masked stretch in the first."""
    rng = np.random.default_rng(seed)
    with path.open("w") as out:
        for number, size in enumerate(sizes, 1):
            letters = "".join(rng.choice(list("ACGT"), size=size, p=[0.35, 0.15, 0.15, 0.35]))
            if number == 1:
                letters = letters[:300] + "N" * 90 + letters[390:]
                letters = letters[:1000] + letters[1000:3000].lower() + letters[3000:]
            out.write(f">c{number}\n{letters}\n")
    return path


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return write_genome(tmp_path / "genome.fa")


@pytest.fixture
def settings(tmp_path: Path, genome: Path) -> Callable[..., PretrainConfig]:
    """Build settings of a run of a few small steps; keywords replace whole groups or top-level values."""

    def build(
        *, steps: int = 6, trainer: dict[str, Any] | None = None, **groups: Any
    ) -> PretrainConfig:
        values: dict[str, Any] = {
            "model": ModelConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=66),
            "data": DataConfig(
                fasta=str(genome), validation="c2:1-2000", test="c2:2001-4000", seq_len=64,
                global_batch_size=4, validation_tokens=640,
            ),
            "trainer": PretrainTrainerConfig(
                accelerator="cpu", max_steps=steps, progress=False, **(trainer or {})
            ),
            "logger": LoggerConfig(),
            "run_dir": str(tmp_path / "run"),
        }  # fmt: skip
        return PretrainConfig(**{**values, **groups})

    return build
