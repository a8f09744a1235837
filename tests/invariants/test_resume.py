"""Resume = uninterrupted: a run that was killed and resumed leaves the same losses and weights, bit for bit on CPU."""

import csv
from pathlib import Path

import pytest
import torch

from hyenadna import HyenaForCausalLM, load_model
from hyenadna.cli import main
from hyenadna.inference.runtime import weights_checksum
from hyenadna.testing import random_dna
from hyenadna.training.pretrain_module import PretrainModule

MASKED = ["task=masked_lm", "model.bidirectional=true", "task.mean_span=3"]


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    fasta = tmp_path / "toy.fa"
    fasta.write_text(f">c1\n{random_dna(6000, seed=1, gc=0.3)}\n>c2\n{random_dna(900, seed=2)}\n")
    return [
        f"data.fasta={fasta}", "data.validation=[c2:1-400]", "data.test=[c2:401-900]", "data.seq_len=64",
        "data.global_batch_size=4", "data.validation_tokens=256", "model.d_model=8", "model.n_layers=1",
        "model.filter_dim=8", "model.embed_dropout=0.2", "trainer.max_steps=6", "trainer.checkpoint_every=2",
        "trainer.validate_every=3", "optimizer.lr=1e-2", "trainer.accelerator=cpu", "trainer.devices=1",
    ]  # fmt: skip


class _Killed(BaseException):
    """Stands for kill -9: no handler of the run may catch it."""


def _finish(run: Path, words: list[str]) -> tuple[list[str], str]:
    assert main(["pretrain", *words]) == 0
    return _losses(run), weights_checksum(load_model(run))


def _losses(run: Path) -> list[str]:
    with (run / "metrics.csv").open() as handle:
        return [f"{r['step']} {r['split']} {r['loss_nats']}" for r in csv.DictReader(handle)]


@pytest.mark.parametrize(("killed_before", "task"), [(2, []), (3, []), (5, []), (3, MASKED)])
def test_a_killed_run_continues_bit_for_bit(
    tmp_path: Path,
    settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    killed_before: int,
    task: list[str],
) -> None:
    settings = [*settings, *task]
    losses, weights = _finish(tmp_path / "whole", [*settings, f"run_dir={tmp_path / 'whole'}"])
    assert len(losses) >= 6

    honest, killed = PretrainModule.training_step, tmp_path / "killed"

    def dies(self: PretrainModule, batch: object, batch_idx: int) -> None:
        if self.trainer.global_step == killed_before:
            raise _Killed
        honest(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(PretrainModule, "training_step", dies)
        with pytest.raises(_Killed):
            main(["pretrain", *settings, f"run_dir={killed}"])
    assert not (killed / "model").exists()
    assert _finish(killed, [f"resume={killed}"]) == (losses, weights)


def test_control_another_seed_is_another_run(tmp_path: Path, settings: list[str]) -> None:
    first = _finish(tmp_path / "a", [*settings, f"run_dir={tmp_path / 'a'}"])
    again = _finish(tmp_path / "b", [*settings, f"run_dir={tmp_path / 'b'}"])
    other = _finish(tmp_path / "c", [*settings, f"run_dir={tmp_path / 'c'}", "seed=7"])
    assert first == again
    assert first[0] != other[0]
    assert first[1] != other[1]


def test_control_dropout_is_on_in_these_runs(tmp_path: Path, settings: list[str]) -> None:
    # Otherwise the random state, the hardest part of resuming, would not be tested.
    run = tmp_path / "run"
    _finish(run, [*settings, f"run_dir={run}"])
    model = HyenaForCausalLM.from_pretrained(run).train()
    ids = torch.full((1, 32), 7)
    assert not torch.equal(model(ids), model(ids))
