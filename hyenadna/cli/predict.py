"""``hyenadna predict``: classes of new sequences and regions, from a fine-tuned classifier."""

from __future__ import annotations

import time
from collections import Counter
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
    NameColumnOption,
    OnErrorOption,
    QuietOption,
    RegionsOption,
    ResumeOption,
    SequenceColumnOption,
    SequencesArgument,
    TableOption,
    VerboseOption,
)
from hyenadna.cli.scoring import PLACE_COLUMNS, place_fields

if TYPE_CHECKING:
    from hyenadna.cli.scoring import Skipped
    from hyenadna.inference.inputs import NamedSequence
    from hyenadna.inference.prediction import Prediction


def predict(
    model: Annotated[str, typer.Option("--model", "-m", help="Run folder of finetune; or model folder, weights file or hub id of a classifier.")],
    sequences: SequencesArgument = None,
    fasta: GenomeOption = None,
    region: RegionsOption = None,
    bed: BedOption = None,
    input_path: InputOption = None,
    output: TableOption = "-",
    form: Annotated[str | None, typer.Option("--format", help="tsv or csv (default: by the output's name, on standard output tsv).")] = None,
    rc: Annotated[bool | None, typer.Option("--rc/--no-rc", help="Average both strands, or read the sequence as it is (default: as the model was chosen).")] = None,
    batch_size: BatchSizeOption = "auto",
    sequence_column: SequenceColumnOption = None,
    name_column: NameColumnOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="fp32 (auto), or bf16: matrix products in bfloat16, faster and coarser.")] = "auto",
    on_error: OnErrorOption = "stop",
    resume: ResumeOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:  # fmt: skip
    """Predict the classes of new sequences with a classifier that 'hyenadna finetune' has trained.

    Give a file of sequences, or a genome (-f) with regions (-r, -b); where the strand column of a BED file has "-", the reverse complement is
    read. Columns: name, for regions chrom, start, end (0-based half-open), strand; length, predicted (the most probable class), and p_CLASS for each
    class. Rows come in the order of the input.

    A run folder knows whether its model was chosen with one strand or both (task.strands), and predictions follow it; --rc and --no-rc say otherwise.
    A sequence is read as a whole, so it may not be longer than the model reads (--on-error skip leaves such ones out), and should be cut as the
    training data were: as long, and around the same place. Its probabilities are the same alone and in any batch (in fp32). Beside a file FILE, FILE.json records model, settings and machine.

    For test metrics of labelled sequences, see 'hyenadna evaluate'.

    \b
    Examples
      hyenadna predict -m runs/finetune/tata my.fa -o out.tsv
      hyenadna predict -m runs/finetune/tata -f genome.fa.gz -b windows.bed --rc -o windows.csv.gz
      hyenadna predict -m runs/finetune/tata -f genome.2bit -r chr20:1,000,001-1,000,070
      hyenadna predict -m runs/finetune/tata -i table.csv --sequence-column promoter --name-column gene
      zcat my.fa.gz | hyenadna predict -m runs/finetune/tata - | sort -k5,5gr | head
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    import numpy as np

    from hyenadna.cli.scoring import (
        SequenceSource,
        Skipped,
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
        write_table,
    )
    from hyenadna.inference.journal import Codec, in_shards, shard_bases
    from hyenadna.inference.prediction import Prediction, predict_sequences, unreadable
    from hyenadna.inference.runtime import choose_device, load_classifier, weights_checksum
    from hyenadna.io import check_output, open_output

    console = open_console(quiet=quiet, verbose=verbose)
    input_path = one_input(sequences, input_path)
    asked = SequenceSource(fasta, region or [], bed, input_path, sequence_column, name_column)
    asked.check("classify")
    skipped = Skipped(on_error)
    dtype = choose_dtype(dtype)
    rows = parse_batch_size(batch_size)
    force = force or goes_on(output, resume=resume)
    record_path = None if is_stream(output) else f"{output}.json"
    require_other_than_inputs(output, fasta, bed, input_path)
    for path in filter(None, (output, record_path)):
        check_output(path, force=force, folder=False)
    form = table_format(output, form)
    source = asked.open(skipped.on_error)
    where = choose_device(device)
    with loading(console, model):
        network, tokenizer, chosen_rc = load_classifier(model, device=where)
    both = chosen_rc if rc is None else rc

    began = time.monotonic()
    settings = {"rc": both, "batch_size": batch_size, "device": str(where), "dtype": dtype}
    record: dict[str, Any] = {
        "model": model,
        "weights_sha256": weights_checksum(network),
        "model_config": network.config.to_dict(),
        "labels": list(network.labels),
        "input": {"fasta": fasta, "regions": region, "bed": bed, "sequences": input_path},
        "settings": settings,
    }
    tell_record(console, record, verbose=verbose)
    bar = progress_bar(console, "bases")
    task = bar.add_task("predicting", total=source.n_bases)

    def advance(n: int) -> None:
        bar.update(task, advance=n)

    def readable() -> Iterator[NamedSequence]:
        for one in source.sequences:
            error = unreadable(one.name, len(one.sequence), network.config.max_seq_len)
            if error is None:
                yield one
            else:
                skipped.leave_out(error)

    def compute(given: Iterator[NamedSequence]) -> Iterator[Prediction]:
        return predict_sequences(
            network, given, tokenizer=tokenizer, rc=both, batch_size=rows, half=dtype == "bf16", progress=advance
        )  # fmt: skip

    codec: Codec[NamedSequence, Prediction] = Codec(
        lambda one: ((one.name, one.length, one.label, one.probabilities.tolist()), ()),
        lambda _, fields, __: Prediction(fields[0], fields[1], fields[2], np.array(fields[3])),
    )
    totals = _Totals(network.labels)
    with (
        open_partial(
            console, output, resume=resume, force=force, inputs={"--fasta": fasta, "--bed": bed, "--input": input_path},
            weights_sha256=str(record["weights_sha256"]),
            settings=settings | {"labels": record["labels"], "regions": region, "on_error": on_error, "sequence_column": sequence_column, "name_column": name_column},
        ) as journal,
        ExitStack() as stack,
    ):  # fmt: skip
        predictions = in_shards(
            readable(), compute, journal, codec, units=lambda one: len(one.sequence), limit=shard_bases(where), progress=advance
        )  # fmt: skip
        if was_share(journal, predictions):
            return
        stack.enter_context(bar)
        out = stack.enter_context(open_output(output, force=force))
        write_table(out, form, totals.rows(predictions, skipped, with_places=fasta is not None))
        seconds = time.monotonic() - began
        if record_path:  # inside the block: where it cannot be written, neither is the table
            results = totals.summary() | {"n_skipped": skipped.n, "seconds": round(seconds, 3)}
            write_record(record_path, record | {"results": results}, force=force)
    read = "both strands averaged" if both else "one strand read"
    console.print(f"{totals.sentence(seconds)}; {read}{skipped.sentence()}", highlight=False, soft_wrap=True)  # fmt: skip


class _Totals:
    """Counts of a run."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.n_bases = 0
        self.n_predicted: Counter[str] = Counter()

    def rows(
        self,
        predictions: Iterator[tuple[NamedSequence, Prediction]],
        skipped: Skipped,
        *,
        with_places: bool,
    ) -> Iterator[tuple[object, ...]]:
        """Yield the table's lines; the header waits for the first result, so that a useless run prints nothing."""
        header = ("name", *(PLACE_COLUMNS if with_places else ()), "length", "predicted", *(f"p_{label}" for label in self.labels))  # fmt: skip
        for given, found in predictions:
            if not self.n_predicted:
                yield header
            self.n_bases += found.length
            self.n_predicted[found.label] += 1
            shown = (f"{p:.6g}" for p in found.probabilities.tolist())
            yield (found.name, *place_fields(given), found.length, found.label, *shown)
        skipped.require_others(self.n_predicted.total())

    def summary(self) -> dict[str, Any]:
        """Return the counts for the record."""
        return {
            "n_sequences": self.n_predicted.total(),
            "n_bases": self.n_bases,
            "n_predicted": {label: self.n_predicted[label] for label in self.labels},
        }

    def sentence(self, seconds: float) -> str:
        """Return the counts for the user."""
        n = self.n_predicted.total()
        often = self.n_predicted.most_common(5)
        parts = [f"{count:,} {label}" for label, count in often]
        if len(self.n_predicted) > len(often):
            parts.append(f"{n - sum(count for _, count in often):,} others")
        return (
            f"predicted {n:,} sequence{'s' if n != 1 else ''} ({n / max(seconds, 1e-9):,.0f}/s): "
            f"{', '.join(parts)}"
        )
