"""``hyenadna bench loader``: how fast training data comes from a genome to the device."""

from __future__ import annotations

from typing import Annotated

import typer

from hyenadna.cli.bench import (
    DeviceOption,
    ForceOption,
    JsonOption,
    Record,
    device_name,
    parse_lengths,
)


def loader(
    fasta: Annotated[str | None, typer.Option("--fasta", "-f", help="Genome: FASTA or .2bit (default: the bundled yeast genome).")] = None,
    lengths: Annotated[str, typer.Option(help="Window lengths, separated by commas.")] = "1K,32K",
    tokens: Annotated[int, typer.Option(min=1, help="Bases of a step, about.")] = 262_144,
    steps: Annotated[int, typer.Option(min=10, help="Steps of each row.")] = 200,
    workers: Annotated[str, typer.Option(help="Numbers of worker processes, separated by commas.")] = "0,2",
    device: DeviceOption = "auto",
    json_path: JsonOption = None,
    force: ForceOption = False,
) -> None:  # fmt: skip
    """Measure the data path of `hyenadna pretrain`: random windows, half of them reverse-complemented, as token ids on the device.

    The first windows of each length are held against the letters of the genome; other bases end the run without a speed. A model that trains
    at fewer bases a second never waits for its data.

    \b
    Examples
      hyenadna bench loader
      hyenadna bench loader -f genome.2bit --lengths 1K,160K --workers 0,4 --json loader.json
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.errors import ConfigError
    from hyenadna.inference.runtime import choose_device
    from hyenadna.io.atomic import check_output
    from hyenadna.training.loader_benchmark import check_windows, measure_loader, open_data

    if json_path is not None:
        check_output(json_path, force=force, folder=False)
    where = choose_device(device)
    chosen = parse_lengths(lengths)
    try:
        processes = [int(word) for word in workers.split(",")]
    except ValueError:
        processes = [-1]
    if min(processes) < 0:
        raise ConfigError(f"--workers {workers!r} is no list of numbers; expected one such as 0,2")
    source = fasta or "bundled:scerevisiae/genome.2bit"
    facts = {"benchmark": "loader", "genome": source, "device": device_name(where)}
    with Record(json_path, facts, force=force) as record:
        for length in chosen:
            for n in processes:
                batch = max(1, tokens // length)
                data = open_data(source, seq_len=length, batch_size=batch, steps=steps, num_workers=n)  # fmt: skip
                if n == processes[0]:
                    check_windows(data, source)
                    typer.echo(f"L={length:,}: windows are the genome's bases; measuring", err=True)
                rate = measure_loader(data, where)
                record.add(
                    {"L": length, "B": batch, "workers": n, **rate._asdict()},
                    {"L": f"{length:,}", "B": f"{batch:,}", "workers": str(n), "Mbase/s": f"{rate.bases_per_s / 1e6:,.0f}"},
                )  # fmt: skip
        record.note(f"{source} to {device_name(where)}; median of {steps - steps // 10} steps")
