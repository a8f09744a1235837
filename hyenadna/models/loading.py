"""Loading whatever a folder holds: a language model, a classifier, or an ensemble of classifiers."""

from __future__ import annotations

from pathlib import Path

from hyenadna.models.checkpoint import read_model_folder
from hyenadna.models.ensemble import ClassifierEnsemble
from hyenadna.models.language import HyenaForCausalLM, HyenaForMaskedLM
from hyenadna.models.model import HyenaForSequenceClassification

__all__ = ["Classifier", "load_model"]

Classifier = HyenaForSequenceClassification | ClassifierEnsemble


def load_model(
    source: str | Path,
    *,
    config: str | Path | None = None,
    filter_shift: float | None = None,
    max_seq_len: int | None = None,
) -> HyenaForCausalLM | HyenaForMaskedLM | Classifier:
    """Load whatever a folder, weights file, hub id or ``bundled:NAME`` holds.

    Parameters and errors are those of `HyenaForCausalLM.from_pretrained`.
    """
    found = read_model_folder(
        source, config=config, filter_shift=filter_shift, max_seq_len=max_seq_len
    )
    if found.head is None:
        kind = HyenaForMaskedLM if found.config.bidirectional else HyenaForCausalLM
        return kind.of_folder(found)
    members = [HyenaForSequenceClassification.of_folder(member) for member in found.members()]
    return members[0] if len(members) == 1 else ClassifierEnsemble(members)
