"""Configuration of a study: read from TOML, completed by options, checked before any work.

A study file has the keys `name`, `task` (a name or a table), `extends` (a preset or a file to
start from) and the tables `[search]` and `[trainer]`, whose keys are the dataclasses' fields.
"""

import difflib
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from autoprumux.errors import ConfigError
from trainers.config import TaskConfig, TrainerConfig, to_dict
from trainers.errors import ConfigError as TrainerConfigError

DEFAULT_PRESET = "embedded"
"""Preset of a search that names none."""

MAX_BUDGETS = 1001
"""More budgets than a range of points in steps of 0.1 has are a typing mistake."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Which candidates there are, which question is asked and when the search ends."""

    widths: tuple[int, ...] = (1, 2, 5, 10)
    """Mux widths N; 1, the dense baseline's, must be among them."""
    sparsities: tuple[float, ...] = (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    """Encoder sparsities in [0, 1); 0, the dense baseline's, must be among them."""
    budgets: tuple[float, ...] = (0.02,)
    """Accuracy-loss budgets, fractions; `search.budget` in a study file, in points."""
    max_trials: int = 12
    """Largest number of trained trials, failed ones and the baseline included."""
    timeout_s: float = 0.0
    """Seconds after which no new trial starts; 0 means no limit."""
    sampler: Literal["performance_model", "random", "grid"] = "performance_model"
    """Who chooses the next candidate."""
    stop_chance: float = 0.05
    """The search stops when no candidate has a higher chance of beating the verified best."""
    stop_gain: float = 0.05
    """Share by which a candidate must beat the verified best to count."""
    seed: int = 0
    """Seed of the choices and of the trainings."""

    def __post_init__(self) -> None:
        mistakes = [*_mistakes_of_axes(self), *_mistakes_of_limits(self)]
        if mistakes:
            raise ConfigError("\n".join(mistakes))


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """One study: its name in the database, its search and the recipe of its trainings."""

    name: str
    """Name in the database; by default `TASK-PRESET`."""
    search: SearchConfig = field(default_factory=SearchConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("`name` must not be empty.")


@dataclass(frozen=True)
class Override:
    """One value that replaces a study file's."""

    key: str
    """Dotted key of the study file, for example `search.widths`."""
    value: object
    spelling: str
    """How the user wrote the key, for messages: `--widths`, or the key itself."""


def load_study(
    name_or_path: str = DEFAULT_PRESET, overrides: Sequence[Override] = ()
) -> StudyConfig:
    """Yield the study of a preset or a TOML file, completed by `overrides`.

    Args:
        name_or_path: Name of a preset, or path of a study file (recognised by its `.toml`).
        overrides: Values that replace the file's, later ones win.

    Raises:
        ConfigError: If the file cannot be read; or with all mistakes of file and overrides.
    """
    entries = _read_entries(name_or_path, seen=())
    for override in overrides:
        entries[override.key] = _Entry(override.value, override.spelling, "")

    return _StudyBuilder(entries).build(Path(name_or_path).stem)


def load_task(path: str) -> dict[str, Any]:
    """Yield the task table of a TOML file: its `[task]` table, or its keys if it has none.

    Raises:
        ConfigError: If the file cannot be read or is no TOML.
    """
    table = _parse_toml(_read_text(path), path)
    task = table.get("task", table)
    if not isinstance(task, dict):
        raise ConfigError(f"{path}: `task` must be a table, got {task!r}.")
    return task


def parse_setting(text: str) -> Override:
    """Yield the override that `KEY=VALUE` stands for; the value is TOML, or else a plain word.

    Raises:
        ConfigError: If there is no `=`.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"`--set` must look like KEY=VALUE, got {text!r}.")
    try:
        return Override(key, tomllib.loads(f"value = {value}")["value"], key)
    except tomllib.TOMLDecodeError:
        return Override(key, value.strip(), key)


def parse_budgets(text: str, name: str = "--budget") -> tuple[float, ...]:
    """Yield budgets as fractions, ascending, from points: `2`, `1,3,10` or `0:10:0.5`.

    Args:
        text: What the user wrote, percentage points.
        name: What the user calls it, for messages.

    Raises:
        ConfigError: If it cannot be parsed or a budget is outside [0, 100) points.
    """
    if text.count(":") == 2:
        start, stop, step = (_parse_points(part, name, text) for part in text.split(":"))
        if step <= 0 or stop < start:
            raise ConfigError(f"`{name}` START:STOP:STEP must go upwards, got {text!r}.")
        num_budgets = math.floor((stop - start) / step + 1e-9) + 1
        if num_budgets > MAX_BUDGETS:
            raise ConfigError(f"`{name}` has at most {MAX_BUDGETS} budgets, got {num_budgets}.")
        points = [start + i * step for i in range(num_budgets)]
    else:
        points = [_parse_points(part, name, text) for part in text.split(",")]
    return tuple(sorted({round(p / 100, 6) for p in points}))


def study_to_dict(config: StudyConfig) -> dict[str, Any]:
    """Yield a study as nested plain dictionaries, ready for JSON."""
    return to_dict(config)


def config_hash(config: StudyConfig) -> str:
    """Yield the hash of the recipe: all that decides what a trial yields.

    Caps, budgets, timeouts and the sampler are left out, so they may change between runs.
    """
    recipe = json.dumps(_recipe(study_to_dict(config)), sort_keys=True)
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def recipe_differences(stored: Mapping[str, Any], config: StudyConfig) -> list[str]:
    """Yield what differs between a stored recipe and `config`, one clause per key.

    Args:
        stored: What `study_to_dict` yielded when the study was made.
        config: The study as asked for now.
    """
    before, after = _recipe(stored), _recipe(study_to_dict(config))
    missing = "nothing"
    return [
        f"`{key}`: stored {before.get(key, missing)!r}, now {after.get(key, missing)!r}"
        for key in {**before, **after}
        if before.get(key, missing) != after.get(key, missing)
    ]


def _recipe(study: Mapping[str, Any]) -> dict[str, Any]:
    recipe = dict(_flatten(study.get("trainer", {}), "trainer."))
    recipe.pop("trainer.checkpoint_interval_s", None)  # changes what a crash costs, no result
    search = study.get("search", {})
    return {**recipe, **{f"search.{key}": search.get(key) for key in _SEARCH_RECIPE}}


_SEARCH_RECIPE = ("widths", "sparsities", "seed")


def _mistakes_of_axes(search: SearchConfig) -> Iterator[str]:
    for width in search.widths:
        if width < 1:
            yield f"`search.widths` must be at least 1, got {width}."
    for sparsity in search.sparsities:
        if not 0 <= sparsity < 1:
            yield f"`search.sparsities` must be in [0, 1), got {sparsity}."
    for name, values, needed in (
        ("widths", search.widths, 1),
        ("sparsities", search.sparsities, 0),
    ):
        shown = ", ".join(str(value) for value in values)
        if len(set(values)) < len(values):
            yield f"`search.{name}` must not repeat a value, got {shown}."
        if needed not in values:
            yield f"`search.{name}` must contain {needed}, the dense baseline's, got {shown}."


def _mistakes_of_limits(search: SearchConfig) -> Iterator[str]:
    if not search.budgets:
        yield "`search.budget` must name at least one budget."
    for budget in search.budgets:
        if not 0 <= budget < 1:
            yield f"`search.budget` must be in [0, 100) points, got {100 * budget:g}."
    if search.max_trials < 1:
        yield f"`search.max_trials` must be at least 1, got {search.max_trials}."
    if not 0 <= search.timeout_s < math.inf:
        yield f"`search.timeout_s` must be 0 (no limit) or more seconds, got {search.timeout_s}."
    if not 0 <= search.stop_chance < 1:
        yield f"`search.stop_chance` must be in [0, 1), got {search.stop_chance}."
    if not 0 <= search.stop_gain < math.inf:
        yield f"`search.stop_gain` must be 0 or more, got {search.stop_gain}."
    if search.seed < 0:
        yield f"`search.seed` must be 0 or more, got {search.seed}."


def _parse_points(part: str, name: str, text: str) -> float:
    try:
        points = float(part)
    except ValueError:
        raise ConfigError(
            f"`{name}` must be points such as 2, a list 1,3,10 or a range 0:10:0.5, got {text!r}."
        ) from None
    if not 0 <= points < 100:
        raise ConfigError(f"`{name}` must be in [0, 100) points, got {part.strip()}.")
    return points


@dataclass(frozen=True)
class _Entry:
    """A value with what is needed to speak of it."""

    value: object
    name: str
    """The key as the user wrote it."""
    file: str
    """The file it stands in; empty for an option."""

    def mistake(self, text: str) -> str:
        """Yield `text` about this entry, with its file."""
        return f"{self.file}: {text}" if self.file else text


def _read_entries(name_or_path: str, seen: tuple[str, ...]) -> dict[str, _Entry]:
    """Yield the flat entries of a study file on top of those it extends."""
    if name_or_path in seen:
        raise ConfigError(f"`extends` goes in a circle: {' -> '.join([*seen, name_or_path])}.")
    label, text = _find_study(name_or_path)
    table = _parse_toml(text, label)
    base = table.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(f"{label}: `extends` must be a preset's name or a path, got {base!r}.")

    entries: dict[str, _Entry] = {}
    if base is not None:
        if base.endswith(".toml"):
            base = str(Path(name_or_path).parent / base)
        entries = _read_entries(base, (*seen, name_or_path))
    entries.update({key: _Entry(value, key, label) for key, value in _flatten(table)})
    return entries


def _find_study(name_or_path: str) -> tuple[str, str]:
    """Yield a short name for messages and the text of a preset or a study file."""
    if name_or_path.endswith(".toml"):
        return name_or_path, _read_text(name_or_path)
    presets = {
        item.name.removesuffix(".toml"): item
        for item in resources.files("studies").iterdir()
        if item.name.endswith(".toml")
    }
    if name_or_path not in presets:
        known = ", ".join(sorted(presets))
        raise ConfigError(
            f"`--preset` {name_or_path!r} is unknown; "
            f"there are {known}, or give the path of a .toml file."
        )
    preset = presets[name_or_path]
    return preset.name, preset.read_text(encoding="utf-8")


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path} cannot be read: {reason}.") from error


def _parse_toml(text: str, label: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{label} is not valid TOML: {error}.") from error


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; the task stays one value, a name or a table."""
    for key, value in table.items():
        dotted = prefix + key
        if isinstance(value, Mapping) and dotted not in _WHOLE_KEYS:
            yield from _flatten(value, f"{dotted}.")
        else:
            yield dotted, value


_WHOLE_KEYS = ("task", "trainer.task")


def _schema(config_class: type, prefix: str) -> Iterator[tuple[str, Any, type]]:
    """Yield dotted key, type and owner of every plain field below a configuration class."""
    for name, hint in get_type_hints(config_class).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _schema(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint, config_class


class _StudyBuilder:
    """Builds a study from flat entries and collects the mistakes on the way."""

    def __init__(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries
        self._mistakes: list[str] = []
        known = [*_schema(SearchConfig, "search."), *_schema(TrainerConfig, "trainer.")]
        hidden = ("search.budgets", "trainer.task")  # written `search.budget` and `task`
        self._hints = {key: hint for key, hint, _ in known if key not in hidden}
        self._owners = {key: owner for key, _, owner in known}

    def build(self, preset: str) -> StudyConfig:
        """Yield the study.

        Raises:
            ConfigError: With all mistakes.
        """
        task = self._take_task()
        budgets = self._take_budgets()
        name = self._take_name(preset, task)
        values = self._check_values()
        search = self._make(SearchConfig, "search.", values, budgets)
        trainer = self._make(TrainerConfig, "trainer.", values, task)
        if self._mistakes:
            unique = list(dict.fromkeys(self._mistakes))
            raise ConfigError("\n".join(unique))

        return StudyConfig(name=name, search=search, trainer=trainer)

    def _take_name(self, preset: str, task: Mapping[str, Any]) -> str:
        entry = self._entries.pop("name", None)
        if entry is None:
            named = task.get("task", TrainerConfig.task)
            return f"{named.name if isinstance(named, TaskConfig) else named}-{preset}"
        if not isinstance(entry.value, str) or not entry.value.strip():
            self._mistakes.append(
                entry.mistake(f"`{entry.name}` must be a word, got {entry.value!r}.")
            )
        return str(entry.value)

    def _take_budgets(self) -> dict[str, Any]:
        entry = self._entries.pop("search.budget", None)
        if entry is None:
            return {}
        try:
            return {"budgets": parse_budgets(str(entry.value), entry.name)}
        except ConfigError as error:
            self._mistakes.append(entry.mistake(str(error)))
            return {}

    def _take_task(self) -> dict[str, Any]:
        entry = self._entries.pop("task", None)
        if entry is None:
            return {}
        if isinstance(entry.value, str):
            return {"task": entry.value}
        if not isinstance(entry.value, Mapping):
            self._mistakes.append(
                entry.mistake(f"`{entry.name}` must be a name or a table, got {entry.value!r}.")
            )
            return {}
        return self._make_task(entry, entry.value)

    def _make_task(self, entry: _Entry, table: Mapping[str, Any]) -> dict[str, Any]:
        hints = {f"task.{key}": hint for key, hint in get_type_hints(TaskConfig).items()}
        entries = {f"task.{k}": _Entry(v, f"task.{k}", entry.file) for k, v in table.items()}
        num_before = len(self._mistakes)
        values = {key: self._convert(key, item, hints) for key, item in entries.items()}
        self._mistakes.extend(
            entry.mistake(f"`{key}` is missing.")
            for key in ("task.name", "task.text_columns", "task.labels")
            if key not in values
        )
        if len(self._mistakes) > num_before:
            return {}
        try:
            return {"task": TaskConfig(**{k.removeprefix("task."): v for k, v in values.items()})}
        except TrainerConfigError as error:
            self._mistakes.append(entry.mistake(str(error)))
            return {}

    def _check_values(self) -> dict[str, Any]:
        """Yield the values that are right on their own, each tried with defaults for the rest."""
        values = {}
        for key, entry in self._entries.items():
            num_before = len(self._mistakes)
            value = self._convert(key, entry, self._hints)
            if len(self._mistakes) > num_before:
                continue
            try:
                self._owners[key](**{key.rpartition(".")[2]: value})
            except (TrainerConfigError, ConfigError) as error:
                self._mistakes.extend(
                    entry.mistake(re.sub("^`[^`]+`", f"`{entry.name}`", line))
                    for line in str(error).splitlines()
                )
            else:
                values[key] = value
        return values

    def _make(
        self, config_class: type, prefix: str, values: Mapping[str, Any], extra: Mapping[str, Any]
    ) -> Any:
        """Yield a configuration with its parts; None, and a mistake, if values contradict."""
        parts = dict(extra)
        for name, hint in get_type_hints(config_class).items():
            if isinstance(hint, type) and is_dataclass(hint):
                parts[name] = self._make(hint, f"{prefix}{name}.", values, {})
            elif prefix + name in values:
                parts[name] = values[prefix + name]
        try:
            return config_class(**parts)
        except (TrainerConfigError, ConfigError) as error:
            self._mistakes.append(str(error))
            return None

    def _convert(self, key: str, entry: _Entry, hints: Mapping[str, Any]) -> Any:
        if key not in hints:
            self._mistakes.append(entry.mistake(_unknown_key(entry.name, key, hints)))
            return None
        try:
            return _convert(entry.value, hints[key])
        except _WrongTypeError as error:
            text = f"`{entry.name}` must be {error}, got {entry.value!r}."
            self._mistakes.append(entry.mistake(text))
            return None


def _unknown_key(name: str, key: str, hints: Mapping[str, Any]) -> str:
    known = [*hints, "name", "task", "extends", "search.budget"]
    if any(other.startswith(f"{key}.") for other in known):
        return f"`{name}` must be a table."
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"`{name}` is unknown" + (f"; did you mean `{close[0]}`?" if close else ".")


class _WrongTypeError(Exception):
    """A value has the wrong type; the text says which is right."""


def _convert(value: object, hint: Any) -> Any:
    """Yield `value` as the type of a field, lists as tuples and whole numbers as floats."""
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise _WrongTypeError("one of " + ", ".join(get_args(hint)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _WrongTypeError(f"a list of {_PLURALS[get_args(hint)[0]]}")
        try:
            return tuple(_convert(item, get_args(hint)[0]) for item in value)
        except _WrongTypeError:
            raise _WrongTypeError(f"a list of {_PLURALS[get_args(hint)[0]]}") from None
    if origin in (Union, UnionType):
        hint = get_args(hint)[0]
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise _WrongTypeError(_SINGULARS[hint])
    return value


_SINGULARS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
