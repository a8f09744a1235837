"""DNA as a value: letters, base codes, spans and variants. Numpy only; files are read in `hyenadna.io`."""

from hyenadna.sequence.alphabet import (
    BASES,
    COMPLEMENT_OF_CODE,
    N_CODE,
    base_codes,
    bases,
    reverse_complement,
    reverse_complement_codes,
    validate_dna,
)
from hyenadna.sequence.interval import Interval, find_contig, parse_region, require_inside
from hyenadna.sequence.variant import Variant

__all__ = [
    "BASES",
    "COMPLEMENT_OF_CODE",
    "N_CODE",
    "Interval",
    "Variant",
    "base_codes",
    "bases",
    "find_contig",
    "parse_region",
    "require_inside",
    "reverse_complement",
    "reverse_complement_codes",
    "validate_dna",
]
