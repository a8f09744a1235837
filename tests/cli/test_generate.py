"""`hyenadna generate` as its user meets it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.cli import main
from hyenadna.io.fasta import read_fasta


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("generate") / "model"
    HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=200)).save_pretrained(folder)
    return str(folder)


def test_fasta_holds_prompt_and_continuation(model: str, tmp_path: Path) -> None:
    out = tmp_path / "x.fa"
    words = ["generate", "-m", model, "-p", "ACGT", "-p", "TTTTT", "-n", "100", "-s", "2", "-q", "-o", str(out)]  # fmt: skip
    assert main(words) == 0
    records = list(read_fasta(out))
    assert [r.name for r in records] == ["prompt_1_1", "prompt_1_2", "prompt_2_1", "prompt_2_2"]
    assert [len(r.sequence) for r in records] == [104, 104, 105, 105]
    assert records[0].sequence.startswith("ACGT")
    assert "bits_per_base=" in records[0].description
    assert main(words) == 2
    assert main([*words, "--force"]) == 0
    assert list(read_fasta(out)) == records


def test_json_lines_hold_the_probabilities_and_prompts_come_from_a_file(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.fa").write_text(">a\nACGTA\n>b\nGG\n")
    words = ["generate", "-m", model, "-i", f"{tmp_path}/p.fa", "-n", "30", "--format", "jsonl", "--gc", "0.5-0.5", "--forbid", "aa", "-q"]  # fmt: skip
    assert main(words) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == ["a_1", "b_1"]
    for row in rows:
        assert sum(letter in "GC" for letter in row["sequence"]) == 15
        assert "AA" not in row["sequence"]
        assert sum(row["log_probabilities"]) == pytest.approx(row["log_likelihood"], abs=1e-4)


def test_prompts_come_from_json_lines(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"name": "a", "prompt": "ACGTA", "sequence": "TTTT"}\n\n{"Sequence": "GG"}\n'
    (tmp_path / "p.jsonl").write_text(text)
    words = ["generate", "-m", model, "-n", "9", "-q"]
    assert main([*words, "-i", f"{tmp_path}/p.jsonl"]) == 0
    from_file = capsys.readouterr().out
    lines = from_file.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [">a_1", ">sequence_2_1"]
    assert lines[1].startswith("ACGTA")
    assert lines[3].startswith("GG")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main([*words, "-i", "-"]) == 0
    assert capsys.readouterr().out == from_file
    assert main([*words, "-i", f"{tmp_path}/p.jsonl", "--format", "jsonl", "-o", f"{tmp_path}/q.jsonl"]) == 0  # fmt: skip
    assert (
        main(["score", "-m", model, f"{tmp_path}/q.jsonl", "-q"]) == 0
    )  # what is generated can be read
    assert [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [["a_1", "9"], ["sequence_2_1", "9"]]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "ACGT"}\n[1]\n', "p.jsonl:2: expected one JSON object a line, found '[1]'"),
        ('{"prompt": "ACGT"\n', "p.jsonl:1: expected one JSON object a line"),
        ('{"prompt": 5}\n', "p.jsonl:1: the object has the keys 'prompt'; expected text under"),
        ('{"bases": "AC"}\n', "p.jsonl:1: the object has the keys 'bases'; expected text under 'prompt'"),
        ('{"prompt": "ACXT"}\n', "p.jsonl:1: sequence 'sequence_1' has 'X' at position 3"),
        ("[" * 100_000, "p.jsonl:1: expected one JSON object a line"),
        ("\n\n", "p.jsonl: the file holds no sequence"),
    ],
)  # fmt: skip
def test_malformed_json_lines_are_refused_with_their_line(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.jsonl").write_text(text)
    assert main(["generate", "-m", model, "-i", "p.jsonl", "-q"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "say what to continue"),
        (["-p", "ACGT", "-i", "x.fa"], "one of the two"),
        (["-p", "ACGT", "-n", "500"], "beyond the 200"),
        (["-p", "AC!T"], "'!'"),
        (["-p", "ACGT", "--gc", "0.5"], "two shares"),
        (["-p", "ACGT", "--gc", "a-b"], "two shares"),
        (["-p", "ACGT", "--gc", "0.9-0.1"], "low <= high"),
        (["-p", "ACGT", "--forbid", "XYZ"], "forbidden motif"),
        (["-p", "ACGT", "--template", "NN"], "2 letters for 100"),
        (["-p", "ACGT", "--temperature", "-1"], "temperature is -1"),
        (["-p", "ACGT", "--format", "gff"], "fasta or jsonl"),
        (["-i", "nothing.fa"], "nothing.fa"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, words: list[str], said: str
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "-m", model, "-o", "out.fa", "-q", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
