"""Model folders: finding, reading and writing them.

Our layout is config.json, model.safetensors and tokenizer_config.json. Published layouts are translated by
`hyenadna.models.published`, and files are opened by `hyenadna.models.weights`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hyenadna.errors import CheckpointError, ConfigError, HyenaDNAError, OutputError
from hyenadna.models.bundled import find_bundled
from hyenadna.models.config import HyenaConfig
from hyenadna.models.published import from_published, to_hf
from hyenadna.models.weights import read_weights
from hyenadna.resources import is_bundled
from hyenadna.tokenizers import CharacterTokenizer, Vocabulary

if TYPE_CHECKING:
    from hyenadna.models.ensemble import ClassifierEnsemble
    from hyenadna.models.language import HyenaModel

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_WEIGHTS_NAMES = (WEIGHTS_FILE, "pytorch_model.bin", "weights.ckpt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OF_MIXERS = {
    f.name: f.default for f in fields(HyenaConfig)
    if f.name in ("mixers", "hyena_heads", "attention_heads", "rotary_base", "conv_kernel_size", "bidirectional", "equivariant")
}  # fmt: skip


@dataclass(frozen=True)
class ModelFolder:
    """What was found at a source: the model's shape, its head, and its weights under our names.

    Parameters
    ----------
    source
        Where it came from, for messages.
    config
        The backbone's shape.
    head
        Settings of a classification head, None for a language model.
    state
        Weights under our names.
    """

    source: str
    config: HyenaConfig
    head: dict[str, Any] | None
    state: dict[str, torch.Tensor] = field(repr=False)

    def members(self) -> list[ModelFolder]:
        """Return each member of an ensemble of classifiers as a folder of its own; what is none is its own only member."""
        n_members = (self.head or {}).get("members", 1)
        if n_members == 1:
            return [self]
        head = {k: v for k, v in (self.head or {}).items() if k != "members"}
        found = []
        for number in range(n_members):
            prefix = f"members.{number}."
            own = {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}
            found.append(replace(self, head=head, state=own))
        return found

    def load_into(self, model: HyenaModel, *, new_head: bool = False) -> None:
        """Copy the weights into a model.

        Parameters
        ----------
        model
            Of this folder's config.
        new_head
            Leave the model's head as it is, and the saved one aside.

        Raises
        ------
        CheckpointError
            Keys are missing or unexpected, or a shape differs; or it is an ensemble.
        """
        if len(self.members()) > 1:
            raise CheckpointError(
                f"{self.source} holds an ensemble of {len(self.members())} classifiers, which predict and evaluate read; a single model is needed here, "
                "such as finetune leaves with task.ensemble=1"
            )
        state = self.state
        if new_head:
            state = {k: v for k, v in state.items() if k.startswith("backbone.")}
        own = model.state_dict()
        needed = {k for k in own if not (new_head and k.startswith("head."))}
        if self.config.tie_embeddings:
            needed.discard("lm_head.weight")
            state = {k: v for k, v in state.items() if k != "lm_head.weight"}
        missing, unexpected = sorted(needed - set(state)), sorted(set(state) - needed)
        if missing or unexpected:
            raise CheckpointError(
                f"the weights of {self.source} do not fit its configuration",
                missing=missing,
                unexpected=unexpected,
            )
        for name, tensor in state.items():
            if tensor.shape != own[name].shape:
                raise CheckpointError(
                    f"the weights of {self.source} are of another shape than its configuration: {name} is "
                    f"{tuple(tensor.shape)} in the file and {tuple(own[name].shape)} in the model"
                )
        model.load_state_dict(state, strict=False)


def read_model_folder(
    source: str | Path,
    *,
    config: str | Path | None = None,
    filter_shift: float | None = None,
    max_seq_len: int | None = None,
) -> ModelFolder:
    """Read a model from a folder, a weights file, a run folder, a hub id or ``bundled:NAME``; see `HyenaForCausalLM.from_pretrained`.

    Raises
    ------
    CheckpointError
        Files are missing or damaged, or hold something else.
    """
    weights, config_file = _locate(source, config)
    settings = _read_json(config_file)
    state = read_weights(weights)
    name = str(source)
    try:
        if "n_layers" in settings:
            shape, head = _own_settings(settings)
        else:
            shape, head, state = from_published(settings, state, name)
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        detail = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{config_file} does not describe a HyenaDNA model: {detail}"
        ) from error
    if filter_shift is not None:
        shape = replace(shape, filter_shift=filter_shift)
    if max_seq_len is not None:
        shape = replace(shape, max_seq_len=max_seq_len, filter_grid_len=shape.grid_len)
    return ModelFolder(name, shape, head, state)


def write_model_folder(
    folder: str | Path, model: HyenaModel | ClassifierEnsemble, tokenizer: Vocabulary | None
) -> None:
    """Write our layout: config.json, model.safetensors and tokenizer_config.json.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    settings: dict[str, Any] = {"model_type": "hyenadna", "architectures": [type(model).__name__]}
    values = model.config.to_dict()
    # Left out where they say nothing: folders of Hyena models stay as they were before there was a choice, readable by older versions.
    settings |= {k: v for k, v in values.items() if k not in _OF_MIXERS or v != _OF_MIXERS[k]}
    if head := model.head_settings():
        settings["head"] = head
    state = {
        k: v for k, v in model.state_dict().items()
        if not (k == "lm_head.weight" and model.config.tie_embeddings)
    }  # fmt: skip
    _write_folder(folder, settings, state, tokenizer)


