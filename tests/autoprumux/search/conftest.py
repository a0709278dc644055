"""A small study on the synthetic evaluator, its database and a listener that remembers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.evaluators.base import Report
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.records import Candidate, Choice, Measurement, TrialRecord
from autoprumux.storage.database import Database, open_database
from trainers.config import TrainerConfig

FAILING = Candidate(1, 0.9)
"""A candidate that the small study tries early and that fails."""


@dataclass
class RecordingListener:
    """Keeps what a search tells."""

    announced: list[str] = field(default_factory=list)
    started: list[tuple[int, Candidate, Choice, bool]] = field(default_factory=list)
    progressed: list[tuple[str, float, int]] = field(default_factory=list)
    finished: list[TrialRecord] = field(default_factory=list)

    def announce(self, text: str) -> None:
        self.announced.append(text)

    def trial_started(
        self, number: int, candidate: Candidate, choice: Choice, is_resumed: bool
    ) -> None:
        self.started.append((number, candidate, choice, is_resumed))

    def progress(self, name: str, value: float, step: int) -> None:
        self.progressed.append((name, value, step))

    def trial_finished(self, trial: TrialRecord, baseline: Measurement | None) -> None:
        self.finished.append(trial)


class CachingEvaluator(SyntheticEvaluator):
    """Yields again what it yielded for a candidate and seed, as a checkpoint cache would."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.evaluated: list[Candidate] = []
        self._stored: dict[tuple[Candidate, int], Measurement] = {}

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        self.evaluated.append(candidate)
        key = (candidate, seed)
        if key not in self._stored:
            self._stored[key] = super().evaluate(candidate, seed, report)
        return self._stored[key]


def make_config(
    *,
    name: str = "qnli-small",
    widths: tuple[int, ...] = (1, 2, 5),
    sparsities: tuple[float, ...] = (0.0, 0.6, 0.9),
    **search: object,
) -> StudyConfig:
    settings = {"widths": widths, "sparsities": sparsities, "max_trials": 4, **search}
    return StudyConfig(
        name=name,
        search=SearchConfig(**settings),  # type: ignore[arg-type]  # tests name any field
        trainer=TrainerConfig(task="qnli"),
    )


@pytest.fixture
def config() -> Callable[..., StudyConfig]:
    """Factory: `config(max_trials=3)`."""
    return make_config


@pytest.fixture
def make_evaluator() -> Callable[..., CachingEvaluator]:
    """Factory: `make_evaluator(failing=frozenset({candidate}))`."""
    return CachingEvaluator


@pytest.fixture
def evaluator() -> CachingEvaluator:
    """One candidate of the small study fails."""
    return CachingEvaluator(failing=frozenset({FAILING}))


@pytest.fixture
def listener() -> RecordingListener:
    return RecordingListener()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/study.db")
    yield opened
    opened.close()
