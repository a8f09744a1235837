"""The gate must be able to fail, in every output; the measurement must measure what it says."""

from __future__ import annotations

import pytest
import torch

from hyenadna.errors import BackendUnavailableError
from hyenadna.ops import bench
from hyenadna.ops.bench import Shape, check_gated, gated_inputs, measure, run_gated

CPU = torch.device("cpu")
CONVOLVE = run_gated("torch")


class _Scaled(torch.autograd.Function):
    """The identity, whose gradient is 1 % too long."""

    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, dy):
        return dy * 1.01


def _circular(x0, x1, v, k, bias):
    w = x1.float() * v.float()
    y = torch.fft.irfft(torch.fft.rfft(w) * torch.fft.rfft(k), n=w.shape[-1])
    return (x0.float() * (y + bias[:, None] * w)).to(v.dtype)


def _unwritten(*inputs):
    y = CONVOLVE(*inputs)
    return torch.where(torch.arange(y.shape[-1]) < y.shape[-1] - 1, y, torch.empty_like(y))


def _last_channel_lost(*inputs):
    y = CONVOLVE(*inputs)
    return y if y.shape[1] <= 4 else torch.cat((y[:, :-1], 0 * y[:, -1:]), dim=1)


@pytest.mark.parametrize("dtype", bench.TOLERANCES)
@pytest.mark.parametrize("length", [1, 7, 256, 3000])
def test_gate_is_green_for_the_reference(dtype: torch.dtype, length: int) -> None:
    found = check_gated(CONVOLVE, Shape(2, 6, length), dtype, CPU)
    assert found.correct, found
    assert set(found.errors) == set(bench.NAMES)
    assert 0 < found.errors["y"] < bench.TOLERANCES[dtype]["y"]


@pytest.mark.parametrize("dtype", bench.TOLERANCES)
@pytest.mark.parametrize("length", [256, 3000])
@pytest.mark.parametrize("wrong", [_circular, _unwritten, _last_channel_lost])
def test_gate_is_red_for_a_wrong_convolution(wrong, length: int, dtype: torch.dtype) -> None:
    found = check_gated(wrong, Shape(2, 6, length), dtype, CPU)
    assert not found.correct
    assert found.errors["y"] > bench.TOLERANCES[dtype]["y"]


@pytest.mark.parametrize("which", range(5))
def test_gate_is_red_for_each_wrong_gradient(which: int) -> None:
    def wrong(*inputs):
        return CONVOLVE(*(_Scaled.apply(t) if i == which else t for i, t in enumerate(inputs)))

    found = check_gated(wrong, Shape(2, 4, 512), torch.bfloat16, CPU)
    assert not found.correct
    tolerances = bench.TOLERANCES[torch.bfloat16]
    red = [name for name, error in found.errors.items() if error > tolerances[name]]
    assert red == [bench.NAMES[1 + which]]


def test_unwritten_memory_counts_as_infinitely_wrong() -> None:
    assert check_gated(_unwritten, Shape(1, 4, 64), torch.float32, CPU).errors["y"] == float("inf")
    assert not torch.are_deterministic_algorithms_enabled()


def test_direct_sum_and_padded_fft_judge_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    direct = check_gated(CONVOLVE, Shape(1, 1, 300), torch.float32, CPU)
    monkeypatch.setattr(bench, "DIRECT_LENGTH", 0)
    padded = check_gated(CONVOLVE, Shape(1, 1, 300), torch.float32, CPU)
    assert padded.errors == pytest.approx(direct.errors, rel=1e-6)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1024, (171, 768)),
        (32_768, (5, 768)),
        (65_536, (8, 256)),
        (2**20, (1, 256)),
        (2**21, (1, 128)),
        (2**22, (1, 64)),
    ],
)
def test_shapes_hold_about_as_many_elements_as_asked(
    length: int, expected: tuple[int, int]
) -> None:
    assert bench.gated_shape(length, elements=2**27) == (*expected, length)


def test_shapes_stay_small_on_request() -> None:
    assert bench.gated_shape(8192, elements=2**20) == (1, 256, 8192)
    assert bench.gated_shape(8192, elements=1) == (1, 1, 8192)
    assert bench.gated_shape(8192, elements=2**20, width=3, batch=2) == (2, 3, 8192)


def test_floors_are_least_bytes_over_the_memory_rate() -> None:
    floors = bench.floor_ms(Shape(128, 1024, 1024), torch.bfloat16)  # 2^27 elements, 2^20 taps
    assert floors["forward"] == pytest.approx((8 * 2**27 + 4 * 2**20) / 3e9)
    assert floors["forward_backward"] == pytest.approx((22 * 2**27 + 12 * 2**20) / 3e9)
    assert bench.floor_ms(Shape(128, 1024, 1024), torch.float32)["forward"] > 1.9 * floors["forward"]  # fmt: skip


