"""``hyenadna score --per-base`` and ``--entropy``: a number for every base of regions, contigs or a genome."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hyenadna.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from hyenadna.cli.scoring import Skipped
    from hyenadna.inference.forward import BatchSize
    from hyenadna.inference.tracks import TrackBlock
    from hyenadna.sequence import Interval


def check_tracks(
    per_base: str | None, entropy: str | None, form: str | None, *, force: bool
) -> None:
    """Check the outputs before anything is read.

    Raises
    ------
    ConfigError, BackendUnavailableError, OutputError
        A name has no known format, both are the same, a package is missing, or a file exists.
    """
    from hyenadna.io import check_output

    if per_base is not None and per_base == entropy:
        raise ConfigError(f"--per-base and --entropy are both {entropy}; choose two names")
    for path in (per_base, entropy):
        if path is not None:
            check_output(path, force=force, folder=False)
            if record := _record_path(path, form):
                check_output(record, force=force, folder=False)


def _record_path(path: str, form: str | None) -> str | None:
    """Return where the record of a track goes that has no place for it itself."""
    from hyenadna.io.tracks import track_format

    return f"{path}.json" if track_format(path, form) == "bigwig" else None


def write_tracks(
    console: Console,
    *,
    model: str,
    fasta: str,
    regions: Sequence[str],
    bed: str | None,
    skipped: Skipped,
    per_base: str | None,
    entropy: str | None,
    form: str | None,
    report: str | None,
    rc: bool,
    verbose: bool,
    window: int | None,
    context: int | None,
    rows: BatchSize,
    device: torch.device,
    half: bool,
    resume: bool,
    force: bool,
) -> None:
    """Score every base of what was asked for, and write the tracks."""
    from hyenadna.cli.scoring import (
        loading,
        open_partial,
        progress_bar,
        tell_record,
        was_share,
        write_record,
        write_report,
    )  # fmt: skip
    from hyenadna.data.genome import open_reference
    from hyenadna.inference.journal import Codec, in_shards, shard_bases
    from hyenadna.inference.runtime import load_language_model, weights_checksum
    from hyenadna.inference.score_report import TrackReport
    from hyenadna.inference.tracks import TrackBlock, cut_blocks, resolve_context, score_tracks
    from hyenadna.io.tracks import open_track
    from hyenadna.training.run_folder import environment

    reference = open_reference(fasta)
    spans = _spans(reference.contigs, regions, bed, skipped)
    skipped.require_others(len(spans))
    with loading(console, model):
        network, tokenizer = load_language_model(model, device=device)
    window, context = resolve_context(network.config.max_seq_len, window, context)
    provenance: dict[str, Any] = {
        "model": model, "weights_sha256": weights_checksum(network), "input": {"fasta": fasta, "regions": list(regions), "bed": bed},
        "settings": {"rc": rc, "window": window, "context": context, "half": half},
    }  # fmt: skip
    tell_record(console, provenance, verbose=verbose)
    bar = progress_bar(console, "bases")
    n_bases = sum(len(span) for span in spans)
    task = bar.add_task("scoring", total=n_bases)
    began = time.monotonic()
    total = n_scored = 0.0
    pages = None if report is None else TrackReport(spans)

    def advance(n: int) -> None:
        bar.update(task, advance=n)

    def compute(blocks: Iterator[Interval]) -> Iterator[TrackBlock]:
        return score_tracks(
            network, reference, blocks, tokenizer=tokenizer, rc=rc, window=window, context=context, entropy=keep, batch_size=rows, half=half,
            progress=advance,
        )  # fmt: skip

    keep = entropy is not None or report is not None  # else nobody reads the entropies

    def decode(place: Interval, _: object, arrays: Sequence[Any]) -> TrackBlock:
        return TrackBlock(place, arrays[0], arrays[1] if keep else None)

    codec: Codec[Interval, TrackBlock] = Codec(
        lambda block: (None, tuple(values for values in block[1:] if values is not None)), decode
    )
    noted = provenance | environment()
    with ExitStack() as stack:
        journal = stack.enter_context(open_partial(
            console, per_base or entropy or "-", resume=resume, force=force, inputs={"--fasta": fasta, "--bed": bed},
            weights_sha256=provenance["weights_sha256"],
            settings=provenance["settings"] | {"regions": list(regions), "entropy": keep, "batch_size": rows, "device": str(device)},
        ))  # fmt: skip
        blocks = in_shards(
            cut_blocks(spans, window, context), compute, journal, codec, units=len, limit=shard_bases(device), progress=advance
        )  # fmt: skip
        if was_share(journal, blocks):
            return
        stack.enter_context(bar)
        tracks = {
            what: stack.enter_context(open_track(path, reference.contigs, form=form, provenance=noted | {"track": what}, force=force))
            for what, path in (("log_p", per_base), ("entropy", entropy)) if path is not None
        }  # fmt: skip
        for _, block in blocks:
            for what, writer in tracks.items():
                writer.add(block.interval, getattr(block, what))
            if pages:
                pages.add(block)
            known = block.log_p[block.log_p == block.log_p]  # NaN differs from itself
            total, n_scored = total + float(known.sum(dtype="float64")), n_scored + len(known)
        if not n_scored:
            raise DataError(
                f"there is nothing to score: none of {n_bases:,} bases is A, C, G or T; give other regions"
            )
        bits = -total / n_scored / math.log(2)
        for what, path in (("log_p", per_base), ("entropy", entropy)):
            if record := path and _record_path(path, form):
                write_record(record, provenance | {"track": what}, force=force)
        facts = {
            "bases": f"{n_bases:,}",
            "scored": f"{n_scored:,.0f}",
            "bits per base": f"{bits:.4f}",
        }
        if pages:
            write_report(report, "Scores along a genome", facts, pages.sections(), provenance, force=force)  # fmt: skip
    seconds = time.monotonic() - began
    side = "on the side that is read" if rc else "before it"
    console.print(
        f"scored {n_scored:,.0f} of {n_bases:,} bases (the others are N or ambiguous) in {seconds:.1f} s: {bits:.4f} bits/base; each is predicted from at "
        f"least {context:,} bases {side}, contig ends aside{skipped.sentence()}",
        highlight=False,
        soft_wrap=True,
    )


def _spans(
    contigs: Mapping[str, int], regions: Sequence[str], bed: str | None, skipped: Skipped
) -> list[Interval]:
    """Return what was asked for in the genome's order, overlaps merged; without regions all contigs."""
    from hyenadna.inference.inputs import read_spans
    from hyenadna.sequence import Interval, require_inside

    wanted = [span for _, span in read_spans(contigs, regions, bed, skipped.on_error)]
    if not regions and not bed:
        return [Interval(name, 0, size) for name, size in contigs.items() if size]
    for span in wanted:
        require_inside(span, contigs)
    order = {name: i for i, name in enumerate(contigs)}
    wanted.sort(key=lambda span: (order[span.chrom], span.start))
    merged: list[Interval] = []
    for span in wanted:
        last = merged[-1] if merged else None
        if last and last.chrom == span.chrom and span.start <= last.end:
            merged[-1] = Interval(span.chrom, last.start, max(last.end, span.end))
        else:
            merged.append(Interval(span.chrom, span.start, span.end))
    return merged
