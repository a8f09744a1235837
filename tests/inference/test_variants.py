"""Variant effects: exact, whatever the company, the strand or the place; and checks that see scoring that is not."""

import copy
import math
import types
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyenadna import CharacterTokenizer, HyenaForCausalLM, Variant, score_sequences
from hyenadna.errors import ConfigError, DataError, IntervalError
from hyenadna.inference import comparison, variants, window_ratios
from hyenadna.inference.branches import branch_states
from hyenadna.inference.variants import (
    REASONS,
    VariantScore,
    place_windows,
    resolve_window,
    score_variants,
)
from hyenadna.inference.window_ratios import WindowRatios
from hyenadna.sequence import Interval, require_inside, reverse_complement
from hyenadna.testing import random_dna
from hyenadna.tokenizers import ByteTokenizer

TOLERANCE = 1e-5  # nats, the promise of `hyenadna.inference.variants`
WINDOW = 64
NUMBERS = ("llr", "llr_forward", "llr_reverse", "llr_local", "embedding_distance")


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

    def flipped(self) -> "Toy":
        return Toy(**{name: reverse_complement(s) for name, s in self._letters.items()})


LETTERS = random_dna(400, seed=1)
GENOME = Toy(a=LETTERS, tiny=LETTERS[:20], n=LETTERS[:100] + "N" * 30 + LETTERS[130:200])


def _variant(start: int, n_ref: int, alt: str, chrom: str = "a") -> Variant:
    span = Interval(chrom, start, start + n_ref)
    return Variant(chrom, start, GENOME.sequence(span), alt)


def _other(base: str) -> str:
    return {"A": "C", "C": "G", "G": "T", "T": "A"}[base]


SNV = Variant("a", 200, LETTERS[200], _other(LETTERS[200]))
DELETION = _variant(150, 6, LETTERS[150])
INSERTION = _variant(151, 1, LETTERS[151] + "GATTACA")
MNV = _variant(152, 3, "".join(map(_other, LETTERS[152:155])))
AT_START = Variant("a", 0, LETTERS[0], _other(LETTERS[0]))
AT_END = Variant("a", 399, LETTERS[399], _other(LETTERS[399]))
NEAR_N = _variant(98, 2, LETTERS[98], "n")
SOME = [SNV, DELETION, INSERTION, MNV, AT_START, AT_END, NEAR_N, _variant(9, 1, _other(LETTERS[9]), "tiny")]  # fmt: skip


def _score(
    model: HyenaForCausalLM, given: Sequence[Variant | str], **kw: object
) -> list[VariantScore]:
    return list(score_variants(model, given, GENOME, **({"window": WINDOW} | kw)))  # type: ignore[arg-type]


def _largest_change(one: Sequence[VariantScore], two: Sequence[VariantScore]) -> float:
    for a, b in zip(one, two, strict=True):
        assert (a.variant, a.reason) == (b.variant, b.reason)
    changes = [abs(getattr(a, x) - getattr(b, x)) for a, b in zip(one, two, strict=True) for x in NUMBERS]  # fmt: skip
    return max((c for c in changes if not math.isnan(c)), default=0.0)


def test_every_kind_of_variant_has_all_numbers(small_model: HyenaForCausalLM) -> None:
    for score in _score(small_model, SOME):
        assert score.reason is None, score
        assert all(math.isfinite(getattr(score, x)) for x in NUMBERS)
        assert abs(score.llr) > 1e-3
        assert score.embedding_distance > 1e-3
        assert score.llr == pytest.approx((score.llr_forward + score.llr_reverse) / 2)


# --- the same in any company ---


@settings(max_examples=15, deadline=None)
@given(st.permutations(SOME), st.integers(1, 9), st.integers(1, 40))
def test_a_score_is_the_same_alone_in_any_batch_and_order(
    small_model: HyenaForCausalLM, given: list[Variant], batch_size: int, look_ahead: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants, "_LOOK_AHEAD", look_ahead)
        together = _score(small_model, given, batch_size=batch_size)
    alone = [_score(small_model, [v], batch_size=1)[0] for v in given]
    assert _largest_change(alone, together) <= TOLERANCE


