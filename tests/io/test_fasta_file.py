"""FASTA at random: the same bases as the stream, from threads, forks and pickles, with an index that is never wrong."""

from __future__ import annotations

import gzip
import os
import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from Bio import bgzf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyenadna.errors import (
    FileFormatError,
    HyenaDNAError,
    IntervalError,
    OutputError,
    SequenceError,
)
from hyenadna.io import FastaFile, read_fasta
from hyenadna.sequence import Interval, reverse_complement


def wrapped(contigs: dict[str, str], width: int, end: str = "\n") -> str:
    return "".join(
        f">{name} text{end}" + "".join(s[i : i + width] + end for i in range(0, len(s), width))
        for name, s in contigs.items()
    )


def write(path: Path, text: str, *, bgzip: bool = False) -> Path:
    if bgzip:
        with bgzf.BgzfWriter(os.fspath(path), "wb") as out:
            out.write(text.encode())
    else:
        path.write_bytes(text.encode())
    return path


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYENADNA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


CONTIGS = {
    "chr1": "".join(random.Random(1).choices("ACGTacgtN", k=1000)),
    "chr2": "".join(random.Random(2).choices("ACGT", k=180)),
}


@pytest.fixture(params=["g.fa", "g.fa.gz", "named_wrongly.fa", "named_wrongly.fa.gz"])
def genome(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    bgzip = request.param in ("g.fa.gz", "named_wrongly.fa")
    return write(tmp_path / request.param, wrapped(CONTIGS, 60), bgzip=bgzip)


def test_contigs_have_names_and_lengths_in_order(genome: Path) -> None:
    with FastaFile(genome) as fasta:
        assert list(fasta.contigs.items()) == [("chr1", 1000), ("chr2", 180)]


def test_spans_equal_slices_of_the_stream(genome: Path) -> None:
    with FastaFile(genome) as fasta:
        for record in read_fasta(genome):
            size = len(record.sequence)
            for start, end in [(0, 1), (0, size), (59, 61), (60, 120), (size - 1, size), (7, 133)]:
                interval = Interval(record.name, start, end)
                assert fasta.sequence(interval) == record.sequence[start:end]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_span_of_any_layout_is_right(tmp_path: Path, data: st.DataObject) -> None:
    contigs = data.draw(
        st.dictionaries(
            st.sampled_from(["a", "b", "c"]), st.text("ACGTN", min_size=1, max_size=70), min_size=1
        )
    )
    text = wrapped(
        contigs, data.draw(st.integers(1, 30)), data.draw(st.sampled_from(["\n", "\r\n"]))
    )
    if data.draw(st.booleans()):
        text = text.rstrip("\r\n")
    bgzip = data.draw(st.booleans())
    path = tmp_path / ("p.fa.gz" if bgzip else "p.fa")
    with FastaFile(write(path, text, bgzip=bgzip)) as fasta:
        for name, sequence in contigs.items():
            start = data.draw(st.integers(0, len(sequence) - 1))
            end = data.draw(st.integers(start + 1, len(sequence)))
            assert fasta.sequence(Interval(name, start, end)) == sequence[start:end]


def test_minus_strand_is_the_reverse_complement(genome: Path) -> None:
    with FastaFile(genome) as fasta:
        found = fasta.sequence(Interval("chr1", 10, 90, "-"))
    assert found == reverse_complement(CONTIGS["chr1"][10:90])


def test_span_longer_than_one_fetch_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyenadna.io.fasta._FETCH", 77)
    with FastaFile(write(tmp_path / "g.fa", wrapped(CONTIGS, 60))) as fasta:
        assert fasta.sequence(Interval("chr1", 3, 1000)) == CONTIGS["chr1"][3:]


@pytest.mark.parametrize(
    "interval", [Interval("chr3", 0, 1), Interval("chr2", 0, 181), Interval("chr2", 500, 600)]
)
def test_unknown_contig_and_span_off_the_end_are_refused(genome: Path, interval: Interval) -> None:
    with FastaFile(genome) as fasta, pytest.raises(IntervalError):
        fasta.sequence(interval)


def test_threads_share_a_file(genome: Path) -> None:
    spans = [Interval("chr1", i, i + 100) for i in range(0, 900, 3)]
    with FastaFile(genome) as fasta, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fasta.sequence, spans))
    assert found == [CONTIGS["chr1"][span.start : span.end] for span in spans]


def _read(fasta: FastaFile, start: int) -> str:
    return fasta.sequence(Interval("chr1", start, start + 100))


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_read_for_themselves(genome: Path) -> None:
    with FastaFile(genome) as fasta:
        read, write_end = os.pipe()
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            right = all(_read(fasta, i) == CONTIGS["chr1"][i : i + 100] for i in range(0, 900, 7))
            os.write(write_end, b"y" if right else b"n")
            os._exit(0)
        for i in range(0, 900, 7):
            assert _read(fasta, i) == CONTIGS["chr1"][i : i + 100]
        os.waitpid(child, 0)
        assert os.read(read, 1) == b"y"
        os.close(read)
        os.close(write_end)


