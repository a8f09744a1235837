"""`hyenadna pretrain` as its user meets it: settings in, run folder out, one sentence for a mistake."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from hyenadna.cli import main
from hyenadna.training.metrics_log import read_metrics


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Settings of a small run on a random genome with N, in an empty working folder."""
    rng = np.random.default_rng(3)
    letters = rng.choice(list("ACGT"), size=9000, p=[0.35, 0.15, 0.15, 0.35])
    letters[rng.random(9000) < 0.05] = "N"
    (tmp_path / "genome.fa").write_text(
        f">c1\n{''.join(letters)}\n>c2\n{''.join(rng.choice(list('ACGT'), size=3000))}\n"
    )
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return [
        "data=fasta", "data.fasta=../genome.fa", "data.validation=c2:1-1500", "data.test=c2:1501-3000",
        "data.seq_len=64", "data.global_batch_size=4", "data.validation_tokens=320", "model.d_model=8",
        "model.n_layers=1", "model.filter_dim=8", "model.max_seq_len=66", "trainer.accelerator=cpu",
        "trainer.max_steps=4", "trainer.progress=false",
    ]  # fmt: skip


def train_losses(run: str | Path) -> list[float]:
    return [
        r["loss_nats"] for r in read_metrics(Path(run) / "metrics.csv") if r["split"] == "train"
    ]


def test_unnamed_run_goes_to_a_dated_folder_and_is_summed_up(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *words]) == 0
    (run,) = Path("runs/pretrain").iterdir()
    assert sorted(p.name for p in Path().iterdir()) == ["runs"]
    output = capsys.readouterr()
    assert f"model  {run}/model" in output.out
    assert "bits/base" in output.out
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert Path(config["data"]["fasta"]).is_absolute()
    assert config["trainer"]["max_steps"] == 4


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            ["trainer.max_stps=4"],
            "unknown setting 'trainer.max_stps'; did you mean trainer.max_steps",
        ),
        (["+trainer.max_stps=4"], "unknown setting 'trainer.max_stps'"),
        (["modle=tiny_1k"], "did you mean model"),
        (["nothing.like.it=1"], "--cfg job"),
        (["trainer.max_steps=many"], "'trainer.max_steps': value 'many'"),
        (["data.seq_len=[1]"], "data.seq_len"),
        (["optimizer.lr=-1"], "optimizer.lr=-1.0 is impossible"),
        (["model=tiny_2k"], "demo, hybrid_small, large_1m"),
        (["optimizer.betas=[0.9"], "cannot be read"),
        (["--steps=3"], "unknown option '--steps'"),
        (["steps"], "'steps' is no setting"),
        (["--cfg"], "needs a value"),
        (["data.validation=c9"], "contig 'c9'"),
        (["data.validation=c2:1-99999"], "c2"),
        (["data.train=c2:1-10"], "c2"),
        (["data.fasta=missing.fa"], "missing.fa"),
        (["data.seq_len=128"], "max_seq_len of 66"),
        (["resume=."], "no run folder"),
        (["resume="], "a folder is needed"),
        (["run_dir="], "a folder is needed"),
        (["--cfg", "bogus"], "expected one of job, hydra, all"),
        (["model.vocab_size=3"], "nucleotides have 12 token ids"),
        (["model.initializer_range=nan"], "initializer_range"),
        (["model.layer_norm_eps=-1"], "layer_norm_eps"),
        (["model.filter_freq=nan"], "filter_freq"),
        (["run_dir=.."], "not empty"),
        (["trainer.devices=3"], "multiple of 3"),
        (["data.genomes=[{fasta: x, wait: 1}]"], "wait"),
    ],
)
def test_a_mistake_is_one_sentence_exit_2_and_nothing_written(
    words: list[str], capsys: pytest.CaptureFixture[str], given: list[str], named: str
) -> None:
    assert main(["pretrain", *words, *given]) == 2
    output = capsys.readouterr()
    errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert named in errors[0]
    assert "Traceback" not in output.err
    assert "HYDRA" not in output.err
    assert output.out == ""
    assert list(Path().iterdir()) == []


