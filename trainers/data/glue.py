"""GLUE-shaped data from local files or the Hub: columns and labels become examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.examples import Examples
from trainers.data.tables import READERS, Table, read_table
from trainers.data.tasks import Task
from trainers.errors import DataError

_TRAIN_NAMES = ("train",)
_VALIDATION_NAMES = ("dev", "validation", "dev_matched", "validation_matched")
_HUB_ID = "nyu-mll/glue"
_HUB_VALIDATION = {"mnli": "validation_matched"}
_NUM_LISTED = 8  # names in a message, so that it stays one line


def read_directory(directory: Path, task: Task) -> tuple[Examples, Examples]:
    """Yield the training and validation examples of a directory with `train` and `dev` files.

    The directory may also be the parent that holds one folder for each task, such as `SST-2`.

    Raises:
        DataError: If a file is missing, unreadable or malformed, or has columns or labels that
            the task doesn't know.
    """
    if not directory.is_dir():
        raise DataError(
            f"There is no directory `{directory}`. `--data` is `builtin`, `glue` or a directory "
            "with `train` and `dev` files."
        )
    folder = _find_folder(directory, task)
    train, validation = (_find_file(folder, names) for names in (_TRAIN_NAMES, _VALIDATION_NAMES))
    return _make_examples(read_table(train), task), _make_examples(read_table(validation), task)


def read_hub(task: Task) -> tuple[Examples, Examples]:
    """Yield the training and validation examples of the Hub's GLUE, downloaded or from its cache.

    Raises:
        DataError: If the task is not one of GLUE's, or the Hub cannot be reached.
    """
    if not task.directory:
        raise DataError(
            f"GLUE has no task `{task.name}`. Give a directory with your files (`--data DIR`)."
        )
    from datasets import load_dataset

    try:
        splits = load_dataset(_HUB_ID, task.name)
    except (OSError, ValueError) as error:  # ConnectionError is an OSError
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"GLUE could not be loaded from the Hub: {reason.rstrip('.')}. Check the network, or "
            "give a directory with GLUE's files (`--data DIR`), or take `--data builtin`."
        ) from error
    validation = splits[_HUB_VALIDATION.get(task.name, "validation")]
    train, validation = (_make_hub_table(split) for split in (splits["train"], validation))
    return _make_examples(train, task), _make_examples(validation, task)


def _find_folder(directory: Path, task: Task) -> Path:
    if not _matches(directory, _TRAIN_NAMES):
        for name in (task.directory, task.name):
            # A task's name may come from a stranger's study file.
            if (
                name not in ("", ".", "..")
                and Path(name).name == name
                and _is_folder(directory / name)
            ):
                return _require_inside(directory / name, directory)
    return directory


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, a null byte
        return False


def _require_inside(path: Path, folder: Path) -> Path:
    """Yield `path`; refuse a link that leads out of `folder`.

    Raises:
        DataError: If it leads out, or nowhere.
    """
    try:
        is_inside = path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise DataError(f"`{path}` cannot be read: it is a link that leads nowhere.") from error
    if not is_inside:
        raise DataError(
            f"`{path}` is a link that leads out of `{folder}`; put the file itself there, or name "
            "the directory that holds it."
        )
    return path


def _matches(directory: Path, names: Sequence[str]) -> list[Path]:
    try:
        paths = sorted(directory.iterdir())
    except OSError as error:
        raise DataError(f"`{directory}` cannot be read: {error.strerror or error}.") from error
    return [path for path in paths if path.stem in names and path.suffix in READERS]


def _find_file(directory: Path, names: Sequence[str]) -> Path:
    found = _matches(directory, names)
    if len(found) > 1:
        listed = " and ".join(f"`{path.name}`" for path in found)
        raise DataError(f"`{directory}` has {listed}; keep only one of them.")
    if not found:
        suffixes = ", ".join(READERS)
        raise DataError(
            f"`{directory}` has no `{names[0]}` file ({suffixes}); "
            f"it has {_list_names(sorted(path.name for path in directory.iterdir()))}."
        )
    return _require_inside(found[0], directory)


def _make_hub_table(split: Any) -> Table:
    columns = tuple(split.column_names)
    rows = list(zip(*(split[column] for column in columns), strict=True))
    return Table(Path(_HUB_ID), columns, rows, range(1, len(rows) + 1))


def _make_examples(table: Table, task: Task) -> Examples:
    columns = _find_columns(table, task)
    places = [table.columns.index(column) for column in columns]
    texts: list[tuple[str, ...]] = []
    labels = np.empty(len(table.rows), dtype=np.int64)
    for index, row in enumerate(table.rows):
        line = table.lines[index]
        values = [row[place] for place in places]
        for column, value in zip(columns, values, strict=True):
            if value is None:
                raise DataError(f"Line {line} of `{table.path}` has no `{column}`.")
        for column, value in zip(columns[:-1], values[:-1], strict=True):
            if not isinstance(value, str):
                raise DataError(
                    f"Line {line} of `{table.path}` must have text in `{column}`, got {value!r}."
                )
        texts.append(tuple(values[:-1]))
        labels[index] = _find_label(values[-1], task, table, line)
    return Examples(tuple(texts), labels)


def _find_columns(table: Table, task: Task) -> tuple[str, ...]:
    """Yield the text columns and the label column, as this file names them."""
    known = ((*task.text_columns, task.label_column), *task.other_columns)
    for columns in known:
        if set(columns) <= set(table.columns):
            return columns
    closest = max(known, key=lambda columns: len(set(columns) & set(table.columns)))
    missing = [column for column in closest if column not in table.columns]
    raise DataError(
        f"`{table.path}` lacks the column {_list_names(missing)} of task `{task.name}`; "
        f"it has {_list_names(table.columns)}."
    )


def _find_label(value: object, task: Task, table: Table, line: int) -> int:
    spelling = str(int(value)) if isinstance(value, bool) else str(value)
    if spelling not in task.spellings:
        raise DataError(
            f"Line {line} of `{table.path}` has the label {spelling[:40]!r}, which task "
            f"`{task.name}` doesn't know; it knows {_list_names(list(task.spellings))}."
        )
    return task.spellings[spelling]


def _list_names(names: Sequence[str]) -> str:
    listed = ", ".join(f"`{name[:40]}`" for name in names[:_NUM_LISTED])
    return (
        f"{listed} and {len(names) - _NUM_LISTED} more"
        if names[_NUM_LISTED:]
        else listed or "no file"
    )
