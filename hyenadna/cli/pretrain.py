"""``hyenadna pretrain``: a language model on one or several genomes, configured by Hydra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hyenadna.cli.hydra_app import Invocation
    from hyenadna.training.config import PretrainConfig

CONTEXT_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


def _complete(incomplete: str) -> list[str]:
    from hyenadna.cli.hydra_app import complete_override
    from hyenadna.training.config import PretrainConfig

    return complete_override("pretrain", PretrainConfig, incomplete)


def pretrain(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings, and Hydra's options (--cfg job, --multirun …).",
            autocompletion=_complete,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Train nothing: print parameters, tokens per step and predicted peak memory; on a GPU measure memory and speed, too.",
        ),
    ] = False,
) -> int:
    """Pretrain a language model on genomes, or on text.

    Without settings: model tiny_1k on the bundled yeast genome, 1,000 steps,
    results in runs/pretrain/<time>.

    \b
    Groups
      model          tiny_1k tiny_1k_d256 tiny_16k small_32k medium_160k
                     medium_450k large_1m demo
      data           scerevisiae fasta human_chr20 human text
      task           causal_lm, or masked_lm with model.bidirectional=true
      schedule       cosine linear constant
      length_warmup  none from_1k
      callbacks      default ema
      logger         csv tensorboard wandb
      experiment     demo_pretrain human_chr20_tiny_1k human_tiny_1k_masked
                     human_small_32k (the curve over contexts)
                     small_32k_length_warmup synthetics/recall_tiny
                     synthetics/recall synthetics/mqar synthetics/mad (these
                     three: many runs, one table) text/gcide (the same)
                     text/gcide_protocol text/wikitext103

    \b
    Settings
      data.fasta=FILE  data.seq_len=1024  data.global_batch_size=16
      data.validation=REGION|CONTIG|BED  data.test=...   (or a list of them)
      data.text.train=FILE  data.text.test=FILE          (with data=text)
      trainer.max_steps=1000  trainer.devices=2  trainer.strategy=ddp
      optimizer.lr=6e-4  callbacks.ema_decay=0.999  seed=42
      run_dir=FOLDER  force=true  resume=RUN

    \b
    Examples
      hyenadna pretrain trainer.max_steps=200
      hyenadna pretrain data=fasta data.fasta=genome.fa.gz model=tiny_16k \\
          data.seq_len=16384 length_warmup=from_1k
      hyenadna pretrain task=masked_lm model.bidirectional=true task.mean_span=3
      hyenadna pretrain task=masked_lm model.bidirectional=true \\
          model.equivariant=true        (both strands alike, at the same cost)
      hyenadna pretrain resume=runs/pretrain/2026-01-31_12-00-00
      hyenadna pretrain data=text data.text.train=book.txt
      hyenadna pretrain --multirun optimizer.lr=3e-4,6e-4 seed=1,2
      hyenadna pretrain model=tiny_16k --cfg job
      hyenadna pretrain experiment=synthetics/mad run_dir=runs/mad grid.jobs=8
      hyenadna pretrain --dry-run model=large_1m data.seq_len=1000000 \\
          data.global_batch_size=1

    All settings are described in hyenadna/training/config.py.
    """  # noqa: D301 - the backspaces are Click's marks for "do not rewrap"
    from hyenadna.cli.hydra_app import run_hydra_command
    from hyenadna.training.config import PretrainConfig

    job = _dry_run if dry_run else _run
    return run_hydra_command("pretrain", PretrainConfig, job, overrides or [])


def _run(config: PretrainConfig, invocation: Invocation) -> int:
    from hyenadna.cli.console import packing_progress
    from hyenadna.cli.schema import read_saved_config
    from hyenadna.errors import ConfigError
    from hyenadna.training.config import PretrainConfig as Schema
    from hyenadna.training.pretrain import pretrain as train
    from hyenadna.training.run_folder import open_run_folder
    from hyenadna.training.trainer import resolve_devices

    if config.grid.rows:
        from hyenadna.cli.pretrain_grid import run_grid

        return run_grid(config, invocation.overrides)
    if invocation.multirun and resolve_devices(config.trainer) * config.trainer.num_nodes > 1:
        raise ConfigError(
            "a multirun trains on one device; set trainer.devices=1, or start the runs one by one"
        )
    if config.resume:
        run = open_run_folder(config.resume)
        if config.run_dir is not None:
            raise ConfigError("resume continues in its own folder; leave run_dir out")
        resume = config.resume
        config = read_saved_config(run.config, Schema, invocation.overrides)
        config.resume = resume
    else:
        _forget_foreign_splits(config, invocation.overrides)
    with packing_progress() as progress:
        result = train(config, packing_progress=progress)
    if result.report:
        _summarize(result)
    # A time limit is what the user asked for; a signal is told to the shell in its usual numbers.
    return {"SIGINT": 130, "SIGTERM": 143}.get(result.stopped or "", 0)


def _dry_run(config: PretrainConfig, invocation: Invocation) -> int:
    import torch

    from hyenadna.training.estimate import estimate
    from hyenadna.training.pretrain_parts import build_language_model, with_vocabulary
    from hyenadna.training.step_benchmark import StepShape, measure_step
    from hyenadna.training.trainer import resolve_devices, resolve_precision

    with torch.device("meta"):
        shape = build_language_model(
            with_vocabulary(config), seed=config.seed, task=config.task.name
        ).config
    found = estimate(config, shape)
    devices = resolve_devices(config.trainer) * config.trainer.num_nodes
    mixers = "" if shape.mixers == "hyena" else f" ({', '.join(shape.layer_mixers)})"
    rows = {
        "model": f"{found.n_parameters:,} parameters; {shape.n_layers} layers of width {shape.d_model}{mixers}, up to {shape.max_seq_len:,} tokens",
        "one step": f"{found.tokens_per_step:,} tokens ({config.data.global_batch_size:,} windows of {found.seq_len:,})",
        "the run": f"{found.steps:,} steps, {found.steps * found.tokens_per_step:,} tokens",
        "one pass": f"{found.micro_batch:,} x {found.seq_len:,} tokens on {'each of ' if devices > 1 else ''}{devices} device{'s' * (devices > 1)}",
        "memory, bf16 on a GPU": f"{found.gpu_bytes / 2**30:.2f} GiB predicted",
        "memory, fp32 on a CPU": f"{found.cpu_bytes / 2**30:.2f} GiB predicted",
    }
    precision = resolve_precision(config.trainer.precision, config.trainer.accelerator)
    if config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        device = torch.device("cuda", 0)
        step = StepShape(shape, found.micro_batch, found.seq_len, shape.activation_checkpointing)
        dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float32
        try:
            timing = measure_step(step, dtype, device, repeats=5)
        except torch.OutOfMemoryError:
            measured = (
                "out of memory; use data.micro_batch_size, or model.activation_checkpointing=true"
            )
        else:
            measured = f"{(timing.peak_bytes or 0) / 2**30:.2f} GiB at most, {timing.tokens_per_s('step', step):,.0f} tokens/s"
        rows[f"measured on {torch.cuda.get_device_name(device)}, {precision}"] = measured
    width = max(map(len, rows))
    for name, text in rows.items():
        typer.echo(f"{name:{width}}  {text}")
    return 0


def _forget_foreign_splits(config: PretrainConfig, overrides: tuple[str, ...]) -> None:
    """Drop the held-out contigs of the default genome where only ``data.fasta`` was replaced: they are about another genome."""
    given = {word.partition("=")[0].lstrip("+") for word in overrides}
    if "data.fasta" in given and not given & {"data", "experiment"}:
        for name in ("train", "validation", "test"):
            if f"data.{name}" not in given:
                setattr(config.data, name, None)


def _summarize(result: Any) -> None:
    report, run = result.report, result.run
    validation = report["validation"]
    if result.stopped is not None:
        typer.echo(
            f"stopped by {result.stopped} after {report['steps']} steps; continue with: hyenadna pretrain resume={run.root}"
        )
        return
    if "test" in report:
        what = "  ".join(f"{split} {_told(report[split])}" for split in ("validation", "test"))
    else:
        what = f"validation {validation['bits_per_base']:.4f} {report['unit'].replace(' per ', '/')} over {validation['n_scored']:,.0f} bases"
    typer.echo(
        f"{what} after {report['steps']} steps ({report['throughput']['tokens_per_s']:,.0f} tokens/s)\n"
        f"model  {run.model}\n"
        f"curves {run.plot}\n"
        f"report {run.report}"
    )


def _told(found: dict[str, float]) -> str:
    """Say what a report has of a split whose test belongs to the run: text, or a task."""
    if "accuracy" in found:
        return f"accuracy {found['accuracy']:.2%} of {found['n_scored']:,.0f} answers"
    words = (
        f", word perplexity {found['word_perplexity']:,.2f}" if "word_perplexity" in found else ""
    )
    return f"{found['bits_per_byte']:.4f} bits/byte{words} over {found['n_scored']:,.0f} bytes"
