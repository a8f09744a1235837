"""Files of numbers along a genome: bedGraph, bigWig and npz, written in the genome's order as the numbers come, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hyenadna.errors import BackendUnavailableError, ConfigError
from hyenadna.io.atomic import atomic_path, check_output, open_output
from hyenadna.sequence import Interval

__all__ = ["TrackWriter", "open_track", "track_format"]

_FORMATS = {".bedgraph": "bedgraph", ".bdg": "bedgraph", ".bw": "bigwig", ".bigwig": "bigwig", ".npz": "npz"}  # fmt: skip


class TrackWriter(Protocol):
    """Takes stretches of numbers in the genome's order; NaN is no number there."""

    def add(self, interval: Interval, values: npt.NDArray[np.float32]) -> None:
        """Write the values (B,) of a stretch of B bases."""


def track_format(path: str, form: str | None = None) -> str:
    """Return the format that is asked for, else that of a file's name: bedgraph (.gz, too), bigwig or npz; bedgraph for ``-``.

    Raises
    ------
    ConfigError
        The name has none of the endings, there is no such format, or it is not one for standard output or gzip.
    BackendUnavailableError
        pyBigWig is not installed.
    """
    known = dict.fromkeys(_FORMATS.values())
    if form is not None and form not in known:
        raise ConfigError(f"the track format {form!r} is unknown; expected {', '.join(known)}")
    if form is None:
        name = path.removesuffix(".gz")
        form = "bedgraph" if path == "-" else _FORMATS.get(Path(name).suffix.lower())
    if form is None or (path.endswith(".gz") and form != "bedgraph"):
        raise ConfigError(
            f"the track {path!r} has no known format; expected a name that ends with .bedGraph, .bedGraph.gz, .bw or .npz"
        )
    if path == "-" and form != "bedgraph":
        raise ConfigError(f"a track in {form} needs a file; standard output takes bedgraph")
    if form == "bigwig":
        try:
            __import__("pyBigWig")
        except ImportError as error:
            raise BackendUnavailableError(
                "bigWig files need the package pyBigWig, which is not installed; run pip install pyBigWig, or write .bedGraph.gz"
            ) from error
    return form


@contextmanager
def open_track(
    path: str,
    contigs: Mapping[str, int],
    *,
    form: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Iterator[TrackWriter]:
    """Open a track, which appears under its name only when it is complete.

    Parameters
    ----------
    path
        Its ending says the format, where `form` does not; ``-`` is standard output. A bedGraph merges neighbours of equal value (6 digits); an npz holds, for each contig that has numbers, an array of its
        whole length, NaN where there are none.
    contigs
        Lengths by name, in the order in which stretches will come.
    form
        bedgraph, bigwig or npz.
    provenance
        Kept in a bedGraph's first lines and an npz; a bigWig has no place for it.
    force
        Overwrite an existing file.

    Raises
    ------
    ConfigError, BackendUnavailableError
        As `track_format`.
    OutputError
        The file exists, or cannot be written.
    """
    form = track_format(path, form)
    check_output(path, force=force, folder=False)
    text = json.dumps(dict(provenance or {}))
    with ExitStack() as stack:
        if form == "bedgraph":
            out = stack.enter_context(open_output(path, force=force))
            out.write(f"#hyenadna {text}\n")
            yield _BedGraph(out)
            return
        temporary = stack.enter_context(atomic_path(path, force=force, folder=False))
        if form == "npz":
            writer = _Npz(contigs)
            yield writer
            with temporary.open("wb") as raw:
                np.savez_compressed(raw, provenance=np.array([text]), **writer.arrays)  # type: ignore[arg-type]
            return
        import pyBigWig

        file = pyBigWig.open(os.fspath(temporary), "w")
        try:
            file.addHeader(list(contigs.items()))
            yield _BigWig(file)
        finally:
            file.close()


class _BedGraph:
    def __init__(self, out: Any) -> None:
        self._out = out

    def add(self, interval: Interval, values: npt.NDArray[np.float32]) -> None:
        lines = []
        for start, end in _runs(values):
            low, high = interval.start + start, interval.start + end
            lines.append(f"{interval.chrom}\t{low}\t{high}\t{values[start]:.6g}\n")
        self._out.write("".join(lines))


def _runs(values: npt.NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Yield the runs of equal numbers, NaN left out."""
    if not len(values):
        return
    edges = np.flatnonzero(np.diff(values, prepend=np.nan, append=np.nan) != 0)
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if not np.isnan(values[start]):
            yield start, end


class _Npz:
    def __init__(self, contigs: Mapping[str, int]) -> None:
        self._contigs = contigs
        self.arrays: dict[str, npt.NDArray[np.float32]] = {}

    def add(self, interval: Interval, values: npt.NDArray[np.float32]) -> None:
        if interval.chrom not in self.arrays:
            self.arrays[interval.chrom] = np.full(self._contigs[interval.chrom], np.nan, np.float32)
        self.arrays[interval.chrom][interval.start : interval.end] = values


class _BigWig:
    def __init__(self, file: Any) -> None:
        self._file = file

    def add(self, interval: Interval, values: npt.NDArray[np.float32]) -> None:
        known = ~np.isnan(values)
        edges = np.flatnonzero(np.diff(known, prepend=False, append=False))
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            self._file.addEntries(interval.chrom, interval.start + start, values=values[start:end], span=1, step=1)  # fmt: skip
