"""``hyenadna convert``: one model in another layout, checked by loading what was written."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hyenadna.models import ClassifierEnsemble, HyenaModel


class Layout(str, Enum):
    """Layouts that can be written."""

    hyenadna = "hyenadna"
    hf = "hf"


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="Model folder, run folder, weights file (.ckpt, .pt, .safetensors) or hub id."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    to: Annotated[
        Layout,
        typer.Option(help="hyenadna: our layout; hf: that of the published -hf repositories."),
    ] = Layout.hyenadna,
    config: Annotated[
        Path | None, typer.Option(help="config.json, where it does not lie beside the weights.")
    ] = None,
    filter_shift: Annotated[
        float | None,
        typer.Option(
            help="Constant of the filter's window (0.0 or 0.05), which published files leave open."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the files of an existing folder.")
    ] = False,
) -> None:
    """Convert a model between hyenadna's own layout and the published ones.

    Every published layout is read (weights.ckpt, -hf folders, bare state dicts) without executing pickles. What was written is loaded
    again and must have the same settings and weights.

    \b
    Examples
      hyenadna convert LongSafari/hyenadna-tiny-1k-seqlen -o tiny
      hyenadna convert runs/pretrain/demo -o demo-hf --to hf
    """  # noqa: D301 - the backspace is click's mark for text not to be wrapped
    from hyenadna.inference.runtime import tokenizer_folder
    from hyenadna.io import atomic_path, check_output
    from hyenadna.models import load_model
    from hyenadna.models.checkpoint import write_hf_folder
    from hyenadna.tokenizers import load_tokenizer

    check_output(output, force=force, folder=True)
    model = load_model(source, config=config, filter_shift=filter_shift)
    tokenizer = load_tokenizer(tokenizer_folder(source))
    with atomic_path(output, force=force, folder=True) as temporary:
        if to is Layout.hf:
            write_hf_folder(temporary, model)
        else:
            model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _require_same(model, load_model(temporary), to)
    typer.echo(
        f"{output}: {type(model).__name__} of {model.n_parameters():,} parameters in the {to.value} layout",
        err=True,
    )


def _require_same(
    model: HyenaModel | ClassifierEnsemble, written: HyenaModel | ClassifierEnsemble, to: Layout
) -> None:
    import torch

    from hyenadna.errors import CheckpointError

    before, after = model.config.to_dict(), written.config.to_dict()
    # Two spellings of one value: what is left open follows from another setting.
    before |= {"d_inner": model.config.inner_dim, "filter_grid_len": model.config.grid_len}
    after |= {"d_inner": written.config.inner_dim, "filter_grid_len": written.config.grid_len}
    changed = {name for name in before if before[name] != after[name]} - {
        "activation_checkpointing"
    }
    if changed:
        shown = ", ".join(
            f"{name}={before[name]!r} would read {after[name]!r}" for name in sorted(changed)
        )
        raise CheckpointError(f"the {to.value} layout cannot express this model: {shown}")
    if model.head_settings() != written.head_settings() and to is Layout.hyenadna:
        raise CheckpointError("the head's settings did not survive the conversion")
    state = written.state_dict()
    lost = [
        n for n, t in model.state_dict().items() if n not in state or not torch.equal(t, state[n])
    ]
    if lost:
        raise CheckpointError("weights did not survive the conversion", missing=lost)
