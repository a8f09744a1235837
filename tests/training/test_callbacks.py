from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hyenadna.training import callbacks as cb


class FakeTrainer(SimpleNamespace):
    """What the callbacks ask of a trainer."""

    def __init__(self, **values: Any) -> None:
        strategy = SimpleNamespace(
            broadcast=lambda x: x,
            reduce_boolean_decision=lambda x, **_: x,
            launcher=None,
        )
        base: dict[str, Any] = {
            "global_step": 0, "should_stop": False, "sanity_checking": False, "is_global_zero": True,
            "estimated_stepping_batches": 10, "strategy": strategy,
        }  # fmt: skip
        super().__init__(**{**base, **values})
        self.saved: list[int] = []

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(self.global_step)
        Path(path).write_text(str(self.global_step))


MODULE: Any = None


def steps_saved(
    tmp_path: Path, *, every: int, max_steps: int, validate_every: int
) -> list[tuple[int, str]]:
    """Run the hooks as Lightning does and list (step, hook) of every save."""
    trainer: Any = FakeTrainer()
    saver = cb.SaveLast(
        tmp_path / "last.ckpt", every=every, max_steps=max_steps, validate_every=validate_every
    )
    saver.setup(trainer, MODULE, "fit")
    found = []
    for step in range(1, max_steps + 1):
        trainer.global_step = step
        saver.on_train_batch_end(trainer, MODULE, None, None, step)
        found += [(s, "train") for s in trainer.saved]
        trainer.saved = []
        if step % validate_every == 0:
            saver.on_validation_end(trainer, MODULE)
            found += [(s, "validation") for s in trainer.saved]
            trainer.saved = []
    return found


def test_saving_waits_for_the_validation_of_its_step(tmp_path: Path) -> None:
    assert steps_saved(tmp_path, every=2, max_steps=7, validate_every=4) == [
        (2, "train"), (4, "validation"), (6, "train"), (7, "train"),
    ]  # fmt: skip
    assert (tmp_path / "last.ckpt").read_text() == "7"
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_validation_that_no_save_waits_for_does_not_save(tmp_path: Path) -> None:
    assert steps_saved(tmp_path, every=3, max_steps=4, validate_every=2) == [
        (3, "train"), (4, "validation"),
    ]  # fmt: skip


def test_a_save_that_fails_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_text("good")
    trainer: Any = FakeTrainer(global_step=1)

    def fails(temporary: Path) -> None:
        Path(temporary).write_text("half")
        raise RuntimeError("killed")

    trainer.save_checkpoint = fails
    saver = cb.SaveLast(path, every=1, max_steps=9, validate_every=5)
    with pytest.raises(RuntimeError):
        saver.on_train_batch_end(trainer, MODULE, None, None, 0)
    assert path.read_text() == "good"
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_other_processes_take_part_in_a_save_without_writing_beside_it(tmp_path: Path) -> None:
    trainer: Any = FakeTrainer(global_step=1, is_global_zero=False)
    called: list[Path] = []
    trainer.save_checkpoint = called.append
    saver = cb.SaveLast(tmp_path / "last.ckpt", every=1, max_steps=9, validate_every=5)
    saver.on_train_batch_end(trainer, MODULE, None, None, 0)
    assert called == [tmp_path / "last.ckpt"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step_and_handlers_are_given_back(number: int) -> None:
    before = signal.getsignal(number)
    trainer: Any = FakeTrainer()
    stop = cb.StopInOrder()
    stop.on_train_start(trainer, MODULE)
    stop.on_train_batch_end(trainer, MODULE, None, None, 0)
    assert not trainer.should_stop
    os.kill(os.getpid(), number)
    assert not trainer.should_stop
    stop.on_train_batch_end(trainer, MODULE, None, None, 1)
    assert trainer.should_stop
    assert stop.reason == signal.Signals(number).name
    if number == signal.SIGINT:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    stop.on_train_end(trainer, MODULE)
    assert signal.getsignal(number) is before


def test_sigterm_reaches_the_processes_that_lightning_started() -> None:
    trainer: Any = FakeTrainer()
    sent: list[int] = []
    trainer.strategy.launcher = SimpleNamespace(kill=sent.append)
    stop = cb.StopInOrder()
    stop.on_train_start(trainer, MODULE)
    os.kill(os.getpid(), signal.SIGTERM)
    stop.on_exception(trainer, MODULE, RuntimeError())
    assert sent == [signal.SIGTERM]


def test_time_limit_and_other_processes_stop_the_run() -> None:
    trainer: Any = FakeTrainer()
    stop = cb.StopInOrder(max_seconds=0.0)
    stop.on_train_start(trainer, MODULE)
    stop.on_train_batch_end(trainer, MODULE, None, None, 0)
    stop.on_train_end(trainer, MODULE)
    assert (trainer.should_stop, stop.reason) == (True, "max_hours")
    trainer = FakeTrainer()
    trainer.strategy.reduce_boolean_decision = lambda _, **__: True
    stop = cb.StopInOrder()
    stop.on_train_batch_end(trainer, MODULE, None, None, 0)
    assert (trainer.should_stop, stop.reason) == (True, "another process was stopped")


def test_plain_lines_are_few_and_hold_the_metrics() -> None:
    stream = io.StringIO()
    shown = {"bits/base": torch.tensor(1.95), "tokens/s": 12345.6}
    reporter = cb.ProgressReporter(shown, lines=5, stream=stream)
    trainer: Any = FakeTrainer()
    reporter.on_train_start(trainer, MODULE)
    for step in range(1, 11):
        trainer.global_step = step
        reporter.on_train_batch_end(trainer, MODULE, None, None, step)
    reporter.on_train_end(trainer, MODULE)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert lines[-1] == "step 10/10  bits/base 1.9500  tokens/s 12,346"


def test_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_INTERACTIVE", "1")
    trainer: Any = FakeTrainer(global_step=3)
    reporter = cb.ProgressReporter({"bits/base": 1.5}, 10)
    reporter.on_train_start(trainer, MODULE)
    reporter.on_train_batch_end(trainer, MODULE, None, None, 3)
    reporter.on_validation_start(trainer, MODULE)
    reporter._write("a line")
    reporter.on_exception(trainer, MODULE, RuntimeError())
    output = capsys.readouterr()
    assert output.out == ""
    assert "bits/base 1.5000" in output.err
    assert "a line" in output.err


def test_only_the_first_process_shows_and_plots() -> None:
    trainer: Any = FakeTrainer(is_global_zero=False, global_step=10)
    stream = io.StringIO()
    reporter = cb.ProgressReporter({}, 10, stream=stream)
    reporter.on_train_start(trainer, MODULE)
    reporter.on_train_batch_end(trainer, MODULE, None, None, 10)
    assert stream.getvalue() == ""
    drawn: list[int] = []
    after = cb.AfterValidation(lambda: drawn.append(1))
    after.on_validation_end(trainer, MODULE)
    assert drawn == []
    trainer.is_global_zero = True
    after.on_validation_end(trainer, MODULE)
    assert drawn == [1]
