from __future__ import annotations

from pathlib import Path

import pytest

from hyenadna.data.annotation import read_annotation

GFF = "{}\tx\texon\t1\t9\t.\t+\t.\tParent=a\n"
GENEPRED = "a\t{}\t+\t0\t9\t0\t0\t1\t0,\t9,\n"


@pytest.mark.parametrize("text", [GFF, GENEPRED])
@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        ("chr20", ["20"], "20"),
        ("20", ["chr20"], "chr20"),
        ("chr20", ["chr20", "20"], "chr20"),
        ("chr20", ["2"], "chr20"),  # unknown names stay as they are
        ("Chr4", ["4"], "Chr4"),
    ],
)
def test_contigs_get_the_names_of_the_genome(
    tmp_path: Path, text: str, theirs: str, ours: list[str], expected: str
) -> None:
    path = tmp_path / "genes"
    path.write_text(text.format(theirs))
    exon = next(f for f in read_annotation(path, ours) if f.kind == "exon")
    assert (exon.interval.chrom, exon.interval.start, exon.interval.end) == (expected, 0, 9)
