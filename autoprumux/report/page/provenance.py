"""Where the numbers come from: data, seeds, hardware, versions, configuration, commands."""

import json
import platform
import re
import shlex
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from autoprumux.answers import BudgetAnswer
from autoprumux.config import flatten
from autoprumux.records import StudyRecord
from autoprumux.report.answers import ASK_FURTHER, EXPORT_TO

STUDY_FILE = "study.toml"
"""Name under which the commands expect the study file of the page."""


def facts(study: StudyRecord) -> list[tuple[str, str]]:
    """Yield names and values about the study and this page."""
    return [
        ("study", study.name),
        ("task", study.task),
        ("data fingerprint", study.data_fingerprint),
        ("seed of the study", str(study.seed)),
        ("hash of the recipe", study.config_hash),
        (
            "page made by",
            f"autoprumux {version('autoprumux')}, Python {platform.python_version()}",
        ),
    ]


def conditions(study: StudyRecord) -> list[tuple[str, str]]:
    """Yield what the measurements were made with; a value that changed names its trials."""
    by_name: dict[str, dict[str, list[int]]] = {}
    for trial in study.trials:
        if trial.measurement is None:
            continue
        speed = trial.measurement.throughput
        words = dict(trial.measurement.environment) | {
            "timed on": speed.device,
            "number type": speed.dtype,
            "tokens in a sequence": str(speed.length),
            "groups in a batch": str(speed.batch_size),
            "threads while timed": str(speed.num_threads),
            "timed repeats": str(speed.num_repeats),
            "validation examples": str(trial.measurement.num_examples),
        }
        for name, value in words.items():
            by_name.setdefault(name, {}).setdefault(value, []).append(trial.number)
    return [(name.replace("_", " "), _values(numbers)) for name, numbers in by_name.items()]


def study_file(study: StudyRecord) -> str:
    """Yield the resolved configuration as a study file that makes the same study again."""
    search = dict(_table(study.config, "search"))
    trainer = dict(_table(study.config, "trainer"))
    budgets = search.pop("budgets", study.budgets)
    task = trainer.pop("task", study.task)
    points = ",".join(f"{round(100 * budget, 4):g}" for budget in budgets)
    entries = {"name": study.name, "task": task, "search.budget": points}
    entries |= dict(flatten(search, "search.")) | dict(flatten(trainer, "trainer."))
    lines = [
        f"{_toml_key(key)} = {_toml(value)}" for key, value in entries.items() if value is not None
    ]
    return "\n".join(lines) + "\n"


def commands(study: StudyRecord, storage: str, budget: float | None) -> list[str]:
    """Yield the commands that go on with the study, ask it, export, and make this page again.

    Args:
        study: The study.
        storage: Database URL without passwords.
        budget: Whose answer is exported, a fraction; None leaves the export out.
    """
    points = [] if budget is None else ["--budget", f"{round(100 * budget, 4):g}"]
    export = ["export", "--storage", storage, "--study", study.name, *points, "--out", EXPORT_TO]
    place = ["--storage", storage]
    name = ["--study", study.name]
    return [
        shlex.join(["autoprumux", *words])
        for words in (
            ["search", "--preset", STUDY_FILE, *place],
            ["query", *place, *name, "--budget", ASK_FURTHER],
            *([export] if points else []),
            ["report", *place, *name, "--out", "report.html"],
        )
    ]


def loosest_met(answers: Iterable[BudgetAnswer]) -> float | None:
    """Yield the loosest of some budgets that a measured model meets, if there is one."""
    return max((answer.budget for answer in answers if answer.is_met), default=None)


def _table(config: Mapping[str, object], name: str) -> Mapping[str, Any]:
    table = config.get(name)
    return table if isinstance(table, Mapping) else {}


def _values(numbers: Mapping[str, list[int]]) -> str:
    if len(numbers) == 1:
        return next(iter(numbers))
    return "; ".join(f"{value} (trials {_ranges(trials)})" for value, trials in numbers.items())


def _ranges(numbers: list[int]) -> str:
    """Yield ascending numbers as `0-3, 7`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(str(end) for end in run) for run in runs)


def _toml(value: object) -> str:
    """Yield a value in TOML, which shares with JSON all but tables."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_word(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    """Yield a dotted key; its parts may be any text in a stranger's database."""
    return ".".join(map(_toml_word, key.split(".")))


def _toml_word(word: object) -> str:
    text = str(word)
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else _toml(text)
