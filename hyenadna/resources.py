"""Where the packaged configs, data sets, weights and the cache live, and which version of the package this is.

An installed wheel carries ``configs/``, ``datasets/`` and ``weights/`` under ``hyenadna/_resources``; a checkout has them beside
the package. They hold data only, so none can ever be imported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hyenadna.errors import ConfigError, FileFormatError

_PACKAGE = Path(__file__).resolve().parent
_BUNDLED = "bundled:"

DEFAULT_MODEL = "bundled:human-tiny-1k"
"""The model of commands that were told none."""


def package_version() -> str:
    """Return this package's version; "unknown" where it runs from a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("hyenadna")
    except PackageNotFoundError:
        return "unknown"


def _resource_dir(name: str) -> Path:
    for folder in (_PACKAGE / "_resources" / name, _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileFormatError(
        f"the packaged folder {name}/ is missing: this installation is incomplete, reinstall hyenadna",
        path=_PACKAGE,
    )


def config_dir() -> Path:
    """Return the folder of the packaged Hydra configs."""
    return _resource_dir("configs")


def dataset_dir() -> Path:
    """Return the folder of the bundled data sets."""
    return _resource_dir("datasets")


def weights_dir() -> Path:
    """Return the folder of the bundled models."""
    return _resource_dir("weights")


def cache_dir(*parts: str) -> Path:
    """Return a folder of the cache, created if need be.

    Parameters
    ----------
    parts
        Names below the cache's root, which is ``HYENADNA_CACHE`` where that is set, else the platform's cache folder.
    """
    root = os.environ.get("HYENADNA_CACHE")
    if root:
        base = Path(root).expanduser()
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches" / "hyenadna"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "hyenadna"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hyenadna"
    folder = base.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {folder} cannot be created ({error.strerror}); "
            "set HYENADNA_CACHE to a folder that you can write to"
        ) from error
    return folder


def is_bundled(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path names something that comes with the package: ``bundled:NAME`` or ``bundled:NAME/FILE``."""
    return os.fspath(path).startswith(_BUNDLED)


def resolve(path: str | os.PathLike[str]) -> Path:
    """Turn ``bundled:NAME/FILE`` into a file of the bundled data sets or models, and expand ``~`` in every other path.

    Raises
    ------
    FileFormatError
        Nothing of this name is bundled.
    """
    text = os.fspath(path)
    if not is_bundled(text):
        return Path(text).expanduser()
    folders = (dataset_dir(), weights_dir())
    for folder in folders:
        if (found := folder / text[len(_BUNDLED) :]).exists():
            return found
    datasets, models = (
        ", ".join(sorted(p.parent.name for p in folder.glob("*/SHA256SUMS"))) for folder in folders
    )
    raise FileFormatError(
        f"{text!r} is not bundled with hyenadna (bundled data sets: {datasets}; 'hyenadna datasets fetch' gets others; "
        f"bundled models: {models})"
    )
