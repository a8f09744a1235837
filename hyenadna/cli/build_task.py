"""``hyenadna datasets build``: labelled tasks from a genome and what is known of it, or from the files of a published benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hyenadna.data.sites import SiteSummary

app = typer.Typer(help="Build a labelled task from a genome and its annotation, or from a published benchmark.", no_args_is_help=True)  # fmt: skip

_Genome = Annotated[str, typer.Option("--genome", "-g", help="Genome: .2bit or FASTA.")]
_Annotation = Annotated[str, typer.Option("--annotation", "-a", help="Genes of the same assembly: GFF3, GTF, genePred or refFlat.")]  # fmt: skip
_Output = Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")]
_Upstream = Annotated[int, typer.Option(help="Bases before the place of a site.")]
_Downstream = Annotated[int, typer.Option(help="Bases from the place on.")]
_Contigs = Annotated[str, typer.Option(help="Contigs of the split, separated by commas. (default: chosen by size)")]  # fmt: skip
_Gc = Annotated[float, typer.Option(help="Largest difference in GC content between the two windows of a pair, 0 to 1.")]  # fmt: skip
_Seed = Annotated[int, typer.Option(help="Another seed chooses other negatives.")]
_Force = Annotated[bool, typer.Option("--force", help="Overwrite files of an existing folder.")]
_SplitBy = Annotated[str, typer.Option(help="contig: whole contigs are held out; similarity: rows that share 20-mers stay together; none: all rows train.")]  # fmt: skip
_Negatives = Annotated[str, typer.Option(help="gc: other windows of like GC content; genes: such windows inside genes; near: such windows inside genes, a little beside a site; shuffle: the same dinucleotides in another order.")]  # fmt: skip


@app.command("promoters")
def promoters(
    genome: _Genome,
    annotation: _Annotation,
    output: _Output,
    upstream: _Upstream = 200,
    downstream: _Downstream = 100,
    negatives: _Negatives = "gc",
    test_contigs: _Contigs = "",
    dev_contigs: _Contigs = "",
    split_by: _SplitBy = "contig",
    kinds: Annotated[str, typer.Option(help="Features whose 5' ends are starts, separated by commas. (default: mRNA, else transcript, else gene)")] = "",
    max_gc_difference: _Gc = 0.02,
    seed: _Seed = 0,
    force: _Force = False,
) -> None:  # fmt: skip
    """Build a promoter task: windows around the starts of genes against matched windows elsewhere.

    Each negative lies on the promoter's chromosome, has nearly its GC content and the same three bases at the place of the start.
    The folder (train.csv, dev.csv, test.csv, windows.bed, README.md) goes into 'hyenadna finetune data.path=FOLDER'.
    Core promoters are --upstream 34 --downstream 36.

    \b
    Example
      hyenadna datasets build promoters -g bundled:scerevisiae/genome.2bit -a bundled:scerevisiae/genes.gff3.gz -o promoters
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.genome import Genome
    from hyenadna.data.promoters import build_promoter_task
    from hyenadna.data.site_task import SiteSettings
    from hyenadna.io.atomic import check_output

    settings = SiteSettings(upstream, downstream, _names(test_contigs), _names(dev_contigs), negatives, max_gc_difference, seed, split_by)  # fmt: skip
    check_output(output, force=force, folder=True)  # before a FASTA genome is packed
    summary = build_promoter_task(
        Genome.open(genome), annotation, output, settings=settings, kinds=_names(kinds), force=force
    )
    _say(summary, "starts")


