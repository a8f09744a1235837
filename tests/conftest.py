"""Fixtures that every room shares."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave GPU tests out where there is no CUDA device."""
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of real data, described in its own README."""
    value = os.environ.get("HYENADNA_TEST_DATA")
    if not value:
        pytest.skip("HYENADNA_TEST_DATA is not set: tests on the real data are left out")
    folder = Path(value) if Path(value).is_absolute() else ROOT / value
    if not folder.is_dir():
        pytest.fail(f"HYENADNA_TEST_DATA={value} is no folder")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's cache and off the network."""
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def toy_fasta(tmp_path: Path) -> Path:
    """Two small contigs with soft-masked and N bases, 60 letters a line."""
    first = ("ACGTTGCAAC" * 50)[:480] + "N" * 20 + "acgtacgtaa" * 10
    second = "GGCATTTACG" * 40
    path = tmp_path / "toy.fa"
    with path.open("w") as out:
        for name, sequence in (("chrA", first), ("chrB", second)):
            out.write(f">{name} toy contig\n")
            out.writelines(sequence[i : i + 60] + "\n" for i in range(0, len(sequence), 60))
    return path


@dataclass
class Page:
    """What the test's web server answers for one path, and how it misbehaves."""

    body: bytes
    etag: str = '"v1"'
    ranges: bool = True
    length: int | None = None
    """Content-Length, where it is a lie."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the connections of the coming requests break."""
    statuses: list[int] = field(default_factory=list)
    """Answers to the coming requests, before the file is served."""
    location: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[Page], None] = lambda page: None
    """Called before each answer."""


class _Answer(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        self.server.seen.append((self.path, dict(self.headers)))
        if page is None:
            return self.send_error(404)
        page.before(page)
        if page.statuses:
            self.send_response(page.statuses.pop(0))
            for name, value in {"Content-Length": "0", **page.headers}.items():
                self.send_header(name, value)
            return self.end_headers()
        if page.location:
            self.send_response(302)
            self.send_header("Location", page.location)
            return self.end_headers()
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and page.ranges and self.headers.get("If-Range", page.etag) == page.etag:
            start = int(asked[1])
            if start >= len(page.body):
                return self.send_error(416)
        rest = page.body[start:]
        self.send_response(206 if start else 200)
        if start:
            end, size = len(page.body) - 1, len(page.body)
            self.send_header("Content-Range", f"bytes {start}-{end}/{size}")
        if page.etag:
            self.send_header("ETag", page.etag)
        for name, value in page.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(page.length or len(rest)))
        self.end_headers()
        self.wfile.write(rest[: page.cuts.pop(0)] if page.cuts else rest)
        return None

    def log_message(self, *_: object) -> None:
        pass


class Web(ThreadingHTTPServer):
    """A web server on this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.pages: dict[str, Page] = {}
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up are what the tests are about."""

    def serve(self, path: str, body: bytes, **how: Any) -> Page:
        self.pages[path] = Page(body, **how)
        return self.pages[path]

    def asked(self, header: str) -> list[str | None]:
        """Return a header of every request so far."""
        return [headers.get(header) for _, headers in self.seen]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server that misbehaves as told; no proxy of the machine is in between."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
