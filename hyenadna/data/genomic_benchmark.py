"""One task of Genomic Benchmarks as a folder like those of GUE: ``train.csv``, ``dev.csv``, ``test.csv`` and a card.

Its authors publish two forms. *Sequences*: a zip or a folder with ``train/CLASS/ID.txt`` and ``test/CLASS/ID.txt``, one sequence a file. *Intervals*: a
folder with ``train/CLASS.csv.gz`` and ``test/CLASS.csv.gz`` (``id,region,start,end,strand``, 0-based half-open), whose bases are those of a genome. There
is no dev split in either; the one thing to know is that it is cut off train here, and that test stays as it was published.
"""

from __future__ import annotations

import csv
import gzip
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from hyenadna.data.fetch import default_folder
from hyenadna.data.genome import Genome
from hyenadna.data.labelled import LabelledRow, LabelledSet, labelled_set, sha256_of
from hyenadna.data.labelled_task import cut_dev, strandless
from hyenadna.data.manifest import RemoteDataset, find_dataset
from hyenadna.data.site_task import SPLITS
from hyenadna.errors import (  # fmt: skip
    ConfigError,
    DataError,
    FileFormatError,
    IntervalError,
    SequenceLengthError,
)
from hyenadna.io.atomic import atomic_path, check_output
from hyenadna.sequence import Interval, find_contig, validate_dna

DATASET = "genomic_benchmarks"
_PUBLISHED = ("train", "test")
_COLUMNS = ("region", "start", "end", "strand")
_LAYOUTS = "train/CLASS/*.txt and test/CLASS/*.txt (sequences), or train/CLASS.csv.gz and test/CLASS.csv.gz (intervals of a genome)"  # fmt: skip
_RATIO, _ALWAYS_ALLOWED = 100, 1 << 24  # as `hyenadna.data.unpack` has them


class BenchmarkSummary(NamedTuple):
    """What was written."""

    classes: tuple[str, ...]
    """Names of the classes 0, 1, …"""
    rows: Mapping[str, tuple[int, ...]]
    """Rows of each class, by split."""
    train_in_test: int
    """Rows of train and dev whose sequence stands in test, on either strand."""


class _File(NamedTuple):
    """A file of the benchmark: its path below the benchmark's folder, how messages call it, and how to get its bytes."""

    parts: tuple[str, ...]
    place: str
    read: Callable[[], bytes]


def find_benchmark(name: str) -> Path:
    """Return the file or folder of a benchmark: the path itself, or the archive of a task that was fetched to the cache.

    Raises
    ------
    DataError
        There is neither.
    """
    path = Path(name).expanduser()
    if path.exists():
        return path
    dataset = find_dataset(DATASET)
    assert isinstance(dataset, RemoteDataset)
    if name not in (names := [task.name for task in dataset.tasks]):
        raise DataError(
            f"{name} is neither a file, nor a folder, nor a task of Genomic Benchmarks ({', '.join(names)})"
        )
    (file,) = (file for file in dataset.files if file.path.startswith(f"{name}_v"))
    found = default_folder(DATASET) / file.place
    if not found.exists():
        raise DataError(
            f"the task {name!r} is not in the cache; get it with 'hyenadna datasets fetch {DATASET}', or name its zip archive"
        )
    return found


def build_genomic_benchmark(
    source: Path,
    output: str | os.PathLike[str],
    *,
    genomes: Mapping[str, Genome] | None = None,
    dev_fraction: float = 0.1,
    seed: int = 0,
    force: bool = False,
) -> BenchmarkSummary:
    """Turn a task of Genomic Benchmarks into a folder.

    Parameters
    ----------
    source
        Zip archive or folder, of either form.
    output
        Folder to write: train.csv, dev.csv, test.csv, README.md. Classes are numbered in the order of their names; letters are upper case.
    genomes
        For intervals: the genome of each class; under ``""`` that of the classes without one of their own.
    dev_fraction
        Share of train that becomes dev, in (0, 1); stratified, copies of a sequence on either strand stay together.
    seed
        Chooses the rows of dev, and the order of rows.
    force
        Overwrite files of an existing folder.

    Raises
    ------
    FileFormatError
        The source has neither layout, classes of train and test differ, or a file is no text, no table, or lacks columns.
    SequenceError, SequenceLengthError, IntervalError
        A sequence or an interval is impossible.
    ConfigError, DataError
        Genomes are missing or not needed, the share is no share, or a split would be empty.
    OutputError
        The folder exists, or cannot be written.
    """
    genomes = genomes or {}
    if not 0 < dev_fraction < 1:
        raise ConfigError(f"the dev fraction is {dev_fraction}; expected a share between 0 and 1")
    check_output(output, force=force, folder=True)
    if not source.exists():
        raise FileFormatError("no such file or folder", path=source)
    if source.is_file():
        with _zip(source) as archive:
            rows, genomes_used = _read(source, list(_zip_files(source, archive)), genomes)
    else:
        rows, genomes_used = _read(source, list(_folder_files(source)), genomes)
    classes = tuple(sorted({row.label for row in rows["train"]}))
    train, test = (labelled_set(rows[split], classes) for split in _PUBLISHED)
    train, dev = cut_dev(train, dev_fraction, seed)
    if not len(train) or not len(dev):
        raise DataError(f"{source}: {len(rows['train'])} training rows are too few to cut a dev split off")  # fmt: skip
    sets = {"train": train, "dev": dev, "test": test}
    known = {strandless(sequence) for sequence in test.sequences}
    leaks = sum(strandless(s) in known for part in (train, dev) for s in part.sequences)
    counts = {split: tuple(np.bincount(sets[split].labels, minlength=len(classes)).tolist()) for split in SPLITS}  # fmt: skip
    summary = BenchmarkSummary(classes, counts, leaks)
    with atomic_path(output, force=force, folder=True) as folder:
        folder.mkdir()
        for number, split in enumerate(SPLITS):
            _write(folder / f"{split}.csv", sets[split], np.random.default_rng([seed, number]))
        card = _card(source, summary, genomes_used, dev_fraction, seed)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return summary


