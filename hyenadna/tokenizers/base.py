"""What every tokenizer of the house offers, and how one is saved beside a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from hyenadna.errors import FileFormatError

TokenIds = npt.NDArray[np.uint8]
TOKENIZER_FILE = "tokenizer_config.json"


class Vocabulary(Protocol):
    """What a model folder says about the token ids of its model."""

    kind: ClassVar[str]

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the settings into a model folder."""


class Tokenizer(Vocabulary, Protocol):
    """Text to token ids, one id a character, by one table lookup."""

    pad_token_id: int

    def encode(self, sequence: str | bytes, *, record: str = "") -> TokenIds:
        """Return the token ids, uint8, shape (L,)."""

    def decode(self, token_ids: npt.ArrayLike) -> str:
        """Return the text of token ids, shape (L,)."""


def write_tokenizer_config(folder: str | Path, settings: dict[str, Any]) -> None:
    """Write ``tokenizer_config.json`` into an existing folder."""
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (Path(folder) / TOKENIZER_FILE).write_text(text, encoding="utf-8")


def read_tokenizer_config(folder: str | Path) -> dict[str, Any]:
    """Read ``tokenizer_config.json``; an absent file is an empty mapping.

    Raises
    ------
    FileFormatError
        The file is no JSON object.
    """
    path = Path(folder) / TOKENIZER_FILE
    if not path.exists():
        return {}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"is not readable as JSON ({error})", path=path) from error
    if not isinstance(settings, dict):
        raise FileFormatError("holds no JSON object", path=path)
    return settings