def write_hf_folder(folder: str | Path, model: HyenaModel | ClassifierEnsemble) -> None:
    """Write the layout of the published ``-hf`` repositories, readable by transformers with their remote code.

    Raises
    ------
    CheckpointError
        The model has something that the layout cannot express.
    OutputError
        The folder cannot be written.
    """
    _write_folder(folder, *to_hf(model), None)


def _write_folder(
    folder: str | Path,
    settings: dict[str, Any],
    state: dict[str, torch.Tensor],
    tokenizer: Vocabulary | None,
) -> None:
    from safetensors.torch import save_file

    target = Path(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
            save_file(tensors, staging / WEIGHTS_FILE, metadata={"format": "pt"})
            text = json.dumps(settings, indent=2, ensure_ascii=False) + "\n"
            (staging / CONFIG_FILE).write_text(text, encoding="utf-8")
            (tokenizer or CharacterTokenizer()).save_pretrained(staging)
            target.mkdir(exist_ok=True)
            mode = target.stat().st_mode & 0o666  # safetensors writes for the owner alone
            for path in sorted(staging.iterdir()):
                path.chmod(mode)
                os.replace(path, target / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except Exception as error:
        # safetensors reports a full disk as its own error class, torch as RuntimeError.
        if isinstance(error, HyenaDNAError):
            raise
        raise OutputError(f"the model folder {target} cannot be written: {error}") from error


def _locate(source: str | Path, config: str | Path | None) -> tuple[Path, Path]:
    path = find_bundled(str(source)) if is_bundled(source) else Path(source).expanduser()
    if path.is_dir() and not (path / CONFIG_FILE).exists() and (path / "model").is_dir():
        path = path / "model"
    if not path.exists():
        if not _HUB_ID.fullmatch(str(source)):
            raise CheckpointError(
                f"no model at {str(source)!r}: expected a model folder, a run folder, a weights file, a hub id 'owner/name' or bundled:NAME"
            )
        path = _download(str(source))
    if path.is_dir():
        weights = next((path / n for n in _WEIGHTS_NAMES if (path / n).is_file()), None)
        if weights is None:
            rest = sorted(
                p for p in path.iterdir() if p.suffix in (".pt", ".ckpt", ".bin", ".safetensors")
            )
            if len(rest) != 1:
                raise CheckpointError(
                    f"the folder {path} holds {'no' if not rest else 'several'} weights; expected one of "
                    f"{', '.join(_WEIGHTS_NAMES)}"
                )
            weights = rest[0]
    else:
        weights = path
    config_file = Path(config).expanduser() if config is not None else weights.parent / CONFIG_FILE
    if not config_file.is_file():
        raise CheckpointError(
            f"{config_file} is missing: the weights alone do not say the model's shape; put the model's config.json beside them, or pass config=FILE in Python"
        )
    return weights, config_file


def _download(repo: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repo, allow_patterns=["*.json", "*.safetensors", "*.ckpt", "*.bin"])
        )
    except (
        Exception
    ) as error:  # the hub's client has a dozen error families; all mean the same to a user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"no folder {repo!r} here, and it cannot be had from the hub ({reason})"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not readable as JSON: {error}; copy or download it again"
        ) from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return settings


def _own_settings(settings: dict[str, Any]) -> tuple[HyenaConfig, dict[str, Any] | None]:
    values = {k: v for k, v in settings.items() if k not in ("model_type", "architectures", "head")}
    return HyenaConfig.from_dict(values), settings.get("head")