def _zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise FileFormatError(
            f"this is no zip archive ({error}); expected one, or a folder, with {_LAYOUTS}",
            path=path,
        ) from error


def _zip_files(path: Path, archive: zipfile.ZipFile) -> Iterator[_File]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    limit = max(_RATIO * path.stat().st_size, _ALWAYS_ALLOWED)
    if sum(entry.file_size for entry in entries) > limit:
        raise FileFormatError(f"the archive unpacks to more than {_RATIO} times its size, as sequences do not", path=path)  # fmt: skip
    for entry in entries:
        parts = tuple(entry.filename.split("/"))
        if "__MACOSX" in parts or parts[-1].startswith("."):
            continue
        inside = parts if parts[0] in _PUBLISHED else parts[1:]  # a folder that encloses everything
        yield _File(inside, f"{path}/{entry.filename}", partial(_unzip, path, archive, entry))


def _unzip(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(entry)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:  # fmt: skip
        raise FileFormatError(
            f"{entry.filename} cannot be read from the archive ({error})", path=path
        ) from error


def _folder_files(path: Path) -> Iterator[_File]:
    inner = [f for f in path.iterdir() if f.is_dir() and not f.name.startswith(".")]
    top = path if any((path / split).is_dir() for split in _PUBLISHED) or len(inner) != 1 else inner[0]  # fmt: skip
    for split in _PUBLISHED:
        for file in (top / split).rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                yield _File(file.relative_to(top).parts, str(file), partial(_read_bytes, file))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"the file cannot be read ({error.strerror})", path=path) from error


def _read(
    source: Path, files: list[_File], genomes: Mapping[str, Genome]
) -> tuple[dict[str, list[LabelledRow]], dict[str, Genome]]:
    files = [file for file in files if file.parts and file.parts[0] in _PUBLISHED]
    texts = [f for f in files if len(f.parts) == 3 and f.parts[2].endswith(".txt")]
    tables = [f for f in files if len(f.parts) == 2 and f.parts[1].endswith((".csv", ".csv.gz"))]
    if not files or len(files) not in (len(texts), len(tables)):
        odd = next((f for f in files if f not in set(texts or tables)), None)
        found = f"found {odd.place}" if odd else "found none of these"
        raise FileFormatError(f"expected {_LAYOUTS}; {found}", path=source)
    if twice := [parts for parts, count in Counter(f.parts for f in files).items() if count > 1]:
        raise FileFormatError(f"{'/'.join(twice[0])} is in the archive twice", path=source)
    by_class: dict[tuple[str, str], list[_File]] = {}
    for file in sorted(files, key=lambda f: (f.parts[:-1], len(f.parts[-1]), f.parts[-1])):
        label = file.parts[1].removesuffix(".gz").removesuffix(".csv") if tables else file.parts[1]
        by_class.setdefault((file.parts[0], label), []).append(file)
    classes = {split: {label for part, label in by_class if part == split} for split in _PUBLISHED}
    if len(classes["train"]) < 2 or classes["train"] != classes["test"]:
        shown = "; ".join(f"{split}: {', '.join(sorted(classes[split])) or 'none'}" for split in _PUBLISHED)  # fmt: skip
        raise FileFormatError(f"train and test need the same classes, at least two; found {shown}", path=source)  # fmt: skip
    used = _genomes_of(source, sorted(classes["train"]), genomes) if tables else {}
    if texts and genomes:
        raise ConfigError(f"{source} holds sequences, which need no genome; leave it away")
    rows: dict[str, list[LabelledRow]] = {split: [] for split in _PUBLISHED}
    for (split, label), some in by_class.items():
        if len(some) > 1 and tables:
            raise FileFormatError(f"the class {label!r} of {split} has two tables", path=source)
        for file in some:
            rows[split] += _intervals(file, label, used[label]) if tables else [_text(file, label)]
    return rows, used


