"""Hyperparameters that are searched with (N, s): keys of the training phases, and their values.

In a study file they stand in `[search.hyperparameters]`, by the key that they replace:

    [search.hyperparameters]
    trainer.finetune.learning_rate = [5e-5, 1e-4, 2e-4]
    trainer.prune.temperature = { low = 1.0, high = 4.0 }

The study's own value, which stands at the key itself, must be among them: the dense baseline has
it, and so has whatever a hyperparameter does not concern.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args, get_origin, get_type_hints

from autoprumux.errors import ConfigError
from autoprumux.records import Candidate, Value, value_text
from trainers.config import TrainerConfig
from trainers.errors import ConfigError as TrainerConfigError

TABLE = "search.hyperparameters"
"""Key of the table in a study file."""

RANGE_KEYS = ("low", "high", "step", "log")
"""Keys of a range; one of them is enough to tell a range from a table of keys."""

MOST_COMBINATIONS = 4096
"""Candidates up to which a space is listed in full; of a larger one, points are drawn."""

PHASES = ("prime", "pretrain", "narrow", "finetune", "prune", "finetune_pruned")
"""Parts of a recipe whose keys can be searched: other keys change what is compared."""

MUXED_PHASES, PRUNED_PHASES = ("prime", "pretrain", "narrow"), ("prune", "finetune_pruned")
"""Phases that only N > 1 has, and those that only s > 0 has."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameter:
    """One key of the study file and the values that are searched."""

    key: str
    """Dotted, for example `trainer.finetune.learning_rate`."""
    own: Value
    """The study's own value."""
    values: tuple[Value, ...] = ()
    """Listed ones; empty for a range."""
    low: float | int | None = None
    """Ends of a range, both included; none for a list."""
    high: float | int | None = None
    step: float | int | None = None
    """Distance of the values of a range; none for any value, of a whole number 1."""
    is_log: bool = False
    """True searches a range by factors."""

    def __post_init__(self) -> None:
        for text in _mistakes(self):
            raise ConfigError(f"`{TABLE}.{self.key}` {text}")

    @property
    def is_number(self) -> bool:
        """True if the values have an order, so that those between two are like both."""
        return not isinstance(self.own, bool | str)

    @property
    def listed(self) -> tuple[Value, ...] | None:
        """All values, the study's own first; None if there is no end of them."""
        if self.values:
            return (self.own, *(value for value in self.values if value != self.own))
        assert self.low is not None
        assert self.high is not None
        step = 1 if self.step is None and isinstance(self.own, int) else self.step
        if step is None:
            return None
        steps = [self.low + i * step for i in range(round((self.high - self.low) / step) + 1)]
        return (self.own, *(value for value in steps if not _is_close(value, self.own)))

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest value of a number."""
        numbers = [
            float(value) for value in (self.values or (self.low, self.high)) if value is not None
        ]
        return min(numbers), max(numbers)

    def spelling(self) -> Any:
        """Yield the values as a study file has them, ready for JSON and TOML."""
        if self.values:
            return list(self.values)
        table: dict[str, Any] = {"low": self.low, "high": self.high}
        if self.step is not None:
            table["step"] = self.step
        return table | ({"log": True} if self.is_log else {})

    def draw(self, share: float) -> Value:
        """Yield the value at a share in [0, 1) of the way through the list or the range."""
        listed = self.listed
        if listed is not None and not self.is_log:
            return listed[int(share * len(listed))]
        low, high = self.span
        if not self.is_log:
            return _rounded(low + share * (high - low))
        value = low * (high / low) ** share
        return round(value) if isinstance(self.own, int) else min(max(_rounded(value), low), high)

    def snapped(self, value: Value) -> Value:
        """Yield the listed value that equals `value` up to rounding, or `value` itself."""
        same = (known for known in self.listed or (self.own,) if _is_close(known, value))
        return next(same, value)

    def concerns(self, cell: Candidate) -> bool:
        """True if trainings of this N and s have the phase that the hyperparameter is of."""
        phase = self.key.split(".")[1]
        return (cell.num_instances > 1 or phase not in MUXED_PHASES) and (
            cell.sparsity > 0 or phase not in PRUNED_PHASES
        )


def make_hyperparameter(key: str, spelt: object, trainer: TrainerConfig) -> Hyperparameter:
    """Yield a hyperparameter of a study file.

    Args:
        key: As it stands below `[search.hyperparameters]`.
        spelt: The list or the range there.
        trainer: The study's own recipe.

    Raises:
        ConfigError: If there is no such key, or the values are not what it takes.
    """
    hint, own = _hint_of(key), own_value(key, trainer)
    if isinstance(spelt, Mapping):
        found = _range(key, spelt, hint, own)
    elif isinstance(spelt, list | tuple):
        found = Hyperparameter(
            key=key, own=own, values=tuple(_typed(key, value, hint) for value in spelt)
        )
    else:
        raise ConfigError(
            f"`{TABLE}.{key}` must be a list of values or a table with `low` and `high`, "
            f"got {spelt!r}."
        )
    for value in found.values or found.span:
        with_values(trainer, ((key, type(own)(value)),), prefix=f"{TABLE}.")
    return found


def own_value(key: str, trainer: TrainerConfig) -> Value:
    """Yield the value that a recipe has at a key."""
    _, phase, name = key.split(".")
    value: Value = getattr(getattr(trainer, phase), name)
    return value


def with_values(
    trainer: TrainerConfig, values: Sequence[tuple[str, Value]], *, prefix: str = ""
) -> TrainerConfig:
    """Yield a recipe with other values at some keys.

    Raises:
        ConfigError: If the recipe does not take a value; names it by its key behind `prefix`.
    """
    for key, value in values:
        _, phase, name = key.split(".")
        try:
            part = replace(getattr(trainer, phase), **{name: value})
            trainer = replace(trainer, **{phase: part})
        except TrainerConfigError as error:
            rule = str(error).partition("` ")[2]
            raise ConfigError(f"`{prefix}{key}` {rule}") from error
    return trainer


def settings_of(hyperparameters: Sequence[Hyperparameter], cell: Candidate) -> Iterator[Candidate]:
    """Yield all candidates of a cell, the study's own first; none if there is no end of them."""
    listed = [h.listed if h.concerns(cell) else (h.own,) for h in hyperparameters]
    if any(values is None for values in listed):
        return
    for values in product(*(values for values in listed if values is not None)):
        yield with_setting(hyperparameters, cell, values)


