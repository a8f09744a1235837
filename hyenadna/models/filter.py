"""The implicit filter: a small sine MLP over positions, under an exponential window (Hyena, arXiv 2302.10866, §3.3).

A filter is a function of position, evaluated at as many positions as the input has. Everything here is float32: with sines of
frequency 10, bfloat16 positions or products change the filter by several per cent.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from hyenadna.models.config import HyenaConfig
from hyenadna.ops.implicit_filter import implicit_filter

# Longer filters are computed faster than they are worth keeping, in every layer: 256 MiB are 256 channels of 262,144 positions.
MOST_KEPT_BYTES = 2**28
_PLAIN = (torch.Tensor, nn.Parameter)
_FAST_DECAY, _SLOW_DECAY, _TARGET = 0.3, 1.5, 1e-2


def positional_features(
    grid_len: int, length: int, emb_dim: int, *, device: torch.device | None = None
) -> torch.Tensor:
    """Return the features of positions 0…length−1 on a grid of `grid_len`, float64, shape (length, emb_dim).

    Column 0 is t = i/(grid_len−1); the others are cos(f·w) and −sin(f·w) with w = 2πi/grid_len and
    `(emb_dim−1)/2` frequencies f from 1e-4 to their number − 1.
    """
    bands = (emb_dim - 1) // 2
    position = torch.arange(length, dtype=torch.float64, device=device)[:, None]
    frequency = torch.linspace(1e-4, bands - 1, bands, dtype=torch.float64, device=device)
    angle = frequency * (2 * math.pi * position / grid_len)
    return torch.cat([position / (grid_len - 1), torch.cos(angle), -torch.sin(angle)], dim=1)


def initial_decay(n_channels: int, *, shortest: float | None = None) -> torch.Tensor:
    """Return each channel's decay rate −δ over the grid, shape (n_channels,), slowest first.

    A channel's window falls to 1 % at its reach. Rates are evenly spaced between those of reaches of 1.5 and 0.3 grids, so ln(0.01)/1.5 … ln(0.01)/0.3; with `shortest`,
    a share of the grid, reaches are geometrically spaced from 1.5 grids to it.
    """
    log_target = math.log(_TARGET)
    if shortest is None:
        return torch.linspace(log_target / _SLOW_DECAY, log_target / _FAST_DECAY, n_channels)
    reaches = torch.linspace(math.log(_SLOW_DECAY), math.log(shortest), n_channels).exp()
    return log_target / reaches


class _Cached(NamedTuple):
    """Filters, and what they were computed from: settings, and aliases of the weights, whose memory no other tensor can take then."""

    settings: tuple[float, ...]
    sources: tuple[torch.Tensor, ...]
    versions: tuple[int, ...]
    k: torch.Tensor

    def holds(self, settings: tuple[float, ...], sources: tuple[torch.Tensor, ...]) -> bool:
        """Say whether these are the filters of some settings, and no source was replaced, moved or written to."""
        return settings == self.settings and all(
            new.is_set_to(old) and new._version == version
            for new, old, version in zip(sources, self.sources, self.versions, strict=True)
        )


class ImplicitFilter(nn.Module):
    """Filters of `hyena_order − 1` long convolutions, as a function of position; of a bidirectional model, for each side.

        k(t) = (exp(−t·|δ|) + shift) · MLP(features(t)), with one learned sine frequency per hidden unit, shared by all layers.
    The two sides share the MLP up to its last layer, as the channels do. In an equivariant model, each two channels share two sides: what one
    has behind, the other has ahead.

        In evaluation, without gradients, the filters of the last length are kept (up to 256 MiB) until a weight changes. Writing through
        `tensor.data[…] = …`, which torch does not record, needs a call of `train()` or `eval()` afterwards.
    """

    decay: torch.Tensor

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.grid_len = config.grid_len
        self.max_seq_len = config.max_seq_len
        self.emb_dim = config.filter_emb_dim
        self.shift = config.filter_shift
        self.n_convolutions = config.hyena_order - 1
        # The channels of a head share one filter; in the ordinary Hyena each has its own.
        filters = config.d_model // config.hyena_head_dim
        self.n_sides = 2 if config.bidirectional else 1
        self.paired = config.equivariant
        if self.paired:
            filters //= 2
        width, channels = config.filter_dim, filters * self.n_convolutions
        widths = [config.filter_emb_dim, *[width] * (config.filter_layers + 1)]
        self.linears = nn.ModuleList(
            [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
            + [nn.Linear(width, channels * self.n_sides, bias=False)]
        )
        self.freq = nn.Parameter(torch.full((1, width), config.filter_freq))
        self.bias = nn.Parameter(torch.randn(channels))
        reach = config.filter_shortest_reach
        shortest = None if reach is None else reach / (self.grid_len - 1)
        self.register_buffer("decay", initial_decay(channels, shortest=shortest).repeat(self.n_sides))  # fmt: skip
        self.positions: nn.Parameter | None = None
        if config.filter_learned_positions:
            table = positional_features(self.grid_len, self.grid_len, self.emb_dim)
            self.positions = nn.Parameter(table.float())
        self._cached: _Cached | None = None

    def forward(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluate the filters at positions 0…length−1.

        Returns
        -------
        k : torch.Tensor
            float32, shape (hyena_order − 1, H, length), H = D without heads; not to be written to. In a bidirectional model, shape
            (2·(hyena_order − 1), H, length): those of the positions ahead come after those of the positions behind.
        bias : torch.Tensor
            Skip weights, shape (hyena_order − 1, H).
        """
        k = self._evaluate(length) if self._must_evaluate() else self._kept(length)
        k = k.reshape(self.n_sides * self.n_convolutions, -1, length)
        bias = self.bias.float()
        if self.paired:
            bias = torch.stack([bias, bias], dim=-1)
        return k, bias.reshape(self.n_convolutions, -1)

    def train(self, mode: bool = True) -> ImplicitFilter:
        """Switch between training and evaluation, and forget the filters that were kept."""
        self._cached = None
        return super().train(mode)

    def _evaluate(self, length: int) -> torch.Tensor:
        *hidden, out = cast(list[nn.Linear], list(self.linears))
        k = implicit_filter(
            self._features(length),
            [layer.weight.float() for layer in hidden],
            [layer.bias.float() for layer in hidden],
            out.weight.float(),
            self.freq.float(),
            self.decay.float(),
            self.shift,
            self.grid_len,
        )
        if not self.paired:
            return k
        sides = k.view(2, -1, length)
        return torch.stack([sides, sides.flip(0)], dim=2).view(-1, length)

    def _features(self, length: int) -> torch.Tensor:
        if self.positions is not None:
            return self.positions[:length].float()
        device = self.freq.device
        where = device if device.type in ("cuda", "meta") else None  # float64 is needed
        return (
            positional_features(self.grid_len, length, self.emb_dim, device=where)
            .float()
            .to(device)
        )

    def _must_evaluate(self) -> bool:
        return self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()

    def _kept(self, length: int) -> torch.Tensor:
        """Return the filters that are kept, or evaluate and keep them."""
        sources = (*self.linears.parameters(), self.freq, self.decay)
        if self.positions is not None:
            sources = (*sources, self.positions)
        # Wrapped tensors have no memory to compare, those made in inference mode no version.
        if any(type(t) not in _PLAIN or t.is_meta or t.is_inference() for t in sources):
            return self._evaluate(length)
        settings = (length, self.grid_len, self.shift)
        if self._cached is None or not self._cached.holds(settings, sources):
            self._cached = None
            versions = tuple(t._version for t in sources)
            k = self._evaluate(length)
            if k.nbytes > MOST_KEPT_BYTES:
                return k
            self._cached = _Cached(settings, tuple(t.detach() for t in sources), versions, k)
        return self._cached.k

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cached": None}
