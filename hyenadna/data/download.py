"""One file from the web: resumed where the connection broke, and handed over only when its bytes are the published ones.

Bytes go to ``NAME.part`` beside the target. A second small file, ``NAME.part.json``, says to which version of which file on the server
they belong, so that a download that was cut or killed is continued by the next one and never mixed with another version. Proxies are
taken from ``http_proxy``, ``https_proxy`` and ``no_proxy``, as everywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from hyenadna.data.manifest import RemoteFile
from hyenadna.errors import DownloadError, OutputError
from hyenadna.io.atomic import output_errors
from hyenadna.resources import package_version

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes expected, None where the server does not say."""

ATTEMPTS = 5
"""Tries in a row that bring nothing new; a try that brings bytes starts the count again."""

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as cut."""

_BLOCK = 1 << 18
_LONGEST_WAIT = 60.0
_BUSY = (408, 425, 429)


class Received(NamedTuple):
    """Bytes that were fetched, not yet under their name."""

    part: Path
    note: Path
    """The file that says where they come from; it goes when they are settled."""
    source: str
    """URL or path that they came from."""
    sha256: str
    verified: bool
    """Whether they equal a checksum that the publisher gives."""

    def rename_to(self, target: Path) -> None:
        """Give the bytes their name, at once and as a whole."""
        os.replace(self.part, target)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the bytes."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def download(
    file: RemoteFile,
    target: Path,
    *,
    local: Path | None = None,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Received:
    """Fetch a file's bytes to ``target``'s name with ``.part``; the caller renames it.

    Parameters
    ----------
    file
        Where the file can be had, and what it must be. Its URLs are tried in their order.
    target
        The file to be; its folder exists.
    local
        A copy on disk, taken instead of the web where it exists.
    progress
        Told of every block.
    sleep
        Waits between attempts; tests replace it.

    Raises
    ------
    DownloadError
        No URL answers, or none gives the published bytes. Bytes that are only incomplete are kept for the next call, wrong ones are not.
    OutputError
        The disk is full or cannot be written to.
    """
    notify = progress or (lambda done, total: None)
    with output_errors(target, inside=_beside(target, ".part")):
        if local is not None and local.is_file():
            return _copy(local, file, _Part(target, str(local)), notify)
        failures = []
        for url in file.urls:
            try:
                return _fetch(url, file, target, notify, sleep)
            except DownloadError as error:  # noqa: PERF203 - a download is no inner loop
                failures.append(str(error))
    raise DownloadError("; and ".join(failures))


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


class _Part:
    """The bytes so far with their digests, and the version of the server's file that they belong to."""

    def __init__(self, target: Path, source: str, *, any_source: bool = False) -> None:
        self.path, self._note = _beside(target, ".part"), _beside(target, ".part.json")
        self.source = source
        self.validator = ""
        self.total: int | None = None
        self.size = 0
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        note = self._read_note()
        same = note.get("source") == source
        # Of a file whose checksum is published it does not matter which server the first half came from.
        if not self.path.is_file() or not (any_source or (same and note.get("validator"))):
            self.restart()
            return
        if same:
            total = note.get("total")
            self.validator = str(note.get("validator") or "")
            self.total = total if isinstance(total, int) else None
        with self.path.open("rb") as handle:
            while block := handle.read(_BLOCK):
                self._add(block)

    def _read_note(self) -> dict[str, object]:
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            if isinstance(note, dict):
                return note
        return {}

    def _add(self, block: bytes) -> None:
        self._sha256.update(block)
        self._md5.update(block)
        self.size += len(block)

    def restart(self, validator: str = "", total: int | None = None) -> None:
        """Forget the bytes, and begin with this version of the file."""
        self.path.unlink(missing_ok=True)
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self.size, self.validator, self.total = 0, validator, total
        self._note.unlink(missing_ok=True)
        if validator:
            note = {"source": self.source, "validator": validator, "total": total}
            self._note.write_text(json.dumps(note), encoding="utf-8")

    def append(self, read: Callable[[int], bytes], notify: Progress) -> None:
        with self.path.open("ab") as handle:
            while block := read(_BLOCK):
                handle.write(block)
                self._add(block)
                notify(self.size, self.total)
            handle.flush()
            os.fsync(handle.fileno())

    def problem(self, file: RemoteFile) -> str:
        """Say in what the bytes differ from the published ones; empty where they do not."""
        sha256, md5 = self._sha256.hexdigest(), self._md5.hexdigest()
        if file.size is not None and self.size != file.size:
            return f"expected {file.size:,} bytes, found {self.size:,}"
        if file.sha256 and file.sha256 != sha256:
            return f"expected sha256 {file.sha256}, found {sha256}"
        if file.md5 and file.md5 != md5:
            return f"expected md5 {file.md5}, found {md5} (sha256 {sha256})"
        return ""

    def received(self, file: RemoteFile) -> Received:
        verified = bool(file.sha256 or file.md5)
        return Received(self.path, self._note, self.source, self._sha256.hexdigest(), verified)


