"""The objective of plain text: the next byte, told in bits per byte and as the perplexity of words."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from hyenadna.models import HyenaModel
from hyenadna.tasks.causal_lm import bits_per_base
from hyenadna.tasks.objectives import NextByte
from hyenadna.training.config import PretrainConfig
from hyenadna.training.pretrain_module import PretrainModule
from hyenadna.training.schedules import LengthPlan
from hyenadna.training.text_data import TextBatch

__all__ = ["TEXT_COLUMNS", "TextModule", "text_measures"]

TEXT_COLUMNS = (
    "tokens", "loss_nats", "bits_per_byte", "word_perplexity", "lr", "tokens_per_s", "seq_len",
)  # fmt: skip
_LARGEST_EXPONENT = 700.0  # of a perplexity that is a number


def text_measures(nats_per_byte: float, bytes_per_word: float | None) -> dict[str, float]:
    """Return nats and bits per byte, and the perplexity of words.

    A word costs its bytes and the blank or line end behind it: exp(total nats / number of words), which for an evaluation of the whole text is what
    word-level models publish. Left out where there is no word, or words are so long that it is no number.

    Examples
    --------
    >>> round(text_measures(math.log(2), 6.0)["word_perplexity"], 9)
    64.0
    """
    found = {"loss_nats": nats_per_byte, "bits_per_byte": bits_per_base(nats_per_byte)}
    if bytes_per_word is not None and nats_per_byte * bytes_per_word < _LARGEST_EXPONENT:
        found["word_perplexity"] = math.exp(nats_per_byte * bytes_per_word)
    return found


class TextModule(PretrainModule):
    """A language model of bytes in training.

    Parameters
    ----------
    model
        Of 256 token ids.
    config, plan
        As in `PretrainModule`.
    bytes_per_word
        Gives the mean length of a word of ``validation`` and ``test``; of training only bits are told.
    """

    metric = "bits_per_byte"

    def __init__(
        self,
        model: HyenaModel,
        config: PretrainConfig,
        plan: LengthPlan,
        bytes_per_word: Callable[[str], float | None],
    ) -> None:
        super().__init__(model, config, plan)
        self.objective: NextByte = NextByte()
        self.bytes_per_word = bytes_per_word

    def prepare(self, batch: TextBatch) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        """Return the windows of a batch with weights, and the number of their targets."""
        examples = self.objective.examples(batch.token_ids, None, batch.first_window)
        return examples, examples[-1].sum()

    def measures(self, sums: list[float], split: str) -> dict[str, float]:
        """Return nats and bits per byte; of held-out text the perplexity of words, too."""
        length = None if split == "train" else self.bytes_per_word(split)
        return text_measures(sums[0] / max(sums[1], 1.0), length)

    def evaluate(self, batch: TextBatch) -> torch.Tensor:
        """Return the sums of a held-out batch over the bytes that its windows score: nats, and their number."""
        loss = self.objective.scored_from(self.model, batch.token_ids, batch.firsts)
        return torch.stack([loss.nats.double(), loss.n_scored.double()])
