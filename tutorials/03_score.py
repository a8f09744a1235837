# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 3 · Score sequences
#
# A language model says how likely a sequence is: the sum of the logarithms of its bases' probabilities. This tutorial uses the model that
# [tutorial 1](01_pretrain.py) left in `runs/tutorial/pretrain`; any other model folder or hub id works in its place.
# Without `-m` the command line takes `bundled:human-tiny-1k`, a model of human DNA that comes with the package; yeast needs its own.

# %%
import matplotlib.pyplot as plt
import numpy as np

from hyenadna import Genome, HyenaForCausalLM, Interval, score_sequences
from hyenadna.cli import main
from hyenadna.sequence import reverse_complement

MODEL = "runs/tutorial/pretrain"
GENOME = "bundled:scerevisiae/genome.2bit"

# %% [markdown]
# ## From the command line
# `-f` names a genome and `-r` a region (1-based, inclusive); `-b` takes a BED file, and without either every contig is scored. `-i` takes
# sequences from FASTA, CSV, TSV or standard input. One line a sequence comes out.

# %%
assert (
    main(
        [
            "score",
            "-m",
            MODEL,
            "-f",
            GENOME,
            "-r",
            "chrXVI:100,001-101,000",
            "-r",
            "chrXVI:1-500",
            "--rc",
        ]
    )
    == 0
)

# %% [markdown]
# - `log_likelihood` is in nats, summed over `n_scored` bases: A, C, G and T from the second base on (the first is context, N is never scored).
# - `bits_per_base` is −`mean_log_likelihood` / ln 2. Guessing among four bases costs 2 bits; lower is more predictable.
# - `--rc` averages over both strands. Sequences longer than a window are scored in overlapping windows (`--window`, `--stride`).
#
# With `-o scores.tsv` the table goes to a file, beside it `scores.tsv.json` with the model's checksum, settings, hardware and versions.

# %% [markdown]
# ## From Python
# The same, on anything that yields names and letters. Results are `NamedTuple`s, in the order of the input.

# %%
model = HyenaForCausalLM.from_pretrained(MODEL)
genome = Genome.open(GENOME)

rng = np.random.default_rng(0)
real = genome.sequence(Interval("chrXVI", 200_000, 201_000))
shuffled = "".join(rng.permutation(list(real)))
poly_a = "A" * 1000
for score in score_sequences(model, [("yeast", real), ("shuffled", shuffled), ("poly-A", poly_a)]):
    print(
        f"{score.name:10} {score.log_likelihood:10.1f} nats  {score.bits_per_base:.3f} bits per base"
    )

# %% [markdown]
# ## A score is exact
# It is the same alone, in any batch, padded or not, in any order: padding is on the right of a causal model and is never summed. Other tools'
# scores change with their batch; that a batch of different lengths changes nothing here is a test of the package.

# %%
lengths = (37, 900, 150, 512)
sequences = [genome.sequence(Interval("chrXVI", 10_000, 10_000 + n)) for n in lengths]
alone = [next(score_sequences(model, [s])).mean_log_likelihood for s in sequences]
together = [s.mean_log_likelihood for s in score_sequences(model, sequences, batch_size=4)]
difference = max(abs(a - b) for a, b in zip(alone, together, strict=True))
print(f"largest difference {difference:.1e} nats per base")
assert difference < 1e-5

# %% [markdown]
# Both strands of one double helix get one score with `rc=True`:

# %%
forward, backward = score_sequences(model, [real, reverse_complement(real)], rc=True)
print(forward.bits_per_base, backward.bits_per_base)
assert abs(forward.bits_per_base - backward.bits_per_base) < 1e-4

# %% [markdown]
# ## Along a chromosome
# Tiles of 500 bases show where the sequence is easy for the model: repeats and low-complexity stretches cost fewer bits.

# %%
tiles = [Interval("chrXVI", start, start + 500) for start in range(0, 40_000, 500)]
scores = list(score_sequences(model, ((str(tile), genome.sequence(tile)) for tile in tiles)))
figure, axis = plt.subplots(figsize=(7, 2.5))
axis.plot([tile.start / 1000 for tile in tiles], [score.bits_per_base for score in scores])
axis.set(xlabel="chrXVI, kb", ylabel="bits per base")
figure.tight_layout()

# %% [markdown]
# ## A substitution
# The effect of a variant is the difference of two scores, `llr = ll(alt) − ll(ref)`, both with the same sequence around it.

# %%
centre, ref = 500, real[500].upper()
contexts = {base: real[:centre] + base + real[centre + 1 :] for base in "ACGT"}
by_base = dict(zip(contexts, score_sequences(model, contexts.values(), rc=True), strict=True))
for base in sorted(set("ACGT") - {ref}):
    llr = by_base[base].log_likelihood - by_base[ref].log_likelihood
    print(f"{ref}>{base}  llr {llr:+.3f} nats")
