"""What a training run can be told: plain dataclasses, with the unit and range of every setting.

The command line fills them through Hydra (`hyenadna.cli.schema`); from Python they are built directly. Building one checks
its own values; what depends on the model or the data is checked where the run starts.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig
from hyenadna.tasks.masked_lm import Masking
from hyenadna.tasks.objectives import MaskedBases, NextBase, Objective
from hyenadna.training.checks import require as require
from hyenadna.training.synthetic_config import GridConfig, SyntheticConfig
from hyenadna.training.text_config import TextConfig


def _require_finite(name: str, value: float, low: float, high: float = math.inf) -> None:
    expected = (
        f"a number ≥ {low:g} is needed" if high == math.inf else f"{low:g} to {high:g} is needed"
    )
    require(name, value, math.isfinite(value) and low <= value <= high, expected)


@dataclass(kw_only=True)
class ModelConfig:
    """The model: the fields of `HyenaConfig`, and where to start from.

    Parameters
    ----------
    pretrained
        Folder, weights file or hub id whose weights and shape are taken; of the fields below only the two dropouts,
        `activation_checkpointing` and, where it is set with `extend_max_seq_len`, `max_seq_len` still count. None starts from random weights.
    extend_max_seq_len
        With `pretrained`: the longest input in place of the saved one; the filters are continued on their grid.
    """

    pretrained: str | None = None
    extend_max_seq_len: int | None = None
    d_model: int = 128
    n_layers: int = 2
    d_inner: int | None = None
    vocab_size: int = 12
    pad_vocab_size_multiple: int = 8
    mixers: Any = "hyena"
    max_seq_len: int = 1026
    filter_grid_len: int | None = None
    hyena_order: int = 2
    hyena_heads: int | None = None
    short_kernel_size: int = 3
    filter_dim: int = 64
    filter_layers: int = 2
    filter_emb_dim: int = 5
    filter_freq: float = 10.0
    filter_shift: float = 0.05
    filter_shortest_reach: int | None = None
    filter_learned_positions: bool = False
    attention_heads: int = 8
    rotary_base: float = 10_000.0
    conv_kernel_size: int = 7
    bidirectional: bool = False
    equivariant: bool = False
    embed_dropout: float = 0.1
    resid_dropout: float = 0.0
    layer_norm_eps: float = 1e-5
    tie_embeddings: bool = True
    initializer_range: float = 0.02
    activation_checkpointing: bool = False

    def hyena_config(self) -> HyenaConfig:
        """Return the shape of a model that starts from random weights.

        Raises
        ------
        ConfigError
            A value is out of range.
        """
        names = {f.name for f in dataclasses.fields(HyenaConfig)}
        return HyenaConfig(**{k: v for k, v in vars(self).items() if k in names})


@dataclass(kw_only=True)
class GenomeConfig:
    """One genome among several.

    Parameters
    ----------
    fasta
        FASTA (plain, gzip, bgzip), ``.2bit``, or ``bundled:scerevisiae/genome.2bit``.
    weight
        Share of training windows drawn from it, relative to the other genomes, > 0. None: its number of training bases.
    train, validation, test
        As in `DataConfig`.
    """

    fasta: str = ""
    weight: float | None = None
    train: Any = None
    validation: Any = None
    test: Any = None

    def __post_init__(self) -> None:
        require("data.genomes.*.fasta", self.fasta, bool(self.fasta),
                "each needs a file: data.genomes.0.fasta=FILE, data.genomes.1.fasta=FILE …")  # fmt: skip
        if self.weight is not None:
            require("data.genomes.*.weight", self.weight, self.weight > 0, "a number > 0 is needed")
        for name in ("train", "validation", "test"):
            setattr(self, name, region_list(f"data.{name}", getattr(self, name)))


def region_list(name: str, value: Any) -> list[str] | None:
    """Read a split setting: None, one text, or a list of texts (region strings, contig names, BED files)."""
    if value is None:
        return None
    if isinstance(value, str | int) and not isinstance(value, bool):
        return [str(value)]  # an Ensembl contig such as 20 arrives as an int
    if isinstance(value, list | tuple) and all(
        isinstance(v, str | int) and not isinstance(v, bool) for v in value
    ):
        return [str(v) for v in value]
    raise ConfigError(
        f"{name}={value!r} is impossible; a contig, a region such as chr20:1-1000, a BED file, or a list of these is needed"
    )


@dataclass(kw_only=True)
class DataConfig:
    """What to train on, and in which portions.

    Parameters
    ----------
    kind
        ``genomes``; ``text``, plain text, byte by byte, whose files `text` names; or ``synthetic``, rows of a task that `synthetic` describes. The settings
        of genomes and the two last then say nothing, nor does `validation_tokens` for a task.
    synthetic
        The task.
    text
        The files.
    fasta
        The genome: FASTA (plain, gzip, bgzip), ``.2bit`` or ``bundled:…``. Exclusive with `genomes`.
    genomes
        Several genomes with weights, in place of `fasta`.
    train, validation, test
        For `fasta`: contig names, region strings (1-based inclusive) or BED files. Left out: training is the rest, and
        without any of the three the last 5 % of each contig is test and the 5 % before it validation.
    seq_len
        Length of a window, tokens; at most the model's max_seq_len.
    global_batch_size
        Windows of `seq_len` per optimizer step, over all devices.
    micro_batch_size
        Windows per device and forward pass; None takes the device's whole share at once. Smaller needs less memory and
        changes the result only in rounding.
    validation_tokens
        Upper limit of tokens that one validation reads, spread evenly over the validation split.
    rc_probability
        Share of training windows that are reverse-complemented, 0 to 1.
    max_n_fraction
        Windows with a larger share of N are redrawn, 0 to 1.
    """

    kind: str = "genomes"
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    text: TextConfig = field(default_factory=TextConfig)
    fasta: str | None = None
    genomes: list[GenomeConfig] = field(default_factory=list)
    train: Any = None
    validation: Any = None
    test: Any = None
    seq_len: int = 1024
    global_batch_size: int = 16
    micro_batch_size: int | None = None
    validation_tokens: int = 131_072
    rc_probability: float = 0.5
    max_n_fraction: float = 0.5

    def __post_init__(self) -> None:
        require("data.kind", self.kind, self.kind in ("genomes", "text", "synthetic"), "one of genomes, text, synthetic is needed")  # fmt: skip
        for name in ("train", "validation", "test"):
            setattr(self, name, region_list(f"data.{name}", getattr(self, name)))
        require("data.seq_len", self.seq_len, self.seq_len >= 2, "at least 2 tokens are needed")
        for name in ("global_batch_size", "validation_tokens"):
            require(
                f"data.{name}",
                getattr(self, name),
                getattr(self, name) >= 1,
                "at least 1 is needed",
            )
        if self.micro_batch_size is not None:
            require("data.micro_batch_size", self.micro_batch_size, self.micro_batch_size >= 1,
                    "at least 1 is needed")  # fmt: skip
        for name in ("rc_probability", "max_n_fraction"):
            _require_finite(f"data.{name}", getattr(self, name), 0, 1)

    def sources(self) -> list[GenomeConfig]:
        """Return the genomes, one or several, in one form.

        Raises
        ------
        ConfigError
            Neither or both of `fasta` and `genomes` are given, or splits are given beside `genomes`.
        """
        if self.genomes:
            if self.fasta:
                raise ConfigError(
                    f"data.fasta={self.fasta} and data.genomes are both given; with several genomes set data.genomes.0.fasta=FILE …"
                )
            if self.train or self.validation or self.test:
                raise ConfigError(
                    "data.train, data.validation and data.test belong to data.fasta; with data.genomes each genome has its own"
                )
            return list(self.genomes)
        if not self.fasta:
            raise ConfigError("no genome is given; set data.fasta=FILE or data.genomes")
        return [
            GenomeConfig(
                fasta=self.fasta, train=self.train, validation=self.validation, test=self.test
            )
        ]


@dataclass(kw_only=True)
class TaskConfig:
    """What is predicted: the next base, or hidden ones; PAD and N never are.

    Parameters
    ----------
    name
        ``causal_lm``: the next base, of all but the first of a window, by a causal model. ``masked_lm``: hidden bases from both sides, by a model with
        ``model.bidirectional=true``; the settings below the next one are for it alone.
    soft_mask_weight
        Weight of soft-masked (lower-case, repeat) bases in the training loss, 0 to 1; validation counts every base as 1.
    mask_fraction
        Share of the bases that are hidden, between 0 and 1.
    mean_span
        Mean length of a hidden span, bases, ≥ 1; lengths are geometric. 1 hides each base independently.
    mask_share, random_share
        Of the hidden bases, those that are read as [MASK] and as a random base; the rest is read as it is. Each 0 to 1, together at most 1.
    """

    name: str = "causal_lm"
    soft_mask_weight: float = 1.0
    mask_fraction: float = 0.15
    mean_span: float = 1.0
    mask_share: float = 0.8
    random_share: float = 0.1

    def __post_init__(self) -> None:
        names = ("causal_lm", "masked_lm")
        require("task.name", self.name, self.name in names, f"one of {', '.join(names)} is needed")
        _require_finite("task.soft_mask_weight", self.soft_mask_weight, 0, 1)
        require("task.mask_fraction", self.mask_fraction, 0 < self.mask_fraction < 1,
                "a share between 0 and 1 is needed")  # fmt: skip
        _require_finite("task.mean_span", self.mean_span, 1)
        for name in ("mask_share", "random_share"):
            _require_finite(f"task.{name}", getattr(self, name), 0, 1)
        require("task.random_share", self.random_share, self.mask_share + self.random_share <= 1 + 1e-9,
                f"with task.mask_share={self.mask_share} it is more than all hidden bases")  # fmt: skip
        changed = [f for f in dataclasses.fields(Masking) if getattr(self, f.name) != f.default]
        if self.name == "causal_lm" and changed:
            raise ConfigError(
                f"task.{changed[0].name}={getattr(self, changed[0].name)!r} is for task=masked_lm, where bases are hidden; choose that, or leave it out"
            )

    def objective(self, seed: int) -> Objective:
        """Return the objective of a run with a seed."""
        if self.name == "causal_lm":
            return NextBase(self.soft_mask_weight)
        names = [f.name for f in dataclasses.fields(Masking)]
        masking = Masking(**{name: getattr(self, name) for name in names})
        return MaskedBases(masking, seed, self.soft_mask_weight)


@dataclass(kw_only=True)
class OptimizerConfig:
    """AdamW, or Muon for the blocks' linear layers and AdamW for the rest.

    Parameters
    ----------
    name
        ``adamw`` or ``muon``.
    lr
        Peak learning rate, > 0.
    filter_lr
        Peak learning rate of the implicit filters; None means `lr`.
    weight_decay
        Of weight matrices, ≥ 0. Biases and norms have none.
    filter_weight_decay
        Of the implicit filters, ≥ 0; HyenaDNA trains them with 0.
    betas
        Two decay rates of the moments, each in [0, 1).
    eps
        Added to the denominator, > 0.
    """

    name: str = "adamw"
    lr: float = 6e-4
    filter_lr: float | None = None
    weight_decay: float = 0.1
    filter_weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    eps: float = 1e-8

    def __post_init__(self) -> None:
        require("optimizer.name", self.name, self.name in ("adamw", "muon"),
                "one of adamw, muon is needed")  # fmt: skip
        for name in ("lr", "filter_lr", "eps"):
            value = getattr(self, name)
            if value is not None:
                require(f"optimizer.{name}", value, 0 < value < math.inf, "a number > 0 is needed")
        for name in ("weight_decay", "filter_weight_decay"):
            _require_finite(f"optimizer.{name}", getattr(self, name), 0)
        good = len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas)
        require("optimizer.betas", self.betas, good, "two numbers in [0, 1) are needed")


@dataclass(kw_only=True)
class ScheduleConfig:
    """The learning rate over the run: linear warm-up, then a decay.

    Parameters
    ----------
    name
        ``cosine``, ``linear`` or ``constant``: what follows the warm-up.
    warmup_fraction
        Share of all steps that warm up, 0 to 1; at least one step where it is above 0.
    warmup_steps
        The same as a number of steps; None uses the fraction.
    final_lr_fraction
        Last learning rate over the peak, 0 to 1.
    """

    name: str = "cosine"
    warmup_fraction: float = 0.01
    warmup_steps: int | None = None
    final_lr_fraction: float = 0.1

    def __post_init__(self) -> None:
        names = ("cosine", "linear", "constant")
        require(
            "schedule.name", self.name, self.name in names, f"one of {', '.join(names)} is needed"
        )
        _require_finite("schedule.warmup_fraction", self.warmup_fraction, 0, 1)
        _require_finite("schedule.final_lr_fraction", self.final_lr_fraction, 0, 1)
        if self.warmup_steps is not None:
            require("schedule.warmup_steps", self.warmup_steps, self.warmup_steps >= 0,
                    "at least 0 is needed")  # fmt: skip


@dataclass(kw_only=True)
class LengthWarmupConfig:
    """Short windows first: the length doubles from `start` to data.seq_len while tokens per step stay the same.

    Parameters
    ----------
    start
        First length, tokens; data.seq_len divided by a power of two. None turns the warm-up off.
    fraction
        Share of all steps spent below the full length, evenly over the lengths, 0 to 1.
    """

    start: int | None = None
    fraction: float = 0.5

    def __post_init__(self) -> None:
        if self.start is not None:
            require("length_warmup.start", self.start, self.start >= 2, "at least 2 is needed")
        _require_finite("length_warmup.fraction", self.fraction, 0, 1)


@dataclass(kw_only=True)
class TrainerConfig:
    """Hardware and numerics, the same for every kind of training.

    Parameters
    ----------
    accelerator
        ``auto``, ``cpu``, ``gpu`` or ``mps``.
    devices
        Number of devices per node; 0 means all there are (one process on CPU).
    num_nodes
        Number of machines.
    strategy
        Lightning's: ``auto``, ``ddp``, ``fsdp`` …
    precision
        ``auto`` (bf16-mixed where the GPU supports it, else 32-true), ``32-true``, ``bf16-mixed``, ``bf16-true``,
        ``16-mixed`` or ``64-true``.
    gradient_clip_norm
        Largest norm of the gradient, > 0; None does not clip.
    cuda_graphs
        Pretraining on one GPU: record a step's kernels once and replay them, so that small models do not wait for Python.
    num_workers
        Processes that prepare batches beside the training process, ≥ 0.
    log_every
        Steps between two rows of metrics.csv, ≥ 1.
    progress
        Show progress on standard error.
    """

    accelerator: str = "auto"
    devices: int = 0
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    gradient_clip_norm: float | None = 1.0
    cuda_graphs: bool = True
    num_workers: int = 0
    log_every: int = 1
    progress: bool = True

    def __post_init__(self) -> None:
        accelerators = ("auto", "cpu", "gpu", "cuda", "mps")
        require("trainer.accelerator", self.accelerator, self.accelerator in accelerators,
                f"one of {', '.join(accelerators)} is needed")  # fmt: skip
        precisions = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed", "64-true")
        require("trainer.precision", self.precision, self.precision in precisions,
                f"one of {', '.join(precisions)} is needed")  # fmt: skip
        for name, low in (("devices", 0), ("num_nodes", 1), ("num_workers", 0), ("log_every", 1)):
            require(f"trainer.{name}", getattr(self, name), getattr(self, name) >= low,
                    f"at least {low} is needed")  # fmt: skip
        if self.gradient_clip_norm is not None:
            require("trainer.gradient_clip_norm", self.gradient_clip_norm,
                    0 < self.gradient_clip_norm < math.inf, "a number > 0 is needed")  # fmt: skip


@dataclass(kw_only=True)
class PretrainTrainerConfig(TrainerConfig):
    """`TrainerConfig`, and the length of a pretraining run.

    Parameters
    ----------
    max_steps
        Optimizer steps, ≥ 1.
    validate_every
        Steps between validations; None takes a tenth of the run. The last step always validates.
    checkpoint_every
        Steps between writes of last.ckpt; None takes a twentieth of the run. The last step always saves.
    max_hours
        Stop gracefully after so many hours, > 0; None does not.
    """

    max_steps: int = 1000
    validate_every: int | None = None
    checkpoint_every: int | None = None
    max_hours: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_steps", "validate_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None:
                require(f"trainer.{name}", value, value >= 1, "at least 1 is needed")
        if self.max_hours is not None:
            require(
                "trainer.max_hours", self.max_hours, self.max_hours > 0, "a number > 0 is needed"
            )


@dataclass(kw_only=True)
class CallbacksConfig:
    """What runs beside the training loop.

    Parameters
    ----------
    ema_decay
        Keep an exponential moving average of the weights with this decay, in (0, 1); it is validated and saved as the
        model. None keeps none.
    """

    ema_decay: float | None = None

    def __post_init__(self) -> None:
        if self.ema_decay is not None:
            require("callbacks.ema_decay", self.ema_decay, 0 < self.ema_decay < 1,
                    "a number between 0 and 1 is needed")  # fmt: skip


@dataclass(kw_only=True)
class LoggerConfig:
    """Where metrics go beside metrics.csv, which is always written.

    Parameters
    ----------
    name
        ``csv`` (nothing else), ``tensorboard`` or ``wandb``; the last two need their extra.
    project
        W&B's project.
    """

    name: str = "csv"
    project: str = "hyenadna"

    def __post_init__(self) -> None:
        names = ("csv", "tensorboard", "wandb")
        require(
            "logger.name", self.name, self.name in names, f"one of {', '.join(names)} is needed"
        )


@dataclass(kw_only=True)
class PretrainConfig:
    """Everything that a pretraining run depends on.

    Parameters
    ----------
    grid
        With rows: not one run but many.
    seed
        Of the initial weights, the windows and the dropout, ≥ 0.
    run_dir
        Folder of the results; None makes ``runs/pretrain/<time>``.
    resume
        Folder of an unfinished run to continue; its saved settings count, with those given explicitly on top.
    force
        Write into `run_dir` although it is not empty, replacing a run's files.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    length_warmup: LengthWarmupConfig = field(default_factory=LengthWarmupConfig)
    trainer: PretrainTrainerConfig = field(default_factory=PretrainTrainerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    grid: GridConfig = field(default_factory=GridConfig)
    seed: int = 42
    run_dir: str | None = None
    resume: str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        require("seed", self.seed, 0 <= self.seed < 2**32, "an integer from 0 to 2³² − 1 is needed")
        for name in ("run_dir", "resume"):
            require(name, getattr(self, name), getattr(self, name) != "", "a folder is needed")


def to_plain(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested dicts and lists of plain values, ready for YAML or JSON."""
    return dataclasses.asdict(config)
