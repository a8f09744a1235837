"""``hyenadna finetune``: a sequence classifier on labelled sequences, configured by Hydra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hyenadna.cli.hydra_app import Invocation
    from hyenadna.training.finetune import FinetuneResult
    from hyenadna.training.finetune_config import FinetuneConfig

CONTEXT_SETTINGS: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


def _complete(incomplete: str) -> list[str]:
    from hyenadna.cli.hydra_app import complete_override
    from hyenadna.training.finetune_config import FinetuneConfig

    return complete_override("finetune", FinetuneConfig, incomplete)


def finetune(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings, and Hydra's options (--cfg job, --multirun …).",
            autocompletion=_complete,
        ),
    ] = None,
) -> int:
    """Fine-tune a classifier on labelled sequences, choose it on dev, test it once.

    Without model.pretrained a small classifier is trained from random weights. Results in runs/finetune/<time>.

    \b
    Data           data.path=FOLDER with train/dev/test .csv, .tsv or .fa (GUE's layout), or data.train data.dev data.test
                   data.extra_train=[FILE,…] more training rows; those that overlap dev or test are left out
                   data.sequence_column  data.label_column  data.batch_size  data.rc_probability
                   data.substitution_probability  data.max_shift  data.mask_span  data.shuffled_negatives
    Model          model.pretrained=FOLDER_OR_HUB_ID  model.pooling=attention|attention_max|positional|mean|last  model.both_directions=true
                   model=classifier|tiny_1k|small_32k|…
    Method         strategy=full|frozen|lora  task.strands=forward|both|predict_both  task.class_weights=none|balanced
                   task.select_by=mcc|f1_macro|accuracy|auroc|auprc|loss  task.ensemble=3
    Run            trainer.max_epochs  trainer.patience  trainer.ema_decay  optimizer.lr  seeds=[1,2,3]  run_dir=FOLDER  force=true
    Recipes        experiment=gue/prom_core_all data.root=GUE_FOLDER (one for each GUE task), experiment=gue/all for a table of all

    \b
    Examples
      hyenadna finetune data.path=gue/prom/prom_core_tata
      hyenadna finetune experiment=gue/prom_core_tata data.root=gue
      hyenadna finetune experiment=gue/all data.root=gue run_dir=runs/gue
      hyenadna finetune data.path=gue/mouse/0 task.strands=both seeds=[1,2,3]
      hyenadna finetune data.path=gue/splice/reconstructed model.pretrained=runs/pretrain/big/model
      hyenadna finetune data.path=mine model.pretrained=LongSafari/hyenadna-small-32k-seqlen-hf strategy=lora
      hyenadna finetune data.train=my.tsv data.label_column=class --cfg job
      hyenadna predict -m runs/finetune/tata my.fa             # afterwards: classes of new sequences
      hyenadna compare runs/scratch runs/pretrained            # which of two runs or suites is better, and on what

    All settings are described in hyenadna/training/finetune_config.py.
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.cli.hydra_app import run_hydra_command
    from hyenadna.training.finetune_config import FinetuneConfig

    return run_hydra_command("finetune", FinetuneConfig, _run, overrides or [])


def _run(config: FinetuneConfig, invocation: Invocation) -> int:
    if config.suite.experiments:
        from hyenadna.cli.finetune_suite import run_suite

        return run_suite(config, invocation.overrides)
    from hyenadna.training.finetune import finetune as train

    result = train(config)
    if result.stopped is not None:
        typer.echo(
            f"stopped by {result.stopped}: nothing was tested; the metrics so far are in {result.run.metrics}",
            err=True,
        )
        return 130
    _summarize(result)
    return 0


def _summarize(result: FinetuneResult) -> None:
    results, run = result.results, result.run
    split = "test" if results["test"] else "dev"
    rows = [("this model", {name: v for name, v in results[split].items() if name != "n"})]
    for name, baseline in results["baselines"].items():
        numbers = {k: {"mean": v} for k, v in baseline[split].items()}
        rows.append((name.replace("_", " "), numbers))
    typer.echo(f"{split} split, {results[split]['n']:,} sequences")
    typer.echo(f"{'':26}{'MCC':>8}{'F1':>8}{'accuracy':>10}{'AUROC':>8}{'AUPRC':>8}")
    for name, numbers in rows:
        cells = [numbers[m]["mean"] for m in ("mcc", "f1_macro", "accuracy", "auroc", "auprc")]
        texts = ["-" if value is None else f"{value:.3f}" for value in cells]
        typer.echo(
            f"{name:26}"
            + "".join(f"{t:>{w}}" for t, w in zip(texts, (8, 8, 10, 8, 8), strict=True))
        )
    mcc = results[split]["mcc"]
    if mcc["sd"] is not None:
        typer.echo(
            f"MCC is the mean of {len(results['seeds'])} seeds, standard deviation {mcc['sd']:.3f}"
        )
    elif "ci95" in mcc:
        typer.echo(f"95 % bootstrap interval of MCC: {mcc['ci95'][0]:.3f} to {mcc['ci95'][1]:.3f}")
    if split == "dev":
        typer.echo(
            "there is no test split: these dev numbers chose the epoch, and flatter the model"
        )
    typer.echo(
        f"model   {run.model}\nresults {run.root / 'results.json'}\ncurves  {run.root / 'curves.png'}"
    )
