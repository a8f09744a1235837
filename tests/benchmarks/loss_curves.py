"""Compare training curves of two ways to compute, two seeds each: is their difference smaller than that between seeds?

    python tests/benchmarks/loss_curves.py --out loss_curves bf16:1=RUN bf16:2=RUN fp32:1=RUN fp32:2=RUN

RUN is a run folder of `hyenadna pretrain`. Writes OUT.png and OUT.json; exit status 1 if the ways differ by more than the seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hyenadna.training.metrics_log import read_metrics

WINDOW = 20  # steps of the running mean that differences are taken of


def read(run: Path) -> np.ndarray:
    """Return the training bits per base of each step."""
    rows = read_metrics(run / "metrics.csv")
    return np.array([r["bits_per_base"] for r in rows if r["split"] == "train"])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean distance of the running means."""
    kernel = np.ones(WINDOW) / WINDOW
    smooth = [np.convolve(x, kernel, mode="valid") for x in (one, other)]
    return float(np.abs(smooth[0] - smooth[1]).mean())


def draw(curves: dict[str, dict[str, np.ndarray]], path: str) -> None:
    """Draw the first way as lines, the second as dots over them."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for way, style in zip(
        curves,
        ({"linewidth": 1.2}, {"linestyle": "", "marker": ".", "markersize": 2.5}),
        strict=True,
    ):
        for (seed, values), colours in zip(
            curves[way].items(), (("#8fb3d9", "#103a63"), ("#e3a79d", "#7a1f14")), strict=True
        ):
            colour = colours["marker" in style]
            axes.plot(values, color=colour, label=f"{way}, seed {seed}", **style)
    axes.set(xlabel="step", ylabel="bits per base (training)", ylim=(1.86, 2.0))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> int:
    """Read, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="WAY:SEED=RUN")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    curves: dict[str, dict[str, np.ndarray]] = {}
    for word in options.runs:
        label, _, run = word.partition("=")
        way, _, seed = label.partition(":")
        curves.setdefault(way, {})[seed] = read(Path(run))
    first, second = curves
    seeds = list(curves[first])
    ways = {s: distance(curves[first][s], curves[second][s]) for s in seeds}
    between = {w: distance(*(curves[w][s] for s in seeds[:2])) for w in curves}
    good = max(ways.values()) <= min(between.values())
    found = {
        "steps": len(curves[first][seeds[0]]),
        "window": WINDOW,
        "between_ways_bits": ways,
        "between_seeds_bits": between,
        "within_noise": good,
        "last_bits_per_base": {w: {s: float(c[-WINDOW:].mean()) for s, c in by.items()} for w, by in curves.items()},
        "curves": {w: {s: [round(float(v), 5) for v in c] for s, c in by.items()} for w, by in curves.items()},
    }  # fmt: skip
    Path(f"{options.out}.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(curves, f"{options.out}.png")
    print(json.dumps({k: v for k, v in found.items() if k != "curves"}, indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