def test_inputs_have_unit_rms_and_filters_decay() -> None:
    inputs, dy = gated_inputs(Shape(2, 64, 512), torch.float32, CPU, seed=0)
    for t in (*inputs[:3], dy):
        assert float(t.detach().square().mean()) == pytest.approx(1, abs=0.05)
    k = inputs[3].detach()
    assert float(k[:, :50].norm()) > 20 * float(k[:, -50:].norm())
    again = gated_inputs(Shape(2, 64, 512), torch.float32, CPU, seed=0)
    assert torch.equal(again.inputs[3], inputs[3])


def test_measure_calls_forward_without_and_with_gradients() -> None:
    modes = []

    def run(*inputs):
        modes.append(torch.is_grad_enabled())
        return CONVOLVE(*inputs)

    data = gated_inputs(Shape(1, 2, 64), torch.float32, CPU, seed=0)
    found = measure(run, [data], repeats=4)
    assert modes == [False] * 5 + [True] * 5  # one call each is not timed
    assert tuple(found) == bench.PARTS
    for timing in found.values():
        assert 0 < timing.q20_ms <= timing.median_ms <= timing.q80_ms
        assert timing.extra_memory is None
    assert all(t.grad is None for t in data.inputs)


def test_long_calls_are_timed_less_often_and_short_ones_at_least_five_times(monkeypatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock) * 1.0)  # a call takes 1 s
    data = gated_inputs(Shape(1, 2, 16), torch.float32, CPU, seed=0)
    for seconds, calls in ((0.2, 1), (0.3, 2), (1.0, 5), (8.0, 8), (100.0, 30), (None, 30)):
        found = measure(CONVOLVE, [data], repeats=30, seconds=seconds)
        assert {(t.calls, t.warm) for t in found.values()} == {(calls, True)}


def test_a_very_long_first_call_of_a_compiled_kernel_is_what_counts(monkeypatch) -> None:
    clock, asked = iter(range(10**6)), []
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock) * 6.0)

    def run(*inputs):
        asked.append(torch.is_grad_enabled())
        return CONVOLVE(*inputs)

    data = gated_inputs(Shape(1, 2, 16), torch.float32, CPU, seed=0)
    found = bench.measure_on_kernel("flash", run, [data], repeats=30, seconds=0.5)
    assert {(t.median_ms, t.calls, t.warm) for t in found.values()} == {(6000.0, 1, False)}
    assert sorted(asked) == [False, True]
    # Of what may have to be compiled first, and of shorter calls, the first one never counts.
    assert {t.warm for t in measure(run, [data], repeats=30, seconds=0.5).values()} == {True}
    found = bench.measure_on_kernel("flash", run, [data], repeats=30, seconds=1.0)
    assert {(t.calls, t.warm) for t in found.values()} == {(1, True)}


def test_attention_kernels_run_or_are_refused_by_name() -> None:
    found = bench.measure_attention("flash", Shape(1, 128, 64), 2, torch.float32, CPU, repeats=1)
    assert found["forward_backward"].median_ms > 0
    with pytest.raises(BackendUnavailableError, match="cudnn attention is not available on cpu"):
        bench.measure_attention("cudnn", Shape(1, 128, 64), 2, torch.float32, CPU, repeats=1)


def test_out_of_memory_is_told_from_other_errors() -> None:
    assert bench.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert bench.is_out_of_memory(caught.value)
    assert not bench.is_out_of_memory(RuntimeError("illegal memory access"))


@pytest.mark.gpu
def test_extra_memory_is_what_a_call_needs_besides_its_results() -> None:
    device = torch.device("cuda", 0)
    shape = Shape(4, 64, 2**16)

    def run(x0, x1, v, _k, _bias):
        return x0 * (x1 * v)

    sets = bench.input_sets(lambda seed: gated_inputs(shape, torch.float32, device, seed=seed), device)  # fmt: skip
    x0, x1, v = sets[0].inputs[:3]
    few = [bench.InputSet((x0, x1, v), sets[0].dy)]
    found = measure(lambda *inputs: run(*inputs, None, None), few, repeats=3)
    assert found["forward"].extra_memory == pytest.approx(1, abs=0.05)  # x1 · v
    assert 1e-3 < found["forward"].median_ms < 50
    assert bench.copy_bandwidth(device) > 1e10


@pytest.mark.gpu
def test_small_inputs_take_turns_so_that_the_cache_is_cold() -> None:
    device = torch.device("cuda", 0)
    sets = bench.input_sets(lambda seed: gated_inputs(Shape(1, 8, 4096), torch.bfloat16, device, seed=seed), device)  # fmt: skip
    assert len(sets) > 1
