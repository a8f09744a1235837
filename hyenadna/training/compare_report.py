"""A comparison of runs, written down: Markdown to read, CSV and JSON to go on with. Metrics and differences are × 100 in all three."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyenadna.tasks.paired import PairedDifference
from hyenadna.training.compare import ALPHA, BETTER, UNDECIDED, WORSE, ComparedTask, Comparison

__all__ = ["METRIC_NAMES", "as_csv", "as_json", "as_markdown", "method", "sentences"]

METRIC_NAMES = {"mcc": "MCC", "f1_macro": "macro F1", "accuracy": "accuracy", "auroc": "AUROC", "auprc": "AUPRC"}  # fmt: skip
_NAMED_TASKS = 8  # more would hide the sentence around them
_SHOWN_SETTINGS = 8


def sentences(found: Comparison) -> list[str]:
    """Return for each run one sentence that says whether it is better than the reference, and where it is not."""
    return [_sentence(found, run.name) for run in found.runs[1:]]


def _sentence(found: Comparison, run: str) -> str:
    mean, counts = found.means[run], found.counts(run)
    size = f"{_signed(mean.value)} {METRIC_NAMES[found.metric]} points (95 % interval {_interval(mean)})"
    if len(found.tasks) == 1:
        verdict = found.tasks[0].contrasts[run].verdict
        said = verdict if verdict == UNDECIDED else f"{verdict} than {found.reference}"
        return f"{run} against {found.reference}: {said}, {size}."
    parts = [f"better on {len(counts[BETTER])}", f"worse on {len(counts[WORSE])}"]
    if counts[WORSE]:
        parts[1] += f" ({_some(counts[WORSE], _NAMED_TASKS)})"
    parts.append(f"no difference shown on {len(counts[UNDECIDED])}")
    return f"{run} against {found.reference}: {', '.join(parts)} of {len(found.tasks)} tasks; {size} on average."


def method(found: Comparison) -> list[str]:
    """Return how the numbers were made, and what they do not say, a sentence each."""
    words = [
        f"Differences are the mean over seeds of a run less that of {found.reference}, × 100.",
        f"Paired test: both runs read the same rows, so rows are drawn once for both ({found.n_resamples:,} bootstrap resamples); "
        "the variation between seeds is added to theirs (t distribution, degrees of freedom after Welch and Satterthwaite).",
        f"'p (Holm)' is corrected for the number of tasks of its table; 'better' and 'worse' mean that it is below {ALPHA}. Intervals, and p, are for each task alone.",
        "'No difference shown' does not mean that there is none: the interval says how large it may be.",
    ]
    if len(found.tasks) > 1:
        words.append("The mean is over these tasks, taken as independent; it says nothing about other tasks.")  # fmt: skip
    if any(t.split == "dev" for t in found.tasks):
        words.append("Dev chose the epoch of every run, which flatters all of them.")
    for run in found.runs[1:]:
        alone = [t.task for t in found.tasks if not t.contrasts[run.name].difference.seeds]
        if alone:
            which = "" if len(alone) == len(found.tasks) else f" on {_some(alone, _NAMED_TASKS)}"
            words.append(f"{run.name} and {found.reference} have one seed each{which}: the test is about these two trained models, not about what other seeds would give.")  # fmt: skip
    if found.left_out:
        words.append("Left out: " + "; ".join(f"{t} ({why})" for t, why in found.left_out.items()) + ".")  # fmt: skip
    return words


def as_markdown(found: Comparison) -> str:
    """Return one table a run, and the sentences around them; readable as text, too."""
    metric = METRIC_NAMES[found.metric]
    others = ", ".join(run.name for run in found.runs[1:])
    parts = [f"# {metric} × 100: {others} against {found.reference}\n", _runs_table(found)]
    for run, said in zip(found.runs[1:], sentences(found), strict=True):
        parts += [f"## {run.name} against {found.reference}\n", said + "\n"]
        differs = found.facts[run.name]["differs"]
        if differs:
            parts.append("Settings that differ: " + _settings(differs) + ".\n")
        parts.append(_task_table(found, run.name))
    parts.append("\n".join(f"- {word}" for word in method(found)) + "\n")
    return "\n".join(parts)


def _runs_table(found: Comparison) -> str:
    lines = [["run", "folder", "starts from", "parameters", "seeds"]]
    for run in found.runs:
        facts = found.facts[run.name]
        start = ", ".join(name or "random weights" for name in facts["pretrained"])
        sizes = facts["parameters"]
        shown = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
        lines.append([run.name, run.folder, start, shown, ", ".join(map(str, facts["seeds"]))])
    return _table(lines)


def _task_table(found: Comparison, run: str) -> str:
    lines = [["task", "rows", found.reference, run, "difference", "95 % interval", "p", "p (Holm)", "verdict"]]  # fmt: skip
    for task in found.tasks:
        contrast = task.contrasts[run]
        difference = contrast.difference
        name = task.task if task.split == "test" else f"{task.task} (dev)"
        lines.append([
            name, f"{task.n:,}", _spread(task.values[found.reference]), _spread(task.values[run]),
            _signed(difference.value), _interval(difference), _p(difference.p), _p(contrast.adjusted), contrast.verdict,
        ])  # fmt: skip
    if len(found.tasks) > 1:
        mean, counts = found.means[run], found.counts(run)
        levels = [
            f"{100 * np.mean([np.mean(t.values[name]) for t in found.tasks]):.1f}"
            for name in (found.reference, run)
        ]
        summary = ", ".join(f"{len(tasks)} {verdict}" for verdict, tasks in counts.items())
        lines.append([
            f"mean of {len(found.tasks)}", f"{sum(t.n for t in found.tasks):,}", *levels, _signed(mean.value),
            _interval(mean), _p(mean.p), "", summary,
        ])  # fmt: skip
    return _table(lines)


def as_csv(found: Comparison) -> str:
    """Return one row for each task and run that is not the reference."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([
        "task", "split", "metric", "rows", "reference", "run", "reference_mean", "run_mean", "difference", "low", "high", "p",
        "p_holm", "verdict",
    ])  # fmt: skip
    for run in found.runs[1:]:
        for task in found.tasks:
            contrast = task.contrasts[run.name]
            d = contrast.difference
            means = [100 * float(np.mean(task.values[n])) for n in (found.reference, run.name)]
            writer.writerow([
                task.task, task.split, found.metric, task.n, found.reference, run.name,
                *(f"{value:.4f}" for value in (*means, 100 * d.value, 100 * d.low, 100 * d.high)),
                f"{d.p:.4g}", f"{contrast.adjusted:.4g}", contrast.verdict,
            ])  # fmt: skip
    return out.getvalue()


