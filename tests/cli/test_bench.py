"""``hyenadna bench`` as a user meets it: no speed without correctness, numbers on stdout, words on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hyenadna.cli import bench as verb
from hyenadna.cli import main
from hyenadna.ops import bench, fftconv
from hyenadna.ops.fftconv.reference import gated_fftconv_reference
from hyenadna.ops.short_conv import short_conv

SMALL = ["bench", "fftconv", "--device", "cpu", "--lengths", "96,1K", "--width", "4", "--batch", "2"]  # fmt: skip
ATTENTION = ["bench", "attention", "--device", "cpu", "--lengths", "64", "--width", "64", "--tokens", "128"]  # fmt: skip


def _circular(x0, x1, v, k, bias, *, backend):
    w = x1.float() * v.float()
    y = torch.fft.irfft(torch.fft.rfft(w) * torch.fft.rfft(k), n=w.shape[-1])
    return (x0.float() * (y + bias[:, None] * w)).to(v.dtype)


@pytest.fixture
def other_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let plain torch run under the name of another backend, so that there is something to compare."""
    monkeypatch.setattr(fftconv, "resolve_backend", lambda _backend, _device: "triton")
    monkeypatch.setattr(
        bench,
        "gated_fftconv",
        lambda *inputs, backend: gated_fftconv_reference(*inputs),
    )


