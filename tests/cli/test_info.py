from pathlib import Path

import pytest

from hyenadna import HyenaConfig, HyenaForCausalLM, HyenaForSequenceClassification
from hyenadna.cli import info, main


def _lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    out, err = capsys.readouterr()
    assert err == ""
    return dict(line.split("\t", 1) for line in out.splitlines())


def test_says_what_is_installed_and_bundled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(info, "_EXTRAS", ("no-such-package",))
    assert main(["info"]) == 0
    lines = _lines(capsys)
    assert lines["hyenadna"][0].isdigit()
    assert lines["fftconv on cpu"].startswith("torch (")
    assert "Triton kernels need an NVIDIA GPU" in lines["fftconv on cpu"]
    assert Path(lines["cache"]).is_dir()
    assert lines["no-such-package (extra)"] == "not installed"
    assert "cerevisiae" in lines["bundled:scerevisiae"]
    assert "human" in lines["bundled:human-tiny-1k"]
    assert lines["default model"] == "bundled:human-tiny-1k"


def test_describes_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "bundled:human-tiny-1k"]) == 0
    lines = _lines(capsys)
    assert "human" in lines["title"]
    assert Path(lines["card"]).is_file()
    assert (lines["parameters"], lines["max_seq_len"]) == ("436,096", "1026")
    assert lines["weights_sha256"] in Path(lines["card"]).read_text()


def test_describes_models(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = HyenaConfig(d_model=16, n_layers=1, max_seq_len=66)
    HyenaForCausalLM(config).save_pretrained(tmp_path / "lm")
    assert main(["info", str(tmp_path / "lm")]) == 0
    lines = _lines(capsys)
    assert (lines["model"], lines["max_seq_len"], lines["tokenizer"]) == (
        "HyenaForCausalLM",
        "66",
        "character",
    )
    assert lines["mixers"] == "hyena"
    hybrid = HyenaConfig(d_model=16, n_layers=2, mixers=("hyena", "attention"), max_seq_len=66)
    HyenaForCausalLM(hybrid).save_pretrained(tmp_path / "hybrid")
    assert main(["info", str(tmp_path / "hybrid")]) == 0
    assert _lines(capsys)["mixers"] == "hyena, attention"
    HyenaForSequenceClassification(config, labels=["no", "yes"]).save_pretrained(tmp_path / "cls")
    assert main(["info", str(tmp_path / "cls")]) == 0
    assert _lines(capsys)["head labels"] == "no, yes"
    assert main(["info", str(tmp_path / "none")]) == 2
