"""Effects of variants under a causal language model: how much likelier a stretch of the genome becomes with the alternative allele.

The one idea to know: the windows with the reference and with the alternative allele begin at the same base and are equally long, so
both sums of log-probabilities have equally many terms, for indels too. What comes before the first base that differs is the same
in both windows, and a causal model gives it the same probability: the sums begin at that base.

On the reverse strand everything is done to the reverse complement: the context of a variant is then what follows it on the forward
strand. Reading and writing of variants is in `hyenadna.io.vcf`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError, IntervalError
from hyenadna.inference.batching import (
    Piece,
    automatic_batch_tokens,
    batches,
    collate,
    padded_length,
)
from hyenadna.inference.forward import BatchSize, in_fitting_batches, require_scoring, scoring_mode
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval, Variant, find_contig, require_inside, reverse_complement
from hyenadna.tokenizers import CharacterTokenizer

Reason = Literal[
    "no_alternative",
    "symbolic",
    "not_acgt",
    "unknown_contig",
    "outside_contig",
    "ref_mismatch",
    "too_long",
    "contig_edge",
]

#: Why an allele has no score, one word each, with what the word means.
REASONS: dict[Reason, str] = {
    "no_alternative": "there is no alternative allele",
    "symbolic": "the allele is symbolic, a breakend or *, and has no bases of its own",
    "not_acgt": "REF or ALT has letters other than A, C, G and T",
    "unknown_contig": "the genome has no such contig",
    "outside_contig": "REF is not inside its contig",
    "ref_mismatch": "REF is not what the genome has at this place",
    "too_long": "REF or ALT is longer than half the window",
    "contig_edge": "the contig ends too early for a reference window as long as the insertion's",
}
#: The reasons that say that the variants are those of another genome, or named in another way.
MISMATCHES: tuple[Reason, ...] = ("unknown_contig", "outside_contig", "ref_mismatch")

DEFAULT_RADIUS = 64
_LONGEST_DEFAULT_WINDOW = 8192
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
        Log-likelihood ratio in nats, log p(alternative window) − log p(reference window); negative where the model finds the
        alternative less likely. Mean of the two strands, or the forward strand alone without ``rc``.
    llr_forward, llr_reverse
        The same of one strand; `llr_reverse` is NaN without ``rc``.
    llr_local
        As `llr`, summed only to ``radius`` bases beyond the longer allele.
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
    model: HyenaForCausalLM,
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
    """Score variants under a causal language model, one result per variant, in their order.

    The model is used where it is and as it is: device and dtype are kept, and its training mode is restored after every batch.
    A variant's score is the same alone, in any company and in any order (in float32). Neighbours in the input that share a window, as the
    alleles of one record share the reference, share its computation. How windows are placed: see `place_windows`.
    Case is ignored. N and other ambiguous bases are context and never scored; where they make one window poorer in scored bases, the
    last scored ones of the other window do not count either. The first base of a window is context only.

    Parameters
    ----------
    model
        The language model.
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
    tokenizer = require_scoring(model, tokenizer, batch_size)
    window = resolve_window(model.config.max_seq_len, window)
    if radius < 0:
        raise ConfigError(f"radius is {radius}; expected a number of bases of at least 0")
    scorer = _Scorer(model, tokenizer, reference, batch_size, window, radius, rc, half, progress)
    return scorer.run(variants)


def resolve_window(max_seq_len: int, window: int | None) -> int:
    """Return the window in bases; the default is the largest power of two that the model reads, but at most 8,192.

    Raises
    ------
    ConfigError
        It is out of range.
    """
    if window is None:
        return min(1 << (max_seq_len.bit_length() - 1), _LONGEST_DEFAULT_WINDOW)
    if not 4 <= window <= max_seq_len:
        raise ConfigError(
            f"window is {window:,}; expected 4 to {max_seq_len:,}, the longest input of this model"
        )
    return window


