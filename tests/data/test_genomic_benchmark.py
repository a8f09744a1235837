"""Both published forms of Genomic Benchmarks become the same kind of folder; what is not theirs is refused by name."""

from __future__ import annotations

import csv
import gzip
import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from hyenadna.data.fetch import default_folder
from hyenadna.data.genome import Genome
from hyenadna.data.genomic_benchmark import build_genomic_benchmark, find_benchmark
from hyenadna.data.labelled_task import load_task
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import (
    ConfigError,
    DataError,
    FileFormatError,
    HyenaDNAError,
    IntervalError,
    OutputError,
    SequenceError,
)
from hyenadna.sequence import reverse_complement

SIZES = {("train", "negative"): 40, ("train", "positive"): 20, ("test", "negative"): 8, ("test", "positive"): 4}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = random.Random(0)
    top = tmp_path / "toy"
    for (split, label), count in SIZES.items():
        (top / split / label).mkdir(parents=True)
        for number in range(count):
            text = "".join(rng.choices("ACGT", k=rng.randint(15, 25)))
            (top / split / label / f"{number}.txt").write_text(text)
    return top


def rows(path: Path) -> list[tuple[str, str]]:
    with path.open() as lines:
        reader = csv.reader(lines)
        assert next(reader) == ["sequence", "label"]
        return [(sequence, label) for sequence, label in reader]


def published(folder: Path, split: str) -> Counter[tuple[str, str]]:
    classes = {"negative": "0", "positive": "1"}
    files = (folder / split).glob("*/*.txt")
    return Counter((file.read_text(), classes[file.parent.name]) for file in files)


