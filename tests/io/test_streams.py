"""Opening input: what is accepted, and what each kind of broken input is told."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import stat
import threading
from pathlib import Path

import pytest
from Bio import bgzf

from hyenadna.errors import FileFormatError
from hyenadna.io import compression, input_name, open_bytes, open_text, require_input

TEXT = b"".join(b"line %d\n" % i for i in range(20_000))


def bgzip(path: Path, data: bytes) -> Path:
    with bgzf.BgzfWriter(os.fspath(path), "wb") as out:
        out.write(data)
    return path


def pipe_into_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture(params=["none", "gzip", "bgzip"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    path = tmp_path / "input"  # no suffix: the content decides
    if request.param == "bgzip":
        bgzip(path, TEXT)
    else:
        path.write_bytes(gzip.compress(TEXT) if request.param == "gzip" else TEXT)
    return request.param, path


def test_compression_is_read_from_the_content(packed: tuple[str, Path]) -> None:
    kind, path = packed
    assert compression(path) == kind


def test_open_bytes_gives_the_same_bytes_however_compressed(packed: tuple[str, Path]) -> None:
    with open_bytes(packed[1]) as stream:
        assert stream.read() == TEXT


def test_standard_input_is_decompressed_and_left_open(
    packed: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    pipe_into_stdin(monkeypatch, packed[1].read_bytes())
    with open_bytes("-") as stream:
        assert stream.read() == TEXT
    assert not sys.stdin.closed
    assert not sys.stdin.buffer.closed


def test_standard_input_without_bytes_below_it_is_read_as_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\n"))
    with open_text("-") as text:
        assert list(text) == ["a\n", "b\n"]


def test_empty_or_absent_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe_into_stdin(monkeypatch, b"")
    with pytest.raises(FileFormatError, match=r"<stdin>: the file is empty"), open_text("-"):
        pass
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(FileFormatError, match="empty"), open_text("-"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(gzip.compress(b"a\n")))
    writer.start()
    with open_text(pipe) as text:
        assert text.read() == "a\n"
    writer.join()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte-order-mark"])
def test_open_text_makes_all_line_ends_one(tmp_path: Path, end: bytes, mark: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(mark + b"a" + end + end + b"b")
    with open_text(path) as text:
        assert list(text) == ["a\n", "\n", "b"]


def test_open_text_replaces_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin1"
    path.write_bytes("gène\n".encode("latin-1"))
    with open_text(path) as text:
        assert text.read() == "g\ufffdne\n"


def test_missing_input_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="there is no such file") as caught:
        require_input(tmp_path / "nothing.fa")
    assert caught.value.path == tmp_path / "nothing.fa"


def test_empty_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.fa"
    path.touch()
    with pytest.raises(FileFormatError, match=r"empty\.fa: the file is empty"):
        require_input(path)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="folder"):
        require_input(tmp_path)


def test_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(FileFormatError, match=r"cannot be read: Not a directory"):
        require_input(tmp_path / "a" / "b")


def test_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.fa"
    path.write_text(">a\nA\n")
    monkeypatch.setattr(os, "access", lambda *_: False)  # permission bits do not stop root
    with pytest.raises(FileFormatError, match="no permission"):
        require_input(path)


def test_file_that_fails_to_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.fa"
    path.write_text(">a\nA\n")

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(FileFormatError, match="cannot be read: Permission denied"):
        compression(path)
    monkeypatch.setattr("hyenadna.io.streams.compression", lambda _: "none")
    with (
        pytest.raises(FileFormatError, match="cannot be read: Permission denied"),
        open_bytes(path),
    ):
        pass


def test_disk_error_while_reading_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() >= 18:
                raise OSError(5, "Input/output error")
            return super().read(size)

    class Stdin:
        buffer = Broken(TEXT)

    monkeypatch.setattr("sys.stdin", Stdin)
    with (
        pytest.raises(FileFormatError, match="cannot be read: Input/output error"),
        open_bytes("-") as stream,
    ):
        stream.read()


@pytest.mark.parametrize("keep", [5, 30, 2000, -9, -1])
def test_truncated_gzip_is_refused(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(TEXT)[:keep])
    with pytest.raises(FileFormatError, match="truncated"), open_bytes(path) as stream:
        stream.read()


@pytest.mark.parametrize("keep", [-1, -28, -29, -300, 40])
def test_truncated_bgzip_is_refused_on_opening(tmp_path: Path, keep: int) -> None:
    path = bgzip(tmp_path / "cut.bgz", TEXT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="truncated"), open_bytes(path):
        pass


def test_bgzip_cut_between_blocks_is_refused_from_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bgzip(tmp_path / "whole.bgz", TEXT).read_bytes()
    pipe_into_stdin(monkeypatch, data[:-28])  # gzip alone sees nothing wrong here
    assert gzip.decompress(data[:-28]) == TEXT
    with pytest.raises(FileFormatError, match="end-of-file block"), open_bytes("-") as stream:
        stream.read()


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(TEXT))
    data[-6] ^= 0xFF  # the checksum
    path = tmp_path / "damaged.gz"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged"), open_bytes(path) as stream:
        stream.read()
    path.write_bytes(gzip.compress(TEXT)[:10] + b"\xff" * 100)
    with pytest.raises(FileFormatError, match="damaged"), open_bytes(path) as stream:
        stream.read()


def test_text_after_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tail.gz"
    path.write_bytes(gzip.compress(b"a\n") + b"b\n")
    with pytest.raises(FileFormatError, match="damaged"), open_bytes(path) as stream:
        stream.read()


@pytest.mark.parametrize(
    ("data", "name"), [(bz2.compress(b"a"), "bzip2"), (b"PK\x03\x04rest", "zip")]
)
def test_foreign_compression_is_named(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=f"compressed with {name}"), open_text(path):
        pass


@pytest.mark.parametrize("data", [b"\x89PNG\0\0\0", "a\tb\n".encode("utf-16")])
def test_binary_content_is_refused_as_text(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "binary"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="binary"), open_text(path):
        pass


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("x\n")
    with open_text("~/a.txt") as text:
        assert text.read() == "x\n"


def test_files_are_closed_when_the_block_fails(packed: tuple[str, Path]) -> None:
    with pytest.raises(KeyError), open_text(packed[1]) as text:
        raise KeyError
    assert text.closed


def test_input_name_calls_standard_input_by_name() -> None:
    assert input_name("-") == "<stdin>"
    assert input_name(Path("a") / "b") == os.path.join("a", "b")


def test_reading_never_changes_the_input(packed: tuple[str, Path]) -> None:
    _, path = packed
    path.chmod(stat.S_IRUSR)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with open_text(path) as text:
        text.read()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [file.name for file in path.parent.iterdir()] == ["input"]
