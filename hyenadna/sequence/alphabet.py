"""DNA letters: complement, base codes, and what counts as a nucleotide.

Letters are IUPAC nucleotide codes in either case; lower case means soft-masked and survives every operation on text.
Base codes are the numbers that the rest of the package computes with: A 0, C 1, G 2, T 3 and 4 for everything
ambiguous. U is read as T. All tables have 256 entries, so that every operation is one lookup a letter.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from hyenadna.errors import SequenceError

BASES = "ACGT"
N_CODE = 4
_IUPAC_COMPLEMENT = dict(
    zip("ACGTURYSWKMBDHVN", "TGCAAYRSWMKVHDBN", strict=True)
)  # https://doi.org/10.1093/nar/13.9.3021, table 1

_ILLEGAL = 255
_CODE_OF_LETTER = np.full(256, _ILLEGAL, dtype=np.uint8)
_COMPLEMENT_OF_LETTER = np.arange(256, dtype=np.uint8)
for _letter, _partner in _IUPAC_COMPLEMENT.items():
    _code = "ACGT".find("T" if _letter == "U" else _letter)
    for _case in (str.upper, str.lower):
        _CODE_OF_LETTER[ord(_case(_letter))] = N_CODE if _code < 0 else _code
        _COMPLEMENT_OF_LETTER[ord(_case(_letter))] = ord(_case(_partner))
_CODE_TABLE = _CODE_OF_LETTER.tobytes()
_COMPLEMENT_TABLE = _COMPLEMENT_OF_LETTER.tobytes()
_NUCLEOTIDES = bytes(np.flatnonzero(_CODE_OF_LETTER != _ILLEGAL).astype(np.uint8))
_LETTER_TABLE = b"ACGTN" + b"?" * 251

COMPLEMENT_OF_CODE: npt.NDArray[np.uint8] = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


def _as_bytes(sequence: str | bytes, record: str) -> bytes:
    if isinstance(sequence, bytes):
        return sequence
    try:
        return sequence.encode("ascii")
    except UnicodeEncodeError as error:
        raise _illegal(sequence[error.start], error.start, record) from None


def _illegal(character: str, position: int, record: str) -> SequenceError:
    where = f"sequence {record!r}" if record else "the sequence"
    hint = "; is this protein?" if character.upper() in "EFILPQZX*" else ""
    return SequenceError(
        f"{where} has {character!r} at position {position + 1}, which is no nucleotide code "
        f"(expected A, C, G, T, U, N or an IUPAC ambiguity code){hint}",
        record=record,
        position=position,
        character=character,
    )


def validate_dna(sequence: str | bytes, *, record: str = "") -> None:
    """Check that every letter is an IUPAC nucleotide code, in either case.

    Parameters
    ----------
    sequence
        The letters.
    record
        Name of the sequence, for the message.

    Raises
    ------
    SequenceError
        A letter is none; the error carries the first such letter and its 0-based position.
    """
    raw = _as_bytes(sequence, record)
    rest = raw.translate(None, _NUCLEOTIDES)
    if rest:
        raise _illegal(chr(rest[0]), raw.index(rest[:1]), record)


def base_codes(
    sequence: str | bytes, *, ambiguous: Literal["n", "error"] = "n", record: str = ""
) -> npt.NDArray[np.uint8]:
    """Encode letters as base codes.

    Parameters
    ----------
    sequence
        IUPAC nucleotide letters in either case; U is read as T.
    ambiguous
        What N and the other ambiguity codes become: ``"n"`` the code 4, ``"error"`` a SequenceError.
    record
        Name of the sequence, for messages.

    Returns
    -------
    numpy.ndarray
        uint8, shape (L,), in 0…4.

    Raises
    ------
    SequenceError
        A letter is no nucleotide code, or is ambiguous where that is refused.
    """
    raw = _as_bytes(sequence, record)
    codes = np.frombuffer(bytearray(raw.translate(_CODE_TABLE)), dtype=np.uint8)
    if codes.size and codes.max() == _ILLEGAL:
        validate_dna(raw, record=record)
    if ambiguous == "error" and (codes == N_CODE).any():
        position = int(np.argmax(codes == N_CODE))
        where = f"sequence {record!r}" if record else "the sequence"
        raise SequenceError(
            f"{where} has the ambiguous letter {chr(raw[position])!r} at position {position + 1}, "
            "where only A, C, G, T and U are allowed",
            record=record,
            position=position,
            character=chr(raw[position]),
        )
    return codes


def bases(codes: npt.NDArray[np.uint8]) -> str:
    """Decode base codes, shape (L,), in 0…4, to upper-case letters ACGTN."""
    return codes.astype(np.uint8, copy=False).tobytes().translate(_LETTER_TABLE).decode("ascii")


def reverse_complement(sequence: str) -> str:
    """Return the other strand, read 5' to 3'; case and IUPAC codes are kept, U pairs with A.

    Letters that are no nucleotide codes stay as they are.
    """
    return sequence.encode("ascii").translate(_COMPLEMENT_TABLE)[::-1].decode("ascii")


def reverse_complement_codes(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the base codes, shape (L,), of the other strand, as a new array."""
    return COMPLEMENT_OF_CODE[codes[::-1]]
