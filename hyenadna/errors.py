"""Every error that a user of hyenadna can cause, in one family.

A message is one sentence that says what is wrong, where, what was found, what was expected and what to do. The command
line prints it after ``error:`` and exits with status 2; nothing else in the package catches these errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike


class HyenaDNAError(Exception):
    """Base of all errors that describe a problem with the user's input, files or settings."""


class SequenceError(HyenaDNAError, ValueError):
    """A sequence holds a letter that is no nucleotide code.

    Parameters
    ----------
    message
        The sentence.
    record
        Name of the sequence, empty where it has none.
    position
        0-based position of the letter, or None where the error is about the whole sequence.
    character
        The letter found.
    """

    def __init__(
        self, message: str, *, record: str = "", position: int | None = None, character: str = ""
    ) -> None:
        super().__init__(message)
        self.record = record
        self.position = position
        self.character = character


class SequenceLengthError(SequenceError):
    """A sequence is empty, or longer than the model can read."""


class IntervalError(HyenaDNAError, ValueError):
    """A region or variant is malformed, names an unknown contig, or leaves its contig."""


class FileFormatError(HyenaDNAError, ValueError):
    """A file is missing, cannot be read, or breaks the rules of its format.

    The place is put in front of the message: ``path:line: message``.
    """

    def __init__(
        self, message: str, *, path: str | PathLike[str] | None = None, line: int | None = None
    ) -> None:
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message)
        self.path = path
        self.line = line


class DataError(HyenaDNAError, ValueError):
    """A well-formed input cannot serve: no window without N, overlapping splits, one class only."""


class ConfigError(HyenaDNAError, ValueError):
    """A setting has an unknown name, a wrong type or an impossible value."""


class OutputError(HyenaDNAError, OSError):
    """An output exists already, or cannot be written."""


class DownloadError(HyenaDNAError, OSError):
    """A file cannot be fetched, or is not the one that was published."""


class CheckpointError(HyenaDNAError, ValueError):
    """Weights do not fit the model, or a model folder is incomplete.

    Parameters
    ----------
    message
        The sentence; the keys are appended to it.
    missing, unexpected
        Parameter names that the model needs and the file lacks, and the other way round.
    """

    def __init__(
        self, message: str, *, missing: Iterable[str] = (), unexpected: Iterable[str] = ()
    ) -> None:
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        if self.missing:
            message += f"; missing keys: {', '.join(self.missing)}"
        if self.unexpected:
            message += f"; unexpected keys: {', '.join(self.unexpected)}"
        super().__init__(message)


class BackendUnavailableError(HyenaDNAError, RuntimeError):
    """A compute backend or an optional package was asked for that is not usable here."""
