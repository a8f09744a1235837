"""A promoter task from a genome and its gene annotation: windows around the starts of genes (1) against matched others (0).

A partner carries the same three bases at the place of the start: without that, an annotation that begins genes at their start codon would be
solved by looking for ATG there.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
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

_START_KINDS = ("mRNA", "transcript", "gene")


def build_promoter_task(
    genome: Genome,
    annotation: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: SiteSettings | None = None,
    kinds: Sequence[str] = (),
    force: bool = False,
) -> SiteSummary:
    """Build a promoter task and write it as a folder.

    Parameters
    ----------
    genome
        The genome.
    annotation
        GFF3, GTF, genePred or refFlat of the same assembly.
    output
        Folder to write: train.csv, dev.csv, test.csv, windows.bed, README.md.
    settings
        Windows, negatives, splits and seed; None for the defaults (200 bases before a start, 100 from it on).
    kinds
        Types of features whose 5' ends are starts. Empty: mRNA, else transcript, else gene, whichever the annotation has.
    force
        Overwrite files of an existing folder.

    Returns
    -------
    SiteSummary
        Rows and contigs of each split; starts left out.

    Raises
    ------
    FileFormatError
        The annotation is missing or malformed.
    ConfigError, DataError
        The annotation has no start of a gene on any contig of the genome; or as `build_site_task`.
    OutputError
        The folder exists, or cannot be written.
    """
    settings = settings or SiteSettings()
    check_output(output, force=force, folder=True)
    source = resolve(annotation)
    spans, used = _spans(source, kinds, genome.contigs)
    sites, skipped = _starts(genome, source, spans, used[0])
    length = settings.upstream + settings.downstream
    task = SiteTask(
        "Promoter task",
        f"Windows of {length} bases around the starts of genes (label 1: {settings.upstream} before the start, {settings.downstream} from it on, in the "
        "gene's direction) against windows that meet none (label 0). Where the annotation has no untranslated regions, a gene begins at its "
        "start codon, and so do these windows.",
        {"start": SiteKind(1, (0, 3))},
        0,
        sites,
        _by_contig(spans),
        [f"- annotation: {source.name}, features {', '.join(used)}, SHA-256 {sha256_of(source)}"],
        skipped,
    )
    return build_site_task(genome, task, output, settings=settings, force=force)


def _spans(
    annotation: Path, kinds: Sequence[str], contigs: Collection[str]
) -> tuple[list[Interval], list[str]]:
    """Return the features whose ends are starts, in the file's order by kind, and their kinds."""
    wanted = tuple(kinds) or _START_KINDS
    found: dict[str, list[Interval]] = {kind: [] for kind in wanted}
    for feature in read_annotation(annotation, contigs):
        if feature.kind in found:
            found[feature.kind].append(feature.interval)
    present = [kind for kind in wanted if found[kind]]
    if not present:
        raise DataError(
            f"{annotation}: the annotation has no feature of type {' or '.join(wanted)}"
        )
    used = present if kinds else present[:1]
    return [span for kind in used for span in found[kind]], used


def _starts(
    genome: Genome, annotation: Path, spans: Sequence[Interval], kind: str
) -> tuple[dict[str, dict[Site, None]], Counter[str]]:
    """Collect the different starts of each contig, in the file's order."""
    sites: dict[str, dict[Site, None]] = {}
    skipped = Counter({"without a strand": 0, ELSEWHERE: 0})
    strange: set[tuple[str, int, str]] = set()
    for span in spans:
        if span.strand == ".":
            skipped["without a strand"] += 1
            continue
        place = span.start if span.strand == "+" else span.end - 1
        if span.chrom not in genome.contigs:
            strange.add((span.chrom, place, span.strand))
        elif place >= genome.contigs[span.chrom]:
            raise DataError(
                f"{annotation}: a {kind} begins at {span.chrom}:{place + 1}, beyond the contig's "
                f"{genome.contigs[span.chrom]:,} bases; annotation and genome are of different assemblies"
            )
        else:
            sites.setdefault(span.chrom, {})[Site(place, span.strand, "start")] = None
    skipped[ELSEWHERE] = len(strange)
    if not sites:
        theirs = ", ".join(sorted({chrom for chrom, _, _ in strange})[:3]) or "none with a strand"
        raise DataError(
            f"{annotation}: no start of a gene lies on a contig of the genome (annotation: {theirs}; "
            f"genome: {', '.join(list(genome.contigs)[:3])})"
        )
    return sites, skipped


def _by_contig(spans: Sequence[Interval]) -> dict[str, list[Interval]]:
    found: dict[str, list[Interval]] = {}
    for span in spans:
        found.setdefault(span.chrom, []).append(span)
    return found