def test_a_score_is_the_same_at_any_padding(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _score(small_model, SOME)
    monkeypatch.setattr(comparison, "padded_length", lambda n, _: min(n + 9, 130))
    assert _largest_change(expected, _score(small_model, SOME, batch_size=3)) <= TOLERANCE


def test_control_a_model_that_mixes_its_batch_is_caught(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copy.deepcopy(small_model)
    forward = model.backbone.forward

    def mixing(self: object, token_ids: torch.Tensor) -> torch.Tensor:
        hidden = forward(token_ids)
        return hidden - 0.1 * hidden.mean(dim=0, keepdim=True)

    def mixing_states(*given: object) -> tuple[torch.Tensor, ...]:
        return tuple(h - 0.1 * h.mean(dim=0, keepdim=True) for h in branch_states(*given))  # type: ignore[arg-type]

    monkeypatch.setattr(model.backbone, "forward", types.MethodType(mixing, model.backbone))
    monkeypatch.setattr(window_ratios, "branch_states", mixing_states)
    for forks in (False, True):
        monkeypatch.setattr(WindowRatios, "forks", forks)
        alone = [_score(model, [v], batch_size=2)[0] for v in SOME]
        assert _largest_change(alone, _score(model, SOME, batch_size=8)) > 10 * TOLERANCE


def test_alleles_of_one_record_share_the_reference(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WindowRatios, "forks", False)  # whole windows, as on a GPU
    rows: list[int] = []
    others = [Variant("a", 200, SNV.ref, base) for base in "ACGT" if base != SNV.ref]
    with small_model.backbone.register_forward_pre_hook(lambda _, x: rows.append(len(x[0]))):
        together = _score(small_model, others)
    assert sum(rows) == 2 * 4  # both strands: the reference once, three alternatives
    monkeypatch.setattr(variants, "_LOOK_AHEAD", 1)
    assert _largest_change(together, _score(small_model, others, batch_size=1)) <= TOLERANCE


# --- what the numbers are ---


def _windows(variant: Variant, window: int = WINDOW, genome: Toy = GENOME) -> tuple[str, str]:
    """Build both windows of the forward strand from their description, by another way than the code's."""
    letters = genome._letters[variant.chrom]
    end = variant.start + len(variant.ref)
    mutated = letters[: variant.start] + variant.alt + letters[end:]
    longest = max(len(variant.ref), len(variant.alt))
    start = variant.start - (window - longest) // 2
    start = max(0, min(start, len(letters) - window, len(mutated) - window))
    length = min(window, len(letters) - start, len(mutated) - start)
    return letters[start : start + length], mutated[start : start + length]


def _difference(model: HyenaForCausalLM, ref: str, alt: str) -> float:
    assert len(ref) == len(alt)
    one, two = score_sequences(model, [ref, alt], window=130)
    return two.log_likelihood - one.log_likelihood


@pytest.mark.parametrize("variant", [v for v in SOME if v.chrom != "n"], ids=str)
def test_llr_is_the_difference_of_log_likelihoods_of_two_windows(
    small_model: HyenaForCausalLM, variant: Variant
) -> None:
    [score] = _score(small_model, [variant])
    expected = _difference(small_model, *_windows(variant))
    assert score.llr_forward == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("cut", [slice(20, None), slice(None, -5)])
def test_control_windows_at_another_place_give_another_number(
    small_model: HyenaForCausalLM, cut: slice
) -> None:
    for variant in (SNV, DELETION, INSERTION, MNV):
        [score] = _score(small_model, [variant])
        moved = _difference(small_model, *(letters[cut] for letters in _windows(variant)))
        assert score.llr_forward != pytest.approx(moved, abs=2e-4)


@pytest.mark.parametrize("variant", SOME, ids=str)
def test_the_forward_strand_is_the_reverse_strand_of_the_complement(
    small_model: HyenaForCausalLM, variant: Variant
) -> None:
    end = GENOME.contigs[variant.chrom] - variant.start - len(variant.ref)
    mirrored = Variant(variant.chrom, end, *map(reverse_complement, (variant.ref, variant.alt)))
    [score] = _score(small_model, [variant])
    [other] = score_variants(small_model, [mirrored], GENOME.flipped(), window=WINDOW)
    assert score.llr_forward == pytest.approx(other.llr_reverse, abs=TOLERANCE)
    assert score.llr_reverse == pytest.approx(other.llr_forward, abs=TOLERANCE)
    assert score.llr_local == pytest.approx(other.llr_local, abs=TOLERANCE)
    assert score.embedding_distance == pytest.approx(other.embedding_distance, abs=TOLERANCE)
    assert score.llr_forward != pytest.approx(other.llr_forward, abs=TOLERANCE), "the control"


@pytest.mark.parametrize("n_ref", [1, 2, 7])
def test_the_same_allele_gives_exactly_nothing(small_model: HyenaForCausalLM, n_ref: int) -> None:
    for start in (0, 150, 400 - n_ref):
        allele = LETTERS[start : start + n_ref]
        for ref, alt in ((allele, allele), (allele, allele.lower()), (allele.lower(), allele)):
            [score] = _score(small_model, [Variant("a", start, ref, alt)])
            assert score[1:6] == (0.0,) * 5


def test_without_rc_only_the_forward_strand_is_scored(small_model: HyenaForCausalLM) -> None:
    [both], [one] = _score(small_model, [SNV]), _score(small_model, [SNV], rc=False)
    assert one.llr == one.llr_forward == both.llr_forward
    assert math.isnan(one.llr_reverse)
    assert one.llr_local != both.llr_local


def test_a_radius_beyond_the_window_makes_local_whole(small_model: HyenaForCausalLM) -> None:
    for variant in SOME:
        [whole] = _score(small_model, [variant], radius=1000)
        assert whole.llr_local == whole.llr
        [local] = _score(small_model, [variant], radius=2)
        assert local.llr == whole.llr
        assert local.llr_local != pytest.approx(whole.llr, abs=1e-4)


def test_a_radius_of_nothing_is_the_allele_itself(small_model: HyenaForCausalLM) -> None:
    [score] = _score(small_model, [SNV], radius=0, rc=False)
    ref, alt = _windows(SNV)
    at = (WINDOW - 1) // 2
    ids = torch.from_numpy(CharacterTokenizer().encode(ref[: at + 1])).repeat(2, 1)
    ids[1, at] = int(CharacterTokenizer().encode(alt[at])[0])
    model = copy.deepcopy(small_model).eval()
    with torch.inference_mode():
        hidden = model.backbone(ids)
        log_p = model.lm_head(hidden)[0, at - 1].log_softmax(-1)
    expected = log_p[int(ids[1, at])] - log_p[int(ids[0, at])]
    assert score.llr_local == pytest.approx(float(expected), abs=1e-4)
    assert score.embedding_distance == pytest.approx(
        float((hidden[1, at] - hidden[0, at]).norm()), rel=1e-4
    )


def test_n_makes_both_sums_equally_long(small_model: HyenaForCausalLM) -> None:
    # The window with the deletion sees one N more at its right end than the reference's: two bases against one.
    genome = Toy(n=LETTERS[:90] + "N" * 10)
    variant = Variant("n", 49, LETTERS[49:59], LETTERS[49])
    [score] = score_variants(small_model, [variant], genome, window=80, radius=9)
    [cut] = score_variants(small_model, [variant], Toy(n=LETTERS[:90]), window=80, radius=9)
    assert score.reason is cut.reason is None
    ref, alt = _windows(variant, 80, genome)
    n = min(len(ref.rstrip("N")), len(alt.rstrip("N")))
    assert score.llr_forward == pytest.approx(_difference(small_model, ref[:n], alt[:n]), abs=2e-4)
    assert len(ref.rstrip("N")) != len(alt.rstrip("N"))


def test_case_is_ignored(small_model: HyenaForCausalLM) -> None:
    tokenizer = CharacterTokenizer(case_sensitive=True)
    soft = Toy(a=LETTERS.lower())
    for each in (CharacterTokenizer(), tokenizer):
        [score] = score_variants(small_model, [SNV], soft, window=WINDOW, tokenizer=each)
        assert score == _score(small_model, [SNV])[0]


def test_text_is_read(small_model: HyenaForCausalLM) -> None:
    [one], [two] = _score(small_model, [str(SNV)]), _score(small_model, [SNV])
    assert one == two
    with pytest.raises(IntervalError, match="malformed"):
        _score(small_model, ["rs123"])


# --- where windows are ---


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 60), st.integers(1, 16), st.integers(1, 16), st.integers(0, 60), st.integers(32, 70))  # fmt: skip
def test_windows_stay_in_the_contig_and_are_as_long_as_it_allows(
    before: int, n_ref: int, n_alt: int, after: int, window: int
) -> None:
    left, length = place_windows(before, n_ref, n_alt, after, window)
    assert 0 <= left <= before
    assert length <= window
    for allele in (n_ref, n_alt):
        assert length - left - allele <= after
    if length < window:  # only where there is nothing more to take
        assert (left, length) == (before, before + min(n_ref, n_alt) + after)
    if before >= window and after >= window:
        assert left == (window - max(n_ref, n_alt)) // 2