def zipped(folder: Path, path: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.txt"), reverse=True):
            archive.write(file, f"{top}{file.relative_to(folder).as_posix()}")
    return path


def contents(folder: Path) -> dict[str, str]:
    return {f.name: f.read_text() for f in folder.iterdir() if f.suffix == ".csv"}


def test_sequences_become_a_task_with_a_dev_split(folder: Path, tmp_path: Path) -> None:
    summary = build_genomic_benchmark(folder, tmp_path / "out")
    assert summary.classes == ("negative", "positive")
    assert summary.rows == {"train": (36, 18), "dev": (4, 2), "test": (8, 4)}
    out = {split: Counter(rows(tmp_path / f"out/{split}.csv")) for split in ("train", "dev", "test")}  # fmt: skip
    assert out["test"] == published(folder, "test")
    assert out["train"] + out["dev"] == published(folder, "train")
    task = load_task(tmp_path / "out")
    assert task.label_names == ("0", "1")
    assert (len(task.train), len(task.dev), task.dropped) == (54, 6, {})
    card = (tmp_path / "out/README.md").read_text()
    assert "| 1 | positive | 18 | 2 | 4 |" in card
    assert str(tmp_path) not in card


def test_zip_folder_and_order_of_files_make_no_difference(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/toy").symlink_to(folder, target_is_directory=True)
    sources = [
        folder,
        zipped(folder, tmp_path / "a.zip"),
        zipped(folder, tmp_path / "b.zip", "toy_v0/"),
        tmp_path / "outer",
    ]
    made = []
    for number, source in enumerate(sources):
        build_genomic_benchmark(source, tmp_path / f"out{number}", seed=3)
        made.append(contents(tmp_path / f"out{number}"))
    assert made == 4 * made[:1]
    build_genomic_benchmark(folder, tmp_path / "other", seed=4)
    assert contents(tmp_path / "other") != made[0]


def test_copies_stay_on_one_side_and_leaks_are_counted(folder: Path, tmp_path: Path) -> None:
    first = (folder / "train/negative/0.txt").read_text()
    for number in range(1, 30):
        text = first if number % 2 else reverse_complement(first)
        (folder / f"train/negative/{number}.txt").write_text(text.lower() + "\n")
    (folder / "test/positive/0.txt").write_text(reverse_complement(first))
    summary = build_genomic_benchmark(folder, tmp_path / "out", dev_fraction=0.4)
    copies = {
        split: sum(min(s, reverse_complement(s)) == min(first, reverse_complement(first)) for s, _ in rows(tmp_path / f"out/{split}.csv"))
        for split in ("train", "dev")
    }  # fmt: skip
    assert sorted(copies.values()) == [0, 30]
    assert summary.train_in_test == 30
    assert "30 have a sequence that stands in test" in (tmp_path / "out/README.md").read_text()


def write_table(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def intervals(tmp_path: Path) -> Path:
    top = tmp_path / "intervals"
    for split, first in (("train", 0), ("test", 500)):
        spans = "".join(f"{n},chr1,{first + 9 * n},{first + 9 * n + 20},{'+-'[n % 2]}\n" for n in range(20))  # fmt: skip
        write_table(top / split / "dna.csv.gz", "id,region,start,end,strand\n" + spans)
        # As in the repository: a column of pandas in front, and names without their version.
        write_table(top / split / "rna.csv", f",id,region,start,end,strand\n7,7,ENST01,{first},{first + 30},+\n8,8,ENST02,5,{first // 10 + 31},-\n")  # fmt: skip
    (top / "metadata.yaml").write_text("classes: {dna: {url: https://example.org/dna.fa.gz}}\n")
    return top


@pytest.fixture
def genomes(tmp_path: Path) -> dict[str, Genome]:
    rng = random.Random(1)
    dna = [("1", "".join(rng.choices("ACGTacgt", k=1000)))]
    rna = [(f"ENST0{n}.4", "".join(rng.choices("ACGT", k=600))) for n in (1, 2)]
    write_twobit(dna, tmp_path / "dna.2bit")
    write_twobit(rna, tmp_path / "rna.2bit")
    return {"dna": Genome(tmp_path / "dna.2bit"), "rna": Genome(tmp_path / "rna.2bit")}


def test_intervals_are_read_from_the_genome_of_their_class(
    intervals: Path, genomes: dict[str, Genome], tmp_path: Path
) -> None:
    from hyenadna.sequence import Interval

    summary = build_genomic_benchmark(intervals, tmp_path / "out", genomes=genomes)
    assert summary.classes == ("dna", "rna")
    assert sum(map(sum, summary.rows.values())) == 44
    dna = genomes["dna"].sequence(Interval("1", 0, 1000)).upper()
    expected = {(dna[500 + 9 * n : 520 + 9 * n], "0") for n in range(0, 20, 2)}
    expected |= {(reverse_complement(dna[500 + 9 * n : 520 + 9 * n]), "0") for n in range(1, 20, 2)}
    expected.add((genomes["rna"].sequence(Interval("ENST01.4", 500, 530)), "1"))
    expected.add((reverse_complement(genomes["rna"].sequence(Interval("ENST02.4", 5, 81))), "1"))
    assert set(rows(tmp_path / "out/test.csv")) == expected
    card = (tmp_path / "out/README.md").read_text()
    assert f"- genome of rna: rna.2bit, SHA-256 {genomes['rna'].checksum}" in card


def test_one_genome_serves_all_classes(tmp_path: Path, genomes: dict[str, Genome]) -> None:
    header = "id,region,start,end,strand\n"
    for split, first in (("train", 0), ("test", 500)):
        for number, label in enumerate(("a", "b")):
            spans = "".join(f"{n},chr1,{s},{s + 20},+\n" for n in range(10) for s in [first + 40 * n + 20 * number])  # fmt: skip
            write_table(tmp_path / "x" / split / f"{label}.csv.gz", header + spans)
    summary = build_genomic_benchmark(tmp_path / "x", tmp_path / "out", genomes={"": genomes["dna"]})  # fmt: skip
    assert summary.rows == {"train": (9, 9), "dev": (1, 1), "test": (10, 10)}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ((), ConfigError, r"'dna' needs its genome \(--genome dna=FILE.*names https://example.org/dna.fa.gz"),
        (("dna",), ConfigError, r"'rna' needs its genome \(--genome rna=FILE, or --genome FILE for all classes\)"),
        (("dna", "rna", "worm"), ConfigError, "given for the class 'worm'"),
    ],
)  # fmt: skip
def test_genomes_must_fit_the_classes(
    intervals: Path,
    genomes: dict[str, Genome],
    tmp_path: Path,
    given: tuple[str, ...],
    error: type[HyenaDNAError],
    words: str,
) -> None:
    some = {name: genomes.get(name, genomes["dna"]) for name in given}
    with pytest.raises(error, match=words):
        build_genomic_benchmark(intervals, tmp_path / "out", genomes=some)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("1,chr2,0,9,+", IntervalError, r"dna\.csv\.gz:22: contig 'chr2' is not in the genome"),
        ("1,,0,9,+", IntervalError, r":22: an interval has no contig name"),
        ("1,chr1,990,1001,+", IntervalError, r":22: .*ends beyond contig '1'"),
        ("1,chr1,9,9,+", IntervalError, r":22: .*empty or reversed"),
        ("1,chr1,0,9,*", IntervalError, r":22: .*strand '\*'"),
        ("1,chr1,-1,9,+", FileFormatError, r":22: start and end are '-1' and '9'"),
        ("1,chr1,0,9", FileFormatError, r":22: the row has 4 fields, expected 5"),
        ('1,"chr1,0,9,+', FileFormatError, r"the table cannot be read"),
    ],
)
def test_impossible_intervals_are_named_with_their_line(
    intervals: Path,
    genomes: dict[str, Genome],
    tmp_path: Path,
    line: str,
    error: type[HyenaDNAError],
    words: str,
) -> None:
    path = intervals / "train/dna.csv.gz"
    write_table(path, gzip.decompress(path.read_bytes()).decode() + line + "\n")
    with pytest.raises(error, match=words):
        build_genomic_benchmark(intervals, tmp_path / "out", genomes=genomes)


