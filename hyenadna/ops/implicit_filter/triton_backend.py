"""Launches of the Triton kernels, forward and backward; everything here works on checked float32 tensors."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import torch
import triton

from hyenadna.ops.fftconv.plan import device_limits
from hyenadna.ops.implicit_filter.kernels import filter_backward, filter_forward, pack

__all__ = ["Gradients", "Plan", "backward", "forward", "plan_filter"]

_PACKED_ROWS = 16


class Gradients(NamedTuple):
    """Gradients of the inputs; dz has no rows where it is not asked for."""

    dz: torch.Tensor
    dfirst: torch.Tensor
    dhidden: torch.Tensor
    dbiases: torch.Tensor
    dout: torch.Tensor
    dfreq: torch.Tensor


class Plan(NamedTuple):
    """Sizes of one launch.

    Attributes
    ----------
    width : int
        Hidden units, padded to 64 or 128.
    tile : int
        Positions of a program.
    block : int
        Channels at a time.
    blocks : int
        Blocks of a program.
    groups : int
        Programs that share the channels of a tile (forward).
    programs : int
        Programs along the positions.
    num_warps : int
        Of a program.
    """

    width: int
    tile: int
    block: int
    blocks: int
    groups: int
    programs: int
    num_warps: int


def plan_filter(length: int, channels: int, width: int, n_sm: int, *, backward: bool) -> Plan:
    """Choose tiles for a filter of `channels` rows and `length` positions on a GPU with `n_sm` multiprocessors."""
    padded = max(64, triton.next_power_of_2(width))
    tile, block, num_warps = (64, 64, 4) if padded == 64 else (32, 32, 8)
    tiles, all_blocks = triton.cdiv(length, tile), triton.cdiv(channels, block)
    if backward:
        return Plan(padded, tile, block, all_blocks, 1, min(tiles, 2 * n_sm), num_warps)
    # Short filters: several programs evaluate the same positions for some of the channels each.
    blocks = triton.cdiv(all_blocks, max(1, min(all_blocks, n_sm // tiles)))
    groups = triton.cdiv(all_blocks, blocks)
    return Plan(padded, tile, block, blocks, groups, tiles, num_warps)


def forward(
    z: torch.Tensor, first: torch.Tensor, hidden: torch.Tensor, biases: torch.Tensor, out: torch.Tensor,
    freq: torch.Tensor, decay: torch.Tensor, shift: float, grid_len: int, *, plan: Plan | None = None,
) -> torch.Tensor:  # fmt: skip
    """Compute k (C, L); z (L, E), first (W, E), hidden (n, W, W), biases (n + 1, W), out (C, W), freq (W,), decay (C,)."""
    (length, emb), (channels, width) = z.shape, out.shape
    k = torch.empty(channels, length, dtype=torch.float32, device=z.device)
    if k.numel() == 0:
        return k
    plan = plan or plan_filter(
        length, channels, width, device_limits(z.device).n_sm, backward=False
    )
    with _on(z.device):
        packed = _pack(hidden, out, freq, plan, torch.float16)
        filter_forward[(plan.programs, plan.groups)](
            z, first, biases, freq, *packed, decay, k,
            length, channels, width, len(hidden), plan.blocks, 1.0 / (grid_len - 1), shift,
            E=emb, WP=plan.width, T=plan.tile, CB=plan.block, num_warps=plan.num_warps, num_stages=1,
        )  # fmt: skip
    return k


def backward(
    dk: torch.Tensor, z: torch.Tensor, first: torch.Tensor, hidden: torch.Tensor, biases: torch.Tensor, out: torch.Tensor,
    freq: torch.Tensor, decay: torch.Tensor, shift: float, grid_len: int, *, learned: bool, plan: Plan | None = None,
) -> Gradients:  # fmt: skip
    """Compute the gradients of `forward`; that of z with `learned`."""
    dk = dk.contiguous()
    (length, emb), (channels, width), layers = z.shape, out.shape, len(hidden)
    plan = plan or plan_filter(length, channels, width, device_limits(z.device).n_sm, backward=True)
    dz = z.new_empty(z.shape if learned else (0, emb))
    out_rows = plan.blocks * plan.block
    rows = out_rows + (layers + 1) * (plan.width + 1)
    parts = z.new_zeros(plan.programs, rows, plan.width)
    with _on(z.device):
        packed = _pack(hidden, out, freq, plan, torch.float16)
        b_high, b_low, _ = _pack(hidden, out, freq, plan, torch.bfloat16)
        filter_backward[(plan.programs,)](
            dk, z, first, biases, freq, *packed, b_high, b_low, decay, dz, parts,
            length, channels, width, layers, plan.blocks, triton.cdiv(length, plan.tile), 1.0 / (grid_len - 1), shift,
            E=emb, WP=plan.width, T=plan.tile, CB=plan.block, LEARNED=learned, num_warps=plan.num_warps, num_stages=1,
        )  # fmt: skip
    # phase = freq ∘ a, a = W·h + b; the kernel sums the gradient of the phase times h, and by itself. That of freq is then a product
    # with the weights: Σ_t dphase·a = Σ_j W_j·(Σ_t dphase·h_j) + b·Σ_t dphase.
    total = parts.sum(0)[:, :width]
    matrices = total[out_rows : rows - layers - 1].view(layers + 1, plan.width, width)[:, :width]
    sums, of_hidden, of_first = total[rows - layers - 1 :], matrices[:-1], matrices[-1, :, :emb]
    dfreq = (first * of_first).sum(1) + (hidden * of_hidden).sum((0, 2)) + (biases * sums).sum(0)
    return Gradients(
        dz,
        freq[:, None] * of_first,
        freq[:, None] * of_hidden,
        freq * sums,
        total[:channels].clone(),
        dfreq,
    )


def _pack(
    hidden: torch.Tensor, out: torch.Tensor, freq: torch.Tensor, plan: Plan, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    hidden_rows = len(hidden) * plan.width
    rows = hidden_rows + plan.groups * plan.blocks * plan.block
    planes = torch.empty(2, rows, plan.width, dtype=dtype, device=out.device)
    scale = torch.empty(rows, dtype=torch.float32, device=out.device)
    pack[(rows // _PACKED_ROWS,)](
        hidden, out, freq, planes[0], planes[1], scale, hidden_rows, *out.shape,
        WP=plan.width, ROWS=_PACKED_ROWS, SCALED=dtype == torch.float16, num_warps=4,
    )  # fmt: skip
    return planes[0], planes[1], scale


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
