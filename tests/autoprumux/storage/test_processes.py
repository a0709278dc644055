import json
import subprocess
import sys
import time
from pathlib import Path

from autoprumux.records import StudyRecord
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.repository import Repository

NUM_PROCESSES = 4

RACE = """
import json, sys, time
from pathlib import Path
from autoprumux.records import Candidate, Choice, Failure, StudyRecord
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

url, folder, worker = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
(folder / f"ready-{worker}").touch()
while len(list(folder.glob("ready-*"))) < int(sys.argv[4]):
    time.sleep(0.001)
database = open_database(url)
repository = Repository(database)
study = StudyRecord(
    name="race", task="qnli", config={}, config_hash="", data_fingerprint="", seed=0, budgets=()
)
repository.save_study(study)
grid = [Candidate(n, s / 10) for n in (2, 3, 5, 10) for s in range(10)]
mine = []
for index, candidate in enumerate(grid):
    if repository.claim("race", candidate, 1000 * worker + index):
        mine.append([candidate.num_instances, candidate.sparsity])
        repository.save_start("race", index, candidate, worker, Choice(reason="race"))
        repository.save_failure("race", index, Failure(cause="error", message=str(worker)))
database.close()
print(json.dumps(mine))
"""

OPTUNA_RACE = """
import sys, time
from pathlib import Path
import optuna
from autoprumux.storage.database import open_database

url, folder, worker = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
optuna.logging.set_verbosity(optuna.logging.ERROR)
(folder / f"ready-{worker}").touch()
while len(list(folder.glob("ready-*"))) < int(sys.argv[4]):
    time.sleep(0.001)
storage = open_database(url).optuna_storage()
study = optuna.create_study(
    storage=storage, study_name="race", directions=["maximize"] * 2, load_if_exists=True
)
for _ in range(5):
    study.tell(study.ask(), [0.5, 1.0])
print(len(study.trials))
"""

READ = """
import sys, time
from autoprumux.storage.database import open_database
from autoprumux.storage.repository import Repository

started = time.process_time()
database = open_database(sys.argv[1], must_exist=True)
study = Repository(database).load_study()
elapsed = time.process_time() - started
heavy = {"optuna", "torch", "transformers", "pandas", "scipy", "sklearn", "alembic", "numpy"}
print(elapsed, len(study.trials), *sorted(heavy & sys.modules.keys()))
"""


def race(script: str, url: str, folder: Path, num_processes: int) -> list[str]:
    """Run `script` in several processes that start at once; yield what each printed."""
    folder.mkdir()
    commands = [
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            script,
            url,
            str(folder),
            str(worker),
            str(num_processes),
        ]
        for worker in range(num_processes)
    ]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    results = [process.communicate(timeout=600) for process in processes]
    assert [errors for _, errors in results] == [""] * num_processes
    return [printed for printed, _ in results]


def test_processes_that_race_for_candidates_share_them_without_duplicates(
    storage_url: str, tmp_path: Path
) -> None:
    printed = race(RACE, storage_url, tmp_path / "ready", NUM_PROCESSES)

    claimed = [tuple(item) for text in printed for item in json.loads(text)]
    assert len(claimed) == len(set(claimed)) == 40
    database = open_database(storage_url)
    trials = Repository(database).load_study("race").trials
    assert [trial.number for trial in trials] == list(range(40))
    assert {trial.state for trial in trials} == {"failed"}
    database.close()


def test_processes_that_race_to_make_optunas_tables_all_find_them(
    storage_url: str, tmp_path: Path
) -> None:
    race(OPTUNA_RACE, storage_url, tmp_path / "ready", 3)

    database = open_database(storage_url)
    storage = database.optuna_storage()
    trials = storage.get_all_trials(storage.get_study_id_from_name("race"))
    assert len({trial.number for trial in trials}) == 15
    storage.engine.dispose()
    database.close()


def test_killed_writer_leaves_the_trial_running(storage_url: str, tmp_path: Path) -> None:
    script = RACE.replace(
        'repository.save_failure("race"', 'time.sleep(60); repository.save_failure("race"'
    )
    (tmp_path / "ready").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script, storage_url, str(tmp_path / "ready"), "0", "1"]
    )
    database = open_database(storage_url)
    repository = Repository(database)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if repository.list_studies() and repository.load_study("race").trials:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    database.close()

    again = open_database(storage_url)
    states = [trial.state for trial in Repository(again).load_study("race").trials]
    again.close()

    assert states == ["running"]


def test_reading_36_trials_is_fast_and_loads_nothing_heavy(
    database: Database,
    repository: Repository,
    demo_study: StudyRecord,
    storage_url: str,
) -> None:
    repository.save_study(demo_study)
    complete = [trial for trial in demo_study.trials if trial.measurement is not None]
    for number in range(36):
        trial = complete[number % len(complete)]
        assert trial.choice is not None
        assert trial.measurement is not None
        repository.save_start(demo_study.name, number, trial.candidate, 0, trial.choice)
        repository.save_measurement(demo_study.name, number, trial.measurement)

    printed = subprocess.run(
        [sys.executable, "-c", READ, storage_url], capture_output=True, text=True, check=True
    ).stdout.split()

    assert printed[1:] == ["36"]
    assert float(printed[0]) < 0.2
