"""``hyenadna bench layer`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hyenadna.cli import main
from hyenadna.ops.bench import Timing
from hyenadna.training import layer_benchmark

SMALL = ["bench", "layer", "--device", "cpu", "--lengths", "64,128", "--repeats", "1"]


def test_both_layers_and_their_ratio_are_told(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HYENADNA_COMMIT", "abc1234")
    path = tmp_path / "layer.json"
    assert main([*SMALL, "--widths", "64,128", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    for title in ("forward hyena ms", "fwd+bwd attention ms", "fwd+bwd ratio", "error of y"):
        assert title in out
    assert "bfloat16, CPU" in out
    assert out.count("100 times as fast") == 4
    assert err.count("correct (y ") == 4
    found = json.loads(path.read_text())
    assert (found["benchmark"], found["commit"], found["correct"]) == ("layer", "abc1234", True)
    assert [(r["D"], r["L"], r["B"]) for r in found["rows"]] == [(64, 64, 32), (64, 128, 16), (128, 64, 32), (128, 128, 16)]  # fmt: skip
    row = found["rows"][0]
    assert set(row["errors"]) == {"hyena", "attention"}
    times = [row[kind]["forward"]["median_ms"] for kind in ("hyena",)] + [row["attention"]["flash"]["forward"]["median_ms"]]  # fmt: skip
    assert row["ratio"]["forward"] == pytest.approx(times[1] / times[0])
    assert found["hardware"]["cpu"]
    assert found["tolerances"]["y"] == 2e-2


def test_a_wrong_layer_gets_no_speed_and_status_1(capsys, monkeypatch) -> None:
    monkeypatch.setattr(layer_benchmark, "_own", lambda block, x: block.mix(x) * 1.5)
    monkeypatch.setattr(layer_benchmark, "measure", lambda *_, **__: pytest.fail("was timed"))
    assert main(SMALL) == 1
    out, err = capsys.readouterr()
    assert out.count("WRONG") == 2
    assert " ms" not in out.splitlines()[1]
    assert "hyena is WRONG, no speed is reported: y " in err
    assert "no ratio was measured" in out


def test_attention_that_takes_too_long_is_left_out_of_longer_rows_and_said(
    capsys, monkeypatch
) -> None:
    def timed(kind, shape, dtype, device, *, repeats, seconds, kernel=None):
        ms = 2.0 if kind == "hyena" else 2.0 * shape.L
        if kind == "attention" and shape.L > 256:
            pytest.fail("attention was measured beyond its limit")
        return {part: Timing(ms, ms, ms, None) for part in ("forward", "forward_backward")}

    monkeypatch.setattr(layer_benchmark, "measure_layer", timed)
    words = ["bench", "layer", "--device", "cpu", "--lengths", "512,64,128,256,300", "--seconds", "0.3"]  # fmt: skip
    assert main([*words, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["rows"]
    assert [row["L"] for row in rows] == [64, 128, 256, 300, 512]
    assert [row["ratio"]["forward"] for row in rows] == [64.0, 128.0, 256.0, None, None]
    assert [bool(row["note"]) for row in rows] == [False, False, False, True, True]
    reached = found["reached_100"][0]
    assert (reached["from_L"], reached["highest"], reached["highest_at_L"]) == (128, 256.0, 256)
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "forward: 100 times as fast from L=128 on; highest 256.0 at L=256" in out
    assert "a call of attention took longer than 0.3 s at L=256" in err


def test_missing_memory_is_a_dash_and_status_1(capsys, monkeypatch) -> None:
    def short(kind, *_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(layer_benchmark, "measure_layer", short)
    assert main(SMALL) == 1
    out, err = capsys.readouterr()
    assert "out of memory" in err
    assert " - " in out


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--widths", "100"], "no multiple of 64"), (["--widths", "x"], "--widths 'x'"), (["--dtype", "fp8"], "--dtype fp8")],
)  # fmt: skip
def test_mistakes_are_one_sentence(capsys, words: list[str], message: str) -> None:
    assert main([*SMALL, *words]) == 2
    assert message in capsys.readouterr().err
