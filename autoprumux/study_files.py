"""Study files: TOML, completed by options and checked in full before any work.

A study file has the keys `name`, `task` (a name or a table), `extends` (a preset or a file to
start from) and the tables `[search]` and `[trainer]`, whose keys are the fields of `SearchConfig`
and `TrainerConfig`; `search.budget` is written in points, and the table `[search.hyperparameters]`
has the keys of `[trainer]` that are searched.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from autoprumux.config import SearchConfig, StudyConfig, flatten, parse_budgets
from autoprumux.errors import ConfigError
from autoprumux.hyperparameters import TABLE, Hyperparameter, make_hyperparameter
from autoprumux.records import StudyRecord
from autoprumux.toml_text import TooLargeError, load_toml, parse_toml, read_text, shown
from autoprumux.typed_values import WrongTypeError, typed
from trainers.config import TaskConfig, TrainerConfig
from trainers.errors import ConfigError as TrainerConfigError

MAX_FILES = 16
"""Files that extend each other."""

DEFAULT_PRESET = "embedded"
"""Preset of a search that names none."""


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
        _replace(entries, override)

    return _StudyBuilder(entries).build(Path(name_or_path).stem)


def stored_study(record: StudyRecord, *, only: Sequence[str] = ()) -> StudyConfig:
    """Yield the configuration that a database holds for a study.

    Args:
        record: The study.
        only: Tables to read, such as `trainer.model`. All else stays at its defaults, and keys
            that this version of the program does not know are passed over, as when only the speed
            of models matters. Without it, everything is read.

    Raises:
        ConfigError: If this version of the program does not understand it.
    """
    search, trainer = (_stored_table(record, key) for key in ("search", "trainer"))
    values: dict[str, object] = {"name": record.name, "task": trainer.pop("task", record.task)}
    points = search.pop("budgets", record.budgets)
    values["search.budget"] = ",".join(f"{100 * budget:.12g}" for budget in points)
    values |= dict(flatten(search, "search.")) | dict(flatten(trainer, "trainer."))
    label = f"the stored configuration of study `{record.name}`"
    entries = {key: _Entry(v, key, label) for key, v in values.items() if v is not None}
    if only:
        known = _known_keys()
        entries = {
            key: entry
            for key, entry in entries.items()
            if key in known and key.startswith(tuple(f"{table}." for table in only))
        }
    return _StudyBuilder(entries).build(record.name)


def load_task(path: str) -> dict[str, Any]:
    """Yield the task table of a TOML file: its `[task]` table, or its keys if it has none.

    Raises:
        ConfigError: If the file cannot be read or is no TOML.
    """
    table = parse_toml(read_text(path), path)
    task = table.get("task", table)
    if not isinstance(task, dict):
        raise ConfigError(f"{path}: `task` must be a table, got {shown(task)}.")
    return task


def parse_setting(text: str) -> Override:
    """Yield the override that `KEY=VALUE` stands for; the value is TOML, or else a plain word.

    Raises:
        ConfigError: If there is no `=`.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"`--set` must look like KEY=VALUE, got {shown(text)}.")
    try:
        return Override(key, load_toml(f"value = {value}")["value"], key)
    except tomllib.TOMLDecodeError:
        return Override(key, value.strip(), key)
    except TooLargeError as error:
        raise ConfigError(f"`--set` {shown(key)} cannot be used: {error}.") from error


def _replace(entries: dict[str, "_Entry"], override: Override) -> None:
    """Put an override's value in the place of the file's; a table of hyperparameters is whole."""
    if override.key != TABLE or not isinstance(override.value, Mapping):
        entries[override.key] = _Entry(override.value, override.spelling, "")
        return
    for key in [key for key in entries if key.startswith(f"{TABLE}.")]:
        del entries[key]
    for key, value in flatten(override.value, f"{TABLE}."):
        entries[key] = _Entry(value, key, "")


def _stored_table(record: StudyRecord, key: str) -> dict[str, Any]:
    table = record.config.get(key)
    return dict(table) if isinstance(table, Mapping) else {}


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
    if len(seen) >= MAX_FILES:
        raise ConfigError(f"`extends` goes through more than {MAX_FILES} files.")
    label, text = _find_study(name_or_path)
    table = parse_toml(text, label)
    base = table.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ConfigError(
            f"{label}: `extends` must be a preset's name or a path, got {shown(base)}."
        )

    entries: dict[str, _Entry] = {}
    if base is not None:
        if base.endswith(".toml"):
            base = _file_beside(name_or_path, base)
        entries = _read_entries(base, (*seen, name_or_path))
    entries.update({key: _Entry(value, key, label) for key, value in flatten(table)})
    return entries


