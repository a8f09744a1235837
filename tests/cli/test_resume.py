"""``--resume`` of score, predict, vep and embed: after kill -9 at any moment, the output is the same to the byte."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM, HyenaForSequenceClassification
from hyenadna.cli import main

pytest.importorskip("pysam", reason="pysam is not installed: vep is left out")

SHARD = 1500  # bases
BLOCK = 100  # bases of tracks
N_RECORDS = 60
# Runs a command in shards of that size, and kills the process without warning at a moment.
CHILD = f"""
import os, signal, sys
import hyenadna.inference.journal as journal, hyenadna.inference.tracks as tracks
journal.shard_bases = lambda device: {SHARD}
tracks._BLOCK = {BLOCK}
moment, number = sys.argv[1], int(sys.argv[2])
sys.argv = ["hyenadna", *sys.argv[3:]]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
calls = dict.fromkeys(("before", "renaming", "after", "output"), 0)
def now(at):
    calls[at] += 1
    if (moment, number) == (at, calls[at]):
        die()
write, replace = journal.Journal.write, os.replace
def written(self, *args):
    now("before")
    write(self, *args)
    now("after")
def replaced(a, b):
    if str(b).endswith((".npz", "manifest.json")) and ".partial/" in str(b):
        now("renaming")
    else:
        now("output")
    replace(a, b)