@app.command("splice")
def splice(
    genome: _Genome,
    annotation: _Annotation,
    output: _Output,
    upstream: _Upstream = 200,
    downstream: _Downstream = 200,
    negatives: _Negatives = "genes",
    test_contigs: _Contigs = "",
    dev_contigs: _Contigs = "",
    split_by: _SplitBy = "contig",
    max_gc_difference: _Gc = 0.05,
    seed: _Seed = 0,
    force: _Force = False,
) -> None:
    """Build a splice-site task: acceptors (0), donors (1), and windows with AG or GT at the same place that are neither (2).

    Introns lie between the exons of a transcript, or between its CDS pieces where the annotation has no exons.

    \b
    Examples
      hyenadna datasets build splice -g bundled:scerevisiae/genome.2bit -a bundled:scerevisiae/genes.gff3.gz -o splice
    More training rows for a task like it, which leave out by themselves what overlaps its dev and test:
      hyenadna datasets build splice -g hg38.2bit -a gencode.gtf.gz --split-by none -o more
      hyenadna finetune data.path=gue/splice/reconstructed data.extra_train=[more/train.csv]
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.genome import Genome
    from hyenadna.data.site_task import SiteSettings
    from hyenadna.data.splice_sites import build_splice_task
    from hyenadna.io.atomic import check_output

    settings = SiteSettings(upstream, downstream, _names(test_contigs), _names(dev_contigs), negatives, max_gc_difference, seed, split_by)  # fmt: skip
    check_output(output, force=force, folder=True)
    summary = build_splice_task(
        Genome.open(genome), annotation, output, settings=settings, force=force
    )
    _say(summary, "splice sites")


@app.command("peaks")
def peaks(
    genome: _Genome,
    peaks_path: Annotated[str, typer.Option("--peaks", "-p", help="BED or narrowPeak of the same assembly.")],
    output: _Output,
    upstream: _Upstream = 50,
    downstream: _Downstream = 51,
    negatives: _Negatives = "gc",
    test_contigs: _Contigs = "",
    dev_contigs: _Contigs = "",
    split_by: _SplitBy = "contig",
    max_gc_difference: _Gc = 0.02,
    seed: _Seed = 0,
    force: _Force = False,
) -> None:  # fmt: skip
    """Build a binding-site task: windows around the summits of peaks, or their middles, against windows without one.

    \b
    Example
      hyenadna datasets build peaks -g hg38.2bit -p CTCF.narrowPeak.gz -o ctcf --test-contigs chr8,chr9 --dev-contigs chr10
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.genome import Genome
    from hyenadna.data.peaks import build_peak_task
    from hyenadna.data.site_task import SiteSettings
    from hyenadna.io.atomic import check_output

    settings = SiteSettings(upstream, downstream, _names(test_contigs), _names(dev_contigs), negatives, max_gc_difference, seed, split_by)  # fmt: skip
    check_output(output, force=force, folder=True)
    summary = build_peak_task(
        Genome.open(genome), peaks_path, output, settings=settings, force=force
    )
    _say(summary, "peaks")


@app.command("genomic-benchmark")
def genomic_benchmark(
    source: Annotated[str, typer.Argument(help="A task of Genomic Benchmarks: its name once it is fetched, its zip, or a folder.")],
    output: _Output,
    genome: Annotated[list[str] | None, typer.Option("--genome", "-g", help="For intervals: .2bit or FASTA of all classes, or CLASS=FILE, once for each.")] = None,
    dev_fraction: Annotated[float, typer.Option(help="Share of train that becomes dev, 0 to 1.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Another seed chooses another dev split.")] = 0,
    force: _Force = False,
) -> None:  # fmt: skip
    """Turn a task of Genomic Benchmarks into a folder as GUE has them, with a dev split of its own.

    A zip is read as it is, without unpacking its many thousands of files. A folder may also hold the intervals of the benchmark's repository.

    \b
    Examples
      hyenadna datasets fetch genomic_benchmarks
      hyenadna datasets build genomic-benchmark human_nontata_promoters -o nontata
      hyenadna finetune data.path=nontata
    \b
      hyenadna datasets build genomic-benchmark repository/datasets/demo_human_or_worm -g human=hg38.2bit -g worm=ce11.2bit -o human_or_worm
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.data.genome import Genome
    from hyenadna.data.genomic_benchmark import build_genomic_benchmark, find_benchmark
    from hyenadna.data.site_task import SPLITS
    from hyenadna.errors import ConfigError
    from hyenadna.io.atomic import check_output

    found = find_benchmark(source)
    check_output(output, force=force, folder=True)  # before a FASTA genome is packed
    genomes: dict[str, Genome] = {}
    for text in genome or ():
        label, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            label, path = "", text
        if label in genomes:
            raise ConfigError(f"--genome names two files for {f'the class {label!r}' if label else 'all classes'}")  # fmt: skip
        genomes[label] = Genome.open(path)
    summary = build_genomic_benchmark(
        found, output, genomes=genomes, dev_fraction=dev_fraction, seed=seed, force=force
    )
    for split in SPLITS:
        counts = ", ".join(
            f"{count:,} {name}"
            for name, count in zip(summary.classes, summary.rows[split], strict=True)
        )
        typer.echo(f"{split}\t{sum(summary.rows[split]):,} rows\t{counts}")
    if summary.train_in_test:
        typer.echo(
            f"{summary.train_in_test:,} rows of train and dev stand in test, too; finetune leaves them out",
            err=True,
        )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _say(summary: SiteSummary, what: str) -> None:
    for split in summary.rows:
        typer.echo(f"{split}\t{summary.rows[split]:,} rows\t{', '.join(summary.contigs[split])}")
    left_out = [f"{count} {reason}" for reason, count in summary.skipped.items() if count]
    typer.echo(f"left out of {summary.sites:,} {what}: {'; '.join(left_out) or 'none'}", err=True)
