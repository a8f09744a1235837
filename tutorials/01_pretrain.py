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
# # 1 · Pretrain a DNA language model on a genome
#
# A causal language model reads DNA from left to right and gives each next base a probability. Here one is trained from nothing on
# the yeast genome that comes with `hyenadna`, in seconds, on a laptop. The same command trains larger models on your genomes.
#
# Every cell can also be typed in a shell: `main(["pretrain", "trainer.max_steps=10"])` is `hyenadna pretrain trainer.max_steps=10`.
# Results go to `runs/tutorial/` below the current folder.

# %%
import csv
import json

import matplotlib.pyplot as plt
import numpy as np

from hyenadna import Genome, Interval, load_model
from hyenadna.cli import main

# %% [markdown]
# ## The genome
# `bundled:` names data inside the package. A FASTA file of yours works in the same places; it is packed into a cache on first use.
# In Python, intervals are 0-based and half-open; region strings are 1-based and inclusive, as samtools writes them.

# %%
genome = Genome.open("bundled:scerevisiae/genome.2bit")
print(genome)
print(genome.sequence(Interval("chrI", 1000, 1060)))
assert Interval.parse("chrI:1,001-1,060") == Interval("chrI", 1000, 1060)

# %% [markdown]
# ## What must be beaten
# A model that knows only how frequent the four bases are pays the entropy of that distribution for every base. Yeast is rich in A and T, so
# this is a little under 2 bits. A language model is worth its name once it pays less on chromosomes that it has not seen.

# %%
codes = np.concatenate(
    [genome.codes(Interval(name, 0, length)) for name, length in genome.contigs.items()]
)
frequency = np.bincount(codes, minlength=5)[:4] / (codes < 4).sum()
print("  ".join(f"{base} {f:.3f}" for base, f in zip("ACGT", frequency, strict=True)))
print(f"entropy {-(frequency * np.log2(frequency)).sum():.4f} bits per base")

# %% [markdown]
# ## Train
# `model=demo` chooses a group of settings, `key=value` changes one. Chromosome IX is held out for validation and XVI for the test.
# `hyenadna pretrain --help` lists the groups, `hyenadna pretrain --cfg job` prints every setting with its value.

# %%
status = main(
    [
        "pretrain", "model=demo", "data.seq_len=256", "data.global_batch_size=16", "data.validation_tokens=16384",
        "optimizer.lr=4e-3", "trainer.max_steps=120", "trainer.validate_every=40", "trainer.log_every=20",
        "run_dir=runs/tutorial/pretrain", "force=true",
    ]
)  # fmt: skip
assert status == 0

# %% [markdown]
# ## The run folder
# It holds the settings, every number, the model (loadable at once) and a report of data, hardware and versions. A run that was stopped goes on,
# bit for bit, with `hyenadna pretrain resume=runs/tutorial/pretrain`.

# %%
with open("runs/tutorial/pretrain/metrics.csv") as handle:
    rows = list(csv.DictReader(handle))
figure, axis = plt.subplots(figsize=(6, 3))
for split in ("train", "validation"):
    points = [
        (int(row["step"]), float(row["bits_per_base"])) for row in rows if row["split"] == split
    ]
    axis.plot(
        *zip(*points, strict=True), label=split, marker="o" if split == "validation" else None
    )
axis.set(xlabel="step", ylabel="bits per base")
axis.legend()
figure.tight_layout()

# %%
model = load_model("runs/tutorial/pretrain")
print(type(model).__name__, f"{model.n_parameters():,} parameters")

# %% [markdown]
# ## Compare on held-out DNA
# `evaluate` scores the test chromosome beside Markov models, which predict a base from the k bases before it and are fitted on the training part.
# Order 0 is the base frequencies of above. After so few steps the demo model is somewhere among the lowest orders; longer
# training (drop `trainer.max_steps`), a larger model and more sequence move it further.

# %%
status = main(
    ["evaluate", "-m", "runs/tutorial/pretrain", "--markov-order", "6", "--max-bases", "60000",
     "-o", "runs/tutorial/bits.json", "--force"]
)  # fmt: skip
assert status == 0
with open("runs/tutorial/bits.json") as handle:
    bits = json.load(handle)
print(
    f"model {bits['bits_per_base']:.4f}, Markov order 0 {bits['markov_bits_per_base'][0]:.4f} bits per base"
)

# %% [markdown]
# ## Your own genomes
# ```
# hyenadna pretrain data.fasta=genome.fa.gz model=tiny_1k                              # one genome, split by the ends of its contigs
# hyenadna pretrain data.fasta=genome.fa.gz data.validation=chr20:40,000,001-44,000,000 data.test=chr21
# hyenadna pretrain data=human_chr20 model=small_32k length_warmup=from_1k trainer.devices=2
# ```
# Next: [2 · Fine-tune](02_finetune.py) a classifier, [3 · Score](03_score.py) sequences with the model made here.
