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
# # 2 · Fine-tune a classifier, and get a number to trust
#
# Given labelled sequences (here: does a gene start in this window, or not?), a classifier is trained, chosen on a development split, and
# tested once on chromosomes that it has never seen, beside two baselines. Everything is built from data that come with `hyenadna`.

# %%
import csv
import json
from pathlib import Path

import torch

from hyenadna import CharacterTokenizer, load_model
from hyenadna.cli import main

DATA = Path("runs/tutorial/promoters")

# %% [markdown]
# ## A labelled task from a genome and its annotation
# Positives lie around the annotated starts of genes, negatives elsewhere on the same chromosome with the same GC content. Splits are whole
# chromosomes, so no test window overlaps a training window. The folder has the layout of the GUE benchmark: `train.csv`, `dev.csv`
# and `test.csv` with the columns `sequence,label`.

# %%
status = main(
    ["datasets", "build", "promoters", "-g", "bundled:scerevisiae/genome.2bit", "-a", "bundled:scerevisiae/genes.gff3.gz",
     "--upstream", "100", "--downstream", "50", "-o", str(DATA), "--force"]
)  # fmt: skip
assert status == 0

# %% [markdown]
# The tutorial trains on a part, to be done in seconds. For a real number leave this cell out and train for more epochs.

# %%
for split, n in (("train", 2000), ("dev", 400)):
    rows = list(csv.reader((DATA / f"{split}.csv").read_text().splitlines()))
    with (DATA / f"{split}.csv").open("w", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows[: n + 1])
print((DATA / "train.csv").read_text()[:80])

# %% [markdown]
# ## Train, choose on dev, test once
# Without `model.pretrained` a small classifier starts from random weights. `model.pretrained=runs/tutorial/pretrain` starts from the language model of
# [tutorial 1](01_pretrain.py) (too briefly trained to help), `model.pretrained=LongSafari/hyenadna-small-32k-seqlen-hf` from a published one.
# `strategy=frozen` trains the head only, `strategy=lora` adapters.

# %%
status = main(
    ["finetune", f"data.path={DATA}", "model.d_model=32", "optimizer.lr=4e-3", "data.batch_size=64", "trainer.max_epochs=3",
     "run_dir=runs/tutorial/finetune", "force=true"]
)  # fmt: skip
assert status == 0

# %% [markdown]
# ## Read the result
# `majority` always answers the most frequent class; the k-mer model is a logistic regression on k-mer counts, which on small data is hard to
# beat. The interval comes from resampling the test set; `seeds=[1,2,3]` adds the spread over training runs. The metrics are computed over
# the whole test set, never averaged over batches.

# %%
results = json.loads(Path("runs/tutorial/finetune/results.json").read_text())
mcc = results["test"]["mcc"]
print(f"MCC {mcc['mean']:.3f}, 95 % interval {mcc['ci95'][0]:.3f} to {mcc['ci95'][1]:.3f}")
for name, baseline in results["baselines"].items():
    print(f"{name}: MCC {baseline['test']['mcc']:.3f}")

# %% [markdown]
# ## Use the classifier
# The run folder loads at once. A mask tells real tokens from padding, which changes no logit.

# %%
classifier = load_model("runs/tutorial/finetune")
tokenizer = CharacterTokenizer()
with (DATA / "test.csv").open() as handle:
    examples = [row for _, row in zip(range(4), csv.DictReader(handle), strict=False)]
ids = torch.stack([torch.from_numpy(tokenizer.encode(row["sequence"])) for row in examples])
with torch.no_grad():
    probabilities = classifier(ids).softmax(dim=-1)
for row, p in zip(examples, probabilities, strict=True):
    print(f"label {row['label']}  p(promoter) {p[1]:.2f}  {row['sequence'][:30]}…")

# %% [markdown]
# The command line does the same for files and for regions of a genome, on the strands that the model was chosen with, and gives the metrics of any
# labelled file: `hyenadna evaluate -m runs/tutorial/finetune -i test.csv --rc`.

# %%
TABLE = Path("runs/tutorial/classes.tsv")
status = main(
    ["predict", "-m", "runs/tutorial/finetune", "-f", "bundled:scerevisiae/genome.2bit", "-r", "chrXVI:100,001-100,150", "-r", "chrXVI:200,001-200,150",
     "-o", str(TABLE), "--force"]
)  # fmt: skip
assert status == 0
print(TABLE.read_text())
