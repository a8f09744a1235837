"""The UCSC ``.2bit`` format: a memory-mapped reader and a streaming writer.

Four bases share a byte; runs of N and of lower case (soft mask) are lists of spans beside them, so that bases, N,
soft mask and coordinates all survive. What a file means to a model (token ids, windows) is the matter of
`hyenadna.data.genome`; FASTA text becomes ``.2bit`` in `hyenadna.data.packing`.

The one thing to know: the format's own base numbers are T 0, C 1, A 2, G 3, the first base of a byte in its highest
bits. They appear in this module and in the lookup tables of `genome` only.

Layout (https://genome.ucsc.edu/FAQ/FAQformat.html#format7): a header of four 32-bit words, an index of names and
offsets (32 bits wide in version 0, 64 in version 1), then one record a contig. Either byte order occurs.
"""

from __future__ import annotations

import mmap
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from hyenadna.errors import FileFormatError
from hyenadna.io.atomic import atomic_path
from hyenadna.sequence import validate_dna

Runs = npt.NDArray[np.int64]

SIGNATURE = 0x1A412743
MAX_CONTIG = 2**32 - 1
"""Most bases of one contig: the format counts them in 32 bits, in both versions."""

# What a letter becomes while it waits to be packed: its .2bit number, and flags above it.
BASE_BITS, N_FLAG, MASK_FLAG, AMBIGUOUS_FLAG, ILLEGAL = 0x03, 0x04, 0x08, 0x10, 0xFF
_LETTER = np.full(256, ILLEGAL, dtype=np.uint8)
for _letters, _flags in (("N", N_FLAG), ("RYSWKMBDHV", N_FLAG | AMBIGUOUS_FLAG)):
    for _letter in _letters:
        _LETTER[ord(_letter)] = _flags
for _number, _letter in enumerate("TCAG"):
    _LETTER[ord(_letter)] = _number
_LETTER[ord("U")] = _LETTER[ord("T")]
for _letter in "ACGTUNRYSWKMBDHV":
    _LETTER[ord(_letter.lower())] = _LETTER[ord(_letter)] | MASK_FLAG
LETTER_TABLE = _LETTER.tobytes()
"""256 bytes for `bytes.translate`: letters to `BASE_BITS` and flags; `ILLEGAL` for what is no nucleotide code."""


class PackSummary(NamedTuple):
    """What a packed genome holds."""

    contigs: int
    bases: int
    n_bases: int
    """Bases stored as N, the ambiguous ones included."""
    soft_masked: int
    """Lower-case letters."""
    ambiguous: int
    """IUPAC codes other than N, which the format cannot hold: they were stored as N."""


class _Record(NamedTuple):
    """Where one contig lies in the file; offsets in bytes."""

    size: int
    n_count: int
    n_offset: int
    mask_count: int
    mask_offset: int
    dna_offset: int