def place_windows(
    before: int, ref_length: int, alt_length: int, after: int, window: int
) -> tuple[int, int]:
    """Say where the two windows of an allele begin and how long both are.

    The longer allele is put into the middle. Both windows then begin at the same base; behind the allele each is filled with as much
    reference as makes it `window` bases. Near the end of a contig both begin earlier, near its start both end later, and where the contig
    is too short both are shortened alike. All distances are in reading direction: on the reverse strand, `before` is what follows REF.

    Parameters
    ----------
    before, after
        Bases of the contig on either side of REF.
    ref_length, alt_length
        Bases of the alleles.
    window
        Bases of a window.

    Returns
    -------
    tuple of int
        Bases before the allele, and bases of each window: at most `window`, and fewer only where the contig has no more.

    Examples
    --------
    >>> place_windows(5000, 1, 1, 5000, 1024)
    (511, 1024)
    >>> place_windows(5000, 1, 1, 10, 1024), place_windows(7, 1, 1, 5000, 1024)
    ((1013, 1024), (7, 1024))
    >>> place_windows(20, 3, 1, 30, 1024)  # a window without two of the bases, and one that leaves the last two out
    (20, 51)
    """
    shortest, longest = sorted((ref_length, alt_length))
    left = min(before, max((window - longest) // 2, window - shortest - after))
    return left, min(window, left + shortest + after)


class _Window(NamedTuple):
    """What the model says of one window, in float64 and float32.

    `log_p`, shape (L,): log-probabilities in nats, 0 at the first base; `is_target`, shape (L,): what may be summed; `hidden`,
    shape (≤ radius + 1, D): final hidden states from the last base of the allele on.
    """

    log_p: npt.NDArray[np.float64]
    is_target: npt.NDArray[np.bool_]
    hidden: npt.NDArray[np.float32]


class _Strand(NamedTuple):
    """One strand of a variant: numbers of its windows, and the offset of the first base that differs and of the end of the longer allele."""

    ref: int
    alt: int
    first: int
    end: int


_Prepared = tuple[Variant, list[_Strand]] | VariantScore  # what is to be scored, or why it is not


class _Scorer:
    """One run over many variants."""

    def __init__(
        self,
        model: HyenaForCausalLM,
        tokenizer: CharacterTokenizer,
        reference: ReferenceSequence,
        batch_size: BatchSize,
        window: int,
        radius: int,
        rc: bool,
        half: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.reference = reference
        self.contigs = reference.contigs
        self.device = next(model.parameters()).device
        self.max_rows = None if batch_size == "auto" else batch_size
        self.max_tokens = automatic_batch_tokens(model.config, self.device)
        self.window, self.radius = window, radius
        self.strands = ("+", "-") if rc else ("+",)
        self.half = half
        self.progress = progress
        self.is_target = np.zeros(256, dtype=np.bool_)
        self.is_target[list(tokenizer.base_token_ids)] = True
        self.pieces: list[Piece] = []
        self.number_of: dict[tuple[bytes, int], int] = {}

    def run(self, variants: Iterable[Variant | str]) -> Iterator[VariantScore]:
        """Yield the scores; what is read ahead is scored when it fills a batch."""
        rows = self.max_rows or self.max_tokens // padded_length(self.window, self.window)
        enough = max(rows, _LOOK_AHEAD)
        waiting: list[_Prepared] = []
        for item in variants:
            variant = Variant.parse(item) if isinstance(item, str) else item
            waiting.append(self._prepare(variant))
            if len(self.pieces) >= enough or len(waiting) >= _MAX_WAITING:
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
        chrom = find_contig(variant.chrom, self.contigs)
        try:
            place = Interval(chrom or variant.chrom, variant.start, variant.start + len(ref))
            require_inside(place, self.contigs)
        except IntervalError as error:
            return refused("outside_contig" if chrom else "unknown_contig", str(error))
        if max(len(ref), len(alt)) > self.window // 2:
            return refused("too_long")
        found = self.reference.sequence(place).upper()
        if found != ref:
            i = _shared_prefix(found, ref)
            where = f"{place.chrom}:{place.start + i + 1}"
            return refused(
                "ref_mismatch", f"REF has {ref[i]} where the genome has {found[i]} ({where})"
            )
        strands = self._cut(place, ref, alt)
        return refused("contig_edge") if strands is None else (variant, strands)

    def _cut(self, place: Interval, ref: str, alt: str) -> list[_Strand] | None:
        """Make the windows of each strand; None where an insertion does not fit into them."""
        shortest, longest = sorted((len(ref), len(alt)))
        before, after = place.start, self.contigs[place.chrom] - place.end
        strands = []
        for strand in self.strands:
            if strand == "-":
                before, after = after, before
                ref, alt = reverse_complement(ref), reverse_complement(alt)
            left, length = place_windows(before, len(ref), len(alt), after, self.window)
            if left + longest > length:
                return None
            right = length - left - shortest
            start, end = (left, right) if strand == "+" else (right, left)
            span = Interval(place.chrom, place.start - start, place.end + end, strand)
            letters = self.reference.sequence(span).upper()
            with_alt = letters[:left] + alt + letters[left + len(ref) :]
            strands.append(
                _Strand(
                    self._number(letters[:length], left + len(ref) - 1),
                    self._number(with_alt[:length], left + len(alt) - 1),
                    left + _shared_prefix(ref, alt),
                    left + longest,
                )
            )
        return strands

    def _number(self, letters: str, last: int) -> int:
        """Return the number of a window whose hidden states are wanted from the base `last` on; equal windows have one number."""
        token_ids = self.tokenizer.encode(letters)
        number = self.number_of.setdefault((token_ids.tobytes(), last), len(self.pieces))
        if number == len(self.pieces):
            self.pieces.append(Piece(number, token_ids, last))
        return number

    def _finish(self, waiting: Sequence[_Prepared]) -> Iterator[VariantScore]:
        """Score all windows that have been cut, and yield the results of the variants that waited for them."""
        windows: dict[int, _Window] = {}
        for batch in batches(
            self.pieces, limit=self.window, max_tokens=self.max_tokens, max_rows=self.max_rows
        ):
            found = in_fitting_batches(batch, self._forward, self.device)
            windows.update(zip((piece.owner for piece in batch), found, strict=True))
        self.pieces, self.number_of = [], {}
        for item in waiting:
            if self.progress is not None:
                self.progress(1)
            yield item if isinstance(item, VariantScore) else self._score(*item, windows)

    def _forward(self, batch: Sequence[Piece]) -> list[_Window]:
        stacked = collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)
        token_ids = torch.from_numpy(stacked).to(self.device)
        n_kept = min(self.radius + 1, stacked.shape[1])
        kept = np.array([piece.first for piece in batch])[:, None] + np.arange(n_kept)
        columns = torch.from_numpy(np.minimum(kept, stacked.shape[1] - 1)).to(self.device)
        with scoring_mode(self.model, half=self.half):
            hidden = self.model.backbone(token_ids)
            logits = self.model.lm_head(hidden)[:, :-1]
            if logits.dtype != torch.float64:
                logits = logits.float()
            target = token_ids[:, 1:, None].long()
            log_p = logits.log_softmax(-1).gather(-1, target)[..., 0].double().cpu().numpy()
            rows = torch.arange(len(batch), device=self.device)[:, None]
            near = hidden[rows, columns].float().cpu().numpy()
        log_p = np.pad(log_p, ((0, 0), (1, 0)))
        is_target = self.is_target[stacked]
        is_target[:, 0] = False
        results = []
        for i, piece in enumerate(batch):
            n = len(piece.token_ids)
            results.append(_Window(log_p[i, :n], is_target[i, :n], near[i, : n - piece.first]))
        return results

    def _score(
        self, variant: Variant, strands: list[_Strand], windows: dict[int, _Window]
    ) -> VariantScore:
        whole, local, distance = [], [], []
        for ref_number, alt_number, first, end in strands:
            ref, alt = windows[ref_number], windows[alt_number]
            whole.append(_log_ratio(ref, alt, slice(first, None)))
            local.append(_log_ratio(ref, alt, slice(first, end + self.radius)))
            n = min(len(ref.hidden), len(alt.hidden))
            steps = np.linalg.norm(alt.hidden[:n] - ref.hidden[:n], axis=1)
            distance.append(float(steps.mean(dtype=np.float64)))
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


def _log_ratio(ref: _Window, alt: _Window, where: slice) -> float:
    """Return log p(alt) − log p(ref) over as many scored bases of a stretch as both windows have."""
    r, a = (window.log_p[where][window.is_target[where]] for window in (ref, alt))
    n = min(len(r), len(a))
    return float(a[:n].sum() - r[:n].sum())


def _shared_prefix(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _shown(variant: Variant) -> str:
    """Return a variant for a message, long alleles cut."""
    ref, alt = (a if len(a) <= 20 else f"{a[:17]}…" for a in (variant.ref, variant.alt))
    return f"{variant.chrom}:{variant.start + 1}:{ref}>{alt}"
