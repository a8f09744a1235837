"""A picture of bits per base over the length of the context: the model, a compressor, and the Markov models as levels."""

from __future__ import annotations

from pathlib import Path

from hyenadna.training.evaluate_contexts import ContextEvaluation

__all__ = ["plot_contexts"]


def plot_contexts(found: ContextEvaluation, path: Path, *, title: str = "") -> None:
    """Draw to a PNG or SVG file, by its name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    lengths = [score.context for score in found.scores]
    model = [score.bits_per_base for score in found.scores]
    compressed = [min(score.compressors.values()) for score in found.scores]
    axes.axhline(2.0, color="0.6", linewidth=0.8, linestyle=":", label="uniform over A, C, G, T")
    markov = found.markov_bits_per_base
    drawn = [2.0, *model, *compressed, *markov]
    for order, bits in enumerate(markov):
        axes.axhline(
            bits, color="#9bb8d3", linewidth=0.8, label=None if order else "Markov, by order"
        )
        if all(abs(bits - other) > 0.02 * (max(drawn) - min(drawn)) for other in markov[:order]):
            axes.annotate(
                str(order), (1.0, bits), xycoords=("axes fraction", "data"), xytext=(2, 0),
                textcoords="offset points", va="center", fontsize=6, color="#4f7ba3",
            )  # fmt: skip
    trained = found.compressors.get("lzma packed, trained")
    if trained is not None:
        axes.axhline(trained, color="0.35", linewidth=1.0, linestyle="-.", label="LZMA, trained")
    axes.plot(lengths, compressed, color="0.35", marker="s", markersize=3, linewidth=1.0,
              linestyle="--", label="LZMA, untrained")  # fmt: skip
    axes.plot(lengths, model, color="#b5483a", marker="o", markersize=4, label="model")
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.minorticks_off()
    axes.set_xlabel("context, bases (a scored base sees three quarters of it or more)")
    axes.set_ylabel("bits per base")
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
