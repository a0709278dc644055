"""Write the two pages that are made from the code: `python docs/make_references.py`."""

import functools
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import griffe

from autoprumux.config import SearchConfig
from trainers.config import TaskConfig, TrainerConfig

DOCS = Path(__file__).parent

EXAMPLE = "\nExample:\n\n    "
"""An indented block is code in Markdown."""
NAMED = ("--name", "autoprumux")

CLI_HEAD = """# Commands

Made from the code by `python docs/make_references.py`. What search prints, the JSON and the exit
codes are in [index.md](index.md).

"""
STUDY_HEAD = """# Study files

Made from the code by `python docs/make_references.py`.

A study file is TOML with the keys `name` (in the database; by default `TASK-PRESET`), `task` (a
name or a table), `extends` (a preset, or a file beside this one, to start from) and the tables
below. Unknown keys, words and numbers out of range are refused, all of a file at once, before
anything is trained. `--set KEY=VALUE` replaces one key for one run, for example
`--set trainer.finetune.num_updates=200`. The whole resolved configuration is stored with the
study; a later run with another recipe is refused and told what differs.

```toml
extends = "minilm"

[search]
budget = "1,3"

[trainer.finetune]
num_updates = 4000
```

Defaults are those of a file that extends nothing; the presets in `studies/` replace some of them.

## `[search.hyperparameters]`

Keys of `trainer.prime`, `trainer.pretrain`, `trainer.narrow`, `trainer.finetune`,
`trainer.prune` and `trainer.finetune_pruned` that are searched together with N and s, each with a
list of values or, if it is a number, a range:

```toml
[search.hyperparameters]
trainer.finetune.learning_rate = [3e-4, 7e-4, 1.5e-3]
trainer.prune.layer_alignment = ["ordered", "free"]
trainer.prune.temperature = { low = 1.0, high = 4.0 }
trainer.prune.gate_learning_rate = { low = 0.05, high = 0.2, log = true }
trainer.prune.num_updates = { low = 200, high = 600, step = 200 }
```

The same on the command line:
`--set 'search.hyperparameters.trainer.prune.temperature={low=1.0, high=4.0}'`, and
`--set search.hyperparameters={}` leaves out those of the file. The study's own value, which stands
at the key itself, must be among the values: the dense baseline is trained with it. `log` searches
by factors, `step` makes a range a list; `--sampler grid` and `brute_force` need lists. Keys whose
values are lists themselves (`gates`, `ladder`) cannot be searched, nor can those of data, model
and measurement, which would change what is compared. How they are searched is in
[search.md](search.md#searched-hyperparameters).

"""
STANDS_ELSEWHERE = ("trainer.task",)
"""Fields that are no keys of their table: the task stands at the top of a study file."""
SPELT_OTHERWISE = {
    "search.budgets": (
        "budget",
        '"2"',
        "Accuracy-loss budgets in points: one, a list `1,3` or a range `0:10:0.5`.",
    ),
    "search.hyperparameters": (
        "hyperparameters",
        "{}",
        "Table of keys of the training phases that are searched with (N, s), see below.",
    ),
}
"""Fields that a study file spells in its own way: key, default and description."""


def commands_page() -> str:
    """Yield the page of commands, as typer writes it, examples as code."""
    made = subprocess.run(
        [sys.executable, "-m", "typer", "autoprumux.cli.main", "utils", "docs", *NAMED],
        capture_output=True,
        text=True,
        check=True,
        cwd=DOCS.parent,
    ).stdout
    body = made.split("\n", 1)[1].replace("\b\n", "").replace("\nExample:\n  ", EXAMPLE)
    lines = [line.rstrip() for line in body.replace("<", "&lt;").strip().splitlines()]
    return CLI_HEAD + "\n".join(lines) + "\n"


def study_files_page() -> str:
    """Yield the page of study-file keys, one table of a file after the other."""
    parts = [
        _section("search", "[search]", SearchConfig),
        _section("task", "[task]", TaskConfig),
        _section("trainer", "[trainer]", TrainerConfig),
    ]
    parts += [
        _section(f"trainer.{item.name}", f"[trainer.{item.name}]", type(item.default_factory()))
        for item in fields(TrainerConfig)
        if item.default_factory is not MISSING
    ]
    return STUDY_HEAD + "\n".join(parts)


def _section(prefix: str, title: str, config: type) -> str:
    """Yield the heading, the sentence and the table of keys of one configuration class."""
    documented = _griffe_class(config)
    assert documented.docstring is not None
    rows = [
        _row(prefix, item, get_type_hints(config)[item.name], config)
        for item in fields(config)
        if f"{prefix}.{item.name}" not in STANDS_ELSEWHERE and item.default_factory is MISSING
    ]
    head = [f"## `{title}`", "", documented.docstring.value, ""]
    return "\n".join([*head, "| key | default | meaning |", "|---|---|---|", *rows, ""])


def _row(prefix: str, item: Any, hint: object, config: type) -> str:
    key, default, meaning = SPELT_OTHERWISE.get(
        f"{prefix}.{item.name}",
        (item.name, _as_toml(item.default), _meaning(config, item.name)),
    )
    words = " ".join(meaning.split()).replace("|", "\\|")
    return f"| `{key}` | {default if default == '' else f'`{default}`'} | {words} |"


def _meaning(config: type, name: str) -> str:
    """Yield the docstring of a field, its own or that of the nearest class it comes from."""
    for owner in config.__mro__[:-1]:
        member = _griffe_class(owner).members.get(name)
        if member is not None and member.docstring is not None:
            return member.docstring.value
    raise LookupError(f"{config.__name__}.{name} has no docstring.")


@functools.cache
def _griffe_class(config: type) -> Any:
    return griffe.load(config.__module__, search_paths=[DOCS.parent])[config.__name__]


def _as_toml(value: object) -> str:
    """Yield a default as a study file spells it; empty if there is none."""
    if value is MISSING:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_as_toml(part) for part in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


PAGES = {"cli.md": commands_page, "study-files.md": study_files_page}


if __name__ == "__main__":
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
