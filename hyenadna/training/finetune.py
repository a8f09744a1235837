"""Fine-tuning, from settings to a run folder: `finetune` is what ``hyenadna finetune`` calls.

For each seed a classifier is trained on the training split, its best epoch is chosen on dev, and only then is the test split
read by the model, once. Which seed's model is saved is decided on dev too.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import Callback

from hyenadna.data.labelled import LabelledSet
from hyenadna.data.labelled_task import LabelledTask, load_task, stratified_split
from hyenadna.errors import ConfigError
from hyenadna.models import (
    Classifier,
    ClassifierEnsemble,
    HyenaForSequenceClassification,
    load_model,
)
from hyenadna.resources import resolve
from hyenadna.tasks.classification import balanced_class_weights
from hyenadna.tasks.cnn import fit_cnn_baseline
from hyenadna.tasks.kmer import fit_kmer_baseline, majority_probabilities
from hyenadna.tasks.metrics import ClassificationMetrics, classification_metrics
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.callbacks import ProgressReporter, StopInOrder
from hyenadna.training.config import to_plain
from hyenadna.training.finetune_config import ClassifierConfig, FinetuneConfig
from hyenadna.training.finetune_data import training_loader
from hyenadna.training.finetune_module import (
    FINETUNE_COLUMNS,
    ClassifierModule,
    add_lora,
    freeze_backbone,
)
from hyenadna.training.finetune_report import plot_curves, summarize, write_predictions
from hyenadna.training.metrics_log import MetricsLog
from hyenadna.training.run_folder import (
    RunFolder,
    create_run_folder,
    environment,
    plan_run_folder,
    write_json,
)
from hyenadna.training.trainer import (
    build_loggers,
    build_trainer,
    quiet_lightning,
    require_logger,
)

_BASELINE_ROWS = 20_000  # beyond this the k-mer fits take minutes and gain nothing

Probabilities = npt.NDArray[np.float64]


class FinetuneResult(NamedTuple):
    """What a run leaves.

    Parameters
    ----------
    run
        Its folder.
    results
        The content of results.json; empty where the run was stopped.
    stopped
        Why the run ended early; None where it did not.
    """

    run: RunFolder
    results: dict[str, Any]
    stopped: str | None


class MemberResult(NamedTuple):
    """What one training came to.

    Parameters
    ----------
    best_epoch, epochs
        The epoch that was kept, and the number trained.
    best_score
        Dev value of task.select_by, negated for a loss.
    seconds
        Training time, in s.
    history
        Dev metrics of each epoch.
    probabilities
        Class probabilities of the dev split and, where there is one, the test split.
    model
        The chosen weights.
    stopped
        Why training ended early, or None.
    """

    best_epoch: int
    epochs: int
    best_score: float
    seconds: float
    history: list[dict[str, float]]
    probabilities: dict[str, Probabilities]
    model: HyenaForSequenceClassification
    stopped: str | None


class SeedResult(NamedTuple):
    """What one seed came to.

    Parameters
    ----------
    seed
        The seed.
    members
        Its trainings: one, or those of an ensemble.
    """

    seed: int
    members: list[MemberResult]

    @property
    def probabilities(self) -> dict[str, Probabilities]:
        """Mean class probabilities of the members, by split."""
        splits = self.members[0].probabilities
        return {
            split: np.mean([member.probabilities[split] for member in self.members], axis=0)
            for split in splits
        }

    @property
    def best_score(self) -> float:
        """Mean of the members' dev values of task.select_by."""
        return float(np.mean([member.best_score for member in self.members]))

    @property
    def stopped(self) -> str | None:
        """Why training ended early, or None."""
        return self.members[-1].stopped

    def model(self) -> Classifier:
        """Return the classifier, or the ensemble of all members."""
        models = [member.model for member in self.members]
        return models[0] if len(models) == 1 else ClassifierEnsemble(models)


