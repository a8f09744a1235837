"""The bundled data: complete, undamaged, and what the card says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hyenadna import resources
from hyenadna.data import manifest
from hyenadna.data.genome import Genome
from hyenadna.data.manifest import BundledDataset, bundled_datasets, find_dataset, remote_datasets
from hyenadna.errors import DataError, FileFormatError
from hyenadna.io.fasta import read_fasta
from hyenadna.io.gff import read_gff
from hyenadna.sequence import Interval, reverse_complement


@pytest.fixture
def yeast() -> BundledDataset:
    (dataset,) = (dataset for dataset in bundled_datasets() if dataset.name == "scerevisiae")
    return dataset


@pytest.mark.parametrize("dataset", bundled_datasets(), ids=lambda dataset: dataset.name)
def test_every_data_set_is_complete(dataset: BundledDataset) -> None:
    assert dataset.name == dataset.folder.name
    assert dataset.damaged_files() == []
    for file in (dataset.genome, dataset.annotation, "README.md"):
        assert (dataset.folder / file).is_file()


def test_yeast_is_what_its_card_says(yeast: BundledDataset) -> None:
    genome = Genome.open("bundled:scerevisiae/genome.2bit")
    assert len(genome.contigs) == 16
    assert sum(genome.contigs.values()) == 12_071_326
    card = (yeast.folder / "README.md").read_text()
    for chrom, size in genome.contigs.items():
        assert f"| {chrom} |" in card
        assert f"{size:,}" in card
        assert not len(genome.n_runs(chrom))
        assert not len(genome.soft_mask_runs(chrom))


def test_yeast_annotation_fits_its_genome(yeast: BundledDataset) -> None:
    genome = Genome.open(yeast.folder / yeast.genome)
    features = list(read_gff(yeast.folder / yeast.annotation))
    kinds = [feature.kind for feature in features]
    assert (kinds.count("gene"), kinds.count("mRNA"), kinds.count("CDS")) == (6399, 5995, 6316)
    assert len({f.value("ID") for f in features if f.kind == "CDS"}) == 5989
    assert all(
        feature.interval.end <= genome.contigs[feature.interval.chrom] for feature in features
    )
    mrna = {f.value("locus_tag"): f.interval for f in features if f.kind == "mRNA"}
    starts = [genome.sequence(span)[:3] for span in mrna.values()]
    assert starts.count("ATG") / len(starts) > 0.98
    # The control: read from the wrong strand, genes do not begin with ATG.
    wrong = [reverse_complement(genome.sequence(span))[:3] for span in mrna.values()]
    assert wrong.count("ATG") / len(wrong) < 0.1


def test_yeast_equals_the_independent_copy(test_data: Path) -> None:
    genome = Genome.open("bundled:scerevisiae/genome.2bit")
    records = list(read_fasta(test_data / "genomes/scerevisiae_s288c.fa.gz"))
    assert [len(record.sequence) for record in records] == list(genome.contigs.values())
    for record, (chrom, size) in zip(records, genome.contigs.items(), strict=True):
        assert genome.sequence(Interval(chrom, 0, size)) == record.sequence.upper()
        assert record.description in (manifest.dataset_dir() / "scerevisiae/README.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setattr(manifest, "dataset_dir", lambda: tmp_path)
    (tmp_path / "toy").mkdir()
    text = "name: toy\ntitle: A toy\ngenome: g.2bit\nsource: here\nlicence: none\n"
    (tmp_path / "toy/dataset.yaml").write_text(text)
    (tmp_path / "toy/g.2bit").write_text("bases")
    digest = "5dbba98b1bde19a8dcd3cc3ea8d84ba64d2db0a3e1d5e0ed9eb5c9e7b5a6ed8d"
    (tmp_path / "toy/SHA256SUMS").write_text(f"{digest}  g.2bit\n")
    return tmp_path / "toy"


def test_damage_is_found(folder: Path) -> None:
    (dataset,) = bundled_datasets()
    assert dataset.annotation == ""
    assert dataset.damaged_files() == ["g.2bit"]
    (folder / "g.2bit").unlink()
    assert dataset.damaged_files() == ["g.2bit"]
    (folder / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(FileFormatError, match="SHA256SUMS:1"):
        dataset.damaged_files()
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        dataset.damaged_files()


@pytest.mark.parametrize("text", ["name: [", "- a\n", "name: toy\n"])
def test_malformed_manifest_is_refused(folder: Path, text: str) -> None:
    (folder / "dataset.yaml").write_text(text)
    with pytest.raises(FileFormatError, match=r"dataset\.yaml"):
        bundled_datasets()


REMOTE = """name: toy
title: A toy
homepage: https://example.org
licence: none
citation: nobody
base: https://example.org/toy/
files:
  - {path: a/train.csv, sha256: SHA, size: 5}
  - {path: b.tar.gz, url: "https://example.org/b?download=1", mirrors: [c.tar.gz], md5: MD5, unpack: tar.gz}
tasks:
  - {name: a, classes: 2, metric: mcc, length: 70}
