"""``hyenadna score``: log-likelihoods of sequences and regions under a language model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyenadna.cli.options import (
    BatchSizeOption,
    BedOption,
    DeviceOption,
    ForceOption,
    GenomeOption,
    InputOption,
    ModelOption,
    NameColumnOption,
    OnErrorOption,
    QuietOption,
    RegionsOption,
    ResumeOption,
    SequenceColumnOption,
    SequencesArgument,
    StrideOption,
    TableOption,
    VerboseOption,
    WindowOption,
)
from hyenadna.cli.scoring import PLACE_COLUMNS, place_fields
from hyenadna.resources import DEFAULT_MODEL

if TYPE_CHECKING:
    from hyenadna.cli.scoring import Skipped
    from hyenadna.inference.inputs import NamedSequence
    from hyenadna.inference.likelihood import SequenceScore
    from hyenadna.inference.score_report import ScoreReport


def score(
    sequences: SequencesArgument = None,
    model: ModelOption = DEFAULT_MODEL,
    fasta: GenomeOption = None,
    region: RegionsOption = None,
    bed: BedOption = None,
    input_path: InputOption = None,
    output: TableOption = "-",
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="tsv or csv; of tracks bedgraph, bigwig or npz (default: by the output's name, on standard output tsv).",
        ),
    ] = None,
    rc: Annotated[
        bool, typer.Option("--rc/--no-rc", help="Average over both strands, or forward alone.")
    ] = False,
    batch_size: BatchSizeOption = "auto",
    window: WindowOption = None,
    stride: StrideOption = None,
    per_base: Annotated[
        str | None,
        typer.Option(
            help="Write a track of every base's log-probability in place of the table: .bw, .bedGraph(.gz) or .npz; - for bedGraph on standard output."
        ),
    ] = None,
    entropy: Annotated[
        str | None,
        typer.Option(help="Write a track of every prediction's entropy, nats, likewise."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            help="Least number of bases before each base of a track (default: half a window)."
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(help="Report with tables and pictures to write, too: one .html file."),
    ] = None,
    sequence_column: SequenceColumnOption = None,
    name_column: NameColumnOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            help="fp32 (auto), or bf16: matrix products in bfloat16, faster; scores differ by about 1e-4 nats per base."
        ),
    ] = "auto",
    on_error: OnErrorOption = "stop",
    resume: ResumeOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score sequences under a language model: log-likelihood in nats, nats per base, bits per base, perplexity, entropy.

    Give a file of sequences, or a genome (-f) with regions (-r, -b) or without (every contig is one sequence). The first base of
    a sequence is context and not scored, nor are N and other ambiguous letters. Sequences longer than --window are scored in
    overlapping windows. A score is the same alone and in any batch (in fp32). Beside a file FILE, FILE.json records model, settings and machine.

    With --per-base or --entropy, every base of the genome, its regions or contigs gets a number; overlapping regions are merged, memory stays
    bounded. --rc predicts each base from both sides and averages.

    \b
    Examples
      hyenadna score my.fa
      hyenadna score -m runs/pretrain/demo -f genome.fa.gz -r chr20:1,000,001-1,001,000
      hyenadna score -m MODEL -f genome.2bit -b peaks.bed --rc -o scores.tsv --report scores.html
      zcat reads.fa.gz | hyenadna score -m MODEL -i - -o - | sort -k6,6n
      hyenadna score -m MODEL -f genome.2bit -r chr20 --rc --per-base chr20.bw --entropy chr20.entropy.bw
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.cli.score_tracks import check_tracks, write_tracks
    from hyenadna.cli.scoring import (
        SequenceSource,
        Skipped,
        check_report,
        choose_dtype,
        goes_on,
        is_stream,
        loading,
        one_input,
        open_console,
        open_partial,
        parse_batch_size,
        progress_bar,
        require_other_than_inputs,
        table_format,
        tell_record,
        was_share,
        write_record,
        write_report,
        write_table,
    )
    from hyenadna.errors import ConfigError
    from hyenadna.inference.journal import Codec, in_shards, shard_bases
    from hyenadna.inference.likelihood import SequenceScore, resolve_windows, score_sequences
    from hyenadna.inference.runtime import choose_device, load_language_model, weights_checksum
    from hyenadna.inference.score_report import ScoreReport
    from hyenadna.io import check_output, open_output

    console = open_console(quiet=quiet, verbose=verbose)
    input_path = one_input(sequences, input_path)
    asked = SequenceSource(fasta, region or [], bed, input_path, sequence_column, name_column)
    asked.check("score")
    skipped = Skipped(on_error)
    dtype = choose_dtype(dtype)
    rows = parse_batch_size(batch_size)
    force = force or goes_on(per_base or entropy or output, resume=resume)
    if per_base is not None or entropy is not None:
        if fasta is None or output != "-" or stride is not None:
            raise ConfigError(
                "tracks are of a genome (-f), take --context in place of --stride, and come in place of the table (-o)"
            )
        for track in filter(None, (per_base, entropy)):
            require_other_than_inputs(track, fasta, bed)
        check_tracks(per_base, entropy, form, force=force)
        check_report(report, inputs=(fasta, bed), outputs=(per_base, entropy), force=force)
        write_tracks(
            console, model=model, fasta=fasta, regions=region or (), bed=bed, skipped=skipped, per_base=per_base, entropy=entropy, form=form, report=report,
            rc=rc, verbose=verbose, window=window, context=context, rows=rows, device=choose_device(device), half=dtype == "bf16", resume=resume, force=force,
        )  # fmt: skip
        return
    if context is not None:
        raise ConfigError(
            "--context is about tracks (--per-base, --entropy); a table takes --stride"
        )
    record_path = None if is_stream(output) else f"{output}.json"
    require_other_than_inputs(output, fasta, bed, input_path)
    check_output(output, force=force, folder=False)
    form = table_format(output, form)
    if record_path:
        check_output(record_path, force=force, folder=False)
    check_report(
        report, inputs=(fasta, bed, input_path), outputs=(output, record_path), force=force
    )
    source = asked.open(skipped.on_error)
    where = choose_device(device)
    with loading(console, model):
        network, tokenizer = load_language_model(model, device=where)
    window, stride = resolve_windows(network.config.max_seq_len, window, stride)

    began = time.monotonic()
    settings = {
        "rc": rc,
        "window": window,
        "stride": stride,
        "batch_size": batch_size,
        "device": str(where),
        "dtype": dtype,
    }
    record = {
        "model": model,
        "weights_sha256": weights_checksum(network),
        "model_config": network.config.to_dict(),
        "input": {"fasta": fasta, "regions": region, "bed": bed, "sequences": input_path},
        "settings": settings,
    }
    tell_record(console, record, verbose=verbose)
    n_strands = 2 if rc else 1
    bar = progress_bar(console, "bases")
    n_bases = None if source.n_bases is None else source.n_bases * n_strands
    task = bar.add_task("scoring", total=n_bases)

    def advance(n: int) -> None:
        bar.update(task, advance=n)

    codec: Codec[NamedSequence, SequenceScore] = Codec(
        lambda score: (score, ()), lambda _, fields, __: SequenceScore(*fields)
    )

    def compute(sequences: Iterator[NamedSequence]) -> Iterator[SequenceScore]:
        return score_sequences(
            network, sequences, tokenizer=tokenizer, rc=rc, batch_size=rows, window=window, stride=stride, half=dtype == "bf16", progress=advance
        )  # fmt: skip

    totals = _Totals()
    pages = None if report is None else ScoreReport()
    with (
        open_partial(
            console, output, resume=resume, force=force, inputs={"--fasta": fasta, "--bed": bed, "--input": input_path},
            weights_sha256=str(record["weights_sha256"]),
            settings=settings | {"regions": region, "on_error": on_error, "sequence_column": sequence_column, "name_column": name_column},
        ) as journal,
        ExitStack() as stack,
    ):  # fmt: skip
        scores = in_shards(
            source.sequences, compute, journal, codec, units=lambda one: len(one.sequence) * n_strands, limit=shard_bases(where), progress=advance
        )  # fmt: skip
        if was_share(journal, scores):
            return
        stack.enter_context(bar)
        out = stack.enter_context(open_output(output, force=force))
        write_table(out, form, totals.rows(scores, pages, skipped, with_places=fasta is not None))
        seconds = time.monotonic() - began
        # Inside the block: where the record or the report cannot be written, neither are the scores.
        if pages:
            facts = totals.facts()
            write_report(report, "Sequence scores", facts, pages.sections(), record, force=force)
        if record_path:
            results = totals.summary() | {"n_skipped": skipped.n, "seconds": round(seconds, 3)}
            write_record(record_path, record | {"results": results}, force=force)
    console.print(
        totals.sentence(window, seconds) + skipped.sentence(), highlight=False, soft_wrap=True
    )


class _Totals:
    """Sums over the sequences of a run."""

    def __init__(self) -> None:
        self.n_sequences = self.n_without = self.n_bases = self.longest = 0
        self.n_scored = self.log_likelihood = 0.0

    def rows(
        self,
        scores: Iterator[tuple[NamedSequence, SequenceScore]],
        report: ScoreReport | None,
        skipped: Skipped,
        *,
        with_places: bool,
    ) -> Iterator[tuple[object, ...]]:
        """Yield the table's lines. None comes before something was scored, so that a useless run leaves no output.

        Raises
        ------
        DataError
            No sequence has anything to score.
        """
        from hyenadna.errors import DataError

        header = ("name", *(PLACE_COLUMNS if with_places else ()), "length", "n_scored", "log_likelihood",
                  "mean_log_likelihood", "bits_per_base", "perplexity", "entropy", "n_ambiguous", "n_soft_masked")  # fmt: skip
        held: list[tuple[object, ...]] = [header]
        for given, result in scores:
            self._add(result)
            if report is not None:
                report.add(result, given.interval)
            held.append((result.name, *place_fields(given), *_numbers(result)))
            if self.n_scored:
                yield from held
                held.clear()
        skipped.require_others(self.n_sequences)
        if not self.n_scored:
            raise DataError(
                f"there is nothing to score: {'the sequence has' if self.n_sequences == 1 else 'the sequences have'} "
                f"no A, C, G or T after the first base ({self.n_bases:,} bases read; N is never scored); give others"
            )

    def _add(self, result: SequenceScore) -> None:
        self.n_sequences += 1
        self.n_without += not result.n_scored
        self.n_bases += result.length
        self.longest = max(self.longest, result.length)
        self.n_scored += result.n_scored
        self.log_likelihood += result.log_likelihood

    @property
    def bits_per_base(self) -> float:
        """Mean over all scored bases."""
        return -self.log_likelihood / self.n_scored / math.log(2)

    def summary(self) -> dict[str, Any]:
        """Return the sums for the record."""
        return {
            "n_sequences": self.n_sequences,
            "n_sequences_without_a_score": self.n_without,
            "n_bases": self.n_bases,
            "n_scored": self.n_scored,
            "log_likelihood": self.log_likelihood,
            "bits_per_base": self.bits_per_base,
        }

    def facts(self) -> dict[str, str]:
        """Return what stands at the top of a report."""
        return {
            "sequences": f"{self.n_sequences:,}",
            "bases": f"{self.n_bases:,}",
            "bits per base": f"{self.bits_per_base:.4f}",
            "without a score": f"{self.n_without:,}",
        }

    def sentence(self, window: int, seconds: float) -> str:
        """Return the summary for the user."""
        text = (
            f"scored {self.n_sequences:,} sequence{'s' if self.n_sequences != 1 else ''}, {self.n_bases:,} bases: "
            f"{self.bits_per_base:.4f} bits per base ({self.n_bases / max(seconds, 1e-9):,.0f} bases/s)"
        )
        if self.longest > window:
            text += f"; those longer than {window:,} bases in overlapping windows"
        if self.n_without:
            text += f"; {self.n_without:,} without a base to score (NaN)"
        return text


def _numbers(result: SequenceScore) -> tuple[object, ...]:
    n = result.n_scored
    means = (result.mean_log_likelihood, result.bits_per_base, result.perplexity, result.entropy)
    return (
        result.length,
        int(n) if n == int(n) else n,
        f"{result.log_likelihood:.6f}",
        # NaN is spelled so that R, pandas and polars read a number.
        *("NaN" if math.isnan(mean) else f"{mean:.6f}" for mean in means),
        result.n_ambiguous,
        result.n_soft_masked,
    )
