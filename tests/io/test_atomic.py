"""Output: whole or not at all, nothing overwritten unasked, and one sentence where the disk is full."""

from __future__ import annotations

import errno
import gzip
import io
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hyenadna.errors import DataError, OutputError
from hyenadna.io import atomic_path, check_output, open_output, output_errors
from hyenadna.io.atomic import remove_leftovers


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_then(target: Path, event: Callable[[Path], object], *, force: bool = False) -> None:
    """Write a file and let something happen before the block ends."""
    with atomic_path(target, force=force) as temporary:
        temporary.write_text("half")
        event(temporary)


def fail(error: BaseException) -> Callable[[Path], None]:
    def event(_: Path) -> None:
        raise error

    return event


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "out.tsv.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.endswith("out.tsv.gz")
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(tmp_path) == ["out.tsv.gz"]


def test_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with atomic_path(tmp_path / "out") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, DataError])
@pytest.mark.parametrize("folder", [False, True])
def test_failure_leaves_nothing(tmp_path: Path, error: type[BaseException], folder: bool) -> None:
    def event(temporary: Path) -> None:
        if folder:
            temporary.unlink()
            temporary.mkdir()
            (temporary / "half").write_text("x")
        raise error("stop")

    with pytest.raises(error, match="stop"):
        write_then(tmp_path / "out", event)
    assert names(tmp_path) == []


def test_failure_keeps_the_old_output(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(KeyError):
        write_then(target, fail(KeyError()), force=True)
    assert target.read_text() == "old"


def test_existing_output_needs_force(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    with pytest.raises(OutputError, match="exists already.*--force"), atomic_path(target):
        pytest.fail("the block must not run")
    with atomic_path(target, force=True) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_output_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="appeared"):
        write_then(target, lambda _: target.write_text("theirs"))
    assert target.read_text() == "theirs"
    assert names(tmp_path) == ["out"]


def test_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="was not written"), atomic_path(tmp_path / "out"):
        pass


def test_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "model") as temporary:
        (temporary / "sub").mkdir(parents=True)
        (temporary / "sub" / "weights").write_text("w")
        assert not (tmp_path / "model").exists()
    assert (tmp_path / "model" / "sub" / "weights").read_text() == "w"
    assert names(tmp_path) == ["model"]


def test_empty_folder_is_filled_without_force(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("a")
    assert names(tmp_path / "model") == ["a"]


def test_folder_with_content_needs_force_and_keeps_what_is_not_ours(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "notes.txt").write_text("mine")
    (model / "sub" / "a").write_text("old")
    with pytest.raises(OutputError, match="not empty.*--force"), atomic_path(model):
        pass
    with atomic_path(model, force=True) as temporary:
        (temporary / "sub").mkdir(parents=True)
        (temporary / "sub" / "a").write_text("new")
    assert (model / "notes.txt").read_text() == "mine"
    assert (model / "sub" / "a").read_text() == "new"
    assert names(tmp_path) == ["model"]


def test_file_in_the_way_of_a_folder_stops_before_anything_is_moved(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "b").write_text("a file")

    def event(temporary: Path) -> None:
        temporary.unlink()
        (temporary / "b").mkdir(parents=True)
        (temporary / "a").write_text("new")

    with pytest.raises(OutputError, match="in the way"):
        write_then(model, event, force=True)
    assert names(model) == ["b"]


@pytest.mark.parametrize("early", [True, False])
def test_file_never_replaces_a_folder_nor_a_folder_a_file(tmp_path: Path, early: bool) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("mine")
    with (
        pytest.raises(OutputError, match="is a folder, but a file"),
        atomic_path(folder, force=True, folder=False if early else None) as temporary,
    ):
        temporary.write_text("x")
    with (
        pytest.raises(OutputError, match="is a file, but a folder"),
        atomic_path(file, force=True, folder=True if early else None) as temporary,
    ):
        temporary.mkdir()
    assert file.read_text() == "mine"
    assert folder.is_dir()


def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real" / "out")
    with atomic_path(link) as temporary:
        temporary.write_text("x")
    assert link.is_symlink()
    assert (tmp_path / "real" / "out").read_text() == "x"


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OutputError):
        check_output(tmp_path / "a")


def test_longest_name_can_be_written(tmp_path: Path) -> None:
    for name in ("n" * 255, "é" * 127):
        with atomic_path(tmp_path / name) as temporary:
            temporary.write_text("x")
        assert (tmp_path / name).exists()


def test_too_long_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        check_output(tmp_path / ("n" * 300))


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; create it first"):
        check_output(tmp_path / "missing" / "out")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        check_output(tmp_path / "file" / "out")


