"""``hyenadna evaluate`` of a language model of text: which text, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from hyenadna.data.text import TextSpan
    from hyenadna.models import HyenaForCausalLM
    from hyenadna.training.config import PretrainConfig

__all__ = ["evaluate_bytes", "reads_bytes"]


def reads_bytes(source: str) -> bool:
    """Say whether the model of a folder or file that has been loaded reads text byte by byte."""
    from hyenadna.inference.runtime import tokenizer_folder
    from hyenadna.tokenizers import ByteTokenizer
    from hyenadna.tokenizers.base import read_tokenizer_config

    return read_tokenizer_config(tokenizer_folder(source)).get("kind") == ByteTokenizer.kind


def evaluate_bytes(
    model: HyenaForCausalLM,
    source: str,
    settings: PretrainConfig | None,
    *,
    text: str | None,
    split: str,
    window: int | None,
    context: int | None,
    max_bytes: int | None,
    batch_size: int,
    device: str,
    console: Console,
) -> tuple[dict[str, Any], str]:
    """Return the numbers of a model on a file, or on a split of its run, and the table that tells them.

    Raises
    ------
    HyenaDNAError
        There is no text to score, or it or the window is impossible.
    """
    from rich.progress import Progress

    from hyenadna.training.evaluate import resolve_window
    from hyenadna.training.evaluate_text import evaluate_text
    from hyenadna.training.run_folder import environment

    spans, words = _choose(source, settings, text, split)
    if window is None and settings is not None:
        window = settings.data.seq_len  # what it was trained on, and its run was tested with
    window, context = resolve_window(model.config.max_seq_len, window, context)
    total = sum(span.n_bytes for span in spans)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("scoring", total=min(total, max_bytes or total))
        found = evaluate_text(
            model, spans, window=window, context=context, max_bytes=max_bytes, batch_size=batch_size, device=device,
            progress=lambda n: bar.update(task, advance=n),
        )  # fmt: skip
    perplexity = "-" if found.word_perplexity is None else f"{found.word_perplexity:,.2f}"
    table = (
        f"{'model':<20}{'bits/byte':>10}{'word perplexity':>17}\n"
        f"{Path(source).name[:19]:<20}{found.bits_per_byte:>10.4f}{perplexity:>17}\n"
        f"{found.n_scored:,} bytes of {words} of {found.n_bytes:,} bytes and {found.n_words:,} words; windows of {found.window:,} bytes, each byte with {found.context:,} "
        "or more before it"
    )
    data = [
        {"path": str(s.file.path), "sha256": s.file.sha256(), "first_byte": s.start, "bytes": s.n_bytes} for s in spans
    ]  # fmt: skip
    return {"text": words, **found.to_dict(), "data": data, **environment()}, table


def _choose(
    source: str, settings: PretrainConfig | None, text: str | None, split: str
) -> tuple[tuple[TextSpan, ...], str]:
    from hyenadna.data.text import TextFile, TextSpan
    from hyenadna.errors import ConfigError
    from hyenadna.training.text_data import open_texts

    if text is not None:
        file = TextFile(text)
        return (TextSpan(file, 0, len(file)),), text
    if settings is None or settings.data.kind != "text":
        raise ConfigError(f"{source} is no run folder, so it names no text; give one with -i")
    return getattr(open_texts(settings.data.text), split), f"the {split} split"
