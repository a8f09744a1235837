"""The sequence classifier: a backbone and a head. Folders are read and written through `hyenadna.models.checkpoint`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch

from hyenadna.errors import CheckpointError, ConfigError
from hyenadna.models.backbone import initialize
from hyenadna.models.checkpoint import ModelFolder, read_model_folder
from hyenadna.models.config import HyenaConfig
from hyenadna.models.equivariant import exchanged
from hyenadna.models.heads import ClassificationHead, Pooling, check_mask
from hyenadna.models.language import (
    HyenaModel,
    refuse_autoencoder,
)
from hyenadna.models.strands import complement_table, mirrored, reverse_complement_padded
from hyenadna.tokenizers import CharacterTokenizer


class HyenaForSequenceClassification(HyenaModel):
    """Sequence classifier: backbone, pooling, linear layer.

    Parameters
    ----------
    config
        The backbone's shape.
    n_classes
        Number of classes C; None means as many as labels, or 2.
    pooling, n_positions
        ``"mean"``, ``"last"``, ``"attention"``, ``"attention_max"`` or ``"positional"``, over real tokens only; see `ClassificationHead`.
    labels
        Name of each class, kept in the saved folder; None names them 0 … C − 1.
    head_bias, head_dropout
        Bias and dropout of the head.
    both_directions
        Read the other strand too and join the two at every position. A causal backbone sees both sides of it then; a bidirectional one, which does
        anyway, both strands. An equivariant one always does.

    With an equivariant backbone the head reads the states twice, in the direction of either strand, and its logits are averaged: classes do not depend on the
    strand, whatever the pooling; ``"last"`` pools both ends, and ``"positional"`` counts places from both. That is for tasks in which the strand has no
    meaning.

    Raises
    ------
    ConfigError
        `both_directions` with an equivariant backbone, or a setting of the head is out of range.
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
        if config.equivariant and both_directions:
            raise ConfigError(
                "both_directions=true adds nothing to an equivariant model, whose states are of both strands already; set both_directions=false"
            )
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
            Average the logits of each sequence and its reverse complement, which then have the same. Those of an equivariant model have so anyway, and
            nothing is computed twice.

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
        if self.config.equivariant:
            hidden = self.backbone(token_ids, mask)
            return self._averaged(hidden, exchanged(mirrored(hidden, mask)), mask)
        joined = self.head.join is not None
        if not (joined or both_strands):
            return cast(torch.Tensor, self.head(self.backbone(token_ids, mask), mask))
        other = reverse_complement_padded(token_ids, mask, self.complement)
        both_masks = torch.cat([mask, mask])
        strands = self.backbone(torch.cat([token_ids, other]), both_masks).chunk(2)
        if joined:
            ahead, back = (
                torch.cat([a, mirrored(b, mask)], -1) for a, b in (strands, strands[::-1])
            )
            if not both_strands:
                return cast(torch.Tensor, self.head(ahead, mask))
            return self._averaged(ahead, back, mask)
        return self._averaged(strands[0], strands[1], mask)

    def _averaged(
        self, ahead: torch.Tensor, back: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the mean of the logits (B, C) of two readings."""
        logits = self.head(torch.cat([ahead, back]), torch.cat([mask, mask]))
        return cast(torch.Tensor, logits.view(2, len(mask), -1).mean(0))

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
        """Load a classifier, or put a new head on a pretrained language model, causal or masked.

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
        refuse_autoencoder(found)
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

    @classmethod
    def of_folder(cls, found: ModelFolder) -> HyenaForSequenceClassification:
        """Return the classifier that a folder holds.

        Raises
        ------
        CheckpointError
            The weights are those of an ensemble, or do not fit the configuration.
        """
        return cls._build(found)
