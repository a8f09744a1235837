"""Model folders: ours, and every layout in which HyenaDNA weights were published.

This is the only place that knows old names. Pickled files are read by a restricted unpickler: tensors come out, every
other class becomes an inert placeholder, and no code of the file ever runs.
"""

from __future__ import annotations

import collections
import json
import os
import pickle
import re
import shutil
import tempfile
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hyenadna.errors import CheckpointError, ConfigError, HyenaDNAError, OutputError
from hyenadna.models.config import HyenaConfig
from hyenadna.models.filter import positional_features
from hyenadna.tokenizers import CharacterTokenizer, Tokenizer

if TYPE_CHECKING:
    from hyenadna.models.model import HyenaModel

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_WEIGHTS_NAMES = (WEIGHTS_FILE, "pytorch_model.bin", "weights.ckpt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

# Published name -> our name; {i} a layer, {j} a linear of the filter's MLP (published at the even places of a Sequential).
_LAYER = "backbone.layers.{i}."
_NAMES = (
    ("backbone.embeddings.word_embeddings.weight", "backbone.embedding.weight"),
    (_LAYER + "norm{n}.{p}", _LAYER + "norm{n}.{p}"),
    (_LAYER + "mixer.in_proj.{p}", _LAYER + "mixer.in_proj.{p}"),
    (_LAYER + "mixer.out_proj.{p}", _LAYER + "mixer.out_proj.{p}"),
    (_LAYER + "mixer.short_filter.{p}", _LAYER + "mixer.short_conv.{p}"),
    (_LAYER + "mixer.filter_fn.bias", _LAYER + "mixer.filter.bias"),
    (_LAYER + "mixer.filter_fn.implicit_filter.{even}.{p}", _LAYER + "mixer.filter.linears.{j}.{p}"),
    (_LAYER + "mixer.filter_fn.implicit_filter.{odd}.freq", _LAYER + "mixer.filter.freq"),
    (_LAYER + "mixer.filter_fn.modulation.deltas", _LAYER + "mixer.filter.decay"),
    (_LAYER + "mixer.filter_fn.pos_emb.z", _LAYER + "mixer.filter.positions"),
    (_LAYER + "mlp.fc{n}.{p}", _LAYER + "mlp.fc{n}.{p}"),
    ("backbone.ln_f.{p}", "backbone.final_norm.{p}"),
    ("lm_head.weight", "lm_head.weight"),
    ("score.weight", "head.classifier.weight"),
    ("head.output_transform.{p}", "head.classifier.{p}"),
)  # fmt: skip
_PLACEHOLDER = {"i": r"(?P<i>\d+)", "n": r"(?P<n>[12])", "p": r"(?P<p>weight|bias)",
                "even": r"(?P<even>\d*[02468])", "odd": r"(?P<odd>\d*[13579])"}  # fmt: skip
_PATTERNS = tuple(
    (re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: _PLACEHOLDER[m[1]], re.escape(old))), new)
    for old, new in _NAMES
)
_T_KEY = re.compile(r"backbone\.layers\.\d+\.mixer\.filter_fn\.pos_emb\.t")


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
            Keys are missing or unexpected, or a shape differs.
        """
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
    """Read a model from a folder, a weights file, a run folder or a hub id; see `HyenaForCausalLM.from_pretrained`.

    Raises
    ------
    CheckpointError
        Files are missing or damaged, or hold something else.
    """
    weights, config_file = _locate(source, config)
    settings = _read_json(config_file)
    state = _strip_prefixes(_read_weights(weights))
    name = str(source)
    try:
        if "n_layers" in settings:
            shape, head = _own_settings(settings)
        else:
            shape, head = _published_settings(settings)
            shape, state = _rename(state, shape, name)
            if head is None and any(k.startswith("head.") for k in state):
                head = {}
            if head is not None:
                head = _published_head(settings, state, head)
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


def write_model_folder(folder: str | Path, model: HyenaModel, tokenizer: Tokenizer | None) -> None:
    """Write our layout: config.json, model.safetensors and tokenizer_config.json.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    settings: dict[str, Any] = {"model_type": "hyenadna", "architectures": [type(model).__name__]}
    settings |= model.config.to_dict()
    if head := model.head_settings():
        settings["head"] = head
    state = {
        k: v for k, v in model.state_dict().items()
        if not (k == "lm_head.weight" and model.config.tie_embeddings)
    }  # fmt: skip
    _write_folder(folder, settings, state, tokenizer)


