"""The implicit filter: a small sine MLP over positions, under an exponential window (Hyena, arXiv 2302.10866, §3.3).

A filter is a function of position, evaluated at as many positions as the input has. Everything here is float32: with sines of
frequency 10, bfloat16 positions or products change the filter by several per cent.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

from hyenadna.models.config import HyenaConfig

_FAST_DECAY, _SLOW_DECAY, _TARGET = 0.3, 1.5, 1e-2


def positional_features(grid_len: int, length: int, emb_dim: int) -> torch.Tensor:
    """Return the features of positions 0…length−1 on a grid of `grid_len`, float64, shape (length, emb_dim).

    Column 0 is t = i/(grid_len−1); the others are cos(f·w) and −sin(f·w) with w = 2πi/grid_len and
    `(emb_dim−1)/2` frequencies f from 1e-4 to their number − 1.
    """
    bands = (emb_dim - 1) // 2
    position = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64)
    angle = frequency * (2 * math.pi * position / grid_len)
    return torch.cat([position / (grid_len - 1), torch.cos(angle), -torch.sin(angle)], dim=1)


def initial_decay(n_channels: int) -> torch.Tensor:
    """Return each channel's decay rate −δ over the grid, shape (n_channels,): ln(0.01)/1.5 … ln(0.01)/0.3."""
    log_target = math.log(_TARGET)
    return torch.linspace(log_target / _SLOW_DECAY, log_target / _FAST_DECAY, n_channels)


class ImplicitFilter(nn.Module):
    """Filters of `hyena_order − 1` long convolutions, as a function of position.

    k(t) = (exp(−t·|δ|) + shift) · MLP(features(t)), with one learned sine frequency per hidden unit, shared by all layers.
    """

    decay: torch.Tensor

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.grid_len = config.grid_len
        self.max_seq_len = config.max_seq_len
        self.emb_dim = config.filter_emb_dim
        self.shift = config.filter_shift
        self.n_convolutions = config.hyena_order - 1
        width, channels = config.filter_dim, config.d_model * self.n_convolutions
        widths = [config.filter_emb_dim, *[width] * (config.filter_layers + 1)]
        self.linears = nn.ModuleList(
            [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
            + [nn.Linear(width, channels, bias=False)]
        )
        self.freq = nn.Parameter(torch.full((1, width), config.filter_freq))
        self.bias = nn.Parameter(torch.randn(channels))
        self.register_buffer("decay", initial_decay(channels))
        self.positions: nn.Parameter | None = None
        if config.filter_learned_positions:
            self.positions = nn.Parameter(self._features(self.grid_len, torch.device("cpu")))

    def forward(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate the filters at positions 0…length−1.

        Returns
        -------
        k : torch.Tensor
            float32, shape (hyena_order − 1, D, length).
        bias : torch.Tensor
            Skip weights, shape (hyena_order − 1, D).
        """
        device = self.freq.device
        with torch.autocast(device.type, enabled=False):
            z = (
                self._features(length, device)
                if self.positions is None
                else self.positions[:length]
            )
            h = z.float()
            for linear in list(self.linears)[:-1]:
                h = torch.sin(self.freq.float() * _linear_fp32(h, linear))
            k = _linear_fp32(h, self.linears[-1]).T
            t = torch.arange(length, device=device, dtype=torch.float32) / (self.grid_len - 1)
            k = k * (torch.exp(-self.decay.float().abs()[:, None] * t) + self.shift)
        shape = (self.n_convolutions, -1)
        return k.reshape(*shape, length), self.bias.float().reshape(shape)

    def _features(self, length: int, device: torch.device) -> torch.Tensor:
        return positional_features(self.grid_len, length, self.emb_dim).float().to(device)


def _linear_fp32(x: torch.Tensor, linear: nn.Module) -> torch.Tensor:
    assert isinstance(linear, nn.Linear)
    bias = None if linear.bias is None else linear.bias.float()
    return nn.functional.linear(x, linear.weight.float(), bias)
