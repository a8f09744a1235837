"""No output depends on a later input, at any length and order; and the probe sees models that cheat."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyenadna import HyenaConfig, HyenaForCausalLM
from hyenadna.testing import assert_causal


def _model(order: int) -> HyenaForCausalLM:
    torch.manual_seed(order)
    config = HyenaConfig(d_model=8, n_layers=2, max_seq_len=256, filter_dim=8, hyena_order=order)
    return HyenaForCausalLM(config).double().eval()


def _probe(
    function: Callable[[torch.Tensor], torch.Tensor], length: int, position: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = torch.randint(7, 11, (2, length), generator=generator)
    after = before.clone()
    # Every later base changes, the one at `position` for certain.
    after[:, position:] = 7 + (before[:, position:] - 7 + 1 + seed % 3) % 4
    assert_causal(function, before, after, position=position, tolerance=1e-9)


@settings(max_examples=25, deadline=None)
@given(order=st.integers(2, 4), length=st.integers(2, 256), data=st.data())
def test_no_output_depends_on_a_later_input(order: int, length: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(1, length - 1))
    with torch.no_grad():
        _probe(_model(order), length, position, seed=data.draw(st.integers(0, 1000)))


class _WrapsAround(torch.nn.Module):
    """The model with a circular convolution: the classical mistake of transforms that are too short."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _model(2)

    def forward(self, token_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.model.backbone(token_ids)
        kernel = self.model.backbone.layers[0].mixer.filter(token_ids.shape[1])[0][0].double()
        n = token_ids.shape[1]
        mixed: torch.Tensor = torch.fft.irfft(
            torch.fft.rfft(hidden.transpose(1, 2)) * torch.fft.rfft(kernel), n=n
        )
        return mixed.transpose(1, 2)


def test_control_a_convolution_that_wraps_around_is_caught() -> None:
    with torch.no_grad(), pytest.raises(AssertionError, match="changed by"):
        _probe(_WrapsAround(), 100, 60, seed=1)


class _LooksAhead(torch.nn.Module):
    """A short convolution that is centred, not causal: it sees one step of the future."""

    def __init__(self, causal: torch.nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(self.causal(x), -1, dims=-1)


def test_control_a_centred_short_convolution_is_caught() -> None:
    model = _model(2)
    for layer in model.backbone.layers:
        layer.mixer.short_conv = _LooksAhead(layer.mixer.short_conv)
    with torch.no_grad(), pytest.raises(AssertionError, match="position 5[89] changed"):
        _probe(model, 100, 60, seed=1)


def test_control_a_model_that_ignores_its_input_is_no_proof() -> None:
    with pytest.raises(AssertionError, match="nothing was tested"):
        _probe(lambda ids: torch.zeros(*ids.shape, 3), 100, 60, seed=1)
