"""What a run on plain text can be told beside what all pretraining shares (`hyenadna.training.config`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hyenadna.errors import ConfigError
from hyenadna.training.checks import require

__all__ = ["TextConfig"]


@dataclass(kw_only=True)
class TextConfig:
    """Files of plain text, each byte of which is a token (`hyenadna.data.text`); windows have data.seq_len bytes.

    Parameters
    ----------
    train
        A file, or a list of them, not compressed. The model's vocabulary is the 256 bytes.
    validation, test
        Files of these splits. Left out: the last share of each training file is test, and the share before it validation.
    held_out
        That share, between 0 and 0.5; cuts are made between paragraphs.
    context
        Bytes that a window of the test only reads before those it scores, 1 to data.seq_len − 1; None takes a quarter of data.seq_len.
    """

    train: Any = None
    validation: Any = None
    test: Any = None
    held_out: float = 0.05
    context: int | None = None

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            setattr(self, name, _files(f"data.text.{name}", getattr(self, name)))
        require("data.text.held_out", self.held_out, 0 < self.held_out < 0.5, "a share between 0 and 0.5 is needed")  # fmt: skip
        if self.context is not None:
            require("data.text.context", self.context, self.context >= 1, "at least 1 is needed")


def _files(name: str, value: Any) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str) and value:
        return [value]
    if isinstance(value, list | tuple) and all(isinstance(v, str) and v for v in value):
        return list(value)
    raise ConfigError(f"{name}={value!r} is impossible; a file, or a list of files, is needed")