def _text(file: _File, label: str) -> LabelledRow:
    try:
        sequence = "".join(file.read().decode("ascii").split()).upper()
    except UnicodeDecodeError as error:
        raise FileFormatError("the file is no text of a sequence", path=file.place) from error
    if not sequence:
        raise SequenceLengthError(f"{file.place}: the sequence is empty", record=file.place)
    validate_dna(sequence, record=file.place)
    return LabelledRow(sequence, label, 1)


def _genomes_of(
    source: Path, classes: list[str], genomes: Mapping[str, Genome]
) -> dict[str, Genome]:
    if unknown := sorted(set(genomes) - {"", *classes}):
        raise ConfigError(f"a genome is given for the class {unknown[0]!r}; {source} has {', '.join(classes)}")  # fmt: skip
    found = {}
    for label in classes:
        genome = genomes.get(label) or genomes.get("")
        if genome is None:
            raise ConfigError(
                f"{source} holds intervals: the class {label!r} needs its genome (--genome {label}=FILE, or --genome FILE for "
                f"all classes{_reference(source, label)})"
            )
        found[label] = genome
    return found


def _reference(source: Path, label: str) -> str:
    """Say which genome the benchmark's own metadata name for a class, where they do."""
    try:
        content = yaml.safe_load((source / "metadata.yaml").read_text(encoding="utf-8"))
        return f"; metadata.yaml names {content['classes'][label]['url']}"
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return ""


def _intervals(file: _File, label: str, genome: Genome) -> Iterator[LabelledRow]:
    data = file.read()
    try:
        text = (gzip.decompress(data) if file.place.endswith(".gz") else data).decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise FileFormatError(f"the table cannot be read ({error})", path=file.place) from error
    reader = csv.reader(text.splitlines(), strict=True)
    unversioned = Counter(name.rpartition(".")[0] for name in genome.contigs)
    names = {name.rpartition(".")[0]: name for name in genome.contigs}
    try:
        header = next(reader, [])
        if not set(_COLUMNS) <= set(header):
            raise FileFormatError(
                f"the columns are {', '.join(header) or 'none'}; expected {', '.join(_COLUMNS)} among them",
                path=file.place,
                line=1,
            )
        at = [header.index(name) for name in _COLUMNS]
        for fields in reader:
            line = reader.line_num
            if len(fields) != len(header):
                raise FileFormatError(f"the row has {len(fields)} fields, expected {len(header)}", path=file.place, line=line)  # fmt: skip
            region, start, end, strand = (fields[i].strip() for i in at)
            if not (start.isascii() and start.isdigit() and end.isascii() and end.isdigit()):
                raise FileFormatError(f"start and end are {start!r} and {end!r}; expected whole numbers", path=file.place, line=line)  # fmt: skip
            chrom = find_contig(region, genome.contigs)
            if (
                chrom is None and region and unversioned[region] == 1
            ):  # ENST00000371014 of ENST00000371014.5
                chrom = names[region]
            try:
                span = Interval(chrom or region, int(start), int(end), strand)
                sequence = genome.sequence(span).upper()
            except IntervalError as error:
                raise IntervalError(f"{file.place}:{line}: {error}") from None
            yield LabelledRow(sequence, label, line)
    except csv.Error as error:
        raise FileFormatError(f"the table cannot be read: {error}", path=file.place) from error


def _write(path: Path, rows: LabelledSet, rng: np.random.Generator) -> None:
    with path.open("w", newline="", encoding="ascii") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["sequence", "label"])
        order = rng.permutation(len(rows)).tolist()
        writer.writerows((rows.sequences[row], int(rows.labels[row])) for row in order)


def _card(
    source: Path,
    summary: BenchmarkSummary,
    genomes: Mapping[str, Genome],
    dev_fraction: float,
    seed: int,
) -> str:
    made_of = f", SHA-256 {sha256_of(source)}" if source.is_file() else " (folder)"
    lines = [
        f"# {source.resolve().name.removesuffix('.zip')} (Genomic Benchmarks)",
        "",
        f"Columns `sequence,label`. The test rows are the published ones. Its authors have no dev split: dev is {dev_fraction:.0%} of their train, "
        "stratified, copies of a sequence on either strand kept together.",
        "",
        "| label | class | train | dev | test |",
        "|---|---|---|---|---|",
        *(
            f"| {label} | {name} | {' | '.join(str(summary.rows[split][label]) for split in SPLITS)} |"
            for label, name in enumerate(summary.classes)
        ),
        "",
        f"Of the rows of train and dev, {summary.train_in_test} have a sequence that stands in test, on either strand; `hyenadna finetune` leaves "
        "them out, `hyenadna datasets audit` finds more distant likeness.",
        "",
        f"- made of: {source.resolve().name}{made_of}",
        *(
            f"- genome of {name}: {genome.path.name}, SHA-256 {genome.checksum}"
            for name, genome in genomes.items()
        ),
        f"- settings: dev_fraction={dev_fraction}, seed={seed}",
        "- cite: Gresova et al. (2023), BMC Genomic Data 24, doi:10.1186/s12863-023-01123-8; their data are CC-BY-4.0",
        "",
    ]
    return "\n".join(lines)
