"""The .2bit reader and writer, each against an independent implementation and against damage."""

from __future__ import annotations

import os
import pickle
import random
import struct
import threading
from pathlib import Path

import numpy as np
import py2bit
import pytest

from hyenadna.data.twobit import PackSummary, TwoBitFile, TwoBitWriter, write_twobit
from hyenadna.errors import FileFormatError, OutputError, SequenceError

# One contig: NNACGTacgtnnACGRy (lower case is soft-masked), and one of a single base.
LETTERS = "NNACGTacgtnnACGRy"
SIGNATURE = 0x1A412743


def hand_made(*, order: str = "<", version: int = 0) -> bytes:
    """The file of LETTERS by hand from the format's description, independent of our writer."""
    wide = "Q" if version else "I"
    names = ((b"chrA", 17), (b"b", 1))
    index_size = sum(1 + len(name) + struct.calcsize(wide) for name, _ in names)
    # NNAC GTac gtnn ACGN N with T00 C01 A10 G11 and N as T
    dna = bytes([0b00001001, 0b11001001, 0b11000000, 0b10011100, 0b00000000])
    first = struct.pack(order + "2I", 17, 3) + struct.pack(order + "6I", 0, 10, 15, 2, 2, 2)
    first += struct.pack(order + "I", 2) + struct.pack(order + "4I", 6, 16, 6, 1)
    first += struct.pack(order + "I", 0) + dna
    second = struct.pack(order + "4I", 1, 0, 0, 0) + bytes([0b11000000])
    start = 16 + index_size
    head = struct.pack(order + "4I", SIGNATURE, version, 2, 0)
    for (name, _), offset in zip(names, (start, start + len(first)), strict=True):
        head += bytes([len(name)]) + name + struct.pack(order + wide, offset)
    return head + first + second


@pytest.fixture
def make(tmp_path: Path):
    def write(content: bytes, name: str = "x.2bit") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [0, 1])
def test_reads_both_byte_orders_and_versions(make, order: str, version: int) -> None:
    file = TwoBitFile(make(hand_made(order=order, version=version)))
    assert file.contigs == {"chrA": 17, "b": 1}
    assert file.n_runs("chrA").tolist() == [[0, 2], [10, 12], [15, 17]]
    assert file.mask_runs("chrA").tolist() == [[6, 12], [16, 17]]
    assert file.packed("chrA").tolist() == [0b00001001, 0b11001001, 0b11000000, 0b10011100, 0]
    assert file.n_runs("b").shape == file.mask_runs("b").shape == (0, 2)


@pytest.mark.parametrize("version", [0, 1])
def test_writes_what_the_format_describes(tmp_path: Path, version: int) -> None:
    path = tmp_path / "x.2bit"
    summary = write_twobit([("chrA", LETTERS), ("b", b"G")], path, version=version)
    assert path.read_bytes() == hand_made(version=version)
    assert summary == PackSummary(contigs=2, bases=18, n_bases=6, soft_masked=7, ambiguous=2)