def _file_beside(path: str, name: str) -> str:
    """Yield the path of the file that a study file extends; it may not leave its folder."""
    folder = Path(path).parent
    try:
        is_inside = (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a loop of links, a null byte
        is_inside = False
    if not is_inside:
        raise ConfigError(
            f"{path}: `extends` must name a preset or a file in the folder of this one, "
            f"got {shown(name)}."
        )
    return str(folder / name)


def preset_names() -> list[str]:
    """Yield the names of the presets that come with the package, sorted."""
    names = (item.name for item in resources.files("studies").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def _find_study(name_or_path: str) -> tuple[str, str]:
    """Yield a short name for messages and the text of a preset or a study file."""
    if name_or_path.endswith(".toml"):
        return name_or_path, read_text(name_or_path)
    known_names = preset_names()
    if name_or_path not in known_names:
        known = ", ".join(known_names)
        raise ConfigError(
            f"`--preset` {name_or_path!r} is unknown; "
            f"there are {known}, or give the path of a .toml file."
        )
    preset = resources.files("studies") / f"{name_or_path}.toml"
    return preset.name, preset.read_text(encoding="utf-8")


def _schema(config_class: type, prefix: str) -> Iterator[tuple[str, Any, type]]:
    """Yield dotted key, type and owner of every plain field below a configuration class."""
    for name, hint in get_type_hints(config_class).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _schema(hint, f"{prefix}{name}.")
        else:
            yield prefix + name, hint, config_class


def _known_keys() -> dict[str, tuple[Any, type]]:
    """Yield type and owner of every key below `search` and `trainer`."""
    known = [*_schema(SearchConfig, "search."), *_schema(TrainerConfig, "trainer.")]
    # These are written `search.budget`, `task` and as a table of their own.
    hidden = ("search.budgets", "trainer.task", TABLE)
    return {key: (hint, owner) for key, hint, owner in known if key not in hidden}


class _StudyBuilder:
    """Builds a study from flat entries and collects the mistakes on the way."""

    def __init__(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries
        self._mistakes: list[str] = []
        known = _known_keys()
        self._hints = {key: hint for key, (hint, _) in known.items()}
        self._owners = {key: owner for key, (_, owner) in known.items()}

    def build(self, preset: str) -> StudyConfig:
        """Yield the study.

        Raises:
            ConfigError: With all mistakes.
        """
        task = self._take_task()
        budgets = self._take_budgets()
        name = self._take_name(preset, task)
        searched = self._take_searched()
        values = self._check_values()
        trainer = self._make(TrainerConfig, "trainer.", values, task)
        hyperparameters = {"hyperparameters": self._hyperparameters(searched, trainer)}
        search = self._make(SearchConfig, "search.", values, budgets | hyperparameters)
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
                entry.mistake(f"`{entry.name}` must be a word, got {shown(entry.value)}.")
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

    def _take_searched(self) -> dict[str, _Entry]:
        """Yield the entries of the table of hyperparameters by the key that they replace."""
        prefix = f"{TABLE}."
        keys = [key for key in self._entries if key.startswith(prefix)]
        entry = self._entries.pop(TABLE, None)
        if entry is not None:
            self._mistakes.append(
                entry.mistake(f"`{entry.name}` must be a table, got {entry.value!r}.")
            )
        return {key.removeprefix(prefix): self._entries.pop(key) for key in keys}

    def _hyperparameters(
        self, searched: Mapping[str, _Entry], trainer: TrainerConfig | None
    ) -> tuple[Hyperparameter, ...]:
        """Yield what is searched; nothing while there are mistakes in the recipe."""
        found = []
        for key, entry in searched.items() if trainer is not None else ():
            try:
                assert trainer is not None
                found.append(make_hyperparameter(key, entry.value, trainer))
            except ConfigError as error:
                self._mistakes.append(entry.mistake(str(error)))
        return tuple(sorted(found, key=lambda h: h.key))

    def _take_task(self) -> dict[str, Any]:
        entry = self._entries.pop("task", None)
        if entry is None:
            return {}
        if isinstance(entry.value, str):
            return {"task": entry.value}
        if not isinstance(entry.value, Mapping):
            self._mistakes.append(
                entry.mistake(
                    f"`{entry.name}` must be a name or a table, got {shown(entry.value)}."
                )
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
            return typed(entry.value, hints[key])
        except WrongTypeError as error:
            text = f"`{entry.name}` must be {error}, got {shown(entry.value)}."
            self._mistakes.append(entry.mistake(text))
            return None


def _unknown_key(name: str, key: str, hints: Mapping[str, Any]) -> str:
    known = [*hints, "name", "task", "extends", "search.budget"]
    if any(other.startswith(f"{key}.") for other in known):
        return f"`{name}` must be a table."
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"`{name}` is unknown" + (f"; did you mean `{close[0]}`?" if close else ".")
