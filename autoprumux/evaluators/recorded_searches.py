"""The searches that make a recording again, from its header alone.

The recipe is the header's, the same for all of them; each of its commands tells a study's name,
grid and seed. Folders of the recording machine are not in the header, so they must be given.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from autoprumux.config import StudyConfig, flatten
from autoprumux.errors import UsageError
from autoprumux.evaluators.recording import Recording
from autoprumux.study_files import DEFAULT_PRESET, Override, load_study, parse_setting
from trainers.config import BUILTIN, TrainerConfig, to_dict

HUB = "glue"
"""The Hub's data, as `trainer.data.source` names them."""


@dataclass(frozen=True)
class _Source:
    """Where a part of the recipe comes from."""

    part: str
    option: str
    what: str
    """What the option names, for a message."""

    def is_known(self, stored: str) -> bool:
        """Yield whether `stored` says it on every machine."""
        is_hub_id = self.part == "model" and stored.count("/") == 1 and not stored.startswith("/")
        return stored == BUILTIN or is_hub_id or (self.part == "data" and stored == HUB)


_MODEL = _Source("model", "--model", "directory or Hugging Face id")
_SOURCES = (_Source("data", "--data", "directory"), _MODEL)


def searches_of(
    recording: Recording, *, data: str | None = None, model: str | None = None
) -> tuple[StudyConfig, ...]:
    """Yield the studies of a recording, in the order of its commands.

    Args:
        recording: With its header.
        data: Takes the place of the recipe's `data.source`, whose folder is not recorded.
        model: Takes the place of its `model.source`.

    Raises:
        UsageError: If a folder is missing, or given where the recording needs none; or if the
            header's commands tell no study.
        ConfigError: If this version of the program does not understand the recipe.
    """
    if not recording.commands:
        raise UsageError(f"The recording `{recording.name}` names no command that made it.")
    given = {"data": data, "model": model}
    changed = {s.part: _source_of(recording, s, given[s.part]) for s in _SOURCES}
    recipe = [*_recipe_of(recording, changed)]
    return tuple(_search_of(recording, command, recipe) for command in recording.commands)


def model_source(recording: Recording, given: str | None) -> str:
    """Yield the directory or id of a recording's weights on this machine; see `searches_of`."""
    return _source_of(recording, _MODEL, given)


def _source_of(recording: Recording, source: _Source, given: str | None) -> str:
    """Yield where a part of the recipe comes from on this machine."""
    table = recording.trainer.get(source.part)
    stored = str(table.get("source", BUILTIN)) if isinstance(table, Mapping) else BUILTIN
    if given is None and not source.is_known(stored):
        raise UsageError(
            f"The recording `{recording.name}` was made with the {source.part} `{stored}`, whose "
            f"folder is not recorded. Give its {source.what} with `{source.option}`."
        )
    if given is not None and stored == BUILTIN:
        raise UsageError(
            f"The recording `{recording.name}` was made with the built-in {source.part}. Leave "
            f"out `{source.option}` {given}."
        )
    return stored if given is None else given


def _recipe_of(recording: Recording, sources: Mapping[str, str]) -> Iterator[Override]:
    """Yield the whole recipe; keys that came later have the values that they had before."""
    recipe: dict[str, Any] = dict(flatten(to_dict(TrainerConfig()), "trainer."))
    recipe |= dict(flatten(recording.trainer, "trainer."))
    yield Override("task", recipe.pop("trainer.task", recording.task), "task")
    for key, value in recipe.items():
        if value is not None:
            yield Override(key, value, key)
    for part, source in sources.items():
        yield Override(f"trainer.{part}.source", source, f"--{part}")


def _search_of(recording: Recording, command: str, recipe: list[Override]) -> StudyConfig:
    """Yield the study of a command; of its settings those of the search count."""
    words = _words_of(recording, command)
    options = dict(pairwise(words))
    if "--study" not in options:
        raise UsageError(
            f"The recording `{recording.name}` has a command without `--study`: {command:.80}"
        )
    settings = [parse_setting(text) for flag, text in pairwise(words) if flag == "--set"]
    search = [setting for setting in settings if setting.key.startswith("search.")]
    name = Override("name", options["--study"], "--study")
    return load_study(DEFAULT_PRESET, [*recipe, *search, name])


def _words_of(recording: Recording, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:  # a quotation mark without its other
        raise UsageError(
            f"The recording `{recording.name}` has a command that is none ({error}): {command:.80}"
        ) from error
