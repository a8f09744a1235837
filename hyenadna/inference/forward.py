"""Forward passes whose numbers can be trusted: evaluation mode, full precision, and smaller batches where memory ends.

A GPU is kept busy: it computes a batch while the host deals with the one before and prepares the one after. What every verb of this room asks of a model and its
settings is checked here, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy.typing as npt
import torch
from torch import nn

from hyenadna.errors import ConfigError
from hyenadna.models import Classifier, HyenaForMaskedLM
from hyenadna.tokenizers import CharacterTokenizer

BatchSize = int | Literal["auto"]
Arrays = tuple[npt.NDArray[Any], ...]
_Item = TypeVar("_Item", bound=Sized)


def require_scoring(
    model: nn.Module,
    tokenizer: CharacterTokenizer | None,
    batch_size: BatchSize,
    *,
    masked: bool = False,
) -> CharacterTokenizer:
    """Check that a model gives likelihoods of nucleotides, `masked` ones among them or not, and return its tokenizer (None is the default one).

    Raises
    ------
    ConfigError
        The model is no language model, the tokenizer none of nucleotides, or the batch size no positive number.
    """
    if isinstance(model, HyenaForMaskedLM) and not masked:
        raise ConfigError(
            "a HyenaForMaskedLM has no likelihood of a next base, for it sees both sides; scoring needs a causal model, HyenaForCausalLM"
        )
    if not isinstance(getattr(model, "lm_head", None), nn.Module):
        raise ConfigError(
            f"a {type(model).__name__} gives no likelihoods; scoring needs a language model, HyenaForCausalLM"
        )
    return _require_settings(tokenizer, batch_size, "scoring")


def require_classifying(
    model: nn.Module, tokenizer: CharacterTokenizer | None, batch_size: BatchSize
) -> CharacterTokenizer:
    """Check that a model gives classes of nucleotide sequences, and return its tokenizer (None is the default one).

    Raises
    ------
    ConfigError
        The model is no classifier, the tokenizer none of nucleotides, or the batch size no positive number.
    """
    if not isinstance(model, Classifier):
        raise ConfigError(
            f"a {type(model).__name__} knows no classes; prediction needs a fine-tuned classifier, HyenaForSequenceClassification"
        )
    return _require_settings(tokenizer, batch_size, "prediction")


def _require_settings(
    tokenizer: CharacterTokenizer | None, batch_size: BatchSize, what: str
) -> CharacterTokenizer:
    if tokenizer is None:
        tokenizer = CharacterTokenizer()
    elif not isinstance(tokenizer, CharacterTokenizer):
        raise ConfigError(
            f"the tokenizer is a {type(tokenizer).__name__}; {what} needs the nucleotide tokenizer"
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


def forward_passes(
    model: nn.Module,
    batches: Iterable[Sequence[_Item]],
    forward: Callable[[Sequence[_Item]], tuple[torch.Tensor, ...]],
    *,
    half: bool,
) -> Iterator[tuple[Sequence[_Item], Arrays]]:
    """Yield batches, in order, with what a function makes of each.

    On a GPU, a batch is begun before the one before it is waited for and yielded, so that the caller's work on results and on the next batch goes on
    while the GPU computes. Elsewhere each batch is done when it is asked for.

    Parameters
    ----------
    model
        Used where it is, in `scoring_mode`.
    batches
        Items whose length is that of what the model reads for them, in bases; read lazily. Where memory runs out, a batch is tried, and comes back, as two
        halves. An empty one is not computed; it comes back with no arrays, after those before it, and so gives the caller a turn.
    forward
        Runs the model on a batch. Nothing in it may wait for the GPU; `to_device` does not.
    half
        See `scoring_mode`.

    Yields
    ------
    tuple
        A batch, or a part of one, and the tensors that `forward` returned for it, as arrays.

    Raises
    ------
    ConfigError
        One item alone does not fit into memory.
    """
    device = next(model.parameters()).device
    n_ahead = 1 if device.type == "cuda" else 0
    begun: deque[_Begun[_Item]] = deque()
    for batch in batches:
        for part in _begin(model, batch, forward, device, half):
            begun.append(part)
            if len(begun) > n_ahead:
                yield _finished(begun.popleft())
        if not batch:
            while begun:
                yield _finished(begun.popleft())
            yield batch, ()
    while begun:
        yield _finished(begun.popleft())


def to_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor on a device, without waiting for what the device is doing."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()  # a copy from ordinary memory would wait
    return tensor.to(device, non_blocking=True)


_Begun = tuple[Sequence[_Item], tuple[torch.Tensor, ...], torch.cuda.Event | None]


def _begin(
    model: nn.Module,
    batch: Sequence[_Item],
    forward: Callable[[Sequence[_Item]], tuple[torch.Tensor, ...]],
    device: torch.device,
    half: bool,
) -> Iterator[_Begun[_Item]]:
    """Start a batch, or, where memory ends, parts of it, which changes no result. Memory is taken here, so this is where it ends."""
    if not batch:
        return
    try:
        with scoring_mode(model, half=half):
            # To page-locked memory, where the device is a GPU: the copy goes on while this thread does.
            found = tuple(t.to("cpu", non_blocking=True) for t in forward(batch))
            event = None
            if device.type == "cuda":
                event = torch.cuda.current_stream(device).record_event()
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)):
            raise
        if len(batch) == 1:
            raise ConfigError(
                f"{len(batch[0]):,} bases at once do not fit into the memory of {device}; choose a smaller window, or shorter sequences"
            ) from error
    else:
        yield batch, found, event
        return
    # Outside the except block, so that the failed pass's tensors are freed first.
    middle = len(batch) // 2
    yield from _begin(model, batch[:middle], forward, device, half)
    yield from _begin(model, batch[middle:], forward, device, half)


def _finished(begun: _Begun[_Item]) -> tuple[Sequence[_Item], Arrays]:
    batch, found, event = begun
    if event is not None:
        event.synchronize()
    return batch, tuple(tensor.numpy() for tensor in found)


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