def finetune(config: FinetuneConfig) -> FinetuneResult:
    """Train and test a sequence classifier and write its run folder.

    Parameters
    ----------
    config
        The settings.

    Returns
    -------
    FinetuneResult
        The folder holds config.yaml, metrics.csv, curves.png, predictions.csv, results.json and model/.

    Raises
    ------
    HyenaDNAError
        A setting, a file or the data cannot be used.
    """
    config = copy.deepcopy(config)
    config.trainer.devices = 1  # 0 would take every GPU there is
    require_logger(config.logger)
    with quiet_lightning():
        build_trainer(config.trainer, loggers=(), callbacks=())  # refuses impossible hardware
    planned = plan_run_folder("finetune", config.run_dir, force=config.force)
    # Built before the data are read: a wrong model is found before a large table, and it knows its longest input.
    limit = _max_seq_len(config.model)
    task = load_task(
        config.data.folder, train=config.data.train, dev=config.data.dev, test=config.data.test,
        extra_train=config.data.extra_train,
        sequence_column=config.data.sequence_column, label_column=config.data.label_column,
        max_seq_len=limit, dev_fraction=config.data.dev_fraction, drop_leaks=config.data.drop_leaks,
    )  # fmt: skip
    if config.data.shuffled_negatives and task.n_classes != 2:
        raise ConfigError(
            f"data.shuffled_negatives is for two classes, negative and positive; {task.train.path} has {task.n_classes}"
        )
    if limit is None:
        config.model.max_seq_len = max(task.max_length, 2)
    build_classifier(config, task, seed=config.seeds[0])
    run = create_run_folder(planned, named=config.run_dir is not None, force=config.force)
    for name in _RESULT_FILES:
        (run.root / name).unlink(missing_ok=True)
    _say(config, *task.notes)
    run.write_config({**to_plain(config), "force": False})
    log = MetricsLog(run.metrics, FINETUNE_COLUMNS)
    started = time.time()
    seeds: list[SeedResult] = []
    for seed in config.seeds:
        members: list[MemberResult] = []
        seeds.append(SeedResult(seed, members))
        for number in range(config.task.ensemble):
            members.append(_train_one(config, task, seed, number, run, log))
            histories = [member.history for s in seeds for member in s.members]
            plot_curves(histories, run.root / "curves.png", title=run.root.name)
            if members[-1].stopped is not None:
                break
        if seeds[-1].stopped is not None:
            return FinetuneResult(run, {}, seeds[-1].stopped)
    best = max(seeds, key=lambda s: s.best_score)
    model = best.model()
    model.save_pretrained(run.model, _tokenizer(config.model))
    # Whoever predicts with the folder later has to read the strands that it was chosen with.
    write_json(run.model / "finetuning.json", {"strands": config.task.strands, "seed": best.seed})
    write_predictions(run.root / "predictions.csv", task, {s.seed: s.probabilities for s in seeds})
    results = {
        "test": None,
        **summarize([_metrics(config, task, s.probabilities) for s in seeds]),
        "seeds": [_describe(config, task, s) for s in seeds],
        "saved_seed": best.seed,
        "baselines": {
            **(_baselines(config, task) if config.task.baselines else {}),
            **(_cnn_baseline(config, task) if config.task.cnn_epochs else {}),
        },
        "labels": list(task.label_names),
        "strands": config.task.strands,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "data": _describe_data(task),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(started)),
        "seconds": round(time.time() - started, 1),
        **environment(),
        "config": to_plain(config),
    }
    write_json(run.root / "results.json", results)
    return FinetuneResult(run, results, None)


_RESULT_FILES = ("results.json", "predictions.csv", "curves.png")


