"""``hyenadna ism``: what every single change in a region would do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hyenadna.cli.options import ModelOption
from hyenadna.resources import DEFAULT_MODEL


def ism(
    fasta: Annotated[str, typer.Option("--fasta", "-f", help="Genome: FASTA (plain, gzip, bgzip) or .2bit.")],
    region: Annotated[str, typer.Option("--region", "-r", help="Region, 1-based inclusive: chr1:1,000-1,200.")],
    model: ModelOption = DEFAULT_MODEL,
    output: Annotated[str, typer.Option("--output", "-o", help="TSV (or .csv, .gz) or .npz to write; - for standard output.")] = "-",
    plot: Annotated[str | None, typer.Option(help="Picture to write, too: .png or .svg, a heat map under a logo.")] = None,
    report: Annotated[str | None, typer.Option(help="Report with tables and pictures to write, too: one .html file.")] = None,
    method: Annotated[str, typer.Option(help="exact, or gradient: one pass a window, a sketch.")] = "exact",
    deletions: Annotated[bool, typer.Option("--deletions", help="Score single-base deletions, too.")] = False,
    rc: Annotated[bool, typer.Option("--rc/--no-rc", help="Average over both strands.")] = True,
    window: Annotated[int | None, typer.Option(help="Bases that the model reads at once (default: a power of two, at most 8,192).")] = None,
    radius: Annotated[int | None, typer.Option(min=0, help="Sum only to so many bases beyond a change (default: to the end of the window).")] = None,
    batch_size: Annotated[str, typer.Option(help="Windows per forward pass, or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help="fp32, or bf16: faster and coarser.")] = "fp32",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
) -> None:  # fmt: skip
    """In-silico saturation mutagenesis: the log-likelihood ratio of every substitution in a region, as a table and a picture.

    LLR = log p(window with the change) - log p(window as it is), nats; negative where the model finds the change less likely. One row a
    base: chrom, position (1-based), base, the LLR of A, C, G and T there (0 at the base itself), importance (minus the mean of the
    three), and that of its deletion with --deletions. 'gradient' takes effects on what follows to first order. Beside a file FILE,
    FILE.json records model, settings and machine.

    \b
    Examples
      hyenadna ism -f genome.fa.gz -r chr20:1,000,001-1,000,100 -o ism.tsv --plot ism.png
      hyenadna ism -m MODEL -f genome.2bit -r chrX:5,000-6,000 --method gradient -o ism.npz
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    import numpy as np
    from rich.console import Console

    from hyenadna.cli.scoring import (
        check_report,
        is_stream,
        loading,
        parse_batch_size,
        progress_bar,
        require_dtype,
        require_other_than_inputs,
        write_record,
        write_report,
        write_table,
    )
    from hyenadna.data.genome import open_reference
    from hyenadna.errors import ConfigError
    from hyenadna.inference.mutagenesis import mutate_region
    from hyenadna.inference.mutagenesis_plot import plot_mutagenesis
    from hyenadna.inference.mutagenesis_report import mutagenesis_sections
    from hyenadna.inference.runtime import choose_device, load_language_model, weights_checksum
    from hyenadna.io import check_output, open_output
    from hyenadna.io.atomic import atomic_path
    from hyenadna.sequence import parse_region

    console = Console(stderr=True, quiet=quiet)
    require_dtype(dtype)
    rows = parse_batch_size(batch_size)
    require_other_than_inputs(output, fasta)
    check_output(output, force=force, folder=False)
    if plot is not None:
        if Path(plot).suffix.lower() not in (".png", ".svg"):
            raise ConfigError(f"--plot is {plot!r}; expected a name that ends with .png or .svg")
        require_other_than_inputs(plot, fasta, output)
        check_output(plot, force=force, folder=False)
    record_path = None if is_stream(output) else f"{output}.json"
    if record_path:
        check_output(record_path, force=force, folder=False)
    check_report(report, inputs=(fasta,), outputs=(output, plot, record_path), force=force)
    reference = open_reference(fasta)
    interval = parse_region(region, reference.contigs)
    where = choose_device(device)
    with loading(console, model):
        network, tokenizer = load_language_model(model, device=where)
    began = time.monotonic()
    bar = progress_bar(console, "bases")
    task = bar.add_task("mutating", total=len(interval))
    with bar:
        found = mutate_region(
            network, reference, interval, tokenizer=tokenizer, method=method, deletions=deletions, rc=rc,  # type: ignore[arg-type]
            window=window, radius=radius, batch_size=rows, half=dtype == "bf16", progress=lambda n: bar.update(task, advance=n),
        )  # fmt: skip
    settings = {
        "method": method, "deletions": deletions, "rc": rc, "window": window, "radius": radius, "batch_size": batch_size,
        "device": str(where), "dtype": dtype,
    }  # fmt: skip
    made = {
        "model": model, "weights_sha256": weights_checksum(network), "input": {"fasta": fasta, "region": region},
        "settings": settings, "model_config": network.config.to_dict(),
    }  # fmt: skip
    if output.endswith(".npz"):
        with atomic_path(output, force=force, folder=False) as temporary, temporary.open("wb") as raw:  # fmt: skip
            arrays: dict[str, Any] = {"llr": found.llr, "importance": found.importance, "letters": np.array([found.letters])}  # fmt: skip
            if deletions:
                arrays["deletion"] = found.deletion
            np.savez(raw, region=np.array([str(found.interval)]), **arrays)
    else:
        with open_output(output, force=force) as out:
            table = [["chrom", "position", "base", *"ACGT", "importance", *(["deletion"] if deletions else [])]]  # fmt: skip
            for at, letter in enumerate(found.letters):
                numbers = [*found.llr[at], found.importance[at], *([found.deletion[at]] if deletions else [])]  # fmt: skip
                table.append([interval.chrom, interval.start + at + 1, letter, *("" if np.isnan(x) else f"{x:.6g}" for x in numbers)])  # fmt: skip
            write_table(out, output, table)
    if record_path:
        write_record(record_path, made, force=force)
    if plot is not None:
        with atomic_path(plot, force=force, folder=False) as temporary:
            plot_mutagenesis(found, temporary)
    seconds = time.monotonic() - began
    worth = np.nan_to_num(found.importance, nan=-np.inf)
    best = int(worth.argmax())
    most_missed = f"{found.letters[best]} at {interval.chrom}:{interval.start + best + 1:,}"
    if report is not None:
        facts = {"region": str(interval), "bases": f"{len(found.letters):,}", "most missed": f"{most_missed} ({worth[best]:.3f} nats)"}  # fmt: skip
        write_report(report, "Saturation mutagenesis", facts, mutagenesis_sections(found), made, force=force)  # fmt: skip
    console.print(
        f"{len(found.letters):,} bases in {seconds:.1f} s; most missed: {most_missed} ({worth[best]:.3f} nats)",
        highlight=False,
        soft_wrap=True,
    )
