"""``hyenadna datasets list``, ``show``, ``fetch`` and ``verify`` as a user meets them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hyenadna.cli import main
from hyenadna.data import manifest
from hyenadna.resources import dataset_dir

TRAIN, TEST = b"sequence,label\nACGT,0\n", b"sequence,label\nTTTT,1\n"


@pytest.fixture
def toy(tmp_path: Path, web, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set 'toy' of the package, on the test's web server; returns the folder to fetch to."""
    package = tmp_path / "datasets"
    (package / "toy").mkdir(parents=True)
    (package / "toy/README.md").write_text("# Toy\n")
    (package / "toy/dataset.yaml").write_text(
        "name: toy\ntitle: A toy\nhomepage: https://example.org\nlicence: CC0\ncitation: Nobody (2024)\n"
        f"base: {web.url}/\nfiles:\n"
        f"  - {{path: train.csv, sha256: {hashlib.sha256(TRAIN).hexdigest()}, size: {len(TRAIN)}}}\n"
        "  - {path: test.csv}\n"
        "tasks:\n  - {name: toy, classes: 2, metric: mcc, length: 4, varies: true}\n"
    )
    (package / "scerevisiae").symlink_to(dataset_dir() / "scerevisiae")
    monkeypatch.setattr(manifest, "dataset_dir", lambda: package)
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HYENADNA_MIRROR", raising=False)
    web.serve("/train.csv", TRAIN)
    web.serve("/test.csv", TEST)
    return tmp_path / "out"


