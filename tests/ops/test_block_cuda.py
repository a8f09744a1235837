"""The blocks' operators on a GPU equal plain layers in float64, and are what a model runs under autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForCausalLM
from hyenadna.ops import block
from hyenadna.training.step_benchmark import StepShape, check_step

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
BF16 = torch.bfloat16


@pytest.mark.parametrize(
    ("width", "batch", "length", "changes"),
    [
        (128, 3, 1024, {}),
        (256, 1, 4096, {}),
        (64, 2, 1001, {"short_kernel_size": 7}),
        (192, 1, 2000, {"d_inner": 300}),
        (768, 1, 700, {}),
        (48, 5, 513, {"filter_learned_positions": True, "max_seq_len": 513}),
    ],
)
def test_logits_and_gradients_equal_the_published_arithmetic(
    width: int, batch: int, length: int, changes: dict[str, Any]
) -> None:
    config = HyenaConfig.from_dict(
        {"d_model": width, "n_layers": 2, "max_seq_len": length + 2} | changes
    )
    logits, gradients, good = check_step(StepShape(config, batch, length), BF16, CUDA)
    assert good, (logits, gradients)


def test_the_operators_run_under_autocast_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for name in ("mixer_half", "mlp_half", "layer_norm"):
        original = getattr(block, name)
        monkeypatch.setattr(
            block, name, lambda *a, _f=original, _n=name, **k: (ran.append(_n), _f(*a, **k))[1]
        )
    model = HyenaForCausalLM(HyenaConfig(d_model=64, n_layers=1, max_seq_len=1026)).cuda().eval()
    long, short = (torch.randint(7, 11, (2, n), device=CUDA) for n in (1000, 50))
    model(long)
    assert ran == []
    with torch.autocast("cuda", dtype=BF16):
        model(long)
        assert ran == ["mixer_half", "mlp_half", "layer_norm"]
        ran.clear()
        model(short)  # the long convolution is torch's there
        assert ran == ["mlp_half", "layer_norm"]
        ran.clear()
        seen = []
        handle = model.backbone.layers[0].mlp.fc1.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[union-attr]
        model(long)
        assert seen == [1]  # who watches a layer sees it run
        assert ran == ["layer_norm"]
        handle.remove()


def test_little_is_kept_for_the_backward_pass() -> None:
    config = HyenaConfig(d_model=128, n_layers=1, max_seq_len=2**17 + 2)
    model = HyenaForCausalLM(config).cuda().train()
    ids = torch.randint(7, 11, (4, 2**17), device=CUDA)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    with torch.autocast("cuda", dtype=BF16):
        x = model.backbone.embedding(ids)
        embedded = torch.cuda.memory_allocated() - before
        y = model.backbone.layers[0](x)
    kept = torch.cuda.memory_allocated() - before - embedded
    numbers = x.numel()
    # Residuals in between and after (4 + 4 bytes), projected signals (6), the convolution's result (2); and the filter.
    assert kept <= 16.5 * numbers + 4 * 128 * 2**17, kept / numbers
    del y


def test_hidden_layers_and_channels_go_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from hyenadna.ops.block import limits

    config = HyenaConfig(d_model=128, n_layers=1, max_seq_len=4098)
    shape = StepShape(config, 2, 4096)
    whole = check_step(shape, BF16, CUDA)
    monkeypatch.setattr(limits, "MOST_HIDDEN", 2**19)
    monkeypatch.setattr(limits, "MOST_SMOOTHED", 2**20)
    parts = check_step(shape, BF16, CUDA)
    assert whole[2]
    assert parts[2]
    assert parts[0] == whole[0]  # the same numbers, in another order of work


def test_the_same_bits_come_every_time() -> None:
    model = HyenaForCausalLM(
        HyenaConfig(d_model=128, n_layers=2, max_seq_len=4098, embed_dropout=0.0)
    ).cuda()
    ids = torch.randint(7, 11, (3, 4096), device=CUDA)

    def gradients() -> list[torch.Tensor]:
        with torch.autocast("cuda", dtype=BF16):
            loss = model(ids).float().square().mean()
        return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))

    for one, other in zip(gradients(), gradients(), strict=True):
        assert torch.equal(one, other)
