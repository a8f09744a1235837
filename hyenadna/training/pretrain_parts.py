"""What a kind of data brings into a pretraining run: the model with its vocabulary, the objective, the batches, and how they are reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaAutoencoder, HyenaForCausalLM, HyenaForMaskedLM, HyenaModel
from hyenadna.models.checkpoint import read_model_folder
from hyenadna.tokenizers import ByteTokenizer, CharacterTokenizer, SymbolTokenizer, Vocabulary
from hyenadna.training.config import ModelConfig, PretrainConfig
from hyenadna.training.metrics_log import (
    PRETRAIN_COLUMNS,
    plot_accuracy,
    plot_bits_per_byte,
    plot_loss,
)
from hyenadna.training.pretrain_data import PretrainData, open_genomes
from hyenadna.training.pretrain_module import PretrainModule
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.synthetic_data import SyntheticData, task_of
from hyenadna.training.synthetic_module import SYNTHETIC_COLUMNS, SyntheticModule
from hyenadna.training.text_data import TextData, open_texts
from hyenadna.training.text_module import TEXT_COLUMNS, TextModule

__all__ = ["PretrainParts", "build_language_model", "build_parts", "with_vocabulary"]


class PretrainParts(NamedTuple):
    """What a kind of data brings into a run."""

    module: PretrainModule
    data: LightningDataModule
    vocabulary: Vocabulary
    description: list[dict[str, Any]]
    columns: Sequence[str] = PRETRAIN_COLUMNS
    plot: Callable[..., None] = plot_loss
    has_test: bool = False
    """Whether the run ends with its test split, which genomes leave to ``hyenadna evaluate``."""


def build_parts(
    config: PretrainConfig,
    plan: LengthPlan,
    *,
    start_step: int,
    packing_progress: Callable[[int], None] | None = None,
) -> PretrainParts:
    """Return the model, objective and data of a run, by ``data.kind``.

    Parameters
    ----------
    config
        The settings.
    plan
        Which windows each step reads.
    start_step
        First step to train.
    packing_progress
        As in `hyenadna.training.pretrain.pretrain`.

    Raises
    ------
    HyenaDNAError
        A setting, a file or the data cannot be used.
    """
    if config.data.kind == "synthetic":
        return _synthetic_parts(config, plan, start_step)
    if config.data.kind == "text":
        return _text_parts(config, plan, start_step)
    return _genome_parts(config, plan, start_step, packing_progress)


def _genome_parts(
    config: PretrainConfig,
    plan: LengthPlan,
    start_step: int,
    packing_progress: Callable[[int], None] | None,
) -> PretrainParts:
    tokenizer = CharacterTokenizer()
    model = build_language_model(
        config.model, seed=config.seed, task=config.task.name, load=not config.resume
    )
    if model.config.vocab_size < tokenizer.vocab_size:
        raise ConfigError(
            f"model.vocab_size={model.config.vocab_size} is too small: nucleotides have {tokenizer.vocab_size} token ids"
        )
    _check_length(config, model)
    genomes = open_genomes(config.data, progress=packing_progress)
    module = PretrainModule(model, config, plan)
    data = PretrainData(
        genomes, config.data, plan, tokenizer=tokenizer, seed=config.seed, start_step=start_step,
        max_steps=config.trainer.max_steps, num_workers=config.trainer.num_workers,
        soft_mask=config.task.soft_mask_weight != 1.0, tile_overlap=module.objective.tile_overlap,
    )  # fmt: skip
    described = [genome.describe() for genome in genomes]
    return PretrainParts(module, data, tokenizer, described)


def _synthetic_parts(config: PretrainConfig, plan: LengthPlan, start_step: int) -> PretrainParts:
    if config.task.name != "causal_lm" or config.model.bidirectional:
        raise ConfigError(
            "data.kind=synthetic asks a causal model by an objective of its own; leave task and model.bidirectional out"
        )
    task = task_of(config.data)
    model: HyenaModel
    if task.compresses:
        model = _build_autoencoder(config.model, seed=config.seed)
    else:
        model = build_language_model(config.model, seed=config.seed, load=not config.resume)
    if model.config.vocab_size < task.vocab_size:
        raise ConfigError(
            f"model.pretrained={config.model.pretrained} has {model.config.vocab_size} token ids, but the task {task.vocab_size}"
        )
    _check_length(config, model)
    data = SyntheticData(
        task, config.data.synthetic, plan, start_step=start_step, max_steps=config.trainer.max_steps,
        micro_batch_size=config.data.micro_batch_size, num_workers=config.trainer.num_workers,
    )  # fmt: skip
    module = SyntheticModule(model, config, plan, task)
    return PretrainParts(
        module, data, SymbolTokenizer(task.vocab_size), [data.describe()], SYNTHETIC_COLUMNS, plot_accuracy, has_test=True
    )  # fmt: skip


def _text_parts(config: PretrainConfig, plan: LengthPlan, start_step: int) -> PretrainParts:
    if config.task.name != "causal_lm" or config.task.soft_mask_weight != 1.0:
        raise ConfigError(
            "data.kind=text predicts the next byte; leave task=masked_lm and task.soft_mask_weight out"
        )
    tokenizer = ByteTokenizer()
    model = build_language_model(config.model, seed=config.seed, load=not config.resume)
    if model.config.vocab_size != tokenizer.vocab_size:
        raise ConfigError(
            f"model.pretrained={config.model.pretrained} has {model.config.vocab_size} token ids, but bytes {tokenizer.vocab_size}; take a model of text"
        )
    _check_length(config, model)
    data = TextData(
        open_texts(config.data.text), config.data, plan, seed=config.seed, start_step=start_step,
        max_steps=config.trainer.max_steps, num_workers=config.trainer.num_workers,
    )  # fmt: skip
    module = TextModule(model, config, plan, data.bytes_per_word)
    return PretrainParts(
        module, data, tokenizer, data.describe(), TEXT_COLUMNS, plot_bits_per_byte, has_test=True
    )


def _check_length(config: PretrainConfig, model: HyenaModel) -> None:
    if config.data.seq_len > model.config.max_seq_len:
        raise ConfigError(
            f"data.seq_len={config.data.seq_len} exceeds the model's max_seq_len of {model.config.max_seq_len}; choose "
            "shorter windows, a longer model (such as model=small_32k), or set model.max_seq_len"
        )


def with_vocabulary(config: PretrainConfig) -> ModelConfig:
    """Return the model's settings with the vocabulary that the data need: text and synthetic data bring their own."""
    if config.data.kind == "text":
        return dataclasses.replace(config.model, vocab_size=ByteTokenizer().vocab_size)
    if config.data.kind != "synthetic":
        return config.model
    return dataclasses.replace(config.model, vocab_size=task_of(config.data).vocab_size)


