"""Keeping a GPU busy: a step's forward and backward pass as one CUDA graph, replayed without Python between its kernels, and numbers read late.

A step of a small model has hundreds of kernels of some microseconds, fewer than Python needs to launch one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

__all__ = ["ReadLater", "RecordedPass"]


class RecordedPass:
    """A function of tensors that leaves gradients behind, recorded for one shape of its inputs.

    Parameters
    ----------
    compute
        Takes the inputs, calls ``backward``, and returns tensors. It may not wait for the GPU, nor depend on anything else that changes.
    inputs
        CUDA tensors like those to come.
    parameters
        Get gradients. These are added up in tensors that stay, as ``zero_grad(set_to_none=False)`` leaves them; they begin at zero.
    """

    def __init__(
        self,
        compute: Callable[..., tuple[torch.Tensor, ...]],
        inputs: Sequence[torch.Tensor],
        parameters: Sequence[torch.nn.Parameter],
    ) -> None:
        self._inputs = [t.clone() for t in inputs]
        self._parameters = [p for p in parameters if p.requires_grad]
        # A first pass compiles kernels and makes tables, which is not to be recorded; on a stream of its own, as recording wants it.
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                compute(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        for parameter in self._parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._gradients = [parameter.grad for parameter in self._parameters]
        self._graph = torch.cuda.CUDAGraph()
        # Other threads, such as one that pins memory, go on meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = compute(*self._inputs)

    def fits(self, inputs: Sequence[torch.Tensor]) -> bool:
        """Say whether inputs have the shapes that were recorded, and gradients are still where they were."""
        return all(
            new.shape == old.shape and new.dtype == old.dtype
            for new, old in zip(inputs, self._inputs, strict=True)
        ) and all(p.grad is g for p, g in zip(self._parameters, self._gradients, strict=True))

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Replay; what it returns is overwritten by the next call."""
        for mine, new in zip(self._inputs, inputs, strict=True):
            mine.copy_(new)
        self._graph.replay()
        return self._outputs


class ReadLater:
    """A few numbers on their way from a GPU: reading them waits for what made them, not for what was asked of the GPU since."""

    def __init__(self, numbers: torch.Tensor) -> None:
        self._numbers = numbers
        self._arrived: torch.cuda.Event | None = None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrived.record()

    def read(self) -> list[float]:
        """Return the numbers."""
        if self._arrived is not None:
            self._arrived.synchronize()
        numbers: list[float] = self._numbers.tolist()
        return numbers
