"""One file from a web server that cuts connections, lies about lengths and serves wrong bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyenadna.data import download as module
from hyenadna.data.download import ATTEMPTS, Received, download
from hyenadna.data.manifest import RemoteFile
from hyenadna.errors import DownloadError, OutputError

BODY = random.Random(1).randbytes(50_000)
OTHER = random.Random(2).randbytes(50_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


def a_file(*urls: str, sha256: str = SHA256, **more: Any) -> RemoteFile:
    return RemoteFile("x.bin", urls, sha256, **({"md5": "", "size": None, "unpack": ""} | more))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "x.bin"


@pytest.fixture
def waits() -> list[float]:
    return []


def left(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()}


def check_whole(received: Received, target: Path, body: bytes = BODY) -> None:
    assert received.part.read_bytes() == body
    assert received.sha256 == hashlib.sha256(body).hexdigest()
    received.rename_to(target)
    assert left(target) == {"x.bin"}


def test_a_file_arrives_and_is_verified(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY)
    told: list[tuple[int, int | None]] = []
    received = download(
        a_file(f"{web.url}/x"), target, progress=lambda *t: told.append(t), sleep=waits.append
    )
    assert received.verified
    assert received.source == f"{web.url}/x"
    assert told[0] == (0, 50_000)
    assert told[-1] == (50_000, 50_000)
    assert not target.exists()  # the caller gives it its name
    check_whole(received, target)
    assert waits == []
    assert web.asked("Accept-Encoding") == ["identity"]


@pytest.mark.parametrize("sha256", [SHA256, ""], ids=["published", "unknown"])
def test_cut_connections_are_continued(web, target: Path, waits: list[float], sha256: str) -> None:
    web.serve("/x", BODY, cuts=[1000, 20_000, 1, 5000])
    received = download(a_file(f"{web.url}/x", sha256=sha256), target, sleep=waits.append)
    assert received.verified is bool(sha256)
    check_whole(received, target)
    ranges = ["bytes=1000-", "bytes=21000-", "bytes=21001-", "bytes=26001-"]
    assert web.asked("Range") == [None, *ranges]
    assert web.asked("If-Range") == [None, *['"v1"'] * 4]
    assert waits == [1.0] * 4  # each attempt brought something new


def test_a_server_without_ranges_starts_again(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY, ranges=False, cuts=[20_000, 30_000])
    check_whole(download(a_file(f"{web.url}/x"), target, sleep=waits.append), target)


def test_attempts_that_bring_nothing_new_are_counted(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY, ranges=False, cuts=[20_000] * 99)
    with pytest.raises(DownloadError, match=r"cut after 20,000 of 50,000 bytes .*proxy.*--mirror"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    assert len(web.seen) == ATTEMPTS + 1  # the first brought something
    assert waits == [1.0, 1.0, 2.0, 4.0, 8.0][:ATTEMPTS]
    assert left(target) == {"x.bin.part", "x.bin.part.json"}


@pytest.mark.parametrize("sha256", [hashlib.sha256(OTHER).hexdigest(), ""])
def test_a_file_that_changes_in_between_is_not_mixed(
    web, target: Path, waits: list[float], sha256: str
) -> None:
    def change(page) -> None:
        if len(web.seen) == 2:
            page.body, page.etag = OTHER, '"v2"'

    web.serve("/x", BODY, cuts=[20_000, 10_000], before=change)
    received = download(a_file(f"{web.url}/x", sha256=sha256), target, sleep=waits.append)
    check_whole(received, target, OTHER)
    assert web.asked("If-Range") == [None, '"v1"', '"v2"']


def test_without_the_version_check_it_would_be_mixed(web, target: Path, waits: list[float]) -> None:
    """The control: a server that keeps its ETag although the file changed can fool everything but a checksum."""

    def change(page) -> None:
        page.body = OTHER if len(web.seen) == 2 else BODY

    web.serve("/x", BODY, cuts=[20_000], before=change)
    received = download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append)
    assert received.part.read_bytes() == BODY[:20_000] + OTHER[20_000:]
    received.discard()
    web.seen.clear()
    web.pages["/x"].cuts = [20_000]
    with pytest.raises(DownloadError, match="other bytes than were published"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    assert left(target) == set()


def test_what_cannot_be_told_apart_is_not_continued(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY, etag="", cuts=[20_000])
    check_whole(download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append), target)
    web.serve("/x", BODY, etag='W/"v1"', cuts=[20_000])
    check_whole(download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append), target)
    assert web.asked("If-Range") == [None] * 4


def test_last_modified_will_do(web, target: Path, waits: list[float]) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    web.serve("/x", BODY, etag=date, headers={"Last-Modified": date}, cuts=[20_000])
    check_whole(download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append), target)
    assert web.asked("If-Range") == [None, date]


def test_a_length_that_is_too_long_is_a_cut(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY, length=60_000)
    with pytest.raises(DownloadError, match=r"50,000 of 60,000|no such range"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)


def test_a_length_that_is_too_short_gives_wrong_bytes(
    web, target: Path, waits: list[float]
) -> None:
    web.serve("/x", BODY, length=40_000)
    with pytest.raises(DownloadError, match="other bytes than were published"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    with pytest.raises(DownloadError, match=r"offers 40,000 bytes, expected 50,000"):
        download(a_file(f"{web.url}/x", sha256="", size=50_000), target, sleep=waits.append)
    assert left(target) == set()


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_wrong_bytes_are_kept_out(web, target: Path, waits: list[float], kind: str) -> None:
    web.serve("/x", OTHER)
    sums = {"sha256": SHA256} if kind == "sha256" else {"sha256": "", "md5": MD5}
    with pytest.raises(DownloadError) as error:
        download(a_file(f"{web.url}/x", **sums), target, sleep=waits.append)
    message = str(error.value)
    for words in (f"{web.url}/x", "--mirror", hashlib.sha256(OTHER).hexdigest(), *sums.values()):
        assert words in message
    assert left(target) == set()
    assert len(web.seen) == 1


def test_a_published_md5_verifies(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY)
    received = download(a_file(f"{web.url}/x", sha256="", md5=MD5), target, sleep=waits.append)
    assert received.verified
    check_whole(received, target)


def test_the_next_url_is_tried(web, target: Path, waits: list[float]) -> None:
    web.serve("/wrong", OTHER)
    web.serve("/good", BODY)
    file = a_file(f"{web.url}/gone", f"{web.url}/wrong", f"{web.url}/good")
    received = download(file, target, sleep=waits.append)
    assert received.source == f"{web.url}/good"
    check_whole(received, target)
    with pytest.raises(
        DownloadError, match=r"/gone cannot be fetched: .*404.*; and .*/wrong holds"
    ):
        download(file._replace(urls=file.urls[:2]), target, sleep=waits.append)


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (500, 5), (503, 5), (429, 5)])
def test_only_what_may_pass_is_tried_again(
    web, target: Path, waits: list[float], status: int, requests: int
) -> None:
    web.serve("/x", BODY, statuses=[status] * 99)
    with pytest.raises(DownloadError, match=f"the server answers {status}"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    assert len(web.seen) == requests
    assert waits == [1.0, 2.0, 4.0, 8.0][: requests - 1]


def test_a_busy_server_says_how_long(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY, statuses=[500, 503], headers={"Retry-After": "7"})
    check_whole(download(a_file(f"{web.url}/x"), target, sleep=waits.append), target)
    assert waits == [7.0, 7.0]


def test_redirects_are_followed_with_the_range(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", b"", location=f"{web.url}/y")
    web.serve("/y", BODY, cuts=[20_000])
    check_whole(download(a_file(f"{web.url}/x"), target, sleep=waits.append), target)
    assert web.asked("Range")[-1] == "bytes=20000-"


def test_no_server_is_said(target: Path, waits: list[float], web) -> None:
    web.server_close()
    with pytest.raises(DownloadError, match=r"cannot be fetched: .*refused"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    assert left(target) == set()


def test_the_proxy_variables_are_honoured(
    web, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve("http://data.invalid/x", BODY)
    file = a_file("http://data.invalid/x")
    monkeypatch.setenv("http_proxy", web.url)
    check_whole(download(file, target, sleep=waits.append), target)
    assert web.asked("Host") == ["data.invalid"]
    monkeypatch.setenv("no_proxy", "data.invalid")
    with pytest.raises(DownloadError):
        download(file, target, sleep=waits.append)


def test_a_login_page_is_no_file(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", b"<html>log in</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    with pytest.raises(DownloadError, match="web page"):
        download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append)
    assert left(target) == set()


def test_space_is_looked_for_first(
    web, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve("/x", BODY)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=49_999))
    with pytest.raises(OutputError, match=r"49,999 bytes free, but 50,000 are needed.*--output"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)


def test_a_full_disk_is_no_network_error(
    web, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    web.serve("/x", BODY)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space is left"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    assert waits == []


@pytest.mark.parametrize("sha256", [SHA256, ""], ids=["published", "unknown"])
def test_an_interrupted_download_is_continued_by_the_next(
    web, target: Path, waits: list[float], sha256: str
) -> None:
    file = a_file(f"{web.url}/x", sha256=sha256)
    web.serve("/x", BODY, cuts=[30_000])

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(file, target, sleep=interrupt)
    assert left(target) == {"x.bin.part", "x.bin.part.json"}
    assert (target.parent / "x.bin.part").stat().st_size == 30_000
    check_whole(download(file, target, sleep=waits.append), target)
    assert web.asked("Range") == [None, "bytes=30000-"]


def test_a_killed_download_is_continued_by_the_next(web, target: Path, waits: list[float]) -> None:
    stalled = threading.Event()

    def stall(page) -> None:
        if len(web.seen) == 2:  # the killed process asks again after its connection was cut
            stalled.wait(20)

    web.serve("/x", BODY, cuts=[30_000], before=stall)
    code = (
        "import sys; from pathlib import Path; from hyenadna.data.download import download;"
        "from hyenadna.data.manifest import RemoteFile;"
        "download(RemoteFile('x.bin', (sys.argv[1],), '', '', None, ''), Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, f"{web.url}/x", str(target)])
    deadline = time.monotonic() + 20
    while len(web.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stalled.set()
    assert left(target) == {"x.bin.part", "x.bin.part.json"}
    web.seen.clear()
    check_whole(download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append), target)
    assert web.asked("Range") == ["bytes=30000-"]
    assert web.asked("If-Range") == ['"v1"']


def test_an_old_part_that_is_wrong_is_fetched_anew(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY)
    (target.parent / "x.bin.part").write_bytes(OTHER[:30_000])
    check_whole(download(a_file(f"{web.url}/x"), target, sleep=waits.append), target)
    assert web.asked("Range") == ["bytes=30000-", None]
    # Once is enough: a server that is wrong itself is not asked for ever.
    target.unlink()
    web.serve("/x", OTHER, etag='"v3"')
    web.seen.clear()
    (target.parent / "x.bin.part").write_bytes(OTHER[:30_000])
    with pytest.raises(DownloadError, match="other bytes"):
        download(a_file(f"{web.url}/x"), target, sleep=waits.append)
    assert len(web.seen) == 2
    assert left(target) == set()
    # Without a checksum nothing says whose part that is, so it is not used at all.
    web.serve("/x", BODY)
    web.seen.clear()
    (target.parent / "x.bin.part").write_bytes(OTHER[:30_000])
    check_whole(download(a_file(f"{web.url}/x", sha256=""), target, sleep=waits.append), target)
    assert web.asked("Range") == [None]


def test_a_part_that_is_too_long_is_fetched_anew(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY)
    (target.parent / "x.bin.part").write_bytes(BODY + b"more")
    check_whole(download(a_file(f"{web.url}/x"), target, sleep=waits.append), target)
    assert web.asked("Range") == ["bytes=50004-", None]


def test_a_whole_part_is_not_fetched_again(web, target: Path, waits: list[float]) -> None:
    web.serve("/x", BODY)
    file = a_file(f"{web.url}/x", sha256="")
    download(file, target, sleep=waits.append)  # and killed before it was renamed
    check_whole(download(file, target, sleep=waits.append), target)
    assert len(web.seen) == 1


def test_a_copy_on_disk_goes_first(web, target: Path, tmp_path: Path, waits: list[float]) -> None:
    local = tmp_path / "mirror/x.bin"
    local.parent.mkdir()
    local.write_bytes(BODY)
    received = download(a_file(f"{web.url}/x"), target, local=local, sleep=waits.append)
    assert received.source == str(local)
    assert received.verified
    received.rename_to(target)
    assert (target.read_bytes(), local.read_bytes(), web.seen) == (BODY, BODY, [])
    local.write_bytes(OTHER)
    with pytest.raises(
        DownloadError, match=r"mirror/x\.bin holds other bytes .*leave out --mirror"
    ):
        download(a_file(f"{web.url}/x"), target, local=local, sleep=waits.append)
    local.unlink()
    web.serve("/x", BODY)
    received = download(a_file(f"{web.url}/x"), target, local=local, sleep=waits.append)
    assert received.source == f"{web.url}/x"


def test_a_connection_that_falls_silent_is_cut(
    web, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    silence = threading.Event()

    def fall_silent(page) -> None:
        if len(web.seen) == 1:
            silence.wait(5)

    web.serve("/x", BODY, before=fall_silent)
    check_whole(download(a_file(f"{web.url}/x"), target, sleep=waits.append), target)
    silence.set()
    assert waits == [1.0]
