"""``hyenadna evaluate``: a language model against Markov models on held-out DNA, or a classifier on a labelled file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hyenadna.models import Classifier, HyenaForCausalLM
    from hyenadna.training.config import PretrainConfig
    from hyenadna.training.evaluate import EvaluatedRegions
    from hyenadna.training.evaluate_contexts import ContextEvaluation

_SPLITS = ("test", "validation", "train")


def evaluate(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Run folder, model folder, weights file or hub id.")
    ],
    fasta: Annotated[
        str | None,
        typer.Option("--fasta", "-f", help="Genome: FASTA or .2bit (default: that of the run)."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to score: test (default), validation or train.")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", "-r", help="Score this region instead, 1-based inclusive."),
    ] = None,
    bed: Annotated[
        str | None, typer.Option("--bed", "-b", help="Score the regions of a BED file instead.")
    ] = None,
    markov_order: Annotated[
        int,
        typer.Option(min=-1, max=12, help="Highest order of the Markov baselines; -1 for none."),
    ] = 12,
    window: Annotated[
        int | None,
        typer.Option(help="Bases read at once (default: the model's longest, at most 32,768)."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Bases at a window's front that are only read (default: a quarter)."),
    ] = None,
    contexts: Annotated[
        str | None,
        typer.Option(help="Score the same bases at each of these contexts: 256,1024,4096 or auto."),
    ] = None,
    max_bases: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Score about so many evenly spread bases (default: all; with --contexts 1,000,000).",
        ),
    ] = None,
    input_path: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            help="Labelled CSV, TSV or FASTA, for a classifier; a text, for a model of text.",
        ),
    ] = None,
    rc: Annotated[bool, typer.Option("--rc", help="Classifier: average both strands.")] = False,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="JSON to write; - for standard output.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help="Picture of --contexts to write, too: .png or .svg.")
    ] = None,
    batch_size: Annotated[
        int,
        typer.Option(min=1, help="Windows per forward pass; with --contexts, of 4,096 bases."),
    ] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing outputs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Evaluate a language model in bits per base beside Markov models, or a classifier by its test metrics.

    A model of text is evaluated in bits per byte and by the perplexity of its words, as WikiText-103's word-level models are, on the test split of its run or
    on a file; --window and --context set the sliding windows.

    A run folder brings its genomes and splits; its test split is scored. Baselines of order 0 to 12 are fitted on the run's
    training split, or without a run on all of the genome that is not scored, and pay for the same bases with the same context.

    --contexts gives a curve: the same bases at every context, each with three quarters of it or more before it, beside the Markov
    models and what compressors pay. It costs four times --max-bases for each context (or 16 windows, where that is more).

    \b
    Examples
      hyenadna evaluate -m runs/pretrain/demo
      hyenadna evaluate -m runs/mine --contexts auto -o curve.json --plot curve.png
      hyenadna evaluate -m MODEL -f genome.fa.gz -r chr20:44,000,001-45,000,000 -o bits.json
      hyenadna evaluate -m runs/finetune/tata -i test.csv
      hyenadna evaluate -m runs/text --context 768
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from rich.console import Console

    from hyenadna.cli.evaluate_text import evaluate_bytes, reads_bytes
    from hyenadna.cli.scoring import require_other_than_inputs
    from hyenadna.errors import ConfigError
    from hyenadna.inference.runtime import choose_device
    from hyenadna.io.atomic import atomic_path, check_output, open_output
    from hyenadna.models import Classifier, HyenaForMaskedLM, load_model

    if output is not None:
        check_output(output, force=force, folder=False)
    if plot is not None:
        if contexts is None:
            raise ConfigError("--plot draws the curve of --contexts; give that, too")
        if Path(plot).suffix.lower() not in (".png", ".svg"):
            raise ConfigError(f"--plot is {plot!r}; expected a name that ends with .png or .svg")
        require_other_than_inputs(plot, fasta, output)
        check_output(plot, force=force, folder=False)
    if contexts is not None and (window or context):
        raise ConfigError("--contexts sets windows of its own; leave --window and --context out")
    if split is not None and split not in _SPLITS:
        raise ConfigError(f"--split {split} is unknown; expected {', '.join(_SPLITS)}")
    if split is not None and (region or bed):
        raise ConfigError(
            "--split and regions (-r, -b) are two ways to say what to score; give one"
        )
    console = Console(stderr=True, quiet=quiet)
    loaded = load_model(model)
    where = str(choose_device(device))
    if isinstance(loaded, HyenaForMaskedLM):
        raise ConfigError(
            f"{model} is a masked (bidirectional) language model, which has no likelihood of a next base; its bits per masked base are in the "
            "report.json of its run, and classifiers made from it can be evaluated"
        )
    if isinstance(loaded, Classifier):
        if input_path is None or fasta or region or bed or split or contexts:
            raise ConfigError(
                f"{model} is a classifier; give it labelled sequences with -i, and nothing else to score ('hyenadna predict' takes those without labels)"
            )
        result, table = _classifier(loaded, input_path, model, rc, batch_size, where, console)
    elif reads_bytes(model):
        if fasta or region or bed or contexts or rc:
            raise ConfigError(
                f"{model} reads text; give it a file with -i, or a --split of its run, and leave -f, -r, -b, --contexts and --rc out"
            )
        if input_path is not None and split is not None:
            raise ConfigError("--split and -i are two ways to say what to score; give one")
        result, table = evaluate_bytes(
            loaded, model, _run_settings(model), text=input_path, split=split or "test", window=window, context=context,
            max_bytes=max_bases, batch_size=batch_size, device=where, console=console,
        )  # fmt: skip
    else:
        if input_path is not None or rc:
            raise ConfigError(
                f"{model} is a language model; -i and --rc are for classifiers, give a genome with -f"
            )
        what = _Selection(fasta, split or "test", region or [], bed)
        how = _Scoring(markov_order, window, context, contexts, max_bases, batch_size, where)
        result, table, curve = _language_model(loaded, model, what, how, console)
        if plot is not None and curve is not None:
            from hyenadna.training.contexts_plot import plot_contexts

            with atomic_path(plot, force=force, folder=False) as temporary:
                plot_contexts(curve, temporary, title=f"{Path(model).name}, {result['regions']}")
    if output != "-":
        typer.echo(table)
    if output is not None:
        with open_output(output, force=force) as handle:
            handle.write(json.dumps({"model": model, **result}, indent=2) + "\n")


class _Selection:
    """What the user asked to score."""

    def __init__(self, fasta: str | None, split: str, regions: list[str], bed: str | None) -> None:
        self.fasta, self.split, self.regions, self.bed = fasta, split, regions, bed


class _Scoring(NamedTuple):
    """How a language model is to be scored."""

    markov_order: int
    window: int | None
    context: int | None
    contexts: str | None
    max_bases: int | None
    batch_size: int
    device: str


def _language_model(
    model: HyenaForCausalLM, source: str, what: _Selection, how: _Scoring, console: Console
) -> tuple[dict[str, Any], str, ContextEvaluation | None]:
    from rich.progress import Progress

    from hyenadna.cli.evaluate_contexts import (
        DEFAULT_MAX_BASES,
        context_table,
        markov_lines,
        method,
        parse_contexts,
    )
    from hyenadna.training.evaluate import evaluate_language_model, fit_markov, resolve_window
    from hyenadna.training.evaluate_contexts import (
        choose_targets,
        compress_targets,
        evaluate_contexts,
    )
    from hyenadna.training.pretrain_data import n_bases
    from hyenadna.training.run_folder import environment

    scored, training, described = _choose_regions(source, what)
    targets = None
    if how.contexts is not None:
        lengths = parse_contexts(how.contexts, model.config.max_seq_len, scored)
        targets = choose_targets(scored, lengths, max_bases=how.max_bases or DEFAULT_MAX_BASES)
        total = targets.n_bases * len(lengths)
    else:
        resolve_window(model.config.max_seq_len, how.window, how.context)  # before the long fit
        total = sum(n_bases(regions.intervals) for regions in scored)
        total = min(total, how.max_bases or total)
    markov, training_bases = None, None
    if how.markov_order >= 0:
        with console.status(f"fitting Markov models of order 0 to {how.markov_order}"):
            markov = fit_markov(training, max_order=how.markov_order)
        training_bases = sum(n_bases(regions.intervals) for regions in training)
    result: dict[str, Any] = {"regions": described}
    curve = None
    if targets is not None:
        with console.status("compressing"):
            compressors = compress_targets(targets, training if markov else ())
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=total)
        shared: dict[str, Any] = {
            "markov": markov, "batch_size": how.batch_size, "device": how.device,
            "progress": lambda bases: bar.update(task, advance=bases),
        }  # fmt: skip
        if targets is not None:
            curve = evaluate_contexts(model, targets, compressors=compressors, **shared)
        else:
            found = evaluate_language_model(
                model, scored, window=how.window, context=how.context, max_bases=how.max_bases,
                **shared,
            )  # fmt: skip
    if curve is not None:
        words = method(curve, described, training_bases)
        lines = [*context_table(curve), *words]
        result |= {**curve.to_dict(), "method": " ".join(words)}
    else:
        lines = [
            f"{'model':<20}{'bits/base':>10}",
            f"{Path(source).name[:19]:<20}{found.bits_per_base:>10.4f}",
            *markov_lines(found.markov_bits_per_base),
            f"{found.n_scored:,} bases of {described}",
        ]
        result |= found.to_dict()
    if training_bases is not None:
        result["markov_training_bases"] = training_bases
    result["data"] = [
        {"path": str(regions.genome.path), "sha256": regions.genome.checksum} for regions in scored
    ]
    return {**result, **environment()}, "\n".join(lines), curve


def _choose_regions(
    source: str, what: _Selection
) -> tuple[list[EvaluatedRegions], list[EvaluatedRegions], str]:
    """Return what is scored, what the baselines are fitted on, and words for the first."""
    from hyenadna.cli.console import packing_progress
    from hyenadna.data.genome import Genome
    from hyenadna.data.splits import split_genome
    from hyenadna.errors import ConfigError, DataError
    from hyenadna.training.evaluate import EvaluatedRegions
    from hyenadna.training.pretrain_data import n_bases, open_genomes

    settings = _run_settings(source)
    if settings is None and what.fasta is None:
        raise ConfigError(f"{source} is no run folder, so it names no genome; give one with -f")
    picked = list(what.regions) + ([what.bed] if what.bed else [])
    with packing_progress() as progress:
        run_genomes = open_genomes(settings.data, progress=progress) if settings else []
        if what.fasta is None:
            if picked and len(run_genomes) > 1:
                raise ConfigError(
                    f"{source} trained on several genomes; say with -f which one -r and -b are about"
                )
            if not picked:
                scored = [
                    EvaluatedRegions(g.genome, getattr(g.splits, what.split))
                    for g in run_genomes
                    if getattr(g.splits, what.split)
                ]
                if not scored:
                    raise DataError(
                        f"the {what.split} split of {source} is empty; score another --split, or a region"
                    )
                training = [EvaluatedRegions(g.genome, g.splits.train) for g in run_genomes]
                return scored, training, f"the {what.split} split"
        genome = (
            run_genomes[0].genome
            if what.fasta is None
            else Genome.open(what.fasta, progress=progress)
        )
    # Regions count as the test part of a split of their own: parsed, united, checked against the genome.
    splits = split_genome(genome, test=picked) if picked else split_genome(genome)
    intervals = splits.test if picked else getattr(splits, what.split)
    scored = [EvaluatedRegions(genome, intervals)]
    training = [EvaluatedRegions(g.genome, g.splits.train) for g in run_genomes]
    if not training:
        training = [EvaluatedRegions(genome, splits.train)]
    words = (
        f"{n_bases(intervals):,} bases in {len(intervals)} region(s)"
        if picked
        else f"the {what.split} split"
    )
    return scored, training, f"{words} of {genome.path.name}"


def _run_settings(source: str) -> PretrainConfig | None:
    """Return the settings of the pretraining run whose folder, or whose model/ in it, is given; None for other models."""
    from hyenadna.cli.schema import read_saved_config
    from hyenadna.training.config import PretrainConfig
    from hyenadna.training.run_folder import RunFolder

    folder = Path(source).expanduser()
    for root in (folder, folder.absolute().parent):
        run = RunFolder(root)
        if (
            run.config.is_file()
            and run.model.is_dir()
            and folder.absolute() in (root.absolute(), run.model.absolute())
        ):
            return read_saved_config(run.config, PretrainConfig, ())
    return None


def _classifier(
    model: Classifier,
    input_path: str,
    source: str,
    rc: bool,
    batch_size: int,
    device: str,
    console: Console,
) -> tuple[dict[str, Any], str]:
    from rich.progress import Progress

    from hyenadna.data.labelled import labelled_set, read_rows
    from hyenadna.errors import CheckpointError
    from hyenadna.inference.runtime import tokenizer_folder
    from hyenadna.tokenizers import CharacterTokenizer, load_tokenizer
    from hyenadna.training.evaluate_classifier import evaluate_classifier
    from hyenadna.training.run_folder import environment

    tokenizer = load_tokenizer(tokenizer_folder(source))
    if not isinstance(tokenizer, CharacterTokenizer):
        raise CheckpointError(f"{source} reads text, not nucleotides")
    rows = labelled_set(
        read_rows(input_path), model.labels, path=input_path, max_seq_len=model.config.max_seq_len
    )
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("classifying", total=len(rows))
        found = evaluate_classifier(
            model, rows, tokenizer=tokenizer, rc=rc, batch_size=batch_size, device=device,
            progress=lambda done: bar.update(task, advance=done),
        )  # fmt: skip
    metrics = found.metrics
    shown = [f"{'metric':<12}{'value':>8}   95 % interval"]
    for name in ("mcc", "f1_macro", "accuracy", "auroc", "auprc"):
        estimate = getattr(metrics, name)
        shown.append(
            f"{name:<12}{estimate.value:>8.4f}   {estimate.low:.4f} to {estimate.high:.4f}"
        )
    shown.append(f"{metrics.n:,} sequences of {input_path}")
    result = {"input": input_path, "sha256": rows.sha256, "labels": list(model.labels), "rc": rc}
    return {**result, **metrics.as_dict(), **environment()}, "\n".join(shown)
