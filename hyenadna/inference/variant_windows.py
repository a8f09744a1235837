"""The windows in which two alleles are compared: how long they are, where they lie, and what is asked of the model about them.

How a model's answers become numbers is said by the two kinds of comparison, `hyenadna.inference.window_ratios` for causal models and
`hyenadna.inference.masked_marginals` for masked ones. `hyenadna.inference.variants` runs either over many variants.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hyenadna.data.genome import ReferenceSequence
from hyenadna.errors import ConfigError
from hyenadna.inference.batching import Piece, collate
from hyenadna.sequence import Interval, reverse_complement
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
    "masked_model",
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
    "masked_model": "REF and ALT differ in length, and a masked model compares bases at the same places",
}
#: The reasons that say that the variants are those of another genome, or named in another way.
MISMATCHES: tuple[Reason, ...] = ("unknown_contig", "outside_contig", "ref_mismatch")

_LONGEST_DEFAULT_WINDOW = 8192
States = npt.NDArray[np.float32]


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


class AlleleWindows(NamedTuple):
    """The two windows of one strand, in reading direction.

    Parameters
    ----------
    left
        Offset of the allele in both windows.
    ref, alt
        The alleles.
    with_ref, with_alt
        Letters of the windows, equally many.
    """

    left: int
    ref: str
    alt: str
    with_ref: str
    with_alt: str


class Compared(NamedTuple):
    """What one strand says: LLR over the whole window and near the allele, nats, and the distance of the hidden states."""

    whole: float
    local: float
    distance: float


class Comparison(ABC):
    """How a model compares two alleles, in three steps: `ask` puts windows onto a pile, `read` has a batch of them read, `compare` makes numbers of the answers.

    Parameters
    ----------
    model, tokenizer, reference
        As for `hyenadna.inference.variants.score_variants`.
    window, radius
        Bases; settled.
    strands
        ``"+"``, and ``"-"`` where both are wanted.
    half
        Matrix products in bfloat16.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: CharacterTokenizer,
        reference: ReferenceSequence,
        *,
        window: int,
        radius: int,
        strands: Sequence[Literal["+", "-"]],
        half: bool,
    ) -> None:
        self.model: Any = model
        self.tokenizer = tokenizer
        self.reference = reference
        self.window, self.radius = window, radius
        self.strands = strands
        self.half = half
        self.device = next(model.parameters()).device
        self.pieces: list[Piece] = []
        self._number_of: dict[tuple[bytes, int], int] = {}

    @abstractmethod
    def ask(self, place: Interval, ref: str, alt: str) -> list[Any] | Reason:
        """Put the windows of an allele onto the pile, and return for each strand what `compare` needs; or say why they cannot be had."""

    @abstractmethod
    def read(self, batch: Sequence[Piece]) -> list[Any]:
        """Return what the model says of each window of a batch."""

    @abstractmethod
    def compare(self, asked: Any, answers: Mapping[int, Any]) -> Compared:
        """Return the numbers of one strand from the answers to all windows, by their numbers."""

    def taken(self) -> list[Piece]:
        """Return the pile, and begin a new one."""
        pieces = self.pieces
        self.pieces, self._number_of = [], {}
        return pieces

    def cut(self, place: Interval, ref: str, alt: str) -> Iterator[AlleleWindows | None]:
        """Yield the windows of each strand, None where an insertion does not fit into them."""
        shortest, longest = sorted((len(ref), len(alt)))
        before, after = place.start, self.reference.contigs[place.chrom] - place.end
        for strand in self.strands:
            if strand == "-":
                before, after = after, before
                ref, alt = reverse_complement(ref), reverse_complement(alt)
            left, length = place_windows(before, len(ref), len(alt), after, self.window)
            if left + longest > length:
                yield None
                continue
            right = length - left - shortest
            start, end = (left, right) if strand == "+" else (right, left)
            span = Interval(place.chrom, place.start - start, place.end + end, strand)
            letters = self.reference.sequence(span).upper()
            with_alt = letters[:left] + alt + letters[left + len(ref) :]
            yield AlleleWindows(left, ref, alt, letters[:length], with_alt[:length])

    def number(self, token_ids: TokenIds, first: int) -> int:
        """Return the number of a window that is asked about from an offset on; equal windows have one number."""
        number = self._number_of.setdefault((token_ids.tobytes(), first), len(self.pieces))
        if number == len(self.pieces):
            self.pieces.append(Piece(number, token_ids, first))
        return number

    def stacked(self, batch: Sequence[Piece]) -> TokenIds:
        """Stack the windows of a batch, padded on the right."""
        return collate(batch, limit=self.window, pad_token_id=self.tokenizer.pad_token_id)

    def near(self, hidden: torch.Tensor, batch: Sequence[Piece]) -> list[States]:
        """Return of each window the hidden states (≤ radius + 1, D) from its piece's first offset on, of (B, L, D)."""
        width = hidden.shape[1]
        n_kept = min(self.radius + 1, width)
        kept = np.array([piece.first for piece in batch])[:, None] + np.arange(n_kept)
        columns = torch.from_numpy(np.minimum(kept, width - 1)).to(self.device)
        rows = torch.arange(len(batch), device=self.device)[:, None]
        states = hidden[rows, columns].float().cpu().numpy()
        return [
            of_window[: len(piece.token_ids) - piece.first]
            for of_window, piece in zip(states, batch, strict=True)
        ]


def mean_distance(ref: States, alt: States) -> float:
    """Return the mean Euclidean distance of states (n, D), over as many as both have."""
    n = min(len(ref), len(alt))
    steps = np.linalg.norm(alt[:n] - ref[:n], axis=1)
    return float(steps.mean(dtype=np.float64))