def refused(arguments: list[str], capsys) -> str:
    """Run a command that must be refused in one sentence, and return it."""
    assert main(["datasets", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


def test_list_shows_bundled_and_remote(toy: Path, capsys) -> None:
    assert main(["datasets", "list"]) == 0
    out = capsys.readouterr().out
    assert "scerevisiae\tbundled\t" in out
    assert "toy\tremote\tA toy\n" in out
    assert main(["datasets", "fetch", "toy", "-q"]) == 0
    capsys.readouterr()
    main(["datasets", "list"])
    assert "toy\tfetched\tA toy\n" in capsys.readouterr().out


def test_show_tells_everything(toy: Path, capsys, web) -> None:
    assert main(["datasets", "show", "toy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "licence\tCC0" in lines
    assert "task\ttoy\t4 bases (median)\t2 classes\tmcc" in lines
    digest = hashlib.sha256(TRAIN).hexdigest()
    assert f"file\ttrain.csv\t22 bytes\tsha256 {digest}\t{web.url}/train.csv" in lines
    assert f"file\ttest.csv\tsize unknown\tno checksum\t{web.url}/test.csv" in lines
    assert main(["datasets", "show", "toy", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["files"][0]["sha256"] == digest
    assert content["tasks"][0]["metric"] == "mcc"
    assert main(["datasets", "show", "scerevisiae", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["genome"] == "genome.2bit"


def test_show_tells_what_was_published(toy: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = manifest.dataset_dir() / "toy"
    text = (
        "sources:\n  - {name: one, paper: Somebody (2024), table: Table 1, url: 'https://example.org/1', split: official test,\n"
        "     protocol: as it was, spread: sd}\n"
        "results:\n  - {model: CNN, source: one, values: {toy: 12.50}, spread: {toy: 0.5}}\n"
        "  - {model: GPT, source: one, values: {toy: 70}, spread: {toy: 1}}\n"
    )
    (folder / "published.yaml").write_text(text)
    assert main(["datasets", "show", "toy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "published\ttoy\tmcc x 100\tone\tCNN 12.5 ± 0.5\tGPT 70 ± 1" in lines
    source = "source\tone\tSomebody (2024), Table 1\thttps://example.org/1\tofficial test\tas it was\t±: sd"
    assert source in lines
    assert main(["datasets", "show", "toy", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["published"]
    assert (first["value"], first["source"]["name"], second["model"]) == (12.5, "one", "GPT")
    (folder / "published.yaml").write_text(text.replace("toy: 70", "tor: 70"))
    assert "'GPT' in 'one' names the task 'tor'" in refused(["show", "toy"], capsys)


def test_fetch_prints_the_folder_and_says_what_is_verified(toy: Path, capsys) -> None:
    assert main(["datasets", "fetch", "toy", "-o", str(toy)]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{toy}\n"
    assert "fetching toy/train.csv\n" in captured.err
    assert "2 of 2 files fetched, 1 verified against published checksums" in captured.err
    assert "1 not verified, as no checksum is published" in captured.err
    assert (toy / "test.csv").read_bytes() == TEST
    assert main(["datasets", "fetch", "toy", "-o", str(toy), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"{toy}\n", "")


def test_fetch_goes_to_the_cache_unless_told(toy: Path, tmp_path: Path, capsys) -> None:
    assert "not in" in refused(["verify", "toy"], capsys)
    assert main(["datasets", "fetch", "toy", "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/cache/datasets/toy\n"
    assert main(["datasets", "verify", "toy"]) == 0
    assert capsys.readouterr().out == (
        "toy: 1 verified against published checksums, 1 unchanged since they were fetched (no checksum is published)\n"
    )


@pytest.mark.parametrize("how", ["option", "variable"])
def test_fetch_from_a_mirror(
    toy: Path, tmp_path: Path, capsys, web, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "mirror/toy").mkdir(parents=True)
    (tmp_path / "mirror/toy/train.csv").write_bytes(TRAIN)
    (tmp_path / "mirror/toy/test.csv").write_bytes(TEST)
    if how == "variable":
        monkeypatch.setenv("HYENADNA_MIRROR", str(tmp_path / "mirror"))
    options = ["--mirror", str(tmp_path / "mirror")] if how == "option" else []
    assert main(["datasets", "fetch", "toy", "-o", str(toy), *options]) == 0
    assert web.seen == []
    assert (toy / "train.csv").read_bytes() == TRAIN
    assert "no folder" in refused(["fetch", "toy", "--mirror", str(tmp_path / "none")], capsys)


def test_fetch_takes_a_manifest_of_the_users(toy: Path, tmp_path: Path, capsys) -> None:
    own = tmp_path / "datasets/toy/dataset.yaml"
    assert main(["datasets", "fetch", str(own), "-o", str(toy), "-q"]) == 0
    assert main(["datasets", "verify", str(toy)]) == 0


def test_fetch_refuses_in_one_sentence(toy: Path, capsys, web) -> None:
    assert "did you mean 'toy'" in refused(["fetch", "tOy"], capsys)
    assert "bundled:scerevisiae/genome.2bit" in refused(["fetch", "scerevisiae"], capsys)
    web.serve("/train.csv", b"Xequence,label\nACGT,0\n")
    message = refused(["fetch", "toy", "-o", str(toy)], capsys)
    assert f"{web.url}/train.csv holds other bytes" in message
    assert hashlib.sha256(TRAIN).hexdigest() in message
    assert not (toy / "train.csv").exists()
    del web.pages["/train.csv"]
    assert "404" in refused(["fetch", "toy", "-o", str(toy)], capsys)


def test_verify_finds_damage(toy: Path, capsys) -> None:
    main(["datasets", "fetch", "toy", "-o", str(toy), "-q"])
    assert main(["datasets", "verify", str(toy)]) == 0
    (toy / "test.csv").write_bytes(b"changed")
    (toy / "train.csv").unlink()
    message = refused(["verify", str(toy)], capsys)
    assert "train.csv missing, test.csv damaged" in message
    assert f"hyenadna datasets fetch toy --output {toy} --force" in message
    assert main(["datasets", "verify", "scerevisiae"]) == 0
    assert capsys.readouterr().out.endswith("scerevisiae: verified\n")
    assert "no data set is called" in refused(["verify", "nothing"], capsys)


def test_verify_wants_something_that_was_fetched(toy: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "datasets/toy"
    assert "nothing was fetched" in refused(["verify", str(folder)], capsys)
    (folder / "SHA256SUMS").write_text("nonsense\n")
    assert "SHA256SUMS:1" in refused(["verify", str(folder)], capsys)
