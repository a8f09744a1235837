from __future__ import annotations

import torch

from hyenadna.training.averaging import RunningAverage


def test_the_average_follows_and_the_model_is_untouched() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = RunningAverage(model, 0.9)
    expected = 0.0
    for step in range(50):
        model.weight.data.fill_(1.0)
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected += (1 - decay) * (1.0 - expected)
        assert torch.allclose(average.model.weight, torch.tensor(expected), atol=1e-5)
    assert expected > 0.99
    assert torch.equal(model.weight, torch.ones(1, 2))
    assert not average.model.weight.requires_grad


def test_noise_is_averaged_out() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(1000, 1, bias=False)
    average = RunningAverage(model, 0.98)
    for _ in range(400):
        model.weight.data = torch.randn(1, 1000)
        average._others[0] = model.weight
        average.update()
    assert average.model.weight.std() < 0.15 < model.weight.std()
