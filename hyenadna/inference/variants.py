"""Effects of variants under a language model: how much likelier a stretch of the genome is with the alternative allele.

A causal model is asked for the likelihood of the windows with either allele (`hyenadna.inference.window_ratios`), a masked one for that of the bases that
differ, while it does not see them (`hyenadna.inference.masked_marginals`). Both are one `Comparison`; here is what an allele must be to be compared, and how many
are compared in batches and come out in order.

On the reverse strand everything is done to the reverse complement: the context of a variant is then what follows it on the forward
strand. Reading and writing of variants is in `hyenadna.io.vcf`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError, IntervalError
from hyenadna.inference.batching import automatic_batch_tokens, batches, padded_length
from hyenadna.inference.forward import BatchSize, in_fitting_batches, require_scoring
from hyenadna.inference.masked_marginals import MaskedMarginals
from hyenadna.inference.variant_windows import (
    MISMATCHES,
    REASONS,
    Comparison,
    Reason,
    place_windows,
    resolve_window,
)
from hyenadna.inference.window_ratios import WindowRatios
from hyenadna.models import HyenaForCausalLM, HyenaForMaskedLM
from hyenadna.sequence import Interval, Variant, find_contig, require_inside
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
_MAX_WAITING = 1 << 14  # variants that may wait for the next batch
_BASES = frozenset("ACGT")


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
    comparison = kind(
        model, tokenizer, reference, window=window, radius=radius, strands=("+", "-") if rc else ("+",), half=half,
    )  # fmt: skip
    return _Scorer(comparison, batch_size, progress).run(variants)


_Prepared = tuple[Variant, list[Any]] | VariantScore  # what is to be scored, or why it is not


class _Scorer:
    """One run over many variants."""

    def __init__(
        self,
        comparison: Comparison,
        batch_size: BatchSize,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.comparison = comparison
        self.window = comparison.window
        self.max_rows = None if batch_size == "auto" else batch_size
        self.max_tokens = automatic_batch_tokens(comparison.model.config, comparison.device)
        self.progress = progress

    def run(self, variants: Iterable[Variant | str]) -> Iterator[VariantScore]:
        """Yield the scores; what is read ahead is scored when it fills a batch."""
        rows = self.max_rows or self.max_tokens // padded_length(self.window, self.window)
        enough = max(rows, _LOOK_AHEAD)
        waiting: list[_Prepared] = []
        for item in variants:
            variant = Variant.parse(item) if isinstance(item, str) else item
            waiting.append(self._prepare(variant))
            if len(self.comparison.pieces) >= enough or len(waiting) >= _MAX_WAITING:
                yield from self._finish(waiting)
                waiting = []
        yield from self._finish(waiting)

    def _prepare(self, variant: Variant) -> _Prepared:
        """Cut a variant's windows, or say why there are none."""
        ref, alt = variant.ref.upper(), variant.alt.upper()

        def refused(reason: Reason, detail: str = "") -> VariantScore:
            detail = f"{_shown(variant)}: {detail or REASONS[reason]}"
            return VariantScore(variant, reason=reason, detail=detail)

        if alt == ".":
            return refused("no_alternative")
        if alt == "*" or any(mark in alt for mark in "<>[]."):
            return refused("symbolic")
        if not (_BASES.issuperset(ref) and _BASES.issuperset(alt)):
            return refused("not_acgt")
        reference = self.comparison.reference
        chrom = find_contig(variant.chrom, reference.contigs)
        try:
            place = Interval(chrom or variant.chrom, variant.start, variant.start + len(ref))
            require_inside(place, reference.contigs)
        except IntervalError as error:
            return refused("outside_contig" if chrom else "unknown_contig", str(error))
        if max(len(ref), len(alt)) > self.window // 2:
            return refused("too_long")
        found = reference.sequence(place).upper()
        if found != ref:
            i = next(i for i, (x, y) in enumerate(zip(found, ref, strict=True)) if x != y)
            where = f"{place.chrom}:{place.start + i + 1}"
            return refused(
                "ref_mismatch", f"REF has {ref[i]} where the genome has {found[i]} ({where})"
            )
        asked = self.comparison.ask(place, ref, alt)
        return refused(asked) if isinstance(asked, str) else (variant, asked)

    def _finish(self, waiting: Sequence[_Prepared]) -> Iterator[VariantScore]:
        """Score all windows that have been cut, and yield the results of the variants that waited for them."""
        comparison, answers = self.comparison, dict[int, Any]()
        for batch in batches(
            comparison.taken(),
            limit=self.window,
            max_tokens=self.max_tokens,
            max_rows=self.max_rows,
        ):
            found = in_fitting_batches(batch, comparison.read, comparison.device)
            answers.update(zip((piece.owner for piece in batch), found, strict=True))
        for item in waiting:
            if self.progress is not None:
                self.progress(1)
            yield item if isinstance(item, VariantScore) else self._score(*item, answers)

    def _score(self, variant: Variant, asked: list[Any], answers: dict[int, Any]) -> VariantScore:
        strands = [self.comparison.compare(strand, answers) for strand in asked]
        whole, local, distance = zip(*strands, strict=True)
        score = VariantScore(
            variant,
            _mean(whole),
            whole[0],
            whole[1] if len(whole) > 1 else math.nan,
            _mean(local),
            _mean(distance),
        )
        if not math.isfinite(score.llr + score.embedding_distance):
            raise DataError(
                f"the model answers variant {_shown(variant)} with {score.llr}, which is no log-likelihood ratio: "
                "its weights are damaged, or its training diverged; use another one"
            )
        return score


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _shown(variant: Variant) -> str:
    """Return a variant for a message, long alleles cut."""
    ref, alt = (a if len(a) <= 20 else f"{a[:17]}…" for a in (variant.ref, variant.alt))
    return f"{variant.chrom}:{variant.start + 1}:{ref}>{alt}"
