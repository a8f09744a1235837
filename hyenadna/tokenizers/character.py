"""The single-nucleotide tokenizer, with the ids of the published HyenaDNA checkpoints.

One letter is one token. Reading is case-insensitive unless asked otherwise: the published tokenizer turns every
lower-case (soft-masked) letter into [UNK], which silently hides half of a mammalian genome from the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from hyenadna.errors import ConfigError, SequenceError
from hyenadna.sequence import BASES, validate_dna
from hyenadna.tokenizers.base import TokenIds, read_tokenizer_config, write_tokenizer_config

Ambiguous = Literal["n", "unk", "error"]

_SPECIAL_TOKENS = ("[CLS]", "[SEP]", "[BOS]", "[MASK]", "[PAD]", "[RESERVED]", "[UNK]")
_TOKENS = (*_SPECIAL_TOKENS, *BASES, "N")
_FIRST_BASE = len(_SPECIAL_TOKENS)
_PLAIN_LETTERS = b"ACGTUNacgtun"


class CharacterTokenizer:
    """Single-nucleotide tokenizer.

    Parameters
    ----------
    case_sensitive
        Read lower-case letters as [UNK], as the published tokenizer does. By default case is ignored.
    ambiguous
        What the ambiguity codes other than N become: ``"n"`` N, ``"unk"`` [UNK] (the published behaviour), or
        ``"error"``, which refuses them. N itself is always the token N. U is read as T.

    Examples
    --------
    >>> tokenizer = CharacterTokenizer()
    >>> tokenizer.encode("ACGTn").tolist()
    [7, 8, 9, 10, 11]
    >>> tokenizer.decode(tokenizer.reverse_complement(tokenizer.encode("AACG")))
    'CGTT'
    """

    kind: ClassVar[str] = "character"

    cls_token_id = 0
    sep_token_id = 1
    bos_token_id = 2
    mask_token_id = 3
    pad_token_id = 4
    unk_token_id = 6
    base_token_ids = (7, 8, 9, 10)
    n_token_id = 11

    def __init__(self, *, case_sensitive: bool = False, ambiguous: Ambiguous = "n") -> None:
        if ambiguous not in ("n", "unk", "error"):
            raise ConfigError(
                f"the tokenizer's 'ambiguous' is {ambiguous!r}; expected 'n', 'unk' or 'error'"
            )
        self.case_sensitive = case_sensitive
        self.ambiguous: Ambiguous = ambiguous
        table = np.full(256, self.unk_token_id, dtype=np.uint8)
        letters = "ACGTURYSWKMBDHVN"
        for letter in letters if case_sensitive else letters + letters.lower():
            upper = letter.upper().replace("U", "T")
            if upper in "ACGTN":
                table[ord(letter)] = _TOKENS.index(upper)
            elif ambiguous == "n":
                table[ord(letter)] = self.n_token_id
        self._id_of_letter = table.tobytes()
        self._letter_of_id = b"".join(
            token.encode() if len(token) == 1 else b"?" for token in _TOKENS
        ) + b"?" * (256 - len(_TOKENS))
        complement = np.arange(256, dtype=np.uint8)
        complement[_FIRST_BASE : _FIRST_BASE + 4] = self.base_token_ids[::-1]
        self._complement_of_id = complement

    @property
    def vocab_size(self) -> int:
        """Number of token ids, 12."""
        return len(_TOKENS)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The token of each id."""
        return _TOKENS

    @property
    def code_table(self) -> TokenIds:
        """Token id of each base code (A 0, C 1, G 2, T 3, N 4), uint8, shape (5,)."""
        return np.array([*self.base_token_ids, self.n_token_id], dtype=np.uint8)

    def encode(self, sequence: str | bytes, *, record: str = "") -> TokenIds:
        """Return the token id of every letter; no special tokens are added.

        Parameters
        ----------
        sequence
            IUPAC nucleotide letters.
        record
            Name of the sequence, for messages.

        Returns
        -------
        numpy.ndarray
            uint8, shape (L,). O(L), one table lookup a letter.

        Raises
        ------
        SequenceError
            A letter is no nucleotide code, or ambiguous where the tokenizer refuses that.
        """
        validate_dna(sequence, record=record)
        raw = sequence.encode("ascii") if isinstance(sequence, str) else sequence
        ids = np.frombuffer(bytearray(raw.translate(self._id_of_letter)), dtype=np.uint8)
        if self.ambiguous == "error" and (found := raw.translate(None, _PLAIN_LETTERS)):
            position = raw.index(found[:1])
            raise SequenceError(
                f"sequence {record!r} has the ambiguous letter {chr(found[0])!r} at position "
                f"{position + 1}, which this tokenizer refuses (ambiguous='error')",
                record=record,
                position=position,
                character=chr(found[0]),
            )
        return ids

    def encode_codes(self, codes: npt.NDArray[np.uint8]) -> TokenIds:
        """Return the token ids, shape (L,), of base codes, shape (L,), in 0…4."""
        return self.code_table[codes]

    def decode(self, token_ids: npt.ArrayLike) -> str:
        """Return the letters of token ids, shape (L,).

        [UNK] reads as N; special tokens read as their names, such as ``[SEP]``.

        Raises
        ------
        SequenceError
            An id is outside 0…11.
        """
        ids = np.asarray(token_ids)
        if ids.size and (ids.min() < 0 or ids.max() >= self.vocab_size):
            bad = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise SequenceError(
                f"token id {bad} cannot be decoded; the vocabulary holds 0 to {self.vocab_size - 1}"
            )
        special = (ids < _FIRST_BASE) & (ids != self.unk_token_id)
        if special.any():
            names = (*_TOKENS[: self.unk_token_id], "N", *_TOKENS[_FIRST_BASE:])
            return "".join(names[i] for i in ids.tolist())
        raw = ids.astype(np.uint8).tobytes().translate(self._letter_of_id)
        return raw.replace(b"?", b"N").decode("ascii")

    def complement(self, token_ids: npt.NDArray[np.uint8]) -> TokenIds:
        """Swap A with T and C with G in token ids of any shape; every other id stays."""
        return self._complement_of_id[token_ids]

    def reverse_complement(self, token_ids: npt.NDArray[np.uint8]) -> TokenIds:
        """Return the other strand of token ids, shape (…, L), reversed along the last axis."""
        return self._complement_of_id[token_ids[..., ::-1]]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``tokenizer_config.json`` into a model folder."""
        write_tokenizer_config(
            folder,
            {
                "kind": self.kind,
                "case_sensitive": self.case_sensitive,
                "ambiguous": self.ambiguous,
                "tokenizer_class": "HyenaDNATokenizer",
            },
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> CharacterTokenizer:
        """Read the tokenizer of a model folder; a folder without one gets the defaults."""
        settings = read_tokenizer_config(folder)
        return cls(
            case_sensitive=bool(settings.get("case_sensitive", False)),
            ambiguous=settings.get("ambiguous", "n"),
        )