def test_genome_of_n_is_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("../n.fa").write_text(f">c1\n{'N' * 500}\n>c2\n{'ACGT' * 1000}\n")
    assert main(["pretrain", *words, "data.fasta=../n.fa", "data.train=c1"]) == 2
    assert "all N" in capsys.readouterr().err


def test_config_can_be_printed_without_running(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *words, "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["d_model"] == 8
    assert list(Path().iterdir()) == []


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("tiny_1k", "data.fasta=FILE", "resume=RUN", "--multirun", "--cfg job", "Examples"):
        assert word in text


def test_a_genome_of_ones_own_drops_the_default_genomes_splits(words: list[str]) -> None:
    own = [w for w in words if not w.startswith(("data=", "data.validation", "data.test"))]
    assert main(["pretrain", *own, "run_dir=run"]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["data"]["validation"] is None
    assert main(["pretrain", *own, "run_dir=other", "data.validation=c2"]) == 0
    assert yaml.safe_load(Path("other/config.yaml").read_text())["data"]["validation"] == ["c2"]


def test_resume_keeps_the_saved_settings_but_for_explicit_ones(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *words, "run_dir=run", "seed=7"]) == 0
    assert main(["pretrain", "resume=run", "trainer.max_steps=6", "model=tiny_1k"]) == 2
    assert "keeps its model" in capsys.readouterr().err
    assert main(["pretrain", "resume=run", "trainer.max_stps=6"]) == 2
    assert main(["pretrain", "resume=run", "run_dir=other"]) == 2
    assert "leave run_dir out" in capsys.readouterr().err
    first = train_losses("run")
    assert main(["pretrain", "resume=run", "trainer.max_steps=6"]) == 0
    assert train_losses("run")[:4] == first
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["seed"], config["trainer"]["max_steps"], config["resume"]) == (7, 6, None)
    Path("run/config.yaml").write_text("- 1\n")
    assert main(["pretrain", "resume=run"]) == 2
    assert "no settings of a run" in capsys.readouterr().err


def test_multirun_trains_every_combination_and_reports_the_one_that_fails(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["pretrain", *words, "-m", "trainer.max_steps=1", "optimizer.lr=1e-3,2e-3,-1"])
    assert status == 2
    assert "job" in capsys.readouterr().err
    rates = [
        yaml.safe_load((run / "config.yaml").read_text())["optimizer"]["lr"]
        for run in Path("runs/pretrain").iterdir()
    ]
    assert sorted(rates) == [1e-3, 2e-3]


def test_multirun_over_several_devices_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", *words, "-m", "seed=1,2", "trainer.devices=2"]) == 2
    assert "one device" in capsys.readouterr().err


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "hyenadna", "pretrain", *more]