def build_classifier(
    config: FinetuneConfig, task: LabelledTask, *, seed: int
) -> HyenaForSequenceClassification:
    """Return the model of one seed, its frozen weights marked.

    Parameters
    ----------
    config
        The settings; `model.max_seq_len` is settled.
    task
        For its classes.
    seed
        Of new weights; the global generator is left as it was.

    Raises
    ------
    ConfigError, CheckpointError
        The shape is impossible, or the pretrained model cannot be read.
    """
    settings = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: dict[str, Any] = {
            "n_classes": task.n_classes,
            "labels": task.label_names,
            "pooling": settings.pooling,
            "head_dropout": settings.head_dropout,
            "n_positions": task.max_length if settings.pooling == "positional" else 0,
            "both_directions": settings.both_directions,
        }
        if settings.pretrained is None:
            model = HyenaForSequenceClassification(settings.hyena_config(), **head)
        else:
            loaded = HyenaForSequenceClassification.from_pretrained(
                settings.pretrained, new_head=True, max_seq_len=settings.extend_max_seq_len, **head
            )
            shape = dataclasses.replace(
                loaded.config, embed_dropout=settings.embed_dropout,
                resid_dropout=settings.resid_dropout,
                activation_checkpointing=settings.activation_checkpointing,
            )  # fmt: skip
            model = HyenaForSequenceClassification(shape, **head)
            model.load_state_dict(loaded.state_dict())
        if config.strategy == "frozen":
            freeze_backbone(model)
        elif config.strategy == "lora":
            add_lora(model, config.lora)
    return model.train()


def _max_seq_len(config: ClassifierConfig) -> int | None:
    """Return the longest input of the model, or None where it follows from the data."""
    if config.pretrained is not None:
        return load_model(
            config.pretrained, max_seq_len=config.extend_max_seq_len
        ).config.max_seq_len
    if config.extend_max_seq_len is not None:
        raise ConfigError(
            "model.extend_max_seq_len needs model.pretrained; set model.max_seq_len instead"
        )
    return config.max_seq_len or None


def _tokenizer(config: ClassifierConfig) -> CharacterTokenizer:
    if config.pretrained is not None and (folder := resolve(config.pretrained)).is_dir():
        return CharacterTokenizer.from_pretrained(folder)
    return CharacterTokenizer()


