"""The Hyena models: shapes, operator and other mixers, backbone, heads, and every layout in which their weights come."""

from hyenadna.models.autoencoder import HyenaAutoencoder
from hyenadna.models.backbone import HyenaBackbone
from hyenadna.models.config import MIXERS, NAMED_SIZES, HyenaConfig
from hyenadna.models.ensemble import ClassifierEnsemble
from hyenadna.models.heads import ClassificationHead, Pooling
from hyenadna.models.hyena import HyenaBlock, HyenaOperator
from hyenadna.models.language import (
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaLanguageModel,
    HyenaModel,
    language_model,
)
from hyenadna.models.loading import Classifier, load_model
from hyenadna.models.mixers import (
    Attention,
    CausalAttention,
    GatedConvolution,
    MultiHeadHyena,
    build_mixer,
)
from hyenadna.models.model import HyenaForSequenceClassification

__all__ = [
    "MIXERS",
    "NAMED_SIZES",
    "Attention",
    "CausalAttention",
    "ClassificationHead",
    "Classifier",
    "ClassifierEnsemble",
    "GatedConvolution",
    "HyenaAutoencoder",
    "HyenaBackbone",
    "HyenaBlock",
    "HyenaConfig",
    "HyenaForCausalLM",
    "HyenaForMaskedLM",
    "HyenaForSequenceClassification",
    "HyenaLanguageModel",
    "HyenaModel",
    "HyenaOperator",
    "MultiHeadHyena",
    "Pooling",
    "build_mixer",
    "language_model",
    "load_model",
]
