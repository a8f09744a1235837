"""Spans of a packed genome against slices of the text it was packed from."""

from __future__ import annotations

import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest

from hyenadna.data.genome import Genome, open_reference
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import FileFormatError, IntervalError
from hyenadna.io.fasta import FastaFile
from hyenadna.sequence import Interval, base_codes, reverse_complement
from hyenadna.tokenizers import CharacterTokenizer

TABLE = CharacterTokenizer().code_table
TEXTS = {
    "edges": "nnNNACGTACGTTGCAacgtNNnACCGTTacgN",
    "all_n": "NNNNNnnNNN",
    "lower": "acgtacgtac",
    "one": "G",
    "two": "Nt",
    "three": "CAN",
    "five": "ACGTN",
    "run": "ACGT" * 10 + "N" * 13 + "acgt" * 3,
}


@pytest.fixture
def genome(tmp_path: Path) -> Genome:
    path = tmp_path / "x.2bit"
    write_twobit(TEXTS.items(), path)
    return Genome(path)


def every_span() -> list[Interval]:
    return [
        Interval(name, start, end, strand)
        for name, text in TEXTS.items()
        for start in range(len(text))
        for end in range(start + 1, len(text) + 1)
        for strand in "+-."
        if end - start < 12 or start < 5
    ]


def test_every_span_equals_the_slice_of_the_text(genome: Genome) -> None:
    tokenizer = CharacterTokenizer()
    assert genome.contigs == {name: len(text) for name, text in TEXTS.items()}
    for span in every_span():
        expected = TEXTS[span.chrom][span.start : span.end]
        if span.strand == "-":
            expected = reverse_complement(expected)
        assert genome.sequence(span) == expected, span
        assert genome.codes(span).tolist() == base_codes(expected).tolist(), span
        assert genome.token_ids(span, TABLE).tolist() == tokenizer.encode(expected).tolist(), span
        assert genome.soft_mask(span).tolist() == [letter.islower() for letter in expected], span


def test_rows_of_spans_equal_the_spans_alone(genome: Genome) -> None:
    for length in range(1, 33):
        spans = [span for span in every_span() if len(span) == length]
        random.Random(length).shuffle(spans)
        if spans:
            expected = [genome.token_ids(span, TABLE).tolist() for span in spans]
            assert genome.token_id_rows(spans, TABLE).tolist() == expected, length


def test_long_rows_equal_the_spans_alone(tmp_path: Path) -> None:
    rng = random.Random(7)
    text = "".join(rng.choice("ACGTN") * rng.choice([1, 1, 900]) for _ in range(400))
    write_twobit([("a", text), ("b", text[::-1])], tmp_path / "x.2bit")
    genome = Genome(tmp_path / "x.2bit")
    for length in (1000, 4096, 4097, 9000):
        starts = [0, len(text) - length, *(rng.randrange(len(text) - length) for _ in range(60))]
        spans = [Interval(rng.choice("ab"), s, s + length, rng.choice("+-")) for s in starts]
        rows = genome.token_id_rows(spans, TABLE)
        for row, span in zip(rows, spans, strict=True):
            assert np.array_equal(row, genome.token_ids(span, TABLE)), span
        assert not np.array_equal(rows[0], rows[1])


def test_rows_of_nothing_or_of_two_lengths_are_refused(genome: Genome) -> None:
    for spans in ([], [Interval("five", 0, 2), Interval("five", 0, 3)]):
        with pytest.raises(ValueError, match="one common length"):
            genome.token_id_rows(spans, TABLE)
    with pytest.raises(IntervalError, match="beyond contig 'five'"):
        genome.token_id_rows([Interval("five", 0, 6)], TABLE)


def test_another_table_gives_its_own_ids(genome: Genome) -> None:
    table = np.array([10, 20, 30, 40, 50], dtype=np.uint8)
    assert genome.token_ids(Interval("edges", 2, 9), table).tolist() == [50, 50, 10, 20, 30, 40, 10]
    assert genome.token_ids(Interval("edges", 2, 9, "-"), table).tolist() == [
        40,
        10,
        20,
        30,
        40,
        50,
        50,
    ]


def test_table_of_another_type_is_refused(genome: Genome) -> None:
    for table in (TABLE.astype(np.int64), TABLE[:4]):
        with pytest.raises(ValueError, match="expected uint8"):
            genome.token_ids(Interval("one", 0, 1), table)


def test_results_are_the_callers_to_change(genome: Genome) -> None:
    span = Interval("five", 0, 5)
    genome.codes(span)[:] = 9
    genome.token_ids(span, TABLE)[:] = 9
    genome.soft_mask(span)[:] = True
    assert genome.codes(span).tolist() == [0, 1, 2, 3, 4]
    assert genome.sequence(span) == "ACGTN"