def test_a_changed_process_reopens_the_file(genome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FastaFile(genome) as fasta:
        before = fasta._handle
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert _read(fasta, 5) == CONTIGS["chr1"][5:105]
        assert fasta._handle is not before
        before.close()


def test_pickled_file_reads_the_same(genome: Path) -> None:
    with FastaFile(genome) as fasta, pickle.loads(pickle.dumps(fasta)) as copy:
        assert copy.contigs == fasta.contigs
        assert _read(copy, 5) == _read(fasta, 5)
        assert repr(copy) == repr(fasta)


@pytest.mark.slow
def test_spawned_processes_read_the_same(genome: Path) -> None:
    with FastaFile(genome) as fasta, get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read, (fasta, 7)) == CONTIGS["chr1"][7:107]


def test_nothing_is_written_beside_the_data(genome: Path, own_cache: Path) -> None:
    before = sorted(genome.parent.iterdir())
    FastaFile(genome).close()
    assert sorted(p for p in genome.parent.iterdir() if p != own_cache) == before
    assert len(list((own_cache / "fai").iterdir())) == 1


def test_index_in_the_cache_is_used_again(
    genome: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FastaFile(genome).close()
    monkeypatch.setattr("hyenadna.io.fasta_index._build_index", None)  # a call would fail
    with FastaFile(genome) as fasta:
        assert fasta.contigs["chr2"] == 180


def test_changed_file_is_indexed_again(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", ">a\nACGT\n")
    with FastaFile(path) as fasta:
        assert fasta.contigs == {"a": 4}
    write(path, ">b\nGGGGGG\n")
    with FastaFile(path) as fasta:
        assert fasta.contigs == {"b": 6}
        assert fasta.sequence(Interval("b", 0, 6)) == "GGGGGG"


def test_file_dated_in_the_future_is_read_without_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = write(tmp_path / "g.fa", ">a\nACGT\n")
    os.utime(path, (4e9, 4e9))
    for _ in range(2):
        with FastaFile(path) as fasta:
            assert fasta.sequence(Interval("a", 1, 3)) == "CG"
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]


@pytest.mark.parametrize("bgzip", [False, True])
def test_index_beside_the_file_is_used_while_it_fits(
    tmp_path: Path, own_cache: Path, bgzip: bool
) -> None:
    from pyfaidx import Faidx

    path = write(tmp_path / ("g.fa.gz" if bgzip else "g.fa"), wrapped(CONTIGS, 60), bgzip=bgzip)
    Faidx(str(path)).close()  # as `samtools faidx` would
    with FastaFile(path) as fasta:
        assert _read(fasta, 3) == CONTIGS["chr1"][3:103]
    assert not (own_cache / "fai").exists()


@pytest.mark.parametrize(
    "index",
    [
        "chr1\t1000\t12\t60\t61\n",  # another offset
        "chr1\t1000\t11\t60\t61\n",  # one contig is missing
        "chr2\t180\t1039\t60\t61\n",
        "chr1\t1000\t11\t50\t51\nchr2\t180\t1039\t60\t61\n",  # other lines
        "other\t1000\t11\t60\t61\nchr2\t180\t1039\t60\t61\n",
        "chr1\t1000\t11\t60\t61\nchr2\t1800\t1039\t60\t61\n",  # beyond the end
        "chr1\t1000\t11\t60\t61\nchr2\t180\t1033\t60\t61\n",
        "no index at all\n",
        "",
    ],
)
def test_index_beside_the_file_that_does_not_fit_is_not_believed(
    tmp_path: Path, index: str
) -> None:
    path = write(tmp_path / "g.fa", wrapped(CONTIGS, 60))
    write(tmp_path / "g.fa.fai", index)
    with FastaFile(path) as fasta:
        assert fasta.contigs == {"chr1": 1000, "chr2": 180}
        assert _read(fasta, 65) == CONTIGS["chr1"][65:165]
    assert (tmp_path / "g.fa.fai").read_text() == index


def test_stale_index_beside_the_file_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", wrapped(CONTIGS, 60))
    write(tmp_path / "g.fa.fai", "chr1\t999\t12\t60\t61\n")
    os.utime(tmp_path / "g.fa.fai", (1, 1))
    with FastaFile(path) as fasta:
        assert fasta.contigs["chr1"] == 1000


def test_plain_gzip_is_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(wrapped(CONTIGS, 60).encode()))
    with pytest.raises(FileFormatError, match=r"bgzip.*hyenadna pack"):
        FastaFile(path)