def write_hf_folder(folder: str | Path, model: HyenaModel) -> None:
    """Write the layout of the published ``-hf`` repositories, readable by transformers with their remote code.

    Raises
    ------
    CheckpointError
        The model has something that the layout cannot express.
    OutputError
        The folder cannot be written.
    """
    config, head = model.config, model.head_settings()
    if head and (head["pooling"] != "last" or head["head_bias"]):
        raise CheckpointError(
            "the -hf layout knows only classifiers that pool the last token without a bias; this one pools "
            f"{head['pooling']!r} {'with' if head['head_bias'] else 'without'} a bias"
        )
    if config.max_seq_len != config.grid_len:
        raise CheckpointError(
            f"the -hf layout ties the longest input to the filter's grid; this model has {config.max_seq_len} "
            f"and {config.grid_len}"
        )
    settings = {
        "architectures": ["HyenaDNAForSequenceClassification" if head else "HyenaDNAForCausalLM"],
        "model_type": "hyenadna",
        **{old: getattr(config, new) for old, new in _HF_FIELDS.items()},
        "d_inner": config.inner_dim,
        "pad_token_id": CharacterTokenizer.pad_token_id,
        "tie_word_embeddings": False,
        "train_freq": True,
        "use_bias": True,
        "torch_dtype": "float32",
    }
    if head:
        settings["id2label"] = dict(enumerate(head["labels"]))
        settings["label2id"] = {label: i for i, label in enumerate(head["labels"])}
    _write_folder(folder, settings, _to_hf(model), None)


_HF_FIELDS = {
    "d_model": "d_model", "n_layer": "n_layers", "vocab_size": "vocab_size",
    "pad_vocab_size_multiple": "pad_vocab_size_multiple", "max_seq_len": "max_seq_len",
    "hyena_order": "hyena_order", "short_filter_order": "short_kernel_size",
    "filter_order": "filter_dim", "num_inner_mlps": "filter_layers", "emb_dim": "filter_emb_dim",
    "activation_freq": "filter_freq", "embed_dropout": "embed_dropout",
    "hyena_dropout": "resid_dropout", "layer_norm_epsilon": "layer_norm_eps",
    "initializer_range": "initializer_range",
}  # fmt: skip


def _to_hf(model: HyenaModel) -> dict[str, torch.Tensor]:
    config = model.config
    z = positional_features(config.grid_len, config.grid_len, config.filter_emb_dim).float()
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        prefix = "" if name.startswith("head.") else "hyena."
        if name == "lm_head.weight":
            state[name] = tensor.clone()
        elif name == "head.classifier.weight":
            state["score.weight"] = tensor
        elif match := re.fullmatch(r"(.*\.mixer)\.filter\.(\w+)(.*)", name):
            base = f"{prefix}{match[1]}.filter_fn."
            if match[2] == "linears":
                j, p = match[3][1:].split(".")
                state[f"{base}implicit_filter.{2 * int(j)}.{p}"] = tensor
            elif match[2] == "freq":
                for j in range(config.filter_layers + 1):
                    state[f"{base}implicit_filter.{2 * j + 1}.freq"] = tensor.clone()
                state.setdefault(f"{base}pos_emb.z", z[None].clone())
                state[f"{base}pos_emb.t"] = z[None, :, :1].clone()
            elif match[2] == "decay":
                state[f"{base}modulation.deltas"] = tensor[None, None]
            elif match[2] == "positions":
                state[f"{base}pos_emb.z"] = tensor[None]
            else:
                state[base + match[2]] = tensor
        else:
            name = name.replace("backbone.embedding.", "backbone.embeddings.word_embeddings.")
            name = name.replace("final_norm", "ln_f").replace("short_conv", "short_filter")
            state[prefix + name] = tensor
    return state


