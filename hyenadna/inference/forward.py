"""Forward passes whose numbers can be trusted: evaluation mode, full precision, and smaller batches where memory ends.

What every verb of this room asks of a model and its settings is checked here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import nn

from hyenadna.errors import ConfigError
from hyenadna.inference.batching import Piece
from hyenadna.models import HyenaForMaskedLM
from hyenadna.tokenizers import CharacterTokenizer

BatchSize = int | Literal["auto"]
_Result = TypeVar("_Result")


def require_scoring(
    model: nn.Module, tokenizer: CharacterTokenizer | None, batch_size: BatchSize
) -> CharacterTokenizer:
    """Check that a model gives likelihoods of nucleotides, and return its tokenizer (None is the default one).

    Raises
    ------
    ConfigError
        The model is no language model, the tokenizer none of nucleotides, or the batch size no positive number.
    """
    if isinstance(model, HyenaForMaskedLM):
        raise ConfigError(
            "a HyenaForMaskedLM has no likelihood of a next base, for it sees both sides; scoring needs a causal model, HyenaForCausalLM"
        )
    if not isinstance(getattr(model, "lm_head", None), nn.Module):
        raise ConfigError(
            f"a {type(model).__name__} gives no likelihoods; scoring needs a language model, HyenaForCausalLM"
        )
    if tokenizer is None:
        tokenizer = CharacterTokenizer()
    elif not isinstance(tokenizer, CharacterTokenizer):
        raise ConfigError(
            f"the tokenizer is a {type(tokenizer).__name__}; scoring needs the nucleotide tokenizer"
        )
    if batch_size != "auto" and (
        isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1
    ):
        raise ConfigError(
            f"batch_size is {batch_size!r}; expected 'auto' or a number of at least 1"
        )
    return tokenizer


@contextmanager
def scoring_mode(model: nn.Module, *, half: bool) -> Iterator[None]:
    """Switch gradients, dropout, and what rounds differently in different batches off for a moment.

    Every module gets back the mode that it had. With `half`, matrix products are in bfloat16.
    """
    device = next(model.parameters()).device
    precision = (
        torch.autocast(device.type, dtype=torch.bfloat16) if half else _full_precision(device)
    )
    with torch.inference_mode(), _evaluating(model), precision:
        yield


def in_fitting_batches(
    batch: Sequence[Piece],
    forward: Callable[[Sequence[Piece]], list[_Result]],
    device: torch.device,
) -> list[_Result]:
    """Return a batch's results; where memory runs out, half the batch is tried, which changes no result.

    Raises
    ------
    ConfigError
        One piece alone does not fit.
    """
    try:
        return forward(batch)
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)):
            raise
        if len(batch) == 1:
            raise ConfigError(
                f"{len(batch[0].token_ids):,} bases at once do not fit into the memory of {device}; "
                "choose a smaller window"
            ) from error
    # Outside the except block, so that the failed pass's tensors are freed first.
    middle = len(batch) // 2
    first = in_fitting_batches(batch[:middle], forward, device)
    return first + in_fitting_batches(batch[middle:], forward, device)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch dropout off for a moment; every module gets back the mode that it had."""
    training = [module for module in model.modules() if module.training]
    if training:  # where nothing changes, filters that are kept stay valid
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast and reduced float32 products out: they round to 11 bits or fewer, differently for different batch shapes."""
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
