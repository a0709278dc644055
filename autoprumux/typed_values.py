"""Values of a study file as the types of the fields that take them."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

_SINGULARS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


class WrongTypeError(Exception):
    """A value has the wrong type; the text says which is right."""


def typed(value: object, hint: Any) -> Any:
    """Yield `value` as the type of a field, lists as tuples and whole numbers as floats.

    Args:
        value: As TOML has it.
        hint: Type of a dataclass field: a plain one, one or None, a tuple of one, or `Literal`.

    Raises:
        WrongTypeError: If it is of another type.
    """
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise WrongTypeError("one of " + ", ".join(get_args(hint)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise WrongTypeError(f"a list of {_PLURALS[get_args(hint)[0]]}")
        try:
            return tuple(typed(item, get_args(hint)[0]) for item in value)
        except WrongTypeError:
            raise WrongTypeError(f"a list of {_PLURALS[get_args(hint)[0]]}") from None
    if origin in (Union, UnionType):
        hint = get_args(hint)[0]
    if hint is float and type(value) is int and abs(value) < 2**63:
        return float(value)
    if type(value) is not hint:
        raise WrongTypeError(_SINGULARS[hint])
    return value
