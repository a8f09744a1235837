from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hyenadna.data.genome import Genome
from hyenadna.data.labelled import LabelledSet
from hyenadna.errors import ConfigError, DataError
from hyenadna.models import HyenaConfig, HyenaForCausalLM, HyenaForSequenceClassification
from hyenadna.sequence import Interval
from hyenadna.tokenizers import CharacterTokenizer
from hyenadna.training.evaluate import EvaluatedRegions, evaluate_language_model, fit_markov
from hyenadna.training.evaluate_classifier import evaluate_classifier

INTERVALS = (Interval("c1", 100, 700), Interval("c2", 0, 333))


@pytest.fixture
def regions(genome: Path) -> EvaluatedRegions:
    return EvaluatedRegions(Genome.open(genome), INTERVALS)


def model(max_seq_len: int = 64) -> HyenaForCausalLM:
    torch.manual_seed(0)
    return HyenaForCausalLM(
        HyenaConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=max_seq_len)
    )


def by_hand(
    lm: HyenaForCausalLM, regions: EvaluatedRegions, window: int, context: int
) -> tuple[float, int]:
    """Score base by base: its window is the one in which it first comes behind the context."""
    lm.eval()
    nats, n = 0.0, 0
    for interval in regions.intervals:
        ids = torch.from_numpy(CharacterTokenizer().encode_codes(regions.genome.codes(interval)))
        for i in range(1, len(ids)):
            if not 7 <= int(ids[i]) <= 10:
                continue
            number = 0 if i < window else (i - context) // (window - context)
            start = number * (window - context)
            part = ids[start : i + 1][None]
            with torch.no_grad():
                nats -= float(torch.log_softmax(lm(part)[0, -2], -1)[int(ids[i])])
            n += 1
    return nats, n


@pytest.mark.parametrize(("window", "context"), [(64, 16), (50, 1), (33, 32)])
def test_every_base_is_scored_once_with_its_context(
    regions: EvaluatedRegions, window: int, context: int
) -> None:
    lm = model()
    nats, n = by_hand(lm, regions, window, context)
    found = evaluate_language_model(lm, [regions], window=window, context=context, batch_size=7)
    assert (
        found.n_scored == n == sum(int((regions.genome.codes(i)[1:] < 4).sum()) for i in INTERVALS)
    )
    assert found.loss_nats == pytest.approx(nats / n, rel=1e-5)
    assert found.bits_per_base == pytest.approx(found.loss_nats / math.log(2))


def test_batches_do_not_change_the_result_and_the_model_stays_as_it_was(
    regions: EvaluatedRegions,
) -> None:
    lm = model().train()
    found = [evaluate_language_model(lm, [regions], batch_size=b).loss_nats for b in (1, 5, 100)]
    np.testing.assert_allclose(found, found[0], rtol=1e-6)
    assert lm.training
    other = evaluate_language_model(lm, [regions], context=1)
    assert other.loss_nats != pytest.approx(found[0], rel=1e-7)  # negative control


def test_markov_pays_for_the_same_bases(regions: EvaluatedRegions) -> None:
    markov = fit_markov([regions], max_order=2)
    done: list[int] = []
    found = evaluate_language_model(
        model(), [regions], markov=markov, window=64, context=8, progress=done.append
    )
    assert sum(done) == found.n_scored
    nats = np.zeros(3)
    n = 0
    for interval in INTERVALS:
        score = markov.score(regions.genome.codes(interval))
        nats += score.nats
        n += score.n_scored
    assert n == found.n_scored
    # context of 8 bases is enough for order 2, so windows make no difference
    np.testing.assert_allclose(found.markov_bits_per_base, nats / n / math.log(2), rtol=1e-6)
    plain = found.to_dict()
    assert plain["best_markov"]["bits_per_base"] == min(found.markov_bits_per_base)


def test_thinned_windows_are_fewer_and_named_limits_are_checked(regions: EvaluatedRegions) -> None:
    lm = model()
    few = evaluate_language_model(lm, [regions], max_bases=200)
    assert 100 < few.n_scored < 300
    assert few.markov_bits_per_base == ()
    assert "best_markov" not in few.to_dict()
    for values in ({"window": 65}, {"window": 1}, {"context": 64}, {"context": 0}):
        with pytest.raises(ConfigError, match="impossible"):
            evaluate_language_model(lm, [regions], **values)
    nothing = EvaluatedRegions(regions.genome, (Interval("c1", 300, 390),))
    with pytest.raises(DataError, match="N"):
        evaluate_language_model(lm, [nothing])


@pytest.mark.parametrize("rc", [False, True])
def test_classifier_is_the_same_in_any_batch_and_order(rc: bool) -> None:
    torch.manual_seed(0)
    classifier = HyenaForSequenceClassification(
        HyenaConfig(d_model=8, n_layers=1, filter_dim=8, max_seq_len=40), n_classes=3
    ).train()
    rng = np.random.default_rng(0)
    sequences = tuple(
        "".join(rng.choice(list("ACGT"), size=rng.integers(5, 40))) for _ in range(30)
    )
    rows = LabelledSet(sequences, np.arange(30) % 3, tuple(range(30)))
    one = evaluate_classifier(classifier, rows, rc=rc, batch_size=1)
    many = evaluate_classifier(classifier, rows, rc=rc, batch_size=8)
    np.testing.assert_allclose(one.probabilities, many.probabilities, atol=1e-6)
    turned = evaluate_classifier(classifier, rows.subset(np.arange(30)[::-1]), rc=rc)
    np.testing.assert_allclose(turned.probabilities[::-1], one.probabilities, atol=1e-6)
    np.testing.assert_allclose(one.probabilities.sum(1), 1)
    assert classifier.training
    tokenizer = CharacterTokenizer()
    expected = np.zeros(3)
    with torch.no_grad():
        ids = tokenizer.encode(sequences[4])
        strands = [ids, tokenizer.reverse_complement(ids)] if rc else [ids]
        for strand in strands:
            logits = classifier.eval()(torch.from_numpy(np.ascontiguousarray(strand))[None])
            expected += torch.softmax(logits.double(), -1)[0].numpy() / len(strands)
    np.testing.assert_allclose(one.probabilities[4], expected, atol=1e-6)
    assert one.metrics.n == 30
