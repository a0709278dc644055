"""What a database of studies tells, without training.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprumux.config import DEFAULT_STORAGE, parse_budgets

if TYPE_CHECKING:
    from autoprumux.answers import BudgetAnswer
    from autoprumux.hardware import StudyOnHardware
    from autoprumux.records import DeviceProfile, StudyRecord
    from trainers.config import TrainerConfig


@dataclass(frozen=True, kw_only=True)
class QueryOutcome:
    """What the database answers."""

    study: "StudyRecord"
    """With the speeds that the answers rest on; its trials come without phases and runners-up, and
    their environments with the processor alone (`prumux_phases` and others hold the rest)."""
    answers: "tuple[BudgetAnswer, ...]"
    hardware: "StudyOnHardware | None" = None
    """Whose speeds these are; None: those that its trials were measured with."""


def query(
    task: str | None = None,
    budget: str | float | Sequence[float] | None = None,
    *,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    confidence: float | None = None,
    device_profile: str | None = None,
    batch_size: int | None = None,
    length: int | None = None,
) -> QueryOutcome:
    """Yield the best models per budget from the database alone; nothing is trained.

    Args:
        task: Takes the newest study of this task; None takes the newest of all.
        budget: Percentage points: a number, several, or a text as for `search_task`; None means
            the budgets of the study.
        study: Takes the study of this name.
        storage: Database URL.
        confidence: Least chance, in (0.5, 1), that the true loss of a model is within a budget;
            None: measured losses decide.
        device_profile: Hardware whose stored or calibrated speeds count, see `bench`.
        batch_size: Groups in a batch; takes stored speeds of this setting.
        length: Tokens in a sequence; takes stored speeds of this setting.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(_as_text(budget))

    from autoprumux.answers import answer_budgets
    from autoprumux.hardware import choose_profile, study_on
    from autoprumux.storage import reading
    from autoprumux.storage.access import stored_rows
    from autoprumux.storage.calibrations import with_calibrations

    hardware = None
    with stored_rows(storage) as (rows, place):
        record = reading.read_study(rows, place, study, task, is_brief=True)
        record = with_calibrations(rows, record)
        if (device_profile, batch_size, length) != (None, None, None):
            profile = choose_profile(
                record,
                reading.read_profiles(rows),
                name=device_profile,
                batch_size=batch_size,
                length=length,
            )
            if profile is not None:
                stored = reading.read_profile_throughputs(rows, record.name, profile.name)
                calibrations = reading.read_calibrations(rows, profile.name)
                hardware = study_on(record, profile, stored, calibrations)
                record = hardware.study
    answers = answer_budgets(
        record,
        budgets or record.budgets,
        confidence=confidence,
        predicted_speeds=frozenset() if hardware is None else hardware.predicted,
    )
    return QueryOutcome(study=record, answers=answers, hardware=hardware)


def list_profiles(storage: str = DEFAULT_STORAGE) -> "list[DeviceProfile]":
    """Yield the device profiles of a database by name.

    Raises:
        AutoPrumuxError: See `autoprumux.errors`.
    """
    from autoprumux.storage.access import stored_rows
    from autoprumux.storage.reading import read_profiles

    with stored_rows(storage) as (rows, _):
        return read_profiles(rows)


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
    from autoprumux.storage.calibrations import with_calibrations
    from autoprumux.storage.reading import read_study

    with stored_rows(storage) as (rows, place):
        return with_calibrations(rows, read_study(rows, place, name, task))


def stored_recipe(study: "StudyRecord", *, only: Sequence[str] = ()) -> "TrainerConfig":
    """Yield how the models of a study are trained.

    Args:
        study: The study.
        only: See `stored_study`.

    Raises:
        StorageError: If this version of the program does not understand what is stored.
    """
    from autoprumux.errors import ConfigError, StorageError
    from autoprumux.study_files import stored_study

    try:
        return stored_study(study, only=only).trainer
    except ConfigError as error:
        raise StorageError(
            f"This version of autoprumux does not understand {str(error).splitlines()[0]} Use the "
            "version that the study was made with."
        ) from error


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


def _as_text(budget: str | float | Sequence[float]) -> str:
    if isinstance(budget, str):
        return budget
    points = [budget] if isinstance(budget, int | float) else budget
    return ",".join(str(value) for value in points)
