"""Variant effects under masked models: masked marginals, whatever the company, the strand or the place."""

from __future__ import annotations

import copy
import itertools
import math
import types
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyenadna import (
    CharacterTokenizer,
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    Variant,
    score_variants,
)
from hyenadna.errors import DataError
from hyenadna.inference import variants
from hyenadna.inference.variants import VariantScore
from hyenadna.sequence import Interval, require_inside, reverse_complement
from hyenadna.testing import random_dna

TOLERANCE = 1e-5  # nats
WINDOW = 64
NUMBERS = ("llr", "llr_forward", "llr_reverse", "llr_local", "embedding_distance")
TOKENIZER = CharacterTokenizer()


class Toy:
    """A genome in memory."""

    def __init__(self, **contigs: str) -> None:
        self._letters = contigs

    @property
    def contigs(self) -> dict[str, int]:
        return {name: len(letters) for name, letters in self._letters.items()}

    def sequence(self, interval: Interval) -> str:
        require_inside(interval, self.contigs)
        letters = self._letters[interval.chrom][interval.start : interval.end]
        return reverse_complement(letters) if interval.strand == "-" else letters

    def with_allele(self, variant: Variant) -> Toy:
        letters = self._letters[variant.chrom]
        end = variant.start + len(variant.ref)
        return Toy(**{**self._letters, variant.chrom: letters[: variant.start] + variant.alt + letters[end:]})  # fmt: skip


LETTERS = random_dna(400, seed=1)
GENOME = Toy(a=LETTERS, tiny=LETTERS[:20], n=LETTERS[:100] + "N" * 30 + LETTERS[130:200])
OTHER = {"A": "C", "C": "G", "G": "T", "T": "A"}


def _variant(start: int, alt: str, chrom: str = "a") -> Variant:
    return Variant(chrom, start, GENOME._letters[chrom][start : start + len(alt)], alt)


def _snv(start: int, chrom: str = "a") -> Variant:
    return _variant(start, OTHER[GENOME._letters[chrom][start]], chrom)


SNV = _snv(200)
MNV = _variant(152, OTHER[LETTERS[152]] + LETTERS[153] + OTHER[LETTERS[154]])  # the middle agrees
SOME = [SNV, MNV, _snv(0), _snv(399), _snv(98, "n"), _snv(9, "tiny"), _snv(19, "tiny")]


def _model(**changes: Any) -> HyenaForMaskedLM:
    """A masked model with random weights, so large that predictions are far from uniform and neighbours matter."""
    torch.manual_seed(0)
    config = HyenaConfig(
        d_model=16, n_layers=2, max_seq_len=130, filter_dim=8, tie_embeddings=False, attention_heads=4,
        **{"bidirectional": True, **changes},
    )  # fmt: skip
    model = HyenaForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def model() -> HyenaForMaskedLM:
    return _model()


def _score(
    model: HyenaForMaskedLM, given: Sequence[Variant], genome: Toy = GENOME, **kw: Any
) -> list[VariantScore]:
    return list(score_variants(model, given, genome, **{"window": WINDOW, **kw}))


def _largest_change(one: Sequence[VariantScore], two: Sequence[VariantScore]) -> float:
    for a, b in zip(one, two, strict=True):
        assert (a.variant, a.reason) == (b.variant, b.reason)
    changes = [abs(getattr(a, x) - getattr(b, x)) for a, b in zip(one, two, strict=True) for x in NUMBERS]  # fmt: skip
    return max((c for c in changes if not math.isnan(c)), default=0.0)


# --- what the numbers are ---


