"""The storage of a searching process leaves the rows that Optuna's own would have left."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import TrialState
from postgresql_server import new_database

from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.search_storage import SearchStorage

DIRECTIONS = ["maximize", "maximize"]
TABLES = (
    "trials",
    "trial_params",
    "trial_values",
    "trial_user_attributes",
    "trial_system_attributes",
    "studies",
    "study_directions",
    "study_user_attributes",
    "study_system_attributes",
)


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[list[Database]]:
    """Two empty databases of one kind."""
    with ExitStack() as stack:
        if request.param == "sqlite":
            urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("ours", "theirs")]
        else:
            server = request.getfixturevalue("postgresql_server")
            names = ("ours", "theirs")
            urls = [stack.enter_context(new_database(server, name)) for name in names]
        yield [stack.enter_context(closing(open_database(url))) for url in urls]


@pytest.fixture
def storage(database: Database) -> Iterator[SearchStorage]:
    made = SearchStorage(database, database.optuna_storage())
    yield made
    made.close()


class Fixed(optuna.samplers.RandomSampler):
    """Draws the same values every time."""

    def sample_independent(self, study: Any, trial: Any, name: str, kind: Any) -> Any:
        return {"width": 3, "sparsity": 0.25, "word": "a"}[name]


def live(storage: BaseStorage) -> None:
    """Do with a study whatever a search does, and a user beside it."""
    study = optuna.create_study(
        storage=storage, study_name="lived", directions=DIRECTIONS, sampler=Fixed()
    )
    study.set_metric_names(["accuracy", "speedup"])
    study.enqueue_trial({"width": 5, "sparsity": 0.5, "word": "b"})
    for number in range(5):
        trial = study.ask()
        trial.suggest_int("width", 1, 10) if number else trial.suggest_int("width", 5, 5)
        trial.suggest_float("sparsity", 0.25, 0.25 + (number == 0))
        trial.suggest_categorical("word", ["a", "b"])
        trial.set_user_attr("minutes", 1.5)
        trial.set_user_attr("minutes", [2.5, None, "text with \u00e4 and 'quotes'"])
        storage.set_trial_system_attr(trial._trial_id, "constraints", [-0.25])
        if number == 1:
            study.tell(trial, state=TrialState.FAIL)
        elif number < 4:
            study.tell(trial.number, [0.5 + number, float("inf") if number == 2 else 2.0])
    study.tell(0, state=TrialState.FAIL, skip_if_finished=True)


def rows(database: Database) -> dict[str, list[list[tuple[str, Any]]]]:
    """Yield all rows of Optuna's tables without their own numbers.

    In place of a time there is whether there is one.
    """
    found = {}
    with database.read() as connection:
        for table in TABLES:
            stored = connection.execute(sa.text(f"SELECT * FROM {table} ORDER BY 1"))
            found[table] = [
                [
                    (k, v is not None if k.startswith("datetime") else v)
                    for k, v in row.items()
                    if k in ("study_id", "trial_id") or not k.endswith("_id")
                ]
                for row in stored.mappings()
            ]
    return found


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_rows_are_those_of_optunas_own_storage(databases: list[Database]) -> None:
    ours, theirs = databases
    with (
        closing(theirs.optuna_storage()) as whole,
        closing(SearchStorage(ours, ours.optuna_storage())) as searching,
    ):
        live(searching)
        live(whole)

        assert rows(ours) == rows(theirs)
        read = [optuna.load_study(study_name="lived", storage=s) for s in (searching, whole)]
        assert [t.params for t in read[0].trials] == [t.params for t in read[1].trials]
        assert [t.values for t in read[0].trials] == [t.values for t in read[1].trials]


def test_what_a_block_wrote_is_forgotten_with_it(
    storage: SearchStorage, database: Database
) -> None:
    study = optuna.create_study(storage=storage, study_name="s", directions=DIRECTIONS)

    def write_and_fail() -> None:
        with storage.together():
            study.ask().suggest_int("width", 1, 10)
            raise KeyError("something")

    with pytest.raises(KeyError, match="something"):
        write_and_fail()

    assert storage.get_all_trials(study._study_id) == []
    assert rows(database)["trial_params"] == []
    again = study.ask()
    assert again.number == 0
    assert again.params == {}


def test_trial_that_another_process_told_is_not_told_again(
    storage: SearchStorage, database: Database
) -> None:
    study = optuna.create_study(storage=storage, study_name="s", directions=DIRECTIONS)
    trial = study.ask()
    other = database.optuna_storage()
    optuna.load_study(study_name="s", storage=other).tell(trial.number, [0.5, 2.0])

    with pytest.raises(UpdateFinishedTrialError):
        study.tell(trial, [0.75, 3.0])

    study.tell(trial, [0.75, 3.0], skip_if_finished=True)
    assert study.trials[0].values == [0.5, 2.0]
    other.close()


def test_parameter_that_the_study_knows_otherwise_is_refused(storage: SearchStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="s", directions=DIRECTIONS)
    study.ask({"width": IntDistribution(1, 10)})
    fresh = SearchStorage(storage.database, storage.whole)
    resumed = optuna.load_study(study_name="s", storage=fresh)

    for kind in (FloatDistribution(0, 1), CategoricalDistribution([1, 2])):
        with pytest.raises(ValueError, match=r"distribution|compatible"):
            resumed.ask({"width": kind})


@pytest.mark.parametrize("is_queued", [False, True])
def test_numbers_go_on_beside_trials_that_others_make(
    storage: SearchStorage, database: Database, is_queued: bool
) -> None:
    study = optuna.create_study(storage=storage, study_name="s", directions=DIRECTIONS)
    other = database.optuna_storage()
    beside = optuna.load_study(study_name="s", storage=other)
    numbers = []
    for _ in range(3):
        numbers.append(study.ask().number)
        if is_queued:
            beside.enqueue_trial({"width": 1})
        else:
            numbers.append(beside.ask().number)
    numbers += [study.ask().number for _ in range(3)] if is_queued else []

    assert sorted(numbers) == list(range(6))
    other.close()


def test_a_block_within_another_joins_it(
    database: Database, demo_study_record: Callable[..., Any]
) -> None:
    repository = Repository(database)

    def write_and_fail() -> None:
        with database.write():
            repository.save_study(demo_study_record(name="a", trials=()))
            assert [study.name for study in repository.list_studies()] == ["a"]
            raise KeyError("something")

    with pytest.raises(KeyError, match="something"):
        write_and_fail()
    assert repository.list_studies() == []

    with database.write():
        repository.save_study(demo_study_record(name="b", trials=()))
    assert [study.name for study in repository.list_studies()] == ["b"]
