"""``hyenadna generate``: continuations of sequences, drawn from a language model base by base."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from hyenadna.cli.options import ModelOption, OnErrorOption, VerboseOption
from hyenadna.resources import DEFAULT_MODEL

_FORMATS = {".fa": "fasta", ".fasta": "fasta", ".fna": "fasta", ".jsonl": "jsonl"}


def generate(
    model: ModelOption = DEFAULT_MODEL,
    length: Annotated[int, typer.Option("--length", "-n", min=1, help="Bases to generate after each prompt.")] = 100,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="Bases to continue; can be repeated.")] = None,
    input_path: Annotated[str | None, typer.Option("--input", "-i", help="Prompts: FASTA, CSV, TSV, JSON lines (prompt or sequence, name), one a line; - for standard input.")] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="FASTA (.fa) or JSON lines (.jsonl), .gz too; - for standard output.")] = "-",
    form: Annotated[str | None, typer.Option("--format", help="fasta or jsonl (default: by the output's name, else fasta).")] = None,
    samples: Annotated[int, typer.Option("--samples", "-s", min=1, help="Continuations of each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(help="Divides the logits; 0 always takes the likeliest base.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Choose among the k likeliest bases only.")] = None,
    top_p: Annotated[float, typer.Option(help="Choose among the fewest bases that reach this probability together.")] = 1.0,
    gc: Annotated[str, typer.Option(help="Least and largest share of G and C, as in 0.4-0.6.")] = "0-1",
    forbid: Annotated[list[str] | None, typer.Option(help="Motif that may not occur; can be repeated.")] = None,
    template: Annotated[str, typer.Option(help="As many letters as --length: N is free, A, C, G, T are fixed.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same bases.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    on_error: OnErrorOption = "stop",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no summary.")] = False,
    verbose: VerboseOption = False,
) -> None:  # fmt: skip
    """Generate DNA: continue prompts with bases drawn from a language model, A, C, G and T only.

    Every base costs about the same, however long the sequence has become: long convolutions are computed as their input becomes known,
    and equal the full forward pass to rounding. Log-probabilities are the model's own, whatever was allowed to be chosen: their sum is
    what 'hyenadna score' gives. FASTA headers hold the log-likelihood and bits per base; JSON lines the log-probability of every base, too.
    Beside a file FILE, FILE.json records model, settings and machine.
    One strand is read, base after base, in float32, so there are no --rc, --window and --dtype.

    \b
    Examples
      hyenadna generate -p ACGTACGTAC -n 200 --samples 3
      hyenadna generate -m MODEL -i prompts.fa -n 1000 --temperature 0.8 --gc 0.35-0.45 --forbid GAATTC -o out.jsonl
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.cli.scoring import (
        Skipped,
        is_stream,
        loading,
        open_console,
        progress_bar,
        require_other_than_inputs,
        tell_record,
        write_record,
    )
    from hyenadna.errors import ConfigError
    from hyenadna.inference.generation import Rules
    from hyenadna.inference.generation import generate as continue_prompts
    from hyenadna.inference.inputs import SEQUENCE_COLUMNS, read_sequences
    from hyenadna.inference.runtime import choose_device, load_language_model, weights_checksum
    from hyenadna.io import check_output, open_output

    console = open_console(quiet=quiet, verbose=verbose)
    if bool(prompt) == (input_path is not None):
        raise ConfigError(
            "say what to continue: bases with -p, or a file of prompts with -i (one of the two)"
        )
    skipped = Skipped(on_error)
    form = form or _FORMATS.get("." + output.removesuffix(".gz").rpartition(".")[2], "fasta")
    if form not in ("fasta", "jsonl"):
        raise ConfigError(f"--format {form!r} is unknown; expected fasta or jsonl")
    rules = Rules(_gc_range(gc), tuple(m.upper() for m in forbid or ()), template.upper())
    require_other_than_inputs(output, input_path)
    check_output(output, force=force, folder=False)
    record_path = None if is_stream(output) else f"{output}.json"
    if record_path:
        check_output(record_path, force=force, folder=False)
    if input_path is None:
        prompts = [(f"prompt_{i + 1}", letters) for i, letters in enumerate(prompt or ())]
    else:
        read = read_sequences(
            input_path, usual_columns=("prompt", *SEQUENCE_COLUMNS), on_error=skipped.on_error
        )
        prompts = [(name, letters) for name, letters, _ in read]
        skipped.require_others(len(prompts))
    where = choose_device(device)
    with loading(console, model):
        network, tokenizer = load_language_model(model, device=where)
    settings = {
        "length": length, "samples": samples, "temperature": temperature, "top_k": top_k, "top_p": top_p, "gc": gc,
        "forbid": forbid, "template": template, "seed": seed, "device": str(where),
    }  # fmt: skip
    made = {
        "model": model, "weights_sha256": weights_checksum(network), "model_config": network.config.to_dict(),
        "input": {"prompts": prompt, "sequences": input_path}, "settings": settings,
    }  # fmt: skip
    tell_record(console, made, verbose=verbose)
    began = time.monotonic()
    bar = progress_bar(console, "bases")
    task = bar.add_task("generating", total=len(prompts) * samples * length)
    found = continue_prompts(
        network, [letters for _, letters in prompts], length, tokenizer=tokenizer, n_samples=samples, temperature=temperature,
        top_k=top_k, top_p=top_p, rules=rules, seed=seed, progress=lambda n: bar.update(task, advance=n),
    )  # fmt: skip
    with bar, open_output(output, force=force) as out:
        for number, one in enumerate(found):
            name = f"{prompts[number // samples][0]}_{number % samples + 1}"
            total = float(one.log_probabilities.sum())
            if form == "jsonl":
                row = {
                    "name": name, "prompt": one.prompt, "sequence": one.sequence, "log_likelihood": total,
                    "bits_per_base": one.bits_per_base, "log_probabilities": [round(float(p), 6) for p in one.log_probabilities],
                }  # fmt: skip
                out.write(json.dumps(row) + "\n")
            else:
                out.write(f">{name} log_likelihood={total:.4f} bits_per_base={one.bits_per_base:.4f}\n")  # fmt: skip
                letters = one.prompt + one.sequence
                out.writelines(f"{letters[i : i + 80]}\n" for i in range(0, len(letters), 80))
        if record_path:  # inside the block: where it cannot be written, neither are the sequences
            write_record(record_path, made, force=force)
    seconds = time.monotonic() - began
    n_bases = len(prompts) * samples * length
    console.print(
        f"generated {n_bases:,} bases in {seconds:.1f} s ({n_bases / max(seconds, 1e-9):,.0f} bases/s){skipped.sentence()}",
        highlight=False,
        soft_wrap=True,
    )


def _gc_range(text: str) -> tuple[float, float]:
    from hyenadna.errors import ConfigError

    low, dash, high = text.partition("-")
    try:
        if dash:
            return float(low), float(high)
    except ValueError:
        pass
    raise ConfigError(f"--gc is {text!r}; expected two shares, as in 0.4-0.6")
