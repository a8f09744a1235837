"""Genes of a genome, whatever table they come in, under the genome's own names of contigs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace

from hyenadna.io.genepred import is_genepred, read_genepred
from hyenadna.io.gff import Feature, read_gff

__all__ = ["read_annotation"]


def read_annotation(path: str | os.PathLike[str], contigs: Collection[str]) -> Iterator[Feature]:
    """Read the features of an annotation one after the other.

    Parameters
    ----------
    path
        GFF3, GTF, or one of UCSC's tables genePred, refFlat and knownGene, told apart by content; plain, gzip or bgzip.
    contigs
        Names in the genome. A contig that is not among them but would be with ``chr`` before it, or without, gets that name: UCSC and Ensembl
        call the same one ``chr20`` and ``20``.

    Raises
    ------
    FileFormatError
        The file is missing or malformed.
    """
    for feature in read_genepred(path) if is_genepred(path) else read_gff(path):
        chrom = feature.interval.chrom
        if chrom not in contigs:
            other = chrom.removeprefix("chr") if chrom.startswith("chr") else f"chr{chrom}"
            if other in contigs:
                feature = replace(feature, interval=replace(feature.interval, chrom=other))
        yield feature
