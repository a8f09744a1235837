"""A model that has read a prompt and takes one token at a time, with what each kind of mixer must remember for it.

A long convolution answers y[t] = Σ k[t − s]·w[s] before w[t + 1] is known. Of the new positions, once m of them are done and P is the largest power of two that
divides m, the last P inputs are convolved with the filter for the next P outputs (relaxed convolution: van der Hoeven 2002,
doi 10.1006/jsco.2002.0562; Flash Inference, arXiv 2410.12982). Every pair of positions meets exactly once, at a cost for each that grows with the square of the
length's logarithm. The prompt's part in all new outputs is computed at the beginning, in one transform.

Attention keeps the keys and values of every position, and its cost for a token grows with the length; a short convolution keeps its last inputs.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention

from hyenadna.models import HyenaForCausalLM
from hyenadna.models.hyena import HyenaBlock, HyenaOperator
from hyenadna.models.mixers import CausalAttention, GatedConvolution, MultiHeadHyena

__all__ = ["Stream"]

_DIRECT = 16  # tiles up to this size are matrix products


class Stream:
    """A model that has read a prompt and takes one token of each sample at a time.

    Parameters
    ----------
    model
        In evaluation mode; gradients are not kept by anything here.
    prompt
        Token ids, shape (L,).
    n_samples
        Continuations.
    n_new
        Tokens that `step` will take, at most.

    Attributes
    ----------
    logits : torch.Tensor
        Of the first token after the prompt, shape (n_samples, V).
    """

    def __init__(self, model: HyenaForCausalLM, prompt: torch.Tensor, n_samples: int, n_new: int) -> None:  # fmt: skip
        self.model = model
        self.done = 0
        backbone = model.backbone
        x = backbone.embedding(prompt[None].int())
        self.mixers: list[_Mixer] = []
        for layer in backbone.layers:
            block = cast(HyenaBlock, layer)
            mixer = _decoding(block.mixer, n_samples, len(prompt), n_new)
            self.mixers.append(mixer)
            x = x + mixer.read(block.norm1(x))
            x = x + block.mlp(block.norm2(x))
        self.logits = self._head(x[:, -1]).expand(n_samples, -1)

    def step(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Take a token of each sample, shape (n,), and return the logits of the next ones, (n, V)."""
        x = self.model.backbone.embedding(token_ids.int())
        for layer, mixer in zip(self.model.backbone.layers, self.mixers, strict=True):
            block = cast(HyenaBlock, layer)
            x = x + mixer.step(block.norm1(x), self.done)
            x = x + block.mlp(block.norm2(x))
        self.done += 1
        return self._head(x)

    def _head(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.model.lm_head(self.model.backbone.final_norm(x)))


class _Mixer(Protocol):
    """A mixer with what it must remember."""

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Map the prompt's states (1, L, D), and remember it."""

    def step(self, x: torch.Tensor, i: int) -> torch.Tensor:
        """Map the states (n, D) of new position i."""


def _decoding(mixer: nn.Module, n_samples: int, n_read: int, n_new: int) -> _Mixer:
    if isinstance(mixer, CausalAttention):
        return _Attention(mixer, n_samples, n_read, n_new)
    if isinstance(mixer, GatedConvolution):
        return _GatedConvolution(mixer, n_samples)
    if isinstance(mixer, MultiHeadHyena):
        return _MultiHeadHyena(mixer, n_samples, n_read, n_new)
    return _Hyena(cast(HyenaOperator, mixer), n_samples, n_read, n_new)