def random_letters(rng: random.Random, length: int) -> str:
    """Letters with runs of N and of lower case, often at the edges."""
    text = "".join(
        rng.choice(["ACGT", "acgt", "N", "n"][kind])
        for kind in (rng.choice([0, 0, 0, 1, 2, 3]) for _ in range((length + 2) // 3))
        for _ in range(3)
    )
    return text[:length]


def test_py2bit_reads_our_files(tmp_path: Path) -> None:
    rng = random.Random(1)
    records = {f"c{n}": random_letters(rng, n) for n in (1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097)}
    path = tmp_path / "ours.2bit"
    write_twobit(records.items(), path)
    other = py2bit.open(str(path), True)
    assert other.chroms() == {name: len(text) for name, text in records.items()}
    for name, text in records.items():
        assert other.sequence(name) == text.replace("n", "N")  # py2bit shows no case at N
        runs = TwoBitFile(path).mask_runs(name).tolist()
        assert [list(pair) for pair in other.softMaskedBlocks(name)] == runs
        assert [list(pair) for pair in other.hardMaskedBlocks(name)] == TwoBitFile(path).n_runs(
            name
        ).tolist()
    assert other.info()["sequence length"] == sum(map(len, records.values()))


def test_py2bit_agrees_on_a_file_that_neither_of_us_wrote(make) -> None:
    path = make(hand_made())  # in the one byte order and version that py2bit reads
    other = py2bit.open(str(path), True)
    assert other.chroms() == TwoBitFile(path).contigs
    assert other.sequence("chrA") == "NNACGTacgtNNACGNN"


def test_pieces_of_any_size_give_the_same_file(tmp_path: Path) -> None:
    from hyenadna.data.twobit import LETTER_TABLE

    text = random_letters(random.Random(2), 997)
    whole = tmp_path / "whole.2bit"
    write_twobit([("a", text), ("b", text[::-1])], whole)
    for step in (1, 2, 3, 5, 64):
        path = tmp_path / f"{step}.2bit"
        with TwoBitWriter(path) as writer:
            for name, letters in (("a", text), ("b", text[::-1])):
                writer.begin(name)
                for start in range(0, 997, step):
                    writer.append(letters[start : start + step].encode().translate(LETTER_TABLE))
                writer.append(b"")
            writer.close()
        assert path.read_bytes() == whole.read_bytes()


def test_contig_of_no_bases_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.2bit"
    write_twobit([("empty", ""), ("a", "ACGTA"), ("last", "")], path)
    file = TwoBitFile(path)
    assert file.contigs == {"empty": 0, "a": 5, "last": 0}
    assert file.packed("last").size == 0
    assert file.n_runs("empty").shape == (0, 2)


def test_u_is_read_as_t(tmp_path: Path) -> None:
    write_twobit([("a", "ACGUu")], tmp_path / "u.2bit")
    write_twobit([("a", "ACGTt")], tmp_path / "t.2bit")
    assert (tmp_path / "u.2bit").read_bytes() == (tmp_path / "t.2bit").read_bytes()


def test_every_truncation_is_refused(make) -> None:
    content = hand_made()
    for length in range(len(content)):
        path = make(content[:length])
        with pytest.raises(FileFormatError, match=r"truncated|more than|no \.2bit"):
            TwoBitFile(path)
    TwoBitFile(make(content))  # the control: nothing is missing


def test_no_flipped_byte_crashes(make) -> None:
    content = hand_made(version=1)
    for place in range(len(content)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            damaged = bytearray(content)
            damaged[place] = value
            try:
                file = TwoBitFile(make(bytes(damaged)))
                for chrom, length in file.contigs.items():
                    for runs in (file.n_runs(chrom), file.mask_runs(chrom)):
                        assert runs.size == 0 or 0 <= runs.min() <= runs.max() <= length
                    assert len(file.packed(chrom)) == (length + 3) // 4
            except FileFormatError:
                pass


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, b"\0\0\0\0", "no .2bit file"),
        (4, struct.pack("<I", 2), "version 2"),
        (8, struct.pack("<I", 0), "no contig"),
        (8, struct.pack("<I", 2**32 - 1), "more than the file can hold"),
        (17, b"\xff", "not UTF-8"),
        (21, struct.pack("<I", 17), "within the .2bit index"),
        (21, struct.pack("<I", 2**32 - 1), "truncated"),
        (36, struct.pack("<I", 2**32 - 1), "truncated"),
    ],
)
def test_malformed_header_is_named(make, place: int, value: bytes, words: str) -> None:
    content = bytearray(hand_made())
    content[place : place + len(value)] = value
    path = make(bytes(content))
    with pytest.raises(FileFormatError, match=words) as caught:
        TwoBitFile(path)
    assert str(path) in str(caught.value)


def test_offset_beyond_any_address_is_refused(make) -> None:
    content = bytearray(hand_made(version=1))
    content[21:29] = b"\xff" * 8
    with pytest.raises(FileFormatError, match="truncated"):
        TwoBitFile(make(bytes(content)))


