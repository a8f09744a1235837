"""FASTA to .2bit: the same bases as the streaming reader's, the same refusals, and a cache that is never stale."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from hyenadna.data import packing
from hyenadna.data.genome import Genome, pack
from hyenadna.errors import FileFormatError, HyenaDNAError, OutputError, SequenceError
from hyenadna.io.fasta import read_fasta
from hyenadna.sequence import Interval

FASTA = ">a first\nACGTN\nacg t\n\nRYu\n>b\nGG\n"
LETTERS = {"a": "ACGTNacgtNNt", "b": "GG"}


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str | bytes, name: str = "x.fa") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def letters(path: Path) -> dict[str, str]:
    genome = Genome(path)
    return {name: genome.sequence(Interval(name, 0, size)) for name, size in genome.contigs.items()}


@pytest.mark.parametrize(
    "text",
    [
        FASTA,
        FASTA.replace("\n", "\r\n"),
        FASTA.replace("\n", "\r"),
        FASTA.rstrip("\n"),
        "\n\n; an old comment\n" + FASTA,
        "\ufeff" + FASTA,
        FASTA.replace(">b", "> b"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 20])
def test_layout_of_the_text_does_not_matter(
    write, tmp_path: Path, text: str, block: int, monkeypatch
) -> None:
    if text.startswith("\ufeff") or "\n" not in text:
        block = max(block, 16)  # byte-order mark and bare returns are told by the first block
    monkeypatch.setattr(packing, "_BLOCK", block)
    summary = pack(write(text), tmp_path / "x.2bit")
    assert letters(tmp_path / "x.2bit") == LETTERS
    assert summary == (2, 14, 3, 5, 2)


@pytest.mark.parametrize(
    "compress", [gzip.compress, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])]
)
def test_gzip_members_are_read_to_the_last(write, tmp_path: Path, compress) -> None:
    pack(write(compress(FASTA.encode()), "x.fa.gz"), tmp_path / "x.2bit")
    assert letters(tmp_path / "x.2bit") == LETTERS


def test_standard_input_is_packed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(FASTA.encode())))
    pack("-", tmp_path / "x.2bit")
    assert letters(tmp_path / "x.2bit") == LETTERS


def test_progress_counts_every_base(write, tmp_path: Path) -> None:
    seen: list[int] = []
    pack(write(FASTA), tmp_path / "x.2bit", progress=seen.append)
    assert sum(seen) == 14


BAD = {
    "protein": ">p\nMKVLE\n",
    "late protein": ">a\nACGT\nACGT\n>p\nACGT\nACEF\n",
    "gap": ">a\nAC-GT\n",
    "not ASCII": ">a\nACGÅ\n",
    "text first": "ACGT\n>a\nACGT\n",
    "text after blank": "\n\nACGT\n",
    "fastq": "@r\nACGT\n+\nIIII\n",
    "no name": ">\nACGT\n",
    "repeated": ">a\nACGT\n>b x\nA\n>a y\nACGT\n",
    "no bases": ">a\n>b\nACGT\n",
    "no bases at the end": ">a\nACGT\n>b\n",
    "only a header": ">a",
    "only blank": "\n\n\n",
    "only a comment": "; nothing\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_refuses_what_the_streaming_reader_refuses_in_the_same_words(
    write, tmp_path: Path, kind: str
) -> None:
    path = write(BAD[kind])
    with pytest.raises(HyenaDNAError) as expected:
        list(read_fasta(path))
    with pytest.raises(HyenaDNAError) as found:
        pack(path, tmp_path / "x.2bit")
    assert type(found.value) is type(expected.value)
    assert str(found.value) == str(expected.value)
    if isinstance(found.value, SequenceError):
        assert found.value.position == expected.value.position
        assert found.value.character == expected.value.character
    assert [file.name for file in tmp_path.iterdir()] == ["x.fa"]


def test_truncated_and_foreign_compression_leave_no_file(write, tmp_path: Path) -> None:
    data = gzip.compress(
        os.urandom(2000).hex().translate(str.maketrans("0123456789abcdef", "ACGT" * 4)).encode()
    )
    for content, words in (
        (data[:-500], "truncated|too early"),
        (data[:100] + b"\xff" * 50 + data[150:], "damaged|expected a header"),
        (b"BZh91AY&SY" + data, "bzip2"),
        (b"", "empty"),
        (b"\x1f\x8b", "too early|truncated|damaged"),
    ):
        path = write(content, "x.fa.gz")
        with pytest.raises(FileFormatError, match=words):
            pack(path, tmp_path / "x.2bit")
        assert [file.name for file in tmp_path.iterdir()] == ["x.fa.gz"]


def test_endless_header_is_refused(write, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 16)
    monkeypatch.setattr(packing, "_LONGEST_HEADER", 64)
    with pytest.raises(FileFormatError, match="no line end"):
        pack(write(">" + "x" * 200), tmp_path / "x.2bit")


def test_outputs_that_cannot_be_written_are_refused(write, tmp_path: Path) -> None:
    source, target = write(FASTA), tmp_path / "x.2bit"
    target.write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        pack(source, target)
    assert target.read_text() == "precious"
    pack(source, target, force=True)
    assert letters(target) == LETTERS
    for bad, words in (
        (source, "input itself"),
        (tmp_path / "none" / "x.2bit", "does not exist"),
        (tmp_path, "folder"),
        ("-", "standard output"),
        ("/proc/x.2bit", "cannot be"),
    ):
        with pytest.raises(OutputError, match=words):
            pack(source, bad, force=True)
    assert source.read_text() == FASTA
    with pytest.raises(FileFormatError, match="already"):
        pack(target, tmp_path / "y.2bit")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_full_disk_is_one_sentence(write) -> None:
    with pytest.raises(OutputError, match="no space"):
        pack(write(FASTA), "/dev/full", force=True)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "genomes"


def test_second_opening_packs_nothing(write, cache: Path, monkeypatch) -> None:
    path = write(FASTA)
    first = Genome.open(path)
    monkeypatch.setattr(packing, "_pack", lambda *a, **k: pytest.fail("packed again"))
    assert Genome.open(path).path == first.path
    assert first.path.parent == cache
    assert not list(path.parent.glob("x.fa?*"))  # nothing is written beside the user's file


def test_changed_source_is_packed_again_and_the_old_form_removed(write, cache: Path) -> None:
    path = write(FASTA)
    before = path.stat()
    old = Genome.open(path)
    # Same size, and the modification time put back: only the change time tells.
    path.write_text(FASTA.replace("ACGTN", "TTTTN"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    new = Genome.open(path)
    assert new.sequence(Interval("a", 0, 5)) == "TTTTN"
    assert old.sequence(Interval("a", 0, 5)) == "ACGTN"  # a genome that is open stays as it was
    assert [file.name for file in cache.glob("*.2bit")] == [new.path.name]


def test_files_of_one_name_do_not_meet(tmp_path: Path, cache: Path) -> None:
    for folder, base in (("one", "A"), ("two", "C")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.fa").write_text(f">a\n{base}\n")
    genomes = [Genome.open(tmp_path / folder / "x.fa") for folder in ("one", "two")]
    assert [genome.sequence(Interval("a", 0, 1)) for genome in genomes] == ["A", "C"]
    assert len(list(cache.glob("*.2bit"))) == 2


def test_damaged_cache_is_made_again(write, cache: Path) -> None:
    path = write(FASTA)
    packed = Genome.open(path).path
    packed.write_bytes(packed.read_bytes()[:-1])
    assert Genome.open(path).sequence(Interval("b", 0, 2)) == "GG"


def test_failed_packing_leaves_the_cache_clean(write, cache: Path) -> None:
    with pytest.raises(SequenceError):
        Genome.open(write(BAD["late protein"]))
    assert [file.suffix for file in cache.iterdir()] in ([".lock"], [])


def test_remains_of_a_killed_process_are_swept(write, cache: Path) -> None:
    path = write(FASTA)
    packed = Genome.open(path).path
    remains = packed.with_name(f".partial-0123abcd-{packed.name[-50:]}")
    other = packed.with_name(".partial-0123abcd-y.fa.000000000000.000000000000.2bit")
    for file in (remains, other):
        file.touch()
    packed.unlink()
    Genome.open(path)
    assert not remains.exists()
    assert other.exists()


def test_source_that_changes_under_our_hands_is_refused(write, cache: Path, monkeypatch) -> None:
    path = write(FASTA)
    original = packing._pack

    def slow(*args, **kwargs):
        result = original(*args, **kwargs)
        path.write_text(">a\nA\n")
        return result

    monkeypatch.setattr(packing, "_pack", slow)
    with pytest.raises(FileFormatError, match="changed while"):
        Genome.open(path)
    assert not list(cache.glob("*.2bit"))


def test_filled_cache_may_be_read_only(write, cache: Path, monkeypatch) -> None:
    path, other = write(FASTA), write(">a\nA\n", "other.fa")
    Genome.open(path)
    import filelock

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        filelock.FileLock, "acquire", refuse
    )  # root, who runs tests, may write anywhere
    assert Genome.open(path).contigs == {"a": 12, "b": 2}
    with pytest.raises(OutputError, match="HYENADNA_CACHE"):
        Genome.open(other)


def _open_and_report(path: Path, report: multiprocessing.SimpleQueue[tuple[str, int]]) -> None:
    packed: list[int] = []
    original = packing._pack

    def slow(*args, **kwargs):
        packed.append(1)
        time.sleep(0.3)  # long enough for the others to arrive
        return original(*args, **kwargs)

    packing._pack = slow
    genome = Genome.open(path)
    report.put((genome.sequence(Interval("a", 0, 12)), len(packed)))


def test_of_processes_that_open_at_once_one_packs(write, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    path, report = write(FASTA), context.SimpleQueue()
    workers = [context.Process(target=_open_and_report, args=(path, report)) for _ in range(3)]
    for worker in workers:
        worker.start()
    results = [report.get() for _ in workers]
    for worker in workers:
        worker.join()
    assert {text for text, _ in results} == {LETTERS["a"]}
    assert sum(count for _, count in results) == 1
