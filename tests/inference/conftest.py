from __future__ import annotations

import pytest
import torch

from hyenadna import HyenaConfig, HyenaForCausalLM


@pytest.fixture(scope="session")
def small_model() -> HyenaForCausalLM:
    """A language model with random weights, sharpened so that its predictions are far from uniform."""
    torch.manual_seed(0)
    config = HyenaConfig(
        d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, tie_embeddings=False
    )
    model = HyenaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(60)
    return model
