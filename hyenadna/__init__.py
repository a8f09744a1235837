"""hyenadna: long-context DNA language models at single-nucleotide resolution.

The names below are loaded on first use, so that ``import hyenadna`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyenadna.data.genome import Genome
    from hyenadna.errors import HyenaDNAError
    from hyenadna.inference.likelihood import score_sequences
    from hyenadna.inference.prediction import predict_sequences
    from hyenadna.inference.variants import score_variants
    from hyenadna.models import (
        HyenaConfig,
        HyenaForCausalLM,
        HyenaForMaskedLM,
        HyenaForSequenceClassification,
        load_model,
    )
    from hyenadna.sequence import Interval, Variant
    from hyenadna.tokenizers import ByteTokenizer, CharacterTokenizer, load_tokenizer

_HOME = {
    "ByteTokenizer": "hyenadna.tokenizers",
    "CharacterTokenizer": "hyenadna.tokenizers",
    "Genome": "hyenadna.data.genome",
    "HyenaConfig": "hyenadna.models",
    "HyenaDNAError": "hyenadna.errors",
    "HyenaForCausalLM": "hyenadna.models",
    "HyenaForMaskedLM": "hyenadna.models",
    "HyenaForSequenceClassification": "hyenadna.models",
    "Interval": "hyenadna.sequence",
    "Variant": "hyenadna.sequence",
    "load_model": "hyenadna.models",
    "load_tokenizer": "hyenadna.tokenizers",
    "predict_sequences": "hyenadna.inference.prediction",
    "score_sequences": "hyenadna.inference.likelihood",
    "score_variants": "hyenadna.inference.variants",
}

__all__ = [
    "ByteTokenizer",
    "CharacterTokenizer",
    "Genome",
    "HyenaConfig",
    "HyenaDNAError",
    "HyenaForCausalLM",
    "HyenaForMaskedLM",
    "HyenaForSequenceClassification",
    "Interval",
    "Variant",
    "load_model",
    "load_tokenizer",
    "predict_sequences",
    "score_sequences",
    "score_variants",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from hyenadna.resources import package_version

        return package_version()
    if name not in _HOME:
        raise AttributeError(f"module 'hyenadna' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
