"""What ``hyenadna evaluate --contexts`` adds to the verb: its lengths from the user's words, its table, and what was done in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hyenadna.errors import ConfigError

if TYPE_CHECKING:
    from hyenadna.training.evaluate import EvaluatedRegions
    from hyenadna.training.evaluate_contexts import ContextEvaluation

DEFAULT_MAX_BASES = 1_000_000


def parse_contexts(
    text: str, max_seq_len: int, regions: Sequence[EvaluatedRegions]
) -> tuple[int, ...]:
    """Read ``--contexts``.

    Raises
    ------
    ConfigError
        It is neither auto nor a list of lengths that the model can read.
    """
    from hyenadna.training.evaluate_contexts import default_contexts

    if text == "auto":
        longest = max((len(span) for part in regions for span in part.spans()), default=0)
        return default_contexts(max_seq_len, longest)
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", word) and int(word) <= max_seq_len for word in words):
        raise ConfigError(
            f"--contexts is {text!r}; expected auto, or powers of two with commas between them, at most {max_seq_len}: the "
            "model's longest input"
        )
    return tuple(map(int, words))


def markov_lines(bits_per_base: Sequence[float]) -> list[str]:
    """Return a line of the table for each order."""
    return [
        f"{f'Markov order {order}':<20}{bits:>10.4f}" for order, bits in enumerate(bits_per_base)
    ]


def context_table(found: ContextEvaluation) -> list[str]:
    """Return the lines of the table."""
    shortest = f"{found.scores[0].context:,}"
    lines = [f"{'context':>9}{'bits/base':>11}   {'less than at ' + shortest:<20}{'LZMA':>8}"]
    for score in found.scores:
        error = "" if score.gain_error is None else f" ± {score.gain_error:.4f}"
        gain = "" if score is found.scores[0] else f"{score.gain:.4f}{error}"
        lines.append(
            f"{score.context:>9,}{score.bits_per_base:>11.4f}   {gain:<20}{min(score.compressors.values()):>8.4f}"
        )
    lines += markov_lines(found.markov_bits_per_base)
    return lines + [f"{name:<20}{bits:>10.4f}" for name, bits in found.compressors.items()]


def method(found: ContextEvaluation, described: str, training_bases: int | None) -> list[str]:
    """Return sentences that say which bases were scored, and what each model and compressor had seen before."""
    longest = found.scores[-1].context
    last = (
        "the last quarter"
        if found.block_len == longest // 4
        else f"the last quarter, at most {found.block_len:,} bases,"
    )
    lines = [
        f"{found.n_scored:,} bases of {described}, in {found.n_blocks:,} blocks of {found.block_len:,}: the same at every context.",
        f"The model reads windows of the context's length, of which {last} is scored: three quarters of the context or more come "
        "before every scored base, from its own region.",
    ]
    if training_bases is not None:
        lines.append(
            f"Markov models are of {training_bases:,} training bases (N among them), both strands, interpolated."
        )
    return [
        *lines,
        "Compressors (lzma 9e, bz2 9) know no DNA and saw no training data. By context, LZMA pays for the scored end of each window after the "
        "window's rest, written as letters or four bases a byte, the cheaper shown; below, for all scored bases as one text.",
        *(
            ["'Trained' LZMA read the training bases before (one strand, up to 134 Mb)."]
            if "lzma packed, trained" in found.compressors
            else []
        ),
    ]
