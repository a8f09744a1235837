"""Files in and out: FASTA, GenBank, BED, GFF3, GTF and genePred, VCF and BCF, and output that appears whole or not at all.

Readers take a path, ``bundled:NAME/FILE``, or ``-`` for standard input, and know gzip and bgzip by content. What is wrong with an
input is one sentence with path and line (`hyenadna.errors.FileFormatError`). Coordinates are 0-based half-open throughout.
Formats of the package's own (the packed genome, model folders) are not here.
"""

from hyenadna.io.atomic import atomic_path, check_output, open_output, output_errors
from hyenadna.io.bed import BedRecord, read_bed, write_bed
from hyenadna.io.fasta import FastaFile, FastaRecord, read_fasta
from hyenadna.io.genbank import GenBankRecord, read_genbank
from hyenadna.io.genepred import is_genepred, read_genepred
from hyenadna.io.gff import Feature, read_gff, write_gff
from hyenadna.io.streams import compression, input_name, open_bytes, open_text, require_input
from hyenadna.io.vcf import VariantRecord, open_variants
from hyenadna.io.vcf_output import open_vcf_output

__all__ = [
    "BedRecord",
    "FastaFile",
    "FastaRecord",
    "Feature",
    "GenBankRecord",
    "VariantRecord",
    "atomic_path",
    "check_output",
    "compression",
    "input_name",
    "is_genepred",
    "open_bytes",
    "open_output",
    "open_text",
    "open_variants",
    "open_vcf_output",
    "output_errors",
    "read_bed",
    "read_fasta",
    "read_genbank",
    "read_genepred",
    "read_gff",
    "require_input",
    "write_bed",
    "write_gff",
]