def _marginal(model: HyenaForMaskedLM, variant: Variant, *, over: str, all_at_once: bool = True) -> float:  # fmt: skip
    """Compute the forward strand's LLR from its description, by another way than the code's."""
    letters = GENOME._letters[variant.chrom]
    n = len(variant.ref)
    start = max(0, min(variant.start - (WINDOW - n) // 2, len(letters) - WINDOW))
    ids = torch.from_numpy(TOKENIZER.encode(letters[start : start + WINDOW]).copy()).long()
    places = [i for i in range(n) if variant.ref[i] != variant.alt[i]]
    total = 0.0
    for i in places:
        at = variant.start - start + i
        read = ids.clone()
        for j in places if all_at_once else [i]:
            read[variant.start - start + j] = 3
        with torch.no_grad():
            logits = model(read[None])[0, at].double()
        if over == "bases":
            logits = logits[7:11]
            log_p = logits.log_softmax(0)[["ACGT".index(x) for x in (variant.alt[i], variant.ref[i])]]  # fmt: skip
        else:
            log_p = logits.log_softmax(0)[[7 + "ACGT".index(x) for x in (variant.alt[i], variant.ref[i])]]  # fmt: skip
        total += float(log_p[0] - log_p[1])
    return total


@pytest.mark.parametrize("over", ["bases", "vocabulary"])
@pytest.mark.parametrize("variant", SOME, ids=str)
def test_llr_is_the_masked_marginal_over_bases_or_the_vocabulary_alike(
    model: HyenaForMaskedLM, variant: Variant, over: str
) -> None:
    (found,) = _score(model, [variant])
    assert found.llr_forward == pytest.approx(_marginal(model, variant, over=over), abs=TOLERANCE)
    assert found.llr == pytest.approx((found.llr_forward + found.llr_reverse) / 2, abs=1e-12)
    assert found.llr_local == found.llr
    assert abs(found.llr_forward) > 1e-2


def test_control_masking_one_base_at_a_time_is_another_number(model: HyenaForMaskedLM) -> None:
    (found,) = _score(model, [MNV])
    apart = _marginal(model, MNV, over="bases", all_at_once=False)
    assert abs(found.llr_forward - apart) > 100 * TOLERANCE


def test_the_model_does_not_see_what_it_is_asked_about(model: HyenaForMaskedLM) -> None:
    """The base of the genome at the place itself does not matter; its neighbour does (the control)."""
    alts = [b for b in "ACGT" if b != SNV.ref]
    log_ratios = {SNV.ref: 0.0}
    for alt, score in zip(alts, _score(model, [Variant("a", 200, SNV.ref, b) for b in alts]), strict=True):  # fmt: skip
        log_ratios[alt] = score.llr_forward
    for ref, alt in itertools.permutations("ACGT", 2):
        genome = GENOME.with_allele(Variant("a", 200, SNV.ref, ref))
        (found,) = _score(model, [Variant("a", 200, ref, alt)], genome)
        assert found.llr_forward == pytest.approx(log_ratios[alt] - log_ratios[ref], abs=1e-4)
    (near,) = _score(model, [SNV], GENOME.with_allele(_snv(201)))
    assert abs(near.llr_forward - log_ratios[SNV.alt]) > 1e-3


@pytest.mark.parametrize("variant", SOME, ids=str)
def test_exchanging_the_alleles_flips_the_sign_exactly(
    model: HyenaForMaskedLM, variant: Variant
) -> None:
    (found,) = _score(model, [variant])
    back = Variant(variant.chrom, variant.start, variant.alt, variant.ref)
    (turned,) = _score(model, [back], GENOME.with_allele(variant))
    for number in ("llr", "llr_forward", "llr_reverse", "llr_local"):
        assert getattr(turned, number) == -getattr(found, number) != 0
    assert turned.embedding_distance == pytest.approx(found.embedding_distance, abs=TOLERANCE)


@pytest.mark.parametrize("n", [1, 4])
def test_the_same_allele_gives_exactly_nothing(model: HyenaForMaskedLM, n: int) -> None:
    (found,) = _score(model, [_variant(200, LETTERS[200 : 200 + n])])
    assert [getattr(found, x) for x in NUMBERS] == [0.0] * 5


def test_bases_that_agree_add_nothing_to_the_sum(model: HyenaForMaskedLM) -> None:
    longer = _variant(199, LETTERS[199] + SNV.alt + LETTERS[201])
    (short,), (long,) = _score(model, [SNV]), _score(model, [longer])
    assert long.llr_forward == pytest.approx(short.llr_forward, abs=TOLERANCE)


def test_the_forward_strand_is_the_reverse_strand_of_the_complement(
    model: HyenaForMaskedLM,
) -> None:
    other = Toy(a=reverse_complement(LETTERS))
    turned = Variant("a", 400 - 152 - 3, reverse_complement(MNV.ref), reverse_complement(MNV.alt))
    (one,), (two,) = _score(model, [MNV]), _score(model, [turned], other)
    assert one.llr_forward == pytest.approx(two.llr_reverse, abs=TOLERANCE)
    assert one.llr_reverse == pytest.approx(two.llr_forward, abs=TOLERANCE)
    assert one.embedding_distance == pytest.approx(two.embedding_distance, abs=TOLERANCE)
    assert abs(one.llr_forward - one.llr_reverse) > 1e-2
    (alone,) = _score(model, [MNV], rc=False)
    assert math.isnan(alone.llr_reverse)
    assert alone.llr == pytest.approx(one.llr_forward, abs=TOLERANCE)


def test_an_equivariant_model_says_the_same_of_both_strands() -> None:
    """Windows of an odd number of bases have the variant in the middle on either strand."""
    for equivariant in (True, False):
        (found,) = _score(_model(equivariant=equivariant), [SNV], window=65)
        assert (abs(found.llr_forward - found.llr_reverse) < TOLERANCE) == equivariant


def test_the_distance_is_that_of_hidden_states_that_see_the_alleles(
    model: HyenaForMaskedLM,
) -> None:
    (found,) = _score(model, [SNV], rc=False, radius=3)
    start = 200 - (WINDOW - 1) // 2
    both = LETTERS[start : start + WINDOW], GENOME.with_allele(SNV)._letters["a"][start : start + WINDOW]  # fmt: skip
    with torch.no_grad():
        ref, alt = (model.backbone(torch.from_numpy(TOKENIZER.encode(s).copy()).long()[None])[0] for s in both)  # fmt: skip
    expected = (alt - ref)[200 - start : 200 - start + 4].norm(dim=1).mean()
    assert found.embedding_distance == pytest.approx(float(expected), rel=1e-5)


# --- the same in any company ---


@settings(max_examples=15, deadline=None)
@given(st.permutations(SOME), st.integers(1, 9), st.integers(1, 40))
def test_a_score_is_the_same_alone_in_any_batch_and_order(
    model: HyenaForMaskedLM, given: list[Variant], batch_size: int, look_ahead: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "_LOOK_AHEAD", look_ahead)
        together = _score(model, given, batch_size=batch_size)
    alone = [_score(model, [v], batch_size=1)[0] for v in given]
    assert [s.variant for s in together] == given
    assert _largest_change(alone, together) <= TOLERANCE


@pytest.mark.parametrize("mixers", ["attention", ("hyena", "conv")])
def test_other_mixers_are_scored_alike_in_any_batch(mixers: Any) -> None:
    model = _model(mixers=mixers)
    alone = [_score(model, [v], batch_size=1)[0] for v in SOME]
    assert _largest_change(alone, _score(model, SOME, batch_size=20)) <= TOLERANCE
    assert min(abs(s.llr) for s in alone) > 1e-3


def test_control_a_model_that_mixes_its_batch_is_caught(
    model: HyenaForMaskedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(model)
    forward = model.backbone.forward

    def mixing(self: object, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = forward(token_ids, mask)
        return hidden - 0.1 * hidden.mean(dim=0, keepdim=True)

    monkeypatch.setattr(model.backbone, "forward", types.MethodType(mixing, model.backbone))
    alone = [_score(model, [v], batch_size=2)[0] for v in SOME]
    assert _largest_change(alone, _score(model, SOME, batch_size=8)) > 10 * TOLERANCE


def test_padding_is_not_seen(model: HyenaForMaskedLM) -> None:
    """A contig shorter than the window is read with padding behind it; without the mask its scores are others (the control)."""
    tiny = _snv(19, "tiny")
    (found,) = _score(model, [tiny])
    ids = torch.from_numpy(TOKENIZER.encode(LETTERS[:20]).copy()).long()
    ids[19] = 3
    alt, ref = ("ACGT".index(x) + 7 for x in (tiny.alt, tiny.ref))
    with torch.no_grad():
        logits = model(ids[None])[0, 19]
        padded = model(torch.cat([ids, torch.full((20,), 4)])[None])[0, 19]
    assert found.llr_forward == pytest.approx(float(logits[alt] - logits[ref]), abs=TOLERANCE)
    assert abs(found.llr_forward - float(padded[alt] - padded[ref])) > 100 * TOLERANCE


def test_alleles_of_one_place_share_the_masked_window(model: HyenaForMaskedLM) -> None:
    rows: list[int] = []
    others = [Variant("a", 200, SNV.ref, base) for base in "ACGT" if base != SNV.ref]
    with model.backbone.register_forward_pre_hook(lambda _, x: rows.append(len(x[0]))):
        _score(model, others)
    assert (
        sum(rows) == 2 * 5
    )  # both strands: the reference and the masked window once, three alternatives


# --- what has no score ---


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (Variant("a", 150, LETTERS[150:156], LETTERS[150]), "masked_model"),
        (Variant("a", 151, LETTERS[151], LETTERS[151] + "GATTACA"), "masked_model"),
        (Variant("a", 399, LETTERS[399], LETTERS[399] + "ACGT"), "masked_model"),
        # What is wrong with the variant itself comes first.
        (Variant("a", 150, OTHER[LETTERS[150]], "ACGT"), "ref_mismatch"),
        (Variant("b", 150, "A", "ACGT"), "unknown_contig"),
        (Variant("a", 150, LETTERS[150], "A" * 33), "too_long"),
        (Variant("a", 150, LETTERS[150], "<DEL>"), "symbolic"),
    ],
)
def test_alleles_of_another_length_have_a_reason(
    model: HyenaForMaskedLM, variant: Variant, reason: str
) -> None:
    first, found, last = _score(model, [SNV, variant, MNV])
    assert found.reason == reason
    assert all(math.isnan(getattr(found, x)) for x in NUMBERS)
    assert first.reason is last.reason is None
    if reason == "masked_model":
        assert "differ in length" in found.detail


def test_a_causal_model_scores_them(small_model: HyenaForCausalLM) -> None:
    indel = Variant("a", 150, LETTERS[150:156], LETTERS[150])
    (found,) = score_variants(small_model, [indel], GENOME, window=WINDOW)
    assert found.reason is None


def test_the_callers_model_keeps_mode_and_dtype(model: HyenaForMaskedLM) -> None:
    mine = copy.deepcopy(model).double().train()
    (precise,) = _score(mine, [SNV])
    assert mine.training
    assert next(mine.parameters()).dtype == torch.float64
    (usual,) = _score(model, [SNV])
    assert precise.llr == pytest.approx(usual.llr, abs=1e-3)
    (half,) = _score(model, [SNV], half=True)
    assert half.llr != usual.llr
    assert half.llr == pytest.approx(usual.llr, abs=0.5)


def test_a_model_of_nan_is_refused(model: HyenaForMaskedLM) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.lm_head.weight.fill_(math.nan)
    with pytest.raises(DataError, match="weights are damaged"):
        _score(broken, [SNV])
