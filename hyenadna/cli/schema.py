"""Dataclass schemas for Hydra: registering them, filling them, and reading a saved run's settings back."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hyenadna.errors import ConfigError, FileFormatError
from hyenadna.resources import config_dir

T = TypeVar("T")


def register_schema(command: str, schema: type[Any]) -> None:
    """Make ``<command>_schema`` known to Hydra; the command's primary config lists it first in its defaults."""
    ConfigStore.instance().store(name=f"{command}_schema", node=schema)


def to_dataclass(config: DictConfig, schema: type[T]) -> T:
    """Turn a composed config into its plain dataclass, checking every value.

    Raises
    ------
    ConfigError
        A value is out of range, missing, or of the wrong type.
    """
    added = _unknown_names(config, schema)
    if added:
        raise ConfigError(_unknown(added, schema))
    try:
        built = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error, schema)) from error
    if not isinstance(built, schema):
        raise ConfigError(
            f"the config is no {schema.__name__}; does its defaults list name the schema first?"
        )
    return built


def _unknown_names(config: DictConfig, schema: type[Any], prefix: str = "") -> str | None:
    """Return the first name that the schema lacks: Hydra's ``+key=value`` adds one even to a structured config."""
    hints = get_type_hints(schema)
    known = {field.name for field in dataclasses.fields(schema)}
    for key in config:
        name = f"{prefix}{key!s}"
        if key not in known:
            return name
        kind, value = hints[str(key)], config._get_node(key)
        if (
            dataclasses.is_dataclass(kind)
            and isinstance(value, DictConfig)
            and not value._is_none()
        ):
            found = _unknown_names(value, cast(type[Any], kind), f"{name}.")
            if found:
                return found
    return None


def _unknown(name: str, schema: type[Any] | None) -> str:
    near = difflib.get_close_matches(name, list(setting_names(schema)), 3, 0.7) if schema else []
    hint = f"did you mean {' or '.join(near)}?" if near else "see --cfg job for all settings"
    return f"unknown setting {name!r}; {hint}"


def setting_names(schema: type[Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings of a schema."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        name = prefix + field.name
        yield name
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from setting_names(cast(type[Any], kind), name + ".")


def explain(error: BaseException, schema: type[Any] | None = None) -> str:
    """Say in one sentence what Hydra or OmegaConf complains about: the setting, what was found, what would do.

    Parameters
    ----------
    error
        Their exception.
    schema
        Where similar names are looked for.
    """
    options = getattr(error, "options", None)
    missing = getattr(error, "missing_cfg_file", None)
    if missing:
        group, _, name = str(missing).rpartition("/")
        known = (
            f"there are {', '.join(sorted(map(str, options)))}"
            if options
            else "see --info searchpath"
        )
        return (
            f"there is no config {name!r} in the group {group or 'of primary configs'!r}; {known}"
        )
    if isinstance(error, OverrideParseException):
        return f"setting {error.override!r} cannot be read; write key=value, and quote what holds commas, brackets or blanks"
    text = str(error).strip()
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    key = getattr(cause, "full_key", None)
    lines = [line.strip() for line in str(cause).splitlines()]
    first = lines[0].rstrip(".") if lines else type(error).__name__
    if key and ("not in" in first or "not in" in text):
        return _unknown(str(key), schema)
    if key and "could not be converted" in first:
        return f"setting {key!r}: {first[0].lower()}{first[1:]}"
    if key:
        return f"setting {key!r}: {first}"
    if "Could not override" in text:
        wrong = text.split("'")[1] if "'" in text else text
        return f"there is no setting or group {wrong!r} to override; see --cfg job for all settings"
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


@functools.cache
def config_groups() -> frozenset[str]:
    """Return the names of the config groups: the sub-folders of the packaged configs."""
    root = config_dir()
    return frozenset(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_dir())


def read_saved_config(path: Path, schema: type[T], overrides: Sequence[str]) -> T:
    """Read the settings of an earlier run, with explicit overrides on top.

    Parameters
    ----------
    path
        The run's config.yaml.
    schema
        Its dataclass.
    overrides
        Words of the command line, ``key=value``.

    Raises
    ------
    ConfigError
        The file does not fit the schema, or an override is unknown, of the wrong type, or replaces a whole group.
    FileFormatError
        The file cannot be read.
    """
    config = OmegaConf.structured(schema)
    try:
        saved = OmegaConf.load(path)
        config = OmegaConf.merge(config, saved)
    except OSError as error:
        raise FileFormatError(f"cannot be read ({error.strerror})", path=path) from error
    except Exception as error:
        reason = explain(error, schema) if isinstance(error, OmegaConfBaseException) else str(error)
        raise ConfigError(
            f"{path} holds no settings of a run: {' '.join(reason.split())}"
        ) from error
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        if key in config_groups():
            raise ConfigError(
                f"{override.input_line}: a resumed run keeps its {key}; override single settings, such as {key}.NAME=VALUE"
            )
        try:
            OmegaConf.update(config, key, override.value(), merge=True)
        except OmegaConfBaseException as error:
            raise ConfigError(explain(error, schema)) from error
    return to_dataclass(cast(DictConfig, config), schema)