def test_the_default_window() -> None:
    assert [resolve_window(n, None) for n in (1026, 1024, 1023, 160_002)] == [1024, 1024, 512, 8192]


# --- reasons ---


@pytest.mark.parametrize(
    ("variant", "reason", "detail"),
    [
        (Variant("a", 5, "A", "."), "no_alternative", ""),
        (Variant("a", 5, "A", "<DEL>"), "symbolic", "a:6:A><DEL>"),
        (Variant("a", 5, "A", "<*>"), "symbolic", ""),
        (Variant("a", 5, "A", "*"), "symbolic", ""),
        (Variant("a", 5, "A", "A]a:20]"), "symbolic", ""),
        (Variant("a", 5, "A", ".A"), "symbolic", ""),
        (Variant("a", 5, "N", "A"), "not_acgt", ""),
        (Variant("a", 5, LETTERS[5], "R"), "not_acgt", ""),
        (Variant("b", 5, "A", "C"), "unknown_contig", "contig 'b' is not in the genome"),
        (Variant("a", 400, "A", "C"), "outside_contig", "beyond contig 'a' of 400"),
        (Variant("a", 398, LETTERS[398:] + "AC", "C"), "outside_contig", "a:399-402"),
        (Variant("a", -1, "A", "C"), "outside_contig", "a:0:A>C"),
        (Variant("a", -1, "A" + LETTERS[0], "C"), "outside_contig", "start=-1"),
        (Variant("a", 10**15, "A", "C"), "outside_contig", ""),
        (
            Variant("a", 200, _other(SNV.ref), SNV.ref),
            "ref_mismatch",
            f"where the genome has {SNV.ref} (a:201)",
        ),
        (
            Variant("a", 100, LETTERS[100:102] + _other(LETTERS[102]), "A"),
            "ref_mismatch",
            "(a:103)",
        ),
        (_variant(100, 33, "A"), "too_long", "longer than half the window"),
        (_variant(100, 1, "A" * 33), "too_long", "AAA…"),
        (_variant(399, 1, LETTERS[399] + "ACGT"), "contig_edge", "ends too early"),
        (_variant(0, 1, LETTERS[0] + "ACGT"), "contig_edge", ""),
    ],
    ids=lambda v: str(v)[:20],
)
def test_what_cannot_be_scored_has_a_reason(
    small_model: HyenaForCausalLM, variant: Variant, reason: str, detail: str
) -> None:
    first, score, last = _score(small_model, [SNV, variant, SNV])
    assert first == last
    assert first.reason is None
    assert (score.variant, score.reason) == (variant, reason)
    assert all(math.isnan(getattr(score, x)) for x in NUMBERS)
    assert detail in score.detail
    assert reason in REASONS


