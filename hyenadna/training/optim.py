"""The optimizer and its parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hyenadna.models.filter import ImplicitFilter
from hyenadna.training.config import OptimizerConfig


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort the trainable parameters into at most three groups, each parameter once.

    Parameters
    ----------
    model
        Any module; implicit filters are found wherever they are in it.
    config
        Learning rates and weight decays.

    Returns
    -------
    list of dict
        ``name`` is ``filter`` (the implicit filters), ``matrix`` (weights of two or more dimensions) or ``vector`` (biases
        and norms, never decayed). Empty groups are left out.
    """
    in_filter = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, ImplicitFilter)
        for parameter in module.parameters()
    }
    members: dict[str, list[nn.Parameter]] = {"matrix": [], "vector": [], "filter": []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            kind = (
                "filter"
                if id(parameter) in in_filter
                else "matrix"
                if parameter.ndim > 1
                else "vector"
            )
            members[kind].append(parameter)
    filter_lr = config.lr if config.filter_lr is None else config.filter_lr
    settings = {
        "matrix": {"lr": config.lr, "weight_decay": config.weight_decay},
        "vector": {"lr": config.lr, "weight_decay": 0.0},
        "filter": {"lr": filter_lr, "weight_decay": config.filter_weight_decay},
    }
    return [
        {"name": name, "params": members[name], **settings[name]}
        for name in members
        if members[name]
    ]


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW over `parameter_groups`; on a GPU its update is one kernel."""
    first, second = config.betas
    groups = parameter_groups(model, config)
    on_gpu = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW(
        groups, lr=config.lr, betas=(first, second), eps=config.eps, fused=on_gpu or None
    )
