"""Measuring an operation: is it right, how long does it take, how much memory does it need besides its results.

Gate first, numbers second: `check_gated` compares the gated long convolution and its five gradients with float64, and only what
passes is worth timing. What is printed, and where it goes, is up to the caller (`hyenadna bench`).
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops.fftconv import fftconv_direct, gated_fftconv

Function = Callable[..., torch.Tensor]

H100_BANDWIDTH = 3.0e12  # bytes per second that a kernel on an H100 can hope for
DIRECT_LENGTH = 2048  # longest row held against the O(L²) sum; longer ones against a padded FFT
PARTS = ("forward", "forward_backward")  # the second is both together
NAMES = ("y", "dx0", "dx1", "dv", "dk", "dbias")
# Relative L2 errors. One rounding to bf16 (fp16) costs 1.7e-3 (2e-4); filters and their gradients are float32.
_HALF = {"dx0": 4e-3, "dx1": 4e-3, "dv": 4e-3, "dk": 2e-3, "dbias": 4e-3}
TOLERANCES: dict[torch.dtype, dict[str, float]] = {
    torch.bfloat16: {"y": 2.2e-3, **_HALF},
    torch.float16: {"y": 1e-3, **dict.fromkeys(NAMES[1:], 2e-3)},
    torch.float32: {"y": 2e-6, **dict.fromkeys(NAMES[1:], 1e-5)},
}
_WARM_SECONDS = 0.2  # a GPU raises its clock only under load
_FIRST_SECONDS = 5.0  # beside which what a first call of a compiled kernel does besides is small


class Shape(NamedTuple):
    """Batch, channels and length of one row of a benchmark."""

    B: int
    D: int
    L: int


class InputSet(NamedTuple):
    """Leaves of one call, and the gradient that comes back to it."""

    inputs: tuple[torch.Tensor, ...]
    dy: torch.Tensor


class GatedCheck(NamedTuple):
    """Relative L2 errors against float64, by the names of `NAMES`, and whether all are within `TOLERANCES`."""

    errors: dict[str, float]
    correct: bool


class Timing(NamedTuple):
    """Milliseconds of one call (median, 20 % and 80 % quantiles over the timed calls), and its extra memory.

    Extra memory is the peak of a call less what was allocated before and less its results (y, gradients), in tensors (B, D, L);
    None where it is not known. `calls` were timed, `warm` says whether others came before.
    """

    median_ms: float
    q20_ms: float
    q80_ms: float
    extra_memory: float | None
    calls: int
    warm: bool = True


def gated_shape(
    length: int, *, elements: int, width: int | None = None, batch: int | None = None
) -> Shape:
    """Choose B and D so that B·D·L is about `elements`, at most twice as much where one row allows it.

    D is 768 up to L = 32,768 and 256 beyond, less where even B = 1 would be too much; `width` and `batch` replace what they name.

    Examples
    --------
    >>> gated_shape(1024, elements=2**27), gated_shape(2**22, elements=2**27)
    (Shape(B=171, D=768, L=1024), Shape(B=1, D=64, L=4194304))
    """
    usual = 768 if length <= 32_768 else 256
    D = width or min(usual, max(1, 2 * elements // length))
    return Shape(batch or max(1, round(elements / (D * length))), D, length)


def floor_ms(shape: Shape, dtype: torch.dtype) -> dict[str, float]:
    """Return the least milliseconds of each of `PARTS`: least bytes over `H100_BANDWIDTH`.

    Forward reads x0, x1, v and writes y; backward reads those and dy, and writes three gradients. The float32 filter is read
    once in each, and its gradient is written.
    """
    elements, filters = math.prod(shape), shape.D * shape.L
    forward = 4 * dtype.itemsize * elements + 4 * filters
    both = 11 * dtype.itemsize * elements + 12 * filters
    return dict(zip(PARTS, (1e3 * n / H100_BANDWIDTH for n in (forward, both)), strict=True))


def gated_inputs(shape: Shape, dtype: torch.dtype, device: torch.device, *, seed: int) -> InputSet:
    """Draw x0, x1, v, k, bias and dy of unit rms; filters k[d, t] = noise · exp(−5t/L)/√L decay, as trained ones do."""
    draw = torch.Generator(device).manual_seed(seed)
    x0, x1, v, dy = (
        torch.randn(shape, generator=draw, device=device, dtype=dtype) for _ in range(4)
    )
    decay = torch.exp(torch.arange(shape.L, device=device) * (-5 / shape.L)) / math.sqrt(shape.L)
    k = torch.randn(shape[1:], generator=draw, device=device) * decay
    bias = torch.randn(shape.D, generator=draw, device=device)
    return InputSet(tuple(t.requires_grad_() for t in (x0, x1, v, k, bias)), dy)


def input_sets(draw: Callable[[int], InputSet], device: torch.device) -> list[InputSet]:
    """Draw as many sets as the L2 cache cannot hold together (at most 8), so that no call finds its inputs there."""
    sets = [draw(0)]
    if device.type == "cuda":
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        n_bytes = sum(t.nbytes for t in (*sets[0].inputs, sets[0].dy))
        if n_bytes <= cache:
            sets += [draw(seed) for seed in range(1, min(8, max(2, 1 + 2 * cache // n_bytes)))]
    return sets


def run_gated(backend: str) -> Function:
    """Return the gated convolution on a named backend."""
    return lambda *inputs: gated_fftconv(*inputs, backend=backend)


def check_gated(
    function: Function, shape: Shape, dtype: torch.dtype, device: torch.device
) -> GatedCheck:
    """Compare a gated convolution and its gradients with float64, on small data and at the shape that will be timed.

    Small: D = 4, B = 2 (more where L < 256) and every result, against the O(L²) sum up to L = 2,048. At the shape: four channels,
    first and last among them, so that no index overflows unseen. Memory that the function allocates is NaN before it writes.
    """
    worst = dict.fromkeys(NAMES, 0.0)
    # Of a few numbers the rounding alone may exceed the tolerance: rows shorter than 512 come in larger batches.
    rows_needed = 512 // shape.L
    small = Shape(max(2, rows_needed), 4, shape.L)
    timed = shape._replace(B=max(shape.B, rows_needed))
    for size, seed in ((small, 1234), (timed, 0)):
        inputs, dy = gated_inputs(size, dtype, device, seed=seed)
        with _poisoned_memory():
            y, *grads = _forward_backward(function, InputSet(inputs, dy))
        at = torch.linspace(0, size.D - 1, min(4, size.D)).round().long().to(device)
        rows, row_dy = [_channels(t, at) for t in inputs], _channels(dy, at)
        expected = _oracle(rows, row_dy, direct=size is small and shape.L <= DIRECT_LENGTH)
        for name, one, other in zip(NAMES, (y, *grads), expected, strict=True):
            worst[name] = max(worst[name], _relative_error(_channels(one, at), other))
        del inputs, dy, y, grads, expected
    return GatedCheck(worst, all(worst[name] <= TOLERANCES[dtype][name] for name in NAMES))


def measure(
    function: Function, sets: Sequence[InputSet], *, repeats: int, seconds: float | None = None
) -> dict[str, Timing]:
    """Time the two `PARTS` of a function: without gradients, and with those of all inputs.

    What is compiled or cached at the first call enters neither time nor memory. With `seconds`, `timed_calls` says how many calls are timed.
    """
    return _measure(function, sets, repeats, seconds)


def timed_calls(taken: float, *, repeats: int, seconds: float) -> int:
    """Return how many calls to time where one takes so many seconds.

    As many as fit into `seconds`, at least 5, of calls that fit at all; of longer ones 2, and of those above four times as long 1: what disturbs a call of seconds
    is small beside it. At most `repeats`.

    Examples
    --------
    >>> [timed_calls(taken, repeats=30, seconds=0.5) for taken in (0.001, 0.02, 0.2, 0.6, 3.0)]
    [30, 25, 5, 2, 1]
    """
    if taken > seconds:
        return min(repeats, 2 if taken <= 4 * seconds else 1)
    return min(repeats, max(5, int(seconds / max(taken, 1e-9))))


def measure_attention(
    kernel: str,
    shape: Shape,
    n_heads: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    repeats: int,
) -> dict[str, Timing]:
    """Time torch's causal attention on one of its kernels, ``"flash"`` or ``"cudnn"``, at D = heads · head width.

    Raises
    ------
    BackendUnavailableError
        The kernel does not run on this device, with this dtype or shape.
    """

    def draw(seed: int) -> InputSet:
        generator = torch.Generator(device).manual_seed(seed)
        size = (shape.B, n_heads, shape.L, shape.D // n_heads)
        q, k, v, dy = (
            torch.randn(size, generator=generator, device=device, dtype=dtype) for _ in range(4)
        )
        return InputSet(tuple(t.requires_grad_() for t in (q, k, v)), dy)

    def run(*qkv: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)

    return measure_on_kernel(kernel, run, input_sets(draw, device), repeats=repeats)


def measure_on_kernel(
    kernel: str,
    function: Function,
    sets: Sequence[InputSet],
    *,
    repeats: int,
    seconds: float | None = None,
) -> dict[str, Timing]:
    """Do what `measure` does with a function whose attention has to run on a kernel, ``"flash"`` or ``"cudnn"``.

    These kernels are compiled beforehand: a first call that takes ten times `seconds`, and 5 s at least, is what is reported, as not warm, for another would cost as much again.

    Raises
    ------
    BackendUnavailableError
        The kernel does not run on this device, with this dtype or shape.
    """
    backend = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}[kernel]
    with sdpa_kernel(backend):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch gives the reasons of a refusal as warnings
                first = _call(lambda data: _forward_backward(function, data), sets[0])
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            where = sets[0].dy.device.type
            raise BackendUnavailableError(
                f"{kernel} attention is not available on {where} with this dtype and shape: {error}"
            ) from error
        return _measure(function, sets, repeats, seconds, first)


def copy_bandwidth(device: torch.device) -> float:
    """Return the bytes per second, read and written, of copying 256 MiB on a device."""
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)
    data = InputSet((source,), source)
    found = _timed(lambda _: (target.copy_(source),), [data], 20)
    return 2 * source.nbytes / (found.median_ms * 1e-3)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether an error says that a device or the machine has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release_memory(device: torch.device) -> None:
    """Give cached memory back to the device: the next row starts from nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def _forward_backward(function: Function, data: InputSet) -> tuple[torch.Tensor, ...]:
    y = function(*data.inputs)
    return (y, *torch.autograd.grad(y, data.inputs, data.dy))


