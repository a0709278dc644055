"""Configuration of a study: its search, its recipe, and what makes two recipes the same."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autoprumux.errors import ConfigError
from autoprumux.hyperparameters import RANGE_KEYS, TABLE, Hyperparameter, require_own
from trainers.config import TrainerConfig, added_defaults, to_dict

DEFAULT_STORAGE = "sqlite:///autoprumux.db"
"""Database of a command that names none."""

MAX_BUDGETS = 1001
"""More budgets than a range of points in steps of 0.1 has are a typing mistake."""

MAX_WIDTH, MAX_CANDIDATES = 1000, 10_000
"""A width and a grid beyond all that is published, tens, by far; more would only be slow."""


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
    trial_timeout_s: float = 0.0
    """Seconds after which a trial counts as failed; 0 means no limit."""
    max_attempts: int = 3
    """Processes that may die in a trial, or fail to read its data, before it counts as failed."""
    sampler: Literal[
        "performance_model", "random", "grid", "tpe", "gp", "nsga2", "brute_force"
    ] = "performance_model"
    """Who chooses the next candidate: the performance model, a `random` order, that of the `grid`,
    or Optuna's sampler of that name."""
    stop_chance: float = 0.05
    """The search stops when no candidate has a higher chance of beating the verified best."""
    stop_gain: float = 0.05
    """Share by which a candidate must beat the verified best to count."""
    learn_from_others: bool = True
    """True takes studies of other tasks with the same model in the database as a prior;
    docs/search.md."""
    calibrate: bool = False
    """True times a few untrained models for at most two minutes before the first trial, unless
    that has been done for this model and setting; docs/search.md."""
    stop_hopeless: bool = True
    """True stops a trial that cannot meet the loosest budget any more; docs/search.md."""
    seed: int = 0
    """Seed of the choices and of the trainings."""
    hyperparameters: tuple[Hyperparameter, ...] = ()
    """Keys of the training phases that are searched with (N, s), each with a list of values or a
    range; docs/search.md."""

    def __post_init__(self) -> None:
        mistakes = [
            *_mistakes_of_axes(self),
            *_mistakes_of_budgets(self),
            *_mistakes_of_limits(self),
            *_mistakes_of_sampler(self),
        ]
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
        require_own(self.search.hyperparameters, self.trainer)


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
            raise ConfigError(f"`{name}` START:STOP:STEP must go upwards, got {text[:80]!r}.")
        num_steps = (stop - start) / step  # infinite if the step is tiny
        if num_steps + 1 > MAX_BUDGETS:
            shown = f"{num_steps + 1 + 1e-9:.0f}" if num_steps < 1e9 else f"{text[:80]!r}"
            raise ConfigError(f"`{name}` has at most {MAX_BUDGETS} budgets, got {shown}.")
        points = [start + i * step for i in range(math.floor(num_steps + 1e-9) + 1)]
    else:
        if text.count(",") >= MAX_BUDGETS:
            num_budgets = text.count(",") + 1
            raise ConfigError(f"`{name}` has at most {MAX_BUDGETS} budgets, got {num_budgets}.")
        points = [_parse_points(part, name, text) for part in text.split(",")]
    return tuple(sorted({round(p / 100, 6) for p in points}))


def study_to_dict(config: StudyConfig) -> dict[str, Any]:
    """Yield a study as nested plain dictionaries, ready for JSON."""
    study = to_dict(config)
    searched = {h.key: h.spelling() for h in config.search.hyperparameters}
    del study["search"]["hyperparameters"]
    if searched:  # studies without any are stored as before there were such
        study["search"]["hyperparameters"] = searched
    return study


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
    recipe = dict(flatten(study.get("trainer", {}), "trainer."))
    for key in _NO_RECIPE:
        recipe.pop(key, None)
    if recipe.get(_WIDENING, "keys") == "keys":  # as all studies before there was a choice
        recipe.pop(_WIDENING, None)
        recipe = {key: v for key, v in recipe.items() if not key.startswith("trainer.narrow.")}
    if not recipe.get(_STRETCH):  # as all studies before there was a choice
        recipe.pop(_STRETCH, None)
    recipe = without_added(recipe)
    search = study.get("search", {})
    searched = dict(flatten(search.get("hyperparameters", {}), f"{TABLE}."))
    return {**recipe, **{f"search.{key}": search.get(key) for key in _SEARCH_RECIPE}, **searched}