def _train_one(
    config: FinetuneConfig,
    task: LabelledTask,
    seed: int,
    number: int,
    run: RunFolder,
    log: MetricsLog,
) -> MemberResult:
    """Train member `number`, from 0, of a seed's ensemble; the first is what the seed alone would train."""
    tokenizer = _tokenizer(config.model)
    where = seed, number + 1
    if number:
        seed = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    loader = training_loader(
        task.train, config.data, tokenizer=tokenizer, seed=seed,
        num_workers=config.trainer.num_workers,
    )  # fmt: skip
    weights = None
    if config.task.class_weights == "balanced":
        balanced = balanced_class_weights(task.train.labels, task.n_classes)
        weights = torch.from_numpy(balanced).float()
    epochs = max(config.trainer.max_epochs, -(-config.trainer.min_steps // len(loader)))
    total_steps = len(loader) * epochs
    module = ClassifierModule(
        build_classifier(config, task, seed=seed), config, task.dev, tokenizer=tokenizer,
        where=where, total_steps=total_steps, class_weights=weights,
    )  # fmt: skip
    stop = StopInOrder()
    callbacks: list[Callback] = [stop]
    if config.trainer.progress:
        callbacks.append(ProgressReporter(module.shown, total_steps))
    with quiet_lightning(), torch.random.fork_rng():
        torch.manual_seed(seed)  # dropout
        trainer = build_trainer(
            config.trainer,
            loggers=build_loggers(config.logger, log, run.root),
            callbacks=callbacks,
            max_epochs=epochs,
            log_every_n_steps=1,
            default_root_dir=run.root,
        )
        started = time.perf_counter()
        trainer.fit(module, train_dataloaders=loader)
        seconds = time.perf_counter() - started
    probabilities: dict[str, Probabilities] = {}
    if stop.reason is None:
        module.restore_best()
        probabilities["dev"] = module.predict_split(task.dev)
        if task.test is not None:
            probabilities["test"] = module.predict_split(task.test)
    model = module.model.cpu()
    return MemberResult(
        module.best_epoch, len(module.history), module.best_score, seconds,
        module.history, probabilities, model, stop.reason,
    )  # fmt: skip


def _metrics(
    config: FinetuneConfig, task: LabelledTask, probabilities: dict[str, Probabilities]
) -> dict[str, ClassificationMetrics]:
    splits = {"dev": task.dev, "test": task.test}
    return {
        name: classification_metrics(
            split.labels, probabilities[name], n_resamples=config.task.n_resamples
        )
        for name, split in splits.items()
        if split is not None and name in probabilities
    }


def _describe(config: FinetuneConfig, task: LabelledTask, seed: SeedResult) -> dict[str, Any]:
    def describe(member: MemberResult) -> dict[str, Any]:
        return {
            "best_epoch": member.best_epoch,
            "epochs": member.epochs,
            "seconds": round(member.seconds, 1),
        }

    def numbers(probabilities: dict[str, Probabilities]) -> dict[str, Any]:
        metrics = _metrics(config, task, probabilities)
        return {split: found.as_dict() for split, found in metrics.items()}

    if len(seed.members) == 1:
        return {"seed": seed.seed, **describe(seed.members[0]), **numbers(seed.probabilities)}
    members = [{**describe(m), **numbers(m.probabilities)} for m in seed.members]
    seconds = round(sum(m.seconds for m in seed.members), 1)
    return {
        "seed": seed.seed,
        "seconds": seconds,
        **numbers(seed.probabilities),
        "members": members,
    }


def _baselines(config: FinetuneConfig, task: LabelledTask) -> dict[str, Any]:
    train = task.train
    if len(train) > _BASELINE_ROWS:
        train = train.subset(stratified_split(train.labels, _BASELINE_ROWS / len(train), seed=0)[1])
    fit = fit_kmer_baseline(
        (train.sequences, train.labels),
        (task.dev.sequences, task.dev.labels),
        None if task.test is None else task.test.sequences,
    )
    kmer = {"dev": fit.dev_probabilities}
    majority = {"dev": majority_probabilities(task.train.labels, len(task.dev), task.n_classes)}
    if task.test is not None and fit.test_probabilities is not None:
        kmer["test"] = fit.test_probabilities
        majority["test"] = majority_probabilities(task.train.labels, len(task.test), task.n_classes)

    def numbers(probabilities: dict[str, Probabilities]) -> dict[str, Any]:
        return {k: m.as_dict() for k, m in _metrics(config, task, probabilities).items()}

    return {
        "majority": numbers(majority),
        "kmer_logistic_regression": {
            "k": fit.k,
            "C": fit.inverse_regularization,
            "train_rows": len(train),
            **numbers(kmer),
        },
    }


def _cnn_baseline(config: FinetuneConfig, task: LabelledTask) -> dict[str, Any]:
    on_gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    started = time.perf_counter()
    fit = fit_cnn_baseline(
        (task.train.sequences, task.train.labels),
        (task.dev.sequences, task.dev.labels),
        None if task.test is None else task.test.sequences,
        n_classes=task.n_classes,
        epochs=config.task.cnn_epochs,
        device=torch.device("cuda" if on_gpu else "cpu"),
        progress=lambda epoch, mcc: _say(config, f"CNN baseline, epoch {epoch}: dev MCC {mcc:.3f}"),
    )
    probabilities = {"dev": fit.dev_probabilities}
    if fit.test_probabilities is not None:
        probabilities["test"] = fit.test_probabilities
    return {
        "residual_cnn": {
            "n_parameters": fit.n_parameters,
            "best_epoch": fit.best_epoch,
            "seconds": round(time.perf_counter() - started, 1),
            **{k: m.as_dict() for k, m in _metrics(config, task, probabilities).items()},
        }
    }


def _describe_data(task: LabelledTask) -> dict[str, Any]:
    def describe(split: LabelledSet) -> dict[str, Any]:
        return {
            "file": split.path,
            "sha256": split.sha256,
            "rows": len(split),
            "rows_per_class": np.bincount(split.labels, minlength=task.n_classes).tolist(),
            "longest": split.max_length,
        }

    splits = {"train": task.train, "dev": task.dev, "test": task.test}
    described: dict[str, Any] = {name: describe(s) for name, s in splits.items() if s is not None}
    if task.extra:
        described["extra_train"] = [describe(s) for s in task.extra]
    return {**described, "dropped": task.dropped, "notes": list(task.notes)}


def _say(config: FinetuneConfig, *sentences: str) -> None:
    if config.trainer.progress:
        for sentence in sentences:
            sys.stderr.write(f"note: {sentence}\n")