def as_json(found: Comparison, facts: Mapping[str, Any]) -> str:
    """Return everything, with the values of every seed.

    Parameters
    ----------
    facts
        What else it says: hardware, versions, command.
    """
    plain = {
        "metric": found.metric,
        "reference": found.reference,
        "runs": [{"name": r.name, "folder": r.folder, **found.facts[r.name]} for r in found.runs],
        "answers": sentences(found),
        "tasks": [_plain_task(found, task) for task in found.tasks],
        "means": {name: _plain(mean) for name, mean in found.means.items()},
        "counts": {
            r.name: {verdict: len(tasks) for verdict, tasks in found.counts(r.name).items()}
            for r in found.runs[1:]
        },
        "left_out": dict(found.left_out),
        "n_resamples": found.n_resamples,
        "method": method(found),
        **facts,
    }
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain_task(found: Comparison, task: ComparedTask) -> dict[str, Any]:
    return {
        "task": task.task,
        "split": task.split,
        "rows": task.n,
        "seeds": {name: [100 * v for v in values] for name, values in task.values.items()},
        "means": {name: 100 * float(np.mean(values)) for name, values in task.values.items()},
        "against_reference": {
            name: {**_plain(c.difference), "p_holm": c.adjusted, "verdict": c.verdict}
            for name, c in task.contrasts.items()
        },
    }


def _plain(d: PairedDifference) -> dict[str, Any]:
    return {
        "difference": 100 * d.value,
        "ci95": [100 * d.low, 100 * d.high],
        "standard_error": 100 * d.standard_error,
        "df": d.df if math.isfinite(d.df) else None,
        "p": d.p,
        "seeds_counted": d.seeds,
    }


def _table(lines: Sequence[Sequence[str]]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    texts.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(texts) + "\n"


def _settings(differs: Mapping[str, Sequence[str]]) -> str:
    shown = [
        f"{key} ({changes[0] if len(changes) == 1 else 'by task'})"
        for key, changes in list(differs.items())[:_SHOWN_SETTINGS]
    ]
    rest = len(differs) - len(shown)
    return ", ".join(shown) + (f" and {rest} more (all in the JSON)" if rest else "")


def _some(names: Sequence[str], limit: int) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * float(np.mean(values)):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * float(np.std(values, ddof=1)):.1f}"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _interval(d: PairedDifference) -> str:
    return f"{_signed(d.low)} to {_signed(d.high)}"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
