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
    Record,
    RepeatsOption,
    as_dict,
    attempt,
    device_name,
    median,
    number,
    over,
    parse_lengths,
    prepare,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hyenadna.ops.bench import Shape, Timing
    from hyenadna.training.layer_benchmark import LayerCheck

_GOAL = 100.0  # times faster, the Hyena paper's figure
_K = 1024
_GPU_LENGTHS = tuple(_K << i for i in range(11))  # 1K … 1M
_CPU_LENGTHS = (512, 2 * _K)
_PARTS = {"forward": "forward", "forward_backward": "fwd+bwd"}


def layer(
    lengths: LengthsOption = None,
    widths: Annotated[str | None, typer.Option(help="Widths D, separated by commas, in heads of 64 (default: 768 on a GPU, 64 on a CPU).")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="Positions B x L, as long as B is above 1 (default: 262,144 on a GPU, 2,048 on a CPU).")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Time that the timed calls of one measurement take together: at least 5 of calls that fit into it, 2 or 1 of longer ones.")] = 0.5,
    longest_call: Annotated[float, typer.Option(min=0.0, help="Seconds of a single call of attention above which longer rows leave attention out.")] = 10.0,
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
    Hyena's. What was not measured is left empty: nothing is extrapolated. Where a call of the faster kernel takes longer than --seconds, longer rows measure that kernel alone.
    Short rows come first, and the JSON holds every row as soon as it is known; its "calls" says how many calls were timed.

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
    plain = str(plan.dtype).removeprefix("torch.")
    facts = {
        "benchmark": "layer", "device": device_name(plan.device), "backend": plan.backend, "dtype": plain, "repeats": plan.repeats, "seconds": seconds,
        "longest_call": longest_call, "tolerances": TOLERANCES[plan.dtype],
    }  # fmt: skip
    bench = _Bench(plan, seconds, longest_call)
    with Record(json_path, facts, force=force, summary=_summary) as record:
        # Short rows of all widths first: they are cheap.
        for length, width in sorted((length, width) for length in plan.lengths for width in chosen):
            record.add(*bench.row(Shape(max(1, tokens // length), width, length)))
        record.note(f"{plain}, {device_name(plan.device)}; median of up to {plan.repeats} calls in about {seconds:g} s; ratio = attention / hyena")  # fmt: skip
        for found in _summary(record.rows)[f"reached_{_GOAL:.0f}"]:
            record.note(_told(found))
    if any(row["hyena"] is None or not (row["attention"] or row["note"]) for row in record.rows):
        raise typer.Exit(1)


class _Bench:
    """Checks and measures rows, each width from short to long, and remembers what longer rows need not repeat."""

    def __init__(self, plan: Plan, seconds: float, longest_call: float) -> None:
        self.plan, self.seconds, self.longest_call = plan, seconds, longest_call
        self._checks: dict[Any, LayerCheck | None] = {}
        self._kernels: dict[int, Sequence[str]] = {}  # by width, those that are worth measuring
        self._too_slow: dict[int, int] = {}  # by width, the length at which a call of attention was

    def row(self, shape: Shape) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a row of the JSON and its cells of the table."""
        row: dict[str, Any] = {
            **shape._asdict(), "correct": None, "errors": {}, "hyena": None, "attention": {}, "best": {}, "ratio": {}, "note": "",
        }  # fmt: skip
        cells = {name: f"{row[name]:,}" for name in ("L", "D", "B")}
        title = f"L={shape.L:,} (B={shape.B:,}, D={shape.D:,})"
        for kind in ("hyena", "attention"):
            check = self._check(kind, shape, title)
            if check is None:
                return row, cells
            # JSON has no infinity: an error that is no number is null.
            row["errors"][kind] = {n: e if e < float("inf") else None for n, e in check.errors.items()}  # fmt: skip
            row["correct"] = check.correct and row["correct"] is not False
            if not check.correct:
                words = ", ".join(f"{name} {error:.1e}" for name, error in check.errors.items())
                typer.echo(f"{title}: {kind} is WRONG, no speed is reported: {words}", err=True)
        cells["error of y"] = f"{row['errors']['hyena']['y'] or float('inf'):.1e}"
        if not row["correct"]:
            cells["error of y"] += " WRONG"
            return row, cells
        typer.echo(f"{title}: correct (y {cells['error of y']}); measuring", err=True)
        mine = self._measure("hyena", shape, title)
        row["hyena"] = as_dict(mine)
        found, row["note"] = self._attention(shape, title)
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

    def _check(self, kind: str, shape: Shape, title: str) -> LayerCheck | None:
        """Hold a layer against float64, once where a longer row's comparison is the same."""
        from hyenadna.training.layer_benchmark import check_layer, checked_shape

        key = kind, checked_shape(kind, shape)
        if key not in self._checks:
            self._checks[key] = attempt(self.plan.device, f"{title}: {kind}", lambda: check_layer(kind, shape, self.plan.dtype, self.plan.device))  # fmt: skip
        return self._checks[key]

    def _measure(
        self, kind: str, shape: Shape, title: str, kernel: str | None = None
    ) -> dict[str, Timing] | None:
        from hyenadna.training.layer_benchmark import measure_layer

        plan = self.plan
        return attempt(
            plan.device, f"{title}: {kernel or kind}",
            lambda: measure_layer(kind, shape, plan.dtype, plan.device, repeats=plan.repeats, seconds=self.seconds, kernel=kernel),
        )  # fmt: skip

    def _attention(self, shape: Shape, title: str) -> tuple[dict[str, dict[str, Timing]], str]:
        """Measure the kernels that can still be the fastest of a width; also returns why there are none."""
        if (slow := self._too_slow.get(shape.D)) is not None:
            note = f"a call of attention took longer than {self.longest_call:g} s at L={slow:,}"
            typer.echo(f"{title}: attention is left out, as {note}", err=True)
            return {}, note
        kernels = self._kernels.get(shape.D, ("flash", "cudnn") if self.plan.on_gpu else ("flash",))
        found = {k: one for k in kernels if (one := self._measure("attention", shape, title, k))}
        if found:
            best = {part: min(found, key=lambda k: found[k][part].median_ms) for part in _PARTS}
            slowest = max(found[kernel][part].median_ms for part, kernel in best.items()) / 1e3
            if slowest > self.seconds:
                self._kernels[shape.D] = tuple(dict.fromkeys(best.values()))
            if slowest > self.longest_call:
                self._too_slow[shape.D] = shape.L
        return found, ""


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    widths = sorted({row["D"] for row in rows})
    return {
        "correct": all(row["correct"] is True for row in rows),
        f"reached_{_GOAL:.0f}": [
            _reached(rows, width, part) for width in widths for part in _PARTS
        ],
    }


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
