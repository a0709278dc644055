"""Checks of single values of a recipe."""

from typing import Any, get_args

from trainers.errors import ConfigError


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
