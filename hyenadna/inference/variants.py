"""Effects of variants under a language model: how much likelier a stretch of the genome is with the alternative allele.

A causal model is asked for the likelihood of the windows with either allele (`hyenadna.inference.window_ratios`), a masked one for that of the bases that
differ, while it does not see them (`hyenadna.inference.masked_marginals`). Both are one `Comparison`; here is how many alleles are compared in batches and
come out in order. What an allele must be, and where its windows are, is in `hyenadna.inference.variant_windows`; reading and writing of variants in `hyenadna.io.vcf`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError
from hyenadna.inference.comparison import Comparison, Question, Read
from hyenadna.inference.forward import BatchSize, forward_passes, require_scoring
from hyenadna.inference.masked_marginals import MaskedMarginals
from hyenadna.inference.variant_windows import (
    MISMATCHES,
    REASONS,
    Reason,
    Refusal,
    WindowCutter,
    place_windows,
    resolve_window,
    shown,
)
from hyenadna.inference.window_ratios import WindowRatios
from hyenadna.models import HyenaForCausalLM, HyenaForMaskedLM
from hyenadna.sequence import Variant
from hyenadna.tokenizers import CharacterTokenizer

__all__ = [
    "DEFAULT_RADIUS",
    "MISMATCHES",
    "REASONS",
    "Reason",
    "VariantScore",
    "place_windows",
    "resolve_window",
    "score_variants",
]

DEFAULT_RADIUS = 64
_LOOK_AHEAD = 16  # windows that are gathered even where a batch holds fewer: what repeats among them is computed once
_MAX_WAITING = 1 << 14  # variants that may wait for one whose batch is not full


class VariantScore(NamedTuple):
    """What a model says of one alternative allele.

    All numbers are 0.0 where both alleles are the same, and NaN where there is a `reason`.

    Parameters
    ----------
    variant
        As it was given.
    llr
        Log-likelihood ratio in nats, log p(alternative window) − log p(reference window), or under a masked model of the bases that differ; negative where the
        model finds the alternative less likely. Mean of the two strands, or the forward strand alone without ``rc``.
    llr_forward, llr_reverse
        The same of one strand; `llr_reverse` is NaN without ``rc``.
    llr_local
        As `llr`, summed only to ``radius`` bases beyond the longer allele; under a masked model the same as `llr`.
    embedding_distance
        Mean Euclidean distance between the final hidden states of the two windows, over the last base of the allele and the
        ``radius`` bases after it, which are the same genomic bases in both windows; mean of the two strands.
    reason
        One of `REASONS` where there is no score, else None.
    detail
        The reason as a sentence that says what was found.
    """

    variant: Variant
    llr: float = math.nan
    llr_forward: float = math.nan
    llr_reverse: float = math.nan
    llr_local: float = math.nan
    embedding_distance: float = math.nan
    reason: Reason | None = None
    detail: str = ""


def score_variants(
    model: HyenaForCausalLM | HyenaForMaskedLM,
    variants: Iterable[Variant | str],
    reference: ReferenceSequence,
    *,
    tokenizer: CharacterTokenizer | None = None,
    rc: bool = True,
    window: int | None = None,
    radius: int = DEFAULT_RADIUS,
    batch_size: BatchSize = "auto",
    half: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[VariantScore]:
    """Score variants under a language model, one result per variant, in their order.

    The model is used where it is and as it is: device and dtype are kept, and its training mode is restored after every batch.
    A variant's score is the same alone, in any company and in any order (in float32). Neighbours in the input that share a window, as the
    alleles of one record share the reference, share its computation. How windows are placed: see `place_windows`.
    Case is ignored. N and other ambiguous bases are context and never scored; where they make one window poorer in scored bases, the
    last scored ones of the other window do not count either. The first base of a window is context only.

    Parameters
    ----------
    model
        The language model. With a masked one, LLRs are masked marginals (`hyenadna.inference.masked_marginals`), and only alleles as long as REF have them.
    variants
        Variants, or text that `Variant.parse` reads; read lazily. Alleles are taken as they are: nothing is left-aligned or trimmed.
    reference
        The genome, from `hyenadna.data.genome.open_reference`. ``chr20`` and ``20`` are taken for the same contig.
    tokenizer
        The model's tokenizer; None is the nucleotide tokenizer with its defaults.
    rc
        Score both strands and average.
    window
        Bases of a window, 4 … `max_seq_len`; see `resolve_window` for the default.
    radius
        Bases beyond the allele that count for `llr_local` and `embedding_distance`, ≥ 0.
    batch_size
        Windows per forward pass, or ``"auto"``: what the device's memory takes.
    half
        Multiply matrices in bfloat16: faster on GPUs, less exact; see `score_sequences`.
    progress
        Called with the number of variants dealt with since the last call.

    Returns
    -------
    Iterator of VariantScore
        In the order of the input.

    Raises
    ------
    ConfigError
        A setting is out of range, the model is no language model, or one window does not fit into memory.
    IntervalError
        Variant text is malformed. A variant that cannot be scored raises nothing: its result has a `reason`.
    DataError
        The model answers with NaN or infinity.

    Examples
    --------
    >>> from hyenadna import Genome, HyenaConfig, HyenaForCausalLM
    >>> model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=64))
    >>> genome = Genome.open("bundled:scerevisiae/genome.2bit")
    >>> same, wrong = score_variants(model, ["chrI:3:A>A", "chrI:3:G>T"], genome)
    >>> same.llr, wrong.reason
    (0.0, 'ref_mismatch')
    """
    if isinstance(variants, str | Variant):
        raise TypeError("variants is a single one; pass a list")
    tokenizer = require_scoring(model, tokenizer, batch_size, masked=True)
    window = resolve_window(model.config.max_seq_len, window)
    if radius < 0:
        raise ConfigError(f"radius is {radius}; expected a number of bases of at least 0")
    kind = MaskedMarginals if isinstance(model, HyenaForMaskedLM) else WindowRatios
    comparison = kind(model, tokenizer, window=window, radius=radius, batch_size=batch_size)
    cutter = WindowCutter(
        reference, tokenizer, window=window, n_strands=2 if rc else 1, of_one_length=kind.of_one_length
    )  # fmt: skip
    return _Scorer(comparison, cutter, progress).run(variants, half=half)


class _Waiting:
    """A variant whose result is due next, or later: why it has none, or the numbers of its strands as they come."""

    __slots__ = ("n_left", "numbers", "refusal", "variant")

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.refusal: Refusal | None = None
        #: llr, llr_local and embedding_distance of each strand
        self.numbers: list[tuple[float, float, float]] = []
        self.n_left = 0

    def result(self) -> VariantScore:
        if self.refusal is not None:
            return VariantScore(
                self.variant, reason=self.refusal.reason, detail=self.refusal.detail
            )
        llr, local, distance = (sum(of_strands) / len(self.numbers) for of_strands in zip(*self.numbers, strict=True))  # fmt: skip
        if not math.isfinite(llr + distance):
            raise DataError(
                f"the model answers variant {shown(self.variant)} with {llr}, which is no log-likelihood ratio: "
                "its weights are damaged, or its training diverged; use another one"
            )
        reverse = self.numbers[1][0] if len(self.numbers) > 1 else math.nan
        return VariantScore(self.variant, llr, self.numbers[0][0], reverse, local, distance)


class _Scorer:
    """One run over many variants."""

    def __init__(
        self,
        comparison: Comparison,
        cutter: WindowCutter,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.comparison, self.cutter = comparison, cutter
        self.progress = progress
        self.waiting: deque[_Waiting] = deque()  # in the order of the input

    def run(self, variants: Iterable[Variant | str], *, half: bool) -> Iterator[VariantScore]:
        """Yield the scores, each as soon as it and those before it are known."""
        comparison, batches = self.comparison, self._batches(variants)
        for batch, found in forward_passes(comparison.model, batches, comparison.forward, half=half):  # fmt: skip
            if batch:
                for question, numbers in zip(batch, found[0].tolist(), strict=True):
                    variant, strand = question.owner
                    variant.numbers[strand] = numbers
                    variant.n_left -= 1
            yield from self._finished()
        yield from self._finished()

    def _finished(self) -> Iterator[VariantScore]:
        done = []
        while self.waiting and not self.waiting[0].n_left:
            done.append(self.waiting.popleft())
        if done and self.progress is not None:
            self.progress(len(done))
        for variant in done:
            yield variant.result()

    def _batches(self, variants: Iterable[Variant | str]) -> Iterator[list[Question]]:
        """Yield questions of one padded length, as many as fill a pass; what is read ahead goes when much of it waits."""
        questions: dict[int, list[Question]] = {}
        reads: dict[int, set[Read]] = {}
        for item in variants:
            for question in self._questions(Variant.parse(item) if isinstance(item, str) else item):
                length = self.comparison.padded(len(question))
                members = questions.setdefault(length, [])
                seen = reads.setdefault(length, set())
                n_windows = len(seen) + sum(read not in seen for read in question.reads)
                if members and n_windows > max(self.comparison.rows(length), _LOOK_AHEAD):
                    yield members
                    members = questions[length] = []
                    seen = reads[length] = set()
                members.append(question)
                seen.update(question.reads)
            if len(self.waiting) >= _MAX_WAITING:
                yield from questions.values()
                questions, reads = {}, {}
                yield []
        yield from questions.values()

    def _questions(self, variant: Variant) -> list[Question]:
        """Add a variant to those that wait, and return what is asked about its strands, which is nothing where it cannot be compared."""
        waiting = _Waiting(variant)
        self.waiting.append(waiting)
        cut = self.cutter.cut(variant)
        if isinstance(cut, Refusal):
            waiting.refusal = cut
            return []
        waiting.n_left = len(cut)
        waiting.numbers = [(math.nan, math.nan, math.nan)] * len(cut)
        return [
            Question((waiting, strand), windows, self.comparison.reads(windows))
            for strand, windows in enumerate(cut)
        ]
