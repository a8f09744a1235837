"""Generation base by base, each at a cost that grows with the square of the length's logarithm.

A long convolution answers y[t] = Σ k[t − s]·w[s] before w[t + 1] is known. Of the new positions, once m of them are done and P is the largest power of two that
divides m, the last P inputs are convolved with the filter for the next P outputs (relaxed convolution: van der Hoeven 2002,
doi 10.1006/jsco.2002.0562; Flash Inference, arXiv 2410.12982). Every pair of positions meets exactly once. The prompt's part in all new
outputs is computed at the beginning, in one transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hyenadna.errors import ConfigError, DataError, SequenceLengthError
from hyenadna.inference.forward import require_scoring, scoring_mode
from hyenadna.models import HyenaForCausalLM
from hyenadna.models.hyena import HyenaBlock, HyenaOperator
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["Generated", "Rules", "generate"]

_DIRECT = 16  # tiles up to this size are matrix products
_BASES = "ACGT"


@dataclass(frozen=True)
class Rules:
    """What generated bases must keep to, beside being A, C, G or T.

    Parameters
    ----------
    gc
        Least and largest share of G and C among the generated bases, 0…1.
    forbidden
        Motifs of A, C, G and T that may not come to an end in the generated part, the prompt's last bases included.
    template
        Letters of the generated part; N leaves a base to the model, A, C, G or T fix it. Empty: all N.
    """

    gc: tuple[float, float] = (0.0, 1.0)
    forbidden: tuple[str, ...] = ()
    template: str = ""

    def __post_init__(self) -> None:
        low, high = self.gc
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"the GC range is {low} to {high}; expected 0 <= low <= high <= 1")
        for motif in self.forbidden:
            if not motif or set(motif) - set(_BASES):
                raise ConfigError(
                    f"the forbidden motif is {motif!r}; expected A, C, G and T, at least one of them"
                )
        if set(self.template) - set(f"{_BASES}N"):
            odd = next(x for x in self.template if x not in f"{_BASES}N")
            raise ConfigError(
                f"the template holds {odd!r}; expected A, C, G, T, and N where any base may come"
            )


class Generated(NamedTuple):
    """One continuation of a prompt.

    Parameters
    ----------
    prompt, sequence
        What was given, and the generated letters.
    log_probabilities
        Natural logarithm of the model's probability of each generated base, over its whole vocabulary at temperature 1: float64, shape (n,). What
        was not allowed to be chosen does not change it, so their sum is the likelihood that scoring gives.
    """

    prompt: str
    sequence: str
    log_probabilities: npt.NDArray[np.float64]

    @property
    def bits_per_base(self) -> float:
        """Mean over the generated bases."""
        return -float(self.log_probabilities.mean()) / math.log(2)


def generate(
    model: HyenaForCausalLM,
    prompts: Sequence[str],
    n_bases: int,
    *,
    tokenizer: CharacterTokenizer | None = None,
    n_samples: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    rules: Rules | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Generated]:
    """Continue prompts, base by base.

    Parameters
    ----------
    model
        The language model; used where it is, in float32.
    prompts
        At least one base each.
    n_bases
        Bases to generate; with the prompt at most the model's `max_seq_len`.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    n_samples
        Continuations of each prompt.
    temperature
        Divides the logits; 0 takes the likeliest base.
    top_k, top_p
        Choose among the k likeliest bases only, and among the fewest whose probabilities reach p together.
    rules
        What the generated part must keep to.
    seed
        The samples of a prompt at one place are the same in every run with it, whatever the other prompts are.
    progress
        Called with the number of bases generated since the last call.

    Returns
    -------
    Iterator of Generated
        The samples of the first prompt, then those of the next.

    Raises
    ------
    ConfigError
        A setting is out of range, or the template has another length.
    SequenceLengthError, SequenceError
        A prompt is empty, too long together with what is to come, or has letters that are no nucleotides.
    DataError
        The rules leave no base to choose, or the model answers with NaN.
    """
    tokenizer = require_scoring(model, tokenizer, 1)
    rules = rules or Rules()
    for what, value, good, expected in (
        ("n_bases", n_bases, n_bases >= 1, "at least 1"), ("n_samples", n_samples, n_samples >= 1, "at least 1"),
        ("temperature", temperature, 0 <= temperature < math.inf, "a number of at least 0"),
        ("top_k", top_k, top_k is None or top_k >= 1, "at least 1"), ("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1"),
    ):  # fmt: skip
        if not good:
            raise ConfigError(f"{what} is {value}; expected {expected}")
    if rules.template and len(rules.template) != n_bases:
        raise ConfigError(
            f"the template has {len(rules.template):,} letters for {n_bases:,} bases to generate; expected as many"
        )
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise SequenceLengthError(f"prompt {number + 1} is empty; at least one base is needed")
        if len(prompt) + n_bases > model.config.max_seq_len:
            raise SequenceLengthError(
                f"prompt {number + 1} of {len(prompt):,} bases and {n_bases:,} more are beyond the {model.config.max_seq_len:,} that this model reads; shorten the prompt or generate fewer"
            )
    choosers = [
        _Chooser(rules, prompt, n_bases, n_samples, temperature, top_k, top_p, np.random.default_rng([seed, number]))
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip
    return (
        one
        for prompt, chooser in zip(prompts, choosers, strict=True)
        for one in _continue(model, tokenizer, prompt, n_bases, n_samples, chooser, progress)
    )


def _continue(
    model: HyenaForCausalLM, tokenizer: CharacterTokenizer, prompt: str, n_bases: int, n_samples: int, chooser: _Chooser,
    progress: Callable[[int], None] | None,
) -> list[Generated]:  # fmt: skip
    ids = torch.from_numpy(tokenizer.encode(prompt)).to(next(model.parameters()).device)
    base_ids = torch.tensor(tokenizer.base_token_ids, device=ids.device)
    log_p = np.empty((n_samples, n_bases))
    codes = np.empty((n_samples, n_bases), np.uint8)
    with scoring_mode(model, half=False):
        stream = _Stream(model, ids, n_samples, n_bases)
        logits = stream.logits
        for i in range(n_bases):
            of_bases = logits.double().log_softmax(-1)[:, base_ids].cpu().numpy()
            if not np.isfinite(of_bases).all():
                raise DataError(
                    "the model answers with NaN: its weights are damaged, or its training diverged; use another one"
                )
            codes[:, i] = chooser.choose(of_bases)
            log_p[:, i] = of_bases[np.arange(n_samples), codes[:, i]]
            if progress is not None:
                progress(n_samples)
            if i + 1 < n_bases:
                logits = stream.step(base_ids[torch.from_numpy(codes[:, i].astype(np.int64)).to(ids.device)])  # fmt: skip
    letters = np.frombuffer(_BASES.encode(), np.uint8)[codes]
    return [
        Generated(prompt, row.tobytes().decode(), p) for row, p in zip(letters, log_p, strict=True)
    ]


class _Chooser:
    """Draws the next base of each sample among those that settings and rules allow."""

    def __init__(
        self, rules: Rules, prompt: str, n_bases: int, n_samples: int, temperature: float, top_k: int | None, top_p: float, rng: np.random.Generator
    ) -> None:  # fmt: skip
        self.rules, self.n_bases, self.temperature = rules, n_bases, temperature
        self.top_k, self.top_p, self.rng = top_k, top_p, rng
        self.done = 0
        self.n_gc = np.zeros(n_samples, np.int64)
        longest = max((len(motif) for motif in rules.forbidden), default=1)
        self.tails = [prompt.upper()[-(longest - 1) :] if longest > 1 else ""] * n_samples
        self.keep = longest - 1
        low, high = rules.gc
        self.least, self.most = math.ceil(low * n_bases - 1e-9), math.floor(high * n_bases + 1e-9)
        if self.least > self.most:
            raise ConfigError(f"no number of G and C in {n_bases} bases has a share from {low} to {high}; widen the GC range")  # fmt: skip

    def choose(self, log_p: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """Return base codes, shape (n,), for log-probabilities of A, C, G, T, shape (n, 4)."""
        allowed = self._allowed(len(log_p))
        if not allowed.any(axis=1).all():
            raise DataError(
                f"the rules leave no base to choose at generated position {self.done + 1}; loosen the GC range, the template or the motifs"
            )
        scores = np.where(allowed, log_p, -np.inf)
        if self.temperature == 0:
            chosen = scores.argmax(axis=1)
        else:
            p = np.exp((scores - scores.max(axis=1, keepdims=True)) / self.temperature)
            p = self._truncated(p / p.sum(axis=1, keepdims=True))
            drawn = self.rng.random((len(p), 1)) * p.sum(axis=1, keepdims=True)
            chosen = np.minimum((p.cumsum(axis=1) <= drawn).sum(axis=1), 3)
        self.done += 1
        self.n_gc += (chosen == 1) | (chosen == 2)
        if self.keep:
            self.tails = [(tail + _BASES[c])[-self.keep :] for tail, c in zip(self.tails, chosen, strict=True)]  # fmt: skip
        codes: npt.NDArray[np.uint8] = chosen.astype(np.uint8)
        return codes

    def _allowed(self, n: int) -> npt.NDArray[np.bool_]:
        allowed = np.ones((n, 4), dtype=np.bool_)
        template = self.rules.template
        if template and template[self.done] != "N":
            allowed[:] = np.array(list(_BASES)) == template[self.done]
        left = self._free_after(self.done)
        at_least_gc, at_most_gc = self.n_gc + left[0], self.n_gc + left[1]
        allowed[:, [0, 3]] &= (at_most_gc >= self.least)[:, None]
        allowed[:, [1, 2]] &= (at_least_gc + 1 <= self.most)[:, None]
        for motif in self.rules.forbidden:
            last = _BASES.index(motif[-1])
            for row, tail in enumerate(self.tails):
                if tail.endswith(motif[:-1]):
                    allowed[row, last] = False
        return allowed

    def _free_after(self, at: int) -> tuple[int, int]:
        """Return how many G and C the positions after one hold at least, and at most."""
        template = self.rules.template
        if not template:
            return 0, self.n_bases - at - 1
        rest = template[at + 1 :]
        fixed = rest.count("G") + rest.count("C")
        return fixed, fixed + rest.count("N")

    def _truncated(self, p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=1)
        kept = np.cumsum(ranked, axis=1) - ranked < self.top_p  # the likeliest always
        if self.top_k is not None:
            kept[:, self.top_k :] = False
        keep = np.zeros_like(kept)
        np.put_along_axis(keep, order, kept, axis=1)
        return np.where(keep, p, 0.0)


class _Stream:
    """A model that has read a prompt and takes one token of each sample at a time."""

    def __init__(self, model: HyenaForCausalLM, prompt: torch.Tensor, n_samples: int, n_bases: int) -> None:  # fmt: skip
        self.model = model
        self.done = 0
        backbone = model.backbone
        x = backbone.embedding(prompt[None].int())
        self.mixers: list[_Mixer] = []
        for layer in backbone.layers:
            block = cast(HyenaBlock, layer)
            mixer = _Mixer(block.mixer, n_samples, len(prompt), n_bases)
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


class _Mixer:
    """A Hyena operator with what it must remember: the last inputs of the short convolution, and its long convolutions."""

    def __init__(self, mixer: HyenaOperator, n_samples: int, n_read: int, n_new: int) -> None:
        self.mixer, self.n_samples = mixer, n_samples
        k, bias = mixer.filter(n_read + n_new)
        self.convolutions = [_LongConvolution(*pair, n_samples, n_new) for pair in zip(k, bias, strict=True)]  # fmt: skip
        short: nn.Conv1d = mixer.short_conv
        self.taps = short.weight[:, 0]
        self.short_bias = cast(torch.Tensor, short.bias)
        self.recent = torch.empty(0)

    def read(self, x: torch.Tensor) -> torch.Tensor:
        """Map the prompt's states (1, L, D), and remember it."""
        projected = self.mixer.in_proj(x).transpose(1, 2).contiguous()
        *gates, v = self.mixer.smooth(projected).chunk(self.mixer.order + 1, dim=1)
        for j, convolution in enumerate(self.convolutions):
            v = convolution.read(gates[self.mixer.order - 1 - j] * v)
        n_kept = self.taps.shape[1] - 1
        self.recent = nn.functional.pad(projected, (n_kept, 0))[..., projected.shape[-1] :]
        self.recent = self.recent.expand(self.n_samples, -1, -1)
        return cast(torch.Tensor, self.mixer.out_proj((gates[0] * v).transpose(1, 2)))

    def step(self, x: torch.Tensor, i: int) -> torch.Tensor:
        """Map the states (n, D) of new position i."""
        window = torch.cat([self.recent, self.mixer.in_proj(x)[..., None]], dim=-1)
        self.recent = window[..., 1:]
        smooth = (window * self.taps).sum(-1) + self.short_bias
        *gates, v = smooth.chunk(self.mixer.order + 1, dim=1)
        for j, convolution in enumerate(self.convolutions):
            v = convolution.step(gates[self.mixer.order - 1 - j] * v, i)
        return cast(torch.Tensor, self.mixer.out_proj(gates[0] * v))


