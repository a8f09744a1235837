"""The choice of kernels, looked at without a device; which tiles are fastest is not a matter of tests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hyenadna.ops.fftconv.plan import MAX_LENGTH, DeviceLimits, LongPlan, TilePlan, plan_fftconv

A100 = DeviceLimits(n_sm=108, shared_bytes=166_912)
CONSUMER = DeviceLimits(n_sm=84, shared_bytes=101_376)
H100 = DeviceLimits(n_sm=132, shared_bytes=232_448)
DEVICES = pytest.mark.parametrize("limits", [A100, CONSUMER, H100], ids=["a100", "consumer", "h100"])  # fmt: skip
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def _refused(dtype: torch.dtype, limits: DeviceLimits) -> bool:
    """Float32 needs more shared memory than consumer GPUs have, and says so."""
    if dtype != torch.float32 or limits is not CONSUMER:
        return False
    with pytest.raises(ValueError, match="float32 kernels need 160,000 bytes"):
        plan_fftconv(1, 1, 1000, dtype, limits)
    return True


def _is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def _hold(plan: TilePlan | LongPlan, width: int, length: int) -> None:
    assert plan.length >= length
    if isinstance(plan, TilePlan):
        sides = (plan.n1, plan.n2)
        assert plan.n2 >= 16  # the narrowest matrix product
    else:
        sides = (plan.m1, plan.nm, plan.na, plan.nb, plan.rows, plan.tile)
        assert 128 >= plan.m1 >= plan.n1
        assert plan.nm in (1, 64)
        assert plan.outer_tiles * plan.tile == plan.columns
        assert plan.tile % plan.nb == 0  # one scale for each row of an inner tile
        assert plan.inner_tiles * plan.rows >= plan.n1 * plan.nm
        assert 1 <= plan.channels <= width
    assert all(_is_power_of_two(side) for side in sides), plan


@settings(deadline=None, max_examples=300)
@given(
    batch=st.integers(1, 4096),
    width=st.integers(1, 2048),
    length=st.one_of(st.integers(1, 20_000), st.integers(1, MAX_LENGTH)),
    dtype=st.sampled_from(DTYPES),
    limits=st.sampled_from([A100, CONSUMER, H100]),
    backward=st.booleans(),
)
def test_any_shape_has_a_sound_plan(
    batch: int,
    width: int,
    length: int,
    dtype: torch.dtype,
    limits: DeviceLimits,
    backward: bool,
) -> None:
    if _refused(dtype, limits):
        return
    plan = plan_fftconv(batch, width, length, dtype, limits, backward=backward)
    _hold(plan, width, length)
    assert plan == plan_fftconv(batch, width, length, dtype, limits, backward=backward)


@DEVICES
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_short_length_has_a_sound_plan(dtype: torch.dtype, limits: DeviceLimits) -> None:
    if _refused(dtype, limits):
        return
    for length in [*range(1, 9000), MAX_LENGTH - 1, MAX_LENGTH]:
        _hold(plan_fftconv(3, 5, length, dtype, limits), 5, length)


@DEVICES
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [160_000, 450_000])
def test_the_published_lengths_are_hardly_padded(
    length: int, dtype: torch.dtype, limits: DeviceLimits
) -> None:
    if _refused(dtype, limits):
        return
    assert plan_fftconv(1, 256, length, dtype, limits).length <= 1.03 * length


def test_short_rows_are_one_pass_long_rows_three_and_the_longest_five() -> None:
    assert isinstance(plan_fftconv(8, 8, 1024, torch.bfloat16, H100), TilePlan)
    long = plan_fftconv(8, 8, 16_384, torch.bfloat16, H100)
    assert isinstance(long, LongPlan)
    assert long.nm == 1
    longest = plan_fftconv(1, 8, 4_194_304, torch.bfloat16, H100)
    assert isinstance(longest, LongPlan)
    assert longest.nm > 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backward", [False, True])
def test_little_shared_memory_never_gets_the_largest_tile(
    dtype: torch.dtype, backward: bool
) -> None:
    if _refused(dtype, CONSUMER):
        return
    for length in range(4097, 8193, 64):
        plan = plan_fftconv(8, 256, length, dtype, CONSUMER, backward=backward)
        assert not (isinstance(plan, TilePlan) and plan.n1 == 128), plan


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("length", [16_384, 65_536, 160_000, 450_000, 1_048_576])
def test_the_workspace_is_bounded(
    length: int, batch: int, dtype: torch.dtype, backward: bool
) -> None:
    width = 256
    plan = plan_fftconv(batch, width, length, dtype, H100, backward=backward)
    assert isinstance(plan, LongPlan)
    operand = 4 if dtype == torch.float32 else 2
    row = 2 * operand * plan.length
    workspaces = (2 if backward else 1) * batch * row
    tensor = max(batch * width * length, 2**27) * operand
    assert plan.channels * (workspaces + row) <= (2.5 if backward else 1.2) * tensor


@DEVICES
@pytest.mark.parametrize("dtype", DTYPES)
def test_lengths_beyond_the_kernels_are_refused(dtype: torch.dtype, limits: DeviceLimits) -> None:
    if _refused(dtype, limits):
        return
    plan_fftconv(1, 1, MAX_LENGTH, dtype, limits)
    with pytest.raises(ValueError, match="not 4,194,305"):
        plan_fftconv(1, 1, MAX_LENGTH + 1, dtype, limits)