def with_setting(
    hyperparameters: Sequence[Hyperparameter], cell: Candidate, values: Sequence[Value]
) -> Candidate:
    """Yield the candidate of a cell with these values, one per hyperparameter.

    Values that do not concern the cell are the study's own, so that no training is made twice.
    """
    pairs = zip(hyperparameters, values, strict=True)
    changed = ((h.key, value) for h, value in pairs if h.concerns(cell) and value != h.own)
    return Candidate(cell.num_instances, cell.sparsity, tuple(changed))


def values_of(hyperparameters: Sequence[Hyperparameter], candidate: Candidate) -> dict[str, Value]:
    """Yield the value of every hyperparameter at a candidate, by key."""
    return {h.key: h.own for h in hyperparameters} | dict(candidate.hyperparameters)


def stored_values(config: Mapping[str, Any], candidate: Candidate) -> dict[str, Value]:
    """Yield the value of every hyperparameter that a stored study searches, by key.

    Args:
        config: Of the study, plain dictionaries.
        candidate: Has those that differ from the study's own.
    """
    changed = dict(candidate.hyperparameters)
    values: dict[str, Value] = {}
    for key in config.get("search", {}).get("hyperparameters", {}):
        found: Any = config
        for part in key.split("."):
            found = found[part]
        values[key] = changed.get(key, found)
    return values


def _hint_of(key: str) -> Any:
    """Yield the type of a key of the training phases."""
    root, _, rest = key.partition(".")
    phase, _, name = rest.partition(".")
    hints = get_type_hints(TrainerConfig)
    known = get_type_hints(hints[phase]) if root == "trainer" and phase in PHASES else {}
    if name not in known:
        phases = ", ".join(f"`trainer.{word}`" for word in PHASES)
        raise ConfigError(
            f"`{TABLE}.{key}` cannot be searched; keys of the training phases can: {phases}."
        )
    if get_origin(known[name]) is tuple:
        raise ConfigError(f"`{TABLE}.{key}` cannot be searched, as each of its values is a list.")
    return known[name]


