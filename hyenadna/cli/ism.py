"""``hyenadna ism``: what every single change in a region would do."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyenadna.cli.options import ModelOption, OnErrorOption, VerboseOption
from hyenadna.resources import DEFAULT_MODEL

if TYPE_CHECKING:
    from hyenadna.cli.scoring import Skipped
    from hyenadna.data.genome import ReferenceSequence
    from hyenadna.inference.mutagenesis import Mutagenesis
    from hyenadna.sequence import Interval


def ism(
    fasta: Annotated[str, typer.Option("--fasta", "-f", help="Genome: FASTA (plain, gzip, bgzip) or .2bit.")],
    region: Annotated[list[str] | None, typer.Option("--region", "-r", help="Region, 1-based inclusive: chr1:1,000-1,200. Repeatable.")] = None,
    bed: Annotated[str | None, typer.Option("--bed", "-b", help="BED file of regions, 0-based half-open.")] = None,
    model: ModelOption = DEFAULT_MODEL,
    output: Annotated[str, typer.Option("--output", "-o", help="TSV (or .csv, .gz) or .npz to write; - for standard output.")] = "-",
    form: Annotated[str | None, typer.Option("--format", help="tsv, csv or npz (default: by the output's name, on standard output tsv).")] = None,
    plot: Annotated[str | None, typer.Option(help="Picture to write, too: .png or .svg, a heat map under a logo.")] = None,
    report: Annotated[str | None, typer.Option(help="Report with tables and pictures to write, too: one .html file.")] = None,
    method: Annotated[str, typer.Option(help="exact, or gradient: one pass a window, a sketch.")] = "exact",
    deletions: Annotated[bool, typer.Option("--deletions", help="Score single-base deletions, too.")] = False,
    rc: Annotated[bool, typer.Option("--rc/--no-rc", help="Average over both strands.")] = True,
    window: Annotated[int | None, typer.Option(help="Bases that the model reads at once (default: a power of two, at most 8,192).")] = None,
    radius: Annotated[int | None, typer.Option(min=0, help="Sum only to so many bases beyond a change (default: to the end of the window).")] = None,
    batch_size: Annotated[str, typer.Option(help="Windows per forward pass, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="fp32 (auto), or bf16: faster and coarser.")] = "auto",
    on_error: OnErrorOption = "stop",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    verbose: VerboseOption = False,
) -> None:  # fmt: skip
    """In-silico saturation mutagenesis: the log-likelihood ratio of every substitution in regions, as a table and a picture.

    LLR = log p(window with the change) - log p(window as it is), nats; negative where the model finds the change less likely. One row a
    base: chrom, position (1-based), base, the LLR of A, C, G and T there (0 at the base itself), importance (minus the mean of the
    three), and that of its deletion with --deletions. 'gradient' takes effects on what follows to first order. Beside a file FILE,
    FILE.json records model, settings and machine.

    Of several regions (-r again, or -b), rows follow each other as they were asked for, and the picture has a row of panels for each. An .npz
    holds llr, importance and, with --deletions, deletion, of all bases one after the other; region, letters, and offset: where each region begins.

    \b
    Examples
      hyenadna ism -f genome.fa.gz -r chr20:1,000,001-1,000,100 -o ism.tsv --plot ism.png
      hyenadna ism -f genome.fa.gz -b promoters.bed -o ism.tsv --report ism.html
      hyenadna ism -m MODEL -f genome.2bit -r chrX:5,000-6,000 --method gradient -o ism.npz
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    import numpy as np

    from hyenadna.cli.scoring import (
        Skipped,
        check_report,
        choose_dtype,
        is_stream,
        loading,
        open_console,
        parse_batch_size,
        progress_bar,
        require_other_than_inputs,
        tell_record,
        write_record,
        write_report,
    )
    from hyenadna.data.genome import open_reference
    from hyenadna.errors import ConfigError
    from hyenadna.inference.inputs import read_spans
    from hyenadna.inference.mutagenesis import mutate_region
    from hyenadna.inference.mutagenesis_plot import plot_mutagenesis, require_room
    from hyenadna.inference.mutagenesis_report import mutagenesis_sections
    from hyenadna.inference.runtime import choose_device, load_language_model, weights_checksum
    from hyenadna.io import check_output
    from hyenadna.io.atomic import atomic_path

    console = open_console(quiet=quiet, verbose=verbose)
    if not region and bed is None:
        raise ConfigError("say what to mutate: regions with -r, or a BED file with -b")
    dtype = choose_dtype(dtype)
    rows = parse_batch_size(batch_size)
    skipped = Skipped(on_error)
    require_other_than_inputs(output, fasta, bed)
    check_output(output, force=force, folder=False)
    form = _format(output, form)
    if plot is not None:
        if Path(plot).suffix.lower() not in (".png", ".svg"):
            raise ConfigError(f"--plot is {plot!r}; expected a name that ends with .png or .svg")
        require_other_than_inputs(plot, fasta, bed, output)
        check_output(plot, force=force, folder=False)
    record_path = None if is_stream(output) else f"{output}.json"
    if record_path:
        check_output(record_path, force=force, folder=False)
    check_report(report, inputs=(fasta, bed), outputs=(output, plot, record_path), force=force)
    reference = open_reference(fasta)
    spans = read_spans(reference.contigs, region or (), bed, skipped.on_error)
    intervals = [span for _, span in spans if _has_bases(reference, span, skipped)]
    skipped.require_others(len(intervals))
    if plot is not None:
        require_room(len(intervals))
    where = choose_device(device)
    with loading(console, model):
        network, tokenizer = load_language_model(model, device=where)
    settings = {
        "method": method, "deletions": deletions, "rc": rc, "window": window, "radius": radius, "batch_size": batch_size,
        "device": str(where), "dtype": dtype,
    }  # fmt: skip
    made = {
        "model": model, "weights_sha256": weights_checksum(network), "input": {"fasta": fasta, "regions": region, "bed": bed},
        "settings": settings, "model_config": network.config.to_dict(),
    }  # fmt: skip
    tell_record(console, made, verbose=verbose)
    began = time.monotonic()
    bar = progress_bar(console, "bases")
    task = bar.add_task("mutating", total=sum(map(len, intervals)))
    with bar:
        found = [
            mutate_region(
                network, reference, interval, tokenizer=tokenizer, method=method, deletions=deletions, rc=rc,  # type: ignore[arg-type]
                window=window, radius=radius, batch_size=rows, half=dtype == "bf16", progress=lambda n: bar.update(task, advance=n),
            )
            for interval in intervals
        ]  # fmt: skip
    _write(found, output, form, deletions=deletions, force=force)
    if record_path:
        write_record(record_path, made | {"n_skipped": skipped.n}, force=force)
    if plot is not None:
        with atomic_path(plot, force=force, folder=False) as temporary:
            plot_mutagenesis(found, temporary)
    seconds = time.monotonic() - began
    strongest = [int(np.nan_to_num(one.importance, nan=-np.inf).argmax()) for one in found]
    one, at = max(zip(found, strongest, strict=True), key=lambda pair: pair[0].importance[pair[1]])
    most_missed = f"{one.letters[at]} at {one.interval.chrom}:{one.interval.start + at + 1:,} ({one.importance[at]:.3f} nats)"  # fmt: skip
    n_bases = sum(len(one.letters) for one in found)
    if report is not None:
        regions = str(found[0].interval) if len(found) == 1 else f"{len(found):,} regions"
        facts = {"region": regions, "bases": f"{n_bases:,}", "most missed": most_missed}
        write_report(report, "Saturation mutagenesis", facts, mutagenesis_sections(found), made, force=force)  # fmt: skip
    console.print(
        f"{n_bases:,} bases in {seconds:.1f} s; most missed: {most_missed}{skipped.sentence()}",
        highlight=False,
        soft_wrap=True,
    )


