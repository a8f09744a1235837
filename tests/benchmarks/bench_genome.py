"""Speed of packing and of random windows: ``python tests/benchmarks/bench_genome.py [FASTA]``, with ``BENCH_JSON=FILE`` for a record.

Without an argument the human chromosome 20 of HYENADNA_TEST_DATA is taken, else the bundled yeast genome. Before anything is
timed the numbers must be right: packed letters against the streaming FASTA reader, windows against plain slices; a wrong one ends
the run without a speed. Targets: packing >= 50 Mbase/s, windows of 32,768 token ids >= 300 Mbase/s in one process.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hyenadna.data.genome import Genome, pack
from hyenadna.data.windows import GenomeSource, RandomWindows
from hyenadna.io.fasta import read_fasta
from hyenadna.sequence import Interval, reverse_complement
from hyenadna.tokenizers import CharacterTokenizer

REPEATS = 5
TOKENIZER = CharacterTokenizer()


def best_and_median(run: Callable[[], object]) -> tuple[float, float]:
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times), float(np.median(times))


def require_right_bases(fasta: Path | None, genome: Genome, windows: RandomWindows) -> None:
    if fasta is not None:
        for record in read_fasta(fasta):
            span = Interval(record.name, 0, genome.contigs[record.name])
            if genome.sequence(span) != record.sequence:
                sys.exit(f"WRONG: {record.name} differs from its FASTA; no speed is reported")
    for index in range(500):
        _, span = windows.location(index, 1000)
        text = genome.sequence(Interval(span.chrom, span.start, span.end)).upper()
        text = reverse_complement(text) if span.strand == "-" else text
        if not np.array_equal(windows.window(index, 1000), TOKENIZER.encode(text)):
            sys.exit(f"WRONG: window {index} is not the bases of {span}; no speed is reported")


def main() -> None:
    data = os.environ.get("HYENADNA_TEST_DATA")
    fasta: Path | None = None
    if len(sys.argv) > 1:
        fasta = Path(sys.argv[1])
    elif data:
        fasta = Path(data) / "genomes/human_grch37_chr20.fa.gz"
    rows: list[dict[str, object]] = []
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"numpy {np.__version__}, commit {commit.stdout.strip() or 'unknown'}"
    )
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "genome.2bit"
        if fasta is not None:
            bases = pack(fasta, packed).bases
            best, median = best_and_median(lambda: pack(fasta, packed, force=True))
            rows.append(
                {"what": f"pack {fasta.name}", "bases": bases, "median_s": median, "best_s": best}
            )
            print(
                f"pack {fasta.name}: {bases / median / 1e6:,.0f} Mbase/s (median of {REPEATS}; best {bases / best / 1e6:,.0f})"
            )
        genome = Genome.open(packed if fasta is not None else "bundled:scerevisiae/genome.2bit")
        windows = RandomWindows([GenomeSource(genome)], table=TOKENIZER.code_table, seed=0)
        require_right_bases(fasta, genome, windows)
        for seq_len, count in ((1024, 30_000), (32_768, 5_000), (1_000_000, 100)):
            if seq_len > max(genome.contigs.values()):
                continue
            numbers = range(count)

            def draw(seq_len: int = seq_len, numbers: range = numbers) -> None:
                for index in numbers:
                    windows.window(index, seq_len)

            draw()
            best, median = best_and_median(draw)
            rows.append(
                {
                    "what": f"windows of {seq_len}",
                    "bases": count * seq_len,
                    "median_s": median,
                    "best_s": best,
                }
            )
            print(
                f"windows of {seq_len:,}: {count * seq_len / median / 1e6:,.0f} Mbase/s, {count / median:,.0f} windows/s "
                f"(median of {REPEATS}; best {count * seq_len / best / 1e6:,.0f} Mbase/s)"
            )
    if record := os.environ.get("BENCH_JSON"):
        about = {"machine": cpu_name(), "cores": os.cpu_count(), "python": platform.python_version(),
                 "numpy": np.__version__, "commit": commit.stdout.strip(), "repeats": REPEATS, "correct": True}  # fmt: skip
        Path(record).write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


def cpu_name() -> str:
    found = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return found[0].partition(":")[2].strip() if found else platform.machine()


if __name__ == "__main__":
    main()
