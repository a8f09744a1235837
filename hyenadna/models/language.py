"""The two language models: a causal one, which scores the next token, and a masked one, which scores tokens that it cannot see.

Both are a backbone and a linear head over the vocabulary. They differ in what a position sees, and so in what can be asked of them: likelihoods of
sequences and new sequences are a causal model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn

from hyenadna.errors import CheckpointError, ConfigError
from hyenadna.models.backbone import HyenaBackbone, initialize
from hyenadna.models.checkpoint import ModelFolder, read_model_folder, write_model_folder
from hyenadna.models.config import HyenaConfig
from hyenadna.models.equivariant import build_readout
from hyenadna.models.filter import ImplicitFilter
from hyenadna.tokenizers import Vocabulary

Model = TypeVar("Model", bound="HyenaLanguageModel")


class HyenaModel(nn.Module):
    """What all models share: the backbone, saving, and the filter's parameters."""

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = HyenaBackbone(config)

    def filter_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the implicit filters, which train without weight decay."""
        for module in self.modules():
            if isinstance(module, ImplicitFilter):
                yield from module.parameters()

    def n_parameters(self) -> int:
        """Count trainable parameters, shared ones once."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def head_settings(self) -> dict[str, Any]:
        """Return what ``config.json`` needs to rebuild the head."""
        return {}

    def save_pretrained(self, folder: str | Path, tokenizer: Vocabulary | None = None) -> None:
        """Write config.json, model.safetensors and the tokenizer's file into a folder, atomically.

        Parameters
        ----------
        folder
            Created where it is missing; the model files in it are replaced.
        tokenizer
            Saved beside the weights; None writes the default nucleotide tokenizer.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        write_model_folder(folder, self, tokenizer)


class HyenaLanguageModel(HyenaModel):
    """A backbone and a head that scores every token of the vocabulary at every position.

    Use `HyenaForCausalLM` or `HyenaForMaskedLM`; `language_model` makes the one that a shape belongs to.

    Raises
    ------
    ConfigError
        The shape is one of the other kind.
    """

    bidirectional: ClassVar[bool]

    def __init__(self, config: HyenaConfig) -> None:
        if config.bidirectional != self.bidirectional:
            raise ConfigError(
                "a bidirectional model sees the base that it would predict next; HyenaForMaskedLM is for it, or set bidirectional=False"
                if config.bidirectional
                else "a masked language model sees both sides of what it predicts; set bidirectional=True, or use HyenaForCausalLM"
            )
        super().__init__(config)
        self.lm_head = build_readout(config)
        initialize(self, config)
        if config.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

    @classmethod
    def from_pretrained(
        cls: type[Model],
        source: str | Path,
        *,
        config: str | Path | None = None,
        filter_shift: float | None = None,
        max_seq_len: int | None = None,
    ) -> Model:
        """Load a language model from a folder, a weights file, a hub id, or the package.

        Parameters
        ----------
        source
            Our own folders, the published ``weights.ckpt`` and ``-hf`` layouts, or a bare state dict; or ``bundled:NAME``, a
            model that comes with the package. Files are read without executing pickles.
        config
            The config file, where it does not lie beside the weights as config.json.
        filter_shift
            Replaces the window's constant (0.0 or 0.05), which published files leave open.
        max_seq_len
            Replaces the longest input. Beyond the trained length the filters are continued on their grid.

        Returns
        -------
        HyenaForCausalLM or HyenaForMaskedLM
            Of the class that it is called on; on the CPU, float32, in evaluation mode.

        Raises
        ------
        CheckpointError
            Files are missing, keys are missing or unexpected, shapes differ, or it is a model of another kind.
        """
        found = read_model_folder(
            source, config=config, filter_shift=filter_shift, max_seq_len=max_seq_len
        )
        return cls.of_folder(found)

    @classmethod
    def of_folder(cls: type[Model], found: ModelFolder) -> Model:
        """Build the model that has been read from a folder; errors are those of `from_pretrained`."""
        refuse_autoencoder(found)
        if found.head is not None:
            raise CheckpointError(
                f"{found.source} holds a sequence classifier, not a language model; give one (predict, evaluate and embed take "
                "classifiers), or load it in Python with HyenaForSequenceClassification.from_pretrained"
            )
        if found.config.bidirectional != cls.bidirectional:
            raise CheckpointError(
                f"{found.source} holds a masked (bidirectional) language model, which has no likelihood of a next base; give a causal one "
                "(embed, finetune and vep take masked ones, too), or load it in Python with HyenaForMaskedLM.from_pretrained"
                if found.config.bidirectional
                else f"{found.source} holds a causal language model, not a masked (bidirectional) one; give one that was pretrained with "
                "task=masked_lm, or load it in Python with HyenaForCausalLM.from_pretrained"
            )
        model = cls(found.config)
        found.load_into(model)
        return model.eval()


class HyenaForCausalLM(HyenaLanguageModel):
    """Next-token language model.

    Parameters
    ----------
    config
        The model's shape.

    Examples
    --------
    >>> model = HyenaForCausalLM(HyenaConfig(d_model=16, n_layers=1, max_seq_len=64))
    >>> model(torch.randint(7, 11, (2, 32))).shape
    torch.Size([2, 32, 16])
    """

    bidirectional = False

    def forward(self, token_ids: torch.Tensor, at: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits of the next token.

        Parameters
        ----------
        token_ids
            Any integer dtype, shape (B, L), padded on the right.
        at
            int64, shape (B, n), 0…L − 1: the positions whose logits are wanted, which saves those of a large vocabulary elsewhere; None wants all.

        Returns
        -------
        torch.Tensor
            Shape (B, L, V), V the padded vocabulary (16); column v at position t scores token v at t + 1. (B, n, V) with `at`.
        """
        hidden = self.backbone(token_ids)
        if at is not None:
            hidden = hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1]))
        return cast(torch.Tensor, self.lm_head(hidden))


