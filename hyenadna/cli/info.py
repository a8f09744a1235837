"""``hyenadna info``: what is installed, what it runs on, and what a model is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

_PACKAGES = (
    "hyenadna",
    "torch",
    "triton",
    "numpy",
    "lightning",
    "hydra-core",
    "safetensors",
    "pyfaidx",
    "biopython",
)
_EXTRAS = ("transformers", "peft", "tensorboard", "wandb")


def info(
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model folder, run folder, weights file, hub id or bundled:NAME to describe."
        ),
    ] = None,
) -> None:
    """Show versions, devices, backends, cache, bundled data and models; or, with a model, its shape.

    Lines are "name<TAB>value", for people and for grep.
    """
    if model is not None:
        _describe(model)
        return
    import platform

    import torch

    from hyenadna.data.manifest import bundled_datasets
    from hyenadna.models.bundled import bundled_models
    from hyenadna.ops.fftconv import explain_backend
    from hyenadna.resources import DEFAULT_MODEL, cache_dir

    _line("python", platform.python_version())
    _line("platform", platform.platform())
    for package in _PACKAGES:
        _line(package, _installed(package) or "not installed")
    for package in _EXTRAS:
        _line(f"{package} (extra)", _installed(package) or "not installed")
    devices = [torch.device("cpu")]
    _line("cpu threads", str(torch.get_num_threads()))
    _line("cuda", torch.version.cuda or "not in this torch")
    for i in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(i)
        _line(f"cuda:{i}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
        devices.append(torch.device("cuda", i))
    for device in devices:
        _line(f"fftconv on {device}", explain_backend(device))
    _line("cache", str(cache_dir()))
    for dataset in bundled_datasets():
        _line(f"bundled:{dataset.name}", dataset.title)
    for bundled in bundled_models():
        _line(f"bundled:{bundled.name}", bundled.title)
    _line("default model", DEFAULT_MODEL)


def _describe(source: str) -> None:
    from hyenadna.inference.runtime import tokenizer_folder, weights_checksum
    from hyenadna.models import load_model
    from hyenadna.models.bundled import CARD, bundled_models
    from hyenadna.resources import is_bundled, resolve
    from hyenadna.tokenizers import load_tokenizer

    model = load_model(source)
    if is_bundled(source):
        folder = resolve(source)
        _line("title", next(known.title for known in bundled_models() if known.folder == folder))
        _line("card", str(folder / CARD))
    _line("model", type(model).__name__)
    _line("parameters", f"{model.n_parameters():,}")
    for name, value in model.config.to_dict().items():
        _line(name, ", ".join(value) if isinstance(value, list) else str(value))
    for name, value in model.head_settings().items():
        _line(f"head {name}", ", ".join(value) if isinstance(value, list) else str(value))
    _line("tokenizer", load_tokenizer(tokenizer_folder(source)).kind)
    _line("weights_sha256", weights_checksum(model))


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _line(name: str, value: str) -> None:
    typer.echo(f"{name}\t{value}")
