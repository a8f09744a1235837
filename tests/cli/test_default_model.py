"""Without ``-m``, the verbs that score use the bundled model, and say so."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hyenadna import Genome, HyenaConfig, HyenaForCausalLM, Interval, load_model
from hyenadna import resources as places
from hyenadna.cli import main
from hyenadna.data.shuffle import dinucleotide_shuffle
from hyenadna.inference.runtime import weights_checksum
from hyenadna.resources import DEFAULT_MODEL, weights_dir
from hyenadna.sequence import base_codes
from hyenadna.tasks.markov import MarkovModel

YEAST = "bundled:scerevisiae/genome.2bit"
SAID = f"model: {DEFAULT_MODEL}, a small model of human DNA"


@pytest.fixture(scope="module")
def checksum() -> str:
    return weights_checksum(load_model(DEFAULT_MODEL))


@pytest.fixture
def sequences(tmp_path: Path) -> Path:
    letters = Genome.open(YEAST).sequence(Interval("chrI", 50_000, 50_300))
    path = tmp_path / "my.fa"
    path.write_text(f">one\n{letters}\n>two\n{letters[:120]}\n")
    return path


@pytest.fixture
def other(tmp_path: Path) -> str:
    torch.manual_seed(0)
    model = HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=400))
    model.save_pretrained(tmp_path / "other")
    return str(tmp_path / "other")


def test_scores_are_those_of_the_bundled_model(
    sequences: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {}
    for name, words in {
        "default": [str(sequences)],
        "option": ["-i", str(sequences)],
        "named": ["-m", DEFAULT_MODEL, str(sequences)],
        "other": ["-m", other, str(sequences)],
    }.items():
        assert main(["score", *words]) == 0
        tables[name], err = capsys.readouterr()
        assert (SAID in err) == (name != "other")
    assert tables["default"] == tables["option"] == tables["named"]
    assert tables["other"] != tables["default"], "-m wins"
    assert len(tables["default"].splitlines()) == 3


def test_quiet_says_nothing(sequences: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(sequences), "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_every_verb_works_without_a_model_and_its_record_names_it(
    sequences: Path, checksum: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region = ["-f", YEAST, "-r", "chrI:50,001-50,020"]
    ref = Genome.open(YEAST).sequence(Interval("chrI", 50_000, 50_001))
    variant = f"chrI-50001-{ref}-{'A' if ref != 'A' else 'C'}"
    for words in (
        ["score", str(sequences), "-o", "score.tsv"],
        ["embed", str(sequences), "-o", "embed.npz"],
        ["ism", *region, "--window", "64", "-o", "ism.tsv"],
        ["generate", "-p", "ACGTACGT", "-n", "9", "-o", "generate.fa"],
        ["vep", "-f", YEAST, "--variant", variant, "-o", "vep.tsv"],
        ["vep", "-f", YEAST, "--variant", variant, "-o", "vep.vcf"],
    ):
        words[-1] = str(tmp_path / words[-1])
        assert main(words) == 0, words
        assert SAID in capsys.readouterr().err, words
    for name in ("score.tsv", "ism.tsv", "generate.fa", "vep.tsv"):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert (record["model"], record["weights_sha256"]) == (DEFAULT_MODEL, checksum), name
    with np.load(tmp_path / "embed.npz") as found:
        provenance = json.loads(str(found["provenance"][0]))
    assert (provenance["model"], provenance["weights_sha256"]) == (DEFAULT_MODEL, checksum)
    assert f"{DEFAULT_MODEL} weights_sha256={checksum}" in (tmp_path / "vep.vcf").read_text()


@pytest.mark.parametrize("verb", ["score", "vep", "embed", "ism", "generate"])
def test_help_names_the_default(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"[default: {DEFAULT_MODEL}]" in shown
    assert "a small model of human DNA" in shown


def test_two_files_of_sequences_are_refused(
    sequences: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(sequences), "-i", "other.fa"]) == 2
    assert "both name sequences; give one of them" in capsys.readouterr().err
    assert main(["score", str(sequences), "-f", YEAST]) == 2
    assert "a file of sequences, or a genome with -f" in capsys.readouterr().err


def test_a_damaged_file_is_one_sentence(
    sequences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    copy = tmp_path / "weights"
    shutil.copytree(weights_dir(), copy)
    real = places._resource_dir
    monkeypatch.setattr(places, "_resource_dir", lambda n: copy if n == "weights" else real(n))
    assert main(["score", str(sequences), "-q"]) == 0
    capsys.readouterr()
    weights = copy / "human-tiny-1k" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert main(["score", str(sequences)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.strip().splitlines()
    assert line.startswith(f"error: the model {DEFAULT_MODEL} that comes with hyenadna is damaged")
    assert line.endswith("reinstall hyenadna")


def test_it_knows_human_dna_and_only_that(test_data: Path, tmp_path: Path) -> None:
    """Held-out human sequence costs clearly less than under a Markov model of order 5; shuffled sequence and yeast do not.

    A little of the lead stays there (0.04 and 0.05 bits of 0.22): the model adapts to each window's composition.
    """
    human = Genome.open(test_data / "genomes" / "human_grch37_chr20.fa.gz")
    starts = np.linspace(44_000_000, 50_000_000 - 1024, 40).astype(int).tolist()
    real = [human.sequence(Interval("20", at, at + 1024)).upper() for at in starts]
    assert set("".join(real)) == set("ACGT")
    rng = np.random.default_rng(0)
    shuffled = [dinucleotide_shuffle(letters, rng) for letters in real]
    yeast = Genome.open(YEAST)
    markov = MarkovModel.fit([human.codes(Interval("20", 1_000_000, 6_000_000))], max_order=5)

    def lead(windows: list[str]) -> float:
        given, out = tmp_path / "given.fa", tmp_path / "out.tsv"
        given.write_text("".join(f">{i}\n{w}\n" for i, w in enumerate(windows)))
        assert main(["score", str(given), "-o", str(out), "-q", "--force"]) == 0
        with out.open() as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
        ours = -math.fsum(float(row["log_likelihood"]) for row in rows)
        theirs = math.fsum(markov.score(base_codes(w)).nats[5] for w in windows)
        return (theirs - ours) / sum(int(row["n_scored"]) for row in rows) / math.log(2)

    of_real, of_shuffled = lead(real), lead(shuffled)
    of_yeast = lead([yeast.sequence(Interval("chrXVI", at, at + 1024)) for at in range(10_000, 400_000, 10_000)])  # fmt: skip
    assert of_real > 0.15
    assert of_shuffled < 0.075
    assert of_yeast < 0.075
