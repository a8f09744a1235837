"""The fields of a YAML file that people write by hand, checked one by one; what is wrong is said with its place.

Functions raise `ValueError` with a sentence; the reader of a file puts the file's name before it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from hyenadna.errors import FileFormatError


class _Loader(yaml.SafeLoader):
    """YAML as it is, except that a key that is written twice is an error and not the last one's value."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, Any]:  # fmt: skip
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {twice[0]!r} is written twice", node.start_mark
            )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> Any:
    """Return the content of a YAML file.

    Raises
    ------
    FileFormatError
        It cannot be read, is no YAML, or a key is written twice in one place.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"the {what} cannot be read ({error})", path=path) from error
    except yaml.YAMLError as error:
        raise FileFormatError(f"the {what} is no YAML: {error}", path=path) from error


def fields_of(
    item: Any, what: str, needed: Iterable[str], optional: Iterable[str]
) -> Mapping[str, Any]:
    """Return a mapping that has the keys needed and no unknown ones."""
    needed, optional = set(needed), set(optional)
    if not isinstance(item, dict) or not needed <= set(item) <= needed | optional:
        found = ", ".join(sorted(map(str, item))) if isinstance(item, dict) else repr(item)[:60]
        raise ValueError(
            f"{what} has the keys {', '.join(sorted(needed))} and perhaps {', '.join(sorted(optional))}, "
            f"found {found or 'none'}"
        )
    return item


def text_of(fields: Mapping[str, Any], key: str, what: str) -> str:
    """Return a text with single blanks, empty where the key is absent."""
    value = fields.get(key, "")
    if isinstance(value, list | dict) or value is None or (key in fields and not str(value)):
        raise ValueError(f"{what} has {key}: {value!r}; expected text")
    return " ".join(str(value).split())


def number_of(fields: Mapping[str, Any], key: str, what: str, least: int) -> int | None:
    """Return a whole number that is not less than the least, None where the key is absent."""
    value = fields.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} has {key}: {value!r}; expected a whole number from {least}")
    return value


def items_of(fields: Mapping[str, Any], key: str) -> list[Any]:
    """Return a list, empty where the key is absent."""
    value = fields.get(key, [])
    if not isinstance(value, list):
        raise ValueError(f"{key!r} is {value!r}; expected a list")
    return value


def require_once(names: list[str], what: str) -> None:
    """Check that no name is listed twice."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the {what} {twice[0]!r} is listed twice")