""".replace("SHA", "A" * 64).replace("MD5", "b" * 32)


def test_remote_manifest_is_read(folder: Path) -> None:
    (folder / "dataset.yaml").write_text(REMOTE)
    assert bundled_datasets() == []
    (dataset,) = remote_datasets()
    first, second = dataset.files
    assert first.urls == ("https://example.org/toy/a/train.csv",)
    assert (first.sha256, first.md5, first.size, first.place) == ("a" * 64, "", 5, "a/train.csv")
    assert second.urls == ("https://example.org/b?download=1", "https://example.org/toy/c.tar.gz")
    assert (second.unpack, second.place) == ("tar.gz", "b")
    assert dataset.tasks == (("a", 2, "mcc", 70, False),)
    assert find_dataset("toy") == find_dataset(str(folder / "dataset.yaml")) == dataset


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("title: A toy\n", "", "keys"),
        ("title: A toy", "title: [A, toy]", "expected text"),
        ("title: A toy", "title:", "expected text"),
        ("licence: none", "licence: none\nlicense: none", "license"),
        ("path: a/train.csv", "path: ../train.csv", "impossible path"),
        ("path: a/train.csv", "path: /etc/passwd", "impossible path"),
        ("path: a/train.csv", "path: a//train.csv", "impossible path"),
        ("path: a/train.csv", "path: SHA256SUMS", "impossible path"),
        ("path: a/train.csv", "path: b", "'b' is listed twice"),
        ("base: https://", "base: ftp://", "expected http"),
        ("sha256: AAAA", "sha256: AAA", "64 hex digits"),
        ("md5: b", "md5: x", "32 hex digits"),
        ("size: 5", "size: 0", "whole number from 1"),
        ("size: 5", "size: five", "whole number from 1"),
        ("unpack: tar.gz", "unpack: zip", "unpack: zip"),
        ("unpack: tar.gz", "unpack: rar", "unpack: rar"),
        ("mirrors: [c.tar.gz]", "mirrors: c.tar.gz", "expected a list"),
        ("classes: 2", "classes: 1", "whole number from 2"),
        ("metric: mcc, ", "", "keys"),
        ("length: 70", "length: 70, varies: perhaps", "true or false"),
        ("files:", "files: []\nold:", "keys"),
    ],
)
def test_malformed_remote_manifest_is_refused(folder: Path, old: str, new: str, words: str) -> None:
    assert old in REMOTE
    (folder / "dataset.yaml").write_text(REMOTE.replace(old, new))
    with pytest.raises(FileFormatError, match=r"dataset\.yaml: ") as error:
        remote_datasets()
    assert words in str(error.value)


def test_unknown_names_get_the_closest(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'gua'; did you mean 'gue'\? \(known: .*hg38"):
        manifest_of_the_package("gua")
    with pytest.raises(DataError, match=r"called 'zzzz'; \(known"):
        manifest_of_the_package("zzzz")
    with pytest.raises(FileFormatError, match="cannot be read"):
        find_dataset(str(folder / "nowhere/dataset.yaml"))


def manifest_of_the_package(name: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "dataset_dir", resources.dataset_dir)
        return find_dataset(name)


@pytest.mark.parametrize("dataset", remote_datasets(), ids=lambda dataset: dataset.name)
def test_every_remote_data_set_is_described(dataset) -> None:
    assert dataset.name == dataset.folder.name
    card = (dataset.folder / "README.md").read_text()
    assert f"datasets fetch {dataset.name}" in card
    assert "**Licence.**" in card
    assert "**Checksum" in card
    for task in dataset.tasks:
        assert task.metric in ("mcc", "f1", "accuracy")
        assert [file for file in dataset.files if file.path.startswith(task.name)]
    assert all(url.startswith("https://") for file in dataset.files for url in file.urls)


def ncbi_folder(url: str) -> bool:
    """Tell whether a URL of NCBI's is built of its accession as NCBI builds it; other URLs pass."""
    found = re.fullmatch(
        r"https://ftp\.ncbi\.nlm\.nih\.gov/genomes/all/(GC[AF])/(\d{3})/(\d{3})/(\d{3})/(\1_\2\3\4\.\d+_[^/]+)/\5_genomic\.fna\.gz",
        url,
    )
    return bool(found) or "ncbi" not in url


def test_genomes_have_files_that_commands_read() -> None:
    genomes = {dataset.name: dataset for dataset in remote_datasets() if not dataset.tasks}
    known = {"hg38", "t2t_chm13", "mm39", "dm6", "ce11", "tair10", "ecoli_k12", "hyenadna_species"}
    assert set(genomes) == known
    for dataset in genomes.values():
        for file in dataset.files:
            assert file.path.endswith((".2bit", ".fa.gz"))
            assert all(ncbi_folder(url) for url in file.urls)
    species = [file.path for file in genomes["hyenadna_species"].files]
    assert species == [f"{name}.fa.gz" for name in ("human", "lemur", "mouse", "pig", "hippo")]
    # The control: an accession that does not go with its folder.
    url = genomes["ecoli_k12"].files[0].urls[0]
    assert not ncbi_folder(url.replace("/845/", "/854/"))


def test_gue_is_complete() -> None:
    (gue,) = (dataset for dataset in remote_datasets() if dataset.name == "gue")
    assert len(gue.tasks) == 28
    splits = ("train", "dev", "test")
    assert [file.path for file in gue.files] == [
        f"{task.name}/{split}.csv" for task in gue.tasks for split in splits
    ]
    assert {task.name: task.classes for task in gue.tasks if task.classes != 2} == {
        "splice/reconstructed": 3,
        "virus/covid": 9,
    }


def test_gue_lengths_are_those_of_the_data(test_data: Path) -> None:
    (gue,) = (dataset for dataset in remote_datasets() if dataset.name == "gue")
    checked = 0
    for task in gue.tasks:
        path = test_data / "gue" / task.name / "dev.csv"
        if path.is_file():
            rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
            assert {len(sequence) for sequence, _ in rows} == {task.length}
            assert len({label for _, label in rows}) == task.classes
            checked += 1
    assert checked >= 10