def _channels(tensor: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return some channels of x (B, D, L), k (D, L) or bias (D,)."""
    return tensor.detach().index_select(1 if tensor.dim() == 3 else 0, at)


def _oracle(
    inputs: Sequence[torch.Tensor], dy: torch.Tensor, *, direct: bool
) -> tuple[torch.Tensor, ...]:
    def convolve(*leaves: torch.Tensor) -> torch.Tensor:
        x0, x1, v, k, bias = leaves
        w, n = x1 * v, 2 * v.shape[-1]
        if direct:
            return x0 * fftconv_direct(w, k, bias)
        # Padded to 2L, the textbook's way: nothing here is shared with the ring that is being checked.
        spectrum = torch.fft.rfft(w, n=n) * torch.fft.rfft(k, n=n)
        y: torch.Tensor = torch.fft.irfft(spectrum, n=n)[..., : n // 2]
        return x0 * (y + bias[:, None] * w)

    leaves = tuple(t.double().requires_grad_() for t in inputs)
    return _forward_backward(convolve, InputSet(leaves, dy.double()))


def _relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """Return ‖actual − expected‖₂ / ‖expected‖₂ in float64, infinite for NaN or another shape."""
    if actual.shape != expected.shape:
        return math.inf
    expected = expected.detach()
    error = float((actual.double() - expected).norm() / expected.norm().clamp(min=1e-300))
    return math.inf if math.isnan(error) else error


@contextlib.contextmanager
def _poisoned_memory() -> Iterator[None]:
    """Let `torch.empty` give NaN inside the block, so that an output that is never written cannot pass."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.use_deterministic_algorithms(True, warn_only=True)
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


class _Called(NamedTuple):
    """Milliseconds and extra memory (`Timing`) of a call that nothing runs beside."""

    ms: float
    extra_memory: float | None


_Call: TypeAlias = Callable[[InputSet], tuple[torch.Tensor, ...]]


def _measure(
    function: Function,
    sets: Sequence[InputSet],
    repeats: int,
    seconds: float | None,
    first: _Called | None = None,
) -> dict[str, Timing]:
    """Time both parts; `first` is the first call with gradients where there was one that may be reported."""

    def forward(data: InputSet) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return (function(*data.inputs),)

    def both(data: InputSet) -> tuple[torch.Tensor, ...]:
        return _forward_backward(function, data)

    enough = math.inf if first is None or seconds is None else max(10 * seconds, _FIRST_SECONDS)
    calls = zip(PARTS, (forward, both), (None, first), strict=True)
    return {part: _timed(call, sets, repeats, seconds, own, enough) for part, call, own in calls}


def _timed(
    call: _Call,
    sets: Sequence[InputSet],
    repeats: int,
    seconds: float | None = None,
    first: _Called | None = None,
    enough: float = math.inf,
) -> Timing:
    """Time calls, which take turns with the sets; the first, which compiles and fills caches, counts from `enough` seconds on."""
    on_gpu = sets[0].dy.device.type == "cuda"
    first = first or _call(call, sets[0])
    if first.ms >= 1e3 * enough:
        return Timing(first.ms, first.ms, first.ms, first.extra_memory, 1, warm=False)
    for data in sets[1:]:
        call(data)
    one = _call(call, sets[0])
    n = repeats if seconds is None else timed_calls(one.ms / 1e3, repeats=repeats, seconds=seconds)
    # After a long call the clock is up, and the call was like those that follow.
    times = [one.ms] if not on_gpu or one.ms >= 1e3 * _WARM_SECONDS else []
    turns = [sets[i % len(sets)] for i in range(len(times), n)]
    times += _in_a_row(call, turns, warm_up=not times) if on_gpu else [_call(call, data).ms for data in turns]  # fmt: skip
    several = len(times) > 1
    fifths = statistics.quantiles(times, n=5, method="inclusive") if several else times * 4
    return Timing(statistics.median(times), fifths[0], fifths[3], one.extra_memory, len(times))


def _call(call: _Call, data: InputSet) -> _Called:
    """Time one call from its start to the end of what it began on a GPU, whose memory is watched."""
    device = data.dy.device
    if device.type != "cuda":
        begin = time.perf_counter()
        call(data)
        return _Called(1e3 * (time.perf_counter() - begin), None)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    start, end = _events()
    start.record()
    results = call(data)
    end.record()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    extra = (peak - before - sum(t.nbytes for t in results)) / data.dy.nbytes
    return _Called(start.elapsed_time(end), extra)


def _in_a_row(call: _Call, turns: Sequence[InputSet], *, warm_up: bool) -> list[float]:
    """Time calls on a GPU without waiting between them: Python runs ahead, and its own time stays out of the events."""
    if not turns:
        return []
    device = turns[0].dy.device
    begin = time.perf_counter()
    while warm_up and time.perf_counter() - begin < _WARM_SECONDS:
        call(turns[0])
        torch.cuda.synchronize(device)
    events = [_events() for _ in turns]
    for data, (start, end) in zip(turns, events, strict=True):
        start.record()
        call(data)
        end.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) for start, end in events]


def _events() -> tuple[Any, Any]:
    event: Any = torch.cuda.Event
    return event(enable_timing=True), event(enable_timing=True)
