"""Generation base by base: what may be chosen, and what is.

How a model that has read a prompt takes one more base without reading everything again stands in `hyenadna.inference.decoding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.errors import ConfigError, DataError, SequenceLengthError
from hyenadna.inference.decoding import Stream
from hyenadna.inference.forward import require_scoring, scoring_mode
from hyenadna.models import HyenaForCausalLM
from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["Generated", "Rules", "generate"]

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
        stream = Stream(model, ids, n_samples, n_bases)
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