@pytest.mark.parametrize("method", ["codes", "sequence", "soft_mask"])
def test_span_outside_is_refused(genome: Genome, method: str) -> None:
    with pytest.raises(IntervalError, match="beyond contig 'five'"):
        getattr(genome, method)(Interval("five", 0, 6))
    with pytest.raises(IntervalError, match="not in the genome"):
        getattr(genome, method)(Interval("fife", 0, 1))


def test_runs_are_those_of_the_text(genome: Genome) -> None:
    assert genome.n_runs("edges").tolist() == [[0, 4], [20, 23], [32, 33]]
    assert genome.soft_mask_runs("edges").tolist() == [[0, 2], [16, 20], [22, 23], [29, 32]]
    assert genome.n_runs("one").shape == (0, 2)


def test_pickle_and_fork_see_the_same_bases(genome: Genome) -> None:
    again = pickle.loads(pickle.dumps(genome))
    assert again.sequence(Interval("edges", 0, 33)) == TEXTS["edges"]
    assert again.checksum == genome.checksum
    child = os.fork()
    if child == 0:
        os._exit(0 if genome.sequence(Interval("run", 0, 65)) == TEXTS["run"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_checksum_tells_genomes_apart(genome: Genome, tmp_path: Path) -> None:
    write_twobit([("one", "C")], tmp_path / "y.2bit")
    assert len(genome.checksum) == 64
    assert Genome(tmp_path / "y.2bit").checksum != genome.checksum
    assert "8 contigs" in repr(genome)


def test_long_random_genome_equals_its_text(tmp_path: Path) -> None:
    rng = random.Random(3)
    text = "".join(rng.choice("ACGTacgtNn") * rng.choice([1, 1, 2, 30]) for _ in range(3000))
    write_twobit([("a", text)], tmp_path / "x.2bit")
    genome = Genome(tmp_path / "x.2bit")
    for _ in range(300):
        start = rng.randrange(len(text))
        end = rng.randrange(start + 1, min(len(text), start + 3000) + 1)
        assert genome.sequence(Interval("a", start, end)) == text[start:end]
        assert genome.sequence(Interval("a", start, end, "-")) == reverse_complement(
            text[start:end]
        )


def test_fasta_and_twobit_open_as_the_same_genome(toy_fasta: Path, tmp_path: Path) -> None:
    from hyenadna.data.genome import pack

    pack(toy_fasta, tmp_path / "toy.2bit")
    packed, opened = Genome.open(tmp_path / "toy.2bit"), Genome.open(toy_fasta)
    assert packed.path == tmp_path / "toy.2bit"
    assert packed.checksum == opened.checksum
    assert opened.contigs == {"chrA": 600, "chrB": 400}


def test_reference_is_opened_by_what_it_is(toy_fasta: Path, tmp_path: Path) -> None:
    import gzip

    from hyenadna.data.genome import pack

    pack(toy_fasta, tmp_path / "toy.2bit")
    (tmp_path / "toy.fa.gz").write_bytes(gzip.compress(toy_fasta.read_bytes()))
    references = [open_reference(tmp_path / name) for name in ("toy.fa", "toy.2bit", "toy.fa.gz")]
    assert [type(reference) for reference in references] == [FastaFile, Genome, Genome]
    span = Interval("chrA", 470, 530, "-")
    assert len({reference.sequence(span) for reference in references}) == 1


@pytest.mark.parametrize("opener", [Genome.open, open_reference])
def test_what_is_no_genome_is_refused(opener, tmp_path: Path) -> None:
    (tmp_path / "x.2bit").write_text(">a\nACGT\n")
    (tmp_path / "empty.fa").touch()
    os.mkfifo(tmp_path / "pipe.fa")
    for name, words in (
        ("none.fa", "no such file"),
        ("x.2bit", "no .2bit file|truncated"),
        ("empty.fa", "empty"),
        ("", "folder"),
        ("pipe.fa", "regular file"),
    ):
        with pytest.raises(FileFormatError, match=words):
            opener(tmp_path / name)
    with pytest.raises(FileFormatError, match="regular file"):
        opener("-")


def test_real_chromosome_equals_its_published_checksum(test_data: Path, tmp_path: Path) -> None:
    import hashlib

    from hyenadna.data.genome import pack

    summary = pack(test_data / "genomes/human_grch37_chr20.fa.gz", tmp_path / "chr20.2bit")
    genome = Genome(tmp_path / "chr20.2bit")
    text = genome.sequence(Interval("20", 0, 63_025_520)).upper()
    assert hashlib.md5(text.encode()).hexdigest() == "0dec9660ec1efaaf33281c0d5ea2560f"
    assert summary.n_bases == text.count("N") == 3_520_000
