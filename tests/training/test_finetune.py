from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import matthews_corrcoef

from hyenadna.data.labelled_task import load_task
from hyenadna.errors import CheckpointError, ConfigError, OutputError, SequenceLengthError
from hyenadna.models import (
    ClassifierEnsemble,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    load_model,
)
from hyenadna.tasks.classification import predict_probabilities
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training import finetune as finetune_room
from hyenadna.training.config import LoggerConfig
from hyenadna.training.finetune import build_classifier, finetune
from hyenadna.training.finetune_config import (
    ClassificationConfig,
    ClassifierConfig,
    FinetuneConfig,
    FinetuneOptimizerConfig,
    FinetuneTrainerConfig,
    LabelledDataConfig,
    LoraConfig,
)
from hyenadna.training.finetune_data import LabelledBatch, training_loader
from hyenadna.training.metrics_log import read_metrics


def write_task(folder: Path, *, names: tuple[str, ...] = ("0", "1"), n: int = 96) -> Path:
    """Sequences of 18 to 30 bases that are poor in G and C, or rich."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, size in (("train", n), ("dev", 30), ("test", 33)):
        rows = []
        for i in range(size):
            p = np.array([4, 1, 1, 4]) if i % 2 else np.array([1, 4, 4, 1])
            length = int(rng.integers(18, 31))
            rows.append(("".join(rng.choice(list("ACGT"), length, p=p / 10)), names[i % 2]))
        text = "".join(f"{s},{y}\n" for s, y in rows)
        (folder / f"{split}.csv").write_text("sequence,label\n" + text)
    return folder


def settings(path: Path, run_dir: Path, **changes: object) -> FinetuneConfig:
    model = {"d_model": 16, "n_layers": 1, "filter_dim": 8, "short_kernel_size": 3}
    parts = {
        "model": ClassifierConfig(**{**model, **changes.pop("model", {})}),  # type: ignore[dict-item]
        "data": LabelledDataConfig(
            **{"path": str(path), "batch_size": 16, **changes.pop("data", {})}
        ),  # type: ignore[dict-item]
        "task": ClassificationConfig(**{"n_resamples": 100, **changes.pop("task", {})}),  # type: ignore[dict-item]
        "optimizer": FinetuneOptimizerConfig(**{"lr": 1e-2, **changes.pop("optimizer", {})}),  # type: ignore[dict-item]
        "trainer": FinetuneTrainerConfig(
            **{
                "max_epochs": 4,
                "progress": False,
                "accelerator": "cpu",
                **changes.pop("trainer", {}),
            }
        ),  # type: ignore[dict-item]
    }
    return FinetuneConfig(run_dir=str(run_dir), **{**parts, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def task_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("task"), names=("rich", "poor"))


@pytest.fixture(scope="module")
def finished(task_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "two_seeds"
    result = finetune(settings(task_folder, run, seeds=[1, 2]))
    assert result.stopped is None
    return run


def test_run_folder_is_complete_and_learns(finished: Path) -> None:
    names = {p.name for p in finished.iterdir()}
    wanted = {
        "config.yaml",
        "metrics.csv",
        "curves.png",
        "predictions.csv",
        "results.json",
        "model",
    }
    assert wanted <= names
    results = json.loads((finished / "results.json").read_text())
    assert results["test"]["mcc"]["mean"] > 0.6
    assert results["test"]["mcc"]["sd"] is not None
    assert results["test"]["n"] == 33
    assert results["labels"] == ["poor", "rich"]
    assert results["baselines"]["majority"]["test"]["mcc"] == 0
    assert results["baselines"]["kmer_logistic_regression"]["test"]["mcc"] > 0.5
    assert len(results["data"]["test"]["sha256"]) == 64
    assert results["versions"]["torch"]
    for seed in results["seeds"]:
        low, high = seed["test"]["mcc_ci95"]
        assert low <= seed["test"]["mcc"] <= high


def test_an_ensemble_is_judged_and_kept_as_one(
    task_folder: Path, finished: Path, tmp_path: Path
) -> None:
    config = settings(task_folder, tmp_path / "run", seeds=[1], task={"ensemble": 2, "baselines": False})  # fmt: skip
    assert finetune(config).stopped is None
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (seed,) = results["seeds"]
    first, other = seed["members"]
    # The first member is what the seed alone trains.
    alone = json.loads((finished / "results.json").read_text())["seeds"][0]
    assert first["dev"]["mcc"] == alone["dev"]["mcc"]
    assert first["dev"]["auroc"] == alone["dev"]["auroc"]
    log = read_metrics(tmp_path / "run" / "metrics.csv")
    losses = [
        [r["loss_nats"] for r in log if r["split"] == "train" and r["member"] == n] for n in (1, 2)
    ]
    assert len(losses[0]) == len(losses[1]) == other["epochs"] == 4
    assert losses[0] != losses[1]
    model = load_model(tmp_path / "run")
    assert isinstance(model, ClassifierEnsemble)
    assert (
        results["n_parameters"]
        == model.n_parameters()
        == sum(m.n_parameters() for m in model.members)
    )  # type: ignore[operator,misc]
    task = load_task(task_folder)
    assert task.test is not None
    found = predict_probabilities(model, task.test.sequences, tokenizer=CharacterTokenizer())
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    written = [[float(r["p_poor"]), float(r["p_rich"])] for r in rows if r["split"] == "test"]
    np.testing.assert_allclose(found, written, atol=2e-6)
    single = predict_probabilities(
        model.members[1], task.test.sequences, tokenizer=CharacterTokenizer()
    )  # type: ignore[arg-type]
    assert np.abs(single - found).max() > 1e-4


def test_reported_numbers_are_those_of_the_predictions_file(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    rows = list(csv.DictReader((finished / "predictions.csv").open()))
    for seed in results["seeds"]:
        for split in ("dev", "test"):
            chosen = [r for r in rows if r["seed"] == str(seed["seed"]) and r["split"] == split]
            assert len(chosen) == seed[split]["n"]
            mcc = matthews_corrcoef([r["label"] for r in chosen], [r["predicted"] for r in chosen])
            assert mcc == pytest.approx(seed[split]["mcc"])


def test_saved_model_is_that_of_the_best_seed_on_dev_and_repeats_its_predictions(
    finished: Path, task_folder: Path
) -> None:
    results = json.loads((finished / "results.json").read_text())
    best = max(results["seeds"], key=lambda s: s["dev"]["mcc"])
    assert results["saved_seed"] == best["seed"]
    model = load_model(finished / "model")
    assert isinstance(model, HyenaForSequenceClassification)
    assert model.labels == ("poor", "rich")
    task = load_task(task_folder)
    assert task.test is not None
    found = predict_probabilities(model, task.test.sequences, tokenizer=CharacterTokenizer())
    rows = csv.DictReader((finished / "predictions.csv").open())
    written = [
        float(r["p_poor"]) for r in rows if r["split"] == "test" and r["seed"] == str(best["seed"])
    ]
    assert np.allclose(found[:, 0], written, atol=1e-5)


def test_kept_epoch_is_the_best_on_dev(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    rows = [r for r in read_metrics(finished / "metrics.csv") if r["split"] == "dev"]
    for seed in results["seeds"]:
        of_seed = {r["epoch"]: r for r in rows if r["seed"] == seed["seed"]}
        assert len(of_seed) == seed["epochs"] == 4
        best = max(of_seed, key=lambda e: (of_seed[e]["mcc"], -of_seed[e]["loss_nats"]))
        assert seed["best_epoch"] == best
        assert seed["dev"]["mcc"] == pytest.approx(of_seed[best]["mcc"], abs=1e-12)


def test_same_seed_gives_the_same_run_and_another_seed_another(
    finished: Path, task_folder: Path, tmp_path: Path
) -> None:
    finetune(settings(task_folder, tmp_path / "again", seeds=[2], task={"baselines": False}))
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    former = json.loads((finished / "results.json").read_text())
    assert again["seeds"][0]["dev"] == former["seeds"][1]["dev"]
    assert again["seeds"][0]["test"] == former["seeds"][1]["test"]
    first, second = (
        [
            r["loss_nats"]
            for r in read_metrics(finished / "metrics.csv")
            if r["split"] == "train" and r["seed"] == s
        ]
        for s in (1, 2)
    )
    assert first != second
    assert again["baselines"] == {}


def test_test_split_has_no_influence_on_what_is_chosen(
    finished: Path, task_folder: Path, tmp_path: Path
) -> None:
    other = write_task(tmp_path / "task", names=("rich", "poor"))
    lines = (other / "test.csv").read_text().splitlines()
    flipped = [x.replace("rich", "?").replace("poor", "rich").replace("?", "poor") for x in lines]
    (other / "test.csv").write_text("\n".join(flipped) + "\n")
    finetune(settings(other, tmp_path / "run", seeds=[1, 2], task={"baselines": False}))
    mine, former = (
        json.loads((run / "results.json").read_text()) for run in (tmp_path / "run", finished)
    )
    assert mine["saved_seed"] == former["saved_seed"]
    for a, b in zip(mine["seeds"], former["seeds"], strict=True):
        assert a["best_epoch"] == b["best_epoch"]
        assert a["test"]["mcc"] == pytest.approx(-b["test"]["mcc"])


def test_test_split_is_predicted_once_a_seed(
    task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = load_task(task_folder)
    assert task.test is not None
    seen = []
    original = finetune_room.ClassifierModule.predict_split

    def counted(self: object, split: object) -> object:
        seen.append(split)
        return original(self, split)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune_room.ClassifierModule, "predict_split", counted)
    finetune(
        settings(
            task_folder, tmp_path / "run", trainer={"max_epochs": 2}, task={"baselines": False}
        )
    )
    sizes = [len(s) for s in seen]  # type: ignore[arg-type]
    assert sizes == [30, 30, 30, 33]


def test_patience_stops_early_and_select_by_loss_keeps_the_lowest(
    task_folder: Path, tmp_path: Path
) -> None:
    config = settings(
        task_folder, tmp_path / "run", task={"select_by": "loss", "baselines": False},
        trainer={"max_epochs": 30, "patience": 2}, optimizer={"lr": 5e-2},
    )  # fmt: skip
    results = finetune(config).results
    (seed,) = results["seeds"]
    assert seed["epochs"] == seed["best_epoch"] + 2 < 30
    rows = [r for r in read_metrics(tmp_path / "run" / "metrics.csv") if r["split"] == "dev"]
    assert min(rows, key=lambda r: r["loss_nats"])["epoch"] == seed["best_epoch"]


def test_augmentation_weights_and_both_strands_run_and_are_saved(
    task_folder: Path, tmp_path: Path
) -> None:
    config = settings(
        task_folder, tmp_path / "run",
        data={"rc_probability": 0.5, "substitution_probability": 0.05},
        task={"strands": "both", "class_weights": "balanced", "label_smoothing": 0.1, "baselines": False},
        model={"pooling": "mean"},
    )  # fmt: skip
    results = finetune(config).results
    assert results["strands"] == "both"
    saved = json.loads((tmp_path / "run" / "model" / "finetuning.json").read_text())
    assert saved["strands"] == "both"
    assert results["test"]["mcc"]["mean"] > 0.4


def test_task_without_test_split_reports_dev_alone(task_folder: Path, tmp_path: Path) -> None:
    config = settings(task_folder / "train.csv", tmp_path / "run", trainer={"max_epochs": 1})
    results = finetune(config).results
    assert results["test"] is None
    assert "no dev split" in results["data"]["notes"][0]
    assert results["dev"]["n"] + results["data"]["train"]["rows"] == 96
    assert "test" not in results["baselines"]["majority"]


def test_extra_rows_are_cleaned_trained_on_and_reported(task_folder: Path, tmp_path: Path) -> None:
    more = write_task(tmp_path / "more", names=("rich", "poor"), n=40) / "train.csv"
    header, *rows = more.read_text().splitlines()
    test = (task_folder / "test.csv").read_text().splitlines()[1:4]
    more.write_text("".join(f"{line}\n" for line in (header, *rows[-8:], *test)))
    data = {"extra_train": [str(more)]}
    data = finetune(settings(task_folder, tmp_path / "run", data=data, trainer={"max_epochs": 1})).results["data"]  # fmt: skip
    new = data["extra_train"][0]["rows"]
    assert data["extra_train"][0]["file"] == str(more)
    assert len(data["extra_train"][0]["sha256"]) == 64
    assert data["dropped"]["extra_in_test"] == 3
    assert data["train"]["rows"] == 96 + new
    assert sum(data["dropped"].values()) + new == 11
    assert any("overlap one of test" in note for note in data["notes"])


# --- pretrained weights ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(7)
    config = HyenaConfig(d_model=16, n_layers=2, max_seq_len=40, filter_dim=8)
    folder = tmp_path_factory.mktemp("pretrained") / "model"
    HyenaForCausalLM(config).save_pretrained(folder)
    return folder


def backbone_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder).backbone.state_dict()


@pytest.mark.parametrize("strategy", ["full", "frozen", "lora"])
def test_strategies_train_what_they_say(
    strategy: str, task_folder: Path, pretrained: Path, tmp_path: Path
) -> None:
    if strategy == "lora":
        pytest.importorskip("peft")
    config = settings(
        task_folder, tmp_path / "run", strategy=strategy, model={"pretrained": str(pretrained)},
        trainer={"max_epochs": 2}, task={"baselines": False},
    )  # fmt: skip
    results = finetune(config).results
    before, after = backbone_of(pretrained), backbone_of(tmp_path / "run" / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    if strategy == "frozen":
        assert changed == set()
    elif strategy == "lora":
        assert changed == {
            f"layers.{i}.{part}.weight"
            for i in range(2)
            for part in ("mixer.in_proj", "mixer.out_proj", "mlp.fc1", "mlp.fc2")
        }
    else:
        assert len(changed) > 20
    # The saved folder gives the predictions that were reported, adapters merged.
    model = load_model(tmp_path / "run" / "model")
    assert isinstance(model, HyenaForSequenceClassification)
    task = load_task(task_folder)
    assert task.test is not None
    found = predict_probabilities(model, task.test.sequences, tokenizer=CharacterTokenizer())
    mcc = matthews_corrcoef(task.test.labels, found.argmax(1))
    assert mcc == pytest.approx(results["test"]["mcc"]["mean"])


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_hybrid_is_fine_tuned_like_any_other(
    strategy: str, task_folder: Path, tmp_path: Path
) -> None:
    if strategy == "lora":
        pytest.importorskip("peft")
    mixers = ("hyena", "attention", "conv")
    config = HyenaConfig(d_model=16, n_layers=3, mixers=mixers, filter_dim=8, max_seq_len=34)
    torch.manual_seed(0)
    HyenaForCausalLM(config).save_pretrained(tmp_path / "hybrid")
    finetune(settings(
        task_folder, tmp_path / "run", strategy=strategy, model={"pretrained": str(tmp_path / "hybrid")},
        trainer={"max_epochs": 1}, task={"baselines": False},
    ))  # fmt: skip
    before, after = backbone_of(tmp_path / "hybrid"), backbone_of(tmp_path / "run" / "model")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert load_model(tmp_path / "run" / "model").config.layer_mixers == mixers
    for i in range(3):
        adapted = {f"layers.{i}.mixer.{part}_proj.weight" for part in ("in", "out")}
        assert adapted <= changed
    assert ("layers.2.mixer.conv.weight" in changed) == (strategy == "full")


def test_a_classifier_of_attention_starts_from_random_weights(
    task_folder: Path, tmp_path: Path
) -> None:
    model = {"mixers": "attention", "attention_heads": 2, "max_seq_len": 30}
    config = settings(task_folder, tmp_path / "run", model=model)
    assert build_classifier(config, load_task(task_folder), seed=0).config.mixers == "attention"


def test_every_adapter_gets_a_gradient(task_folder: Path, pretrained: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    config = settings(
        task_folder, tmp_path / "run", strategy="lora", model={"pretrained": str(pretrained)},
        lora=LoraConfig(rank=2, dropout=0.0),
    )  # fmt: skip
    model = build_classifier(config, load_task(task_folder), seed=0)
    logits = model(torch.randint(7, 11, (3, 20)))
    logits.square().sum().backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum("lora_" in n for n in trained) == 16
    assert {n.split(".")[0] for n in trained if "lora_" not in n} == {"head"}
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        if "lora_B" in name:
            assert parameter.grad.abs().sum() > 0, name


def test_pretrained_weights_move_slower_than_the_head(
    task_folder: Path, pretrained: Path, tmp_path: Path
) -> None:
    config = settings(task_folder, tmp_path / "run", model={"pretrained": str(pretrained)})
    task = load_task(task_folder)
    module = finetune_room.ClassifierModule(
        build_classifier(config, task, seed=0), config, task.dev,
        tokenizer=CharacterTokenizer(), where=(0, 1), total_steps=10,
    )  # fmt: skip
    optimizer = module.configure_optimizers()["optimizer"]
    peaks = {p: g["initial_lr"] for g in optimizer.param_groups for p in g["params"]}
    assert set(peaks) == set(module.model.parameters())
    assert {peaks[p] for p in module.model.head.parameters()} == {1e-2}
    assert {round(peaks[p], 9) for p in module.model.backbone.parameters()} == {3e-3}


def test_classifier_folder_can_be_fine_tuned_on(
    finished: Path, task_folder: Path, tmp_path: Path
) -> None:
    config = settings(
        task_folder, tmp_path / "run", model={"pretrained": str(finished / "model")},
        trainer={"max_epochs": 1}, task={"baselines": False},
    )  # fmt: skip
    assert finetune(config).results["test"]["mcc"]["mean"] > 0.5


# --- what is refused ------------------------------------------------------------------------------


def test_nothing_is_left_when_the_input_is_wrong(
    task_folder: Path, pretrained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    short = settings(task_folder, run, model={"max_seq_len": 20})
    with pytest.raises(SequenceLengthError, match=r"train\.csv:\d+: the sequence has"):
        finetune(short)
    with pytest.raises(CheckpointError):
        finetune(settings(task_folder, run, model={"pretrained": str(tmp_path / "nothing")}))
    with pytest.raises(ConfigError, match="extend_max_seq_len needs model.pretrained"):
        finetune(settings(task_folder, run, model={"extend_max_seq_len": 50}))
    assert not run.exists()


def test_full_folder_is_kept_unless_forced(task_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "mine.txt").write_text("x")
    (run / "results.json").write_text("old")
    config = settings(task_folder, run, trainer={"max_epochs": 1}, task={"baselines": False})
    with pytest.raises(OutputError, match="not empty"):
        finetune(config)
    assert (run / "results.json").read_text() == "old"
    config.force = True
    finetune(config)
    assert (run / "mine.txt").read_text() == "x"
    assert json.loads((run / "results.json").read_text())["test"]["n"] == 33


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ClassifierConfig(pooling="max"), "model.pooling='max'"),
        (lambda: ClassifierConfig(head_dropout=1.0), "model.head_dropout"),
        (lambda: ClassifierConfig(max_seq_len=-1), "model.max_seq_len"),
        (lambda: LabelledDataConfig(batch_size=0), "data.batch_size"),
        (lambda: LabelledDataConfig(dev_fraction=1.0), "data.dev_fraction"),
        (lambda: LabelledDataConfig(rc_probability=2.0), "data.rc_probability"),
        (lambda: ClassificationConfig(strands="all"), "task.strands='all'"),
        (lambda: ClassificationConfig(select_by="test"), "task.select_by='test'"),
        (lambda: ClassificationConfig(class_weights="x"), "task.class_weights"),
        (lambda: ClassificationConfig(label_smoothing=1.0), "task.label_smoothing"),
        (lambda: ClassificationConfig(n_resamples=-1), "task.n_resamples"),
        (lambda: LoraConfig(rank=0), "lora.rank"),
        (lambda: FinetuneOptimizerConfig(pretrained_lr_factor=0.0), "pretrained_lr_factor"),
        (lambda: FinetuneTrainerConfig(max_epochs=0), "trainer.max_epochs"),
        (lambda: FinetuneTrainerConfig(patience=0), "trainer.patience"),
        (lambda: FinetuneTrainerConfig(devices=2), "one device"),
        (lambda: FinetuneConfig(), "data.path"),
        (lambda: FinetuneConfig(data=LabelledDataConfig(path="x"), seeds=[]), "seeds"),
        (lambda: FinetuneConfig(data=LabelledDataConfig(path="x"), seeds=[1, 1]), "seeds"),
        (lambda: FinetuneConfig(data=LabelledDataConfig(path="x"), strategy="half"), "strategy"),
        (lambda: FinetuneConfig(data=LabelledDataConfig(path="x"), strategy="lora"), "pretrained"),
    ],
)
def test_impossible_settings_are_refused_by_name(build: object, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()  # type: ignore[operator]
    assert says in str(caught.value)


def test_missing_logger_package_is_one_sentence(
    task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    from hyenadna.errors import BackendUnavailableError

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match="pip install"):
        finetune(settings(task_folder, tmp_path / "a", logger=LoggerConfig(name="wandb")))
    assert not (tmp_path / "a").exists()


def test_divergence_is_reported_as_such(task_folder: Path, tmp_path: Path) -> None:
    from hyenadna.errors import DataError

    config = settings(
        task_folder, tmp_path / "run", optimizer={"lr": 1e20}, trainer={"gradient_clip_norm": None}
    )
    with pytest.raises(DataError, match="diverged"):
        finetune(config)


def test_interrupted_run_tests_nothing(
    task_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = finetune_room.ClassifierModule.training_step

    def interrupted(self: finetune_room.ClassifierModule, batch: object, batch_idx: int) -> object:
        if self.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune_room.ClassifierModule, "training_step", interrupted)
    result = finetune(settings(task_folder, tmp_path / "run", seeds=[1, 2]))
    assert result.stopped == "SIGTERM"
    assert result.results == {}
    assert not (tmp_path / "run" / "results.json").exists()
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    "experiment", ["finetune_unstranded", "finetune_five_seeds", "finetune_smoke"]
)
def test_experiments_compose_and_build_a_model(experiment: str, task_folder: Path) -> None:
    import hydra

    from hyenadna.cli.schema import register_schema, to_dataclass
    from hyenadna.resources import config_dir

    register_schema("finetune", FinetuneConfig)
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = hydra.compose(
            "finetune", [f"experiment={experiment}", f"data.path={task_folder}"]
        )
    config = to_dataclass(composed, FinetuneConfig)
    config.model.max_seq_len = 64
    with torch.device("meta"):
        model = build_classifier(config, load_task(task_folder), seed=0)
    assert next(model.parameters()).device.type == "meta"


def test_core_promoters_run_from_the_real_folder(test_data: Path, tmp_path: Path) -> None:
    config = settings(
        test_data / "gue" / "prom" / "prom_core_tata", tmp_path / "run",
        trainer={"max_epochs": 1}, data={"batch_size": 64}, task={"baselines": False},
    )  # fmt: skip
    results = finetune(config).results
    assert results["test"]["n"] == 613
    assert results["data"]["dropped"] == {"train_in_dev": 8, "train_in_test": 16, "dev_in_test": 2}
    assert results["test"]["mcc"]["mean"] > 0.2


def test_a_convolutional_network_is_a_third_baseline(task_folder: Path, tmp_path: Path) -> None:
    task = {"baselines": False, "cnn_epochs": 1}
    result = finetune(settings(task_folder, tmp_path / "run", trainer={"max_epochs": 1}, task=task))
    cnn = result.results["baselines"]["residual_cnn"]
    assert cnn["n_parameters"] > 10**6
    assert cnn["best_epoch"] == 1
    assert -1 <= cnn["test"]["mcc"] <= 1
    assert list(result.results["baselines"]) == ["residual_cnn"]
    with pytest.raises(ConfigError, match="cnn_epochs"):
        settings(task_folder, tmp_path / "other", task={"cnn_epochs": -1})


def test_shuffled_negatives_are_new_each_epoch_and_keep_the_positives_dinucleotides(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    positives = ["".join(rng.choice(list("ACGT"), 20)) for _ in range(12)]
    rows = [f"{s},1" for s in positives] + [f"{'T' * 20},0" for _ in range(12)]
    (tmp_path / "train.csv").write_text("sequence,label\n" + "\n".join(rows) + "\n")
    task = load_task(tmp_path, dev_fraction=0.2)
    settings = LabelledDataConfig(path=str(tmp_path), batch_size=64, shuffled_negatives=1.0)
    tokenizer = CharacterTokenizer()
    loader = training_loader(task.train, settings, tokenizer=tokenizer, seed=3)
    first, second = next(iter(loader)), next(iter(loader))

    def letters(batch: LabelledBatch, label: int) -> set[str]:
        chosen = batch.token_ids[batch.labels == label]
        return {tokenizer.decode(row) for row in chosen.numpy()}

    def counts(sequence: str) -> tuple[tuple[str, int], ...]:
        pairs = [sequence[i : i + 2] for i in range(len(sequence) - 1)]
        return tuple(sorted((pair, pairs.count(pair)) for pair in set(pairs)))

    assert letters(first, 1) == letters(second, 1) == {s for s, y in zip(task.train.sequences, task.train.labels, strict=True) if y == 1}  # fmt: skip
    known = {counts(s) for s in letters(first, 1)}
    for batch in (first, second):
        assert all(counts(s) in known for s in letters(batch, 0))
    assert letters(first, 0) != letters(second, 0)
    plain = training_loader(task.train, LabelledDataConfig(path="x", batch_size=64), tokenizer=tokenizer, seed=3)  # fmt: skip
    assert letters(next(iter(plain)), 0) == {"T" * 20}  # the control: nothing is shuffled unasked


def test_shuffled_negatives_need_two_classes(tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    for split, flank in (("train", "AA"), ("dev", "CC"), ("test", "GA")):
        file = path / f"{split}.csv"
        file.write_text(
            file.read_text() + f"{flank}ACGTACGTACGTACGTAC,2\n{flank}TTGTACGTACGTACG,2\n"
        )
    config = settings(path, tmp_path / "run", data={"shuffled_negatives": 0.5})
    with pytest.raises(ConfigError, match="shuffled_negatives"):
        finetune(config)


def test_a_folder_with_dev_alone_is_trained_on_a_part_of_it(tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    (path / "train.csv").unlink()
    task = load_task(path)
    assert len(task.train) + len(task.dev) == 30
    assert task.test is not None
    assert len(task.test) == 33
    assert any("no training split" in note for note in task.notes)


def test_small_tasks_get_more_epochs_and_the_average_is_what_is_kept(tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    changes: dict[str, object] = {"max_epochs": 1, "min_steps": 20, "patience": None}
    results = {}
    for decay in (None, 0.9):
        config = settings(path, tmp_path / f"run{decay}", trainer={**changes, "ema_decay": decay})
        found = finetune(config)
        history = read_metrics(found.run.metrics)
        assert max(int(row["epoch"]) for row in history) == 4  # 6 batches an epoch, 20 steps
        results[decay] = found.results["dev"]["auroc"]["mean"], load_model(found.run.model)
    weights = [model.state_dict() for _, model in results.values()]
    assert not torch.equal(weights[0]["head.classifier.weight"], weights[1]["head.classifier.weight"])  # fmt: skip


@pytest.mark.gpu
def test_a_recorded_step_is_the_eager_one(tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    for split in ("train", "dev", "test"):
        file = path / f"{split}.csv"
        rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
        file.write_text("sequence,label\n" + "".join(f"{s[:18]},{y}\n" for s, y in rows))
    found = []
    for graphs in (True, False):
        config = settings(path, tmp_path / f"run{graphs}", trainer={"accelerator": "gpu", "cuda_graphs": graphs, "max_epochs": 3})  # fmt: skip
        config.model.pooling, config.model.both_directions = "positional", True
        # Recording draws dropout, too, so a recorded run's is another.
        config.model.embed_dropout = config.model.resid_dropout = config.model.head_dropout = 0.0
        found.append([row["loss_nats"] for row in read_metrics(finetune(config).run.metrics)])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.gpu
def test_float16_with_its_scaled_loss_trains_as_float32_does(tmp_path: Path) -> None:
    path = write_task(tmp_path / "task")
    found = []
    for precision in ("16-mixed", "32-true"):
        trainer: dict[str, object] = {"accelerator": "gpu", "precision": precision, "max_epochs": 6}
        config = settings(path, tmp_path / precision, trainer=trainer)
        found.append([row["loss_nats"] for row in read_metrics(finetune(config).run.metrics)][-1])
    assert found[0] == pytest.approx(found[1], rel=0.1)