def quiet_environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.mark.slow
def test_killed_at_step_10_and_resumed_ends_like_an_uninterrupted_run(words: list[str]) -> None:
    # Enough work in a step that the process is surely met between step 10 and the end.
    long = [w for w in words if "d_model" not in w and "max_steps" not in w]
    long += ["model.d_model=96", "trainer.max_steps=40", "trainer.validate_every=7"]
    environment = quiet_environment()
    whole = subprocess.run(
        command(*long, "run_dir=whole"), env=environment, capture_output=True, check=True
    )
    process = subprocess.Popen(
        command(*long, "run_dir=killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    metrics = Path("killed/metrics.csv")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and sum(",train," in line for line in metrics.open()) >= 10:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    reached = len(train_losses("killed"))
    assert 10 <= reached < 40
    subprocess.run(command("resume=killed"), env=environment, capture_output=True, check=True)
    assert train_losses("killed") == train_losses("whole")
    assert (
        Path("killed/model/model.safetensors").read_bytes()
        == Path("whole/model/model.safetensors").read_bytes()
    )
    assert b"bits/base" in whole.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "task", [[], ["task=masked_lm", "model.bidirectional=true", "task.mean_span=3"]], ids=["next", "masked"]
)  # fmt: skip
def test_two_processes_compute_what_one_does(words: list[str], task: list[str]) -> None:
    # Dropout is on; equal micro-batches draw equal dropout, and N makes the processes' shares unequal.
    words = [*words, *task, "data.micro_batch_size=1", "model.resid_dropout=0.1"]
    assert main(["pretrain", *words, "run_dir=one"]) == 0
    two = ["run_dir=two", "trainer.devices=2", "trainer.strategy=ddp"]
    done = subprocess.run(
        command(*words, *two), env=quiet_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(train_losses("two"), train_losses("one"), rtol=2e-6)
    one, other = (
        [r for r in read_metrics(Path(n) / "metrics.csv") if r["split"] == "validation"]
        for n in ("one", "two")
    )
    assert [r["step"] for r in one] == [r["step"] for r in other]
    np.testing.assert_allclose(
        [r["loss_nats"] for r in other], [r["loss_nats"] for r in one], rtol=2e-6
    )
    assert "world" not in done.stdout
    # negative control: another order of data is not the same within the tolerance
    assert main(["pretrain", *words, "run_dir=other", "seed=8"]) == 0
    assert not np.allclose(train_losses("other"), train_losses("one"), rtol=2e-6)


@pytest.mark.slow
def test_real_chromosome_as_in_the_readme(
    test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fasta = test_data.resolve() / "genomes" / "human_grch37_chr20.fa.gz"
    words = [f"data.fasta={fasta}", "model=tiny_1k", "trainer.max_steps=3", "data.global_batch_size=2",
             "data.validation_tokens=2048", "run_dir=run"]  # fmt: skip
    assert main(["pretrain", *words]) == 0
    assert train_losses("run")[-1] < train_losses("run")[0]


def test_hydras_logging_does_not_outlive_its_call(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    main(["pretrain", "--info", "searchpath"])
    assert "hydra" in capsys.readouterr().out
    assert (list(root.handlers), root.level) == before


def test_a_dry_run_says_what_the_run_needs_and_leaves_nothing(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "--dry-run", *words]) == 0
    said = capsys.readouterr().out
    for part in ("parameters", "256 tokens (4 windows of 64)", "4 steps, 1,024 tokens", "GiB predicted"):  # fmt: skip
        assert part in said
    assert not list(Path().iterdir())
    assert main(["pretrain", "--dry-run", *words, "data.seq_len=100"]) == 2
    assert "exceeds the model's max_seq_len of 66" in capsys.readouterr().err


def test_a_hybrid_trains_resumes_and_generates(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    hybrid = ["model.n_layers=3", "model.mixers=[hyena,attention,conv]", "model.attention_heads=2"]
    assert main(["pretrain", "--dry-run", *words, *hybrid]) == 0
    assert "3 layers of width 8 (hyena, attention, conv)" in capsys.readouterr().out
    assert main(["pretrain", *words, *hybrid, "run_dir=whole", "trainer.max_steps=6"]) == 0
    steps = ["trainer.max_steps=4", "schedule=constant"]
    assert main(["pretrain", *words, *hybrid, "run_dir=run", *steps]) == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["model"]["mixers"] == ["hyena", "attention", "conv"]
    assert main(["pretrain", "resume=run", "trainer.max_steps=6"]) == 0
    assert len(train_losses("run")) >= 1
    capsys.readouterr()
    assert main(["generate", "-m", "run", "-p", "ACGT", "-n", "20"]) == 0
    assert main(["score", "-m", "run", "-i", "../genome.fa", "-o", "scores.tsv"]) == 0
    assert main(["convert", "run", "-o", "hf", "--to", "hf"]) == 2
    assert "only layers of plain Hyena" in capsys.readouterr().err
    assert main(["convert", "run", "-o", "ours"]) == 0
    # A pretrained shape replaces that of the config group, mixers too.
    assert main(["pretrain", *words, "run_dir=next", "model.pretrained=run"]) == 0
    config = yaml.safe_load(Path("next/config.yaml").read_text())
    assert (config["model"]["mixers"], config["model"]["n_layers"]) == (["hyena", "attention", "conv"], 3)  # fmt: skip


def test_mixers_that_fit_no_model_are_said_in_one_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for setting, part in (("model.mixers=mamba", "one of hyena, attention, conv"), ("model.mixers=[conv,hyena]", "n_layers=1")):  # fmt: skip
        assert main(["pretrain", *words, setting]) == 2
        said = capsys.readouterr().err
        assert part in said
        assert "Traceback" not in said
