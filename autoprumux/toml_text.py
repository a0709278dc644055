"""TOML of any origin: read, parsed and shown without taking time or memory without end."""

import re
import tomllib
from pathlib import Path
from typing import Any

from autoprumux.errors import ConfigError

MAX_BYTES = 1 << 18
"""Of a file; the longest preset has 4 kB."""
MAX_DEPTH = 16
"""Tables inside tables, and parts of a dotted key."""
_LONGEST_SHOWN = 200
"""Characters of a value in a message."""


def read_text(path: str) -> str:
    """Yield the text of a file.

    Raises:
        ConfigError: If it cannot be read, or is longer than any study file.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise ConfigError(f"{path} cannot be read: it is no file.")
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path} cannot be read: it has more than {MAX_BYTES} bytes.")
        return content.decode().replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: it is not UTF-8 text.") from error
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{shown(path)} cannot be read: {error}.") from error


def parse_toml(text: str, label: str) -> dict[str, Any]:
    """Yield the tables of a file that messages call `label`.

    Raises:
        ConfigError: If it is no TOML, or holds what no study file needs.
    """
    try:
        return load_toml(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{label} is not valid TOML: {error}.") from error
    except TooLargeError as error:
        raise ConfigError(f"{label} cannot be used: {error}.") from error


class TooLargeError(Exception):
    """What TOML allows and no study file needs."""


_PART_OF_KEY = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(
    rf"(?<![\w-]){_PART_OF_KEY}(?:[ \t]*+\.[ \t]*+{_PART_OF_KEY}){{{MAX_DEPTH},}}"
)


def load_toml(text: str) -> dict[str, Any]:
    """Parse TOML whose values all fit what they are for.

    The parser takes time that rises with the square of the parts of a dotted key.

    Raises:
        TooLargeError: If something is nested too deeply or a number is no 64-bit one.
        TOMLDecodeError: If it is no TOML.
    """
    if _LONG_KEY.search(text):
        raise TooLargeError(f"a key has more than {MAX_DEPTH} parts")
    try:
        table = tomllib.loads(text)
        _check_sizes(table, 0)
    except RecursionError:
        raise TooLargeError("it is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        if isinstance(error, tomllib.TOMLDecodeError):
            raise
        raise TooLargeError(_TOO_LARGE) from None
    return table


_TOO_LARGE = "a whole number in it does not fit into 64 bits"


def _check_sizes(value: object, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise TooLargeError("it is nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_sizes(item, depth + 1)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise TooLargeError(_TOO_LARGE)


def shown(value: object) -> str:
    """Yield a value as a message shows it, cut if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
