"""A data set's files into a folder, and what can be said of them afterwards."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hyenadna.data.fetch import default_folder, fetch_dataset, verify_dataset
from hyenadna.data.manifest import RemoteDataset, read_manifest
from hyenadna.errors import DownloadError, FileFormatError, OutputError

SEQUENCES = b"sequence,label\nACGT,0\n"
GENOME = b">chr1\nACGT\n"


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


@pytest.fixture
def toy(tmp_path: Path, web) -> RemoteDataset:
    """Three files: one with a published checksum, one without, one archive."""
    packed = zipped({"toy/a.txt": b"AC", "toy/deep/b.txt": b"GT"})
    for name, body in (("genome.fa", GENOME), ("train.csv", SEQUENCES), ("more.zip", packed)):
        web.serve(f"/toy/{name}", body)
    folder = tmp_path / "manifests/toy"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# Toy\n")
    (folder / "dataset.yaml").write_text(
        "name: toy\ntitle: A toy\nhomepage: none\nlicence: none\ncitation: none\n"
        f"base: {web.url}/toy/\nfiles:\n"
        f"  - {{path: genome.fa, sha256: {hashlib.sha256(GENOME).hexdigest()}}}\n"
        "  - {path: task/train.csv, url: train.csv}\n"
        "  - {path: more.zip, unpack: zip}\n"
    )
    dataset = read_manifest(folder / "dataset.yaml")
    assert isinstance(dataset, RemoteDataset)
    return dataset


def states(dataset: RemoteDataset, folder: Path) -> list[str]:
    return [state.state for state in verify_dataset(dataset, folder)]


def test_fetch_says_what_is_verified_and_what_is_only_recorded(
    toy: RemoteDataset, tmp_path: Path, web
) -> None:
    folder = tmp_path / "out"
    assert states(toy, folder) == ["missing"] * 3
    first = fetch_dataset(toy, folder)
    assert [(s.state, s.fetched) for s in first] == [
        ("verified", True), ("unchanged", True), ("unchanged", True),
    ]  # fmt: skip
    assert (folder / "genome.fa").read_bytes() == GENOME
    assert (folder / "task/train.csv").read_bytes() == SEQUENCES
    assert (folder / "more/deep/b.txt").read_bytes() == b"GT"
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "README.md", "SHA256SUMS", "dataset.yaml", "genome.fa", "more", "task",
    ]  # fmt: skip
    assert read_manifest(folder / "dataset.yaml")._replace(folder=toy.folder) == toy
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    assert states(toy, folder) == ["verified", "unchanged", "unchanged"]
    # Again: nothing is asked for.
    requests = len(web.seen)
    assert [s.fetched for s in fetch_dataset(toy, folder)] == [False] * 3
    assert len(web.seen) == requests


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("genome.fa", ["damaged", "unchanged", "unchanged"]),
        ("task/train.csv", ["verified", "damaged", "unchanged"]),
        ("more/a.txt", ["verified", "unchanged", "damaged"]),
    ],
)
def test_damage_is_found_and_mended_by_force(
    toy: RemoteDataset, tmp_path: Path, name: str, after: list[str]
) -> None:
    folder = tmp_path / "out"
    fetch_dataset(toy, folder)
    (folder / name).write_bytes(b"damaged")
    assert states(toy, folder) == after
    with pytest.raises(OutputError, match="is not what belongs there.*--force"):
        fetch_dataset(toy, folder)
    assert (folder / name).read_bytes() == b"damaged"
    fetch_dataset(toy, folder, force=True)
    assert states(toy, folder) == ["verified", "unchanged", "unchanged"]
    (folder / name).unlink()
    assert "verified" not in states(toy, folder)[after.index("damaged")]


def test_a_file_of_unknown_origin_is_not_taken_over(toy: RemoteDataset, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "task").mkdir(parents=True)
    (folder / "task/train.csv").write_bytes(SEQUENCES)  # right, but nothing says so
    (folder / "README.md").write_text("mine")
    with pytest.raises(OutputError, match=r"task/train\.csv exists"):
        fetch_dataset(toy, folder)
    assert (folder / "README.md").read_text() == "mine"


def test_what_failed_is_continued(toy: RemoteDataset, tmp_path: Path, web) -> None:
    folder = tmp_path / "out"
    page = web.pages.pop("/toy/train.csv")
    with pytest.raises(DownloadError, match="404"):
        fetch_dataset(toy, folder)
    assert states(toy, folder) == ["verified", "missing", "missing"]
    web.pages["/toy/train.csv"] = page
    web.seen.clear()
    fetch_dataset(toy, folder)
    assert [path for path, _ in web.seen] == ["/toy/train.csv", "/toy/more.zip"]


def test_an_interrupted_fetch_leaves_a_part_and_is_continued(
    toy: RemoteDataset, tmp_path: Path, web
) -> None:
    folder = tmp_path / "out"
    web.pages["/toy/train.csv"].cuts = [5]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_dataset(toy, folder, sleep=interrupt)
    assert {path.name for path in (folder / "task").iterdir()} == {
        "train.csv.part", "train.csv.part.json",
    }  # fmt: skip
    fetch_dataset(toy, folder)
    assert "bytes=5-" in web.asked("Range")
    assert states(toy, folder) == ["verified", "unchanged", "unchanged"]
    assert {path.name for path in (folder / "task").iterdir()} == {"train.csv"}


def test_a_mirror_goes_before_the_web(toy: RemoteDataset, tmp_path: Path, web) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "toy/task").mkdir(parents=True)
    (mirror / "toy/genome.fa").write_bytes(GENOME)
    (mirror / "toy/task/train.csv").write_bytes(b"another copy")
    fetched = fetch_dataset(toy, tmp_path / "out", mirror=mirror)
    assert [s.state for s in fetched] == ["verified", "unchanged", "unchanged"]
    assert [path for path, _ in web.seen] == ["/toy/more.zip"]
    assert (tmp_path / "out/task/train.csv").read_bytes() == b"another copy"
    (mirror / "toy/genome.fa").write_bytes(b"wrong")
    with pytest.raises(DownloadError, match="mirror"):
        fetch_dataset(toy, tmp_path / "other", mirror=mirror)
    assert not (tmp_path / "other/genome.fa").exists()


def test_unsafe_archives_leave_nothing(toy: RemoteDataset, tmp_path: Path, web) -> None:
    web.serve("/toy/more.zip", zipped({"a.txt": b"AC", "../../evil.txt": b"evil"}))
    folder = tmp_path / "out"
    with pytest.raises(FileFormatError, match=r"/toy/more\.zip is refused: .*evil"):
        fetch_dataset(toy, folder)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name or "more" in path.name]


def test_a_folder_holds_one_data_set(toy: RemoteDataset, tmp_path: Path) -> None:
    fetch_dataset(toy, tmp_path / "out")
    with pytest.raises(OutputError, match="holds the data set 'toy' already"):
        fetch_dataset(toy._replace(name="another"), tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "odd/genome.fa").mkdir(parents=True)
    (tmp_path / "half").mkdir()
    (tmp_path / "half/task").write_text("in the way")
    for name in ("odd", "half"):
        with pytest.raises(
            OutputError, match=f"{name}.*(not what belongs there|cannot be written)"
        ):
            fetch_dataset(toy, tmp_path / name)
    with pytest.raises(OutputError, match="cannot be written"):
        fetch_dataset(toy, tmp_path / "file")


def test_two_processes_do_not_disturb_each_other(toy: RemoteDataset, tmp_path: Path, web) -> None:
    code = (
        "import sys; from pathlib import Path; from hyenadna.data.fetch import fetch_dataset;"
        "from hyenadna.data.manifest import read_manifest;"
        "print(*[s.fetched for s in fetch_dataset(read_manifest(sys.argv[1]), Path(sys.argv[2]))])"
    )
    command = [sys.executable, "-c", code, str(toy.folder / "dataset.yaml"), str(tmp_path / "out")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate()[0].strip() for process in both)
    assert said == ["False False False", "True True True"]
    assert len(web.seen) == 3
    assert states(toy, tmp_path / "out") == ["verified", "unchanged", "unchanged"]


def test_a_finished_folder_may_be_read_only(
    toy: RemoteDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    fetch_dataset(toy, folder)

    def read_only(*_args: object, **_kwargs: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    assert [s.fetched for s in fetch_dataset(toy, folder)] == [False] * 3
    with pytest.raises(OutputError, match="Read-only file system"):
        fetch_dataset(toy, folder, force=True)


def test_the_cache_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path))
    assert default_folder("gue") == tmp_path / "datasets/gue"
