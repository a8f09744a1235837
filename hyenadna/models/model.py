"""The two models that people load: a causal language model and a sequence classifier.

Both are a backbone and a head; folders are read and written through `hyenadna.models.checkpoint`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from hyenadna.errors import CheckpointError
from hyenadna.models.backbone import HyenaBackbone, initialize
from hyenadna.models.checkpoint import ModelFolder, read_model_folder, write_model_folder
from hyenadna.models.config import HyenaConfig
from hyenadna.models.filter import ImplicitFilter
from hyenadna.models.heads import ClassificationHead, Pooling, check_mask
from hyenadna.models.strands import complement_table, mirrored, reverse_complement_padded
from hyenadna.tokenizers import CharacterTokenizer, Vocabulary


class HyenaModel(nn.Module):
    """What the models share: the backbone, saving, and the filter's parameters."""

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


class HyenaForCausalLM(HyenaModel):
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

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.padded_vocab_size, bias=False)
        initialize(self, config)
        if config.tie_embeddings:
            self.lm_head.weight = self.backbone.embedding.weight

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

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        config: str | Path | None = None,
        filter_shift: float | None = None,
        max_seq_len: int | None = None,
    ) -> HyenaForCausalLM:
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
        HyenaForCausalLM
            On the CPU, float32, in evaluation mode.

        Raises
        ------
        CheckpointError
            Files are missing, keys are missing or unexpected, or shapes differ.
        """
        found = read_model_folder(
            source, config=config, filter_shift=filter_shift, max_seq_len=max_seq_len
        )
        return cls._build(found)

    @classmethod
    def _build(cls, found: ModelFolder) -> HyenaForCausalLM:
        _refuse_autoencoder(found)
        if found.head is not None:
            raise CheckpointError(
                f"{found.source} holds a sequence classifier, not a language model; give one (embed and evaluate take "
                "classifiers, too), or load it in Python with HyenaForSequenceClassification.from_pretrained"
            )
        model = cls(found.config)
        found.load_into(model)
        return model.eval()


class HyenaForSequenceClassification(HyenaModel):
    """Sequence classifier: backbone, pooling, linear layer.

    Parameters
    ----------
    config
        The backbone's shape.
    n_classes
        Number of classes C; None means as many as labels, or 2.
    pooling, n_positions
        ``"mean"``, ``"last"``, ``"attention"`` or ``"positional"``, over real tokens only; see `ClassificationHead`.
    labels
        Name of each class, kept in the saved folder; None names them 0 … C − 1.
    head_bias, head_dropout
        Bias and dropout of the head.
    both_directions
        Read the other strand too and join the two at every position, which makes a causal backbone see both sides of it.
    """

    def __init__(
        self,
        config: HyenaConfig,
        *,
        n_classes: int | None = None,
        pooling: Pooling = "mean",
        labels: Sequence[str] | None = None,
        head_bias: bool = True,
        head_dropout: float = 0.0,
        n_positions: int = 0,
        both_directions: bool = False,
    ) -> None:
        super().__init__(config)
        if n_classes is None:
            n_classes = 2 if labels is None else len(labels)
        self.head = ClassificationHead(
            config.d_model, n_classes, pooling=pooling, bias=head_bias, dropout=head_dropout,
            n_positions=n_positions, both_directions=both_directions,
        )  # fmt: skip
        self.complement: torch.Tensor
        self.register_buffer("complement", complement_table(CharacterTokenizer()), persistent=False)
        self.labels = tuple(labels) if labels is not None else tuple(map(str, range(n_classes)))
        if len(self.labels) != n_classes:
            raise ValueError(f"{len(self.labels)} labels were given for {n_classes} classes")
        initialize(self, config)

    @property
    def n_classes(self) -> int:
        """Number of classes C."""
        return len(self.labels)

    def forward(
        self,
        token_ids: torch.Tensor,
        mask: torch.Tensor | None = None,
        *,
        both_strands: bool = False,
    ) -> torch.Tensor:
        """Return class logits.

        Parameters
        ----------
        token_ids
            Any integer dtype, shape (B, L), padded on the right.
        mask
            bool, shape (B, L), True at real tokens; None means that every token is real.
        both_strands
            Average the logits of each sequence and its reverse complement, which then have the same.

        Returns
        -------
        torch.Tensor
            Shape (B, C); a sequence's logits do not depend on its padding or its batch.

        Raises
        ------
        ValueError
            The mask has another shape or does not pad on the right.
        """
        if mask is None:
            mask = torch.ones_like(token_ids, dtype=torch.bool)
        elif not (mask.is_cuda and torch.cuda.is_current_stream_capturing()):
            check_mask(mask, token_ids.shape)  # not in a CUDA graph: it waits for values
        joined = self.head.join is not None
        if not (joined or both_strands):
            return cast(torch.Tensor, self.head(self.backbone(token_ids), mask))
        other = reverse_complement_padded(token_ids, mask, self.complement)
        strands = self.backbone(torch.cat([token_ids, other])).chunk(2)
        if joined:
            ahead, back = (
                torch.cat([a, mirrored(b, mask)], -1) for a, b in (strands, strands[::-1])
            )
            if not both_strands:
                return cast(torch.Tensor, self.head(ahead, mask))
            strands = ahead, back
        logits = self.head(torch.cat(strands), torch.cat([mask, mask]))
        return cast(torch.Tensor, logits.view(2, len(token_ids), -1).mean(0))

    def head_settings(self) -> dict[str, Any]:
        """Return what ``config.json`` needs to rebuild the head."""
        return {
            "labels": list(self.labels),
            "pooling": self.head.pooling,
            "head_bias": self.head.classifier.bias is not None,
            "head_dropout": self.head.dropout.p,
            "n_positions": self.head.n_positions,
            "both_directions": self.head.join is not None,
        }

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        config: str | Path | None = None,
        n_classes: int | None = None,
        pooling: Pooling | None = None,
        labels: Sequence[str] | None = None,
        new_head: bool = False,
        head_dropout: float | None = None,
        n_positions: int = 0,
        both_directions: bool = False,
        filter_shift: float | None = None,
        max_seq_len: int | None = None,
    ) -> HyenaForSequenceClassification:
        """Load a classifier, or put a new head on a pretrained language model.

        Parameters
        ----------
        source, config, filter_shift, max_seq_len
            As for `HyenaForCausalLM.from_pretrained`.
        n_classes
            Number of classes; needed where a new head is made.
        pooling
            Replaces the saved pooling; ``"mean"`` for a new head.
        labels
            Names of the classes.
        new_head
            Drop the head that the folder has and start a new one. A language model always gets a new head.
        head_dropout
            Replaces the saved dropout.
        n_positions, both_directions
            Of a new head.

        Raises
        ------
        CheckpointError
            As for `HyenaForCausalLM.from_pretrained`; or a language model without `n_classes`; or a saved head of
            another number of classes without `new_head`.
        """
        found = read_model_folder(
            source, config=config, filter_shift=filter_shift, max_seq_len=max_seq_len
        )
        return cls._build(
            found,
            n_classes=len(labels) if n_classes is None and labels is not None else n_classes,
            pooling=pooling,
            labels=labels,
            new_head=new_head,
            head_dropout=head_dropout,
            n_positions=n_positions,
            both_directions=both_directions,
        )

    @classmethod
    def _build(
        cls,
        found: ModelFolder,
        *,
        n_classes: int | None = None,
        pooling: Pooling | None = None,
        labels: Sequence[str] | None = None,
        new_head: bool = False,
        head_dropout: float | None = None,
        n_positions: int = 0,
        both_directions: bool = False,
    ) -> HyenaForSequenceClassification:
        _refuse_autoencoder(found)
        saved = None if new_head else copy.copy(found.head)
        if saved is None:
            if n_classes is None:
                raise CheckpointError(
                    f"{found.source} has no classification head to load; say n_classes to put a new one on it"
                )
            saved = {
                "labels": labels or [str(i) for i in range(n_classes)],
                "n_positions": n_positions,
                "both_directions": both_directions,
            }
        elif n_classes is not None and n_classes != len(saved["labels"]):
            raise CheckpointError(
                f"{found.source} has a head of {len(saved['labels'])} classes where {n_classes} were "
                "asked for; say new_head=True to start a new one"
            )
        model = cls(
            found.config,
            n_classes=len(saved["labels"]),
            pooling=pooling or saved.get("pooling", "mean"),
            labels=labels or saved["labels"],
            head_bias=saved.get("head_bias", True),
            head_dropout=saved.get("head_dropout", 0.0) if head_dropout is None else head_dropout,
            n_positions=saved.get("n_positions", 0),
            both_directions=saved.get("both_directions", False),
        )
        found.load_into(model, new_head=new_head or found.head is None)
        return model.eval()


def _refuse_autoencoder(found: ModelFolder) -> None:
    if found.head is not None and found.head.get("kind") == "autoencoder":
        raise CheckpointError(
            f"{found.source} holds the autoencoder of a synthetic task; load it in Python with HyenaAutoencoder.from_pretrained"
        )


def load_model(
    source: str | Path,
    *,
    config: str | Path | None = None,
    filter_shift: float | None = None,
    max_seq_len: int | None = None,
) -> HyenaForCausalLM | HyenaForSequenceClassification:
    """Load whatever a folder, weights file, hub id or ``bundled:NAME`` holds.

    Parameters and errors are those of `HyenaForCausalLM.from_pretrained`.
    """
    found = read_model_folder(
        source, config=config, filter_shift=filter_shift, max_seq_len=max_seq_len
    )
    if found.head is None:
        return HyenaForCausalLM._build(found)
    return HyenaForSequenceClassification._build(found)
