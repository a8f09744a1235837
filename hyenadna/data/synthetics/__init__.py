"""Synthetic tasks with exact generators: what a mixer can do, in rows that are drawn and never run out.

`TASKS` names them. A task is a frozen dataclass with its settings; `SyntheticTask.batch` gives rows of a split, each a pure function of (seed, split, index).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hyenadna.data.synthetics.base import IGNORED, SPLITS, Rows, SyntheticTask
from hyenadna.data.synthetics.mad import (
    Compression,
    FuzzyInContextRecall,
    InContextRecall,
    Memorisation,
    NoisyInContextRecall,
    SelectiveCopying,
)
from hyenadna.data.synthetics.recall import AssociativeRecall, MultiQueryRecall
from hyenadna.errors import ConfigError

__all__ = ["IGNORED", "SPLITS", "TASKS", "Rows", "SyntheticTask", "build_task"]

TASKS: Mapping[str, type[SyntheticTask]] = {
    "associative_recall": AssociativeRecall,
    "mqar": MultiQueryRecall,
    "in_context_recall": InContextRecall,
    "noisy_in_context_recall": NoisyInContextRecall,
    "fuzzy_in_context_recall": FuzzyInContextRecall,
    "selective_copying": SelectiveCopying,
    "compression": Compression,
    "memorisation": Memorisation,
}


def build_task(name: str, seq_len: int, settings: Mapping[str, Any]) -> SyntheticTask:
    """Return a task of some length.

    Parameters
    ----------
    name
        In `TASKS`.
    seq_len
        Tokens of a row.
    settings
        Its other fields.

    Raises
    ------
    ConfigError
        There is no such task or setting, or a value is impossible.
    """
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    defaults = {f.name: f.default for f in fields(TASKS[name]) if f.name != "seq_len"}
    for key, value in settings.items():
        if key not in defaults:
            raise ConfigError(
                f"the task {name} has no setting {key!r}; it has {', '.join(defaults)}"
            )
        kind = type(defaults[key])
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (
            (isinstance(value, kind) and (kind is not int or whole)) or (kind is float and whole)
        ):
            raise ConfigError(
                f"the task {name} has {key}={value!r}; a value like {defaults[key]!r} is needed"
            )
    return TASKS[name](seq_len=seq_len, **settings)
