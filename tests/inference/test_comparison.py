"""What both comparisons of alleles promise: nothing in them waits for the device, full memory changes nothing, few variants wait."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from hyenadna import (
    CharacterTokenizer,
    Genome,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    Variant,
    score_variants,
)
from hyenadna.inference import variants
from hyenadna.inference.comparison import Comparison, Question
from hyenadna.inference.masked_marginals import MaskedMarginals
from hyenadna.inference.variant_windows import WindowCutter
from hyenadna.inference.window_ratios import WindowRatios
from hyenadna.sequence import Interval

TOKENIZER = CharacterTokenizer()
GENOME = Genome.open("bundled:scerevisiae/genome.2bit")
WINDOW = 64
KINDS = [
    (WindowRatios, HyenaForCausalLM, {}),
    (WindowRatios, HyenaForCausalLM, {"mixers": "attention"}),
    (MaskedMarginals, HyenaForMaskedLM, {"bidirectional": True}),
    (MaskedMarginals, HyenaForMaskedLM, {"bidirectional": True, "equivariant": True}),
    (MaskedMarginals, HyenaForMaskedLM, {"bidirectional": True, "mixers": ("attention", "conv")}),
]
IDS = ["causal", "attention", "masked", "equivariant", "masked-attention"]


def _other(start: int, n: int) -> Variant:
    ref = GENOME.sequence(Interval("chrI", start, start + n)).upper()
    return Variant("chrI", start, ref, ref.translate(str.maketrans("ACGT", "CGTA")))


SOME = [_other(start, n) for start, n in ((0, 1), (500, 1), (501, 3), (900, 2), (20, 5))]
SAME = Variant("chrI", 700, *[GENOME.sequence(Interval("chrI", 700, 702)).upper()] * 2)


def _model(kind: type[Any], changes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = HyenaConfig(
        d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, attention_heads=2, **changes
    )
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


def _questions(comparison: Comparison, given: Sequence[Variant]) -> list[Question]:
    cutter = WindowCutter(
        GENOME, TOKENIZER, window=WINDOW, n_strands=2, of_one_length=comparison.of_one_length
    )
    cut = [windows for variant in given for windows in cutter.cut(variant)]
    return [Question(None, windows, comparison.reads(windows)) for windows in cut]  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [[*SOME, SAME], [SAME], SOME[:1]], ids=["some", "same", "one"])
@pytest.mark.parametrize(("comparison", "kind", "changes"), KINDS, ids=IDS)
def test_nothing_waits_for_the_device(
    comparison: type[Comparison], kind: type[Any], changes: Any, given: list[Variant]
) -> None:
    """A tensor on the meta device has no values: whoever asks for one, or for a shape that depends on one, fails."""
    model = _model(kind, changes).to("meta")
    asked = comparison(model, TOKENIZER, window=WINDOW, radius=5, batch_size="auto")
    questions = _questions(asked, given)
    with torch.inference_mode():
        (found,) = asked.forward(questions)
        assert (found.device.type, found.dtype) == ("meta", torch.float64)
        assert found.shape == (2 * len(given), 3)
        with pytest.raises((RuntimeError, NotImplementedError)):  # the control
            found[found > 0]


@pytest.mark.parametrize(("comparison", "kind", "changes"), KINDS, ids=IDS)
def test_a_full_memory_halves_the_batch_and_changes_nothing(
    comparison: object, kind: type[Any], changes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _model(kind, changes)
    expected = list(score_variants(model, SOME, GENOME, window=WINDOW))
    forward = copy.deepcopy(model).backbone.forward
    most: list[int] = []

    def little_memory(self: object, token_ids: torch.Tensor, *mask: torch.Tensor) -> torch.Tensor:
        if len(token_ids) > 2:
            raise torch.OutOfMemoryError("out of memory")
        most.append(len(token_ids))
        return forward(token_ids, *mask)  # type: ignore[no-any-return]

    monkeypatch.setattr(model.backbone, "forward", types.MethodType(little_memory, model.backbone))
    monkeypatch.setattr(WindowRatios, "forks", False)  # whole windows, as on a GPU
    found = list(score_variants(model, SOME, GENOME, window=WINDOW, batch_size=16))
    for one, other in zip(expected, found, strict=True):
        assert one.variant == other.variant
        assert other[1:6] == pytest.approx(one[1:6], abs=1e-5)
        assert abs(one.llr) > 1e-3
    assert max(most) <= 2


@pytest.mark.parametrize(("comparison", "kind", "changes"), KINDS[::2], ids=IDS[::2])
def test_few_variants_wait_and_their_order_is_kept(
    comparison: object, kind: type[Any], changes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "_MAX_WAITING", 5)
    given = [Variant("chrI", 5, "A", "<DEL>"), *SOME, Variant("chrI", 5, "A", "*")] * 4
    n_read = 0

    def lazily() -> Iterator[Variant]:
        nonlocal n_read
        for n_read, variant in enumerate(given, 1):  # noqa: B007
            yield variant

    seen: list[int] = []
    scores = score_variants(_model(kind, changes), lazily(), GENOME, window=WINDOW, progress=seen.append)  # fmt: skip
    assert next(scores).reason == "symbolic"
    assert n_read == 5
    assert [score.variant for score in scores] == given[1:]
    assert sum(seen) == len(given)


@pytest.mark.gpu
@pytest.mark.parametrize(("comparison", "kind", "changes"), KINDS, ids=IDS)
def test_gpu_scores_equal_cpu_scores(comparison: object, kind: type[Any], changes: Any) -> None:
    model = _model(kind, changes)
    cpu = list(score_variants(model, SOME, GENOME, window=WINDOW))
    gpu = list(score_variants(model.cuda(), SOME, GENOME, window=WINDOW))
    for one, other in zip(cpu, gpu, strict=True):
        assert other[1:6] == pytest.approx(one[1:6], abs=1e-3)
