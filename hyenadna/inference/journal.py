"""Long work that survives its process: results are computed shard by shard, and finished shards wait on the disk until the output is complete.

The one idea to know: what is kept are results, not pieces of an output. A resumed run reads them back, computes the rest, and writes the output from
one stream of results as ever; so every format resumes, and because a shard is always the same items in a call of its own, the output is the same to the byte.
"""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout

from hyenadna.errors import BackendUnavailableError, ConfigError, HyenaDNAError, OutputError
from hyenadna.inference.processes import ALONE, Processes
from hyenadna.io.atomic import atomic_path, output_errors, remove_leftovers

__all__ = ["Codec", "Journal", "in_shards", "open_journal", "shard_bases"]

Arrays = tuple[npt.NDArray[np.float32], ...]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_MANIFEST, _LOCK = "manifest.json", "lock"
_RESUMABLE = (OutputError, BackendUnavailableError)
_OWN = re.compile(r"manifest\.json|lock|[0-9]{6,}\.npz|\.partial-.*")


@dataclass(frozen=True)
class Codec(Generic[_Item, _Result]):
    """How results are kept.

    Parameters
    ----------
    encode
        Returns what JSON can hold of a result (numbers come back exactly), and its float32 arrays.
    decode
        Makes the result again, from its item and those two.
    """

    encode: Callable[[_Result], tuple[Any, Arrays]]
    decode: Callable[[_Item, Any, Arrays], _Result]


class Journal:
    """The folder of finished shards. It appears with the first one.

    Parameters
    ----------
    folder
        Its place.
    made_by
        Returns all that results depend on: checksums and settings, nested mappings of what JSON can hold.
    processes
        Who shares the work. The first one owns the folder.
    """

    def __init__(
        self,
        folder: Path,
        made_by: Callable[[], Mapping[str, Any]],
        processes: Processes = ALONE,
    ) -> None:
        self.folder = folder
        self.processes = processes
        #: Shards that a former run has finished.
        self.n_read = 0
        self._made_by = made_by
        self._lock = FileLock(folder / _LOCK, timeout=0)
        self._begun = False

    def read(self, number: int) -> list[tuple[Any, Arrays]] | None:
        """Return a shard's results, or None where it is not finished."""
        try:
            with np.load(self._place(number)) as file:
                rows, values = json.loads(bytes(file["rows"])), file["values"]
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            return None
        found, at = [], 0
        for fields, shapes in rows:
            arrays = []
            for shape in shapes:
                size = int(np.prod(shape))
                arrays.append(values[at : at + size].reshape(shape))
                at += size
            found.append((fields, tuple(arrays)))
        return found

    def write(self, number: int, results: Iterable[tuple[Any, Arrays]]) -> None:
        """Keep a shard's results.

        Raises
        ------
        OutputError
            They cannot be written.
        """
        self.begin()
        rows, flat = [], [np.zeros(0, np.float32)]
        for fields, arrays in results:
            rows.append((fields, [array.shape for array in arrays]))
            flat += [array.astype(np.float32, copy=False).ravel() for array in arrays]
        text = np.frombuffer(json.dumps(rows).encode(), np.uint8)
        with atomic_path(self._place(number), force=True) as temporary, temporary.open("wb") as raw:
            np.savez(raw, rows=text, values=np.concatenate(flat))

    def _place(self, number: int) -> Path:
        return self.folder / f"{number:06d}.npz"

    def begin(self) -> None:
        """Create the folder, unless it is there.

        Raises
        ------
        OutputError
            It cannot be created.
        """
        if self._begun or self.processes.rank:
            return
        with output_errors(self.folder):
            try:
                self.folder.mkdir()
            except FileExistsError:
                raise OutputError(
                    f"{self.folder} is in the way: another run has begun it, or it holds files of others; choose another name for the output"
                ) from None
            self._acquire()
            with atomic_path(self.folder / _MANIFEST) as temporary:
                temporary.write_text(json.dumps(self._made_by(), indent=2))
        self._begun = True

    def resume(self) -> None:
        """Take over a folder that another run has left.

        Raises
        ------
        ConfigError
            It was made under other settings, or from other inputs.
        """
        self.take()
        try:
            former = json.loads((self.folder / _MANIFEST).read_text())
        except (OSError, ValueError):  # the run was killed before it had said what it does
            self.remove()
            return
        then, now = _flat(former), _flat(json.loads(json.dumps(self._made_by())))
        for key in {**then, **now}:
            if then.get(key) != now.get(key):
                self.release()
                raise ConfigError(
                    f"--resume cannot go on with {self.folder}, which was made under other settings: {key} was {_cut(then.get(key))} and is "
                    f"{_cut(now.get(key))}; use the former ones, or start anew with --force"
                )
        self._begun = True

    def take(self) -> None:
        """Make sure that no other run uses the folder, and clear away what a killed one was writing.

        Raises
        ------
        OutputError
            One does.
        """
        try:
            with output_errors(self.folder):
                self._acquire()
        except Timeout:
            raise _busy(self.folder) from None
        remove_leftovers(self.folder.with_name(self.folder.name.removesuffix(".partial")))

    def _acquire(self) -> None:
        with suppress(NotImplementedError):  # a file system without locks
            self._lock.acquire()

    def release(self) -> None:
        """Let the folder go, and keep it."""
        self._lock.release()

    def remove(self) -> None:
        """Remove the folder; files that are not ours stay."""
        with suppress(OSError):
            for file in self.folder.iterdir():
                if _OWN.fullmatch(file.name) and file.name != _LOCK:
                    file.unlink()
            self.release()
            (self.folder / _LOCK).unlink(missing_ok=True)
            self.folder.rmdir()


