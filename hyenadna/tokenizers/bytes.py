"""A byte tokenizer for plain text: every byte is a token, and 256 is never needed for anything else."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from hyenadna.errors import SequenceError
from hyenadna.tokenizers.base import TokenIds, write_tokenizer_config


class ByteTokenizer:
    """UTF-8 bytes as token ids 0…255.

    Byte 0, which no text holds, pads.

    Examples
    --------
    >>> ByteTokenizer().decode(ByteTokenizer().encode("déjà"))
    'déjà'
    """

    kind: ClassVar[str] = "byte"
    pad_token_id = 0

    @property
    def vocab_size(self) -> int:
        """Number of token ids, 256."""
        return 256

    def encode(self, sequence: str | bytes, *, record: str = "") -> TokenIds:
        """Return the UTF-8 bytes of a text as token ids, uint8, shape (L,).

        Raises
        ------
        SequenceError
            The text holds the byte 0, which is the padding.
        """
        raw = sequence.encode("utf-8") if isinstance(sequence, str) else sequence
        if b"\0" in raw:
            where = f"text {record!r}" if record else "the text"
            raise SequenceError(
                f"{where} holds the byte 0 at position {raw.index(0) + 1}, which is the padding; "
                "is this a binary file?",
                record=record,
                position=raw.index(0),
                character="\0",
            )
        return np.frombuffer(bytearray(raw), dtype=np.uint8)

    def decode(self, token_ids: npt.ArrayLike) -> str:
        """Return the text of token ids, shape (L,); padding is dropped, broken UTF-8 reads as U+FFFD."""
        ids = np.asarray(token_ids).astype(np.uint8)
        raw: bytes = ids[ids != self.pad_token_id].tobytes()
        return raw.decode("utf-8", errors="replace")

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer_config.json`` into a model folder."""
        write_tokenizer_config(folder, {"kind": self.kind})