class _ShortConvolution:
    """A depthwise convolution with the inputs that its next outputs need."""

    def __init__(self, layer: nn.Conv1d, n_samples: int) -> None:
        self.taps, self.bias = layer.weight[:, 0], cast(torch.Tensor, layer.bias)
        self.n_samples = n_samples
        self.recent = torch.empty(0)

    def read(self, w: torch.Tensor) -> None:
        """Remember the end of the prompt's signal (1, C, L)."""
        n_kept = self.taps.shape[1] - 1
        recent = pad(w, (n_kept, 0))[..., w.shape[-1] :]
        self.recent = recent.expand(self.n_samples, -1, -1)

    def step(self, w: torch.Tensor) -> torch.Tensor:
        """Take the signal (n, C) of the next position, and return the output there."""
        window = torch.cat([self.recent, w[..., None]], dim=-1)
        self.recent = window[..., 1:]
        return (window * self.taps).sum(-1) + self.bias


class _Hyena:
    """The Hyena operator: the last inputs of the short convolution, and its long convolutions."""

    def __init__(self, mixer: HyenaOperator, n_samples: int, n_read: int, n_new: int) -> None:
        self.mixer = mixer
        self.short = _ShortConvolution(mixer.short_conv, n_samples)
        k, bias = mixer.filter(n_read + n_new)
        self.convolutions = [
            _LongConvolution(*pair, (n_samples, *self.sharing()), n_new)
            for pair in zip(k, bias, strict=True)
        ]

    def sharing(self) -> tuple[int, ...]:
        """Return how many signals share a filter, as dimensions of them."""
        return ()

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Map the prompt's states (1, L, D), and remember it."""
        projected = self.mixer.in_proj(x).transpose(1, 2).contiguous()
        self.short.read(projected)
        y = self.mix(self.mixer.smooth(projected), None)
        return cast(torch.Tensor, self.mixer.out_proj(y.transpose(1, 2)))

    def step(self, x: torch.Tensor, i: int) -> torch.Tensor:
        """Map the states (n, D) of new position i."""
        y = self.mix(self.short.step(self.mixer.in_proj(x)), i)
        return cast(torch.Tensor, self.mixer.out_proj(y))

    def mix(self, smooth: torch.Tensor, i: int | None) -> torch.Tensor:
        """Gate and convolve the prompt's signals (1, C, L), or those (n, C) of new position i."""
        *gates, v = smooth.chunk(self.mixer.order + 1, dim=1)
        for j, convolution in enumerate(self.convolutions):
            v = convolution(gates[self.mixer.order - 1 - j] * v, i)
        return gates[0] * v


class _MultiHeadHyena(_Hyena):
    """Hyena with heads: P² signals a filter."""

    mixer: MultiHeadHyena

    def sharing(self) -> tuple[int, ...]:
        """Return how many signals share a filter, as dimensions of them."""
        return self.mixer.head_dim, self.mixer.head_dim

    def mix(self, smooth: torch.Tensor, i: int | None) -> torch.Tensor:
        """Gate and convolve the prompt's signals (1, C, L), or those (n, C) of new position i."""
        x0, x1, v = self.mixer.heads(smooth)
        (convolution,) = self.convolutions
        return self.mixer.read_out(x0, convolution(self.mixer.outer(x1, v), i))


class _Attention:
    """Attention: the keys and values of every position."""

    def __init__(self, mixer: CausalAttention, n_samples: int, n_read: int, n_new: int) -> None:
        self.mixer, self.n_samples, self.n_read, self.n_new = mixer, n_samples, n_read, n_new
        self.k = self.v = torch.empty(0)

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Map the prompt's states (1, L, D), and remember it."""
        q, k, v = self.mixer.heads(x)
        self.k, self.v = (pad(s, (0, 0, 0, self.n_new)).repeat(self.n_samples, 1, 1, 1) for s in (k, v))  # fmt: skip
        return self.mixer.join(scaled_dot_product_attention(q, k, v, is_causal=True))

    def step(self, x: torch.Tensor, i: int) -> torch.Tensor:
        """Map the states (n, D) of new position i."""
        at = self.n_read + i
        q, self.k[:, :, at : at + 1], self.v[:, :, at : at + 1] = self.mixer.heads(x[:, None], at)
        seen = scaled_dot_product_attention(q, self.k[:, :, : at + 1], self.v[:, :, : at + 1])
        return self.mixer.join(seen)[:, 0]


