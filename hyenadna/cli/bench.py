"""``hyenadna bench``: how fast the long convolution is here, beside plain torch, the memory's speed and attention.

Gate first, numbers second: a length whose results are wrong gets no speed, and the exit status is 1.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias, TypeVar

import typer

if TYPE_CHECKING:
    import torch

    from hyenadna.ops.bench import Shape, Timing

    Measurement: TypeAlias = dict[str, Timing]

app = typer.Typer(help="Measure speed and memory, after correctness.", no_args_is_help=True)

_Result = TypeVar("_Result")
_K = 1024
_GPU_LENGTHS = (*(_K << i for i in range(11)), 4 * _K * _K)  # 1K … 1M, 4M
_HEAD_DIM = 64
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_PARTS = {"forward": "forward", "forward_backward": "fwd+bwd"}

LengthsOption = Annotated[str | None, typer.Option(help="Lengths, separated by commas; 1K is 1,024, 1M is 1,048,576.")]  # fmt: skip
JsonOption = Annotated[
    str | None, typer.Option("--json", help="JSON to write; - for standard output.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
_Backend = Annotated[str, typer.Option(help="auto, triton or torch.")]
_Dtype = Annotated[str, typer.Option(help="bf16, fp16 or fp32.")]
_Elements = Annotated[int | None, typer.Option(min=1, help="About so many B x D x L (default: 2^27 on a GPU, 2^20 on a CPU).")]  # fmt: skip
_Tokens = Annotated[int | None, typer.Option(min=1, help="Tokens B x L (default: 65,536 on a GPU, 2,048 on a CPU).")]  # fmt: skip
_Width = Annotated[int | None, typer.Option(min=1, help="Channels D (default: 768 up to 32K, fewer beyond).")]  # fmt: skip
_HeadsWidth = Annotated[int, typer.Option(min=1, help="Channels D, in heads of 64.")]
_Batch = Annotated[int | None, typer.Option(min=1, help="Sequences at once.")]
RepeatsOption = Annotated[int | None, typer.Option(min=1, help="Calls that are timed (default: 30 on a GPU, 3 on a CPU).")]  # fmt: skip
_Torch = Annotated[bool, typer.Option("--torch/--no-torch", help="Measure plain torch, too, where it is not the backend.")]  # fmt: skip
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing JSON.")]


@app.command("fftconv")
def fftconv(
    lengths: LengthsOption = None,
    json_path: JsonOption = None,
    device: DeviceOption = "auto",
    backend: _Backend = "auto",
    elements: _Elements = None,
    width: _Width = None,
    batch: _Batch = None,
    dtype: _Dtype = "bf16",
    repeats: RepeatsOption = None,
    with_torch: _Torch = True,
    force: ForceOption = False,
) -> None:
    """Measure the gated long convolution, forward and with all five gradients.

    Each length is first held against float64; a wrong one gets no speed, and the exit status is 1. "x floor" is the time over that
    of moving the least bytes at 3.0 TB/s (an H100). Memory is what one call needs besides inputs, outputs and gradients, in
    tensors (B, D, L). Default lengths are 1K to 1M and 4M on a GPU, 1K and 8K on a CPU.

    \b
    Examples
      hyenadna bench fftconv
      hyenadna bench fftconv --lengths 1K,32K,1M --json fftconv.json
      hyenadna bench fftconv --device cpu --lengths 1000 --width 8 --batch 2 --dtype fp32
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.ops import bench

    defaults = _GPU_LENGTHS, (_K, 8 * _K)
    plan = prepare(device, backend, dtype, lengths, defaults, repeats, json_path, force)
    elements = elements or (2**27 if plan.on_gpu else 2**20)
    with_torch = with_torch and plan.backend != "torch"
    copying = bench.copy_bandwidth(plan.device) if plan.on_gpu else None
    more = {"copy_bytes_per_s": copying}
    note = ""
    if copying:
        more["floor_bytes_per_s"] = bench.H100_BANDWIDTH
        note = f"; floor at {bench.H100_BANDWIDTH / 1e12:.1f} TB/s, this device copies at {copying / 1e12:.2f} TB/s"

    def measured(length: int) -> tuple[dict[str, Any], dict[str, str]]:
        shape = bench.gated_shape(length, elements=elements, width=width, batch=batch)
        row, cells = _check(plan, shape)
        if not row["correct"]:
            return row, cells
        mine = _measure_gated(plan, shape, plan.backend)
        plain = _measure_gated(plan, shape, "torch") if with_torch and mine else None
        row |= {"backend": as_dict(mine), "torch": as_dict(plain), "speed_up": {}}
        if plan.on_gpu:
            row |= {"floor_ms": bench.floor_ms(shape, plan.dtype), "times_floor": {}}
        for part, words in _PARTS.items():
            cells[f"{words} ms"] = number(median(mine, part), ".3f")
            if plan.on_gpu:
                ratio = over(median(mine, part), row["floor_ms"][part])
                row["times_floor"][part] = ratio
                cells[f"{words} x floor"] = number(ratio, ".2f")
        for part, words in _PARTS.items() if with_torch else ():
            cells[f"torch {words} ms"] = number(median(plain, part), ".3f")
        for part, words in _PARTS.items() if with_torch else ():
            row["speed_up"][part] = over(median(plain, part), median(mine, part))
            cells[f"speed-up {words}"] = number(row["speed_up"][part], ".2f")
        for part, words in _PARTS.items() if plan.on_gpu else ():
            extra = mine[part].extra_memory if mine else None
            cells[f"memory {words}"] = number(extra, ".2f")
        return row, cells

    _run(plan, "fftconv", measured, more, note)