def test_tables_must_be_tables(intervals: Path, genomes: dict[str, Genome], tmp_path: Path) -> None:
    path = intervals / "train/dna.csv.gz"
    whole = path.read_bytes()
    for damaged, words in (
        (whole[:-9], "cannot be read"),
        (b"id,region\n", "cannot be read"),
        (
            gzip.compress(b"id,region,from,to\n"),
            "columns are id, region, from, to; expected region",
        ),
        (gzip.compress(b""), "columns are none"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match=words):
            build_genomic_benchmark(intervals, tmp_path / "out", genomes=genomes)
    path.write_bytes(whole)
    write_table(intervals / "train/dna.csv", "id,region,start,end,strand\n")
    with pytest.raises(FileFormatError, match="'dna' of train has two tables"):
        build_genomic_benchmark(intervals, tmp_path / "out", genomes=genomes)


def test_other_layouts_are_refused(folder: Path, tmp_path: Path, genomes) -> None:
    def refused(source: Path, words: str, error: type[HyenaDNAError] = FileFormatError) -> None:
        with pytest.raises(error, match=words):
            build_genomic_benchmark(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "nowhere", "no such file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"expected train/CLASS/\*\.txt .*; found none of these")
    (tmp_path / "x.txt").write_text("no zip")
    refused(tmp_path / "x.txt", "this is no zip archive")
    with pytest.raises(ConfigError, match="need no genome"):
        build_genomic_benchmark(folder, tmp_path / "out", genomes={"": genomes["dna"]})
    with pytest.raises(ConfigError, match=r"dev fraction is 1\.0"):
        build_genomic_benchmark(folder, tmp_path / "out", dev_fraction=1.0)
    (folder / "train/positive/1.fa").write_text(">a\nACGT\n")
    refused(folder, r"found .*1\.fa")
    (folder / "train/positive/1.fa").unlink()
    (folder / "train/positive/1.txt").write_text("ACGTX")
    refused(folder, r"1\.txt", SequenceError)
    (folder / "train/positive/1.txt").write_text(" \n")
    refused(folder, r"1\.txt: the sequence is empty", SequenceError)
    (folder / "train/positive/1.txt").write_bytes(b"\xff\xfe")
    refused(folder, r"1\.txt: the file is no text")
    (folder / "train/positive/1.txt").write_text("ACGT")
    (folder / "test/positive").rename(folder / "test/Positive")
    refused(folder, "train: negative, positive; test: Positive, negative")


def test_bad_archives_are_refused(folder: Path, tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(FileFormatError, match=words):
            build_genomic_benchmark(path, tmp_path / "out")

    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/a/0.txt", "A" * (1 << 25))
    refused(tmp_path / "bomb.zip", "more than 100 times its size")
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("train/a/0.txt", "ACGT")
        archive.writestr("train/a/1.txt", "ACGT")
    data = (tmp_path / "twice.zip").read_bytes()
    (tmp_path / "twice.zip").write_bytes(data.replace(b"a/1.txt", b"a/0.txt"))
    refused(tmp_path / "twice.zip", "train/a/0.txt is in the archive twice")
    whole = zipped(folder, tmp_path / "whole.zip").read_bytes()
    text = (folder / "train/negative/3.txt").read_bytes()
    (tmp_path / "flipped.zip").write_bytes(whole.replace(text, text[::-1]))
    refused(tmp_path / "flipped.zip", "train/negative/3.txt cannot be read from the archive")


def test_an_existing_folder_is_kept_without_force(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(OutputError):
        build_genomic_benchmark(folder, tmp_path / "out")
    build_genomic_benchmark(folder, tmp_path / "out", force=True)
    assert (tmp_path / "out/mine").read_text() == "mine"
    assert (tmp_path / "out/dev.csv").is_file()


def test_tasks_are_found_by_name_once_they_are_fetched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path / "cache"))
    assert find_benchmark(str(folder)) == folder
    with pytest.raises(DataError, match="'human_enhancers_cohn' is not in the cache; get it with"):
        find_benchmark("human_enhancers_cohn")
    with pytest.raises(DataError, match="nor a task of Genomic Benchmarks"):
        find_benchmark("human_enhancers_kohn")
    place = default_folder("genomic_benchmarks") / "human_enhancers_cohn_v0.zip"
    place.parent.mkdir(parents=True)
    zipped(folder, place)
    assert find_benchmark("human_enhancers_cohn") == place