class TwoBitFile:
    """A ``.2bit`` file, memory-mapped; nothing is read before it is asked for.

    Safe to share between threads and across `fork`; `pickle` carries the path and opens the file again.

    Parameters
    ----------
    path
        A ``.2bit`` file of either byte order, version 0 or 1, by whatever tool.

    Raises
    ------
    FileFormatError
        The file is missing, or its header, index or a record's frame is malformed or truncated. The spans of a
        contig's N and mask runs are checked when that contig is first read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._map = _open_map(self.path)
        self._data = np.frombuffer(self._map, dtype=np.uint8)
        signature = bytes(self._data[:4])
        if signature == struct.pack("<I", SIGNATURE):
            self._order = "<"
        elif signature == struct.pack(">I", SIGNATURE):
            self._order = ">"
        else:
            raise self._broken(
                f"this is no .2bit file: it begins with {signature.hex()}, not 4327411a or 1a412743"
            )
        self._records = {name: self._frame(name, offset) for name, offset in self._index().items()}
        self._runs: dict[tuple[str, bool], Runs] = {}

    @property
    def contigs(self) -> dict[str, int]:
        """Bases of each contig by name, in the file's order."""
        return {name: record.size for name, record in self._records.items()}

    def packed(self, chrom: str) -> npt.NDArray[np.uint8]:
        """Return a contig's packed bases: read-only view of uint8, shape (ceil(length / 4),)."""
        record = self._records[chrom]
        return self._data[record.dna_offset : record.dna_offset + (record.size + 3) // 4]

    def n_runs(self, chrom: str) -> Runs:
        """Return the spans of N: int64, shape (k, 2), starts and ends, ascending and disjoint."""
        return self._spans(chrom, mask=False)

    def mask_runs(self, chrom: str) -> Runs:
        """Return the soft-masked spans: int64, shape (k, 2), starts and ends, ascending and disjoint."""
        return self._spans(chrom, mask=True)

    def __reduce__(self) -> tuple[type[TwoBitFile], tuple[Path]]:
        return type(self), (self.path,)

    def _broken(self, message: str) -> FileFormatError:
        return FileFormatError(message, path=self.path)

    def _word(self, offset: int, width: str = "I") -> int:
        try:
            return int(struct.unpack_from(self._order + width, self._map, offset)[0])
        except (struct.error, OverflowError):
            raise self._broken(
                f"the .2bit file is truncated: it ends at byte {len(self._map):,}, within a field at {offset:,}"
            ) from None

    def _index(self) -> dict[str, int]:
        version, count = self._word(4), self._word(8)
        self._word(12)
        if version not in (0, 1):
            raise self._broken(f".2bit version {version} is unknown; versions 0 and 1 can be read")
        width, wide = (8, "Q") if version else (4, "I")
        # An entry takes at least two bytes beside its offset: refuse an absurd count before looping over it.
        if count * (width + 2) > len(self._map) - 16:
            raise self._broken(
                f"the .2bit header promises {count:,} contigs, more than the file can hold"
            )
        if not count:
            raise self._broken("the .2bit file holds no contig")
        offsets: dict[str, int] = {}
        place = 16
        for number in range(1, count + 1):
            length = self._word(place, "B")
            raw = self._map[place + 1 : place + 1 + length]
            place += 1 + length
            try:
                name = raw.decode("utf-8")
            except UnicodeDecodeError:
                raise self._broken(f"the name of contig {number} is not UTF-8: {raw!r}") from None
            if not name:
                raise self._broken(f"contig {number} of the .2bit index has no name")
            if name in offsets:
                raise self._broken(f"the .2bit index lists contig {name!r} twice")
            offsets[name] = self._word(place, wide)
            place += width
        for name, offset in offsets.items():
            if offset < place:
                raise self._broken(
                    f"contig {name!r} is said to begin at byte {offset:,}, within the .2bit index"
                )
        return offsets

    def _frame(self, name: str, offset: int) -> _Record:
        size, n_count = self._word(offset), self._word(offset + 4)
        n_offset = offset + 8
        mask_place = n_offset + 8 * n_count
        mask_count = self._word(mask_place)
        mask_offset = mask_place + 4
        dna_offset = mask_offset + 8 * mask_count + 4  # after a reserved word
        end = dna_offset + (size + 3) // 4
        if end > len(self._map):
            raise self._broken(
                f"the .2bit file is truncated: contig {name!r} ends at byte {end:,}, the file at {len(self._map):,}"
            )
        return _Record(size, n_count, n_offset, mask_count, mask_offset, dna_offset)

    def _spans(self, chrom: str, *, mask: bool) -> Runs:
        if (found := self._runs.get((chrom, mask))) is not None:
            return found
        record = self._records[chrom]
        count, offset = (
            (record.mask_count, record.mask_offset) if mask else (record.n_count, record.n_offset)
        )
        words = np.frombuffer(self._map, dtype=f"{self._order}u4", count=2 * count, offset=offset)
        starts, sizes = words.astype(np.int64).reshape(2, count)
        # Column-major: each column is contiguous, as binary search wants it.
        runs = np.stack([starts, starts + sizes])[:, sizes > 0].T
        bad = runs[:, 1] > record.size
        bad[1:] |= runs[1:, 0] < runs[:-1, 1]
        if bad.any():
            start, end = runs[int(np.argmax(bad))]
            raise self._broken(
                f"contig {chrom!r} of {record.size:,} bases has a malformed {'soft-mask' if mask else 'N'} run "
                f"from {start:,} to {end:,}: runs are ascending, disjoint and inside the contig"
            )
        runs.flags.writeable = False
        self._runs[chrom, mask] = runs
        return runs


class TwoBitWriter:
    """Writes a ``.2bit`` file contig by contig, each in pieces of any size.

    Memory holds one packed contig (a quarter of its letters) and its runs. The index stands at the head of the file
    but is known last, so finished contigs wait in a temporary file in the target's folder.

    Parameters
    ----------
    path
        File to write; use `hyenadna.io.atomic.atomic_path` around it.
    version
        0, 1, or None for the lowest that can hold the offsets.
    """

    def __init__(self, path: str | os.PathLike[str], *, version: int | None = None) -> None:
        self.path = Path(path)
        self._version = version
        self._entries: dict[str, int] = {}
        self._spool: BinaryIO = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 - closed in __exit__
        self._totals = np.zeros(4, dtype=np.int64)
        self._name: str | None = None

    def begin(self, name: str) -> None:
        """Start a contig.

        Raises
        ------
        FileFormatError
            The name is empty, longer than 255 bytes, or taken already.
        """
        self._finish_contig()
        if not 0 < len(name.encode()) < 256:
            raise FileFormatError(
                f"contig name {name[:40]!r}… must have 1 to 255 bytes to fit a .2bit file"
            )
        if name in self._entries:
            raise FileFormatError(f"two contigs are named {name!r}; names must be unique")
        self._name = name
        self._size = 0
        self._packed: list[npt.NDArray[np.uint8]] = []
        self._rest = np.empty(0, dtype=np.uint8)
        self._edges: dict[int, list[npt.NDArray[np.int64]]] = {N_FLAG: [], MASK_FLAG: []}
        self._last = 0

    def append(self, letters: bytes) -> None:
        """Add bases to the contig, given as letters translated by `LETTER_TABLE`; none may be `ILLEGAL`."""
        codes = np.frombuffer(letters, dtype=np.uint8)
        if not codes.size:
            return
        if self._last > BASE_BITS or codes.max() > BASE_BITS:
            self._note_runs(codes)
            codes = codes & np.uint8(BASE_BITS)
        self._size += len(codes)
        if self._rest.size:
            codes = np.concatenate([self._rest, codes])
        whole = len(codes) // 4 * 4
        self._rest = codes[whole:].copy()
        self._packed.append(_pack(codes[:whole]))

    def close(self) -> PackSummary:
        """Write the file and return what it holds.

        Raises
        ------
        FileFormatError
            No contig was written.
        """
        self._finish_contig()
        if not self._entries:
            raise FileFormatError("there is no sequence to pack")
        names = [name.encode() for name in self._entries]
        version = self._version
        for candidate in (0, 1) if version is None else (version,):
            version, width = candidate, 8 if candidate else 4
            base = 16 + sum(1 + len(name) + width for name in names)
            if base + max(self._entries.values()) < 2 ** (8 * width):
                break
        else:
            raise FileFormatError("the genome is too large for .2bit version 0", path=self.path)
        with self.path.open("wb") as out:
            out.write(struct.pack("<4I", SIGNATURE, version, len(names), 0))
            for name, offset in zip(names, self._entries.values(), strict=True):
                out.write(struct.pack("<B", len(name)) + name)
                out.write(struct.pack("<Q" if version else "<I", base + offset))
            self._spool.seek(0)
            shutil.copyfileobj(self._spool, out, 1 << 20)
        bases, n_bases, soft_masked, ambiguous = self._totals.tolist()
        return PackSummary(len(names), bases, n_bases, soft_masked, ambiguous)

    def __enter__(self) -> TwoBitWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._spool.close()

    def _note_runs(self, codes: npt.NDArray[np.uint8]) -> None:
        """Note where the flags change; both flags cost one pass, as most positions change neither."""
        before = np.concatenate([[np.uint8(self._last)], codes[:-1]])
        places = np.flatnonzero((codes ^ before) > BASE_BITS)
        change = codes[places] ^ before[places]
        for flag, edges in self._edges.items():
            edges.append(places[(change & flag) != 0] + self._size)
        self._last = int(codes[-1])
        self._totals[3] += np.count_nonzero(codes & AMBIGUOUS_FLAG)

    def _finish_contig(self) -> None:
        if self._name is None:
            return
        if self._size > MAX_CONTIG:
            raise FileFormatError(
                f"contig {self._name!r} has {self._size:,} bases; a .2bit file holds at most {MAX_CONTIG:,} a contig"
            )
        self._entries[self._name] = self._spool.tell()
        self._name = None
        write = self._spool.write
        write(struct.pack("<I", self._size))
        for column, (flag, edges) in enumerate(self._edges.items(), start=1):
            if self._last & flag:
                edges.append(np.array([self._size]))
            runs = np.concatenate([np.empty(0, np.int64), *edges]).reshape(-1, 2)
            sizes = runs[:, 1] - runs[:, 0]
            write(struct.pack("<I", len(runs)))
            write(runs[:, 0].astype("<u4").tobytes() + sizes.astype("<u4").tobytes())
            self._totals[column] += sizes.sum()
        write(struct.pack("<I", 0))
        for piece in self._packed:
            write(piece.data)
        if self._rest.size:
            write(
                _pack(np.concatenate([self._rest, np.zeros(-len(self._rest) % 4, np.uint8)])).data
            )
        self._totals[0] += self._size
        self._packed.clear()


def write_twobit(
    records: Iterable[tuple[str, str | bytes]],
    path: str | os.PathLike[str],
    *,
    force: bool = False,
    version: int | None = None,
) -> PackSummary:
    """Write named sequences to a ``.2bit`` file.

    Parameters
    ----------
    records
        Names and letters: IUPAC nucleotide codes in either case. Lower case becomes soft mask, U reads as T, and
        ambiguity codes become N, which the summary counts. Taken one by one: memory holds one contig.
    path
        File to write, atomically.
    force
        Replace an existing file.
    version
        0, 1 (64-bit offsets), or None for the lowest that fits.

    Raises
    ------
    SequenceError
        A letter is no nucleotide code.
    FileFormatError
        There is no record, or a name is empty, too long or taken.
    OutputError
        The file exists, or cannot be written.
    """
    with (
        atomic_path(path, force=force) as temporary,
        TwoBitWriter(temporary, version=version) as writer,
    ):
        for name, sequence in records:
            writer.begin(name)
            for piece in _pieces(sequence):
                letters = piece.translate(LETTER_TABLE)
                if letters.find(ILLEGAL) >= 0:
                    validate_dna(sequence, record=name)
                writer.append(letters)
        return writer.close()


def _pieces(sequence: str | bytes, length: int = 1 << 22) -> Iterator[bytes]:
    for start in range(0, len(sequence), length):
        piece = sequence[start : start + length]
        # A letter beyond ASCII becomes "?", which is illegal too: validate_dna then names the letter itself.
        yield piece.encode("ascii", "replace") if isinstance(piece, str) else piece


def _pack(codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pack base numbers 0…3, shape (4 n,), into bytes, shape (n,).

    Read as one little-endian word, the four numbers of a byte stand at bits 0, 8, 16 and 24; a single multiplication
    adds them up at bits 30, 28, 26 and 24, and no other term reaches these.
    """
    words = np.ascontiguousarray(codes).view("<u4") * np.uint32(0x40100401)
    packed: npt.NDArray[np.uint8] = (words >> np.uint32(24)).astype(np.uint8)
    return packed


def _open_map(path: Path) -> mmap.mmap:
    try:
        # A pipe would block in open() until somebody writes: look first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise FileFormatError("a .2bit genome must be a regular file", path=path)
        with path.open("rb") as handle:
            if os.fstat(handle.fileno()).st_size < 16:
                raise FileFormatError(
                    "the .2bit file is truncated: it is shorter than its header; copy it again, or pack the FASTA again",
                    path=path,
                )
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise FileFormatError(f"the file cannot be read ({error.strerror})", path=path) from error
