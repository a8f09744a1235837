"""The operators of a Hyena block: under Triton's interpreter, which must be chosen before triton is imported, in processes of their own; and where they stand aside."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hyenadna.models import HyenaConfig, HyenaForCausalLM
from hyenadna.models.hyena import HyenaBlock
from hyenadna.ops import block
from hyenadna.testing import assert_close

CASES = Path(__file__).with_name("block_interpreted_cases.py")
GROUPS = ["TestMixer", "TestTokens", "TestTorch"]
HALVES = [torch.bfloat16, torch.float16]
OPERATORS = ("embed", "layer_norm", "mixer_half", "mlp_half")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GROUPS)
def test_interpreted_operators(run_interpreted: Callable[[Path, str], None], group: str) -> None:
    pytest.importorskip("triton", reason="triton is not installed here")
    run_interpreted(CASES, group)


def test_every_interpreted_case_is_in_a_group_that_runs() -> None:
    text = CASES.read_text()
    assert re.findall(r"^class (Test\w+)", text, flags=re.MULTILINE) == GROUPS
    assert not re.search(r"^def test_", text, flags=re.MULTILINE)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_only_a_gpu_has_a_half_dtype(device: str, dtype: torch.dtype) -> None:
    x = torch.empty(2, 8, 4, device=device)
    assert block.half_dtype(x) is None
    with torch.autocast("cpu", dtype=dtype):
        assert block.half_dtype(x) is None


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `half_dtype` sees of a float32 tensor under autocast to bfloat16 on a GPU with Triton."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _device: torch.bfloat16)
    monkeypatch.setattr(block, "triton_unavailable", lambda _device: None)
    monkeypatch.setattr(block, "interpreted", lambda: False)
    return SimpleNamespace(is_cuda=True, dtype=torch.float32, device=torch.device("cuda"))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_half_dtype_is_that_of_autocast(
    on_gpu: SimpleNamespace, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda _device: dtype)
    assert block.half_dtype(on_gpu) is dtype


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (torch, "is_autocast_enabled", lambda device: device == "cpu"),
        (torch, "get_autocast_dtype", lambda _device: torch.float32),
        (torch.compiler, "is_compiling", lambda: True),
        (block, "interpreted", lambda: True),
        (block, "triton_unavailable", lambda _device: "triton is not installed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_there_is_no_half_dtype_without(
    on_gpu: SimpleNamespace, where: object, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(where, name, value)
    assert block.half_dtype(on_gpu) is None


@pytest.mark.parametrize(
    "change", [{"dtype": torch.bfloat16}, {"dtype": torch.float64}, {"is_cuda": False}], ids=str
)
def test_other_tensors_have_no_half_dtype(on_gpu: SimpleNamespace, change: dict[str, object]) -> None:  # fmt: skip
    assert block.half_dtype(SimpleNamespace(**vars(on_gpu) | change)) is None


@pytest.fixture
def model() -> HyenaForCausalLM:
    torch.manual_seed(0)
    return HyenaForCausalLM(HyenaConfig(d_model=16, n_layers=2, max_seq_len=66, embed_dropout=0.0))


@pytest.fixture
def _no_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_keywords: object) -> None:
        raise AssertionError("an operator of half precision ran")

    for name in OPERATORS:
        monkeypatch.setattr(block, name, refuse)


def plain_block(layer: HyenaBlock, x: torch.Tensor) -> torch.Tensor:
    x = x + layer.mixer(layer.norm1(x))
    return x + layer.mlp(layer.norm2(x))


def plain_logits(model: HyenaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Run a model layer after layer."""
    backbone = model.backbone
    x = backbone.embedding(ids)
    for layer in backbone.layers:
        x = plain_block(layer, x)
    return model.lm_head(backbone.final_norm(x))


@pytest.mark.usefixtures("_no_operators")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
def test_a_model_on_the_cpu_takes_the_plain_path(
    model: HyenaForCausalLM, dtype: torch.dtype | None
) -> None:
    ids = torch.randint(7, 11, (2, 60))
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        for training in (True, False):
            model.train(training)
            assert torch.equal(model(ids), plain_logits(model, ids))


@pytest.mark.usefixtures("_no_operators")
def test_a_model_that_took_the_operators_would_be_noticed(
    model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "half_dtype", lambda _x: torch.bfloat16)
    layer = model.backbone.layers[0]
    for module, given in ((model, torch.randint(7, 11, (2, 60))), (layer, torch.randn(2, 60, 16))):
        with pytest.raises(AssertionError, match="an operator of half precision ran"):
            module(given)


@pytest.mark.usefixtures("_no_operators")
def test_autocast_on_the_cpu_rounds_and_no_more(model: HyenaForCausalLM) -> None:
    ids = torch.randint(7, 11, (2, 60))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids)
    assert_close(logits, model(ids), tolerance=2e-2)
