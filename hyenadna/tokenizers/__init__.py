"""Text to token ids. Numpy only; the optional transformers interface is in `hyenadna.tokenizers.hf`."""

from __future__ import annotations

from pathlib import Path

from hyenadna.errors import FileFormatError
from hyenadna.tokenizers.base import (
    TOKENIZER_FILE,
    TokenIds,
    Tokenizer,
    Vocabulary,
    read_tokenizer_config,
)
from hyenadna.tokenizers.bytes import ByteTokenizer
from hyenadna.tokenizers.character import CharacterTokenizer
from hyenadna.tokenizers.symbols import SymbolTokenizer

__all__ = [
    "ByteTokenizer",
    "CharacterTokenizer",
    "SymbolTokenizer",
    "TokenIds",
    "Tokenizer",
    "Vocabulary",
    "load_tokenizer",
]


def load_tokenizer(folder: str | Path) -> CharacterTokenizer | ByteTokenizer:
    """Read the tokenizer that was saved beside a model; published folders have the character tokenizer.

    Raises
    ------
    FileFormatError
        The folder names a tokenizer that hyenadna does not have.
    """
    kind = read_tokenizer_config(folder).get("kind", CharacterTokenizer.kind)
    if kind == ByteTokenizer.kind:
        return ByteTokenizer()
    if kind == CharacterTokenizer.kind:
        return CharacterTokenizer.from_pretrained(folder)
    raise FileFormatError(
        f"names the tokenizer {kind!r}; expected 'character' or 'byte'",
        path=Path(folder) / TOKENIZER_FILE,
    )
