"""``--report`` of score, vep and ism: pages that a browser shows without a complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.cli import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)  # fmt: skip
HOSTILE = "x<script>alert(1)</script><img/src=x/onerror=alert(2)>$\\frac{1}$"
# Put into a copy without the policy: it says how large the pictures came out.
PROBE = (
    "<script>addEventListener('load', () => { document.body.dataset.sizes = "
    "[...document.images].map(i => i.naturalWidth + 'x' + i.naturalHeight).join(' ') })</script>"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("report") / "model"
    HyenaForCausalLM(HyenaConfig(d_model=8, n_layers=1, max_seq_len=66)).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def commands(model: str, toy_fasta: Path, tmp_path: Path) -> dict[str, list[str]]:
    """A command of each kind, less its --report."""
    (tmp_path / "x.bed").write_text(f"chrA\t0\t90\t{HOSTILE}\t.\t+\nchrB\t5\t80\tb\t.\t-\n")
    info = HOSTILE.replace("=", "-").replace(";", "")
    (tmp_path / "x.vcf").write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=chrA>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"chrA\t11\t.\tA\tC,<DEL>\t.\t.\tCLNSIG={info}\n"
    )
    use = ["-q", "-m", model, "-f", str(toy_fasta)]
    return {
        "score": ["score", *use, "-b", str(tmp_path / "x.bed"), "-o", str(tmp_path / "s.tsv")],
        "tracks": ["score", *use, "--per-base", str(tmp_path / "t.bedGraph"), "--rc"],
        "vep": ["vep", *use, "-i", str(tmp_path / "x.vcf"), "-o", str(tmp_path / "o.vcf")],
        "ism": ["ism", *use, "-r", "chrA:101-175", "-o", str(tmp_path / "i.tsv"), "--deletions"],
    }  # fmt: skip


def _browse(page: Path) -> tuple[str, list[str]]:
    """Return the page as the browser has it, and what it complained about."""
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--dump-dom",
            f"--user-data-dir={page.parent / 'browser'}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def _sizes(page: Path) -> list[tuple[int, ...]]:
    """Return width and height of each picture, in pixels."""
    text = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = page.with_name(f"probed-{page.name}")
    copy.write_text(text.replace("</head>", f"{PROBE}</head>"))
    found = re.search('data-sizes="([^"]*)"', _browse(copy)[0])
    assert found
    return [tuple(map(int, size.split("x"))) for size in found[1].split()]


needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium executable here: pages are not looked at")  # fmt: skip


@needs_browser
@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        ("score", "Sequence scores"),
        ("tracks", "Scores along a genome"),
        ("vep", "Variant effects"),
        ("ism", "Saturation mutagenesis"),
    ],
)
def test_browser_shows_the_report(
    commands: dict[str, list[str]], tmp_path: Path, kind: str, heading: str
) -> None:
    page = tmp_path / "report.html"
    assert main([*commands[kind], "--report", str(page)]) == 0
    dom, complaints = _browse(page)
    assert not complaints
    assert f"<h1>{heading}</h1>" in dom
    assert "weights_sha256" in dom
    assert "<script" not in dom
    sizes = _sizes(page)
    assert len(sizes) == dom.count("<img ")
    assert sizes
    assert all(min(size) > 100 for size in sizes)


@needs_browser
def test_browser_complains_of_a_page_that_is_not_right(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    assert main([*commands["score"], "--report", str(page)]) == 0
    good = page.read_text()
    page.write_text(good.replace("<main>", "<main><script>alert(1)</script>"))
    assert "Content Security Policy" in " ".join(_browse(page)[1])
    page.write_text(good.replace("<main>", '<main><img src="http://127.0.0.1:9/x.png">'))
    assert "Content Security Policy" in " ".join(_browse(page)[1])
    page.write_text(re.sub("base64,.{40}", "base64,", good))
    assert (0, 0) in _sizes(page)


def test_hostile_names_are_text(commands: dict[str, list[str]], tmp_path: Path) -> None:
    for kind in ("score", "vep"):
        page = tmp_path / f"{kind}.html"
        assert main([*commands[kind], "--report", str(page)]) == 0
        text = page.read_text()
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)" in text


def test_output_is_the_same_with_a_report(
    commands: dict[str, list[str]], tmp_path: Path
) -> None:  # fmt: skip
    for kind, name in (("score", "s.tsv"), ("ism", "i.tsv")):
        out = tmp_path / name
        assert main(commands[kind]) == 0
        alone = out.read_bytes()
        assert main([*commands[kind], "--force", "--report", str(tmp_path / f"{kind}.html")]) == 0
        assert out.read_bytes() == alone


@pytest.mark.parametrize("kind", ["score", "tracks", "vep", "ism"])
def test_report_that_cannot_be_written_stops_the_run_before_it_begins(
    commands: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "old.html").write_text("old")
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    for name, said in (
        ("old.html", "exists already"),
        ("x.pdf", "ends with .html"),
        ("no/x.html", "does not exist"),
    ):
        assert main([*commands[kind], "--report", str(tmp_path / name)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_class_is_about_reports(
    commands: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*commands["vep"], "--class", "CLNSIG"]) == 2
    assert "name one with --report" in capsys.readouterr().err