def _format(output: str, form: str | None) -> str:
    """Return tsv, csv or npz."""
    from hyenadna.cli.scoring import is_stream, table_format
    from hyenadna.errors import ConfigError

    if form not in (None, "tsv", "csv", "npz"):
        raise ConfigError(f"--format {form!r} is unknown; expected tsv, csv or npz")
    if form == "npz" and is_stream(output):
        raise ConfigError("arrays (npz) need a file; standard output takes tsv or csv")
    if form == "npz" or (form is None and output.endswith(".npz")):
        return "npz"
    return table_format(output, form)


def _has_bases(reference: ReferenceSequence, interval: Interval, skipped: Skipped) -> bool:
    from hyenadna.errors import DataError, SequenceError
    from hyenadna.inference.mutagenesis import require_bases

    try:
        require_bases(reference, interval)
    except (DataError, SequenceError) as error:
        skipped.leave_out(error)
        return False
    return True


def _write(
    found: Sequence[Mutagenesis], output: str, form: str, *, deletions: bool, force: bool
) -> None:
    """Write all regions as arrays or as a table."""
    import numpy as np

    from hyenadna.cli.scoring import write_table
    from hyenadna.io import open_output
    from hyenadna.io.atomic import atomic_path

    if form == "npz":
        arrays: dict[str, Any] = {
            "region": np.array([str(one.interval) for one in found]),
            "letters": np.array([one.letters for one in found]),
            "offset": np.cumsum([0, *(len(one.letters) for one in found)]),
        }
        for name in ("llr", "importance", *(["deletion"] if deletions else [])):
            arrays[name] = np.concatenate([getattr(one, name) for one in found])
        with atomic_path(output, force=force, folder=False) as temporary, temporary.open("wb") as raw:  # fmt: skip
            np.savez(raw, **arrays)
        return
    with open_output(output, force=force) as out:
        write_table(out, form, _rows(found, deletions=deletions))


def _rows(found: Sequence[Mutagenesis], *, deletions: bool) -> Iterator[Sequence[object]]:
    """Yield the table's lines, one a base."""
    yield ["chrom", "position", "base", *"ACGT", "importance", *(["deletion"] if deletions else [])]
    for one in found:
        place = one.interval
        for at, letter in enumerate(one.letters):
            numbers = [*one.llr[at], one.importance[at], *([one.deletion[at]] if deletions else [])]
            shown = ("" if math.isnan(x) else f"{x:.6g}" for x in numbers)
            yield [place.chrom, place.start + at + 1, letter, *shown]
