"""Pretraining, from settings to a run folder: `pretrain` is what ``hyenadna pretrain`` calls.

Everything that can be wrong with settings and data is found before the run folder is created.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging

from hyenadna.errors import CheckpointError, ConfigError
from hyenadna.models import HyenaModel
from hyenadna.training.callbacks import AfterValidation, ProgressReporter, SaveLast, StopInOrder
from hyenadna.training.config import PretrainConfig, to_plain
from hyenadna.training.metrics_log import MetricsLog, read_metrics, truncate_metrics
from hyenadna.training.pretrain_data import absolute_sources
from hyenadna.training.pretrain_module import PretrainModule
from hyenadna.training.pretrain_parts import PretrainParts, build_parts, with_vocabulary
from hyenadna.training.run_folder import (
    RunFolder,
    create_run_folder,
    environment,
    is_first_process,
    open_run_folder,
    plan_run_folder,
)
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.text_data import absolute_texts
from hyenadna.training.trainer import (
    build_loggers,
    build_trainer,
    quiet_lightning,
    require_logger,
    resolve_devices,
)


class PretrainResult(NamedTuple):
    """What a run leaves.

    Parameters
    ----------
    run
        Its folder.
    report
        The content of report.json.
    stopped
        Why the run ended before its last step; None where it did not.
    """

    run: RunFolder
    report: dict[str, Any]
    stopped: str | None


def pretrain(
    config: PretrainConfig, *, packing_progress: Callable[[int], None] | None = None
) -> PretrainResult:
    """Train a language model, causal or masked, and write its run folder.

    Parameters
    ----------
    config
        The settings. With `resume` they are the saved ones of that run (`hyenadna.cli` merges explicit overrides).
    packing_progress
        Called with the number of bytes of a FASTA file read, while it is packed into the cache.

    Returns
    -------
    PretrainResult
        Only the first process of a distributed run writes; all return.

    Raises
    ------
    HyenaDNAError
        A setting, a file or the data cannot be used.
    """
    with quiet_lightning():
        return _pretrain(copy.deepcopy(config), packing_progress)


def _pretrain(
    config: PretrainConfig, packing_progress: Callable[[int], None] | None
) -> PretrainResult:
    absolute_sources(config.data)
    absolute_texts(config.data.text)
    config.model = with_vocabulary(config)
    plan = LengthPlan(
        config.data.seq_len,
        config.data.global_batch_size,
        config.trainer.max_steps,
        config.length_warmup,
    )
    _check_batches(config)
    if config.resume:
        run, start_step = _resume(config)
    else:
        run, start_step = plan_run_folder("pretrain", config.run_dir, force=config.force), 0
    require_logger(config.logger)
    build_trainer(config.trainer, loggers=(), callbacks=())  # refuses impossible hardware
    parts = build_parts(config, plan, start_step=start_step, packing_progress=packing_progress)
    model, data, module = parts.module.model, parts.data, parts.module
    if is_first_process() and not config.resume:
        run = create_run_folder(run, named=config.run_dir is not None, force=config.force)
    loggers = build_loggers(config.logger, MetricsLog(run.metrics, parts.columns), run.root)
    if is_first_process():
        run.write_config(_saved_settings(config, model))
        truncate_metrics(run.metrics, start_step)
    stop = StopInOrder(config.trainer.max_hours * 3600 if config.trainer.max_hours else None)
    trainer = build_trainer(
        config.trainer,
        loggers=loggers,
        callbacks=_callbacks(config, run, stop, parts),
        max_steps=config.trainer.max_steps,
        max_epochs=-1,
        val_check_interval=_validate_every(config),
        check_val_every_n_epoch=None,
        default_root_dir=run.root,
    )
    started = time.time()
    trainer.fit(
        module, datamodule=data,
        ckpt_path=str(run.checkpoint) if config.resume else None, weights_only=True,
    )  # fmt: skip
    if stop.reason is None and module.last_validation.get("step") != config.trainer.max_steps:
        # The weights are the averaged ones by now where an average is kept, as in the validations before.
        trainer.validate(module, datamodule=data, verbose=False)
    if stop.reason is None and parts.has_test:
        trainer.test(module, datamodule=data, verbose=False)
    report: dict[str, Any] = {}
    if trainer.is_global_zero:
        model.save_pretrained(run.model, parts.vocabulary)
        _plot(run, parts)
        report = _report(config, module, parts.description, stop.reason, started)
        run.write_report(report)
    trainer.strategy.barrier("pretrain is done")
    return PretrainResult(run, report, stop.reason)


def _check_batches(config: PretrainConfig) -> None:
    world_size = resolve_devices(config.trainer) * config.trainer.num_nodes
    if config.data.global_batch_size % world_size:
        raise ConfigError(
            f"data.global_batch_size={config.data.global_batch_size} cannot be shared equally by {world_size} devices; "
            f"choose a multiple of {world_size}"
        )


def _resume(config: PretrainConfig) -> tuple[RunFolder, int]:
    run = open_run_folder(str(config.resume))
    try:
        saved = torch.load(run.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        step = int(saved["global_step"])
        has_average = "averaging_state" in saved
    except Exception as error:
        raise CheckpointError(
            f"{run.checkpoint} is no checkpoint of a pretraining run ({type(error).__name__}); start the run anew"
        ) from error
    if step >= config.trainer.max_steps:
        raise ConfigError(
            f"the run {config.resume} has done its {step} steps already; continue it with a larger trainer.max_steps"
        )
    if has_average != (config.callbacks.ema_decay is not None):
        raise ConfigError(
            f"the run {config.resume} {'keeps' if has_average else 'has kept no'} average of its weights; "
            "callbacks.ema_decay cannot be switched on or off when it is resumed"
        )
    return run, step


def _saved_settings(config: PretrainConfig, model: HyenaModel) -> dict[str, Any]:
    """Return the settings as config.yaml keeps them: with the shape that the model really has, without this call's words."""
    plain = to_plain(config)
    plain["model"].update(model.config.to_dict(), extend_max_seq_len=None)
    plain.update(resume=None, force=False)
    return plain