def test_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "touch", refuse)  # root ignores permission bits
    with pytest.raises(OutputError, match="Read-only file system"):
        check_output(tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder where nobody can write")
def test_folder_of_the_system_is_refused() -> None:
    with pytest.raises(OutputError, match="no file can be created"):
        check_output("/proc/self/out")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to step down"
)
def test_read_only_folder_is_refused_for_an_ordinary_user(tmp_path: Path) -> None:
    """Another user in a child process, since permission bits do not stop root."""
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.setuid(65534)
        try:
            check_output(folder / "out")
        except OutputError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_check_leaves_no_trace_and_returns_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_output("~/out") == tmp_path / "out"
    assert names(tmp_path) == []
    assert check_output("-") == Path("-")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space is left on the device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EFBIG, "File too large"), "exceed the size limit"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space is left"),
        (Exception("Disk quota exceeded (os error 122)"), "the disk quota is used up"),
    ],
)
def test_full_disk_is_one_sentence(tmp_path: Path, error: Exception, reason: str) -> None:
    target = tmp_path / "out"
    with pytest.raises(OutputError, match=reason) as caught:
        write_then(target, fail(error))
    assert str(target) in str(caught.value)
    assert ".partial" not in str(caught.value)
    assert names(tmp_path) == []


def test_full_disk_is_found_below_another_error(tmp_path: Path) -> None:
    error = ValueError("could not serialise")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OutputError, match="no space"):
        write_then(tmp_path / "out", fail(error))


@pytest.mark.parametrize(
    "message",
    [
        "PytorchStreamWriter failed writing file data/0: file write failed",
        "[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598",
    ],
)
def test_unexplained_failure_of_torch_on_a_full_disk_is_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    with pytest.raises(RuntimeError, match="[Pp]"):
        write_then(tmp_path / "out", fail(RuntimeError(message)))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0}))
    with pytest.raises(OutputError, match="no space"):
        write_then(tmp_path / "out", fail(RuntimeError(message)))
    with pytest.raises(RuntimeError, match="unrelated"):
        write_then(tmp_path / "out", fail(RuntimeError("unrelated")))


def test_errors_about_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_then(tmp_path / "out", lambda _: (tmp_path / "other input").read_text())


def test_errors_about_the_temporary_file_name_the_output(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="No such file") as caught,
        atomic_path(tmp_path / "out") as t,
    ):
        (t / "below").write_text("the folder was not made")
    assert str(caught.value).startswith(f"output {tmp_path / 'out'} cannot be written")


def test_output_errors_serves_files_that_grow_in_place(tmp_path: Path) -> None:
    log = tmp_path / "metrics.csv"
    with pytest.raises(OutputError, match="no space"), output_errors(log):
        raise OSError(errno.ENOSPC, "No space left on device")
    with output_errors(log):
        log.write_text("step\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_device_that_is_full() -> None:
    with (
        pytest.raises(OutputError, match="/dev/full cannot be written: no space is left"),
        open_output("/dev/full") as out,
    ):
        out.write("x" * 100_000)
    with pytest.raises(OutputError, match="no space is left"), open_output("/dev/full") as out:
        out.write("x")  # fails only on closing


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file-size limit")
def test_real_size_limit_leaves_nothing(tmp_path: Path) -> None:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, old[1]))
    try:
        with (
            pytest.raises(OutputError, match="size limit"),
            open_output(tmp_path / "out.txt") as out,
        ):
            out.write("x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="needs /dev/null")
def test_device_is_written_and_not_replaced() -> None:
    with open_output("/dev/null") as out:
        out.write("gone")
    assert not Path("/dev/null").is_file()


def test_pipe_is_written_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    with open_output(pipe) as out:
        out.write("through")
    reader.join()
    assert got == ["through"]


def test_descriptor_of_the_caller_is_written() -> None:
    code = "from hyenadna.io import open_output\nwith open_output('/dev/stdout') as o: o.write('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "x"


def test_text_output_has_plain_line_ends_and_utf8(tmp_path: Path) -> None:
    with open_output(tmp_path / "out.tsv") as out:
        out.write("é\n")
    assert (tmp_path / "out.tsv").read_bytes() == b"\xc3\xa9\n"


def test_gzip_output_is_the_same_bytes_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for now in (1.0, 1e9):
        monkeypatch.setattr("time.time", lambda now=now: now)
        with open_output(tmp_path / "out.gz", force=True) as out:
            out.write("text\n" * 100)
        written.append((tmp_path / "out.gz").read_bytes())
    assert written[0] == written[1]
    assert gzip.decompress(written[0]) == b"text\n" * 100


def test_standard_output_is_flushed_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw))
    with open_output("-") as out:
        out.write("x")
    assert raw.getvalue() == b"x"
    assert not sys.stdout.closed
    with pytest.raises(ValueError, match="standard output"), atomic_path("-"):
        pass


def test_leftovers_of_one_output_are_removed(tmp_path: Path) -> None:
    ours, other, own = (tmp_path / n for n in (".partial-0123abcd-a[1].tsv", ".partial-0123abcd-ba[1].tsv", "a[1].tsv"))  # fmt: skip
    for path in (ours, other, own):
        path.write_text("x")
    remove_leftovers(tmp_path / "a[1].tsv")
    assert sorted(tmp_path.iterdir()) == sorted([other, own])
