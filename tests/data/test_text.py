"""Text as bytes: cut between paragraphs, drawn as a pure function of seed and index, and every byte scored once."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from hyenadna.data.text import (
    RandomTextWindows,
    TextFile,
    TextSpan,
    TextTiles,
    count_words,
    split_texts,
)
from hyenadna.errors import DataError, FileFormatError

PARAGRAPHS = [f"Paragraph {i} says\nthat é = {i * i}.\n\n" for i in range(200)]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("".join(PARAGRAPHS), encoding="utf-8")
    return path


def content(span: TextSpan) -> str:
    return span.file.read(span.start, span.end).decode()


def test_held_out_parts_are_whole_paragraphs_of_the_end_and_nothing_is_lost(book: Path) -> None:
    splits = split_texts([str(book)], held_out=0.1)
    parts = [content(span) for (span,) in splits]
    assert "".join(parts) == "".join(PARAGRAPHS)
    assert all(part.endswith("\n\n") and part.startswith("Paragraph") for part in parts)
    assert [len(p) / len("".join(PARAGRAPHS)) for p in parts] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)  # fmt: skip


def test_each_file_gives_its_share_and_files_of_their_own_are_taken_whole(
    tmp_path: Path, book: Path
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("one line\n" * 100)
    splits = split_texts([str(book), str(other)], test=[])
    assert [len(part) for part in splits] == [2, 2, 2]
    assert all(content(part[1]).startswith("one line") for part in splits)
    splits = split_texts([str(book)], validation=[str(other)])
    assert content(splits.validation[0]) == "one line\n" * 100
    assert content(splits.train[0]) + content(splits.test[0]) == "".join(PARAGRAPHS)
    assert len(splits.test[0].file.read(*splits.test[0][1:])) < 0.06 * len("".join(PARAGRAPHS))


def test_words_are_what_stands_between_blanks_and_every_line_end(tmp_path: Path) -> None:
    # 3 lines as WikiText has them: a heading, an empty line, a paragraph with a no-break space.
    path = tmp_path / "wiki.txt"
    path.write_text(" \n = Robert Boulter = \n \n It is 5\u00a0km @-@ long . \n no end", "utf-8")
    file = TextFile(path)
    words = [
        4,
        7,
        2,
    ]  # with the no-break space, which parts words in Python and so in published counts
    assert count_words([TextSpan(file, 0, len(file))]) == sum(words) + 4
    assert count_words([TextSpan(file, 0, 2)]) == 1
    assert count_words([]) == 0


def test_words_of_a_long_text_do_not_depend_on_how_it_is_read(book: Path, monkeypatch) -> None:
    file = TextFile(book)
    span = TextSpan(file, 0, len(file))
    expected = sum(len(p.split()) + p.count("\n") for p in PARAGRAPHS)
    assert count_words([span]) == expected
    monkeypatch.setattr("hyenadna.data.text._CHUNK", 50)
    assert count_words([span]) == expected


def test_a_window_depends_on_seed_index_and_length_alone(book: Path) -> None:
    file = TextFile(book)
    spans = [TextSpan(file, 0, 300), TextSpan(file, 1000, 1200), TextSpan(file, 2000, 2010)]
    windows = RandomTextWindows(spans, seed=3)
    together = windows.batch(range(40), 32)
    again = RandomTextWindows(spans, seed=3)
    assert (again.batch([17], 32)[0] == together[17]).all()
    assert not (RandomTextWindows(spans, seed=4).batch(range(40), 32) == together).all()
    for row, (span, start) in zip(together, windows.starts(range(40), 32), strict=True):
        assert span.start <= start <= span.end - 32
        assert row.tobytes() == file.read(start, start + 32)
    # Every start is equally likely, 269 in the first span and 169 in the second; the third is too short.
    chosen = [spans.index(span) for span, _ in windows.starts(range(20_000), 32)]
    assert np.bincount(chosen, minlength=3).tolist() == pytest.approx([12283, 7717, 0], abs=250)
    with pytest.raises(DataError, match="longest part has 300"):
        windows.batch([0], 301)


@pytest.mark.parametrize("context", [1, 5, 16])
def test_tiles_score_every_byte_once_the_first_one_too(book: Path, context: int) -> None:
    file = TextFile(book)
    spans = [TextSpan(file, 0, 100), TextSpan(file, 100, 101), TextSpan(file, 500, 520)]
    tiles = TextTiles(spans, 17, context=context)
    ids, firsts = tiles.rows(range(len(tiles)))
    scored = b"".join(bytes(row[first:]) for row, first in zip(ids, firsts, strict=True))
    expected = file.read(0, 100) + file.read(100, 101) + file.read(500, 520)
    assert scored.replace(b"\0", b"") == expected
    assert ids[0, 0] == ord("\n")
    # What is only read is what stands before.
    flat = b"\n" + file.read(0, 100)
    for number in range(1, 5):
        at = number * (17 - context)
        assert bytes(ids[number]) == flat[at : at + 17]


def test_a_limit_keeps_evenly_spread_tiles(book: Path) -> None:
    file = TextFile(book)
    spans = [TextSpan(file, 0, len(file))]
    every = TextTiles(spans, 65)
    some = TextTiles(spans, 65, limit=3)
    n = len(every)
    assert len(some) == 3
    for kept, place in zip(range(3), (n // 6, n // 2, 5 * n // 6), strict=True):
        assert (some.rows([kept])[0] == every.rows([place])[0]).all()


def test_a_worker_process_maps_the_file_itself(book: Path) -> None:
    file = TextFile(book)
    packed = pickle.dumps(file)
    assert len(packed) < 1000
    assert pickle.loads(packed).read(0, 9) == b"Paragraph"


def test_files_that_are_no_text_are_refused(tmp_path: Path, book: Path) -> None:
    (tmp_path / "binary").write_bytes(b"ab\0c")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_text("no line end")
    for name, message in (("binary", "byte 0 at position 3"), ("empty", "is empty"), ("missing", "cannot be read")):  # fmt: skip
        with pytest.raises(FileFormatError, match=message):
            split_texts([str(tmp_path / name)])
    with pytest.raises(DataError, match="too short"):
        split_texts([str(tmp_path / "short")])
    with pytest.raises(DataError, match="given twice"):
        split_texts([str(book)], test=[str(tmp_path / "." / "book.txt")])
    with pytest.raises(DataError, match=r"data\.text\.train=FILE"):
        split_texts([])
