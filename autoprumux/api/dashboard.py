"""optuna-dashboard on the database of studies.

Heavy libraries are imported inside the functions, so that importing this module costs nothing.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from autoprumux.config import DEFAULT_STORAGE, parse_budgets
from autoprumux.errors import AutoPrumuxError, UsageError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from autoprumux.dashboard.feasibility import FeasibilityStorage
    from autoprumux.storage.artifacts import Artifacts
    from autoprumux.storage.database import Database
    from autoprumux.storage.repository import Repository

DEFAULT_HOST, DEFAULT_PORT = "localhost", 8080

_PACKAGES = ("optuna_dashboard", "plotly", "jinja2", "matplotlib")


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """A dashboard that is ready to serve."""

    address: str
    """Of the chosen study, or of the list of studies."""
    database: str
    """Storage URL with passwords masked."""
    server: "WSGIServer"

    def serve(self) -> None:
        """Answer requests until interrupted."""
        try:
            self.server.serve_forever()
        finally:
            self.server.server_close()


@contextmanager
def open_dashboard(
    task: str | None = None,
    budget: str | None = None,
    *,
    study: str | None = None,
    storage: str = DEFAULT_STORAGE,
    artifacts: Path | str | None = None,
    address: tuple[str, int] = (DEFAULT_HOST, DEFAULT_PORT),
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Dashboard]:
    """Bring notes, plots and files up to date and give a server that listens already.

    Args:
        task: Opens at the newest study of this task; None opens at the list of all studies.
        budget: Percentage points that decide what is feasible; None means each study's own.
        study: Opens at the study of this name.
        storage: Database URL.
        artifacts: Folder or `s3://BUCKET/PREFIX` of the files; None means the folder beside an
            SQLite file.
        address: Host and port to listen on; port 0 takes a free one.
        tell: Told in one sentence what could not be brought up to date.

    Raises:
        UsageError: If optuna-dashboard is not installed or the address is in use.
        AutoPrumuxError: See `autoprumux.errors`.
    """
    budgets = None if budget is None else parse_budgets(budget)
    _require_packages()

    from autoprumux.dashboard.server import address_of, make_dashboard
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository

    host, port = address
    with ExitStack() as stack:
        database = open_database(storage, must_exist=True)
        stack.callback(database.close)
        repository = Repository(database)
        newest = repository.load_study(name=study, task=task)
        is_chosen = study is not None or task is not None
        opened = _open(repository, database, budgets, artifacts, tell)
        store = None if opened.artifacts is None else opened.artifacts.store
        server = make_dashboard(opened.storage, store, host=host, port=port)
        stack.callback(server.server_close)
        studies = [newest] if is_chosen else opened.repository.list_studies()
        identifiers = [opened.bring_up_to_date(record.name, tell) for record in studies]
        first = identifiers[0] if len(identifiers) == 1 else None
        yield Dashboard(
            address=address_of(server, host, first), database=database.url, server=server
        )


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A database and what writes to it."""

    database: "Database"
    repository: "Repository"
    storage: "FeasibilityStorage"
    artifacts: "Artifacts | None"
    budgets: tuple[float, ...] | None
    """Asked, fractions."""

    def bring_up_to_date(self, name: str, tell: Callable[[str], None]) -> int | None:
        """Write notes, plots and files of a study; yield Optuna's identifier of it, if any."""
        from autoprumux.dashboard.writer import StudyWriter

        record = self.repository.load_study(name)
        budgets, url = self.budgets or record.budgets, self.database.url
        try:
            writer = StudyWriter(self.storage, name)
        except KeyError:
            tell(f"study {name} is not shown: it was deleted from Optuna's tables")
            return None
        try:
            with _errors_in_sentences(self.database):
                writer.write_notes(record, budgets, url)
                writer.write_plots(record, budgets)
                if self.artifacts is not None:
                    writer.write_files(record, budgets, url, self.artifacts)
        except (AutoPrumuxError, OSError) as error:  # still worth showing
            tell(f"notes, plots and files of study {name} may be old: {error}")
        return writer.study_id


def _open(
    repository: "Repository",
    database: "Database",
    budgets: tuple[float, ...] | None,
    place: Path | str | None,
    tell: Callable[[str], None],
) -> _Opened:
    from autoprumux.dashboard.feasibility import FeasibilityStorage
    from autoprumux.storage.artifacts import open_artifacts

    def budgets_of(name: str) -> Sequence[float]:
        declared = {record.name: record.budgets for record in repository.list_studies()}
        return budgets or declared.get(name, ())

    make = functools.partial(FeasibilityStorage, budgets_of=budgets_of)
    storage = cast("FeasibilityStorage", database.optuna_storage(make))
    return _Opened(
        database=database,
        repository=repository,
        storage=storage,
        artifacts=open_artifacts(
            place, database, storage, lambda reason: tell(f"no files are shown: {reason}")
        ),
        budgets=budgets,
    )


@contextmanager
def _errors_in_sentences(database: "Database") -> Iterator[None]:
    """Turn what Optuna raises about the database into our `StorageError`."""
    from optuna.exceptions import StorageInternalError

    from autoprumux.storage.faults import storage_errors

    with storage_errors(database.place, (database.engine.url.password or "***",)):
        try:
            yield
        except StorageInternalError as error:
            raise error.__cause__ or error from error


def _require_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"`autoprumux dashboard` needs {', '.join(missing)}, not installed here: run "
            '`pip install "autoprumux[dashboard]"`.'
        )
