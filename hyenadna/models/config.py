"""The shape of a model: every number that its weights depend on, and the named sizes of the published family."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hyenadna.errors import ConfigError

MIXERS = ("hyena", "attention", "conv")
NUCLEOTIDE_VOCAB_SIZE = 12


@dataclass(frozen=True, kw_only=True)
class HyenaConfig:
    """Configuration of the Hyena backbone.

    Parameters
    ----------
    d_model
        Width D of the residual stream, ≥ 1.
    n_layers
        Number of blocks, ≥ 1.
    d_inner
        Width of the MLP; None means 4·D.
    vocab_size
        Number of token ids V before padding, 12 for nucleotides.
    pad_vocab_size_multiple
        The embedding has the next multiple of this many rows, 16 for nucleotides; logits have as many columns.
    mixers
        What mixes positions in each layer (`hyenadna.models.mixers`): ``"hyena"``, ``"attention"`` or ``"conv"``, or a list of these that is repeated
        over the layers, whose number it divides: ``["hyena", "hyena", "hyena", "attention"]``. Kept as one name where all are the same.
    max_seq_len
        Longest input, in tokens. Published models have their context plus 2 here (1,026 for tiny-1k).
    filter_grid_len
        Length on which the filter's positions 0…1 are laid out; None means `max_seq_len`. A larger `max_seq_len` than
        grid continues the filter beyond what training saw; that is the explicit way to run a model at longer
        inputs. Attention's rotary positions then go on, too, to distances that training never saw.
    hyena_order
        Order N ≥ 2 of the recurrence: N + 1 projections and N − 1 long convolutions.
    hyena_heads
        Heads H of Hyena layers of order 2: D / H channels share one filter and mix by their outer product. H divides D. None means D heads, in which nothing
        is left to mix: the Hyena of the published models.
    short_kernel_size
        Taps of the depthwise convolution after the projections, ≥ 1.
    filter_dim, filter_layers
        Width of the implicit filter's MLP and the number of its hidden-to-hidden layers (sines follow each).
    filter_emb_dim
        Positional features per position: 1 + 2·bands, so odd and ≥ 3.
    filter_freq
        Initial frequency of the (learned) sines.
    filter_shift
        Constant added to the exponential window. The published code bases disagree (0.05 in the stand-alone and -hf
        code, 0.0 in the training repository) and the checkpoints do not say.
    filter_shortest_reach
        Positions, 1 to the grid's length, at which the fastest channel's window has fallen to 1 %; the channels' reaches then grow geometrically to 1.5 grids. None: from 0.3 to 1.5
        grids with evenly spaced rates, as in published models: of a long grid no channel is then local.
    filter_learned_positions
        Keep the positional features as parameters, as some published files do; otherwise they follow from the grid.
    attention_heads
        Heads of attention layers, ≥ 1; each is D / `attention_heads` wide, an even number, as rotary positions need it.
    rotary_base
        Of attention's positions, > 1: pairs of channels turn by angles from 1 down to about 1 / base per position.
    conv_kernel_size
        Taps of the gated convolution of ``"conv"`` layers, ≥ 1.
    bidirectional
        Every position sees both sides: Hyena's filters are two-sided, its short convolutions and those of ``"conv"`` layers centred, attention is
        full. Such a model predicts masked bases (`HyenaForMaskedLM`), not next ones, and needs a mask where there is padding.
    equivariant
        Of a bidirectional model: both strands are treated alike (`hyenadna.models.equivariant`). The logits of the reverse complement are the reversed,
        complemented ones, and classes do not depend on the strand, to rounding. Half of the parameters, and the same time. Widths are even then, short filters odd.
    embed_dropout, resid_dropout
        Dropout of the embedding and of each block's two outputs, in [0, 1).
    layer_norm_eps
        Epsilon of every layer norm.
    tie_embeddings
        The language-model head shares the embedding's weight.
    initializer_range
        Standard deviation of initial weights.
    activation_checkpointing
        Recompute each block in the backward pass instead of keeping its activations; parameter names do not change.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    d_model: int = 128
    n_layers: int = 2
    d_inner: int | None = None
    vocab_size: int = 12
    pad_vocab_size_multiple: int = 8
    mixers: str | tuple[str, ...] = "hyena"
    max_seq_len: int = 1026
    filter_grid_len: int | None = None
    hyena_order: int = 2
    hyena_heads: int | None = None
    short_kernel_size: int = 3
    filter_dim: int = 64
    filter_layers: int = 2
    filter_emb_dim: int = 5
    filter_freq: float = 10.0
    filter_shift: float = 0.05
    filter_shortest_reach: int | None = None
    filter_learned_positions: bool = False
    attention_heads: int = 8
    rotary_base: float = 10_000.0
    conv_kernel_size: int = 7
    bidirectional: bool = False
    equivariant: bool = False
    embed_dropout: float = 0.1
    resid_dropout: float = 0.0
    layer_norm_eps: float = 1e-5
    tie_embeddings: bool = True
    initializer_range: float = 0.02
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        least = {
            "d_model": 1, "n_layers": 1, "vocab_size": 1, "pad_vocab_size_multiple": 1,
            "max_seq_len": 2, "hyena_order": 2, "short_kernel_size": 1, "filter_dim": 1,
            "filter_layers": 0, "filter_emb_dim": 3, "attention_heads": 1, "conv_kernel_size": 1,
        }  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(
                    f"model {name}={value!r} is impossible; an integer ≥ {low} is needed"
                )
        for name in ("d_inner", "filter_grid_len"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 2):
                raise ConfigError(f"model {name}={value!r} is impossible; an integer ≥ 2 or none")
        reach = self.filter_shortest_reach
        whole = isinstance(reach, int) and not isinstance(reach, bool)
        if reach is not None and not (whole and 1 <= reach <= self.grid_len):
            raise ConfigError(
                f"model filter_shortest_reach={reach!r} is impossible; 1 to the {self.grid_len} positions of the filter's grid, or none"
            )
        if self.filter_emb_dim % 2 == 0:
            raise ConfigError(
                f"model filter_emb_dim={self.filter_emb_dim} is even; it is 1 + 2·bands, so odd"
            )
        for name in ("initializer_range", "layer_norm_eps"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ConfigError(f"model {name}={value!r} is impossible; a number > 0 is needed")
        for name in ("filter_freq", "filter_shift"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ConfigError(
                    f"model {name}={value!r} is impossible; a finite number is needed"
                )
        for name in ("embed_dropout", "resid_dropout"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"model {name}={getattr(self, name)!r} is impossible; 0 ≤ p < 1")
        for name in ("bidirectional", "equivariant"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(
                    f"model {name}={getattr(self, name)!r} is impossible; true or false is needed"
                )
        if self.filter_learned_positions and self.max_seq_len > self.grid_len:
            raise ConfigError(
                f"model max_seq_len={self.max_seq_len} exceeds the {self.grid_len} learned filter "
                "positions, which cannot be continued"
            )
        object.__setattr__(self, "mixers", _pattern(self.mixers, self.n_layers))
        self._check_heads()
        if self.equivariant:
            self._check_pairs()

    def _check_heads(self) -> None:
        if not 1.0 < self.rotary_base < math.inf:
            raise ConfigError(
                f"model rotary_base={self.rotary_base!r} is impossible; a number > 1 is needed"
            )
        heads = self.hyena_heads
        if heads is not None:
            whole = isinstance(heads, int) and not isinstance(heads, bool) and heads >= 1
            if not whole or self.d_model % heads:
                raise ConfigError(
                    f"model hyena_heads={heads!r} is impossible; a divisor of d_model={self.d_model} or none is needed"
                )
            if self.hyena_order != 2:
                raise ConfigError(
                    f"model hyena_heads={heads} needs hyena_order=2, not {self.hyena_order}: heads are defined for two gates"
                )
        if "attention" in self.layer_mixers and self.d_model % (2 * self.attention_heads):
            raise ConfigError(
                f"model attention_heads={self.attention_heads} does not suit d_model={self.d_model}; each head has d_model / attention_heads "
                "channels, which must be a whole, even number"
            )

    def _check_pairs(self) -> None:
        if not self.bidirectional:
            raise ConfigError(
                "model equivariant=true needs bidirectional=true: what stands before a base stands behind it on the other strand, which a causal model does not see"
            )
        if self.vocab_size != NUCLEOTIDE_VOCAB_SIZE:
            raise ConfigError(
                f"model equivariant=true needs vocab_size={NUCLEOTIDE_VOCAB_SIZE}, not {self.vocab_size}: complements are known of nucleotides alone"
            )
        multiples = {"d_model": (self.d_model, 2), "d_inner": (self.inner_dim, 2)}
        odd = {}
        if self.hyena_heads is not None:
            multiples["hyena_heads"] = (self.hyena_heads, 2)
        if "attention" in self.layer_mixers:
            multiples["d_model / attention_heads"] = (self.d_model // self.attention_heads, 4)
        if "hyena" in self.layer_mixers:
            odd["short_kernel_size"] = self.short_kernel_size
        if "conv" in self.layer_mixers:
            odd["conv_kernel_size"] = self.conv_kernel_size
        for name, (value, divisor) in multiples.items():
            if value % divisor:
                raise ConfigError(
                    f"model {name}={value} is no multiple of {divisor}, as equivariant=true needs it: channels are shared out among two strands"
                )
        for name, value in odd.items():
            if value % 2 == 0:
                raise ConfigError(
                    f"model {name}={value} is even, and equivariant=true needs an odd one: filters have a middle, round which the other strand's are turned"
                )

    @property
    def layer_mixers(self) -> tuple[str, ...]:
        """Kind of mixer of each layer."""
        pattern = (self.mixers,) if isinstance(self.mixers, str) else self.mixers
        return pattern * (self.n_layers // len(pattern))

    @property
    def hyena_head_dim(self) -> int:
        """Channels P = D / H of a Hyena head, 1 in the ordinary Hyena."""
        return self.d_model // (self.hyena_heads or self.d_model)

    @property
    def grid_len(self) -> int:
        """Length of the filter's grid."""
        return self.filter_grid_len or self.max_seq_len

    @property
    def inner_dim(self) -> int:
        """Width of the MLP."""
        return self.d_inner or 4 * self.d_model

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and columns of the logits."""
        multiple = self.pad_vocab_size_multiple
        return -(-self.vocab_size // multiple) * multiple

    @classmethod
    def named(cls, name: str) -> HyenaConfig:
        """Return a published size: tiny-1k, tiny-1k-d256, tiny-16k, small-32k, medium-160k, medium-450k, large-1m.

        Raises
        ------
        ConfigError
            There is no such size.

        Examples
        --------
        >>> HyenaConfig.named("small-32k").n_layers
        4
        """
        if name not in NAMED_SIZES:
            raise ConfigError(f"no model size {name!r}; there are {', '.join(NAMED_SIZES)}")
        d_model, n_layers, max_seq_len = NAMED_SIZES[name]
        return cls(d_model=d_model, n_layers=n_layers, max_seq_len=max_seq_len)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values; a pattern of mixers is a list."""
        values = dataclasses.asdict(self)
        if not isinstance(self.mixers, str):
            values["mixers"] = list(self.mixers)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HyenaConfig:
        """Build from plain values.

        Raises
        ------
        ConfigError
            A field is unknown, of the wrong type, or out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"unknown model settings: {', '.join(unknown)}")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"a model setting has the wrong type: {error}") from error


def _pattern(mixers: Any, n_layers: int) -> str | tuple[str, ...]:
    """Check a pattern of mixers, and return it in the one form that it is kept in."""
    pattern = (mixers,) if isinstance(mixers, str) else mixers
    named = isinstance(pattern, list | tuple) and len(pattern) > 0
    if not named or not all(isinstance(kind, str) and kind in MIXERS for kind in pattern):
        raise ConfigError(
            f"model mixers={mixers!r} is impossible; one of {', '.join(MIXERS)}, or a list of these, is needed"
        )
    if n_layers % len(pattern):
        raise ConfigError(
            f"model mixers={list(pattern)} has {len(pattern)} kinds, which cannot be repeated over n_layers={n_layers}; their number must divide that of the layers"
        )
    return pattern[0] if len(set(pattern)) == 1 else tuple(pattern)


# d_model, n_layers, max_seq_len of the LongSafari checkpoints (arXiv 2306.15794 and their config files).
NAMED_SIZES: dict[str, tuple[int, int, int]] = {
    "tiny-1k": (128, 2, 1026),
    "tiny-1k-d256": (256, 2, 1026),
    "tiny-16k": (128, 2, 16_386),
    "small-32k": (256, 4, 32_770),
    "medium-160k": (256, 8, 160_002),
    "medium-450k": (256, 8, 450_002),
    "large-1m": (256, 8, 1_000_002),
}
