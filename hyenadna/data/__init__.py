"""What models learn from: packed genomes with windows and splits, and labelled sequences with batches.

Genomes: `twobit` (the file format), `packing` (FASTA into it, and the cache), `genome` (any span of one), `windows`, `splits`,
`promoters` (a labelled task from genes), `manifest` (the data sets that are bundled or to be fetched), `fetch` (getting those).
Labelled sequences: `labelled`, `labelled_task`, `genomic_benchmark` (another benchmark's files into such a task), `published` (what others got on
a task), `collate`, `augment`. Everything here is numpy; tensors begin in the training and inference rooms.
"""

from hyenadna.data.genome import Genome, PackSummary, ReferenceSequence, open_reference, pack
from hyenadna.data.splits import Splits, split_genome
from hyenadna.data.twobit import TwoBitFile, write_twobit
from hyenadna.data.windows import GenomeSource, RandomWindows, TiledWindows

__all__ = [
    "Genome",
    "GenomeSource",
    "PackSummary",
    "RandomWindows",
    "ReferenceSequence",
    "Splits",
    "TiledWindows",
    "TwoBitFile",
    "open_reference",
    "pack",
    "split_genome",
    "write_twobit",
]
