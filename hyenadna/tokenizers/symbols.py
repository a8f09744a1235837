"""The vocabulary of a synthetic task: numbers that stand for nothing."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from hyenadna.tokenizers.base import write_tokenizer_config


class SymbolTokenizer:
    """Token ids without letters: there is no text to encode, but a model folder says that its ids are no bases.

    Parameters
    ----------
    vocab_size
        Number of ids.
    """

    kind: ClassVar[str] = "symbol"

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer_config.json`` into a model folder."""
        write_tokenizer_config(folder, {"kind": self.kind, "vocab_size": self.vocab_size})
