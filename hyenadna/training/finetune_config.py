"""What fine-tuning can be told, beside what it shares with pretraining (`hyenadna.training.config`).

The defaults train a small classifier from random weights on a laptop: they were chosen on the dev splits of GUE's
core-promoter, promoter, transcription-factor and mouse tasks, never on a test split.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from hyenadna.models import Pooling
from hyenadna.tasks.classification import STRANDS
from hyenadna.training.config import (
    LoggerConfig,
    ModelConfig,
    OptimizerConfig,
    ScheduleConfig,
    TrainerConfig,
    require,
)

SELECT_BY = ("mcc", "f1_macro", "accuracy", "auroc", "auprc", "loss")


@dataclass(kw_only=True)
class ClassifierConfig(ModelConfig):
    """`ModelConfig`, and the classification head.

    Parameters
    ----------
    max_seq_len
        Longest input, bases; 0 takes the longest sequence of the task. It is the length on which the filters are laid out, so
        it should be near the length of the data.
    pooling
        ``attention`` (a learned average), ``mean``, ``last``, ``attention_max`` (that average and the maximum), or ``positional`` (these two and a
        readout of every position, for sequences cut around something); padding never counts.
    head_dropout
        Dropout of the pooled features, in [0, 1).
    both_directions
        Read the other strand too and join both at every position, at twice the time: the model then sees both sides of a position. Not with
        equivariant models, whose states are of both strands already.
    """

    d_model: int = 64
    n_layers: int = 2
    max_seq_len: int = 0
    short_kernel_size: int = 7
    resid_dropout: float = 0.1
    pooling: str = "attention"
    head_dropout: float = 0.1
    both_directions: bool = False

    def __post_init__(self) -> None:
        poolings = get_args(Pooling)
        require(
            "model.pooling",
            self.pooling,
            self.pooling in poolings,
            f"one of {', '.join(poolings)} is needed",
        )
        require(
            "model.head_dropout",
            self.head_dropout,
            0 <= self.head_dropout < 1,
            "0 ≤ p < 1 is needed",
        )
        require(
            "model.max_seq_len", self.max_seq_len, self.max_seq_len >= 0, "at least 0 is needed"
        )


@dataclass(kw_only=True)
class LabelledDataConfig:
    """Labelled sequences, and how they are fed to the model.

    Parameters
    ----------
    root
        Folder that `path` is looked for in, such as the one that ``hyenadna datasets fetch gue`` fills; None is the current one.
    path
        Folder with train, dev and test files as GUE has them, or one file for training.
    train, dev, test
        CSV, TSV or FASTA files that replace those of `path`.
    extra_train
        Files of more training rows, of the same classes, such as ``hyenadna datasets build`` makes. With `drop_leaks`, rows that overlap one of dev or
        test are left out: a tenth of the 20-mers of the one that has fewer, on either strand.
    sequence_column, label_column
        Columns of the tables.
    dev_fraction
        Share of train that becomes dev where there is no dev file, in (0, 1).
    drop_leaks
        Leave out training sequences that stand in dev or test, and dev sequences that stand in test, on either strand.
    batch_size
        Sequences per optimizer step.
    rc_probability
        Share of training sequences that are reverse-complemented, 0 to 1. Harmful where the strand matters, as in promoters.
    substitution_probability
        Share of training bases that are redrawn at random, 0 to 1.
    max_shift
        Training sequences are moved by up to so many bases to either side, ≥ 0.
    mask_span
        So many bases in a row are hidden at a random place of each training sequence, ≥ 0.
    shuffled_negatives
        Share of the training sequences of class 0 that are replaced, anew each time, by dinucleotide shuffles of random ones of class 1: for
        tasks of two classes whose negatives were made so (GUE's mouse), 0 to 1.
    """

    root: str | None = None
    path: str | None = None
    train: str | None = None
    dev: str | None = None
    test: str | None = None
    extra_train: list[str] = field(default_factory=list)
    sequence_column: str = "sequence"
    label_column: str = "label"
    dev_fraction: float = 0.1
    drop_leaks: bool = True
    batch_size: int = 32
    rc_probability: float = 0.0
    substitution_probability: float = 0.0
    max_shift: int = 0
    mask_span: int = 0
    shuffled_negatives: float = 0.0

    @property
    def folder(self) -> str | None:
        """`path` within `root`."""
        if self.root is None or self.path is None:
            return self.path
        return str(Path(self.root) / self.path)

    def __post_init__(self) -> None:
        require("data.batch_size", self.batch_size, self.batch_size >= 1, "at least 1 is needed")
        require(
            "data.dev_fraction",
            self.dev_fraction,
            0 < self.dev_fraction < 1,
            "a share between 0 and 1 is needed",
        )
        for name in ("max_shift", "mask_span"):
            require(f"data.{name}", getattr(self, name), getattr(self, name) >= 0, "a number ≥ 0 is needed")  # fmt: skip
        for name in ("rc_probability", "substitution_probability", "shuffled_negatives"):
            value = getattr(self, name)
            require(f"data.{name}", value, 0 <= value <= 1, "0 to 1 is needed")


@dataclass(kw_only=True)
class ClassificationConfig:
    """The objective, and what is reported.

    Parameters
    ----------
    strands
        ``forward`` reads sequences as they are. ``both`` averages the logits of both strands in training and prediction, at
        twice the time: for tasks where the strand has no meaning, such as transcription-factor binding. ``predict_both`` does
        so in prediction only, to go with ``data.rc_probability=0.5``. Equivariant models (``model.equivariant``) have the logits of both strands at
        once: with them, the three are the same, at no cost.
    class_weights
        ``none``, or ``balanced``: rows count inversely to the frequency of their class.
    label_smoothing
        Share of the target spread over all classes, in [0, 1).
    select_by
        What the best epoch is chosen by, on dev: mcc, f1_macro, accuracy, auroc, auprc or loss.
    ensemble
        Models that each seed trains, ≥ 1. Their mean probabilities are judged, and all are kept as one classifier, at so many times the cost. Single models
        of one task err each in their own way: averaging is worth one to two points of MCC × 100 on binding sites.
    n_resamples
        Bootstrap resamples of the intervals; 0 for none.
    baselines
        Fit the majority and the k-mer baseline too.
    cnn_epochs
        Epochs of a residual convolutional network as a third baseline (1.4 M weights, both strands); 0 trains none.
    """

    strands: str = "forward"
    class_weights: str = "none"
    label_smoothing: float = 0.0
    select_by: str = "mcc"
    ensemble: int = 1
    n_resamples: int = 1000
    baselines: bool = True
    cnn_epochs: int = 0

    def __post_init__(self) -> None:
        require("task.cnn_epochs", self.cnn_epochs, self.cnn_epochs >= 0, "a number ≥ 0 is needed")
        require("task.ensemble", self.ensemble, self.ensemble >= 1, "at least 1 is needed")
        for name, allowed in (
            ("strands", STRANDS),
            ("class_weights", ("none", "balanced")),
            ("select_by", SELECT_BY),
        ):
            value = getattr(self, name)
            require(
                f"task.{name}", value, value in allowed, f"one of {', '.join(allowed)} is needed"
            )
        require(
            "task.label_smoothing",
            self.label_smoothing,
            0 <= self.label_smoothing < 1,
            "0 ≤ p < 1 is needed",
        )
        require("task.n_resamples", self.n_resamples, self.n_resamples >= 0, "at least 0 is needed")


@dataclass(kw_only=True)
class LoraConfig:
    """Low-rank adapters, with strategy=lora.

    Parameters
    ----------
    rank
        ≥ 1.
    alpha
        Scale: updates are multiplied by alpha / rank, > 0.
    dropout
        Of the adapters' input, in [0, 1).
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require("lora.rank", self.rank, self.rank >= 1, "at least 1 is needed")
        require("lora.alpha", self.alpha, self.alpha > 0, "a number > 0 is needed")
        require("lora.dropout", self.dropout, 0 <= self.dropout < 1, "0 ≤ p < 1 is needed")


@dataclass(kw_only=True)
class FinetuneOptimizerConfig(OptimizerConfig):
    """`OptimizerConfig`, and how fast pretrained weights move.

    Parameters
    ----------
    pretrained_lr_factor
        Learning rates of weights that come from `model.pretrained`, over those of new weights, in (0, 1].
    """

    lr: float = 2e-3
    weight_decay: float = 0.01
    pretrained_lr_factor: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        factor = self.pretrained_lr_factor
        require(
            "optimizer.pretrained_lr_factor",
            factor,
            0 < factor <= 1,
            "a number in (0, 1] is needed",
        )


@dataclass(kw_only=True)
class FinetuneScheduleConfig(ScheduleConfig):
    """`ScheduleConfig` with a longer warm-up, and an end near zero."""

    warmup_fraction: float = 0.1
    final_lr_fraction: float = 0.01


@dataclass(kw_only=True)
class FinetuneTrainerConfig(TrainerConfig):
    """`TrainerConfig`, and the length of fine-tuning.

    Parameters
    ----------
    max_epochs
        Passes over the training split, ≥ 1.
    min_steps
        More passes than `max_epochs` where these are fewer steps, ≥ 0: small tasks need them.
    patience
        Stop after so many epochs without a better dev result, ≥ 1; None never does.
    ema_decay
        Judge and keep a running average of the weights with this decay, in (0, 1); None keeps the weights themselves.
    """

    max_epochs: int = 25
    min_steps: int = 0
    patience: int | None = 8
    ema_decay: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require("trainer.max_epochs", self.max_epochs, self.max_epochs >= 1, "at least 1 is needed")
        require("trainer.min_steps", self.min_steps, self.min_steps >= 0, "at least 0 is needed")
        if self.ema_decay is not None:
            require("trainer.ema_decay", self.ema_decay, 0 < self.ema_decay < 1, "a number in (0, 1) is needed")  # fmt: skip
        if self.patience is not None:
            require("trainer.patience", self.patience, self.patience >= 1, "at least 1 is needed")
        single = self.devices in (0, 1) and self.num_nodes == 1
        require("trainer.devices", self.devices, single,
                "fine-tuning runs on one device; start seeds side by side instead")  # fmt: skip


@dataclass(kw_only=True)
class SuiteConfig:
    """Several experiments in one command, and a table of them.

    Parameters
    ----------
    experiments
        Names of configs/experiment; each is run with the other settings of the command.
    dataset
        Data set whose published figures the table shows; empty for none.
    jobs
        Experiments at a time, ≥ 0; 0 takes 4 on each GPU that is visible, which a small model does not fill, and 1 without.
    """

    experiments: list[str] = field(default_factory=list)
    dataset: str = ""
    jobs: int = 0

    def __post_init__(self) -> None:
        require("suite.jobs", self.jobs, self.jobs >= 0, "at least 0 is needed")


@dataclass(kw_only=True)
class FinetuneConfig:
    """Everything that fine-tuning depends on.

    Parameters
    ----------
    strategy
        ``full`` trains all weights, ``frozen`` the head alone, ``lora`` the head and low-rank adapters (extra
        ``hyenadna[lora]``); the last two need `model.pretrained`.
    seeds
        One run for each, of initial weights, order, augmentation and dropout, ≥ 0. The splits stay the same.
    run_dir
        Folder of the results; None makes ``runs/finetune/<time>``.
    force
        Write into `run_dir` although it is not empty, replacing a run's files.
    """

    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    data: LabelledDataConfig = field(default_factory=LabelledDataConfig)
    task: ClassificationConfig = field(default_factory=ClassificationConfig)
    strategy: str = "full"
    lora: LoraConfig = field(default_factory=LoraConfig)
    optimizer: FinetuneOptimizerConfig = field(default_factory=FinetuneOptimizerConfig)
    schedule: FinetuneScheduleConfig = field(default_factory=FinetuneScheduleConfig)
    trainer: FinetuneTrainerConfig = field(default_factory=FinetuneTrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    suite: SuiteConfig = field(default_factory=SuiteConfig)
    seeds: list[int] = field(default_factory=lambda: [1])
    run_dir: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        require("run_dir", self.run_dir, self.run_dir != "", "a folder is needed")
        strategies = ("full", "frozen", "lora")
        require(
            "strategy",
            self.strategy,
            self.strategy in strategies,
            f"one of {', '.join(strategies)} is needed",
        )
        if self.strategy != "full":
            require("strategy", self.strategy, self.model.pretrained is not None,
                    "it keeps the backbone's weights, so model.pretrained is needed")  # fmt: skip
        good = bool(self.seeds) and len(set(self.seeds)) == len(self.seeds)
        require("seeds", self.seeds, good and all(0 <= s < 2**32 for s in self.seeds),
                "different integers from 0 to 2³² − 1 are needed")  # fmt: skip
        given = self.data.path is not None or self.data.train is not None or self.suite.experiments
        require(
            "data.path",
            self.data.path,
            bool(given),
            "a folder with train.csv, or data.train=FILE, is needed",
        )
