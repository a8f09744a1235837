from __future__ import annotations

from pathlib import Path

import pytest

from hyenadna.errors import FileFormatError, OutputError
from hyenadna.training.metrics_log import MetricsLog, plot_loss, read_metrics, truncate_metrics


def test_rows_are_on_disk_at_once_with_all_digits(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.csv", ("loss_nats", "tokens"))
    log.log_metrics(
        {"train/loss_nats": 1 / 3, "train/tokens": 64, "train/other": 1.0, "loose": 2.0}, 1
    )
    log.log_metrics({"validation/loss_nats": 0.25}, 1)
    log.log_hyperparams({"a": 1})
    assert (tmp_path / "metrics.csv").read_text() == (
        "step,split,loss_nats,tokens\n1,train,0.3333333333333333,64\n1,validation,0.25,\n"
    )
    assert read_metrics(log.path) == [
        {"step": 1, "split": "train", "loss_nats": 1 / 3, "tokens": 64},
        {"step": 1, "split": "validation", "loss_nats": 0.25},
    ]
    assert (log.name, log.version) == ("csv", "")


def test_half_a_row_of_a_killed_process_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,split,loss_nats\n1,train,1.5\n2,tr")
    assert [row["step"] for row in read_metrics(path)] == [1]
    truncate_metrics(path, 5)
    assert path.read_text() == "step,split,loss_nats\n1,train,1.5\n"


def test_rows_after_the_checkpoint_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    truncate_metrics(path, 3)
    assert not path.exists()
    path.write_text("step,split\n" + "".join(f"{s},train\n" for s in range(1, 6)))
    truncate_metrics(path, 3)
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]


def test_file_that_is_no_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_metrics(tmp_path / "none.csv")
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="step and split"):
        read_metrics(tmp_path / "x.csv")
    with pytest.raises(OutputError):
        MetricsLog(tmp_path).log_metrics({"train/loss_nats": 1.0}, 1)


def test_plot_is_a_png_even_of_nothing(tmp_path: Path) -> None:
    rows = [
        {"step": s, "split": split, "tokens": 64 * s, "bits_per_base": 2 - s / 10}
        for s in (1, 2)
        for split in ("train", "validation")
    ]
    for name, points in (("a.png", rows), ("b.png", [])):
        plot_loss(points, tmp_path / name, title="a run")
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
