"""A score is the same alone, in any batch, padded or not, in any order; and the check sees scoring that is not."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyenadna import CharacterTokenizer, HyenaConfig, HyenaForCausalLM, score_sequences
from hyenadna.inference import batching
from hyenadna.testing import random_dna

TOLERANCE = 1e-5  # nats per base, the promise of `hyenadna.inference.likelihood`
Scoring = Callable[[Sequence[str], int], list[float]]


def _build(embed_dropout: float = 0.1) -> HyenaForCausalLM:
    torch.manual_seed(0)
    config = HyenaConfig(d_model=16, n_layers=2, max_seq_len=300, filter_dim=8, tie_embeddings=False,
                         embed_dropout=embed_dropout)  # fmt: skip
    model = HyenaForCausalLM(config).eval()
    with (
        torch.no_grad()
    ):  # weights as of a trained model: predictions far from uniform, and filters that reach far
        model.lm_head.weight.mul_(60)
        for layer in model.backbone.layers:
            layer.mixer.in_proj.weight.mul_(8)
            layer.mixer.out_proj.weight.mul_(8)
    return model


MODEL = _build()


def _ours(sequences: Sequence[str], batch_size: int) -> list[float]:
    scores = score_sequences(MODEL, sequences, batch_size=batch_size, rc=False)
    return [s.mean_log_likelihood for s in scores]


def _largest_change(
    scoring: Scoring, sequences: Sequence[str], order: Sequence[int], batch_size: int
) -> float:
    alone = [scoring([sequence], 1)[0] for sequence in sequences]
    together = scoring([sequences[i] for i in order], batch_size)
    changes = [abs(together[k] - alone[i]) for k, i in enumerate(order)]
    return max((c for c in changes if not math.isnan(c)), default=0.0)


letters = st.integers(1, 300).flatmap(
    lambda n: st.integers(0, 10**6).map(lambda seed: random_dna(n, seed=seed))
)
odd = st.text("ACGTNacgtnuRY", min_size=1, max_size=20)


@settings(max_examples=20, deadline=None)
@given(st.lists(letters | odd, min_size=1, max_size=12), st.integers(1, 12), st.randoms())
def test_a_score_is_the_same_alone_in_any_batch_and_order(
    sequences: list[str], batch_size: int, random: object
) -> None:
    order = list(range(len(sequences)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert _largest_change(_ours, sequences, order, batch_size) <= TOLERANCE


def test_a_score_is_the_same_at_any_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = [random_dna(n, seed=n) for n in (1, 2, 3, 50, 64, 65, 129, 255)]
    expected = _ours(sequences, 1)
    for pad in (lambda n, _: n, lambda n, limit: limit, lambda n, limit: min(limit, n + 7)):
        monkeypatch.setattr(batching, "padded_length", pad)
        assert np.nanmax(np.abs(np.array(_ours(sequences, 3)) - expected)) <= TOLERANCE


def _naive(
    sequences: Sequence[str],
    batch_size: int,
    *,
    left: bool = False,
    count_padding: bool = False,
    train: bool = False,
    mix: bool = False,
) -> list[float]:
    """Score as hasty code does; each flag is one of the mistakes seen in the field."""
    tokenizer = CharacterTokenizer()
    results = []
    for i in range(0, len(sequences), batch_size):
        rows = [tokenizer.encode(s) for s in sequences[i : i + batch_size]]
        width = max(map(len, rows))
        ids, keep = (
            torch.full((len(rows), width), 4),
            torch.zeros(len(rows), width, dtype=torch.bool),
        )
        for r, row in enumerate(rows):
            at = slice(width - len(row), width) if left else slice(0, len(row))
            ids[r, at] = torch.from_numpy(row.astype(np.int64))
            keep[r, at] = True
            keep[r, at.start] = False
        with torch.no_grad():
            hidden = MODEL.train(train).backbone(ids)
            if mix:
                hidden = hidden - hidden.mean(dim=0, keepdim=True)
            log_p = (
                MODEL.lm_head(hidden)[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            )
        MODEL.eval()
        if count_padding:
            results += log_p.mean(dim=1).tolist()
        else:
            results += [float(p[k].mean()) for p, k in zip(log_p, keep[:, 1:], strict=True)]
    return results


SEQUENCES = [random_dna(n, seed=n) for n in (40, 90, 7, 250)]


def test_the_naive_scoring_without_a_mistake_passes() -> None:
    assert _largest_change(_naive, SEQUENCES, [2, 0, 3, 1], 3) <= TOLERANCE
    assert _naive(SEQUENCES, 2) == pytest.approx(_ours(SEQUENCES, 3), abs=TOLERANCE)


@pytest.mark.parametrize(
    "mistake",
    [{"left": True}, {"count_padding": True}, {"train": True}, {"mix": True}],
    ids=lambda m: next(iter(m)),
)
def test_control_known_mistakes_are_caught(mistake: dict[str, bool]) -> None:
    def wrong(sequences: Sequence[str], batch_size: int) -> list[float]:
        return _naive(sequences, batch_size, **mistake)

    assert _largest_change(wrong, SEQUENCES, [2, 0, 3, 1], 3) > 10 * TOLERANCE


def test_a_score_is_the_same_on_both_strands_with_rc() -> None:
    from hyenadna.sequence import reverse_complement

    flipped = [reverse_complement(s) for s in SEQUENCES]
    one = [s.mean_log_likelihood for s in score_sequences(MODEL, SEQUENCES, rc=True, batch_size=3)]
    two = [s.mean_log_likelihood for s in score_sequences(MODEL, flipped, rc=True)]
    assert one == pytest.approx(two, abs=TOLERANCE)
    assert _ours(SEQUENCES, 1) != pytest.approx(
        _ours(flipped, 1), abs=TOLERANCE
    )  # the control: one strand is not enough
