"""What a database of studies tells, without training.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.config import DEFAULT_STORAGE, parse_budgets

if TYPE_CHECKING:
    from autoprumux.answers import BudgetAnswer
    from autoprumux.records import StudyRecord


@dataclass(frozen=True, kw_only=True)
class QueryOutcome:
    """What the database answers."""

    study: "StudyRecord"
    answers: "tuple[BudgetAnswer, ...]"


def query(
    task: str | None = None,
    budget: str | None = None,
    *,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
) -> QueryOutcome:
    """Yield the best models per budget from the database alone; nothing is trained.

    Args:
        task: Takes the newest study of this task; None takes the newest of all.
        budget: Percentage points, see `search_task`; None means the budgets of the study.
        study: Takes the study of this name.
        storage: Database URL.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(budget)

    from autoprumux.answers import answer_budgets

    record = load_stored(storage, name=study, task=task)
    return QueryOutcome(study=record, answers=answer_budgets(record, budgets or record.budgets))


def report_task(
    task: str | None = None,
    budget: str | None = None,
    *,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    out: Path = Path("report.html"),
    png: Path | None = None,
) -> "StudyRecord":
    """Write one self-contained HTML page about a stored study, and yield the study.

    Args:
        task: Takes the newest study of this task; None takes the newest of all.
        budget: Percentage points, see `search_task`; None means the budgets of the study.
        study: Takes the study of this name.
        storage: Database URL.
        out: The page; a file that is there is replaced.
        png: If given, gets the measured front as a picture for a paper.

    Raises:
        UsageError: If a file cannot be written or a package that draws is not installed.
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(budget)

    from autoprumux.report.page.write import require_places, write_report
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    require_places(out, png)
    database = open_database(storage, must_exist=True)
    try:
        record = Repository(database).load_study(name=study, task=task)
    finally:
        database.close()
    write_report(record, budgets or record.budgets, database.url, out=out, png=png)
    return record


def load_stored(storage: str, *, name: str | None, task: str | None = None) -> "StudyRecord":
    """Yield the study of a name, or the newest of a task.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.storage.access import stored_rows
    from autoprumux.storage.reading import read_study

    with stored_rows(storage) as (rows, place):
        return read_study(rows, place, name, task)


def load_all_stored(storage: str) -> "list[StudyRecord]":
    """Yield every study of a database, see `load_stored`."""
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    database = open_database(storage, must_exist=True)
    try:
        repository = Repository(database)
        return [repository.load_study(study.name) for study in repository.list_studies()]
    finally:
        database.close()
