"""The one table of tasks: their columns, classes and spellings."""

from collections.abc import Mapping
from dataclasses import dataclass

from trainers.config import TaskConfig
from trainers.errors import DataError


@dataclass(frozen=True)
class Task:
    """A classification of one text or of a pair of texts."""

    name: str
    """Word used in the database and in print."""
    text_columns: tuple[str, ...]
    """One or two column names, in the order in which the model reads the texts."""
    label_column: str
    """Column that holds the label."""
    labels: tuple[str, ...]
    """Names of the classes, in the order of the class ids."""
    spellings: Mapping[str, int]
    """Class id of every way that the files spell a label."""
    directory: str = ""
    """Folder of the task in a directory that holds several, for example `SST-2`."""
    other_columns: tuple[tuple[str, ...], ...] = ()
    """Other spellings of text columns and label column that files have, tried in this order."""


def _make_task(
    name: str,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    directory: str,
    *other_columns: tuple[str, ...],
) -> Task:
    spellings = {label: index for index, label in enumerate(labels)}
    spellings |= {str(index): index for index in range(len(labels))}
    return Task(name, columns, "label", labels, spellings, directory, other_columns)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _make_task(
            "mnli",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            "MNLI",
            ("sentence1", "sentence2", "gold_label"),
            ("sentence1", "sentence2", "label"),
        ),
        _make_task("qnli", ("question", "sentence"), ("entailment", "not_entailment"), "QNLI"),
        _make_task(
            "qqp",
            ("question1", "question2"),
            ("not_duplicate", "duplicate"),
            "QQP",
            ("question1", "question2", "is_duplicate"),
        ),
        _make_task("sst2", ("sentence",), ("negative", "positive"), "SST-2"),
    )
}
"""The four named tasks by name; columns as in the Hub's `nyu-mll/glue`."""


def find_task(task: str | TaskConfig) -> Task:
    """Yield the task of this name, or the user's own as a `Task`.

    Raises:
        DataError: If the name is not in `TASKS`.
    """
    if isinstance(task, TaskConfig):
        spellings = {label: index for index, label in enumerate(task.labels)}
        return Task(task.name, task.text_columns, task.label_column, task.labels, spellings)
    if task not in TASKS:
        known = ", ".join(f"`{name}`" for name in TASKS)
        raise DataError(
            f"The task `{task}` is unknown. Choose one of {known}, or describe your own in a "
            "`[task]` table of a study file."
        )
    return TASKS[task]