def _write_folder(
    folder: str | Path,
    settings: dict[str, Any],
    state: dict[str, torch.Tensor],
    tokenizer: Tokenizer | None,
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
            staging.chmod(0o755)
            target.mkdir(exist_ok=True)
            for path in sorted(staging.iterdir()):
                os.replace(path, target / path.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except Exception as error:
        # safetensors reports a full disk as its own error class, torch as RuntimeError.
        if isinstance(error, HyenaDNAError):
            raise
        raise OutputError(f"the model folder {target} cannot be written: {error}") from error


def _locate(source: str | Path, config: str | Path | None) -> tuple[Path, Path]:
    path = Path(source).expanduser()
    if path.is_dir() and not (path / CONFIG_FILE).exists() and (path / "model").is_dir():
        path = path / "model"
    if not path.exists():
        if not _HUB_ID.fullmatch(str(source)):
            raise CheckpointError(
                f"no model at {str(source)!r}: expected a model folder, a run folder, a weights file or a hub id 'owner/name'"
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
            f"{config_file} is missing: the weights alone do not say the model's shape; pass config=FILE"
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
        raise CheckpointError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return settings


def _own_settings(settings: dict[str, Any]) -> tuple[HyenaConfig, dict[str, Any] | None]:
    values = {k: v for k, v in settings.items() if k not in ("model_type", "architectures", "head")}
    return HyenaConfig.from_dict(values), settings.get("head")


def _published_settings(settings: dict[str, Any]) -> tuple[HyenaConfig, dict[str, Any] | None]:
    """Translate the config.json of a ``weights.ckpt`` (nested ``layer``) or of a ``-hf`` folder."""
    if isinstance(layer := settings.get("layer"), dict):
        return (
            HyenaConfig(
                d_model=settings["d_model"],
                n_layers=settings["n_layer"],
                d_inner=settings["d_inner"],
                vocab_size=settings["vocab_size"],
                pad_vocab_size_multiple=settings.get("pad_vocab_size_multiple", 1),
                max_seq_len=layer["l_max"],
                hyena_order=layer.get("order", 2),
                short_kernel_size=layer.get("short_filter_order", 3),
                filter_dim=layer["filter_order"],
                filter_layers=layer.get("num_inner_mlps", 2),
                filter_emb_dim=layer["emb_dim"],
                filter_freq=float(layer.get("w", 1)),
                filter_shift=float(layer.get("shift", 0.05)),
                embed_dropout=settings.get("embed_dropout", 0.1),
                resid_dropout=settings.get("resid_dropout", 0.0),
            ),
            None,
        )
    values = {new: settings[old] for old, new in _HF_FIELDS.items() if old in settings}
    for needed in ("d_model", "n_layers", "max_seq_len", "filter_emb_dim"):
        if needed not in values:
            raise KeyError(next(old for old, new in _HF_FIELDS.items() if new == needed))
    values["filter_freq"] = float(values.get("filter_freq", 1))
    values["d_inner"] = settings.get("d_inner")
    architecture = str(settings.get("architectures", ""))
    return HyenaConfig(**values), {} if "SequenceClassification" in architecture else None


def _published_head(
    settings: Mapping[str, Any], state: Mapping[str, torch.Tensor], head: dict[str, Any]
) -> dict[str, Any]:
    weight = state.get("head.classifier.weight")
    if weight is None:
        raise KeyError("score.weight")
    names = settings.get("id2label") or {}
    labels = [str(names.get(str(i), names.get(i, i))) for i in range(weight.shape[0])]
    bias = "head.classifier.bias" in state
    return head | {"labels": labels, "pooling": "mean" if bias else "last", "head_bias": bias}


def _strip_prefixes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop what training wrappers put in front of or into the names."""
    clean = {}
    for name, tensor in state.items():
        if "torchmetrics" in name:
            continue
        while match := re.match(r"(model|module|hyena|_orig_mod)\.", name):
            name = name[match.end() :]
        clean[name.replace(".mixer.layer.", ".mixer.").replace(".mlp.layer.", ".mlp.")] = tensor
    return clean


def _rename(
    state: Mapping[str, torch.Tensor], config: HyenaConfig, source: str
) -> tuple[HyenaConfig, dict[str, torch.Tensor]]:
    renamed: dict[str, torch.Tensor] = {}
    unexpected = []
    for name, tensor in state.items():
        if _T_KEY.fullmatch(name):
            continue  # the window's time axis: fixed, and rebuilt from the grid
        for pattern, template in _PATTERNS:
            if match := pattern.fullmatch(name):
                parts = match.groupdict()
                if "even" in parts:
                    parts["j"] = str(int(parts["even"]) // 2)
                new = template.format(**parts)
                break
        else:
            unexpected.append(name)
            continue
        if new.endswith(("filter.positions", "filter.decay")):
            tensor = tensor.reshape(tensor.shape[-2:] if new.endswith("positions") else -1)
        if new in renamed and not torch.equal(renamed[new], tensor):
            raise CheckpointError(f"{source} has several values of {new}, which this model shares")
        renamed[new] = tensor
    if unexpected:
        raise CheckpointError(
            f"{source} has weights that no HyenaDNA model has", unexpected=unexpected
        )
    return _settle_positions(renamed, config), renamed


def _settle_positions(state: dict[str, torch.Tensor], config: HyenaConfig) -> HyenaConfig:
    """Drop positional features that follow from the grid, keep learned ones; settle whether the head is tied."""
    names = [n for n in state if n.endswith("filter.positions")]
    if names:
        formula = positional_features(
            config.grid_len, config.grid_len, config.filter_emb_dim
        ).float()
        if all(
            state[n].shape == formula.shape
            and torch.allclose(state[n].float(), formula, rtol=0, atol=2e-6)
            for n in names
        ):
            for n in names:
                del state[n]
        else:
            config = replace(config, filter_learned_positions=True)
    head, embedding = state.get("lm_head.weight"), state.get("backbone.embedding.weight")
    untied = head is not None and embedding is not None and not torch.equal(head, embedding)
    return replace(config, tie_embeddings=not untied)


class _Inert:
    """Stands in for every class of a pickle that is no tensor: takes anything, does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...
    def __call__(self, *_args: object, **_kwargs: object) -> _Inert:
        return self

    def __setstate__(self, _state: object) -> None: ...
    def __setitem__(self, _key: object, _value: object) -> None: ...
    def append(self, _item: object) -> None: ...
    def extend(self, _items: object) -> None: ...


_HARMLESS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    **{("torch", str(t)[6:]): t for t in vars(torch).values() if isinstance(t, torch.dtype)},
    **{("torch", t.__name__): t for t in vars(torch).values() if isinstance(t, type) and t.__name__.endswith("Storage")},
}  # fmt: skip


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _HARMLESS.get((module, name), _Inert)


def _restricted_load(file: Any, **kwargs: Any) -> Any:
    return _TensorUnpickler(file, **kwargs).load()


_restricted_pickle = types.ModuleType("restricted_pickle")
vars(_restricted_pickle).update(Unpickler=_TensorUnpickler, load=_restricted_load)


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_restricted_pickle
        )
    except OSError as error:
        raise CheckpointError(f"the weights {path} cannot be read: {error}") from error
    except (
        Exception
    ) as error:  # damaged files raise from every layer of zip, pickle, torch and safetensors
        raise CheckpointError(
            f"{path} is no readable weights file ({type(error).__name__}: {error})"
        ) from error
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no state dict but a {type(found).__name__}")
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors")
    return tensors
