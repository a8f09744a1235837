"""The layouts in which HyenaDNA weights were published, and the only place that knows their names.

Three exist: the Lightning ``weights.ckpt`` with a nested ``layer`` in its config.json (with or without the ``.layer.`` that activation
checkpointing put into names), the ``-hf`` safetensors, and bare state dicts of either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from hyenadna.errors import CheckpointError
from hyenadna.models.config import HyenaConfig
from hyenadna.models.filter import positional_features
from hyenadna.tokenizers import CharacterTokenizer

if TYPE_CHECKING:
    from hyenadna.models.ensemble import ClassifierEnsemble
    from hyenadna.models.language import HyenaModel

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


def from_published(
    settings: dict[str, Any], state: Mapping[str, torch.Tensor], source: str
) -> tuple[HyenaConfig, dict[str, Any] | None, dict[str, torch.Tensor]]:
    """Translate a published config.json and state dict to ours.

    Parameters
    ----------
    settings
        What config.json holds.
    state
        Tensors by their published names, with or without training prefixes.
    source
        Where they came from, for messages.

    Returns
    -------
    config : HyenaConfig
        The backbone's shape.
    head : dict or None
        Settings of the classification head; None for a language model.
    state : dict
        The tensors by our names.

    Raises
    ------
    CheckpointError
        Weights are unexpected or contradict each other.
    KeyError, TypeError, AttributeError, ConfigError
        The settings do not describe a HyenaDNA model.
    """
    config, head = _published_settings(settings)
    config, renamed = _rename(_strip_prefixes(state), config, source)
    if head is None and any(k.startswith("head.") for k in renamed):
        head = {}
    if head is not None:
        head = _published_head(settings, renamed, head)
    return config, head, renamed


def to_hf(
    model: HyenaModel | ClassifierEnsemble,
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Translate a model to the layout of the published ``-hf`` repositories.

    Returns
    -------
    settings : dict
        Their config.json.
    state : dict
        Their weights, by their names.

    Raises
    ------
    CheckpointError
        The model has something that the layout cannot express.
    """
    config, head = model.config, model.head_settings()
    if n_members := head.get("members"):
        raise CheckpointError(
            f"the -hf layout knows only single classifiers; this is an ensemble of {n_members}; keep it in our own layout"
        )
    if head and (head["pooling"] != "last" or head["head_bias"] or head["both_directions"]):
        raise CheckpointError(
            "the -hf layout knows only classifiers that pool the last token of one strand without a bias; this one pools "
            f"{head['pooling']!r} {'with' if head['head_bias'] else 'without'} a bias"
            f"{', of both strands' if head['both_directions'] else ''}"
        )
    if config.bidirectional:
        raise CheckpointError(
            "the -hf layout knows only causal models; this one is bidirectional; keep it in our own layout"
        )
    if config.mixers != "hyena" or config.hyena_head_dim > 1:
        what = "Hyena heads" if config.mixers == "hyena" else ", ".join(config.layer_mixers)
        raise CheckpointError(
            f"the -hf layout knows only layers of plain Hyena; this model has {what}; keep it in our own layout"
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
    return settings, _hf_state(model)


_HF_FIELDS = {
    "d_model": "d_model", "n_layer": "n_layers", "vocab_size": "vocab_size",
    "pad_vocab_size_multiple": "pad_vocab_size_multiple", "max_seq_len": "max_seq_len",
    "hyena_order": "hyena_order", "short_filter_order": "short_kernel_size",
    "filter_order": "filter_dim", "num_inner_mlps": "filter_layers", "emb_dim": "filter_emb_dim",
    "activation_freq": "filter_freq", "embed_dropout": "embed_dropout",
    "hyena_dropout": "resid_dropout", "layer_norm_epsilon": "layer_norm_eps",
    "initializer_range": "initializer_range",
}  # fmt: skip


def _hf_state(model: HyenaModel | ClassifierEnsemble) -> dict[str, torch.Tensor]:
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
