"""``hyenadna vep``: effects of variants under a language model, from VCF or variant text to VCF or TSV."""

from __future__ import annotations

import itertools
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyenadna.cli.options import ModelOption, VerboseOption
from hyenadna.resources import DEFAULT_MODEL

if TYPE_CHECKING:
    from hyenadna.cli.vep_output import Scored
    from hyenadna.inference.journal import Codec
    from hyenadna.inference.variants import VariantScore
    from hyenadna.io.vcf import VariantInput, VariantRecord
    from hyenadna.sequence import Variant


def vep(
    fasta: Annotated[
        str,
        typer.Option("--fasta", "-f", help="Genome: FASTA (plain, gzip, bgzip) or .2bit."),
    ],
    model: ModelOption = DEFAULT_MODEL,
    input_path: Annotated[
        str | None,
        typer.Option(
            "--input", "-i", help="VCF, BCF, or variant text, one a line; - for standard input."
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help="One variant as text, 1-based: chr22:1024:A>C. Repeatable."),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help="VCF (.vcf; .vcf.gz: bgzip with a tabix index), BCF (.bcf, with a CSI index) or TSV (.tsv, .tsv.gz) to write; - for standard output.",
        ),
    ] = "-",
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="vcf or tsv (default: by the output's name; on standard output as the input, TSV for variant text).",
        ),
    ] = None,
    rc: Annotated[
        bool, typer.Option("--rc/--no-rc", help="Both strands and their mean, or forward alone.")
    ] = True,
    window: Annotated[
        int | None,
        typer.Option(
            help="Bases of a window (default: the largest power of two that the model reads, at most 8,192)."
        ),
    ] = None,
    radius: Annotated[
        int,
        typer.Option(help="Bases beyond the allele that count for local LLR and distance."),
    ] = 64,
    report: Annotated[
        str | None,
        typer.Option(help="Report with tables and pictures to write, too: one .html file."),
    ] = None,
    class_key: Annotated[
        str | None,
        typer.Option(
            "--class",
            help="INFO entry by which the report groups alleles (default: CLNSIG and the like, where there is one).",
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            help="skip: an allele that does not fit the genome is written with its reason; stop: it ends the run."
        ),
    ] = "skip",
    batch_size: Annotated[
        str, typer.Option(help="Windows per forward pass, or auto: what the memory takes.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="fp32 (auto), or bf16: matrix products in bfloat16, faster and less exact."
        ),
    ] = "auto",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the finished work of a run that was broken off."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Score variants: log-likelihood ratio (LLR) of each alternative allele, in nats, by strand and near the allele, and embedding distance.

    LLR = log p(window with ALT) - log p(window with REF): negative where the model finds ALT less likely than REF, 0 where they are the
    same. Both windows begin at the same base and are equally long, so indels compare with SNVs. Variant text is chr22:1024:A>C,
    22-1024-A-C, 22_1024_A_C or chr22_1024_A_C_b38. Every record comes out, in order; an allele without a score has a reason: symbolic
    (also * and breakends), not_acgt, unknown_contig, outside_contig, ref_mismatch, too_long, contig_edge; no_alternative in a TSV. chr20 and 20 are the same contig.
    A score is the same alone and in any batch (in fp32). Model, settings and command are in the VCF header, or in FILE.json beside a TSV. Which records to score is for 'bcftools view -r' to choose; they keep their order, so there is no -r here.

    Of a masked (bidirectional) model the bases that differ are masked, all at once, in the middle of one window, and LLR = sum of log p(ALT base) - log p(REF base)
    over them (masked marginals, Meier et al. 2021): SNVs and MNVs alone, other alleles have the reason masked_model. What p is normalised over falls out; local LLR is the same.

    \b
    Examples
      hyenadna vep -f genome.fa -i in.vcf -o out.vcf
      hyenadna vep -m MODEL -f genome.fa.gz -i variants.vcf.gz -o scored.vcf.gz --report scored.html
      hyenadna vep -m MODEL -f genome.2bit --variant 22-1024-A-C
      bcftools view -r 20 cohort.bcf | hyenadna vep -m MODEL -f genome.fa -i - -o scores.tsv
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.cli.scoring import (
        check_report,
        choose_dtype,
        goes_on,
        is_stream,
        loading,
        open_console,
        open_partial,
        parse_batch_size,
        progress_bar,
        require_other_than_inputs,
        tell_record,
        was_share,
        write_record,
        write_report,
    )
    from hyenadna.cli.vep_output import Totals, info_fields, vcf_header, write_tsv, write_vcf
    from hyenadna.data.genome import open_reference
    from hyenadna.errors import ConfigError
    from hyenadna.inference.journal import in_shards, shard_bases
    from hyenadna.inference.runtime import (
        choose_device,
        load_either_language_model,
        weights_checksum,
    )
    from hyenadna.inference.variant_report import VariantReport
    from hyenadna.inference.variants import resolve_window, score_variants
    from hyenadna.io import check_output, open_output
    from hyenadna.io.vcf import new_header
    from hyenadna.io.vcf_output import check_vcf_output
    from hyenadna.training.run_folder import command_words

    console = open_console(quiet=quiet, verbose=verbose)
    if (input_path is None) == (not variant):
        raise ConfigError("say what to score: a file with -i, or --variant (one of the two)")
    if on_error not in ("skip", "stop"):
        raise ConfigError(f"--on-error {on_error!r} is unknown; expected skip or stop")
    if class_key is not None and report is None:
        raise ConfigError("--class is about the report; name one with --report")
    dtype = choose_dtype(dtype)
    rows = parse_batch_size(batch_size)
    force = force or goes_on(output, resume=resume)
    output_format = _format(format_, output)
    require_other_than_inputs(output, fasta, input_path)
    with _open(input_path, variant or []) as source:
        if output_format is None:
            output_format = "tsv" if source.header is None else "vcf"
        record_path = f"{output}.json" if output_format == "tsv" and not is_stream(output) else None
        if output_format == "vcf":
            check_vcf_output(output, force=force)
        else:
            check_output(output, force=force, folder=False)
        if record_path:
            check_output(record_path, force=force, folder=False)
        check_report(report, inputs=(fasta, input_path), outputs=(output, record_path), force=force)
        reference = open_reference(fasta)
        where = choose_device(device)
        with loading(console, model):
            network, tokenizer = load_either_language_model(model, device=where)
        masked = network.config.bidirectional
        window = resolve_window(network.config.max_seq_len, window)

        began = time.monotonic()
        bar = progress_bar(console, "alleles")
        task = bar.add_task("scoring", total=None)

        def advance(n: int) -> None:
            bar.update(task, advance=n)

        def compute(records: Iterator[VariantRecord]) -> Iterator[list[VariantScore]]:
            waiting: deque[VariantRecord] = deque()
            scores = score_variants(
                network,
                _alleles(records, waiting),
                reference,
                tokenizer=tokenizer,
                rc=rc,
                window=window,
                radius=radius,
                batch_size=rows,
                half=dtype == "bf16",
                progress=advance,
            )
            return _by_record(scores, waiting)

        totals = Totals()
        pages = None if report is None else VariantReport(class_key, masked=masked)
        settings = {
            "rc": rc,
            "window": window,
            "radius": radius,
            "batch_size": batch_size,
            "device": str(where),
            "dtype": dtype,
        }
        if masked:
            settings["scoring"] = "masked_marginal"
        checksum = weights_checksum(network)
        fields = info_fields(rc, radius, masked=masked)
        record = {
            "model": model,
            "weights_sha256": checksum,
            "model_config": network.config.to_dict(),
            "input": {"fasta": fasta, "input": input_path, "variants": variant},
            "settings": settings,
        }

        tell_record(console, record, verbose=verbose)

        def finish() -> None:
            if record_path:
                write_record(record_path, record | {"results": totals.summary()}, force=force)
            if pages:
                facts = totals.facts()
                write_report(
                    report, "Variant effects", facts, pages.sections(), record, force=force
                )

        limit = max(16, shard_bases(where) // ((3 if masked else 2) * window * (2 if rc else 1)))
        with (
            open_partial(
                console, output, resume=resume, force=force, inputs={"--fasta": fasta, "--input": input_path},
                weights_sha256=checksum, settings=settings | {"variants": variant},
            ) as journal,
            ExitStack() as stack,
        ):  # fmt: skip
            scored = in_shards(
                source.records, compute, journal, _codec(), units=lambda one: max(1, len(one.alts)), limit=limit, progress=advance
            )  # fmt: skip
            if was_share(journal, scored):
                return
            stack.enter_context(bar)
            results = _begun(totals.watch(scored, stop=on_error == "stop"))
            if pages:
                results = pages.watch(results)
            # Before the output is complete: where the record or the report cannot be written, neither are the scores.
            results = _ending(results, finish)
            if output_format == "vcf":
                if source.header is None:
                    results = _named_as(results, reference.contigs)
                provenance = {
                    "Command": shlex.join(command_words()),
                    "Model": f"{model} weights_sha256={checksum}",
                    "Settings": " ".join(f"{key}={value}" for key, value in settings.items()),
                }
                header = vcf_header(
                    source.header or new_header(reference.contigs),
                    fields,
                    provenance,
                    masked=masked,
                )
                totals.not_indexed = write_vcf(results, header, fields, output, force=force)
            else:
                with open_output(output, force=force) as out:
                    write_tsv(results, fields, out)
        seconds = time.monotonic() - began
    console.print(totals.sentence(rc, window, seconds), highlight=False, soft_wrap=True)


def _format(given: str | None, output: str) -> str | None:
    """Return vcf, tsv, or None where only the input can tell."""
    from hyenadna.cli.scoring import is_stream
    from hyenadna.errors import ConfigError

    if given not in (None, "vcf", "tsv"):
        raise ConfigError(f"--format {given!r} is unknown; expected vcf or tsv")
    name = output.removesuffix(".gz").removesuffix(".bgz")
    if given is not None or is_stream(output):
        return given
    if name.endswith(".vcf") or output.endswith(".bcf"):
        return "vcf"
    if name.endswith((".tsv", ".txt")):
        return "tsv"
    raise ConfigError(f"the name {output} does not tell its format; add --format vcf or tsv")


@contextmanager
def _open(path: str | None, texts: list[str]) -> Iterator[VariantInput]:
    from hyenadna.io.vcf import VariantInput, open_variants, variant_record
    from hyenadna.sequence import Variant

    if path is None:
        yield VariantInput(None, iter([variant_record(Variant.parse(text)) for text in texts]))
    else:
        with open_variants(path) as source:
            yield source


def _alleles(source: Iterable[VariantRecord], records: deque[VariantRecord]) -> Iterator[Variant]:
    """Pass on the alleles of records, one "." for a record without, and keep the records until their scores arrive."""
    from hyenadna.sequence import Variant

    for record in source:
        records.append(record)
        for alt in record.alts or (".",):
            yield Variant(record.chrom, record.start, record.ref, alt)


def _by_record(
    scores: Iterator[VariantScore], records: deque[VariantRecord]
) -> Iterator[list[VariantScore]]:
    """Put the scores of a record's alleles together again; scores keep their order."""
    for first in scores:
        record = records.popleft()
        yield [first, *itertools.islice(scores, max(len(record.alts) - 1, 0))]


def _codec() -> Codec[VariantRecord, list[VariantScore]]:
    from hyenadna.inference.journal import Codec
    from hyenadna.inference.variants import VariantScore

    def decode(record: VariantRecord, fields: list[Any], _: object) -> list[VariantScore]:
        variants = _alleles([record], deque())
        return [VariantScore(one, *rest) for one, rest in zip(variants, fields, strict=True)]

    return Codec(lambda scores: ([score[1:] for score in scores], ()), decode)


def _begun(results: Iterator[Scored]) -> Iterator[Scored]:
    """Wait for the first result: a run that has none fails before its output is opened."""
    first = next(results, None)
    return results if first is None else itertools.chain([first], results)


def _ending(results: Iterator[Scored], finish: Callable[[], None]) -> Iterator[Scored]:
    """Pass results on, and call a function after the last one."""
    yield from results
    finish()


def _named_as(results: Iterator[Scored], contigs: Mapping[str, int]) -> Iterator[Scored]:
    """Name contigs as the genome, and so the new header, does."""
    from hyenadna.sequence import find_contig

    for record, scores in results:
        chrom = find_contig(record.chrom, contigs) or record.chrom
        line = chrom + record.line[len(record.chrom) :]
        yield record._replace(chrom=chrom, line=line), scores
