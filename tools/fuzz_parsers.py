"""Feed mutated input to the parsers that are ours (.2bit, variant text, region strings): anything but a result or a HyenaDNAError is a defect.

python tools/fuzz_parsers.py [SECONDS] [SEED]
"""

from __future__ import annotations

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from hyenadna.data.genome import Genome
from hyenadna.data.twobit import write_twobit
from hyenadna.errors import HyenaDNAError
from hyenadna.sequence import Interval, Variant, parse_region

LETTERS = "chr12XYM:-_,>ACGTNacgt*<DEL>[]b38 0123456789\t\n+.é٣∞\x00"
TEXTS = ("chr1:1024:A>C", "22-1024-A-C", "22_1024_A_C", "chr22_1024_A_C_b38", "chr1:1-5", "chr1:1,000-2,000", "2", "HLA-A*01:01:1-5", "chr1:5-")  # fmt: skip
CONTIGS = {"chr1": 126, "2": 77, "HLA-A*01:01": 500, "a:1-5": 9}
LONGEST_WAIT = 10  # seconds, for one input


def mutated_text(rng: random.Random) -> str:
    """Return a region or variant with a few letters put in, taken out, replaced or doubled."""
    letters = list(rng.choice(TEXTS))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(letters) + 1)
        letters[at : at + rng.randrange(2)] = rng.choice((LETTERS[rng.randrange(len(LETTERS))], "", "".join(letters[:at])))  # fmt: skip
    return "".join(letters)


def mutated_bytes(rng: random.Random, raw: bytes) -> bytes:
    """Return a file with a few bytes replaced, put in, or its end cut off."""
    found = bytearray(raw)
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(found) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            found[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del found[at:]
        else:
            found[at:at] = rng.randbytes(rng.randrange(9))
    return bytes(found)


def try_text(text: str, *, variant: bool) -> None:
    """Parse a text."""
    if variant:
        Variant.parse(text)
    else:
        parse_region(text, CONTIGS)


def try_genome(path: Path) -> None:
    """Open a file and read from its first contigs."""
    genome = Genome(path)
    for name, size in list(genome.contigs.items())[:5]:
        if size:
            genome.sequence(Interval(name, 0, min(size, 10**6)))
            genome.codes(Interval(name, size - 1, size, "-"))


def main(seconds: float = 600, seed: int = 0) -> int:
    """Run for some seconds; the exit status is 1 at the first defect."""
    rng, end = random.Random(seed), time.monotonic() + seconds

    def hang(*_: object) -> None:
        raise TimeoutError(f"no answer within {LONGEST_WAIT} s")

    signal.signal(signal.SIGALRM, hang)
    counts = {"read": 0, "refused": 0}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.2bit"
        write_twobit([("chr1", "ACGTNNacgtACGT" * 9), ("2", "T" * 77), ("x y", "NNNN")], path)
        raw = path.read_bytes()
        while time.monotonic() < end:
            text, data = mutated_text(rng), mutated_bytes(rng, raw)
            of_text, variant = rng.random() < 0.7, rng.random() < 0.5
            signal.alarm(LONGEST_WAIT)
            try:
                if of_text:
                    try_text(text, variant=variant)
                else:
                    path.write_bytes(data)
                    try_genome(path)
                counts["read"] += 1
            except HyenaDNAError:
                counts["refused"] += 1
            except Exception as error:
                print(f"defect: {type(error).__name__}: {error}; input {text if of_text else data!r}")  # fmt: skip
                return 1
            finally:
                signal.alarm(0)
    print(f"no defect in {sum(counts.values()):,} inputs: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2]), *map(int, sys.argv[2:3])))
