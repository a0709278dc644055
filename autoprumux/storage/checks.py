"""What a row must hold to become a record.

SQLite keeps any value in any column, and a database may come from a stranger: a text in place of
a number, a list that is no JSON, an accuracy of 7.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, lru_cache
from math import isfinite
from operator import itemgetter
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from autoprumux.checks import check_candidate, check_measurement, check_throughput
from autoprumux.config import MAX_CANDIDATES
from autoprumux.errors import DamagedError
from autoprumux.records import Candidate, Measurement, Throughput, Value

MAX_NESTING = 16
"""Of lists and objects in a stored configuration."""
MAX_LAYERS = 10_000
"""Entries of a list of sizes."""
_REMEMBERED = 1024
"""Texts and candidates that are not read again: most trials of a study have the same ones."""


def damaged(text: str) -> DamagedError:
    """Yield the error that says what is wrong with the stored rows."""
    return DamagedError(
        f"The database holds what autoprumux did not write: {text}. Restore a copy, or give "
        "another database with `--storage`."
    )


def checked_columns(
    kind: type[Any], row: Mapping[str, Any], *, without: Collection[str] = ()
) -> dict[str, Any]:
    """Yield the columns of a row that are named like the fields of a record.

    Raises:
        DamagedError: If one is missing, of another type, or no finite number.
    """
    names, pick, known = _layout(kind, frozenset(without))  # type: ignore[arg-type]
    try:
        values = pick(row)
        floats = known[tuple(map(type, values))]
    except KeyError:  # a column is missing, or of a type that none had so far
        return _checked_one_by_one(kind, row, names, known)
    # Ten thousand trials have half a million columns, whose types are nearly always the same.
    if not all(map(isfinite, (values[place] for place in floats))):
        return _checked_one_by_one(kind, row, names, known)
    return dict(zip(names, values, strict=True))


@lru_cache(_REMEMBERED, typed=True)  # one object for all trials of a candidate compares faster
def stored_candidate(
    num_instances: object, sparsity: object, hyperparameters: object
) -> Candidate:
    """Yield the candidate of these columns.

    Raises:
        DamagedError: If they are outside their ranges.
    """
    cell = _stored_cell(num_instances, sparsity)
    values = values_of(hyperparameters, "hyperparameters")
    return replace(cell, hyperparameters=values) if values else cell


def _stored_cell(num_instances: object, sparsity: object) -> Candidate:
    try:
        return check_candidate(num_instances, sparsity)
    except ValueError as error:
        raise damaged(str(error)) from error


def stored_measurement(measurement: Measurement) -> Measurement:
    """Yield a measurement whose numbers are in their ranges.

    Raises:
        DamagedError: With the first that is not.
    """
    try:
        return check_measurement(measurement)
    except ValueError as error:
        raise damaged(str(error)) from error


def stored_throughput(throughput: Throughput) -> Throughput:
    """Yield speeds that are positive.

    Raises:
        DamagedError: With the first that is not.
    """
    try:
        return check_throughput(throughput)
    except ValueError as error:
        raise damaged(str(error)) from error


def check_config(text: object) -> dict[str, Any]:
    """Yield a stored configuration.

    Raises:
        DamagedError: If it is no JSON object, or its grid is none.
    """
    config = object_of(text, "config_json")
    search = config.get("search")
    if not isinstance(search, Mapping):
        return config
    sizes = [1, 1]
    for place, (name, types) in enumerate((("widths", (int,)), ("sparsities", (int, float)))):
        values = search.get(name, [])
        if not isinstance(values, list) or not all(type(value) in types for value in values):
            raise _wrong("config_json", f"search.{name}", "a list of numbers", values)
        sizes[place] = len(values)
        for value in values:
            _stored_cell(*((value, 0.0) if name == "widths" else (1, value)))
    if sizes[0] * sizes[1] > MAX_CANDIDATES:
        raise damaged(f"`search` of `config_json` spans {sizes[0] * sizes[1]} candidates")
    return config


def object_of(text: object, column: str) -> dict[str, Any]:
    """Yield the JSON object in a column.

    Raises:
        DamagedError: If it is none.
    """
    value = _parse(text, column)
    if not isinstance(value, dict):
        raise _wrong("the database", column, "a JSON object", value)
    return value


@lru_cache(_REMEMBERED)
def values_of(text: object, column: str) -> tuple[tuple[str, Value], ...]:
    """Yield the hyperparameters in a column, a JSON object.

    Raises:
        DamagedError: If it is none, or one of its values is no number, text or truth value.
    """
    values = object_of(text, column)
    if not all(isinstance(value, Value) for value in values.values()):
        raise _wrong("the database", column, "an object of plain values", values)
    return tuple(values.items())


@lru_cache(_REMEMBERED)
def sizes_of(text: object, column: str) -> tuple[int, ...]:
    """Yield the sizes in a column, a JSON list.

    Raises:
        DamagedError: If it is none of whole numbers that are 0 or more.
    """
    values = _parse(text, column)
    is_right = isinstance(values, list) and len(values) <= MAX_LAYERS
    if not is_right or not all(type(value) is int and value >= 0 for value in values):
        raise _wrong("the database", column, "a JSON list of sizes", values)
    return tuple(values)


def numbers_of(stored: object, table: str, column: str) -> tuple[float, ...]:
    """Yield numbers, from several rows or from a JSON list in one.

    Raises:
        DamagedError: If one is no finite number.
    """
    values = _parse(stored, column) if isinstance(stored, str) else stored
    is_right = isinstance(values, list) and all(
        type(value) in (int, float) and isfinite(value) for value in values
    )
    if not is_right:
        raise _wrong(table, column, "numbers", values)
    return tuple(values)  # type: ignore[arg-type]


def bytes_of(stored: object, column: str) -> bytes:
    """Yield the bytes in a column.

    Raises:
        DamagedError: If it holds something else.
    """
    if not isinstance(stored, bytes | bytearray | memoryview):
        raise _wrong("the database", column, "bytes", stored)
    return bytes(stored)


_MISSING = object()

_WORDS: Mapping[type, str] = {int: "a whole number", float: "a number", str: "text"}


_Known = dict[tuple[type, ...], tuple[int, ...]]
"""Types of columns that are right, each with the places of those that are to be finite."""


@cache
def _layout(
    kind: type[Any], without: frozenset[str]
) -> tuple[Sequence[str], Callable[[Mapping[str, Any]], tuple[Any, ...]], _Known]:
    """Yield the columns of a record, what picks them from a row, and the types known as right."""
    names = [name for name, _ in _types_of(kind) if name not in without]  # type: ignore[arg-type]
    if len(names) > 1:
        return names, itemgetter(*names), {}
    return names, lambda row: tuple(row[name] for name in names), {}


def _checked_one_by_one(
    kind: type[Any], row: Mapping[str, Any], names: Sequence[str], known: _Known
) -> dict[str, Any]:
    types_of = dict(_types_of(kind))  # type: ignore[arg-type]
    columns = {}
    for name in names:
        value, types = row.get(name, _MISSING), types_of[name]
        is_endless = isinstance(value, float) and not isfinite(value)
        if not isinstance(value, types) or isinstance(value, bool) or is_endless:
            raise _wrong(kind.__name__.lower(), name, _WORDS[types[0]], value)
        columns[name] = value
    found = tuple(map(type, columns.values()))
    known[found] = tuple(place for place, of in enumerate(found) if of is float)
    return columns


@cache
def _types_of(kind: type[Any]) -> Sequence[tuple[str, tuple[type, ...]]]:
    """Yield the fields of a record that a column can hold, with the types of the driver."""
    hints = get_type_hints(kind)
    return [(field.name, _driver_types(hints[field.name])) for field in fields(kind)]


def _driver_types(hint: Any) -> tuple[type, ...]:
    if get_origin(hint) in (Union, UnionType):
        kept, _ = get_args(hint)
        return (*_driver_types(kept), NoneType)
    return {int: (int,), float: (float, int)}.get(hint, (str,))


def _parse(text: object, column: str) -> Any:
    if not isinstance(text, str):
        raise _wrong("the database", column, "JSON", text)
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        _check_depth(value, 0)
        json.dumps(value, ensure_ascii=False).encode()  # refuses half a surrogate pair
    except (ValueError, RecursionError):
        raise _wrong("the database", column, "JSON", text) from None
    return value


def _refuse_constant(word: str) -> None:
    raise ValueError(word)


def _check_depth(value: object, depth: int) -> None:
    if depth > MAX_NESTING:
        raise ValueError
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, depth + 1)
    elif isinstance(value, int | float) and not -(2**63) <= value < 2**63:  # NaN is not, either
        raise ValueError


def _wrong(owner: str, name: str, wanted: str, found: object) -> DamagedError:
    shown = "nothing" if found is _MISSING else f"{found!r:.80}"
    return damaged(f"`{name}` of {owner} must be {wanted}, got {shown}")