class _CutError(Exception):
    """An attempt broke off in a way that another may not."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def _copy(local: Path, file: RemoteFile, part: _Part, notify: Progress) -> Received:
    try:
        with local.open("rb") as handle:
            part.restart(total=local.stat().st_size)
            _require_space(part)
            part.append(handle.read, notify)
    except OSError as error:
        if error.filename != str(local):
            raise
        raise DownloadError(f"the mirror's {local} cannot be read ({error.strerror})") from error
    if problem := part.problem(file):
        part.restart()
        raise DownloadError(
            f"the mirror's {local} holds other bytes than were published ({problem}), and they were not kept; replace it, or leave out --mirror"
        )
    return part.received(file)


def _fetch(
    url: str, file: RemoteFile, target: Path, notify: Progress, sleep: Callable[[float], None]
) -> Received:
    part = _Part(target, url, any_source=bool(file.sha256 or file.md5))
    found, best, tries = part.size, part.size, 0
    while True:
        try:
            if part.total is None or part.size != part.total:
                _attempt(url, file, part, notify)
        except _CutError as cut:
            best, tries = max(best, part.size), 0 if part.size > best else tries + 1
            if tries >= ATTEMPTS:
                kept = f"; the next fetch continues at byte {part.size:,}" if part.size else ""
                raise DownloadError(
                    f"{url} cannot be fetched: {cut} ({ATTEMPTS} attempts; check the network, the proxy variables, "
                    f"or use --mirror FOLDER){kept}"
                ) from cut
            sleep(min(max(cut.wait, 2.0 ** max(tries - 1, 0)), _LONGEST_WAIT))
            continue
        problem = part.problem(file)
        if not problem:
            return part.received(file)
        part.restart()
        if not found:
            raise DownloadError(
                f"{url} holds other bytes than were published ({problem}), and they were not kept; try again, use --mirror FOLDER "
                "with a good copy, or report it if the publisher has replaced the file"
            )
        found = best = 0  # perhaps it was the old part that was wrong: once more, from the start


def _attempt(url: str, file: RemoteFile, part: _Part, notify: Progress) -> None:
    """Ask the server once for the bytes that are missing."""
    # Transparent compression would make lengths and ranges those of other bytes.
    headers = {"User-Agent": f"hyenadna/{package_version()}", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator:
            headers["If-Range"] = part.validator
    with _open(url, headers, part) as response:
        _begin(url, file, part, response)
        notify(part.size, part.total)

        def read(n_bytes: int) -> bytes:
            try:
                return response.read1(n_bytes)
            except (OSError, http.client.HTTPException) as error:
                raise _CutError(str(error) or type(error).__name__) from error

        part.append(read, notify)
    if part.total is not None and part.size != part.total:
        raise _CutError(f"the connection was cut after {part.size:,} of {part.total:,} bytes")


def _open(url: str, headers: dict[str, str], part: _Part) -> http.client.HTTPResponse:
    opener = urllib.request.build_opener()  # reads the proxy variables
    try:
        response: http.client.HTTPResponse = opener.open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            part.restart()
            raise _CutError("the server has no such range, so it starts again") from error
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in _BUSY or error.code >= 500:
            wait = error.headers.get("Retry-After", "")
            raise _CutError(answer, float(wait) if wait.isdecimal() else 0.0) from error
        raise DownloadError(f"{url} cannot be fetched: {answer}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise DownloadError(
                f"{url} cannot be fetched: its certificate is not trusted ({reason.verify_message}); "
                "behind a proxy that replaces certificates, set SSL_CERT_FILE to its own"
            ) from error
        raise _CutError(str(reason) or type(reason).__name__) from error


def _begin(url: str, file: RemoteFile, part: _Part, response: http.client.HTTPResponse) -> None:
    """Decide from an answer's head whether its bytes continue the part or begin anew."""
    headers = response.headers
    length = headers.get("Content-Length", "")
    validator = _validator(headers)
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        changed = part.validator and validator and validator != part.validator
        if not found or int(found[1]) != part.size or changed:
            part.restart()
            raise _CutError("the server's range is not the one asked for, so it starts again")
        if found[2] != "*":
            part.total = int(found[2])
    else:
        part.restart(validator, int(length) if length.isdecimal() else None)
    if file.size is not None and part.total not in (None, file.size):
        total = part.total
        part.restart()
        raise DownloadError(
            f"{url} is not the published file: the server offers {total:,} bytes, expected {file.size:,}"
        )
    if not (file.sha256 or file.md5) and headers.get_content_type() == "text/html":
        part.restart()
        raise DownloadError(
            f"{url} answers with a web page instead of the file; perhaps the network asks for a login"
        )
    _require_space(part)


def _validator(headers: Message) -> str:
    etag = headers.get("ETag", "")
    # A weak ETag promises the same meaning, not the same bytes, and must not be used to continue.
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _require_space(part: _Part) -> None:
    needed = 0 if part.total is None else part.total - part.size
    free = shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise OutputError(
            f"{part.path.parent} has {free:,} bytes free, but {needed:,} are needed; "
            "make room, or choose another folder with --output"
        )