@contextmanager
def open_journal(
    folder: Path,
    made_by: Callable[[], Mapping[str, Any]],
    *,
    resume: bool,
    force: bool,
    kept: Callable[[Path], None],
    processes: Processes = ALONE,
) -> Iterator[Journal]:
    """Open the journal of a run, and remove it when the block ends well.

    It also goes where the input or the settings turn out to be wrong: nobody could resume that. What else ends the block (an interruption, a full disk)
    leaves it.

    Parameters
    ----------
    folder
        Its place.
    made_by
        As for `Journal`; called when the first shard is finished, or when there is something to resume.
    resume
        Go on with what is there.
    force
        Without `resume`: remove what is there.
    kept
        Called with the folder where the block failed and left it.
    processes
        Who shares the work.

    Raises
    ------
    OutputError
        There is a folder, and neither resume nor force was asked for; or another run uses it.
    ConfigError
        It was made under other settings.
    """
    journal = Journal(folder, made_by, processes)
    if processes.rank:
        processes.wait()
        yield journal
        return
    if folder.is_dir():
        if resume:
            journal.resume()
        elif force:
            journal.take()
            journal.remove()
        else:
            raise OutputError(
                f"{folder} holds finished parts of a run that was broken off; go on from there with --resume, or start anew with --force"
            )
    if processes.world_size > 1:
        journal.begin()
        processes.wait()
    try:
        yield journal
    except BaseException as error:
        if isinstance(error, HyenaDNAError) and not isinstance(error, _RESUMABLE):
            journal.remove()
        elif folder.is_dir():
            journal.release()
            kept(folder)
        raise
    journal.remove()


