from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyenadna.errors import CheckpointError, ConfigError
from hyenadna.models import HyenaConfig, HyenaForSequenceClassification, load_model
from hyenadna.models.published import to_hf
from hyenadna.models.strands import complement_table, mirrored, reverse_complement_padded
from hyenadna.tokenizers import CharacterTokenizer

CONFIG = HyenaConfig(d_model=16, n_layers=2, filter_dim=8, max_seq_len=64)
TABLE = complement_table(CharacterTokenizer())


def classifier(**changes: object) -> HyenaForSequenceClassification:
    torch.manual_seed(0)
    settings: dict[str, object] = {"pooling": "positional", "n_positions": 24}
    model = HyenaForSequenceClassification(CONFIG, **{**settings, **changes})  # type: ignore[arg-type]
    for (
        parameter
    ) in model.parameters():  # initial weights are so small that much would pass for equal
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model.eval()


def padded(lengths: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(7, 11, (len(lengths), width), generator=generator)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    return torch.where(mask, ids, 4), mask


def test_mirrored_turns_real_positions_alone() -> None:
    ids, mask = padded([5, 3], 5)
    assert torch.equal(mirrored(ids, mask)[0], ids[0].flip(0))
    assert torch.equal(mirrored(ids, mask)[1, :3], ids[1, :3].flip(0))
    states = torch.randn(2, 5, 4)
    assert torch.equal(mirrored(states, mask)[1, :3], states[1, :3].flip(0))


@pytest.mark.parametrize("both_directions", [False, True])
@pytest.mark.parametrize("pooling", ["positional", "attention_max", "attention", "mean", "last"])
def test_logits_depend_on_no_padding_and_no_neighbour(pooling: str, both_directions: bool) -> None:
    n = 24 if pooling == "positional" else 0
    model = classifier(pooling=pooling, n_positions=n, both_directions=both_directions)
    ids, mask = padded([20, 13, 1, 30], 30)
    together = model(ids, mask)
    for row, length in enumerate([20, 13, 1, 30]):
        alone = model(ids[row : row + 1, :length])
        assert torch.allclose(together[row], alone[0], atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("both_directions", [False, True])
def test_both_strands_are_the_mean_of_a_sequence_and_its_reverse_complement(
    both_directions: bool,
) -> None:
    model = classifier(both_directions=both_directions)
    ids, mask = padded([24, 11], 24)
    other = reverse_complement_padded(ids, mask, TABLE)
    found = model(ids, mask, both_strands=True)
    assert torch.allclose(found, (model(ids, mask) + model(other, mask)) / 2, atol=1e-5)
    assert torch.allclose(found, model(other, mask, both_strands=True), atol=1e-5)
    assert not torch.allclose(model(ids, mask), model(other, mask), atol=1e-3)


def test_with_both_directions_the_first_position_knows_the_last_base() -> None:
    seen: dict[bool, bool] = {}
    for both in (False, True):
        model = classifier(pooling="positional", n_positions=1, both_directions=both)
        weight = model.head.classifier.weight.data
        weight[:, : 2 * CONFIG.d_model] = (
            0.0  # nothing but the readout of the first position is left
        )
        ids, mask = padded([20], 20)
        changed = ids.clone()
        changed[0, -1] = 17 - changed[0, -1]  # another base
        seen[both] = not torch.allclose(model(ids, mask), model(changed, mask), atol=1e-6)
    assert seen == {False: False, True: True}


def test_positional_pooling_tells_where_and_the_average_does_not() -> None:
    torch.manual_seed(0)
    positional, average = classifier(), classifier(pooling="mean", n_positions=0)
    hidden, mask = torch.randn(1, 24, 16), torch.ones(1, 24, dtype=torch.bool)
    turned = hidden.roll(5, dims=1)
    assert torch.allclose(average.head(hidden, mask), average.head(turned, mask), atol=1e-5)
    assert not torch.allclose(
        positional.head(hidden, mask), positional.head(turned, mask), atol=1e-2
    )


def test_a_saved_classifier_comes_back_with_its_head(tmp_path: Path) -> None:
    model = classifier(both_directions=True)
    model.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    assert isinstance(again, HyenaForSequenceClassification)
    ids, mask = padded([24, 11], 24)
    assert torch.equal(model(ids, mask), again(ids, mask))
    assert "complement" not in model.state_dict()


def test_the_hf_layout_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(CheckpointError, match="of both strands"):
        to_hf(classifier(pooling="last", n_positions=0, both_directions=True, head_bias=False))


@pytest.mark.parametrize(("pooling", "n"), [("positional", 0), ("mean", 3)])
def test_positions_go_with_positional_pooling_alone(pooling: str, n: int) -> None:
    with pytest.raises(ConfigError, match="n_positions"):
        classifier(pooling=pooling, n_positions=n)