def without_added(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Yield a flat recipe as it was stored before options were added that are at their default."""
    unused = {f"trainer.{key}": value for key, value in added_defaults()}
    return {k: v for k, v in recipe.items() if k not in unused or unused[k] != v}


_NO_RECIPE = ("trainer.checkpoint_interval_s", "trainer.num_parts")
"""What a crash costs and how much memory is needed; neither decides a result."""

_WIDENING = "trainer.model.widening"
"""With `keys` no narrow model is trained, so that its recipe decides nothing."""

_STRETCH = "trainer.finetune_pruned.stretch"

_SEARCH_RECIPE = ("widths", "sparsities", "seed")


def _mistakes_of_axes(search: SearchConfig) -> Iterator[str]:
    num_candidates = len(search.widths) * len(search.sparsities)
    if num_candidates > MAX_CANDIDATES:
        yield (
            f"`search.widths` times `search.sparsities` must be at most {MAX_CANDIDATES} "
            f"candidates, got {num_candidates}."
        )
        return
    for width in search.widths:
        if not 1 <= width <= MAX_WIDTH:
            rule = "at least 1" if width < 1 else f"at most {MAX_WIDTH}"
            yield f"`search.widths` must be {rule}, got {width}."
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


def _mistakes_of_budgets(search: SearchConfig) -> Iterator[str]:
    if not search.budgets:
        yield "`search.budget` must name at least one budget."
    for budget in search.budgets:
        if not 0 <= budget < 1:
            yield f"`search.budget` must be in [0, 100) points, got {100 * budget:g}."


def _mistakes_of_limits(search: SearchConfig) -> Iterator[str]:
    for name in ("max_trials", "max_attempts"):
        if (number := getattr(search, name)) < 1:
            yield f"`search.{name}` must be at least 1, got {number}."
    for name in ("timeout_s", "trial_timeout_s"):
        if not 0 <= (seconds := getattr(search, name)) < math.inf:
            yield f"`search.{name}` must be 0 (no limit) or more seconds, got {seconds}."
    if not 0 <= search.stop_chance < 1:
        yield f"`search.stop_chance` must be in [0, 1), got {search.stop_chance}."
    if not 0 <= search.stop_gain < math.inf:
        yield f"`search.stop_gain` must be 0 or more, got {search.stop_gain}."
    if search.seed < 0:
        yield f"`search.seed` must be 0 or more, got {search.seed}."


def _mistakes_of_sampler(search: SearchConfig) -> Iterator[str]:
    endless = [h.key for h in search.hyperparameters if h.listed is None]
    if endless and search.sampler in ("grid", "brute_force"):
        yield (
            f"`{TABLE}.{endless[0]}` needs a list or a range with `step`, since "
            f"`search.sampler` = `{search.sampler}` tries all values."
        )


def _parse_points(part: str, name: str, text: str) -> float:
    try:
        points = float(part)
    except ValueError:
        raise ConfigError(
            f"`{name}` must be points such as 2, a list 1,3,10 or a range 0:10:0.5, "
            f"got {text[:80]!r}."
        ) from None
    if not 0 <= points < 100:
        raise ConfigError(f"`{name}` must be in [0, 100) points, got {part.strip()[:80]}.")
    return points


def flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; the task, a name or a table, and ranges stay one value."""
    for key, value in table.items():
        dotted = prefix + key
        if isinstance(value, Mapping) and not _is_whole(dotted, value):
            yield from flatten(value, f"{dotted}.")
        else:
            yield dotted, value


def _is_whole(key: str, value: Mapping[str, Any]) -> bool:
    is_range = key.startswith(f"{TABLE}.") and any(name in value for name in RANGE_KEYS)
    return key in _WHOLE_KEYS or is_range


_WHOLE_KEYS = ("task", "trainer.task")
