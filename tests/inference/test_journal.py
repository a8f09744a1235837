"""The journal: finished shards are kept, read back exactly, and never mixed with those of another run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyenadna.errors import ConfigError, DataError, OutputError
from hyenadna.inference.journal import Codec, Journal, in_shards, open_journal

SETTINGS: dict[str, Any] = {"inputs_sha256": {"--input": "abc"}, "settings": {"window": 64}}
Result = tuple[float, str, np.ndarray]
CODEC: Codec[int, Result] = Codec(
    lambda r: (r[:2], (r[2],)), lambda item, fields, arrays: (*fields, *arrays)
)


class Work:
    """Computes, says what it computed, and breaks off where it is told to."""

    def __init__(self, stop_at: int | None = None, error: type[BaseException] = KeyboardInterrupt):
        self.seen: list[int] = []
        self.calls = 0
        self.stop_at, self.error = stop_at, error

    def __call__(self, items: Iterator[int]) -> Iterator[Result]:
        self.calls += 1
        for item in items:
            if item == self.stop_at:
                raise self.error
            self.seen.append(item)
            value = math.nan if item == 3 else item / 3
            yield value, f"näme {item}\udcff", np.float32([[item, 1 / 3], [math.inf, math.nan]])


def _run(
    folder: Path, work: Work, *, n: int = 10, resume: bool = False, force: bool = False, settings: dict[str, Any] = SETTINGS,
) -> tuple[list[tuple[int, Result]], Journal]:  # fmt: skip
    with open_journal(folder, lambda: settings, resume=resume, force=force, kept=lambda _: None) as journal:  # fmt: skip
        found = in_shards(iter(range(n)), work, journal, CODEC, units=lambda _: 2, limit=4, progress=lambda _: None)  # fmt: skip
        return list(found), journal


def _broken_off(folder: Path, at: int = 7) -> None:
    with pytest.raises(KeyboardInterrupt):
        _run(folder, Work(at))


def test_finished_shards_are_read_back_exactly_and_the_rest_is_computed(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial"
    expected, _ = _run(tmp_path / "y.partial", Work())
    _broken_off(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["000000.npz", "000001.npz", "000002.npz", "lock", "manifest.json"]  # fmt: skip
    work = Work()
    found, journal = _run(folder, work, resume=True)
    assert work.seen == [6, 7, 8, 9]
    assert journal.n_read == 3
    for (item, one), (other_item, other) in zip(found, expected, strict=True):
        assert (item, repr(one[:2])) == (other_item, repr(other[:2]))
        assert one[2].dtype == np.float32
        np.testing.assert_array_equal(one[2], other[2])
    assert not list(tmp_path.iterdir())


def test_shards_are_the_same_whether_resumed_or_not(tmp_path: Path) -> None:
    whole, rest = Work(), Work()
    _run(tmp_path / "y.partial", whole)
    _broken_off(tmp_path / "x.partial")
    _run(tmp_path / "x.partial", rest, resume=True)
    assert (whole.calls, rest.calls) == (5, 2)


def test_short_runs_leave_the_disk_alone(tmp_path: Path) -> None:
    folder = tmp_path / "no" / "x.partial"  # it could not be created
    assert len(_run(folder, Work(), n=2)[0]) == 2
    assert _run(folder, Work(), n=0)[0] == []


def test_left_folder_is_explained_or_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    with pytest.raises(OutputError, match=r"broken off; go on from there with --resume, or start anew with --force"):  # fmt: skip
        _run(folder, Work())
    assert (folder / "000002.npz").exists()
    work = Work()
    _run(folder, work, force=True)
    assert work.seen == list(range(10))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"inputs_sha256": {"--input": "abd"}, "settings": {"window": 64}}, "inputs_sha256.--input was abc and is abd"),
        ({"inputs_sha256": {"--input": "abc"}, "settings": {"window": 32}}, "settings.window was 64 and is 32"),
        ({"inputs_sha256": {"--input": "abc"}, "settings": {"window": 64, "rc": True}}, "settings.rc was None and is True"),
        ({"inputs_sha256": {"--input": "abc"}, "settings": {}}, "settings.window was 64 and is None"),
    ],
)  # fmt: skip
def test_other_settings_are_refused_and_the_work_stays(
    tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    with pytest.raises(ConfigError, match=said):
        _run(folder, Work(), resume=True, settings=other)
    work = Work()
    _run(folder, work, resume=True)
    assert work.seen == [6, 7, 8, 9]


def test_wrong_input_leaves_nothing_but_a_full_disk_leaves_the_work(tmp_path: Path) -> None:
    for error, stays in ((DataError, False), (OutputError, True), (MemoryError, True)):
        folder = tmp_path / "x.partial"
        with pytest.raises(error):
            _run(folder, Work(7, error), force=True)
        assert folder.exists() == stays


def test_where_it_was_left_is_said(tmp_path: Path) -> None:
    said: list[Path] = []
    folder = tmp_path / "x.partial"
    for stop, n_said in ((1, 0), (7, 1)):
        with pytest.raises(KeyboardInterrupt), open_journal(folder, lambda: SETTINGS, resume=False, force=False, kept=said.append) as journal:  # fmt: skip
            list(in_shards(iter(range(10)), Work(stop), journal, CODEC, units=lambda _: 2, limit=4, progress=lambda _: None))  # fmt: skip
        assert said == [folder] * n_said


def test_damaged_or_foreign_shards_are_computed_again(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    whole = (folder / "000000.npz").read_bytes()
    (folder / "000000.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "000001.npz").write_bytes(b"")
    work = Work()
    found, _ = _run(folder, work, resume=True)
    assert work.seen == [0, 1, 2, 3, 6, 7, 8, 9]
    assert [item for item, _ in found] == list(range(10))


def test_folder_without_a_manifest_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    (folder / "manifest.json").unlink()
    work = Work()
    _run(folder, work, resume=True)
    assert work.seen == list(range(10))


def test_files_of_others_stay(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    (folder / "notes.txt").write_text("mine")
    _run(folder, Work(), resume=True)
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]
    for how in ({"resume": True}, {"force": True}):
        with pytest.raises(OutputError, match="holds files of others"):
            _run(folder, Work(), **how)
    assert (folder / "notes.txt").read_text() == "mine"


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    with open_journal(folder, lambda: SETTINGS, resume=True, force=False, kept=lambda _: None):
        for how in ({"resume": True}, {"force": True}):
            with pytest.raises(OutputError, match="used by another run"):
                _run(folder, Work(), **how)
        assert (folder / "000000.npz").exists()


def test_results_come_before_their_shard_is_complete_but_are_kept_only_whole(tmp_path: Path) -> None:  # fmt: skip
    work, read, folder = Work(), [], tmp_path / "x.partial"

    def items() -> Iterator[int]:
        for i in range(10):
            read.append(i)
            yield i

    with open_journal(folder, lambda: SETTINGS, resume=False, force=False, kept=lambda _: None) as journal:  # fmt: skip
        found = in_shards(items(), work, journal, CODEC, units=lambda _: 2, limit=8, progress=lambda _: None)  # fmt: skip
        assert next(found)[0] == 0
        assert (work.seen, read) == ([0], [0, 1])  # one item is read ahead, to know the last shard
        assert [item for item, _ in itertools.islice(found, 3)] == [1, 2, 3]
        assert not folder.exists()
        assert next(found)[0] == 4
        assert (folder / "000000.npz").exists()


def test_without_a_journal_results_flow(tmp_path: Path) -> None:
    work = Work()
    found = in_shards(iter(range(10)), work, None, CODEC, units=lambda _: 2, limit=4, progress=lambda _: None)  # fmt: skip
    assert next(found)[0] == 0
    assert work.seen == [0]
    assert len(list(found)) == 9
    assert work.calls == 1


def test_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    folder = tmp_path / "x.partial"
    _broken_off(folder)
    work = Work()
    _run(folder, work, resume=True)
    assert work.seen == [6, 7, 8, 9]
    assert not folder.exists()
