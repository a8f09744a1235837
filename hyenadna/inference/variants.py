"""Effects of variants under a causal language model: how much likelier a stretch of the genome becomes with the alternative allele.

The one idea to know: the windows with the reference and with the alternative allele begin at the same base and are equally long, so
both sums of log-probabilities have equally many terms, for indels too. What comes before the first base that differs is the same
in both windows, and a causal model gives it the same probability: the sums begin at that base.

On the reverse strand everything is done to the reverse complement: the context of a variant is then what follows it on the forward
strand. Reading and writing of variants is in `hyenadna.io.vcf`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError, DataError, IntervalError
from hyenadna.inference.batching import automatic_batch_tokens, padded_length
from hyenadna.inference.forward import BatchSize, forward_passes, require_scoring, to_device
from hyenadna.models import HyenaForCausalLM
from hyenadna.sequence import Interval, Variant, find_contig, require_inside, reverse_complement
from hyenadna.tokenizers import CharacterTokenizer, TokenIds

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
_MAX_WAITING = 1 << 14  # variants that may wait for one whose batch is not full
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


class _Waiting:
    """A variant whose result is due next, or later: why it has none, or the numbers of its strands as they come."""

    __slots__ = ("n_left", "numbers", "refusal", "variant")

    def __init__(self, variant: Variant, n_strands: int) -> None:
        self.variant = variant
        self.refusal: VariantScore | None = None
        #: llr, llr_local and embedding_distance of each strand
        self.numbers = [(math.nan, math.nan, math.nan)] * n_strands
        self.n_left = n_strands


@dataclass(slots=True, eq=False)
class _Pair:
    """A variant on one strand: the windows with either allele, and where in them to look.

    Parameters
    ----------
    owner, strand
        The variant, and the number of the strand.
    ref, alt
        Token ids of the windows, which are equally long.
    ref_last, alt_last
        Offset of the allele's last base.
    first, end
        Offsets of the first base that differs, and of the end of the longer allele.
    """

    owner: _Waiting
    strand: int
    ref: bytes
    alt: bytes
    ref_last: int
    alt_last: int
    first: int
    end: int

    def __len__(self) -> int:
        """Return the bases of a window."""
        return len(self.ref)

    @property
    def windows(self) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
        """Both windows with the base from which their hidden states are wanted; equal ones are computed once."""
        return (self.ref, self.ref_last), (self.alt, self.alt_last)


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
        self.n_strands = 2 if rc else 1
        self.half = half
        self.progress = progress
        self.is_target = np.zeros(256, dtype=np.bool_)
        self.is_target[list(tokenizer.base_token_ids)] = True
        self.waiting: deque[_Waiting] = deque()  # in the order of the input

    def run(self, variants: Iterable[Variant | str]) -> Iterator[VariantScore]:
        """Yield the scores, each as soon as it and those before it are known."""
        cut = self._batches(variants)
        for batch, found in forward_passes(self.model, cut, self._forward, half=self.half):
            if batch:
                for pair, numbers in zip(batch, found[0].tolist(), strict=True):
                    pair.owner.numbers[pair.strand] = numbers
                    pair.owner.n_left -= 1
            yield from self._finished()
        yield from self._finished()

    def _finished(self) -> Iterator[VariantScore]:
        done = []
        while self.waiting and not self.waiting[0].n_left:
            done.append(self.waiting.popleft())
        if done and self.progress is not None:
            self.progress(len(done))
        yield from map(_result, done)

    def _rows(self, length: int) -> int:
        """Return how many windows of a padded length go through the model at once."""
        return self.max_rows or max(1, self.max_tokens // length)

    def _batches(self, variants: Iterable[Variant | str]) -> Iterator[list[_Pair]]:
        """Yield pairs of windows of one padded length, as many as fill a pass; what is read ahead goes when much of it waits."""
        pairs: dict[int, list[_Pair]] = {}
        windows: dict[int, set[tuple[bytes, int]]] = {}
        for item in variants:
            waiting = _Waiting(
                Variant.parse(item) if isinstance(item, str) else item, self.n_strands
            )
            self.waiting.append(waiting)
            for pair in self._prepare(waiting):
                length = padded_length(len(pair), self.window)
                members = pairs.setdefault(length, [])
                seen = windows.setdefault(length, set())
                n_windows = len(seen) + sum(window not in seen for window in pair.windows)
                if members and n_windows > max(self._rows(length), _LOOK_AHEAD):
                    yield members
                    members = pairs[length] = []
                    seen = windows[length] = set()
                members.append(pair)
                seen.update(pair.windows)
            if len(self.waiting) >= _MAX_WAITING:
                yield from pairs.values()
                pairs, windows = {}, {}
                yield []
        yield from pairs.values()

    def _prepare(self, waiting: _Waiting) -> list[_Pair]:
        """Cut a variant's windows, or note why there are none."""
        variant = waiting.variant
        ref, alt = variant.ref.upper(), variant.alt.upper()

        def refused(reason: Reason, detail: str = "") -> list[_Pair]:
            detail = f"{_shown(variant)}: {detail or REASONS[reason]}"
            waiting.refusal = VariantScore(variant, reason=reason, detail=detail)
            waiting.n_left = 0
            return []

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
        longest, shortest = max(len(ref), len(alt)), min(len(ref), len(alt))
        if longest > self.window // 2:
            return refused("too_long")
        around = (place.start, self.contigs[place.chrom] - place.end)  # bases before and after it
        reads = [
            place_windows(before, len(ref), len(alt), after, self.window)
            for before, after in (around, around[::-1])[: self.n_strands]
        ]
        # The windows of both strands, read once: what they have before the allele and behind it
        sides = [(left, length - left - shortest) for left, length in reads]
        sides[1:] = [side[::-1] for side in sides[1:]]
        start, end = place.start - max(s[0] for s in sides), place.end + max(s[1] for s in sides)
        letters = self.reference.sequence(Interval(place.chrom, start, end)).upper()
        found = letters[place.start - start : place.end - start]
        if found != ref:
            i = _shared_prefix(found, ref)
            where = f"{place.chrom}:{place.start + i + 1}"
            return refused(
                "ref_mismatch", f"REF has {ref[i]} where the genome has {found[i]} ({where})"
            )
        if any(left + longest > length for left, length in reads):
            return refused("contig_edge")
        ids, before = self.tokenizer.encode(letters), place.start - start
        pairs = []
        for strand, (left, length) in enumerate(reads):
            if strand:
                ids, before = self.tokenizer.reverse_complement(ids), end - place.end
                ref, alt = reverse_complement(ref), reverse_complement(alt)
            read = ids[before - left :].tobytes()
            with_alt = read[:left] + self.tokenizer.encode(alt).tobytes() + read[left + len(ref) :]
            pairs.append(
                _Pair(
                    waiting,
                    strand,
                    read[:length],
                    with_alt[:length],
                    left + len(ref) - 1,
                    left + len(alt) - 1,
                    left + _shared_prefix(ref, alt),
                    left + longest,
                )
            )
        return pairs

    def _forward(self, batch: Sequence[_Pair]) -> tuple[torch.Tensor]:
        """Return LLR, local LLR and distance of each pair: float64, shape (B, 3)."""
        numbers: dict[tuple[bytes, int], int] = {}
        rows = [[numbers.setdefault(w, len(numbers)) for w in pair.windows] for pair in batch]
        length = padded_length(len(batch[0]), self.window)
        padding = bytes([self.tokenizer.pad_token_id])
        stacked = np.frombuffer(bytearray().join(ids.ljust(length, padding) for ids, _ in numbers), np.uint8)  # fmt: skip
        stacked = stacked.reshape(-1, length)
        is_target = self.is_target[stacked]
        is_target[:, 0] = False
        log_p, near = self._states(stacked, np.array([last for _, last in numbers]), len(batch))

        ref, alt = to_device(np.array(rows).T.copy(), self.device)
        places = [
            (len(p), p.first, p.end + self.radius, max(p.ref_last, p.alt_last)) for p in batch
        ]
        length, first, end, last = to_device(np.array(places).T.copy(), self.device)[..., None]
        targets = to_device(is_target, self.device)
        at = torch.arange(stacked.shape[1], device=self.device)
        ratios = []  # over as many scored bases as both windows have
        for stop in (length, end):
            inside = [targets[row] & (at >= first) & (at < stop) for row in (ref, alt)]
            ranks = [scored.cumsum(1, dtype=torch.int32) for scored in inside]
            n = torch.minimum(*(rank[:, -1:] for rank in ranks))
            ref_sum, alt_sum = (
                torch.where(scored & (rank <= n), log_p[row], 0.0).sum(1)
                for row, scored, rank in zip((ref, alt), inside, ranks, strict=True)
            )
            ratios.append(alt_sum - ref_sum)
        steps = torch.linalg.vector_norm(near[alt] - near[ref], dim=-1).double()
        n = (length - last).clamp(max=steps.shape[1])
        real = torch.arange(steps.shape[1], device=self.device) < n
        distance = torch.where(real, steps, 0.0).sum(1) / n[:, 0]
        return (torch.stack([*ratios, distance], dim=1),)

    def _states(self, stacked: TokenIds, last: npt.NDArray[np.int64], n_pairs: int) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """Return log-probabilities of the tokens of windows, (B, L), float64 and 0 at the first, and hidden states from the offsets `last` on, (B, ≤ radius + 1, D)."""
        # A pair that is alone goes window by window: what fits alone, fits.
        rows = 1 if n_pairs == 1 else self._rows(stacked.shape[1])
        n_near = min(self.radius + 1, stacked.shape[1])
        columns = np.minimum(last[:, None] + np.arange(n_near), stacked.shape[1] - 1)
        log_p, near = [], []
        for i in range(0, len(stacked), rows):
            token_ids = to_device(stacked[i : i + rows], self.device)
            hidden = self.model.backbone(token_ids)
            logits = self.model.lm_head(hidden)[:, :-1]
            if logits.dtype != torch.float64:
                logits = logits.float()
            found = logits.log_softmax(-1).gather(-1, token_ids[:, 1:, None].long())[..., 0]
            log_p.append(torch.nn.functional.pad(found.double(), (1, 0)))
            own = torch.arange(len(token_ids), device=self.device)[:, None]
            near.append(hidden[own, to_device(columns[i : i + rows], self.device)].float())
        return torch.cat(log_p), torch.cat(near)


def _result(done: _Waiting) -> VariantScore:
    if done.refusal is not None:
        return done.refusal
    llr, local, distance = (sum(of_strands) / len(done.numbers) for of_strands in zip(*done.numbers, strict=True))  # fmt: skip
    if not math.isfinite(llr + distance):
        raise DataError(
            f"the model answers variant {_shown(done.variant)} with {llr}, which is no log-likelihood ratio: "
            "its weights are damaged, or its training diverged; use another one"
        )
    reverse = done.numbers[1][0] if len(done.numbers) > 1 else math.nan
    return VariantScore(done.variant, llr, done.numbers[0][0], reverse, local, distance)


def _shared_prefix(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _shown(variant: Variant) -> str:
    """Return a variant for a message, long alleles cut."""
    ref, alt = (a if len(a) <= 20 else f"{a[:17]}…" for a in (variant.ref, variant.alt))
    return f"{variant.chrom}:{variant.start + 1}:{ref}>{alt}"
