"""``hyenadna bench layer``: a whole Hyena layer beside an attention layer of the same width, from 1K to 1M positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hyenadna.cli.bench import (
    DeviceOption,
    ForceOption,
    JsonOption,
    LengthsOption,
    Plan,
    RepeatsOption,
    as_dict,
    attempt,
    device_name,
    environment,
    median,
    number,
    over,
    parse_lengths,
    prepare,
    print_table,
    write_json,
)

if TYPE_CHECKING:
    from hyenadna.ops.bench import Shape, Timing

_GOAL = 100.0  # times faster, the Hyena paper's figure
_K = 1024
_GPU_LENGTHS = tuple(_K << i for i in range(11))  # 1K … 1M
_CPU_LENGTHS = (512, 2 * _K)
_PARTS = {"forward": "forward", "forward_backward": "fwd+bwd"}


def layer(
    lengths: LengthsOption = None,
    widths: Annotated[str | None, typer.Option(help="Widths D, separated by commas, in heads of 64 (default: 768 on a GPU, 64 on a CPU).")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Positions B x L, as long as B is above 1 (default: 262,144 on a GPU, 2,048 on a CPU).")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Longest time that the timed calls of one measurement take; where a single call of attention takes longer, longer rows leave attention out.")] = 5.0,
    dtype: Annotated[str, typer.Option(help="Autocast: bf16, fp16 or fp32.")] = "bf16",
    device: DeviceOption = "auto",
    repeats: RepeatsOption = None,
    json_path: JsonOption = None,
    force: ForceOption = False,
) -> None:  # fmt: skip
    """Measure a whole Hyena layer against an attention layer of the same width, forward and with all gradients.

    A layer is x + mixer(norm(x)), as models run it: projections, short convolutions, the filter, gates, the long convolution and the output projection; or projections,
    rotary positions, causal attention by the faster of torch's flash and cuDNN kernels (flash on a CPU), and the output projection. Both are first held against
    float64, the long rows of Hyena also against themselves cut short; a wrong layer gets no speed, and the exit status is 1. "ratio" is attention's time over
    Hyena's. What was not measured is left empty: nothing is extrapolated.

    \b
    Examples
      hyenadna bench layer --json layer.json
      hyenadna bench layer --widths 256,768 --lengths 8K,64K,1M --seconds 20
      hyenadna bench layer --device cpu --lengths 512 --dtype fp32
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.errors import ConfigError
    from hyenadna.ops.bench import Shape
    from hyenadna.training.layer_benchmark import HEAD_DIM, TOLERANCES

    plan = prepare(device, "auto", dtype, lengths, (_GPU_LENGTHS, _CPU_LENGTHS), repeats, json_path, force)  # fmt: skip
    if plan.on_gpu and dtype == "fp32":
        raise ConfigError("--dtype fp32 has no fast attention on a GPU; expected bf16 or fp16")
    chosen = parse_lengths(widths or ("768" if plan.on_gpu else "64"), "--widths")
    for width in chosen:
        if width % HEAD_DIM:
            raise ConfigError(f"--widths {width} is no multiple of {HEAD_DIM}, the width of a head")
    tokens = tokens or (262_144 if plan.on_gpu else 2048)
    rows, table = [], []
    for width in chosen:
        too_slow: int | None = None  # length at which a call of attention took longer than allowed
        for length in sorted(plan.lengths):
            shape = Shape(max(1, tokens // length), width, length)
            row, cells = _row(plan, shape, seconds, too_slow)
            rows.append(row)
            table.append(cells)
            if too_slow is None and _slowest(row) > 1e3 * seconds:
                too_slow = length
    plain = str(plan.dtype).removeprefix("torch.")
    reached = [_reached(rows, width, part) for width in chosen for part in _PARTS]
    if json_path != "-":
        print_table(table)
        typer.echo(f"{plain}, {device_name(plan.device)}; median of up to {plan.repeats} calls in {seconds:g} s; ratio = attention / hyena")  # fmt: skip
        for found in reached:
            typer.echo(_told(found))
    if json_path is not None:
        document = {
            "benchmark": "layer", "device": device_name(plan.device), "backend": plan.backend, "dtype": plain, "repeats": plan.repeats, "seconds": seconds,
            "correct": all(row["correct"] is True for row in rows), "tolerances": TOLERANCES[plan.dtype],
            f"reached_{_GOAL:.0f}": reached, "rows": rows, **environment(),
        }  # fmt: skip
        write_json(json_path, document, force=force)
    if any(row["hyena"] is None or not (row["attention"] or row["note"]) for row in rows):
        raise typer.Exit(1)


def _row(
    plan: Plan, shape: Shape, seconds: float, too_slow: int | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Check and measure one length; returns its row of the JSON and its cells of the table."""
    from hyenadna.training.layer_benchmark import check_layer, measure_layer

    row: dict[str, Any] = {
        **shape._asdict(), "correct": None, "errors": {}, "hyena": None, "attention": {}, "best": {}, "ratio": {}, "note": "",
    }  # fmt: skip
    cells = {name: f"{row[name]:,}" for name in ("L", "D", "B")}
    title = f"L={shape.L:,} (B={shape.B:,}, D={shape.D:,})"
    for kind in ("hyena", "attention"):
        check = attempt(plan.device, f"{title}: {kind}", lambda kind=kind: check_layer(kind, shape, plan.dtype, plan.device))  # type: ignore[misc]  # fmt: skip
        if check is None:
            return row, cells
        # JSON has no infinity: an error that is no number is null.
        row["errors"][kind] = {n: e if e < float("inf") else None for n, e in check.errors.items()}
        row["correct"] = check.correct and row["correct"] is not False
        if not check.correct:
            words = ", ".join(f"{name} {error:.1e}" for name, error in check.errors.items())
            typer.echo(f"{title}: {kind} is WRONG, no speed is reported: {words}", err=True)
    cells["error of y"] = f"{row['errors']['hyena']['y'] or float('inf'):.1e}"
    if not row["correct"]:
        cells["error of y"] += " WRONG"
        return row, cells
    typer.echo(f"{title}: correct (y {cells['error of y']}); measuring", err=True)

    def measured(kind: str, kernel: str | None = None) -> dict[str, Timing] | None:
        return attempt(
            plan.device, f"{title}: {kernel or kind}",
            lambda: measure_layer(kind, shape, plan.dtype, plan.device, repeats=plan.repeats, seconds=seconds, kernel=kernel),
        )  # fmt: skip

    mine = measured("hyena")
    row["hyena"] = as_dict(mine)
    if too_slow is None:
        kernels = ("flash", "cudnn") if plan.on_gpu else ("flash",)
        found = {k: one for k in kernels if (one := measured("attention", k)) is not None}
    else:
        found = {}
        row["note"] = f"a call of attention took longer than {seconds:g} s at L={too_slow:,}"
        typer.echo(f"{title}: attention is left out, as {row['note']}", err=True)
    row["attention"] = {kernel: as_dict(one) for kernel, one in found.items()}
    for part, words in _PARTS.items():
        best = min(found, key=lambda k: found[k][part].median_ms, default=None)
        theirs = None if best is None else found[best][part].median_ms
        row["best"][part] = best
        row["ratio"][part] = over(theirs, median(mine, part))
        cells[f"{words} hyena ms"] = number(median(mine, part), ".3f")
        cells[f"{words} attention ms"] = number(theirs, ".3f") + (f" {best}" if best else "")
        cells[f"{words} ratio"] = number(row["ratio"][part], ".2f")
    return row, cells


def _slowest(row: dict[str, Any]) -> float:
    """Return the milliseconds of the slower part by the faster kernel, 0 where attention was not measured."""
    return max(
        (row["attention"][best][part]["median_ms"] for part, best in row["best"].items() if best),
        default=0.0,
    )


def _reached(rows: list[dict[str, Any]], width: int, part: str) -> dict[str, Any]:
    """Return the shortest measured length from which on Hyena is 100 times as fast, and the highest ratio."""
    known = [(r["L"], r["ratio"][part]) for r in rows if r["D"] == width and r["ratio"].get(part)]
    highest = max(known, key=lambda pair: pair[1], default=(None, None))
    first = None
    for length, ratio in reversed(known):
        if ratio < _GOAL:
            break
        first = length
    return {"D": width, "part": part, "from_L": first, "highest": highest[1], "highest_at_L": highest[0]}  # fmt: skip


def _told(found: dict[str, Any]) -> str:
    words = f"D={found['D']:,}, {_PARTS[found['part']]}: "
    if found["highest"] is None:
        return words + "no ratio was measured"
    if found["from_L"] is not None:
        words += f"{_GOAL:.0f} times as fast from L={found['from_L']:,} on"
    else:
        words += f"{_GOAL:.0f} times as fast at no measured length"
    return f"{words}; highest {found['highest']:.1f} at L={found['highest_at_L']:,}"
