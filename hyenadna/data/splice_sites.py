"""A splice-site task from a genome and its gene annotation: donors, acceptors, and windows that only look like them.

As in GUE's task an acceptor is class 0, a donor 1 and neither 2; the first base after the junction stands at the place, so that in windows of
200 + 200 bases an acceptor has AG at 198 and a donor GT at 200. Negatives carry the same two letters there, which leaves GT and AG themselves worth nothing.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from hyenadna.data.annotation import read_annotation
from hyenadna.data.genome import Genome
from hyenadna.data.labelled import sha256_of
from hyenadna.data.site_task import ELSEWHERE, Site, SiteKind, SiteSettings, SiteTask
from hyenadna.data.sites import SiteSummary, build_site_task
from hyenadna.errors import DataError
from hyenadna.io.atomic import check_output
from hyenadna.resources import resolve
from hyenadna.sequence import Interval

KINDS = {"acceptor": SiteKind(0, (-2, 0)), "donor": SiteKind(1, (0, 2))}
NEITHER = 2
DEFAULTS = SiteSettings(upstream=200, downstream=200, negatives="genes", max_gc_difference=0.05)
_PARTS = ("exon", "CDS")
_SHORTEST_INTRON = 20


def build_splice_task(
    genome: Genome,
    annotation: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: SiteSettings = DEFAULTS,
    force: bool = False,
) -> SiteSummary:
    """Build a splice-site task and write it as a folder.

    Parameters
    ----------
    genome
        The genome.
    annotation
        GFF3, GTF, genePred or refFlat of the same assembly. Introns lie between the exons of one transcript, or, where there are no exons, between its CDS pieces.
    output
        Folder to write: train.csv, dev.csv, test.csv, windows.bed, README.md.
    settings
        Windows, negatives, splits and seed.
    force
        Overwrite files of an existing folder.

    Returns
    -------
    SiteSummary
        Rows and contigs of each split; sites left out.

    Raises
    ------
    FileFormatError
        The annotation is missing or malformed.
    ConfigError, DataError
        The annotation has no intron on any contig of the genome; or as `build_site_task`.
    OutputError
        The folder exists, or cannot be written.
    """
    check_output(output, force=force, folder=True)
    source = resolve(annotation)
    introns, genes, part = _introns(source, genome.contigs)
    sites, skipped = _sites(genome, source, introns)
    task = SiteTask(
        "Splice-site task",
        f"Windows of {settings.upstream + settings.downstream} bases in which the base after {settings.upstream} others is the first of an exon "
        "(acceptor, label 0) or of an intron (donor, label 1), read in the gene's direction, against windows without such a site (label 2).",
        KINDS,
        NEITHER,
        sites,
        genes,
        [f"- annotation: {source.name}, introns between {part} features, SHA-256 {sha256_of(source)}"],
        skipped,
    )  # fmt: skip
    return build_site_task(genome, task, output, settings=settings, force=force)


def _introns(
    annotation: Path, contigs: Collection[str]
) -> tuple[list[Interval], dict[str, list[Interval]], str]:
    """Return the introns of all transcripts, the transcripts' spans by contig, and the kind of feature that they are made of."""
    pieces: dict[str, dict[tuple[str, str, str], list[Interval]]] = {part: {} for part in _PARTS}
    for feature in read_annotation(annotation, contigs):
        if feature.kind in pieces:
            owners = feature.attributes.get("Parent") or feature.attributes.get("transcript_id", ())
            for owner in owners:
                key = owner, feature.interval.chrom, feature.interval.strand
                pieces[feature.kind].setdefault(key, []).append(feature.interval)
    part = next((name for name in _PARTS if pieces[name]), None)
    if part is None:
        raise DataError(
            f"{annotation}: the annotation has no exon or CDS feature with a Parent (GFF3) or transcript_id (GTF)"
        )
    introns: list[Interval] = []
    spans: dict[str, list[Interval]] = {}
    for (_, chrom, strand), exons in pieces[part].items():
        exons.sort(key=lambda exon: exon.start)
        end = max(exon.end for exon in exons)
        spans.setdefault(chrom, []).append(Interval(chrom, exons[0].start, end, strand))
        for left, right in itertools.pairwise(exons):
            if right.start - left.end >= _SHORTEST_INTRON:  # shorter gaps are frameshifts
                introns.append(Interval(chrom, left.end, right.start, strand))
    return introns, spans, part


def _sites(
    genome: Genome, annotation: Path, introns: list[Interval]
) -> tuple[dict[str, dict[Site, None]], Counter[str]]:
    sites: dict[str, dict[Site, None]] = {}
    skipped = Counter({"without a strand": 0, ELSEWHERE: 0, "without GT or AG": 0})
    odd: set[tuple[str, Site]] = set()
    strange: set[tuple[str, int, int]] = set()
    for intron in introns:
        chrom, start, end, strand = intron.chrom, intron.start, intron.end, intron.strand
        if strand == ".":
            skipped["without a strand"] += 2
        elif chrom not in genome.contigs:
            strange.add((chrom, start, end))
        elif end >= genome.contigs[chrom]:
            raise DataError(
                f"{annotation}: an intron ends at {chrom}:{end}, beyond the contig's {genome.contigs[chrom]:,} bases; annotation and genome are "
                "of different assemblies"
            )
        else:
            letters = genome.sequence(intron).upper()
            first, after = (start, end) if strand == "+" else (end - 1, start - 1)
            for site, there in (
                (Site(first, strand, "donor"), letters.startswith("GT")),
                (Site(after, strand, "acceptor"), letters.endswith("AG")),
            ):
                if there:
                    sites.setdefault(chrom, {})[site] = None
                else:
                    odd.add((chrom, site))
    skipped[ELSEWHERE], skipped["without GT or AG"] = 2 * len(strange), len(odd)
    if not sites:
        raise DataError(
            f"{annotation}: no intron with GT and AG at its ends lies on a contig of the genome ({len(introns)} introns, "
            f"{len(strange)} on other contigs, {len(odd)} ends without GT or AG); annotation and genome may be of different assemblies"
        )
    return sites, skipped
