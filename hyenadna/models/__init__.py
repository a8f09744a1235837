"""The Hyena models: shapes, operator, backbone, heads, and every layout in which their weights come."""

from hyenadna.models.backbone import HyenaBackbone
from hyenadna.models.config import NAMED_SIZES, HyenaConfig
from hyenadna.models.heads import ClassificationHead, Pooling
from hyenadna.models.hyena import HyenaBlock, HyenaOperator
from hyenadna.models.model import (
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    HyenaModel,
    load_model,
)

__all__ = [
    "NAMED_SIZES",
    "ClassificationHead",
    "HyenaBackbone",
    "HyenaBlock",
    "HyenaConfig",
    "HyenaForCausalLM",
    "HyenaForSequenceClassification",
    "HyenaModel",
    "HyenaOperator",
    "Pooling",
    "load_model",
]
