"""What the shell offers after an option; each is asked with the text typed so far.

Completions must never fail or print, so whatever goes wrong there are none.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from autoprumux.config import DEFAULT_STORAGE
from autoprumux.study_files import preset_names

TASKS = ("mnli", "qnli", "qqp", "sst2")
"""The named tasks."""


def tasks(incomplete: str) -> list[str]:
    """Yield the named tasks and the files that may describe one."""
    return _fitting([*TASKS, *_toml_files(incomplete)], incomplete)


def presets(incomplete: str) -> list[str]:
    """Yield the presets and the files that may be a study's."""
    return _fitting([*preset_names(), *_toml_files(incomplete)], incomplete)


def stored_tasks(context: typer.Context, incomplete: str) -> list[str]:
    """Yield the tasks of the studies in the database of the command line."""
    return _fitting(dict.fromkeys(task for _, task in _stored(context)), incomplete)


def stored_studies(context: typer.Context, incomplete: str) -> list[str]:
    """Yield the names of these studies."""
    return _fitting([name for name, _ in _stored(context)], incomplete)


def _fitting(values: Iterable[str], incomplete: str) -> list[str]:
    return [value for value in values if value.startswith(incomplete)]


def _toml_files(incomplete: str) -> Iterator[str]:
    """Yield the TOML files and the folders that begin with the text, none for no text."""
    if not incomplete:
        return
    folder, slash, start = incomplete.rpartition("/")
    with contextlib.suppress(OSError):
        for path in sorted(Path(folder or slash or ".").iterdir()):
            if path.name.startswith(start) and (path.is_dir() or path.suffix == ".toml"):
                yield f"{folder}{slash}{path.name}{'/' if path.is_dir() else ''}"


def _stored(context: typer.Context) -> list[tuple[str, str]]:
    """Yield names and tasks of the studies in the database, none if it cannot be read."""
    with contextlib.suppress(Exception):
        from autoprumux.storage.database import open_database
        from autoprumux.storage.repository import Repository

        storage = context.params.get("storage") or DEFAULT_STORAGE
        database = open_database(storage, must_exist=True)
        try:
            return [(study.name, study.task) for study in Repository(database).list_studies()]
        finally:
            database.close()
    return []