@pytest.mark.parametrize(
    ("starts", "sizes"),
    [((0, 10, 16), (2, 2, 2)), ((0, 10, 9), (2, 2, 2)), ((0, 1, 15), (2, 2, 2))],
)
def test_malformed_runs_are_refused(make, starts: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    good = struct.pack("<6I", 0, 10, 15, 2, 2, 2)
    bad = struct.pack("<6I", *starts, *sizes)
    path = make(hand_made().replace(good, bad))
    with pytest.raises(FileFormatError, match="malformed N run"):
        TwoBitFile(path).n_runs("chrA")


def test_run_of_no_bases_is_ignored(make) -> None:
    good = struct.pack("<6I", 0, 10, 15, 2, 2, 2)
    path = make(hand_made().replace(good, struct.pack("<6I", 0, 10, 15, 2, 0, 2)))
    assert TwoBitFile(path).n_runs("chrA").tolist() == [[0, 2], [15, 17]]


def test_repeated_and_missing_names_are_refused(make, tmp_path: Path) -> None:
    write_twobit([("aa", "A"), ("ab", "C")], tmp_path / "ok.2bit")
    content = (tmp_path / "ok.2bit").read_bytes()
    with pytest.raises(FileFormatError, match="lists contig 'aa' twice"):
        TwoBitFile(make(content.replace(b"ab", b"aa")))
    nameless = struct.pack("<4IBI", SIGNATURE, 0, 1, 0, 0, 21) + struct.pack("<4IB", 1, 0, 0, 0, 0)
    with pytest.raises(FileFormatError, match="has no name"):
        TwoBitFile(make(nameless))


def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="No such file"):
        TwoBitFile(tmp_path / "none.2bit")
    with pytest.raises(FileFormatError, match="regular file"):
        TwoBitFile(tmp_path)
    os.mkfifo(tmp_path / "pipe.2bit")
    with pytest.raises(FileFormatError, match="regular file"):
        TwoBitFile(tmp_path / "pipe.2bit")


@pytest.mark.parametrize(
    ("records", "error", "words"),
    [
        ([], FileFormatError, "no sequence"),
        ([("a", "A"), ("a", "C")], FileFormatError, "unique"),
        ([("", "A")], FileFormatError, "1 to 255"),
        ([("n" * 256, "A")], FileFormatError, "1 to 255"),
        ([("a", "ACGTE")], SequenceError, "'E' at position 5"),
        ([("a", "ACÅT")], SequenceError, "'Å' at position 3"),
    ],
)
def test_records_that_cannot_be_packed_leave_no_file(
    tmp_path: Path, records, error, words: str
) -> None:
    with pytest.raises(error, match=words):
        write_twobit(records, tmp_path / "x.2bit")
    assert list(tmp_path.iterdir()) == []


def test_existing_file_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "x.2bit"
    path.write_text("precious")
    with pytest.raises(OutputError, match="--force"):
        write_twobit([("a", "ACGT")], path)
    assert path.read_text() == "precious"
    write_twobit([("a", "ACGT")], path, force=True)
    assert TwoBitFile(path).contigs == {"a": 4}


def test_version_0_refuses_what_needs_64_bits_and_version_1_is_chosen(
    tmp_path: Path, monkeypatch
) -> None:
    # Four gigabytes of bases are not written here: the finished contig is only said to lie far out.
    for version in (0, None):
        path = tmp_path / f"{version}.2bit"
        with TwoBitWriter(path, version=version) as writer:
            writer.begin("a")
            writer.append(b"\0\1")
            writer._finish_contig()
            writer._entries["a"] = 2**32
            if version == 0:
                with pytest.raises(FileFormatError, match="too large"):
                    writer.close()
            else:
                writer.close()
                assert struct.unpack_from("<I", path.read_bytes(), 4) == (1,)


def test_contig_beyond_the_format_is_refused(tmp_path: Path) -> None:
    with TwoBitWriter(tmp_path / "x.2bit") as writer:
        writer.begin("a")
        writer._size = 2**32
        with pytest.raises(FileFormatError, match="at most 4,294,967,295"):
            writer.close()


def test_file_survives_pickle_threads_and_fork(make) -> None:
    file = TwoBitFile(make(hand_made()))
    again = pickle.loads(pickle.dumps(file))
    assert again.contigs == file.contigs
    seen: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(file.packed("chrA").tolist())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [again.packed("chrA").tolist()] * 4
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(file.packed("chrA"), seen[0]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
