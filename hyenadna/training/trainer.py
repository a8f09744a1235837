"""From settings to a Lightning Trainer: hardware, precision, loggers, and quiet."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import FSDPStrategy

from hyenadna.errors import BackendUnavailableError, ConfigError
from hyenadna.training.config import LoggerConfig, TrainerConfig


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return Lightning's precision: ``auto`` is bf16-mixed on a GPU that computes it, else 32-true."""
    if precision != "auto":
        return precision
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return (
        "bf16-mixed"
        if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        else "32-true"
    )


def resolve_devices(config: TrainerConfig) -> int:
    """Return the number of devices of this machine that the run uses.

    Raises
    ------
    ConfigError
        More GPUs are asked for than there are.
    """
    on_gpu = config.accelerator in ("gpu", "cuda") or (
        config.accelerator == "auto" and torch.cuda.is_available()
    )
    there = torch.cuda.device_count() if on_gpu else 1
    if on_gpu and max(config.devices, 1) > there:
        raise ConfigError(
            f"trainer.accelerator={config.accelerator} with trainer.devices={config.devices} needs more GPUs than "
            f"the {there} that torch sees here; use trainer.accelerator=cpu or fewer devices"
        )
    return config.devices or there


def require_logger(config: LoggerConfig) -> None:
    """Check that the package of the logger that was asked for is installed.

    Raises
    ------
    BackendUnavailableError
        It is not.
    """
    if config.name != "csv" and importlib.util.find_spec(config.name) is None:
        raise BackendUnavailableError(
            f"logger={config.name} needs the package {config.name}, which is not installed; "
            f"run pip install 'hyenadna[{config.name}]'"
        )


def build_loggers(config: LoggerConfig, first: Logger, root: Path) -> list[Logger]:
    """Return the loggers of a run: ours, and the one that was asked for.

    Parameters
    ----------
    config
        Which one; see `require_logger`.
    first
        The logger of metrics.csv.
    root
        Run folder; the other logger's files go there.
    """
    if config.name == "tensorboard":
        return [first, TensorBoardLogger(root, name="tensorboard", version="")]
    if config.name == "wandb":
        return [first, WandbLogger(name=root.name, save_dir=root, project=config.project)]
    return [first]


def build_trainer(
    config: TrainerConfig,
    *,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    **settings: Any,
) -> Trainer:
    """Return a Lightning Trainer for the hardware of a config.

    Parameters
    ----------
    config
        Hardware and precision.
    loggers, callbacks
        Used as they are; Lightning's own progress bar, checkpointing and summaries are off.
    settings
        More arguments of `lightning.pytorch.Trainer`, such as max_steps or limits of validation.

    Raises
    ------
    ConfigError
        Lightning refuses the combination, or a device is missing.
    """
    options: dict[str, Any] = {
        "accelerator": config.accelerator,
        "devices": resolve_devices(config),
        "num_nodes": config.num_nodes,
        "strategy": config.strategy,
        "precision": resolve_precision(config.precision, config.accelerator),
        "logger": list(loggers),
        "callbacks": list(callbacks),
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        **settings,
    }
    try:
        return Trainer(**options)
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(
            f"the trainer cannot be set up with accelerator={config.accelerator}, devices={config.devices}, "
            f"strategy={config.strategy}, precision={config.precision}: {str(error).strip().splitlines()[0]}"
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's announcements and advice off the user's screen; its warnings of real trouble stay."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning")
    former = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*`isinstance\\(treespec, LeafSpec\\)`.*",
                ".*GPU available but not used.*",
                ".*not yet supported.*`training_step`.*",
                ".*sync_dist=True.*",
                ".*Starting from v1.9.0.*",
                ".*Found .* module.* in eval mode.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for name, level in former.items():
            logging.getLogger(name).setLevel(level)


def clip_gradients(module: LightningModule, optimizer: Any, norm: float | None) -> None:
    """Scale gradients in place so that their norm is at most `norm`, in a module that optimizes manually; None leaves them.

    Parameters
    ----------
    module
        In training.
    optimizer
        As `LightningModule.optimizers` returns it.
    """
    if norm is None:
        return
    if isinstance(module.trainer.strategy, FSDPStrategy):  # which knows where the shards are
        module.clip_gradients(optimizer, gradient_clip_val=norm, gradient_clip_algorithm="norm")
        return
    # Lightning's own clipping refuses fused optimizers.
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    if (
        scaler is not None
    ):  # of 16-mixed: gradients are those of a loss that is some thousand times larger
        scaler.unscale_(optimizer.optimizer)
    torch.nn.utils.clip_grad_norm_(module.parameters(), norm)
