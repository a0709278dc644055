from collections.abc import Iterator
from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from autoprumux.errors import StorageError
from autoprumux.records import Candidate, Choice, StudyRecord
from autoprumux.storage.database import BUSY_TIMEOUT_S, Database, open_database
from autoprumux.storage.repository import Repository
from autoprumux.storage.trials import candidate_of, objectives_of, read_study

RANGES = {"num_instances": IntDistribution(1, 10), "sparsity": FloatDistribution(0.0, 0.95)}
CHOICES = {
    "num_instances": CategoricalDistribution([1, 2, 5, 10]),
    "sparsity": CategoricalDistribution([0.0, 0.6, 0.95]),
}


@pytest.fixture
def optuna_storage(demo_database: Database) -> Iterator[optuna.storages.RDBStorage]:
    storage = demo_database.optuna_storage()
    yield storage
    storage.remove_session()
    storage.engine.dispose()


@pytest.fixture
def study(optuna_storage: optuna.storages.RDBStorage, demo_study: StudyRecord) -> optuna.Study:
    """Optuna's side of the demo study."""
    made = optuna.create_study(
        storage=optuna_storage, study_name=demo_study.name, directions=["maximize", "maximize"]
    )
    for trial in demo_study.trials:
        params = {
            "num_instances": trial.candidate.num_instances,
            "sparsity": trial.candidate.sparsity,
        }
        values = objectives_of(trial.measurement) if trial.measurement else None
        state = TrialState.COMPLETE if values else TrialState.FAIL
        made.add_trial(
            create_trial(state=state, values=values, params=params, distributions=RANGES)
        )
    return made


@pytest.mark.parametrize("distributions", [RANGES, CHOICES])
def test_candidate_is_read_from_ranges_and_from_choices(
    optuna_storage: optuna.storages.RDBStorage,
    distributions: dict[str, optuna.distributions.BaseDistribution],
) -> None:
    study = optuna.create_study(storage=optuna_storage, directions=["maximize", "maximize"])
    params = {"num_instances": 5, "sparsity": 0.6}
    study.add_trial(create_trial(values=[0.9, 2.0], params=params, distributions=distributions))

    assert candidate_of(study.trials[0]) == Candidate(5, 0.6)


def test_trial_without_parameters_has_no_candidate() -> None:
    assert candidate_of(create_trial(state=TrialState.RUNNING)) is None


def test_study_read_from_optuna_agrees_with_our_tables(
    study: optuna.Study, demo_study: StudyRecord
) -> None:
    read = read_study(study)

    assert [(t.number, t.candidate, t.state) for t in read.trials] == [
        (t.number, t.candidate, t.state) for t in demo_study.trials
    ]
    assert {c: objectives_of(m) for c, m in read.measured.items()} == {
        c: objectives_of(m) for c, m in demo_study.measured.items()
    }


@pytest.mark.parametrize(
    "values", [[0.9], [0.9, 0.0], [0.9, float("inf")], [1.2, 2.0], [0.9, 2.0, 3.0]]
)
def test_values_that_are_no_accuracy_and_speedup_are_read_as_a_failure(
    values: list[float],
) -> None:
    study = optuna.create_study(directions=["maximize"] * len(values))
    params = {"num_instances": 5, "sparsity": 0.6}
    study.add_trial(create_trial(values=values, params=params, distributions=RANGES))

    trial = read_study(study).trials[0]

    assert (trial.state, trial.measurement) == ("failed", None)


def test_running_trial_is_read_as_running() -> None:
    study = optuna.create_study(directions=["maximize", "maximize"])
    study.ask(RANGES)
    study.ask()

    assert [trial.state for trial in read_study(study).trials] == ["running"]


def test_plain_optuna_opens_our_database(
    study: optuna.Study, storage_url: str, demo_study: StudyRecord
) -> None:
    loaded = optuna.load_study(study_name=demo_study.name, storage=storage_url)

    assert len(loaded.trials) == len(demo_study.trials)
    fastest = max(loaded.best_trials, key=lambda trial: trial.values[1])
    assert candidate_of(fastest) == max(
        demo_study.measured, key=lambda candidate: demo_study.measured[candidate].speedup
    )


def test_a_database_that_optuna_made_first_takes_our_tables(
    storage_url: str, demo_study: StudyRecord
) -> None:
    optuna.create_study(storage=storage_url, study_name="first")

    opened = open_database(storage_url)
    Repository(opened).save_study(demo_study)

    assert optuna.get_all_study_names(storage_url) == ["first"]
    assert [record.name for record in Repository(opened).list_studies()] == [demo_study.name]
    opened.close()


def test_optunas_tables_are_left_as_optuna_makes_them(
    study: optuna.Study,
    demo_database: Database,
    storage_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    plain_url = f"sqlite:///{tmp_path_factory.mktemp('plain')}/plain.db"
    plain = optuna.storages.RDBStorage(plain_url)
    query = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%prumux%' ORDER BY name"

    with plain.engine.connect() as connection:
        expected = connection.exec_driver_sql(query).all()
    with demo_database.read() as connection:
        stored = connection.exec_driver_sql(query).all()

    assert stored == expected
    plain.engine.dispose()


def test_optunas_upgrade_still_works_and_leaves_our_tables(
    study: optuna.Study, storage_url: str, demo_study: StudyRecord
) -> None:
    storage = optuna.storages.RDBStorage(storage_url, skip_compatibility_check=True)

    storage.upgrade()

    assert storage.get_current_version() == storage.get_head_version()
    opened = open_database(storage_url)
    assert Repository(opened).load_study() == demo_study
    opened.close()
    storage.engine.dispose()


def test_optunas_tables_of_another_version_are_refused_in_its_words(
    demo_database: Database, study: optuna.Study
) -> None:
    with demo_database.write() as connection:
        connection.exec_driver_sql("UPDATE version_info SET schema_version = 99")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v0.9.0.a'")

    with pytest.raises(StorageError, match="cannot be used by Optuna: The runtime optuna version"):
        demo_database.optuna_storage()


def test_optuna_waits_for_locks_as_long_as_we_do(
    optuna_storage: optuna.storages.RDBStorage,
) -> None:
    with optuna_storage.engine.connect() as connection:
        timeout_ms = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()

    assert (timeout_ms, mode) == (1000 * BUSY_TIMEOUT_S, "wal")


def test_bare_measurement_is_stored_like_any_other(
    repository: Repository, study: optuna.Study, demo_study: StudyRecord
) -> None:
    bare = read_study(study).trials[4]
    assert bare.measurement is not None
    repository.save_study(replace(demo_study, name="bare"))
    repository.save_start("bare", 4, bare.candidate, 0, Choice(reason="read from Optuna"))

    repository.save_measurement("bare", 4, bare.measurement)

    assert repository.load_study("bare").measured == {bare.candidate: bare.measurement}
