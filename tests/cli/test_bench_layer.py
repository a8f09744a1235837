"""``hyenadna bench layer`` as a user meets it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hyenadna.cli import bench as verb
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
    assert [(r["D"], r["L"], r["B"]) for r in found["rows"]] == [(64, 64, 32), (128, 64, 32), (64, 128, 16), (128, 128, 16)]  # fmt: skip
    row = found["rows"][0]
    assert set(row["errors"]) == {"hyena", "attention"}
    times = [row[kind]["forward"]["median_ms"] for kind in ("hyena",)] + [row["attention"]["flash"]["forward"]["median_ms"]]  # fmt: skip
    assert row["ratio"]["forward"] == pytest.approx(times[1] / times[0])
    assert found["hardware"]["cpu"]
    assert found["tolerances"]["y"] == 2e-2
    assert found["complete"] is True
    assert (row["hyena"]["forward"]["calls"], row["hyena"]["forward"]["warm"]) == (1, True)


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
        return {part: Timing(ms, ms, ms, None, 3) for part in ("forward", "forward_backward")}

    monkeypatch.setattr(layer_benchmark, "measure_layer", timed)
    words = ["bench", "layer", "--device", "cpu", "--lengths", "512,64,128,256,300", "--longest-call", "0.3"]  # fmt: skip
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


def _killed_at(length: int, how: str) -> str:
    """Return a program that measures two rows, and ends in some way at one of them."""
    return f"""
import os, signal, sys
from hyenadna.cli import main
from hyenadna.training import layer_benchmark
real = layer_benchmark.measure_layer
def measured(kind, shape, *rest, **more):
    if shape.L == {length}:
        {how}
    return real(kind, shape, *rest, **more)
layer_benchmark.measure_layer = measured
sys.exit(main({SMALL!r} + ["--json", sys.argv[1]]))
"""


def test_a_killed_run_leaves_the_rows_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "layer.json"
    program = _killed_at(128, "os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    found = json.loads(path.read_text())
    assert (found["complete"], found["correct"]) == (False, True)
    assert [row["L"] for row in found["rows"]] == [64]
    assert found["rows"][0]["ratio"]["forward"] > 0
    assert "forward ratio" in done.stderr  # the row was told, too
    assert [file.name for file in tmp_path.iterdir()] == ["layer.json"]
    # The record of a killed run is a record: it is kept without --force.
    assert main([*SMALL, "--json", str(path)]) == 2
    assert json.loads(path.read_text()) == found


def test_an_interrupted_run_gives_standard_output_one_document(tmp_path: Path) -> None:
    program = _killed_at(128, "raise KeyboardInterrupt")
    done = subprocess.run([sys.executable, "-c", program, "-"], capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 130
    found = json.loads(done.stdout)
    assert found["complete"] is False
    assert [row["L"] for row in found["rows"]] == [64]


def test_the_json_grows_by_a_row_at_a_time(monkeypatch, tmp_path: Path) -> None:
    path = tmp_path / "layer.json"
    seen, real = [], layer_benchmark.check_layer

    def checked(kind, shape, *rest, **more):
        if kind == "hyena":
            rows = json.loads(path.read_text())["rows"] if path.exists() else []
            seen.append([row["L"] for row in rows])
        return real(kind, shape, *rest, **more)

    monkeypatch.setattr(layer_benchmark, "check_layer", checked)
    assert main([*SMALL, "--json", str(path)]) == 0
    assert seen == [[], [64]]
    assert json.loads(path.read_text())["complete"] is True


def test_longer_rows_leave_out_the_slower_kernel_once_a_call_is_long(capsys, monkeypatch) -> None:
    asked = []

    def timed(kind, shape, dtype, device, *, repeats, seconds, kernel=None):
        asked.append((shape.L, kernel))
        ms = 1.0 if kind == "hyena" else shape.L * (1.0 if kernel == "cudnn" else 2.0)
        return {part: Timing(ms, ms, ms, None, 3) for part in ("forward", "forward_backward")}

    monkeypatch.setattr(layer_benchmark, "measure_layer", timed)
    monkeypatch.setattr(verb.Plan, "on_gpu", property(lambda _plan: True))
    words = ["bench", "layer", "--device", "cpu", "--lengths", "64,128,256", "--widths", "64", "--tokens", "256", "--seconds", "0.1"]  # fmt: skip
    assert main([*words, "--json", "-"]) == 0
    assert asked == [
        (64, None), (64, "flash"), (64, "cudnn"), (128, None), (128, "flash"), (128, "cudnn"), (256, None), (256, "cudnn"),
    ]  # fmt: skip
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["best"]["forward"] for row in rows] == ["cudnn"] * 3


def test_the_same_comparison_is_made_once(monkeypatch) -> None:
    asked, real = [], layer_benchmark.check_layer

    def checked(kind, shape, *rest, **more):
        asked.append((kind, shape.L))
        return real(kind, shape, *rest, **more)

    monkeypatch.setattr(layer_benchmark, "check_layer", checked)
    monkeypatch.setattr(layer_benchmark, "_SHORT", 64)
    assert main(SMALL) == 0
    assert asked == [("hyena", 64), ("attention", 64), ("hyena", 128)]


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
