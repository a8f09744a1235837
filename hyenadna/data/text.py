"""Plain text as bytes: memory-mapped files, what is held out of them, random windows to train on, tiles to evaluate on, and its words.

Every byte is a token id (`hyenadna.tokenizers.ByteTokenizer`), so there is nothing to prepare and nothing is lost: bits per byte, and the perplexity of words
that follows from them, are of the text as it is.

The one idea to know: a text that is evaluated begins with a line end that is only read. So its first byte is predicted like the others, and the total of a
text is over all of its bytes.
"""

from __future__ import annotations

import hashlib
import mmap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.data.synthetics.draws import Draws, row_keys
from hyenadna.errors import DataError, FileFormatError
from hyenadna.tokenizers import ByteTokenizer, TokenIds

__all__ = ["RandomTextWindows", "TextFile", "TextSpan", "TextSplits", "TextTiles", "count_words", "split_texts"]  # fmt: skip

_LINE_END = 10
_PAD = ByteTokenizer.pad_token_id
_CHUNK = 1 << 24


class TextFile:
    """A file of text, memory-mapped.

    Parameters
    ----------
    path
        Plain, not compressed. UTF-8 is expected, and no byte 0, which is the padding.

    Raises
    ------
    FileFormatError
        The file cannot be read, is empty, or holds a byte 0.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self._map: mmap.mmap | None = None
        try:
            content = self._open()
        except OSError as error:
            raise FileFormatError(f"cannot be read ({error.strerror})", path=self.path) from error
        except ValueError as error:  # mmap's word for nothing to map
            raise FileFormatError("is empty; a text is needed", path=self.path) from error
        place = content.find(b"\0")
        if place >= 0:
            raise FileFormatError(
                f"holds the byte 0 at position {place + 1:,}, which is the padding; plain text is needed, so decompress it first",
                path=self.path,
            )

    def _open(self) -> mmap.mmap:
        if self._map is None:
            with self.path.open("rb") as handle:
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map

    def __len__(self) -> int:
        """Return the number of bytes."""
        return len(self._open())

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes of a half-open range."""
        return self._open()[start:end]

    def behind(self, text: bytes, start: int) -> int:
        """Return the position behind the first occurrence of a text at or after `start`, −1 where there is none."""
        found = self._open().find(text, start)
        return found if found < 0 else found + len(text)

    def sha256(self) -> str:
        """Return the checksum of the content."""
        return hashlib.sha256(self._open()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file itself.
        return self.__dict__ | {"_map": None}


class TextSpan(NamedTuple):
    """A part of a file: bytes start…end − 1."""

    file: TextFile
    start: int
    end: int

    @property
    def n_bytes(self) -> int:
        """Its length."""
        return self.end - self.start


class TextSplits(NamedTuple):
    """What is trained on, and what is held out."""

    train: tuple[TextSpan, ...]
    validation: tuple[TextSpan, ...]
    test: tuple[TextSpan, ...]


def split_texts(
    train: Sequence[str], validation: Sequence[str] = (), test: Sequence[str] = (), *, held_out: float = 0.05
) -> TextSplits:  # fmt: skip
    """Open texts and part them by position.

    Parameters
    ----------
    train
        Files, one or more.
    validation, test
        Files of their own. A split that has none is cut off the end of each training file: its last share is the test, the share before it validation.
    held_out
        That share, between 0 and 0.5. A cut is moved on to the next empty line, so that no paragraph is on both sides, or to the next line
        where no empty one follows.

    Raises
    ------
    FileFormatError
        A file cannot be read.
    DataError
        No training file is given, a file is in two splits, or one is too short to be parted.
    """
    if not train:
        raise DataError("no text is given; set data.text.train=FILE, or a list of files")
    files = [[TextFile(path) for path in paths] for paths in (train, validation, test)]
    resolved = [file.path.resolve() for group in files for file in group]
    twice = next((path for path in resolved if resolved.count(path) > 1), None)
    if twice is not None:
        raise DataError(
            f"{twice} is given twice in data.text; each file belongs to one split, or it would be tested on what it was trained on"
        )
    whole = [tuple(TextSpan(file, 0, len(file)) for file in group) for group in files]
    kept: list[TextSpan] = []
    cut: dict[str, list[TextSpan]] = {"validation": [], "test": []}
    missing = [name for name, group in zip(cut, files[1:], strict=True) if not group]
    for span in whole[0]:
        end = span.end
        places = [_cut(span.file, 1 - held_out * (len(missing) - i)) for i in range(len(missing))]
        for name, first, last in zip(missing, places, [*places[1:], end], strict=True):
            cut[name].append(TextSpan(span.file, first, last))
        kept.append(TextSpan(span.file, 0, places[0] if places else end))
        if min(s.n_bytes for s in (kept[-1], *(parts[-1] for parts in cut.values() if parts))) < 1:
            raise DataError(
                f"{span.file.path} of {end:,} bytes is too short for data.text.held_out={held_out:g}, as cuts are made between paragraphs; "
                "give a longer text, or files with data.text.validation and data.text.test"
            )
    return TextSplits(tuple(kept), whole[1] or tuple(cut["validation"]), whole[2] or tuple(cut["test"]))  # fmt: skip


def _cut(file: TextFile, share: float) -> int:
    """Return the beginning of the first paragraph behind a share of a file, or of the first line; its end where there is none."""
    nominal = int(share * len(file))
    paragraph = file.behind(b"\n\n", nominal)
    if paragraph < 0:
        paragraph = file.behind(b"\n", nominal)
    return paragraph if paragraph >= 0 else len(file)


def count_words(spans: Sequence[TextSpan]) -> int:
    """Count words as published perplexities of words do: what stands between blanks, and each line end as one more.

    An empty line is one word. So WikiText-103's test file has 245,569 and its validation file 217,646, the numbers of tokens of arXiv 1609.07843, Table 1.
    """
    return sum(
        len(piece.decode("utf-8", errors="replace").split()) + piece.count(b"\n")
        for span in spans
        for piece in _lines(span)
    )


def _lines(span: TextSpan) -> Iterator[bytes]:
    """Yield a span in pieces of some megabytes, each of whole lines."""
    start = span.start
    while start < span.end:
        end = span.file.behind(b"\n", min(start + _CHUNK, span.end - 1))
        end = span.end if end < 0 else min(end, span.end)
        yield span.file.read(start, end)
        start = end


class RandomTextWindows:
    """Windows at random places of some texts; each is a pure function of seed, index and length.

    Every place at which a window fits into a span is equally likely.

    Parameters
    ----------
    spans
        Where windows lie.
    seed
        Of their places, ≥ 0.
    """

    def __init__(self, spans: Sequence[TextSpan], *, seed: int) -> None:
        self.spans = tuple(spans)
        self.seed = seed

    def starts(self, indices: Sequence[int], seq_len: int) -> list[tuple[TextSpan, int]]:
        """Return the span of each window and the position in its file at which it begins.

        Raises
        ------
        DataError
            No window of this length fits into any span.
        """
        ends = np.cumsum([max(0, span.n_bytes - seq_len + 1) for span in self.spans]).tolist()
        if not ends[-1]:
            longest = max(span.n_bytes for span in self.spans)
            raise DataError(
                f"no window of {seq_len:,} bytes fits into the training text, whose longest part has {longest:,}; choose a smaller data.seq_len"
            )
        keys = row_keys((self.seed, seq_len), np.asarray(indices))
        # Multiplied in Python, whose integers have as many bits as it takes.
        numbers = [(int(word) * ends[-1]) >> 64 for word in Draws(keys).words(1)[:, 0]]
        found = []
        for number in numbers:
            part = bisect_right(ends, number)
            span = self.spans[part]
            found.append((span, span.start + number - (ends[part - 1] if part else 0)))
        return found

    def batch(self, indices: Sequence[int], seq_len: int) -> TokenIds:
        """Return the bytes of several windows: uint8, shape (B, seq_len)."""
        ids = np.empty((len(indices), seq_len), dtype=np.uint8)
        for row, (span, start) in zip(ids, self.starts(indices, seq_len), strict=True):
            row[:] = np.frombuffer(span.file.read(start, start + seq_len), dtype=np.uint8)
        return ids


class TextTiles:
    """Overlapping windows over whole texts, in which each byte is scored once.

    Parameters
    ----------
    spans
        The texts; before each stands a line end that is only read.
    seq_len
        Length of a window, ≥ 2.
    context
        Bytes at the front of a window that are only read, but at the beginning of a text: 1…seq_len − 1.
    limit
        Largest number of windows: evenly spread ones are kept. None keeps all.

    Raises
    ------
    DataError
        There is no text.
    """

    def __init__(
        self, spans: Sequence[TextSpan], seq_len: int, *, context: int = 1, limit: int | None = None
    ) -> None:
        self.seq_len = seq_len
        self.context = context
        stride = seq_len - context
        # Position 0 is the line end: a tile at `first` reads bytes first − 1 … of its span.
        self._tiles = [
            (span, first) for span in spans for first in range(0, max(1, span.n_bytes + 1 - context), stride)
        ]  # fmt: skip
        if not self._tiles:
            raise DataError("there is no text to evaluate")
        if limit is not None and limit < len(self._tiles):
            # The middle of each of `limit` equal parts, so that neither end of the text is favoured.
            places = (2 * np.arange(limit) + 1) * len(self._tiles) // (2 * limit)
            self._tiles = [self._tiles[place] for place in places]

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._tiles)

    def rows(self, indices: Sequence[int]) -> tuple[TokenIds, npt.NDArray[np.int64]]:
        """Return windows, padded on the right, and where scoring begins in each.

        Returns
        -------
        tuple of numpy.ndarray
            Token ids, uint8, shape (B, seq_len); the place of the first scored byte, int64, shape (B,).
        """
        ids = np.full((len(indices), self.seq_len), _PAD, dtype=np.uint8)
        firsts = np.empty(len(indices), dtype=np.int64)
        for row, index in enumerate(indices):
            span, first = self._tiles[index]
            firsts[row] = self.context if first else 1
            ids[row, 0] = _LINE_END
            begin = max(first - 1, 0)
            end = min(first - 1 + self.seq_len, span.n_bytes)
            content = span.file.read(span.start + begin, span.start + end)
            at = 0 if first else 1
            ids[row, at : at + len(content)] = np.frombuffer(content, dtype=np.uint8)
        return ids, firsts