class _GatedConvolution:
    """A gated convolution: its last inputs."""

    def __init__(self, mixer: GatedConvolution, n_samples: int) -> None:
        self.mixer = mixer
        self.short = _ShortConvolution(mixer.conv, n_samples)

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Map the prompt's states (1, L, D), and remember it."""
        x0, x1, v = self.mixer.in_proj(x).transpose(1, 2).contiguous().chunk(3, dim=1)
        w = x1 * v
        self.short.read(w)
        y = x0 * self.mixer.convolve(w)
        return cast(torch.Tensor, self.mixer.out_proj(y.transpose(1, 2)))

    def step(self, x: torch.Tensor, i: int) -> torch.Tensor:
        """Map the states (n, D) of new position i."""
        x0, x1, v = self.mixer.in_proj(x).chunk(3, dim=1)
        return cast(torch.Tensor, self.mixer.out_proj(x0 * self.short.step(x1 * v)))


class _LongConvolution:
    """y = k ⊛ w + bias · w, of a signal (n, …, C, L) that becomes known position by position; `rows` are its dimensions before C, k is (C, L)."""

    def __init__(
        self, k: torch.Tensor, bias: torch.Tensor, rows: tuple[int, ...], n_new: int
    ) -> None:
        self.k, self.bias, self.n_new = k, bias, n_new
        self.now = k[:, 0] + bias
        shape = (*rows, len(k), n_new)
        self.inputs, self.outputs = k.new_zeros(shape), k.new_zeros(shape)
        self.tiles: dict[int, torch.Tensor] = {}

    def __call__(self, w: torch.Tensor, i: int | None) -> torch.Tensor:
        """Read the prompt's signal (i is None), or take that of new position i."""
        return self.read(w) if i is None else self.step(w, i)

    def read(self, w: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the prompt's signal (1, …, C, L), and add its part in all outputs to come."""
        length = w.shape[-1]
        n = 1 << (2 * length + self.n_new - 2).bit_length()
        y: torch.Tensor = torch.fft.irfft(torch.fft.rfft(w, n=n) * torch.fft.rfft(self.k, n=n), n=n)
        self.outputs += y[..., length : length + self.n_new]
        return y[..., :length] + self.bias[:, None] * w

    def step(self, w: torch.Tensor, i: int) -> torch.Tensor:
        """Take the signal (n, …, C) of new position i, and return the output there."""
        self.inputs[..., i] = w
        y = self.outputs[..., i] + self.now * w
        m = i + 1
        size = m & -m
        to_come = min(size, self.n_new - m)
        if to_come > 0:
            self.outputs[..., m : m + to_come] += self._tile(self.inputs[..., m - size : m])[..., :to_come]  # fmt: skip
        return y

    def _tile(self, w: torch.Tensor) -> torch.Tensor:
        """Return the part of P inputs (n, …, C, P) in the P outputs after them."""
        size = w.shape[-1]
        tile = self.tiles.get(size)
        if tile is None:
            k = pad(self.k[:, : 2 * size], (0, max(0, 2 * size - self.k.shape[1])))
            if size <= _DIRECT:
                at = torch.arange(size, device=k.device)
                tile = k[
                    :, size + at[None, :] - at[:, None]
                ]  # (C, s, t): the weight of input s in output P + t
            else:
                tile = torch.fft.rfft(k, n=2 * size)
            self.tiles[size] = tile
        if size <= _DIRECT:
            return torch.einsum("...cs,cst->...ct", w, tile)
        # A ring of 2P: what wraps around falls on the first P outputs, which are not asked for.
        y: torch.Tensor = torch.fft.irfft(torch.fft.rfft(w, n=2 * size) * tile, n=2 * size)
        return y[..., size:]
