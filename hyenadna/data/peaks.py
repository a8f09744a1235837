"""A binding-site task from a genome and the peaks of an experiment: windows around their summits (1) against matched others (0)."""

from __future__ import annotations

import os
from collections import Counter

from hyenadna.data.genome import Genome
from hyenadna.data.labelled import sha256_of
from hyenadna.data.site_task import ELSEWHERE, Site, SiteKind, SiteSettings, SiteTask
from hyenadna.data.sites import SiteSummary, build_site_task
from hyenadna.errors import ConfigError, DataError
from hyenadna.io.atomic import check_output
from hyenadna.io.bed import read_bed
from hyenadna.resources import resolve

DEFAULTS = SiteSettings(upstream=50, downstream=51)


def build_peak_task(
    genome: Genome,
    peaks: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    settings: SiteSettings = DEFAULTS,
    force: bool = False,
) -> SiteSummary:
    """Build a task from peaks and write it as a folder.

    Parameters
    ----------
    genome
        The genome.
    peaks
        BED or narrowPeak of the same assembly; a window lies around the summit, or the middle where none is called, on the peak's strand (+ without one).
    output
        Folder to write: train.csv, dev.csv, test.csv, windows.bed, README.md.
    settings
        Windows, negatives, splits and seed.
    force
        Overwrite files of an existing folder.

    Returns
    -------
    SiteSummary
        Rows and contigs of each split; peaks left out.

    Raises
    ------
    FileFormatError
        The file of peaks is missing or malformed.
    ConfigError, DataError
        Negatives from genes are asked for, no peak lies on a contig of the genome; or as `build_site_task`.
    OutputError
        The folder exists, or cannot be written.
    """
    if settings.negatives in ("genes", "near"):
        raise ConfigError("negatives from genes need an annotation; for peaks choose gc or shuffle")
    check_output(output, force=force, folder=True)
    source = resolve(peaks)
    sites: dict[str, dict[Site, None]] = {}
    strange: Counter[str] = Counter()
    for record in read_bed(source):
        span = record.interval
        if span.chrom not in genome.contigs:
            strange[span.chrom] += 1
        elif span.end > genome.contigs[span.chrom]:
            raise DataError(
                f"{source}: a peak ends at {span.chrom}:{span.end}, beyond the contig's {genome.contigs[span.chrom]:,} bases; peaks and genome are of "
                "different assemblies"
            )
        else:
            middle = (span.start + span.end) // 2
            place = middle if record.summit is None else record.summit
            strand = "-" if span.strand == "-" else "+"
            sites.setdefault(span.chrom, {})[Site(place, strand, "peak")] = None
    if not sites:
        raise DataError(
            f"{source}: no peak lies on a contig of the genome (peaks: {', '.join(sorted(strange)[:3])}; genome: {', '.join(list(genome.contigs)[:3])})"
        )
    task = SiteTask(
        "Binding-site task",
        f"Windows of {settings.upstream + settings.downstream} bases, {settings.upstream} of them before the summit of a peak or its middle (label 1), against "
        "windows that meet none (label 0).",
        {"peak": SiteKind(1, (0, 0))},
        0,
        sites,
        {},
        [f"- peaks: {source.name}, SHA-256 {sha256_of(source)}"],
        {ELSEWHERE: strange.total()},
    )  # fmt: skip
    return build_site_task(genome, task, output, settings=settings, force=force)
