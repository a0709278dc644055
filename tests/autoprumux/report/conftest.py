"""Studies in real databases, without training, and pages as a parser sees them."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from autoprumux.config import SearchConfig, StudyConfig, config_hash, study_to_dict
from autoprumux.errors import TrialError
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import (
    Candidate,
    Choice,
    Failure,
    HistoryPoint,
    Measurement,
    PhaseRecord,
    StudyRecord,
)
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository
from trainers.config import TrainerConfig

WIDTHS, SPARSITIES = (1, 2, 5, 10), (0.0, 0.6, 0.7, 0.8, 0.9, 0.95)
FAILING = frozenset({Candidate(10, 0.95), Candidate(2, 0.9)})
VOID_TAGS = frozenset({"meta", "link", "br", "img", "input", "hr", "source", "base", "embed"})


@dataclass(kw_only=True, repr=False)
class Page(HTMLParser):
    """A parsed page: texts and attributes by identifier, tables, figures."""

    path: Path
    text: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    """Text of each element that has an identifier, in order of appearance."""
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    """Rows by the table's identifier, the head first."""
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    """Of the figures."""
    scripts: list[str] = field(default_factory=list)
    headline: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.text)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append((tag, known))
        if tag not in VOID_TAGS:
            self._open.append((tag, known))
        rows = self._table()
        if tag == "tr" and rows is not None:
            rows.append([])
        elif tag in ("td", "th") and rows is not None:
            rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        for _, attributes in self._open:
            if name := attributes.get("id"):
                self.texts[name] = self.texts.get(name, "") + data
        inner, attributes = self._open[-1] if self._open else ("", {})
        if inner == "script":
            self.scripts[-1] += data
            if key := attributes.get("data-figure"):
                self.figures[key] = json.loads(data)
        elif inner == "h1":
            self.headline += data
        elif inner == "figcaption":
            self.captions[list(self.figures)[-1]] = data
        rows = self._table()
        if rows and rows[-1] and any(tag in ("td", "th") for tag, _ in self._open):
            rows[-1][-1] += data

    def trace(self, figure: str, name: str) -> dict[str, Any]:
        """The trace of this name."""
        found = [t for t in self.figures[figure]["data"] if t.get("name") == name]
        assert len(found) == 1, [t.get("name") for t in self.figures[figure]["data"]]
        return found[0]

    def _table(self) -> list[list[str]] | None:
        for tag, attributes in reversed(self._open):
            if tag == "table" and (name := attributes.get("id")):
                return self.tables.setdefault(name, [])
        return None


@dataclass(kw_only=True)
class StoredStudy:
    """A study in a database of its own."""

    url: str
    name: str

    def record(self) -> StudyRecord:
        """Read it anew."""
        database = open_database(self.url, must_exist=True)
        try:
            return Repository(database).load_study(self.name)
        finally:
            database.close()

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Ask the database in SQL."""
        database = open_database(self.url, must_exist=True)
        try:
            with database.read() as connection:
                return [dict(row) for row in connection.exec_driver_sql(query).mappings()]
        finally:
            database.close()


def store_study(
    folder: Path,
    num_trials: int,
    *,
    widths: tuple[int, ...] = WIDTHS,
    sparsities: tuple[float, ...] = SPARSITIES,
    failing: frozenset[Candidate] = FAILING,
    name: str = "qnli-embedded",
    fingerprint: str = "files:qnli:0123",
    message: str = "Pruning reached 0.91 of the requested 0.95.",
    num_points: int = 4,
    has_baseline: bool = True,
) -> StoredStudy:
    """Store a study of the grid's candidates in an order that mixes N and s."""
    search = SearchConfig(widths=widths, sparsities=sparsities, budgets=(0.01, 0.02, 0.05))
    config = StudyConfig(name=name, search=search, trainer=TrainerConfig(task="qnli"))
    evaluator = SyntheticEvaluator(
        task=SyntheticTask(num_examples=1000), is_noisy=True, failing=failing
    )
    url = f"sqlite:///{folder}/study.db"
    database = open_database(url)
    repository = Repository(database)
    repository.save_study(
        StudyRecord(
            name=name,
            task="qnli",
            config=study_to_dict(config),
            config_hash=config_hash(config),
            data_fingerprint=fingerprint,
            seed=search.seed,
            budgets=search.budgets,
        )
    )
    grid = [Candidate(n, s) for n in widths for s in sparsities]
    others = grid[1:]
    random.Random(1).shuffle(others)
    mixed = [grid[0], *others] if has_baseline else others
    for number, candidate in enumerate(mixed[:num_trials]):
        repository.save_start(name, number, candidate, number, _choice(number))
        try:
            measured = evaluator.evaluate(candidate, number, lambda *_: None)
        except TrialError as error:
            failure = Failure(cause=error.cause, message=message, last_accuracy=0.61)
            repository.save_failure(name, number, failure)
        else:
            repository.save_measurement(name, number, with_history(measured, num_points))
    database.close()
    return StoredStudy(url=url, name=name)


def with_history(measurement: Measurement, num_points: int) -> Measurement:
    """Yield the measurement with curves of loss, held-out accuracy and sparsity."""
    phases = tuple(_with_history(phase, num_points) for phase in measurement.phases)
    environment = {"torch_version": "2.13.0", "processor": "a processor", "device": "cpu"}
    return replace(measurement, phases=phases, environment=environment)


def _with_history(phase: PhaseRecord, num_points: int) -> PhaseRecord:
    last = "sparsity" if phase.name == "prune" else "held_out_accuracy"
    history = [
        HistoryPoint(name=name, value=value, step=step)
        for step in (round((i + 1) * phase.num_updates / num_points) for i in range(num_points))
        for name, value in (("loss", 1 / (1 + step)), (last, 0.5 + step / 1000))
    ]
    return replace(phase, history=tuple(history))


def _choice(number: int) -> Choice:
    if number == 0:
        return Choice(reason="the dense baseline is always first")
    return Choice(reason=f"chance 0.82 to meet {number} points", chance=0.82)


@pytest.fixture(scope="session")
def store() -> Callable[..., StoredStudy]:
    """Factory: `store(folder, 12, name="other")`, see `store_study`."""
    return store_study


@pytest.fixture(scope="session")
def lengthen() -> Callable[[Measurement, int], Measurement]:
    """Factory: `lengthen(measurement, 200)`, with so many points of each history."""
    return with_history


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., StoredStudy]:
    """Factory: `stored(12, name="other")`, a study of twelve trials in a new database."""
    return lambda num_trials, **options: store_study(tmp_path, num_trials, **options)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> StoredStudy:
    """A study of sixteen trials, failures among them; don't change its database."""
    return store_study(tmp_path_factory.mktemp("study"), 16)


@pytest.fixture(scope="session")
def read_page() -> Callable[[Path], Page]:
    """Factory: `read_page(path)`."""
    return lambda path: Page(path=path, text=path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def page(study: StoredStudy, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page about `study`."""
    from autoprumux.api.stored import report_task

    path = tmp_path_factory.mktemp("page") / "report.html"
    report_task(storage=study.url, out=path)
    return Page(path=path, text=path.read_text(encoding="utf-8"))