def test_the_longest_alleles_are_scored(small_model: HyenaForCausalLM) -> None:
    for variant in (_variant(100, 32, "A"), _variant(100, 1, "AC" * 16)):
        assert _score(small_model, [variant])[0].reason is None


def test_an_insertion_at_the_end_needs_no_reverse_strand_to_fit(
    small_model: HyenaForCausalLM,
) -> None:
    insertion = _variant(0, 1, LETTERS[0] + "ACGT")
    assert _score(small_model, [insertion])[0].reason == "contig_edge"
    assert _score(small_model, [insertion], rc=False)[0].reason is None


@pytest.mark.parametrize("name", ["chr20", "20"])
def test_contig_names_of_ucsc_and_ensembl_are_matched(
    small_model: HyenaForCausalLM, name: str
) -> None:
    for contig in ("chr20", "20"):
        [score] = score_variants(
            small_model, [Variant(name, 200, SNV.ref, SNV.alt)], Toy(**{contig: LETTERS}), window=64
        )
        assert score.llr == _score(small_model, [SNV])[0].llr
        assert score.variant.chrom == name


# --- the run ---


def test_memory_is_bounded_and_order_kept(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "_MAX_WAITING", 5)
    given = [Variant("a", 5, "A", "<DEL>"), SNV, Variant("a", 5, "A", "*")] * 10
    n_read = 0

    def lazily() -> object:
        nonlocal n_read
        for n_read, variant in enumerate(given, 1):  # noqa: B007
            yield variant

    seen: list[int] = []
    scores = score_variants(small_model, lazily(), GENOME, window=64, progress=seen.append)  # type: ignore[arg-type]
    assert next(scores).reason == "symbolic"
    assert n_read == 5
    assert [s.variant for s in scores] == given[1:]
    assert sum(seen) == len(given)