class _LongConvolution:
    """y = k ⊛ w + bias · w, of a signal that becomes known position by position."""

    def __init__(self, k: torch.Tensor, bias: torch.Tensor, n_samples: int, n_new: int) -> None:
        self.k, self.bias, self.n_new = k, bias, n_new
        self.now = k[:, 0] + bias
        shape = (n_samples, len(k), n_new)
        self.inputs, self.outputs = k.new_zeros(shape), k.new_zeros(shape)
        self.tiles: dict[int, torch.Tensor] = {}

    def read(self, w: torch.Tensor) -> torch.Tensor:
        """Return the outputs of the prompt's signal (1, D, L), and add its part in all outputs to come."""
        length = w.shape[-1]
        n = 1 << (2 * length + self.n_new - 2).bit_length()
        y: torch.Tensor = torch.fft.irfft(torch.fft.rfft(w, n=n) * torch.fft.rfft(self.k, n=n), n=n)
        self.outputs += y[..., length : length + self.n_new]
        return y[..., :length] + self.bias[:, None] * w

    def step(self, w: torch.Tensor, i: int) -> torch.Tensor:
        """Take the signal (n, D) of new position i, and return the output there."""
        self.inputs[..., i] = w
        y = self.outputs[..., i] + self.now * w
        m = i + 1
        size = m & -m
        to_come = min(size, self.n_new - m)
        if to_come > 0:
            self.outputs[..., m : m + to_come] += self._tile(self.inputs[..., m - size : m])[..., :to_come]  # fmt: skip
        return y

    def _tile(self, w: torch.Tensor) -> torch.Tensor:
        """Return the part of P inputs (n, D, P) in the P outputs after them."""
        size = w.shape[-1]
        tile = self.tiles.get(size)
        if tile is None:
            k = nn.functional.pad(self.k[:, : 2 * size], (0, max(0, 2 * size - self.k.shape[1])))
            if size <= _DIRECT:
                at = torch.arange(size, device=k.device)
                tile = k[
                    :, size + at[None, :] - at[:, None]
                ]  # (D, s, t): the weight of input s in output P + t
            else:
                tile = torch.fft.rfft(k, n=2 * size)
            self.tiles[size] = tile
        if size <= _DIRECT:
            return torch.einsum("nds,dst->ndt", w, tile)
        # A ring of 2P: what wraps around falls on the first P outputs, which are not asked for.
        y: torch.Tensor = torch.fft.irfft(torch.fft.rfft(w, n=2 * size) * tile, n=2 * size)
        return y[..., size:]