def _validate_every(config: PretrainConfig) -> int:
    return config.trainer.validate_every or max(1, config.trainer.max_steps // 10)


def _callbacks(
    config: PretrainConfig, run: RunFolder, stop: StopInOrder, parts: PretrainParts
) -> list[Callback]:
    every = config.trainer.checkpoint_every or max(1, config.trainer.max_steps // 20)
    callbacks: list[Callback] = []
    if config.callbacks.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=config.callbacks.ema_decay))
    callbacks.append(stop)  # before saving, which looks at what it has decided
    callbacks.append(
        SaveLast(
            run.checkpoint,
            every=every,
            max_steps=config.trainer.max_steps,
            validate_every=_validate_every(config),
        )
    )
    if config.trainer.progress:
        callbacks.append(ProgressReporter(parts.module.shown, config.trainer.max_steps))
    callbacks.append(AfterValidation(lambda: _plot(run, parts)))
    return callbacks


def _plot(run: RunFolder, parts: PretrainParts) -> None:
    parts.plot(read_metrics(run.metrics), run.plot, title=run.root.name, unit=parts.module.unit)


def _report(
    config: PretrainConfig,
    module: PretrainModule,
    data: list[dict[str, Any]],
    stopped: str | None,
    started: float,
) -> dict[str, Any]:
    model = module.model
    seconds = max(module.train_seconds, 1e-9)
    return {
        "status": "finished" if stopped is None else f"stopped by {stopped}",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "steps": module.trainer.global_step
        if module.trainer.global_step
        else module.last_validation.get("step"),
        "tokens_per_step": module.plan.tokens_per_step,
        "unit": module.unit,
        "validation": module.last_validation,
        **({"test": module.last_test} if module.last_test else {}),
        "throughput": {
            "first_step_seconds": round(module.first_step_seconds or 0.0, 3),
            "tokens": module.train_tokens,
            "seconds": round(module.train_seconds, 3),
            "tokens_per_s": round(module.train_tokens / seconds, 1),
        },
        "n_parameters": model.n_parameters(),
        "data": data,
        **environment(),
        "config": _saved_settings(config, model),
    }