def in_shards(
    items: Iterator[_Item],
    compute: Callable[[Iterator[_Item]], Iterator[_Result]],
    journal: Journal | None,
    codec: Codec[_Item, _Result],
    *,
    units: Callable[[_Item], int],
    limit: int,
    progress: Callable[[int], None],
) -> Iterator[tuple[_Item, _Result]]:
    """Compute results, or read them back where they are in the journal; each comes with its item, in order, and as soon as it is known.

    Items are read only as the computation asks for them, so that reading, computing and what the caller does with results go hand in hand. Of several processes, each computes every n-th shard, and the first one yields the results of all; the others yield nothing.

    Parameters
    ----------
    items
        What to compute of, read lazily.
    compute
        Yields one result an item, in order.
    journal
        Where finished shards are kept; None computes all in one go.
    codec
        How results are kept.
    units
        How much work an item is.
    limit
        Units at which a shard is full.
    progress
        Called with the units of results that were read back.
    """
    if journal is None:
        yield from _computed(items, compute)
        return
    rank, size = journal.processes.rank, journal.processes.world_size
    shards = _Shards(items, units, limit)
    of_others: list[tuple[int, list[_Item]]] = []  # since all processes last waited for each other
    number = 0
    while shards.more:
        if number % size == rank:
            for one in _own(number, shards, compute, journal, codec, progress):
                if not rank:
                    yield one
        else:
            of_others.append((number, list(shards.next())))
        number += 1
        if number % size == 0 or not shards.more:
            journal.processes.wait()
            # The first process's own shard is the first of each round, so that these follow it.
            for other, members in () if rank else of_others:
                yield from _decoded(members, journal.read(other) or [], codec)
                progress(sum(map(units, members)))
            of_others.clear()


def _own(
    number: int,
    shards: _Shards[_Item],
    compute: Callable[[Iterator[_Item]], Iterator[_Result]],
    journal: Journal,
    codec: Codec[_Item, _Result],
    progress: Callable[[int], None],
) -> Iterator[tuple[_Item, _Result]]:
    """Yield the results of the next shard as they come, and keep them; or read them back."""
    items = shards.next()
    stored = journal.read(number)
    if stored is not None:
        members = list(items)
        if len(stored) == len(members):
            journal.n_read += 1
            progress(sum(map(shards.units, members)))
            yield from _decoded(members, stored, codec)
            return
        items = iter(members)
    kept = []
    for item, result in _computed(items, compute):
        kept.append(codec.encode(result))
        yield item, result
    if journal.processes.world_size > 1 or shards.more:
        journal.write(number, kept)


def _decoded(
    members: list[_Item], stored: list[tuple[Any, Arrays]], codec: Codec[_Item, _Result]
) -> Iterator[tuple[_Item, _Result]]:
    for item, (fields, arrays) in zip(members, stored, strict=True):
        yield item, codec.decode(item, fields, arrays)


def shard_bases(device: torch.device) -> int:
    """Return how many bases a model reads for one shard: some seconds' work of a small model."""
    return 1 << 24 if device.type == "cuda" else 1 << 20


def _computed(
    items: Iterator[_Item], compute: Callable[[Iterator[_Item]], Iterator[_Result]]
) -> Iterator[tuple[_Item, _Result]]:
    """Yield each item with its result; items are read only as the computation asks for them."""
    waiting: deque[_Item] = deque()

    def remembered() -> Iterator[_Item]:
        for item in items:
            waiting.append(item)
            yield item

    for result in compute(remembered()):
        yield waiting.popleft(), result


class _Shards(Generic[_Item]):
    """Items, cut into shards of a number of units."""

    def __init__(self, items: Iterator[_Item], units: Callable[[_Item], int], limit: int) -> None:
        self.units = units
        self._items, self._limit = items, limit
        self._ahead = list(itertools.islice(items, 1))

    @property
    def more(self) -> bool:
        """Whether there is another shard, once all items of the last one have been taken."""
        return bool(self._ahead)

    def next(self) -> Iterator[_Item]:
        """Yield the items of the next shard, which are read only as they are taken."""
        total = 0
        while self._ahead and total < self._limit:
            (item,) = self._ahead
            self._ahead = list(itertools.islice(self._items, 1))
            total += self.units(item)
            yield item


def _busy(folder: Path) -> OutputError:
    return OutputError(
        f"{folder} is used by another run, which writes the same output; wait for it, or choose another name for the output"
    )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= _flat(item, f"{prefix}.{key}" if prefix else key)
    return found


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