def test_fftconv_prints_rows_and_writes_json(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HYENADNA_COMMIT", "abc1234")
    path = tmp_path / "bench.json"
    assert main([*SMALL, "--json", str(path), "--dtype", "fp32"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if line.strip()[:1].isdigit()] == ["96", "1,024"]  # fmt: skip
    assert "forward ms" in out
    assert "x floor" not in out  # the floor is a GPU's
    assert "torch, float32, CPU; median of 3" in out
    assert "L=1,024 (B=2, D=4): correct on torch" in err
    found = json.loads(path.read_text())
    assert found["correct"] is True
    assert (found["commit"], found["dtype"], found["backend"]) == ("abc1234", "float32", "torch")
    assert {"python", "torch", "triton", "cuda", "nvidia_driver"} <= set(found["versions"])
    assert found["hardware"]["cpu"]
    row = found["rows"][1]
    assert (row["B"], row["D"], row["L"], row["correct"]) == (2, 4, 1024, True)
    assert set(row["errors"]) == {"y", "dx0", "dx1", "dv", "dk", "dbias"}
    times = row["backend"]["forward_backward"]
    assert 0 < times["q20_ms"] <= times["median_ms"] <= times["q80_ms"]
    assert not list(tmp_path.glob(".partial*"))


def test_wrong_results_get_no_speed_and_status_1(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "gated_fftconv", _circular)
    monkeypatch.setattr(bench, "measure", lambda *_, **__: pytest.fail("was timed"))
    path = tmp_path / "bench.json"
    assert main([*SMALL, "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    assert " ms" not in out
    assert out.count("WRONG") == 2
    assert "L=96 (B=2, D=4): WRONG on torch, no speed is reported: y " in err
    found = json.loads(path.read_text())
    assert found["correct"] is False
    assert [row["backend"] for row in found["rows"]] == [None, None]
    assert main(ATTENTION) == 1
    out, err = capsys.readouterr()
    assert "ratio" not in out.replace("ratio = attention / hyena", "")
    assert "WRONG" in err


def test_one_wrong_length_leaves_the_others_their_speed(capsys, monkeypatch) -> None:
    def sometimes(*inputs, backend):
        right = fftconv.gated_fftconv(*inputs, backend=backend)
        return right * float("nan") if right.shape[-1] == 96 else right

    monkeypatch.setattr(bench, "gated_fftconv", sometimes)
    assert main([*SMALL, "--json", "-"]) == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["correct"] for row in rows] == [False, True]
    assert rows[0]["errors"]["y"] is None  # JSON knows no infinity
    assert rows[1]["backend"]["forward"]["median_ms"] > 0


@pytest.mark.usefixtures("other_backend")
def test_plain_torch_is_measured_beside_another_backend(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main(SMALL) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    lines = [line for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert {len(line.split()) for line in lines} == {10}  # nothing wraps at 40 columns
    for title in ("torch forward ms", "torch fwd+bwd ms", "speed-up forward", "error of y"):
        assert title in out
    assert main([*SMALL, "--no-torch"]) == 0
    assert "torch forward" not in capsys.readouterr().out


@pytest.mark.usefixtures("other_backend")
@pytest.mark.parametrize(("short", "status"), [("torch", 0), ("triton", 1)])
def test_missing_memory_is_a_dash_not_a_crash(capsys, monkeypatch, short: str, status: int) -> None:
    def run(*inputs, backend):
        if backend == short:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gated_fftconv_reference(*inputs)

    monkeypatch.setattr(bench, "gated_fftconv", run)
    assert main([*SMALL, "--json", "-"]) == status
    out, err = capsys.readouterr()
    assert f"L=96 (B=2, D=4): {short}: out of memory" in err
    row = json.loads(out)["rows"][0]
    assert row["backend" if short == "triton" else "torch"] is None
    assert main(SMALL) == status
    assert " - " in capsys.readouterr().out or short == "triton"


@pytest.mark.usefixtures("other_backend")
def test_a_gpu_gets_floors_and_memory(capsys, monkeypatch) -> None:
    monkeypatch.setattr(verb.Plan, "on_gpu", property(lambda _plan: True))
    monkeypatch.setattr(verb, "device_name", lambda _device: "toy GPU")
    monkeypatch.setattr(bench, "copy_bandwidth", lambda _device: 2.5e12)
    assert main(SMALL) == 0
    out = capsys.readouterr().out
    for title in ("forward x floor", "fwd+bwd x floor", "memory forward", "memory fwd+bwd"):
        assert title in out
    assert "floor at 3.0 TB/s, this device copies at 2.50 TB/s" in out
    assert main([*SMALL, "--json", "-"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    taken = row["backend"]["forward"]["median_ms"]
    assert row["times_floor"]["forward"] == pytest.approx(taken / row["floor_ms"]["forward"])
    assert row["speed_up"]["forward"] == pytest.approx(row["torch"]["forward"]["median_ms"] / taken)


def test_attention_gives_both_times_and_their_ratio(capsys) -> None:
    assert main(ATTENTION) == 0
    out, err = capsys.readouterr()
    assert "forward ratio" in out
    assert "flash" in out
    assert "correct on torch" in err
    assert main([*ATTENTION, "--json", "-"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert (row["B"], row["D"], row["L"], row["heads"]) == (2, 64, 64, 1)
    times = {part: row["attention"]["flash"][part]["median_ms"] for part in row["ratio"]}
    for part, ratio in row["ratio"].items():
        assert ratio == pytest.approx(times[part] / row["backend"][part]["median_ms"])


def test_attention_without_a_kernel_says_so(capsys, monkeypatch) -> None:
    real = bench.measure_attention
    monkeypatch.setattr(
        bench, "measure_attention", lambda _kernel, *rest, **more: real("cudnn", *rest, **more)
    )
    assert main(ATTENTION) == 1
    out, err = capsys.readouterr()
    assert "cudnn attention is not available on cpu" in err
    assert " - " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lengths", "0"], "'0' is no length"),
        (["--lengths", "1K,,2"], "'' is no length"),
        (["--lengths", "12x"], "'12x' is no length"),
        (["--lengths", "9999M"], "no length"),
        (["--lengths", "-5"], "no length"),
        (["--dtype", "fp8"], "expected bf16, fp16, fp32"),
        (["--device", "tpu"], "'tpu' is unknown"),
        (["--backend", "cuda"], "cuda"),
        (["--backend", "triton"], "triton"),
        (["--repeats", "0"], "repeats"),
        (["--json", "no/such/folder/x.json"], "does not exist"),
        (["--json", "."], "is a folder"),
    ],
)
@pytest.mark.parametrize("name", ["fftconv", "attention"])
def test_mistakes_get_one_sentence(capsys, name: str, arguments: list[str], words: str) -> None:
    assert main(["bench", name, "--device", "cpu", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_must_be_there(capsys) -> None:
    assert main(["bench", "fftconv", "--device", "cuda"]) == 2
    assert "'cuda' is not there" in capsys.readouterr().err


def test_attention_needs_whole_heads(capsys) -> None:
    assert main(["bench", "attention", "--width", "100"]) == 2
    assert "--width 100 is no multiple of 64" in capsys.readouterr().err


def test_an_existing_json_is_kept_without_force(capsys, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text("mine")
    assert main([*SMALL, "--json", str(path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main([*SMALL, "--json", str(path), "--force"]) == 0
    assert json.loads(path.read_text())["benchmark"] == "fftconv"


@pytest.mark.parametrize("name", ["fftconv", "attention"])
def test_help_teaches_by_example(capsys, name: str) -> None:
    assert main(["bench", name, "--help"]) == 0
    assert f"  hyenadna bench {name} --" in capsys.readouterr().out


STEP = ["bench", "step", "--device", "cpu", "--models", "tiny-1k", "--batch", "1", "--length", "40", "--repeats", "1"]  # fmt: skip


def test_step_prints_rates_and_writes_json(capsys, tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    assert main([*STEP, "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "tiny-1k: correct" in err
    assert "forward tokens/s" in out
    assert "x f+b" in out
    found = json.loads(path.read_text())
    (row,) = found["rows"]
    assert (row["model"], row["B"], row["L"], row["correct"]) == ("tiny-1k", 1, 40, True)
    assert all(row["milliseconds"][part] > 0 for part in ("forward", "forward_backward", "step"))
    assert all(ms > 0 for ms in row["reference"]["milliseconds"].values())
    assert found["hardware"]["cpu"]


def test_step_in_bfloat16_without_the_reference(capsys) -> None:
    assert main([*STEP, "--dtype", "bf16", "--no-reference"]) == 0
    out, _ = capsys.readouterr()
    assert "bfloat16, CPU; median of 1" in out
    assert "reference" not in out


def test_step_gives_a_wrong_model_no_speed(capsys, monkeypatch) -> None:
    monkeypatch.setattr(
        "hyenadna.models.hyena.short_conv",
        lambda x, w, b, ahead: short_conv(x, w.flip(-1), b, ahead=ahead),
    )
    monkeypatch.setattr(
        "hyenadna.training.step_benchmark.measure_step", lambda *_, **__: pytest.fail("was timed")
    )
    assert main(STEP) == 1
    out, err = capsys.readouterr()
    assert "WRONG, no speed is reported" in err
    assert "tiny-1k" in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--models", "huge"], "no model size 'huge'"),
        (["--models", "tiny-1k", "--length", "2000"], "beyond the 1,024 tokens of tiny-1k"),
        (["--dtype", "fp8"], "--dtype 'fp8' is unknown; expected bf16 or fp32"),
        (["--models", ""], "no model size ''"),
        (["--dtype", ""], "--dtype '' is unknown"),
    ],
)
def test_step_refuses_impossible_settings(capsys, words: list[str], sentence: str) -> None:
    assert main(["bench", "step", "--device", "cpu", *words]) == 2
    assert sentence in capsys.readouterr().err


LOADER = ["bench", "loader", "--device", "cpu", "--lengths", "1K", "--tokens", "8192", "--steps", "12"]  # fmt: skip


def test_loader_prints_rates_and_writes_json(capsys, tmp_path: Path) -> None:
    path = tmp_path / "loader.json"
    assert main([*LOADER, "--workers", "0,1", "--json", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "windows are the genome's bases" in err
    assert "Mbase/s" in out
    rows = json.loads(path.read_text())["rows"]
    assert [(row["L"], row["B"], row["workers"], row["steps"]) for row in rows] == [(1024, 8, 0, 11), (1024, 8, 1, 11)]  # fmt: skip
    assert all(row["bases_per_s"] > 0 for row in rows)


def test_loader_gives_wrong_windows_no_speed(capsys, monkeypatch) -> None:
    monkeypatch.setattr("hyenadna.training.loader_benchmark.reverse_complement", lambda text: text)
    assert main(LOADER) == 2
    out, err = capsys.readouterr()
    assert "is not the bases of" in err
    assert "Mbase/s" not in out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--workers", "many"], "--workers 'many' is no list of numbers"),
        (["--workers", "-1"], "is no list of numbers"),
        (["--lengths", "1G"], "is no length"),
        (["-f", "none.fa"], "none.fa: there is no such file"),
    ],
)
def test_loader_refuses_impossible_settings(capsys, words: list[str], sentence: str) -> None:
    assert main([*LOADER, *words]) == 2
    assert sentence in capsys.readouterr().err
