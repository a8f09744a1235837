"""Reading weights files: safetensors, and pickled checkpoints without running anything that is in them.

The published ``weights.ckpt`` are Lightning checkpoints whose pickles name omegaconf classes. A restricted unpickler takes the
tensors and turns every other class into an inert placeholder, so that no code of a file ever runs.
"""

from __future__ import annotations

import collections
import pickle
import types
from pathlib import Path
from typing import Any

import torch

from hyenadna.errors import CheckpointError


class _Inert:
    """Stands in for every class of a pickle that is no tensor: takes anything, does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...
    def __call__(self, *_args: object, **_kwargs: object) -> _Inert:
        return self

    def __setstate__(self, _state: object) -> None: ...
    def __setitem__(self, _key: object, _value: object) -> None: ...
    def append(self, _item: object) -> None: ...
    def extend(self, _items: object) -> None: ...


_HARMLESS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    **{("torch", str(t)[6:]): t for t in vars(torch).values() if isinstance(t, torch.dtype)},
    **{("torch", t.__name__): t for t in vars(torch).values() if isinstance(t, type) and t.__name__.endswith("Storage")},
}  # fmt: skip


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _HARMLESS.get((module, name), _Inert)


def _restricted_load(file: Any, **kwargs: Any) -> Any:
    return _TensorUnpickler(file, **kwargs).load()


_restricted_pickle = types.ModuleType("restricted_pickle")
vars(_restricted_pickle).update(Unpickler=_TensorUnpickler, load=_restricted_load)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a weights file by name, on the CPU.

    Parameters
    ----------
    path
        ``.safetensors``, or a pickled state dict or Lightning checkpoint under any other name.

    Raises
    ------
    CheckpointError
        The file cannot be read, is damaged, or holds no tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_restricted_pickle
        )
    except OSError as error:
        raise CheckpointError(f"the weights {path} cannot be read: {error}") from error
    except (
        Exception
    ) as error:  # damaged files raise from every layer of zip, pickle, torch and safetensors
        raise CheckpointError(
            f"{path} is no readable weights file ({type(error).__name__}: {error}); copy or download it again"
        ) from error
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds no state dict but a {type(found).__name__}")
    tensors = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors")
    return tensors