_KINDS = {int: "whole numbers", float: "numbers", str: "texts", bool: "true and false"}


def _typed(key: str, value: object, hint: Any) -> Value:
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return str(value)
        words = ", ".join(get_args(hint))
        raise ConfigError(f"`{TABLE}.{key}` takes the words {words}, got {value!r}.")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint or (isinstance(value, float) and not math.isfinite(value)):
        raise ConfigError(f"`{TABLE}.{key}` takes {_KINDS[hint]}, got {value!r}.")
    typed: Value = value  # type: ignore[assignment]  # of the type `hint`
    return typed


def _range(key: str, table: Mapping[str, Any], hint: Any, own: Value) -> Hyperparameter:
    if hint not in (int, float):
        raise ConfigError(f"`{TABLE}.{key}` has no range, as it is no number; list its values.")
    unknown = [name for name in table if name not in RANGE_KEYS]
    missing = [name for name in ("low", "high") if name not in table]
    if unknown or missing:
        what = f"`{unknown[0]}` is unknown" if unknown else f"`{missing[0]}` is missing"
        raise ConfigError(f"`{TABLE}.{key}`: {what}; a range has `low`, `high`, `step` and `log`.")
    is_log = table.get("log", False)
    if not isinstance(is_log, bool):
        raise ConfigError(f"`{TABLE}.{key}`: `log` must be true or false, got {is_log!r}.")
    numbers: dict[str, Any] = {
        name: _typed(key, table[name], hint) for name in ("low", "high", "step") if name in table
    }
    return Hyperparameter(key=key, own=own, is_log=is_log, **numbers)


def _mistakes(found: Hyperparameter) -> Iterator[str]:
    if found.low is None or found.high is None:
        yield from _mistakes_of_list(found)
        return
    low, high, step = found.low, found.high, found.step
    if not low < high:
        yield f"needs `low` below `high`, got {low!r} and {high!r}."
    if found.is_log and low <= 0:
        yield f"needs `low` above 0 for `log`, got {low!r}."
    if found.is_log and step is not None:
        yield f"takes `log` or `step`, got both (`step` {step!r})."
    if step is not None and not (step > 0 and _is_multiple(high - low, step)):
        yield f"needs a `step` that leads from {low!r} to {high!r}, got {step!r}."
    assert isinstance(found.own, float | int)
    is_reached = step is None or _is_multiple(found.own - low, step)
    if not low <= found.own <= high or not is_reached:
        yield _own_is_missing(found, "reach")


def _mistakes_of_list(found: Hyperparameter) -> Iterator[str]:
    shown = ", ".join(map(value_text, found.values))
    if len(found.values) < 2:
        yield (
            f"must list two values or more, got {shown or 'none'}; a single one belongs to "
            f"`{found.key}`."
        )
    if len(set(found.values)) < len(found.values):
        yield f"must not repeat a value, got {shown}."
    if found.own not in found.values:
        yield _own_is_missing(found, "contain")


def _own_is_missing(found: Hyperparameter, verb: str) -> str:
    own = value_text(found.own)
    return (
        f"must {verb} {own}, the study's own value, which the dense baseline is trained with; "
        f"add it, or set `{found.key}` to one of the searched values."
    )


def _is_multiple(length: float, step: float) -> bool:
    return _is_close(round(length / step) * step, length)


def _is_close(one: Value, other: Value) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _rounded(value: float) -> float:
    """Yield a drawn number in four digits: more tell nothing and are hard to read."""
    return float(f"{value:.4g}")


def require_own(hyperparameters: Sequence[Hyperparameter], trainer: TrainerConfig) -> None:
    """Refuse hyperparameters whose own value is not the recipe's, or whose key occurs twice.

    Raises:
        ConfigError: If there is one.
    """
    keys = [h.key for h in hyperparameters]
    for found in hyperparameters:
        if keys.count(found.key) > 1:
            raise ConfigError(f"`{TABLE}.{found.key}` occurs twice.")
        own = own_value(found.key, trainer)
        if own != found.own:
            raise ConfigError(
                f"`{TABLE}.{found.key}` has {value_text(found.own)} as the study's own value, "
                f"but `{found.key}` is {value_text(own)}."
            )