journal.Journal.write, os.replace = written, replaced
from hyenadna.cli import main
sys.exit(main(sys.argv[1:]))
"""
# Before a shard is kept; when its file (of the first: the manifest's) is to get its name; after it; when the output is complete; when
# one of two is: a track of two, a record, an index.
MOMENTS = [("before", 2), ("renaming", 1), ("renaming", 4), ("after", 5), ("output", 1), ("output", 2)]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    torch.manual_seed(0)
    network = HyenaForCausalLM(
        HyenaConfig(d_model=16, n_layers=1, max_seq_len=130, filter_dim=8, tie_embeddings=False)
    )
    with torch.no_grad():
        network.lm_head.weight.mul_(50)
    network.save_pretrained(folder / "model")
    shape = HyenaConfig(d_model=8, n_layers=1, max_seq_len=300, filter_dim=8, initializer_range=0.3)
    HyenaForSequenceClassification(shape, labels=["a", "b"]).save_pretrained(folder / "classifier")
    rng = random.Random(0)
    genome = {name: "".join(rng.choices("ACGTN", (9, 9, 9, 9, 1), k=4000)) for name in ("chrA", "chrB")}  # fmt: skip
    (folder / "genome.fa").write_text("".join(f">{n}\n{s}\n" for n, s in genome.items()))
    spans = [(rng.choice(["chrA", "chrB"]), s, s + rng.randint(20, 300)) for s in rng.choices(range(3700), k=N_RECORDS)]  # fmt: skip
    (folder / "x.bed").write_text("".join(f"{c}\t{s}\t{e}\tr{i}\t.\t{'+-'[i % 2]}\n" for i, (c, s, e) in enumerate(spans)))  # fmt: skip
    lines = []
    for i in range(200):
        at = 20 * i
        ref = genome["chrA"][at : at + 1 + i % 2]
        alt = ",".join(rng.sample(["A", "C", "G", "T", "AT", "<DEL>"], 1 + i % 3))
        lines.append(f"chrA\t{at + 1}\tv{i}\t{ref}\t{alt if i % 10 else '.'}\t.\t.\tAF=0.5\n")
    head = "##fileformat=VCFv4.2\n##contig=<ID=chrA,length=4000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (folder / "x.vcf").write_text(head + "".join(lines))
    return folder


def _words(files: Path, kind: str, out: Path) -> list[str]:
    use = ["-m", str(files / "model"), "-f", str(files / "genome.fa")]
    regions = [*use, "-b", str(files / "x.bed")]
    return {
        "score": ["score", *regions, "--rc", "-o", str(out / "x.tsv.gz")],
        "predict": ["predict", *regions, "-m", str(files / "classifier"), "--rc", "-o", str(out / "x.csv")],
        "tracks": ["score", *use, "--rc", "--window", "40", "--per-base", str(out / "x.bedGraph"), "--entropy", str(out / "x.bw")],
        "vcf": ["vep", *use, "-i", str(files / "x.vcf"), "-o", str(out / "x.vcf.gz"), "--window", "32"],
        "vep-tsv": ["vep", *use, "-i", str(files / "x.vcf"), "-o", str(out / "x.tsv"), "--window", "32", "--no-rc"],
        "npz": ["embed", *regions, "--strands", "both", "-o", str(out / "x.npz")],
        "bases": ["embed", *regions, "--pooling", "per-base", "-o", str(out / "x.h5")],
        "parquet": ["embed", *regions, "--pooling", "max", "-o", str(out / "x.parquet")],
    }[kind]  # fmt: skip


def _outputs(out: Path) -> dict[str, bytes]:
    """Return all that a run left, but the record, which says how long it took."""
    return {p.name: p.read_bytes() for p in sorted(out.iterdir()) if p.suffix != ".json"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr("hyenadna.inference.journal.shard_bases", lambda device: SHARD)
    monkeypatch.setattr("hyenadna.inference.tracks._BLOCK", BLOCK)

    def here(words: list[str]) -> int:
        monkeypatch.setattr("sys.argv", ["hyenadna", *words])
        return main(words)

    return here


def _killed(words: list[str], moment: str, number: int) -> None:
    command = [sys.executable, "-c", CHILD, moment, str(number), *words]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def _whole(run, words: list[str], out: Path) -> dict[str, bytes]:  # type: ignore[no-untyped-def]
    """Return the outputs of a run that nothing disturbs, and clear them away."""
    assert run(words) == 0
    found = _outputs(out)
    for path in out.iterdir():
        path.unlink()
    return found


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
KINDS = {"tracks": "pyBigWig", "bases": "h5py", "parquet": "pyarrow"}


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        ("score", MOMENTS),
        ("predict", [MOMENTS[3], MOMENTS[5]]),
        ("tracks", [MOMENTS[3], MOMENTS[5]]),
        ("vcf", [MOMENTS[2], MOMENTS[4], MOMENTS[5]]),
        ("vep-tsv", [MOMENTS[3], MOMENTS[5]]),
        ("npz", [MOMENTS[0]]),
        ("bases", [MOMENTS[2]]),
        ("parquet", [MOMENTS[3]]),
    ],
)
def test_killed_run_is_resumed_to_the_byte(  # type: ignore[no-untyped-def]
    files: Path, tmp_path: Path, run, capsys: pytest.CaptureFixture[str], kind: str, moments: list[tuple[str, int]],
) -> None:  # fmt: skip
    if kind in KINDS:
        pytest.importorskip(KINDS[kind], reason=f"{KINDS[kind]} is not installed")
    words = _words(files, kind, tmp_path)
    expected = _whole(run, words, tmp_path)
    assert expected
    for moment, number in moments:
        _killed(words, moment, number)
        left = {p.name for p in tmp_path.iterdir()}
        assert len(left & set(expected)) <= (moment == "output" and kind in ("tracks", "vcf"))
        assert any(name.endswith(".partial") for name in left)
        capsys.readouterr()
        assert run(words) == 2
        error = capsys.readouterr().err
        # Where one of two outputs is there already, it is what is refused first.
        assert ("exists already" if number == 2 and moment == "output" else "with --resume, or start anew with --force") in error  # fmt: skip
        assert error.count("\n") == 1
        assert run([*words, "--resume"]) == 0
        assert ("went on after" in capsys.readouterr().err) == ((moment, number) != ("renaming", 1))
        found = _outputs(tmp_path)
        assert {n: b for n, b in found.items() if not n.startswith(".partial-")} == expected
        # Only what was to be a track's second output or an index may lie there still.
        assert kind in ("tracks", "vcf") or set(found) == set(expected)
        for path in tmp_path.iterdir():
            path.unlink()


def test_resume_without_finished_work_overwrites_nothing(files: Path, tmp_path: Path, run, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def] # fmt: skip
    for kind in ("score", "vcf", "npz"):
        words = _words(files, kind, tmp_path)
        (tmp_path / Path(next(w for w in words if w.startswith(str(tmp_path)))).name).write_text("old")  # fmt: skip
        assert run([*words, "--resume"]) == 2
        assert "exists already" in capsys.readouterr().err
    assert {p.read_text() for p in tmp_path.iterdir()} == {"old"}


def test_run_can_be_killed_again_and_again(files: Path, tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    words = _words(files, "score", tmp_path)
    expected = _whole(run, words, tmp_path)
    for _ in range(3):
        _killed([*words, "--resume"], "after", 1)
    assert len(list((tmp_path / "x.tsv.gz.partial").glob("*.npz"))) == 3
    assert run([*words, "--resume"]) == 0
    assert _outputs(tmp_path) == expected


def test_what_was_kept_is_what_is_written(files: Path, tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    words = _words(files, "npz", tmp_path)
    expected = _whole(run, words, tmp_path)
    _killed(words, "after", 2)
    shard = tmp_path / "x.npz.partial" / "000001.npz"
    with np.load(shard) as found:
        rows, values = found["rows"], found["values"]
    np.savez(shard, rows=rows, values=values + np.float32(1))
    assert run([*words, "--resume"]) == 0
    assert _outputs(tmp_path)["x.npz"] != expected["x.npz"]


def test_killed_from_outside(files: Path, tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    words = _words(files, "vep-tsv", tmp_path)
    expected = _whole(run, words, tmp_path)
    with subprocess.Popen([sys.executable, "-c", CHILD, "never", "0", *words], stderr=subprocess.DEVNULL) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not list(tmp_path.glob("*.partial/000000.npz")):
            time.sleep(0.001)
        process.kill()
        process.wait(timeout=60)
    assert list(tmp_path.glob("*.partial")) or list(tmp_path.glob("x.tsv"))
    assert run([*words, "--resume", "--force"]) == 0
    assert _outputs(tmp_path) == expected


def test_other_settings_model_or_input_are_refused(  # type: ignore[no-untyped-def]
    files: Path, tmp_path: Path, run, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "genome.fa"
    own.write_bytes((files / "genome.fa").read_bytes())
    out = tmp_path / "out"
    out.mkdir()
    words = [w.replace(str(files / "genome.fa"), str(own)) for w in _words(files, "score", out)]
    _killed(words, "after", 2)
    torch.manual_seed(1)
    HyenaForCausalLM(HyenaConfig(d_model=16, n_layers=1, max_seq_len=130)).save_pretrained(tmp_path / "other")  # fmt: skip
    changes = {
        "settings.stride was 65 and is 60": [*words, "--stride", "60"],
        "settings.regions was None and is ['chrA:1-50']": [*words, "-r", "chrA:1-50"],
        "weights_sha256 was": [*words, "-m", str(tmp_path / "other")],
    }
    for said, changed in changes.items():
        capsys.readouterr()
        assert run([*changed, "--resume"]) == 2
        assert said in capsys.readouterr().err
    text = own.read_text()
    own.write_text(text[:-2] + ("C" if text[-2] != "C" else "G") + "\n")
    assert run([*words, "--resume"]) == 2
    error = capsys.readouterr().err
    assert "inputs_sha256.--fasta was" in error
    assert error.count("\n") == 1
    assert [p.name for p in out.iterdir()] == ["x.tsv.gz.partial"]
    assert run([*words, "--force"]) == 0  # starts anew
    assert sorted(p.name for p in out.iterdir()) == ["x.tsv.gz", "x.tsv.gz.json"]


def test_resume_without_anything_to_resume_is_a_run(files: Path, tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    words = _words(files, "npz", tmp_path)
    expected = _whole(run, words, tmp_path)
    assert run([*words, "--resume"]) == 0
    assert _outputs(tmp_path) == expected


@pytest.mark.parametrize("verb", ["score", "vep"])
def test_streams_cannot_be_resumed(  # type: ignore[no-untyped-def]
    files: Path, run, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    given = ["-r", "chrA:1-50"] if verb == "score" else ["--variant", "chrA:1:A>C"]
    words = [verb, "-m", str(files / "model"), "-f", str(files / "genome.fa"), *given, "--resume"]
    assert run(words) == 2
    assert "a stream cannot be read twice" in capsys.readouterr().err


def _several(words: list[str], size: int, moments: dict[int, tuple[str, int]]) -> list[tuple[int, str]]:  # fmt: skip
    """Start a command as torchrun does, and return each process's status and messages."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in range(size):
        moment, number = moments.get(rank, ("never", 0))
        env = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", CHILD, moment, str(number), *words],
                env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.parametrize(
    ("kind", "size"), [("score", 2), ("predict", 2), ("vcf", 3), ("tracks", 2), ("parquet", 2)]
)
def test_processes_share_the_work_and_the_output_is_that_of_one(  # type: ignore[no-untyped-def]
    files: Path, tmp_path: Path, run, kind: str, size: int
) -> None:
    if kind in KINDS:
        pytest.importorskip(KINDS[kind], reason=f"{KINDS[kind]} is not installed")
    words = _words(files, kind, tmp_path)
    expected = _whole(run, words, tmp_path)
    ends = _several(words, size, {})
    assert [status for status, _ in ends] == [0] * size, ends
    assert any(verb in ends[0][1] for verb in ("scored", "embedded", "predicted"))
    assert not any(text for _, text in ends[1:]), ends
    assert _outputs(tmp_path) == expected


def test_process_that_ends_early_ends_all_and_one_can_go_on(  # type: ignore[no-untyped-def]
    files: Path, tmp_path: Path, run
) -> None:
    words = _words(files, "score", tmp_path)
    expected = _whole(run, words, tmp_path)
    ends = _several(words, 2, {1: ("after", 2)})
    assert [status for status, _ in ends] == [2, -signal.SIGKILL]
    assert "another of the 2 processes has ended" in ends[0][1]
    assert "Traceback" not in ends[0][1]
    assert run([*words, "--resume"]) == 0
    assert _outputs(tmp_path) == expected


def test_several_processes_need_files(files: Path) -> None:
    words = ["score", "-m", str(files / "model"), "-f", str(files / "genome.fa"), "-r", "chrA:1-9"]
    for status, text in _several(words, 2, {}):
        assert status == 2
        assert "several processes (WORLD_SIZE) need inputs and an output that are files" in text