class HyenaForMaskedLM(HyenaLanguageModel):
    """Masked language model: what stands at a position, from both of its sides.

    Parameters
    ----------
    config
        The model's shape, with ``bidirectional=True``.

    Examples
    --------
    >>> model = HyenaForMaskedLM(HyenaConfig(d_model=16, n_layers=1, max_seq_len=64, bidirectional=True))
    >>> model(torch.randint(7, 11, (2, 32))).shape
    torch.Size([2, 32, 16])
    """

    bidirectional = True

    def forward(self, token_ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits of every token.

        Parameters
        ----------
        token_ids
            Any integer dtype, shape (B, L); [MASK] (id 3) where a token is asked for.
        mask
            bool, shape (B, L), True at real tokens, [MASK] among them, False at padding; None means that all are real.

        Returns
        -------
        torch.Tensor
            Shape (B, L, V), V the padded vocabulary (16); column v at position t scores token v at t. Those at real positions do not depend on padding.
            Of an equivariant model, those of the reverse complement are the same in reverse order, with the columns of complements exchanged.
        """
        return cast(torch.Tensor, self.lm_head(self.backbone(token_ids, mask)))


def refuse_autoencoder(found: ModelFolder) -> None:
    """Raise `CheckpointError` where a folder holds the autoencoder of a synthetic task."""
    if found.head is not None and found.head.get("kind") == "autoencoder":
        raise CheckpointError(
            f"{found.source} holds the autoencoder of a synthetic task; load it in Python with HyenaAutoencoder.from_pretrained"
        )


def language_model(config: HyenaConfig) -> HyenaForCausalLM | HyenaForMaskedLM:
    """Return a language model of random weights of the kind that a shape belongs to."""
    return HyenaForMaskedLM(config) if config.bidirectional else HyenaForCausalLM(config)
