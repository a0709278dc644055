"""Checks of single values of a recipe."""

from dataclasses import field
from typing import Any, TypeVar, get_args

from trainers.errors import ConfigError

ADDED = "is_added"
"""Key of a field's metadata, see `added`."""
T = TypeVar("T")


def added(default: T) -> T:
    """Yield a field that recipes of earlier versions did without and acted as if at `default`.

    At that value it is left out of what decides a training, see `trainers.config.decisive`, so
    that caches and studies from before it are still taken up.
    """
    return field(default=default, metadata={ADDED: True})


def require(is_valid: bool, name: str, value: object, rule: str) -> None:
    """Refuse `value` of the option `name` unless `is_valid`.

    Raises:
        ConfigError: Names the option, the rule and the value.
    """
    if not is_valid:
        raise ConfigError(f"`{name}` must be {rule}, got {value!r}.")


def require_word(value: object, name: str, words: Any) -> None:
    """Refuse `value` unless it is among those of the `Literal` type `words`, see `require`."""
    require(value in get_args(words), name, value, "one of " + ", ".join(get_args(words)))
