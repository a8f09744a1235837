"""Runs side by side: none outlives its limit, none begins that is not needed, and each says how it ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from hyenadna.cli import side_by_side
from hyenadna.cli.side_by_side import SideRun, run_side_by_side


@pytest.fixture(autouse=True)
def _commands_of_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let words be a shell's command instead of hyenadna's."""
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    shell.chmod(0o755)
    monkeypatch.setattr(side_by_side.sys, "executable", str(shell))


def runs(tmp_path: Path, *commands: str) -> list[SideRun]:
    return [SideRun(c, ["sh", "-c", c], tmp_path / f"{i}.txt") for i, c in enumerate(commands)]


def is_alive(run: SideRun) -> bool:
    return run.process is not None and run.process.poll() is None


def test_what_ends_well_has_no_note_and_what_fails_its_last_line(tmp_path: Path) -> None:
    some = runs(tmp_path, "true", "echo first; echo last; exit 3")
    run_side_by_side(some, 2, [])
    assert [run.note for run in some] == ["", "failed: last"]


def test_nothing_outlives_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "_GRACE_SECONDS", 0.5)
    some = runs(tmp_path, "true", "exec sleep 60", "trap '' TERM; sleep 60 & wait; sleep 60", "true")  # fmt: skip
    started = time.monotonic()
    run_side_by_side(some, 2, [], deadline=started + 2.0)
    assert 1.9 < time.monotonic() - started < 20
    assert [run.note for run in some] == ["", "unfinished: stopped", "unfinished: stopped", "unfinished: never began"]  # fmt: skip
    assert not any(map(is_alive, some))
    assert not (tmp_path / "3.txt").exists()


def test_a_deadline_that_is_far_changes_nothing(tmp_path: Path) -> None:
    some = runs(tmp_path, "sleep 0.3", "true")
    run_side_by_side(some, 1, [], deadline=time.monotonic() + 500)
    assert [run.note for run in some] == ["", ""]


def test_what_another_run_makes_needless_is_stopped_or_does_not_begin(tmp_path: Path) -> None:
    some = runs(tmp_path, "sleep 1", "exec sleep 60", "true", "false")
    started = time.monotonic()
    run_side_by_side(some, 2, [], made_needless=lambda run: some[1:3] if run is some[0] else ())
    assert time.monotonic() - started < 30
    assert [run.note.partition(":")[0] for run in some] == ["", "not needed", "not needed", "failed"]  # fmt: skip
    assert some[2].process is None


def test_a_run_that_fails_makes_nothing_needless(tmp_path: Path) -> None:
    some = runs(tmp_path, "false", "true")
    run_side_by_side(some, 1, [], made_needless=lambda _run: pytest.fail("was asked") if _run is some[0] else ())  # fmt: skip
    assert some[1].note == ""


def test_sigterm_ends_the_runs_too(tmp_path: Path) -> None:
    some = runs(tmp_path, "exec sleep 60", "true")
    former = signal.getsignal(signal.SIGTERM)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(some, 1, [])
    assert signal.getsignal(signal.SIGTERM) == former
    assert [run.note for run in some] == ["unfinished: stopped", "unfinished: never began"]
    assert not is_alive(some[0])
