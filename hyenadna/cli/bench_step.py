"""``hyenadna bench step``: how fast a model computes and trains here, beside the published code's arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyenadna.cli.bench import (
    DTYPES,
    DeviceOption,
    ForceOption,
    JsonOption,
    Record,
    RepeatsOption,
    attempt,
    device_name,
    over,
)

if TYPE_CHECKING:
    from hyenadna.training.step_benchmark import StepShape, StepTiming

# Batch on a GPU and on a CPU, and whether blocks are recomputed in the backward pass on a GPU.
_SIZES = {
    "tiny-1k": (256, 32, False),
    "tiny-1k-d256": (256, 16, False),
    "tiny-16k": (16, 2, False),
    "small-32k": (8, 1, False),
    "medium-160k": (1, 1, False),
    "medium-450k": (1, 1, False),
    "large-1m": (1, 1, False),
}
_GPU_MODELS = "tiny-1k,small-32k,medium-160k,medium-450k,large-1m"
_CPU_MODELS = "tiny-1k,small-32k"


def step(
    models: Annotated[str | None, typer.Option(help="Sizes, separated by commas, of tiny-1k, tiny-1k-d256, tiny-16k, small-32k, medium-160k, medium-450k, large-1m (default: tiny-1k and small-32k on a CPU, those and the last three on a GPU).")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Sequences at once.")] = None,
    length: Annotated[int | None, typer.Option(min=2, help="Tokens of each (default: the model's longest input).")] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[str | None, typer.Option(help="bf16 or fp32 (default: bf16 on a GPU, fp32 on a CPU).")] = None,
    repeats: RepeatsOption = None,
    reference: Annotated[bool, typer.Option("--reference/--no-reference", help="Measure the published code's arithmetic, too.")] = True,
    json_path: JsonOption = None,
    force: ForceOption = False,
) -> None:  # fmt: skip
    """Measure whole models: forward pass, forward and backward, and a full training step with AdamW, in tokens per second.

    Logits and gradients are first held against the reference in float32; a model that differs gets no speed, and the exit status is 1.
    The reference is the arithmetic of the published stand-alone code in plain torch. On a CPU it runs in float32, in a process of its
    own with the C library's usual allocator, as that code does.

    \b
    Examples
      hyenadna bench step
      hyenadna bench step --models tiny-1k --batch 8 --device cpu
      hyenadna bench step --models medium-160k,large-1m --json step.json
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    import torch

    from hyenadna.errors import ConfigError
    from hyenadna.inference.runtime import choose_device
    from hyenadna.io.atomic import check_output
    from hyenadna.training.step_benchmark import TOLERANCES

    if json_path is not None:
        check_output(json_path, force=force, folder=False)
    where = choose_device(device)
    on_gpu = where.type == "cuda"
    dtype = ("bf16" if on_gpu else "fp32") if dtype is None else dtype
    if dtype not in ("bf16", "fp32"):
        raise ConfigError(f"--dtype {dtype!r} is unknown; expected bf16 or fp32")
    precision = getattr(torch, DTYPES[dtype])
    repeats = repeats or (30 if on_gpu else 3)
    if models is None:
        models = _GPU_MODELS if on_gpu else _CPU_MODELS
    names = [name.strip() for name in models.split(",")]
    shapes = {name: _shape(name, batch, length, on_gpu=on_gpu) for name in names}
    plain = str(precision).removeprefix("torch.")
    facts = {
        "benchmark": "step", "device": device_name(where), "threads": torch.get_num_threads(), "dtype": plain,
        "repeats": repeats, "tolerances": TOLERANCES[precision],
    }  # fmt: skip
    with Record(json_path, facts, force=force) as record:
        for name, shape in shapes.items():
            record.add(*_measure(name, shape, precision, where, repeats, reference=reference))
        record.note(f"{plain}, {device_name(where)}; median of {repeats}; f+b = forward and backward, step = with AdamW")  # fmt: skip
    if any(row["milliseconds"] is None for row in record.rows):
        raise typer.Exit(1)


def _shape(name: str, batch: int | None, length: int | None, *, on_gpu: bool) -> StepShape:
    from hyenadna.errors import ConfigError
    from hyenadna.models import HyenaConfig
    from hyenadna.training.step_benchmark import StepShape

    config = HyenaConfig.named(name)
    longest = config.max_seq_len - 2
    if length is not None and length > longest:
        raise ConfigError(f"--length {length:,} is beyond the {longest:,} tokens of {name}")
    on_gpu_batch, on_cpu_batch, recompute = _SIZES[name]
    usual = on_gpu_batch if on_gpu else on_cpu_batch
    return StepShape(config, batch or usual, length or longest, recompute and on_gpu)


def _measure(
    name: str, shape: StepShape, dtype: Any, device: Any, repeats: int, *, reference: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    from hyenadna.training.step_benchmark import PARTS, check_step, measure_reference, measure_step

    row: dict[str, Any] = {
        "model": name, "B": shape.B, "L": shape.L, "checkpointing": shape.checkpointing,
        "correct": None, "errors": None, "milliseconds": None, "peak_bytes": None, "reference": None,
    }  # fmt: skip
    cells = {"model": name, "B": f"{shape.B:,}", "L": f"{shape.L:,}"}
    checked = attempt(device, name, lambda: check_step(shape, dtype, device))
    if checked is None:
        return row, cells
    logits, gradients, good = checked
    row |= {"correct": good, "errors": {"logits": logits, "gradients": gradients}}
    words = f"logits {logits:.1e}, gradients {gradients:.1e}"
    if not good:
        typer.echo(f"{name}: WRONG, no speed is reported: {words}", err=True)
        return row, cells
    typer.echo(f"{name}: correct ({words}); measuring", err=True)
    mine = attempt(device, name, lambda: measure_step(shape, dtype, device, repeats=repeats))
    theirs = None
    if reference:
        theirs = attempt(device, f"{name}, reference", lambda: measure_reference(shape, dtype, device, repeats=repeats))  # fmt: skip
    row |= {
        "milliseconds": mine and mine.milliseconds,
        "peak_bytes": mine and mine.peak_bytes,
        "reference": theirs and theirs._asdict(),
    }
    short = {"forward": "forward", "forward_backward": "f+b", "step": "step"}
    for part in PARTS:
        cells[f"{short[part]} tokens/s"] = _rate(mine, part, shape)
    if mine and mine.peak_bytes:
        cells["peak GiB"] = f"{mine.peak_bytes / 2**30:.1f}"
    for part in PARTS[:2] if reference else ():
        cells[f"reference {short[part]}"] = _rate(theirs, part, shape)
        ratio = over(theirs and theirs.milliseconds[part], mine and mine.milliseconds[part])
        cells[f"x {short[part]}"] = "-" if ratio is None else f"{ratio:.2f}"
    return row, cells


def _rate(timing: StepTiming | None, part: str, shape: StepShape) -> str:
    return f"{timing.tokens_per_s(part, shape):,.0f}" if timing else "-"
