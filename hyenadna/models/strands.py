"""The other strand of padded sequences of token ids."""

from __future__ import annotations

import numpy as np
import torch

from hyenadna.tokenizers import CharacterTokenizer

__all__ = ["complement_table", "mirrored", "reverse_complement_padded"]


def complement_table(tokenizer: CharacterTokenizer) -> torch.Tensor:
    """Return the complementary id of each token id, uint8, shape (V,)."""
    return torch.from_numpy(tokenizer.complement(np.arange(tokenizer.vocab_size, dtype=np.uint8)))


def mirrored(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return rows with their real positions in the reverse order.

    Parameters
    ----------
    values
        Shape (B, L) or (B, L, D).
    mask
        bool, shape (B, L), True at real tokens, which are the first of each row.

    Returns
    -------
    torch.Tensor
        The shape of `values`; padding holds what the row's first token has.
    """
    positions = torch.arange(mask.shape[1], device=mask.device)
    source = (mask.sum(1, keepdim=True) - 1 - positions).clamp_min(0)
    if values.dim() == 3:
        source = source.unsqueeze(-1).expand_as(values)
    return values.gather(1, source)


def reverse_complement_padded(
    token_ids: torch.Tensor, mask: torch.Tensor, complement: torch.Tensor
) -> torch.Tensor:
    """Return the other strand of right-padded sequences, padded on the right again.

    Parameters
    ----------
    token_ids
        Integers, shape (B, L).
    mask
        bool, shape (B, L), True at real tokens, which are the first of each row.
    complement
        From `complement_table`.

    Returns
    -------
    torch.Tensor
        Shape (B, L), of the type of `token_ids`; padding is copied.
    """
    table = complement.to(token_ids.device, token_ids.dtype)
    return torch.where(mask, table[mirrored(token_ids, mask).long()], token_ids)
