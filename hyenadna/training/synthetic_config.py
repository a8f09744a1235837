"""What a run on a synthetic task can be told beside what all pretraining shares (`hyenadna.training.config`), and a grid of runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hyenadna.training.checks import require

__all__ = ["GridConfig", "SyntheticConfig"]


@dataclass(kw_only=True)
class SyntheticConfig:
    """A synthetic task and its rows (`hyenadna.data.synthetics`), whose length is data.seq_len.

    Parameters
    ----------
    task
        In `hyenadna.data.synthetics.TASKS`.
    settings
        Fields of the task; its own defaults stand for what is left out. The model's vocabulary is the task's.
    train_rows
        Number of training rows, which are then read again and again, each once an epoch; None draws new ones for ever.
    validation_rows, test_rows
        Rows of these splits, ≥ 1.
    stop_at
        Accuracy on validation rows, 0 to 1, at which a run is finished before its last step; None goes on to the end.
    seed
        Of the rows, ≥ 0; runs of other weights (seed) read the same ones.
    """

    task: str = "associative_recall"
    settings: dict[str, Any] = field(default_factory=dict)
    train_rows: int | None = None
    validation_rows: int = 1000
    test_rows: int = 1000
    stop_at: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("train_rows", "validation_rows", "test_rows"):
            value = getattr(self, name)
            require(f"data.synthetic.{name}", value, value is None or value >= 1, "at least 1 is needed")  # fmt: skip
        if self.stop_at is not None:
            require("data.synthetic.stop_at", self.stop_at, 0 <= self.stop_at <= 1, "0 to 1 is needed")  # fmt: skip
        require("data.synthetic.seed", self.seed, self.seed >= 0, "at least 0 is needed")


@dataclass(kw_only=True)
class GridConfig:
    """Runs of several tasks or texts and models in one command, tuned on validation rows, and a table of their test rows.

    Parameters
    ----------
    rows
        What the table has a line for: a name, and the settings that make it, ``experiment=…`` among them.
    models
        What it has a column for: a name and settings.
    tune
        Settings and the values that are tried, all combinations for each row and model with the first seed. The best on validation rows is taken.
    seeds
        Of weights and order (seed); the others run with the best combination only.
    only
        Names of rows and models to which the grid is limited; empty for all.
    metric
        ``accuracy``, the share of right answers; ``class_accuracy``, the mean of that share over the different answers, as MAD has it; or ``bits_per_byte``
        of text, the lower the better.
    published
        Figures beside ours, in datasets/synthetics/published.yaml; empty for none.
    axis
        What the names of rows are; a plot is drawn over it where it is given.
    jobs
        Runs at a time, ≥ 0; 0 takes 4 for each visible GPU, and 1 elsewhere.
    seconds
        Limit of the whole command's time, > 0. Runs that are not finished by then are stopped within 10 s; the table is made of the others and says which are missing. None for no limit.
    enough
        Value of the metric on validation rows at which a row and model needs no other combination of `tune`: those that have not finished are left out. None tries all.
    """

    rows: dict[str, list[str]] = field(default_factory=dict)
    models: dict[str, list[str]] = field(default_factory=dict)
    tune: dict[str, list[Any]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [1])
    only: list[str] = field(default_factory=list)
    metric: str = "accuracy"
    published: str = ""
    axis: str = ""
    jobs: int = 0
    seconds: float | None = None
    enough: float | None = None

    def __post_init__(self) -> None:
        require("grid.jobs", self.jobs, self.jobs >= 0, "at least 0 is needed")
        require("grid.seconds", self.seconds, self.seconds is None or self.seconds > 0, "a number above 0 is needed")  # fmt: skip
        require("grid.metric", self.metric, self.metric in ("accuracy", "class_accuracy", "bits_per_byte"),
                "one of accuracy, class_accuracy, bits_per_byte is needed")  # fmt: skip
        unique = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds)
        require("grid.seeds", self.seeds, unique, "different integers are needed")
        require("grid.models", self.models, bool(self.models) or not self.rows, "a grid of rows needs a model")  # fmt: skip
        self.only = [str(name) for name in self.only]
        unknown = [name for name in self.only if name not in (*self.rows, *self.models)]
        require("grid.only", unknown, not unknown, f"there are {', '.join((*self.rows, *self.models))}")  # fmt: skip

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return the rows or the models that `only` leaves: those it names, or all where it names none of them."""
        names = list(names)
        return [name for name in names if name in self.only] or names