def test_a_full_memory_halves_the_batch_and_changes_nothing(
    small_model: HyenaForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = _score(small_model, SOME)
    model = copy.deepcopy(small_model)
    forward = model.backbone.forward

    def little_memory(self: object, token_ids: torch.Tensor) -> torch.Tensor:
        if len(token_ids) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(token_ids)

    monkeypatch.setattr(model.backbone, "forward", types.MethodType(little_memory, model.backbone))
    assert _largest_change(expected, _score(model, SOME, batch_size=16)) <= TOLERANCE


def test_the_callers_model_keeps_mode_and_dtype(small_model: HyenaForCausalLM) -> None:
    model = copy.deepcopy(small_model).double().train()
    [score] = _score(model, [SNV])
    assert model.training
    assert next(model.parameters()).dtype == torch.float64
    assert score.llr == pytest.approx(_score(small_model, [SNV])[0].llr, abs=1e-3)


def test_half_precision_is_near_and_is_not_the_default(small_model: HyenaForCausalLM) -> None:
    exact, half = _score(small_model, SOME), _score(small_model, SOME, half=True)
    assert 0 < _largest_change(exact, half) < 0.5


def test_a_model_of_nan_is_refused(small_model: HyenaForCausalLM) -> None:
    model = copy.deepcopy(small_model)
    with torch.no_grad():
        model.backbone.final_norm.weight[0] = torch.nan
    with pytest.raises(DataError, match=r"variant a:201:.* with nan.*diverged"):
        _score(model, [SNV])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 3}, "window is 3; expected 4 to 130"),
        ({"window": 131}, "window is 131; expected 4 to 130"),
        ({"radius": -1}, "radius is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"tokenizer": ByteTokenizer()}, "needs the nucleotide tokenizer"),
    ],
)
def test_impossible_settings_are_refused_at_once(
    small_model: HyenaForCausalLM, given: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        score_variants(small_model, [], GENOME, **given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pass a list"):
        score_variants(small_model, SNV, GENOME)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_gpu_scores_equal_cpu_scores(small_model: HyenaForCausalLM) -> None:
    cpu = _score(small_model, SOME)
    gpu_model = copy.deepcopy(small_model).cuda()
    gpu = _score(gpu_model, SOME)
    alone = [_score(gpu_model, [v], batch_size=1)[0] for v in SOME]
    assert _largest_change(cpu, gpu) < 1e-3
    assert _largest_change(gpu, alone) < 1e-4
