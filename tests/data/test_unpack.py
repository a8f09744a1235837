"""Archives from strangers: what is plain is unpacked, everything else is refused and leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from hyenadna.data import unpack as module
from hyenadna.data.unpack import unpack
from hyenadna.errors import FileFormatError, OutputError

FILES = {"train/a.txt": b"ACGT", "train/b.txt": b"", "test/a.txt": b"TTTT"}


def make_zip(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, body)
    return path


def make_tar(path: Path, files: dict[str, bytes], special: tarfile.TarInfo | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
        if special is not None:
            archive.addfile(special)
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("top", ["", "enclosing/", "./"])
def test_plain_archives_are_unpacked(tmp_path: Path, kind: str, top: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    archive = make(tmp_path / f"x.{kind}", {top + name: body for name, body in FILES.items()})
    made = unpack(archive, tmp_path / "x", kind)
    assert tree(tmp_path / "x") == FILES  # a single enclosing folder is left out
    assert sorted(made) == sorted(tmp_path / "x" / name for name in FILES)
    with pytest.raises(OutputError, match="--force"):
        unpack(archive, tmp_path / "x", kind)
    unpack(archive, tmp_path / "x", kind, force=True)


def test_a_compressed_file_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "x.fa.gz").write_bytes(gzip.compress(b">a\nACGT\n"))
    assert unpack(tmp_path / "x.fa.gz", tmp_path / "x.fa", "gz") == [tmp_path / "x.fa"]
    assert (tmp_path / "x.fa").read_bytes() == b">a\nACGT\n"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    "name",
    ["../out", "a/../../out", "/tmp/out", "a//b", "C:/out", "a\\..\\..\\out", ".."],
)
def test_paths_that_leave_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    archive = make(tmp_path / f"x.{kind}", {**FILES, name: b"evil"})
    with pytest.raises(FileFormatError, match="could leave its folder"):
        unpack(archive, tmp_path / "x", kind)
    assert list(tmp_path.iterdir()) == [archive]
    assert not (tmp_path.parent / "out").exists()


@pytest.mark.parametrize(
    "entry",
    [
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.SYMTYPE, "train/a.txt"),
        special("link", tarfile.LNKTYPE, "../secret"),
        special("device", tarfile.CHRTYPE),
        special("disk", tarfile.BLKTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
    ids=["symlink out", "symlink inside", "hard link", "character device", "block device", "pipe"],
)
def test_links_and_devices_are_refused(tmp_path: Path, entry: tarfile.TarInfo) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", FILES, entry)
    with pytest.raises(FileFormatError, match=f"'{entry.name}', a link or device"):
        unpack(archive, tmp_path / "x", "tar.gz")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_zip_are_refused(tmp_path: Path, kind: int) -> None:
    archive = make_zip(tmp_path / "x.zip", {**FILES, "odd": b"/etc/passwd"}, {"odd": kind | 0o777})
    with pytest.raises(FileFormatError, match="'odd', a link or device"):
        unpack(archive, tmp_path / "x", "zip")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gz"])
def test_bombs_are_refused(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALWAYS_ALLOWED", 3 << 20)
    body = bytes(1 << 22)
    archive = tmp_path / f"x.{kind}"
    if kind == "gz":
        archive.write_bytes(gzip.compress(body))
    else:
        # None is too large alone: the sum is what counts.
        files = {f"{i}.txt": body[: 1 << 20] for i in range(4)}
        (make_zip if kind == "zip" else make_tar)(archive, files)
    with pytest.raises(FileFormatError, match="100 times its size"):
        unpack(archive, tmp_path / "x", kind)
    assert list(tmp_path.iterdir()) == [archive]
    monkeypatch.setattr(module, "_ALWAYS_ALLOWED", 1 << 22)  # the control: the limit was the reason
    unpack(archive, tmp_path / "x", kind)


def test_endless_lists_of_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_ENTRIES", 2)
    archive = make_tar(tmp_path / "x.tar.gz", FILES)
    with pytest.raises(FileFormatError, match="more than 2 files"):
        unpack(archive, tmp_path / "x", "tar.gz")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gz"])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "no archive"])
def test_damaged_archives_are_refused(tmp_path: Path, kind: str, damage: str) -> None:
    archive = tmp_path / f"x.{kind}"
    body = bytes(range(256)) * 40
    if kind == "gz":
        archive.write_bytes(gzip.compress(body))
    else:
        (make_zip if kind == "zip" else make_tar)(archive, {"a/x": body, "b/y": body})
    whole = archive.read_bytes()
    middle = len(whole) // 2
    archive.write_bytes(
        {
            "truncated": whole[:middle],
            "flipped": whole[:60] + bytes(b ^ 255 for b in whole[60:90]) + whole[90:],
            "no archive": b"<html>not found</html>",
        }[damage]
    )
    with pytest.raises(FileFormatError, match=f"no whole {kind} archive"):
        unpack(archive, tmp_path / "x", kind)
    assert list(tmp_path.iterdir()) == [archive]


def test_the_same_path_twice_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        for name in ("a", "a/b"):
            out.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(FileFormatError, match="twice"):
        unpack(archive, tmp_path / "x", "tar.gz")
    assert list(tmp_path.iterdir()) == [archive]
    with pytest.raises(FileFormatError, match="no file"):
        unpack(make_zip(tmp_path / "e.zip", {}), tmp_path / "e", "zip")


def test_encrypted_archives_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a": b"ACGT"})
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(FileFormatError, match="encrypted"):
        unpack(archive, tmp_path / "x", "zip")
