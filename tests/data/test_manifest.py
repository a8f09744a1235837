"""The bundled data: complete, undamaged, and what the card says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyenadna.data import manifest
from hyenadna.data.genome import Genome
from hyenadna.data.manifest import BundledDataset, bundled_datasets
from hyenadna.errors import FileFormatError
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
