"""How settings say what is wrong with them."""

from __future__ import annotations

from typing import Any

from hyenadna.errors import ConfigError


def require(name: str, value: Any, condition: bool, expected: str) -> None:
    """Raise `ConfigError` naming a setting, its value and what is expected, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{name}={value!r} is impossible; {expected}")
