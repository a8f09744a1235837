"""`hyenadna evaluate`: the numbers that a user compares, and what bad input gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hyenadna.cli import main
from hyenadna.models import HyenaConfig, HyenaForCausalLM, HyenaForSequenceClassification

CONFIG = HyenaConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=66)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a genome, a language model ``lm`` and a classifier ``cls``."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    with Path("genome.fa").open("w") as out:
        for name, size in (("c1", 9000), ("c2", 3000)):
            out.write(
                f">{name}\n{''.join(rng.choice(list('ACGT'), size=size, p=[0.4, 0.1, 0.1, 0.4]))}\n"
            )
    torch.manual_seed(0)
    HyenaForCausalLM(CONFIG).save_pretrained("lm")
    HyenaForSequenceClassification(CONFIG, n_classes=2).save_pretrained("cls")
    Path("test.csv").write_text(
        "sequence,label\n" + "".join(f"{'ACGT' * (i + 3)},{i % 2}\n" for i in range(12))
    )
    return tmp_path


@pytest.fixture
def run(work: Path) -> Path:
    words = [
        "data=fasta", "data.fasta=genome.fa", "data.validation=c2:1-1500", "data.test=c2:1501-3000",
        "data.seq_len=64", "data.global_batch_size=4", "data.validation_tokens=320", "model.d_model=8",
        "model.n_layers=1", "model.filter_dim=8", "model.max_seq_len=66", "trainer.accelerator=cpu",
        "trainer.max_steps=2", "trainer.progress=false", "run_dir=run",
    ]  # fmt: skip
    assert main(["pretrain", *words]) == 0
    return work / "run"


@pytest.mark.parametrize("source", ["run", "run/model"])
def test_run_brings_its_genome_and_test_split(
    run: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "-m", source, "--markov-order", "3", "-o", "out.json", "-q"]) == 0
    found = json.loads(Path("out.json").read_text())
    assert found["n_scored"] == 1499
    assert found["markov_training_bases"] == 9000
    entropy = -2 * (0.4 * np.log2(0.4) + 0.1 * np.log2(0.1))
    assert found["markov_bits_per_base"][0] == pytest.approx(entropy, abs=0.05)
    assert len(found["markov_bits_per_base"]) == 4
    text = capsys.readouterr().out
    assert f"{found['bits_per_base']:.4f}" in text
    assert "Markov order 3" in text
    assert (
        main(["evaluate", "-m", source, "--markov-order", "-1", "--split", "validation", "-q"]) == 0
    )
    assert "1,499 bases of the validation split" in capsys.readouterr().out


def test_training_bases_may_not_be_what_is_scored(run: Path) -> None:
    # of the run's genome only the training split, or all that is not scored, fits the baselines
    for words, expected in (
        (["-m", "run", "-r", "c1:1-500"], 9000),
        (["-m", "lm", "-f", "genome.fa", "-r", "c1:1-500", "-r", "c1:300-700"], 12_000 - 700),
    ):
        assert (
            main(["evaluate", *words, "--markov-order", "1", "-o", "out.json", "--force", "-q"])
            == 0
        )
        assert json.loads(Path("out.json").read_text())["markov_training_bases"] == expected


def test_regions_bed_and_default_split_of_a_genome(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.bed").write_text("c1\t0\t400\n")
    words = ["evaluate", "-m", "lm", "-f", "genome.fa", "--markov-order", "0", "-q", "-o", "-"]
    assert main([*words, "-b", "x.bed", "-r", "c2:1-100"]) == 0
    assert json.loads(capsys.readouterr().out)["n_scored"] == 399 + 99
    assert main([*words, "--max-bases", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["regions"].startswith("the test split of")
    assert found["n_scored"] < 200


def test_contexts_give_a_curve_a_table_and_a_picture(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "-m", "run", "--contexts", "16,64", "--markov-order", "12", "-q"]
    assert main([*words, "-o", "out.json", "--plot", "out.png"]) == 0
    found = json.loads(Path("out.json").read_text())
    assert [point["context"] for point in found["contexts"]] == [16, 64]
    assert found["block_len"] == 16
    # the test region has 1,500 bases, of which the first 48 are context only, and the last 12 fill no block
    assert found["n_scored"] == found["n_blocks"] * 16 == 1440
    assert len(found["markov_bits_per_base"]) == 13
    assert found["compressors"]["lzma packed, trained"] > 1
    assert "1,440 bases of the test split, in 90 blocks" in found["method"]
    assert Path("out.png").read_bytes().startswith(b"\x89PNG")
    text = capsys.readouterr().out
    for point in found["contexts"]:
        assert f"{point['bits_per_base']:.4f}" in text
    assert "Markov order 12" in text
    assert main([*words[:3], "--contexts", "auto", "--markov-order", "-1", "-q", "-o", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [point["context"] for point in found["contexts"]] == [64]
    assert "lzma packed, trained" not in found["compressors"]
    # the outputs are kept
    assert main([*words, "--plot", "out.png"]) == 2
    assert "--force" in capsys.readouterr().err


def test_classifier_gets_its_metrics(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "-m", "cls", "-i", "test.csv", "--rc", "-o", "out.json", "-q"]) == 0
    found = json.loads(Path("out.json").read_text())
    assert (found["n"], found["rc"]) == (12, True)
    assert -1 <= found["mcc"] <= 1
    assert "auroc" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-m", "lm"], "give one with -f"),
        (["-m", "lm", "-i", "test.csv"], "is a language model"),
        (["-m", "cls", "-f", "genome.fa"], "is a classifier"),
        (["-m", "lm", "-f", "genome.fa", "--split", "best"], "unknown"),
        (["-m", "lm", "-f", "genome.fa", "--split", "test", "-r", "c1"], "give one"),
        (["-m", "lm", "-f", "genome.fa", "-r", "c7:1-5"], "c7"),
        (["-m", "lm", "-f", "genome.fa", "-r", "c2:2990-4000"], "beyond contig"),
        (["-m", "lm", "-f", "genome.fa", "--window", "1000"], "window of 1000"),
        (["-m", "lm", "-f", "genome.fa", "--markov-order", "13"], "less than or equal to 12"),
        (["-m", "lm", "-f", "none.fa"], "none.fa"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", "16,abc"], "'16,abc'"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", ""], "commas between"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", "16,128"], "at most 66"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", "16,48"], "powers of two from 16"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", "16,16"], "different powers"),
        (["-m", "lm", "-f", "genome.fa", "-r", "c1:1-40", "--contexts", "64"], "has 40 bases"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", "16", "--window", "32"], "--window"),
        (["-m", "lm", "-f", "genome.fa", "--plot", "x.png"], "--contexts"),
        (["-m", "lm", "-f", "genome.fa", "--contexts", "16", "--plot", "x.jpg"], ".svg"),
        (["-m", "cls", "-i", "test.csv", "--contexts", "16"], "is a classifier"),
        (["-m", "nothing-here", "-f", "genome.fa"], "nothing-here"),
        (["-m", "lm", "-f", "genome.fa", "-o", "test.csv"], "--force"),
        (["-m", "cls", "-i", "bad.csv"], "label"),
        (["-m", "lm", "-f", "genome.fa", "--device", "tpu"], "tpu"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    work: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    Path("bad.csv").write_text("sequence,label\nACGT,5\n")
    before = sorted(p.name for p in work.iterdir())
    assert main(["evaluate", *words, "-q"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len([line for line in errors if line.startswith("error: ")]) == 1
    assert named in errors[-1]
    assert sorted(p.name for p in work.iterdir()) == before


def test_empty_split_of_a_run_is_one_sentence(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path("run/config.yaml")
    config.write_text(config.read_text().replace("  test:\n  - c2:1501-3000\n", "  test: null\n"))
    assert main(["evaluate", "-m", "run", "-q"]) == 2
    assert "test split of run is empty" in capsys.readouterr().err