def build_language_model(
    config: ModelConfig, *, seed: int, task: str = "causal_lm", load: bool = True
) -> HyenaForCausalLM | HyenaForMaskedLM:
    """Return the model of a run: random weights, or pretrained ones.

    Parameters
    ----------
    config
        Shape, and where to start from.
    seed
        Of random weights; the global generator is left as it was.
    task
        ``causal_lm`` or ``masked_lm``, which a causal or a bidirectional model is for.
    load
        Read `config.pretrained`; off where a checkpoint is going to replace the weights anyway.

    Raises
    ------
    ConfigError, CheckpointError
        The shape is impossible or not for this task, or the pretrained model cannot be read.
    """
    kind = HyenaForMaskedLM if task == "masked_lm" else HyenaForCausalLM
    if config.pretrained and load:
        found = read_model_folder(config.pretrained, max_seq_len=config.extend_max_seq_len)
        _require_suited(found.config.bidirectional, task, f"model.pretrained={config.pretrained}")
        loaded = kind.of_folder(found)
        shape = dataclasses.replace(
            loaded.config,
            embed_dropout=config.embed_dropout,
            resid_dropout=config.resid_dropout,
            activation_checkpointing=config.activation_checkpointing,
        )
        model = kind(shape)
        model.load_state_dict(loaded.state_dict())
        return model.train()
    if config.extend_max_seq_len is not None and not config.pretrained:
        raise ConfigError(
            "model.extend_max_seq_len needs model.pretrained; set model.max_seq_len instead"
        )
    _require_suited(config.bidirectional, task, "the model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(config.hyena_config()).train()


def _require_suited(bidirectional: bool, task: str, what: str) -> None:
    if bidirectional and task == "causal_lm":
        raise ConfigError(
            f"{what} is bidirectional and would see the base that task=causal_lm asks for; set task=masked_lm, or take a causal model"
        )
    if not bidirectional and task == "masked_lm":
        raise ConfigError(
            f"{what} is causal, and task=masked_lm is for models that see both sides; set model.bidirectional=true (from random weights or a masked "
            "language model's), or task=causal_lm"
        )


def _build_autoencoder(config: ModelConfig, *, seed: int) -> HyenaAutoencoder:
    """Return a model with random weights for a task that compresses; the global generator is left as it was.

    Raises
    ------
    ConfigError
        The shape is impossible, or pretrained weights are asked for.
    """
    if config.pretrained:
        raise ConfigError(
            f"model.pretrained={config.pretrained} is impossible: the autoencoder of a compression task starts from random weights"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HyenaAutoencoder(config.hyena_config()).train()
