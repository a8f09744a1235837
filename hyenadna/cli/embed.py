"""``hyenadna embed``: vectors of sequences, regions or bases, for other programs to learn from."""

from __future__ import annotations

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
    VerboseOption,
    WindowOption,
)
from hyenadna.resources import DEFAULT_MODEL

if TYPE_CHECKING:
    from hyenadna.inference.embeddings import Embedding
    from hyenadna.inference.inputs import NamedSequence

_POOLINGS = {"mean": "mean", "last": "last", "max": "max", "per-base": "none"}


def embed(
    output: Annotated[str, typer.Option("--output", "-o", help="File to write: .npz, .parquet, .h5 or .zarr (a folder).")],
    sequences: SequencesArgument = None,
    model: ModelOption = DEFAULT_MODEL,
    fasta: GenomeOption = None,
    region: RegionsOption = None,
    bed: BedOption = None,
    input_path: InputOption = None,
    form: Annotated[str | None, typer.Option("--format", help="npz, parquet, h5 or zarr (default: by the output's name).")] = None,
    pooling: Annotated[str, typer.Option(help="Over the bases of a sequence: mean, last, max; or per-base: one row a base.")] = "mean",
    layer: Annotated[int | None, typer.Option(help="0 is the tokens' embedding, i the i-th block's output (default: the last one's, normalised).")] = None,
    strands: Annotated[str, typer.Option(help="forward, average (of both strands) or both (forward components, then reverse ones).")] = "forward",
    rc: Annotated[bool | None, typer.Option("--rc/--no-rc", help="The same as --strands average, or forward.", show_default=False)] = None,
    batch_size: BatchSizeOption = "auto",
    window: WindowOption = None,
    stride: StrideOption = None,
    sequence_column: SequenceColumnOption = None,
    name_column: NameColumnOption = None,
    device: DeviceOption = "auto",
    dtype: Annotated[str, typer.Option(help="fp32 (auto), or bf16: matrix products in bfloat16, faster and coarser.")] = "auto",
    on_error: OnErrorOption = "stop",
    append: Annotated[bool, typer.Option("--append", help="Keep the rows of an existing .h5 or .zarr, and add to them.")] = False,
    resume: ResumeOption = False,
    force: ForceOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:  # fmt: skip
    """Embed sequences: a model's hidden states, one vector a sequence or one a base, with names and places.

    Give a file of sequences, or a genome (-f) with regions (-r, -b) or without (every contig is one sequence). Padding and
    the other sequences of a batch have no part in a vector (in fp32). Sequences longer than --window are read in overlapping windows.
    Columns: name, chrom, start, end, strand, length, embedding; with one row a base, rows of all sequences follow each other, and
    offset says where each begins. Parquet needs pyarrow, .h5 needs h5py, .zarr needs zarr.

    \b
    Examples
      hyenadna embed my.fa -o my.npz
      hyenadna embed -m runs/pretrain/demo -f genome.fa.gz -b peaks.bed --strands average -o peaks.parquet
      hyenadna embed -m MODEL -i reads.fa --pooling per-base --layer 1 -o bases.h5
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.cli.scoring import (
        SequenceSource,
        Skipped,
        choose_dtype,
        goes_on,
        loading,
        one_input,
        open_console,
        open_partial,
        parse_batch_size,
        progress_bar,
        require_other_than_inputs,
        tell_record,
        was_share,
    )
    from hyenadna.errors import ConfigError
    from hyenadna.inference.embeddings import Embedding, embed_sequences
    from hyenadna.inference.journal import Codec, in_shards, shard_bases
    from hyenadna.inference.likelihood import resolve_windows
    from hyenadna.inference.runtime import choose_device, load_encoder, weights_checksum
    from hyenadna.io.atomic import check_output
    from hyenadna.io.vectors import count_vectors, open_vectors, vector_format
    from hyenadna.training.run_folder import environment

    console = open_console(quiet=quiet, verbose=verbose)
    input_path = one_input(sequences, input_path)
    asked = SequenceSource(fasta, region or [], bed, input_path, sequence_column, name_column)
    asked.check("embed")
    skipped = Skipped(on_error)
    if rc is not None:
        if strands != "forward":
            raise ConfigError("--rc and --no-rc are short for --strands; give one of them")
        strands = "average" if rc else "forward"
    if pooling not in _POOLINGS:
        raise ConfigError(f"--pooling {pooling!r} is unknown; expected {', '.join(_POOLINGS)}")
    dtype = choose_dtype(dtype)
    rows = parse_batch_size(batch_size)
    per_base = pooling == "per-base"
    form = vector_format(output, form, per_base=per_base, append=append)
    if append and force:
        raise ConfigError("--append keeps what --force would overwrite; give one of them")
    force = force or goes_on(output, resume=resume)
    require_other_than_inputs(output, fasta, bed, input_path)
    check_output(output, force=force or append, folder=form == "zarr")
    n_before = count_vectors(output, form) if append else 0
    source = asked.open(skipped.on_error)
    where = choose_device(device)
    with loading(console, model):
        network, tokenizer = load_encoder(model, device=where)
    window, stride = resolve_windows(network.config.max_seq_len, window, stride)
    settings: dict[str, Any] = {
        "pooling": pooling, "layer": layer, "strands": strands, "window": window, "stride": stride,
        "batch_size": batch_size, "device": str(where), "dtype": dtype,
    }  # fmt: skip
    provenance = {
        "model": model, "weights_sha256": weights_checksum(network), "model_config": network.config.to_dict(),
        "input": {"fasta": fasta, "regions": region, "bed": bed, "sequences": input_path},
        "settings": settings, **environment(),
    }  # fmt: skip
    tell_record(console, provenance, verbose=verbose)
    began = time.monotonic()
    bar = progress_bar(console, "bases")
    n_strands = 1 if strands == "forward" else 2
    task = bar.add_task("embedding", total=source.n_bases and source.n_bases * n_strands)

    def advance(n: int) -> None:
        bar.update(task, advance=n)

    def compute(sequences: Iterator[NamedSequence]) -> Iterator[Embedding]:
        return embed_sequences(
            network, sequences, tokenizer=tokenizer, layer=layer, pooling=_POOLINGS[pooling], strands=strands,  # type: ignore[arg-type]
            batch_size=rows, window=window, stride=stride, half=dtype == "bf16", progress=advance,
        )  # fmt: skip

    codec: Codec[NamedSequence, Embedding] = Codec(
        lambda one: ((one.name, one.length), (one.values,)), lambda _, fields, arrays: Embedding(*fields, *arrays)
    )  # fmt: skip
    # A row a base is as much to keep as to compute, wherever it is computed.
    limit = min(shard_bases(where), 1 << 18) if per_base else shard_bases(where)
    width = network.config.d_model * (2 if strands == "both" else 1)
    n_sequences = total = 0
    with (
        open_partial(
            console, output, resume=resume, force=force, inputs={"--fasta": fasta, "--bed": bed, "--input": input_path},
            weights_sha256=str(provenance["weights_sha256"]),
            settings=settings | {"rows_before": n_before, "regions": region, "on_error": on_error, "sequence_column": sequence_column, "name_column": name_column},
        ) as journal,
        ExitStack() as stack,
    ):  # fmt: skip
        vectors = in_shards(
            source.sequences, compute, journal, codec, units=lambda one: len(one.sequence) * n_strands, limit=limit, progress=advance
        )  # fmt: skip
        if was_share(journal, vectors):
            return
        stack.enter_context(bar)
        out = stack.enter_context(open_vectors(output, width=width, form=form, per_base=per_base, provenance=provenance, force=force, append=append))  # fmt: skip
        for given, found in vectors:
            out.add(found.name, found.length, given.interval, found.values)
            n_sequences, total = n_sequences + 1, total + found.length
        skipped.require_others(n_sequences)
    seconds = time.monotonic() - began
    console.print(
        f"embedded {n_sequences:,} sequence{'s' if n_sequences != 1 else ''}, {total:,} bases, as vectors of {width} "
        f"in {seconds:.1f} s ({total / max(seconds, 1e-9):,.0f} bases/s){skipped.sentence()}",
        highlight=False,
        soft_wrap=True,
    )
