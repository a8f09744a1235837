"""The optimizer and its parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hyenadna.models.filter import ImplicitFilter
from hyenadna.models.hyena import HyenaBlock
from hyenadna.training.config import OptimizerConfig
from hyenadna.training.muon import Muon


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort the trainable parameters into at most four groups, each parameter once.

    Parameters
    ----------
    model
        Any module; implicit filters are found wherever they are in it.
    config
        Learning rates and weight decays.

    Returns
    -------
    list of dict
        ``name`` is ``filter`` (the implicit filters), ``matrix`` (weights of two or more dimensions), ``vector`` (biases
        and norms, never decayed) or, for Muon, ``orthogonal`` (the blocks' linear layers). Empty groups are left out.
    """
    in_filter = _of(model, ImplicitFilter)
    in_block = _of(model, HyenaBlock) if config.name == "muon" else set()
    members: dict[str, list[nn.Parameter]] = {
        "orthogonal": [], "matrix": [], "vector": [], "filter": []
    }  # fmt: skip
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in in_filter:
            kind = "filter"
        elif parameter.ndim == 1:
            kind = "vector"
        else:
            kind = "orthogonal" if parameter.ndim == 2 and id(parameter) in in_block else "matrix"
        members[kind].append(parameter)
    filter_lr = config.lr if config.filter_lr is None else config.filter_lr
    settings: dict[str, dict[str, Any]] = {
        "orthogonal": {"lr": config.lr, "weight_decay": config.weight_decay, "orthogonal": True},
        "matrix": {"lr": config.lr, "weight_decay": config.weight_decay},
        "vector": {"lr": config.lr, "weight_decay": 0.0},
        "filter": {"lr": filter_lr, "weight_decay": config.filter_weight_decay},
    }
    return [
        {"name": name, "params": members[name], **settings[name]}
        for name in members
        if members[name]
    ]


def _of(model: nn.Module, kind: type[nn.Module]) -> set[int]:
    """Return the identities of the parameters of all modules of a kind."""
    return {id(p) for module in model.modules() if isinstance(module, kind) for p in module.parameters()}  # fmt: skip


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW or Muon over groups from `parameter_groups`; AdamW's update is one kernel on a GPU."""
    first, second = config.betas
    on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])
    kind = Muon if config.name == "muon" else torch.optim.AdamW
    return kind(groups, lr=config.lr, betas=(first, second), eps=config.eps, fused=on_gpu or None)
