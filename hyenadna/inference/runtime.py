"""With what a sequence is scored: the device, the model with its tokenizer, and a checksum that names the weights."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from hyenadna.errors import BackendUnavailableError, CheckpointError, ConfigError
from hyenadna.models import (
    Classifier,
    ClassifierEnsemble,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaModel,
    load_model,
)
from hyenadna.models.checkpoint import read_model_folder
from hyenadna.resources import resolve
from hyenadna.tasks.classification import STRANDS
from hyenadna.tokenizers import CharacterTokenizer, load_tokenizer


class LanguageModel(NamedTuple):
    """A language model and the tokenizer that lies beside it."""

    model: HyenaForCausalLM
    tokenizer: CharacterTokenizer


class FinetunedClassifier(NamedTuple):
    """A classifier, the tokenizer that lies beside it, and how it is to be read.

    Parameters
    ----------
    model
        The classifier.
    tokenizer
        Its tokenizer.
    rc
        Whether it was chosen with the answers of both strands averaged (``task.strands`` of its fine-tuning), and so is to be read with them;
        False where its folder does not say.
    """

    model: Classifier
    tokenizer: CharacterTokenizer
    rc: bool


def load_language_model(
    source: str | Path, *, device: torch.device | None = None, max_seq_len: int | None = None
) -> LanguageModel:
    """Load a language model with its tokenizer.

    Parameters
    ----------
    source
        Model folder, run folder, weights file, hub id or ``bundled:NAME``, as for `HyenaForCausalLM.from_pretrained`.
    device
        Where the model goes, None for the CPU.
    max_seq_len
        Replaces the longest input; see `HyenaForCausalLM.from_pretrained`.

    Raises
    ------
    CheckpointError
        There is no such model, it is damaged, a classifier, bidirectional, or one of text rather than of nucleotides.
    """
    model = HyenaForCausalLM.from_pretrained(source, max_seq_len=max_seq_len)
    return LanguageModel(model.to(device or "cpu"), _tokenizer_of(source, model.config))


def load_either_language_model(
    source: str | Path, *, device: torch.device | None = None
) -> tuple[HyenaForCausalLM | HyenaForMaskedLM, CharacterTokenizer]:
    """Load a causal or a masked language model with its tokenizer.

    Parameters and errors are those of `load_language_model`, but that the model may be bidirectional.
    """
    found = read_model_folder(source)
    kind = HyenaForMaskedLM if found.config.bidirectional else HyenaForCausalLM
    model = kind.of_folder(found)
    return model.to(device or "cpu"), _tokenizer_of(source, model.config)


def load_encoder(
    source: str | Path, *, device: torch.device | None = None
) -> tuple[HyenaModel, CharacterTokenizer]:
    """Load a language model or a classifier, whose backbone embeds sequences, with its tokenizer.

    Parameters and errors are those of `load_language_model`, but that every model will do, if it is a single one.
    """
    model = load_model(source)
    if isinstance(model, ClassifierEnsemble):
        raise CheckpointError(
            f"{source} holds an ensemble of {len(model.members)} classifiers, each with vectors of its own; give the model that they were trained from"
        )
    return model.to(device or "cpu"), _tokenizer_of(source, model.config)


def load_classifier(
    source: str | Path, *, device: torch.device | None = None
) -> FinetunedClassifier:
    """Load a classifier with its tokenizer and the strands that it was chosen with.

    Parameters
    ----------
    source
        Run folder of ``hyenadna finetune``, model folder, weights file or hub id.
    device
        Where the model goes, None for the CPU.

    Raises
    ------
    CheckpointError
        There is no such model, it is damaged, a language model, or one of text rather than of nucleotides; or its finetuning.json is not readable.
    """
    model = load_model(source)
    if not isinstance(model, Classifier):
        raise CheckpointError(
            f"{source} holds a language model, which knows no classes; make a classifier of it with 'hyenadna finetune data.path=FOLDER "
            f"model.pretrained={source}', or take 'hyenadna embed'"
        )
    rc = _strands_of(source) != "forward"
    return FinetunedClassifier(model.to(device or "cpu"), _tokenizer_of(source, model.config), rc)


def _strands_of(source: str | Path) -> str:
    """Return the strands that fine-tuning has written beside its model; forward where there is no such file."""
    path = tokenizer_folder(source) / "finetuning.json"
    try:
        strands = json.loads(path.read_text(encoding="utf-8"))["strands"]
    except FileNotFoundError:
        return "forward"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not say which strands the classifier reads ({type(error).__name__}: {error}); copy it again from the run, or remove it "
            "and give --rc or --no-rc"
        ) from error
    if strands not in STRANDS:
        raise CheckpointError(
            f"{path} names the strands {strands!r}; expected one of {', '.join(STRANDS)}"
        )
    return str(strands)


def _tokenizer_of(source: str | Path, config: HyenaConfig) -> CharacterTokenizer:
    tokenizer = load_tokenizer(tokenizer_folder(source))
    if not isinstance(tokenizer, CharacterTokenizer):
        raise CheckpointError(
            f"{source} reads text by a {tokenizer.kind} tokenizer; a model of nucleotides is needed"
        )
    if config.padded_vocab_size < tokenizer.vocab_size:
        raise CheckpointError(
            f"{source} has {config.padded_vocab_size} token ids, but the nucleotide tokenizer needs "
            f"{tokenizer.vocab_size}"
        )
    return tokenizer


def tokenizer_folder(source: str | Path) -> Path:
    """Return the folder that holds the tokenizer of a model that has been loaded from a source."""
    path = resolve(source)
    if path.is_dir():
        return path if (path / "config.json").exists() else path / "model"
    if path.exists():
        return path.parent
    from huggingface_hub import try_to_load_from_cache

    # The model has just been loaded, so what its repository has is in the hub's cache.
    found = try_to_load_from_cache(str(source), "tokenizer_config.json")
    return Path(found).parent if isinstance(found, str) else path


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name
        ``"auto"`` (a GPU where there is one, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, …. Without a number it is the first GPU, or that of the
        process where torchrun has started several.

    Raises
    ------
    ConfigError
        There is no such kind of device.
    BackendUnavailableError
        The device is not there.
    """
    local = os.environ.get("LOCAL_RANK", "")
    if local.isdigit() and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is unknown; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendUnavailableError(
            f"device {name!r} is not there: torch sees {torch.cuda.device_count()} GPUs; use --device auto or cpu"
        )
    return device


def weights_checksum(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights: names, dtypes, shapes and values, in the order of their names.

    It is the same for one model in every file layout and on every device.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
