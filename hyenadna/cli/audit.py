"""``hyenadna datasets audit``: what the splits of a labelled task share, and what a cheater would gain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hyenadna.tasks.audit import PairAudit


def audit(
    path: Annotated[str | None, typer.Argument(help="Folder with train, dev and test files, as GUE has them.")] = None,
    train: Annotated[str | None, typer.Option(help="File in place of the folder's train file.")] = None,
    dev: Annotated[str | None, typer.Option(help="File in place of the folder's dev file.")] = None,
    test: Annotated[str | None, typer.Option(help="File in place of the folder's test file.")] = None,
    k: Annotated[int, typer.Option("-k", min=8, max=31, help="Length of the k-mers that are compared.")] = 20,
    sequence_column: Annotated[str, typer.Option(help="Column of the sequences.")] = "sequence",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    json_path: Annotated[str | None, typer.Option("--json", help="JSON to write; - for standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing JSON.")] = False,
) -> None:  # fmt: skip
    """Find what the splits of a task share: copies, reverse complements, overlapping windows.

    A row of a held-out split is nearly the same as one that a model learns from if that one holds half of its k-mers on either strand,
    and overlaps it if it holds a tenth. The cheater copies the label of the most similar row, where one overlaps, and gives
    all others the most frequent label: a score that needs no biology. Where a model's score on a split comes near the cheater's,
    or falls when such rows are left out, it has learnt the split. `hyenadna finetune` leaves copies out by itself
    (data.drop_leaks), overlapping rows only of data.extra_train.

    \b
    Examples
      hyenadna datasets audit GUE/tf/4
      hyenadna datasets audit my_task --json audit.json
      hyenadna datasets audit --train built/train.csv --dev GUE/splice/reconstructed/dev.csv
    """  # noqa: D301 - the backspace is Click's mark for text not to be rewrapped
    from hyenadna.cli.bench import print_table, write_json
    from hyenadna.data.labelled_task import load_task
    from hyenadna.io.atomic import check_output
    from hyenadna.tasks.audit import audit_task

    if json_path is not None:
        check_output(json_path, force=force, folder=False)
    task = load_task(
        path, train=train, dev=dev, test=test,
        sequence_column=sequence_column, label_column=label_column, drop_leaks=False,
    )  # fmt: skip
    found = audit_task(task, k=k)
    if json_path is not None:
        document = {
            "path": path,
            "files": {
                "train": task.train.path,
                "dev": task.dev.path,
                "test": task.test and task.test.path,
            },
            "k": found.k,
            "one_kmer_kept_of": found.sketched,
            "splits": [split._asdict() for split in found.splits],
            "pairs": [pair._asdict() for pair in found.pairs],
        }
        write_json(json_path, document, force=force)
    if json_path == "-":
        return
    for note in task.notes:
        typer.echo(note)
    names = {"name": "split", "rows": "rows", "distinct": "distinct", "contradicting": "with two labels"}  # fmt: skip
    print_table([
        {title: _cell(getattr(split, field)) for field, title in names.items()}
        for split in found.splits
    ])  # fmt: skip
    print_table([_pair_cells(pair) for pair in found.pairs])
    kept = "all k-mers" if found.sketched == 1 else f"one k-mer of {found.sketched}"
    typer.echo(f"k = {found.k}, {kept}; shares are of the held-out rows; distinct and copies count reverse complements as the same sequence")  # fmt: skip


def _pair_cells(pair: PairAudit) -> dict[str, str]:
    def share(n: int) -> str:
        return f"{n:,} ({100 * n / max(pair.rows, 1):.1f} %)"

    right = f"{100 * pair.right / pair.answered:.0f} %" if pair.answered else "-"
    return {
        "learnt from": pair.seen,
        "held out": pair.held_out,
        "copies": share(pair.copies),
        "reverse complements": share(pair.reverse_complements),
        "nearly the same": share(pair.nearly_the_same),
        "overlapping": share(pair.overlapping),
        "copied labels right": right,
        "cheater's MCC": f"{pair.cheater_mcc:.3f}",
    }


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