@app.command("attention")
def attention(
    lengths: LengthsOption = None,
    json_path: JsonOption = None,
    device: DeviceOption = "auto",
    backend: _Backend = "auto",
    tokens: _Tokens = None,
    width: _HeadsWidth = 768,
    batch: _Batch = None,
    dtype: _Dtype = "bf16",
    repeats: RepeatsOption = None,
    force: ForceOption = False,
) -> None:
    """Measure causal attention against the gated long convolution at the same tokens and width.

    Only the operations are compared, without their projections; attention is the faster of torch's flash and cuDNN kernels (flash on
    a CPU). "ratio" is attention's time over the convolution's. Default lengths are 8K and 64K on a GPU, 512 and 2K on a CPU.

    \b
    Examples
      hyenadna bench attention --json attention.json
      hyenadna bench attention --device cpu --lengths 512 --width 64
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.errors import ConfigError
    from hyenadna.ops.bench import Shape

    if width % _HEAD_DIM:
        raise ConfigError(f"--width {width} is no multiple of {_HEAD_DIM}, the width of a head")
    defaults = (8 * _K, 64 * _K), (512, 2 * _K)
    plan = prepare(device, backend, dtype, lengths, defaults, repeats, json_path, force)
    if plan.on_gpu and dtype == "fp32":
        raise ConfigError("--dtype fp32 has no fast attention on a GPU; expected bf16 or fp16")
    tokens = tokens or (65_536 if plan.on_gpu else 2048)

    def measured(length: int) -> tuple[dict[str, Any], dict[str, str]]:
        shape = Shape(batch or max(1, tokens // length), width, length)
        row, cells = _check(plan, shape)
        if not row["correct"]:
            return row, cells
        mine = _measure_gated(plan, shape, plan.backend)
        kernels = ("flash", "cudnn") if plan.on_gpu else ("flash",)
        found = {name: _measure_attention(plan, shape, name) for name in kernels}
        row |= {"backend": as_dict(mine), "heads": width // _HEAD_DIM, "best": {}, "ratio": {}}
        row["attention"] = {name: as_dict(one) for name, one in found.items()}
        for part, words in _PARTS.items():
            times = {name: ms for name in found if (ms := median(found[name], part)) is not None}
            best = min(times, key=times.__getitem__, default=None)
            ms = times.get(best or "")
            row["best"][part] = best
            row["ratio"][part] = over(ms, median(mine, part))
            cells[f"{words} attention ms"] = number(ms, ".3f") + (f" {best}" if best else "")
            cells[f"{words} hyena ms"] = number(median(mine, part), ".3f")
            cells[f"{words} ratio"] = number(row["ratio"][part], ".2f")
        return row, cells

    _run(plan, "attention", measured, {}, "; ratio = attention / hyena")


class Plan(NamedTuple):
    """What a verb was asked for, checked."""

    device: torch.device
    backend: str
    dtype: torch.dtype
    lengths: tuple[int, ...]
    repeats: int
    json_path: str | None
    force: bool

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"


def prepare(
    device: str,
    backend: str,
    dtype: str,
    lengths: str | None,
    defaults: tuple[tuple[int, ...], tuple[int, ...]],
    repeats: int | None,
    json_path: str | None,
    force: bool,
) -> Plan:
    """Check every setting before the first second of work; `defaults` are the lengths on a GPU and on a CPU."""
    import torch

    from hyenadna.errors import ConfigError
    from hyenadna.inference.runtime import choose_device
    from hyenadna.io.atomic import check_output
    from hyenadna.ops.fftconv import resolve_backend

    if json_path is not None:
        check_output(json_path, force=force, folder=False)
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype} is unknown; expected {', '.join(DTYPES)}")
    chosen = None if lengths is None else parse_lengths(lengths)
    where = choose_device(device)
    on_gpu = where.type == "cuda"
    if on_gpu:
        where = torch.device("cuda", where.index or 0)
        torch.cuda.set_device(where)  # events and Triton follow the current device
    return Plan(
        where,
        resolve_backend(backend, where),
        getattr(torch, DTYPES[dtype]),
        chosen or defaults[0 if on_gpu else 1],
        repeats or (30 if on_gpu else 3),
        json_path,
        force,
    )


def parse_lengths(text: str, option: str = "--lengths") -> tuple[int, ...]:
    """Read lengths such as 1000,32K,1M of an option."""
    from hyenadna.errors import ConfigError

    lengths = []
    for word in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,9})([KkMm]?)\s*", word)
        length = int(found[1]) * {"": 1, "K": _K, "M": _K * _K}[found[2].upper()] if found else 0
        if not 1 <= length < 2**31:
            raise ConfigError(
                f"{option} {text!r}: {word!r} is no length; expected whole numbers from 1 to 2,147,483,647, as in 1000,32K,1M"
            )
        lengths.append(length)
    return tuple(lengths)


def _check(plan: Plan, shape: Shape) -> tuple[dict[str, Any], dict[str, str]]:
    """Hold one length against float64; returns its row of the JSON and its cells of the table."""
    from hyenadna.ops.bench import TOLERANCES, check_gated, run_gated

    run = run_gated(plan.backend)
    found = _attempt(plan, shape, plan.backend, lambda: check_gated(run, shape, plan.dtype, plan.device))  # fmt: skip
    row: dict[str, Any] = {**shape._asdict(), "correct": None, "errors": None, "backend": None}
    cells = {name: f"{row[name]:,}" for name in ("L", "B", "D")}
    if found is None:
        return row, cells
    # JSON has no infinity: an error that is no number is null.
    errors = {name: e if e < float("inf") else None for name, e in found.errors.items()}
    row |= {"correct": found.correct, "errors": errors}
    cells["error of y"] = f"{found.errors['y']:.1e}"
    if found.correct:
        _say(shape, f"correct on {plan.backend} (y {found.errors['y']:.1e}); measuring")
    else:
        tolerances = TOLERANCES[plan.dtype]
        wrong = [f"{n} {e:.1e} > {tolerances[n]:.1e}" for n, e in found.errors.items() if not e <= tolerances[n]]  # fmt: skip
        _say(shape, f"WRONG on {plan.backend}, no speed is reported: {', '.join(wrong)}")
        cells["error of y"] += " WRONG"
    return row, cells


def _measure_gated(plan: Plan, shape: Shape, backend: str) -> Measurement | None:
    from hyenadna.ops.bench import gated_inputs, input_sets, measure, run_gated

    def work() -> Measurement:
        sets = input_sets(lambda seed: gated_inputs(shape, plan.dtype, plan.device, seed=seed), plan.device)  # fmt: skip
        return measure(run_gated(backend), sets, repeats=plan.repeats)

    return _attempt(plan, shape, backend, work)


def _measure_attention(plan: Plan, shape: Shape, kernel: str) -> Measurement | None:
    from hyenadna.ops.bench import measure_attention

    return _attempt(
        plan, shape, f"{kernel} attention",
        lambda: measure_attention(kernel, shape, shape.D // _HEAD_DIM, plan.dtype, plan.device, repeats=plan.repeats),
    )  # fmt: skip


def _attempt(plan: Plan, shape: Shape, what: str, work: Callable[[], _Result]) -> _Result | None:
    return attempt(plan.device, f"{_title(shape)}: {what}", work)


def attempt(device: torch.device, what: str, work: Callable[[], _Result]) -> _Result | None:
    """Run one measurement; None, said on stderr, where memory is short or a backend refuses the shape."""
    from hyenadna.errors import BackendUnavailableError
    from hyenadna.ops.bench import is_out_of_memory, release_memory

    try:
        return work()
    except BackendUnavailableError as error:
        typer.echo(f"{what}: {error}", err=True)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        typer.echo(f"{what}: out of memory", err=True)
    finally:
        release_memory(device)
    return None


def _title(shape: Shape) -> str:
    return f"L={shape.L:,} (B={shape.B:,}, D={shape.D:,})"


def _say(shape: Shape, words: str) -> None:
    typer.echo(f"{_title(shape)}: {words}", err=True)


def median(found: Measurement | None, part: str) -> float | None:
    """Return the milliseconds of a part where it was measured."""
    return None if found is None else found[part].median_ms


def over(one: float | None, other: float | None) -> float | None:
    """Return a ratio where both numbers are known."""
    return one / other if one and other else None


def number(value: float | None, form: str) -> str:
    """Return a cell of a table, a dash for None."""
    return "-" if value is None else format(value, form)


def as_dict(found: Measurement | None) -> dict[str, Any] | None:
    """Return a measurement as JSON has it."""
    return None if found is None else {part: one._asdict() for part, one in found.items()}


def _run(
    plan: Plan,
    name: str,
    measured: Callable[[int], tuple[dict[str, Any], dict[str, str]]],
    more: dict[str, Any],
    note: str,
) -> None:
    """Measure every length, and leave with 1 where a number is missing."""
    from hyenadna.ops.bench import TOLERANCES

    dtype = str(plan.dtype).removeprefix("torch.")
    last = f"{plan.backend}, {dtype}, {device_name(plan.device)}; median of {plan.repeats}{note}"
    facts = {
        "benchmark": name, "device": device_name(plan.device), "backend": plan.backend, "dtype": dtype, "repeats": plan.repeats,
        "tolerances": TOLERANCES[plan.dtype], **more,
    }  # fmt: skip
    with Record(plan.json_path, facts, force=plan.force, summary=_all_correct) as record:
        for length in plan.lengths:
            record.add(*measured(length))
        record.note(last)
    if any(not row["backend"] or None in row.get("ratio", {}).values() for row in record.rows):
        raise typer.Exit(1)


def _all_correct(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"correct": all(row["correct"] is True for row in rows)}


class Record:
    """A benchmark's rows as they become known: each at once on standard error and in the JSON, all as a table in the end.

    The JSON is replaced as a whole after each row, so that a run that is killed leaves what it has measured, with ``"complete": false``. Standard output and
    pipes get one document, when the block ends: the complete one, or on Ctrl-C and errors what there is.

    Parameters
    ----------
    path
        The JSON, ``-`` for standard output, which then holds no table; None for a table alone.
    facts
        What the JSON says beside the rows.
    force
        Whether an existing JSON may be overwritten.
    summary
        What the rows so far say together, for the JSON.
    """

    def __init__(
        self,
        path: str | None,
        facts: dict[str, Any],
        *,
        force: bool,
        summary: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda _rows: {},
    ) -> None:
        from hyenadna.io.atomic import is_special

        self.rows: list[dict[str, Any]] = []
        self._table: list[dict[str, str]] = []
        self._notes: list[str] = []
        self._path, self._facts, self._force, self._summary = path, facts, force, summary
        self._environment = {} if path is None else environment()
        self._once = path == "-" or (path is not None and is_special(Path(path).expanduser()))

    def __enter__(self) -> Record:
        """Begin."""
        return self

    def add(self, row: dict[str, Any], cells: dict[str, str]) -> None:
        """Take a row of the JSON and the cells of the table's."""
        self.rows.append(row)
        self._table.append(cells)
        typer.echo("; ".join(f"{title} {text}" for title, text in cells.items()), err=True)
        if not self._once:
            self._write(complete=False)

    def note(self, line: str) -> None:
        """Take a line to print below the table."""
        self._notes.append(line)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Print the table, and write the JSON for the last time."""
        if self._path != "-" and self._table:
            print_table(self._table)
            for line in self._notes:
                typer.echo(line)
        if kind is None or self._table:
            self._write(complete=kind is None)

    def _write(self, *, complete: bool) -> None:
        if self._path is None:
            return
        document = {
            "complete": complete, **self._facts, **self._summary(self.rows), "rows": self.rows, **self._environment,
        }  # fmt: skip
        write_json(self._path, document, force=self._force)
        self._force = True  # from now on it is ours


def write_json(path: str, document: dict[str, Any], *, force: bool) -> None:
    """Write a record with the date."""
    from datetime import datetime, timezone

    from hyenadna.io.atomic import open_output

    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with open_output(path, force=force) as handle:
        handle.write(json.dumps({"date": date, **document}, indent=2, allow_nan=False) + "\n")


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows by their columns, the error last."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    titles = list(dict.fromkeys(title for row in rows for title in row if title != "error of y"))
    titles += ["error of y"] if any("error of y" in row for row in rows) else []
    table = Table(box=box.SIMPLE, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(row.get(title, "-") for title in titles))
    # Wide enough for every digit, on a narrow terminal and in a pipe alike.
    console = Console(highlight=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(width=1000)).maximum)  # fmt: skip
    console.print(table)


def device_name(device: torch.device) -> str:
    """Return the name of a GPU; a CPU's is in the record's `hardware`."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def environment() -> dict[str, Any]:
    """Return versions, hardware, commit and command."""
    import subprocess
    from importlib.metadata import distributions

    import torch

    from hyenadna.training import run_folder

    found = run_folder.environment()
    triton = [one.version for one in distributions(name="triton")]
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        driver = done.stdout.split("\n")[0].strip() or None
    except (OSError, subprocess.SubprocessError):
        driver = None
    found["versions"] |= {"triton": triton[0] if triton else None, "cuda": torch.version.cuda, "nvidia_driver": driver}  # fmt: skip
    found["commit"] = os.environ.get("HYENADNA_COMMIT") or found["commit"]
    return found
