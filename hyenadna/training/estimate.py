"""How much a pretraining step needs, before it is run: parameters, tokens, and peak memory.

On a GPU in half precision the sum below follows what `hyenadna.ops.block` keeps of Hyena, and autograd of other mixers. Elsewhere the model runs on
torch's meta device, which has shapes and no numbers, and what autograd keeps is counted. Both add what lives only for a moment in the largest
backward step. On a GPU the sum was held against measurements for Hyena alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from hyenadna.errors import ConfigError
from hyenadna.models import HyenaConfig, language_model
from hyenadna.models.filter import MOST_KEPT_BYTES
from hyenadna.ops.block.limits import MOST_HIDDEN, MOST_SMOOTHED
from hyenadna.ops.fftconv.plan import workspace_bytes
from hyenadna.tasks.causal_lm import next_base_loss
from hyenadna.training.config import PretrainConfig
from hyenadna.training.trainer import resolve_devices

__all__ = ["Estimate", "estimate", "half_precision_bytes", "kept_bytes", "plain_bytes"]

_SHORT = (
    4096  # rows up to here stay on chip: partial sums of the filters' gradients are all they need
)
_STATE_BYTES = 16  # of each parameter: itself, its gradient and Adam's two averages, float32


class Estimate(NamedTuple):
    """What a run asks for.

    Parameters
    ----------
    n_parameters
        Trainable parameters.
    tokens_per_step
        Over all devices and micro-batches.
    steps
        Optimizer steps.
    micro_batch, seq_len
        Sequences, and tokens of each, of one forward and backward pass on one device.
    gpu_bytes, cpu_bytes
        Predicted peak memory of one device in bfloat16 on a GPU, and in float32 on a CPU.
    """

    n_parameters: int
    tokens_per_step: int
    steps: int
    micro_batch: int
    seq_len: int
    gpu_bytes: int
    cpu_bytes: int


def estimate(config: PretrainConfig, model: HyenaConfig) -> Estimate:
    """Estimate a run of some settings and a model's shape.

    Raises
    ------
    ConfigError
        The batch cannot be shared by the devices, or the windows are longer than the model's input.
    """
    data = config.data
    devices = resolve_devices(config.trainer) * config.trainer.num_nodes
    if data.global_batch_size % devices:
        raise ConfigError(
            f"data.global_batch_size={data.global_batch_size} cannot be shared equally by {devices} devices"
        )
    if data.seq_len > model.max_seq_len:
        raise ConfigError(
            f"data.seq_len={data.seq_len} exceeds the model's max_seq_len of {model.max_seq_len}"
        )
    batch = data.global_batch_size // devices
    if data.micro_batch_size is not None:
        batch = min(batch, data.micro_batch_size)
    with torch.device("meta"):
        n_parameters = language_model(model).n_parameters()
    return Estimate(
        n_parameters,
        data.global_batch_size * data.seq_len,
        config.trainer.max_steps,
        batch,
        data.seq_len,
        half_precision_bytes(model, batch, data.seq_len, n_parameters),
        plain_bytes(model, batch, data.seq_len, n_parameters),
    )


def half_precision_bytes(model: HyenaConfig, batch: int, length: int, n_parameters: int) -> int:
    """Predict the peak of a step in bfloat16 on a GPU, bytes, for (batch, length) tokens."""
    tokens, width = batch * length, model.d_model
    numbers = tokens * width
    mixers = {kind: _half_mixer(model, kind, batch, length) for kind in set(model.layer_mixers)}
    # Kept of a block: its input and the sum in between (float32), and what its mixer needs.
    of_input = 4 * numbers
    blocks = [2 * of_input + mixers[kind].kept for kind in model.layer_mixers]
    layers = model.n_layers * of_input if model.activation_checkpointing else sum(blocks)
    inside = max(blocks) - of_input if model.activation_checkpointing else 0
    ends = 4 * numbers + (numbers if model.embed_dropout else 0)
    # The backward pass of the last block: residual gradients (two in float32), one rounded, and the hidden layer with its gradient …
    mlp = 10 * numbers + 4 * min(tokens * model.inner_dim, MOST_HIDDEN)
    # … or what a mixer needs there.
    mixer = max(of_kind.moment for of_kind in mixers.values())
    loss = 40 * model.padded_vocab_size * tokens
    return _STATE_BYTES * n_parameters + layers + inside + ends + max(mlp, mixer, loss)


class _MixerBytes(NamedTuple):
    """What one mixer keeps for its backward pass, and needs for a moment in it."""

    kept: int
    moment: int


def _half_mixer(model: HyenaConfig, kind: str, batch: int, length: int) -> _MixerBytes:
    numbers = batch * length * model.d_model
    if kind == "attention":
        # Normed, projected (3), queries and keys turned, the result, in half precision; of each row and head the sum of its exponentials.
        sums = 4 * batch * length * model.attention_heads
        # Gradients: two residual ones, the result's, of the parts (3), turned back in float32 (2), joined again (3).
        return _MixerBytes(14 * numbers + sums, (4 + 2 + 2 + 6 + 8 + 6) * numbers)
    if kind == "conv":
        # Normed, projected (3), the convolution's input and output, the result.
        return _MixerBytes(14 * numbers, (4 + 2 + 2 + 6 + 6) * numbers)
    shared = model.hyena_head_dim
    filters = 4 * model.d_model // shared * length * (2 if model.bidirectional else 1)
    if shared > 1:
        # Normed, projected (3), smoothed (3), the result; products of gates and values, and their convolutions.
        work = workspace_bytes(shared * numbers, 2, backward=True)
        return _MixerBytes(
            (16 + 4 * shared) * numbers + filters,
            (20 + 10 * shared) * numbers + work + 2 * filters,
        )
    if model.bidirectional:
        # Normed, projected (3), smoothed (3) and these turned round (3), the result; plain layers, which keep what they need.
        work = workspace_bytes(numbers, 2, backward=True)
        return _MixerBytes(22 * numbers + filters, 30 * numbers + work + 2 * filters)
    # Projected signals (3) and the convolution's result in half precision.
    kept_filters = filters if filters <= MOST_KEPT_BYTES else 0
    # Projected gradients, smoothed signals and their gradients of some channels, workspaces, the filter and its gradient.
    smoothed = min(3 * numbers, MOST_SMOOTHED)
    work = numbers if length <= _SHORT else workspace_bytes(smoothed // 3, 2, backward=True)
    moment = (4 + 2 + 2 + 6 - 4) * numbers + 4 * smoothed + work + 2 * filters
    return _MixerBytes(8 * numbers + kept_filters, moment)


def plain_bytes(model: HyenaConfig, batch: int, length: int, n_parameters: int) -> int:
    """Predict the peak of a step in float32 by plain layers, bytes, for (batch, length) tokens."""
    numbers = batch * length * model.d_model
    # For a moment: three complex spectra of twice the length, elsewhere six gradients in a mixer, or the hidden layer's gradients.
    in_mixer = 48 * model.hyena_head_dim if "hyena" in model.layer_mixers else 24
    moment = max(in_mixer * numbers, 8 * batch * length * model.inner_dim)
    return _STATE_BYTES * n_parameters + kept_bytes(model, batch, length, "meta") + moment


def kept_bytes(model: HyenaConfig, batch: int, length: int, device: str) -> int:
    """Count the bytes that autograd keeps for the backward pass, parameters aside, on a device ("meta" computes nothing)."""
    with torch.device(device):
        network = language_model(model).train()
        token_ids = torch.full((batch, length), 7)
    own = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            found[storage._cdata] = storage
        return tensor

    with _FusedAttention(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = next_base_loss(network(token_ids), token_ids).weighted
    del loss
    return sum(storage.nbytes() for storage in found.values())


class _FusedAttention(TorchFunctionMode):
    """Attention as a CPU computes it, on the meta device, too, where torch would choose a form that keeps L² numbers."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            return fused(*args, **kwargs)[0]
        return func(*args, **kwargs)