@pytest.mark.parametrize(
    "text",
    [
        ">a\nACGT\nAC\nACGT\n",
        ">a\nACGT\n\nACGT\n",
        ">a\rACGT\r",
        ">a\nACGT\n>b caf\udce9\nAC\n",
    ],
    ids=["ragged", "blank-line", "old-mac", "latin-1"],
)
def test_layout_without_random_access_is_told_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert list(read_fasta(path))
    with pytest.raises(FileFormatError, match="hyenadna pack") as caught:
        FastaFile(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("last", ["ACGTA", "ACGTACGTA", "ACGTACGTACGTT"])
@pytest.mark.parametrize("after", ["", ">b\nACGT\n"])
def test_longer_last_line_never_gives_wrong_bases(tmp_path: Path, last: str, after: str) -> None:
    """pyfaidx takes such a file and computes wrong positions in it."""
    path = write(tmp_path / "g.fa", f">a\nACGT\n{last}\n{after}")
    with FastaFile(path) as fasta, pytest.raises(FileFormatError, match="one length"):
        fasta.sequence(Interval("a", 0, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ACGT\n", "expected a header"),
        (">a\nACGT\n>a\nACGT\n", "seen before, on line 1"),
        (">a\n>b\nACGT\n", "'a' has no bases"),
        (">a\nACGT\n>b\n", "'b' has no bases"),
        ("\n\n", "holds no record"),
        (">a\nACGT\n>\nAC\n", "no name"),
        ("@r\nACGT\n+\nIIII\n", "FASTQ"),
    ],
)
@pytest.mark.parametrize("bgzip", [False, True])
def test_broken_file_gets_the_sentence_of_the_stream(
    tmp_path: Path, text: str, message: str, bgzip: bool
) -> None:
    path = write(tmp_path / ("g.fa.gz" if bgzip else "g.fa"), text, bgzip=bgzip)
    with pytest.raises(FileFormatError, match=message) as caught:
        FastaFile(path)
    with pytest.raises(FileFormatError) as streamed:
        list(read_fasta(path))
    assert str(caught.value) == str(streamed.value)


def test_missing_empty_and_streams_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="no such file"):
        FastaFile(tmp_path / "missing.fa")
    with pytest.raises(FileFormatError, match="empty"):
        FastaFile(write(tmp_path / "empty.fa", ""))
    with pytest.raises(FileFormatError, match="random access"):
        FastaFile("-")
    with pytest.raises(FileFormatError, match="folder"):
        FastaFile(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="pipe"):
        FastaFile(tmp_path / "pipe")


@pytest.mark.parametrize("keep", [-28, -29, 100])
def test_truncated_bgzip_is_refused(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path / "g.fa.gz", wrapped(CONTIGS, 60), bgzip=True)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="truncated"):
        FastaFile(path)


def test_damaged_bgzip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa.gz", wrapped(CONTIGS, 60), bgzip=True)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(HyenaDNAError):
        FastaFile(path)


def test_protein_is_refused_where_it_is_read(tmp_path: Path) -> None:
    with (
        FastaFile(write(tmp_path / "p.fa", ">p1\nMKVA\nTELA\n")) as fasta,
        pytest.raises(SequenceError, match="protein") as caught,
    ):
        fasta.sequence(Interval("p1", 3, 8))
    assert (caught.value.position, caught.value.character) == (5, "E")
    assert str(caught.value).startswith(str(tmp_path / "p.fa"))


def test_file_changed_while_open_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "g.fa", wrapped(CONTIGS, 60))
    with FastaFile(path) as fasta:
        with path.open("r+b") as file:
            file.truncate(300)
        with pytest.raises(FileFormatError):
            fasta.sequence(Interval("chr1", 0, 1000))


def test_error_below_becomes_one_sentence(genome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FastaFile(genome) as fasta:

        def fail(*_: object) -> str:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(fasta._handle, "fetch", fail)
        with pytest.raises(FileFormatError, match="Input/output error"):
            _read(fasta, 0)


def test_closed_file_says_so(genome: Path) -> None:
    fasta = FastaFile(genome)
    fasta.close()
    fasta.close()
    with pytest.raises(ValueError, match="closed"):
        _read(fasta, 0)


def test_cache_that_cannot_hold_the_index_is_reported(
    genome: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="HYENADNA_CACHE"):
        FastaFile(genome)


def test_index_built_meanwhile_by_another_process_is_used(
    genome: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FastaFile(genome).close()
    real = Path.is_dir
    answers = iter([False])

    def late(self: Path, **options: bool) -> bool:
        if self.parent.name == "fai" and self.parent.parent == own_cache:
            return next(answers, None) is None and real(self, **options)
        return real(self, **options)

    monkeypatch.setattr(Path, "is_dir", late)
    with FastaFile(genome) as fasta:
        assert fasta.contigs["chr2"] == 180


def test_real_bgzip_chromosome_has_its_published_bases(test_data: Path) -> None:
    with FastaFile(test_data / "genomes" / "human_grch37_chr20.fa.gz") as fasta:
        assert fasta.contigs == {"20": 63_025_520}
        assert fasta.sequence(Interval("20", 0, 1000)) == "N" * 1000
        plus = fasta.sequence(Interval("20", 30_000_000, 32_500_000))
        assert len(plus) == 2_500_000
        assert fasta.sequence(Interval("20", 31_000_000, 31_000_100)) == plus[1_000_000:1_000_100]
