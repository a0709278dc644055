"""Files of trials in a folder and in a real S3 server on this machine."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprumux.api.export import choose_stored
from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.errors import NoModelError, StorageError, UsageError
from autoprumux.evaluators.base import Report
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.records import Candidate, Measurement
from autoprumux.search.runner import run_study
from autoprumux.storage.artifacts import Artifacts, default_artifact_folder, open_artifacts
from autoprumux.storage.database import Database
from autoprumux.storage.model_files import MODEL_NAME, pack_model, unpack_model
from autoprumux.storage.repository import Repository
from trainers.config import TrainerConfig

BUCKET = "studies"
CONFIG = StudyConfig(
    name="qnli-files",
    search=SearchConfig(widths=(1, 2), sparsities=(0.0, 0.6), max_trials=2, stop_chance=0.0),
    trainer=TrainerConfig(task="qnli"),
)


class Silent:
    def announce(self, text: str) -> None: ...

    def trial_started(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...

    def trial_finished(self, *_: object) -> None: ...


class SavingEvaluator(SyntheticEvaluator):
    """Leaves a model directory, as a training does."""

    folder: Path

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        directory = self.folder / f"n{candidate.num_instances}-s{candidate.sparsity}"
        directory.mkdir()
        (directory / "model.safetensors").write_bytes(bytes(range(256)) * 100)
        (directory / "config.json").write_text("{}")
        made = super().evaluate(candidate, seed, report)
        return replace(made, checkpoint=str(directory))


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Address of an S3 server that holds one empty bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                request = urllib.request.Request(f"{address}/{BUCKET}", method="PUT")
                urllib.request.urlopen(request).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in that bucket; boto3 is set up for it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return f"s3://{BUCKET}/some/prefix"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "shared")
    return str(request.getfixturevalue("s3"))


@pytest.fixture
def evaluator(tmp_path: Path) -> SavingEvaluator:
    made = SavingEvaluator()
    made.folder = tmp_path / "checkpoints"
    made.folder.mkdir()
    return made


def metas(database: Database, number: int) -> dict[str, Any]:
    """Artifacts of a trial by name."""
    from optuna.artifacts import get_all_artifact_meta

    storage = database.optuna_storage()
    try:
        found = get_all_artifact_meta(storage.get_trial(1 + number), storage=storage)
    finally:
        storage.close()
    return {meta.filename: meta.artifact_id for meta in found}


def test_a_search_keeps_logs_histories_and_models_where_it_was_told_to(
    place: str, database: Database, evaluator: SavingEvaluator, tmp_path: Path
) -> None:
    run_study(CONFIG, database, evaluator, Silent(), artifacts=place)

    assert metas(database, 1).keys() == {"log.txt", "history.csv", MODEL_NAME}
    storage = database.optuna_storage()
    artifacts = Artifacts(place, storage)
    with artifacts.store.open_reader(metas(database, 1)["log.txt"]) as stream:
        assert stream.read().startswith(b"trial 1: ")
    storage.close()


def test_a_model_comes_back_from_the_place_as_it_was(
    place: str, database: Database, evaluator: SavingEvaluator, tmp_path: Path
) -> None:
    run_study(CONFIG, database, evaluator, Silent(), artifacts=place)
    trial = Repository(database).load_study(CONFIG.name).trials[1]
    assert trial.measurement is not None
    storage = database.optuna_storage()
    artifacts = Artifacts(place, storage)
    (tmp_path / "fetched" / "autoprumux-scratch-of_a_dead_one").mkdir(parents=True)

    fetched = artifacts.fetch_model(2, tmp_path / "fetched")
    again = artifacts.fetch_model(2, tmp_path / "fetched")

    storage.close()
    assert fetched is not None
    assert again == fetched
    assert list((tmp_path / "fetched").iterdir()) == [fetched]
    trained = Path(trial.measurement.checkpoint)
    assert {f.name: f.read_bytes() for f in fetched.iterdir()} == {
        f.name: f.read_bytes() for f in trained.iterdir()
    }


def test_a_search_removes_what_killed_ones_left_among_temporary_files(
    database: Database,
    evaluator: SavingEvaluator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    (temporary / "autoprumux-scratch-of_a_dead_one").mkdir(parents=True)
    (temporary / "of somebody else").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    run_study(CONFIG, database, evaluator, Silent())  # has files to write
    (temporary / "autoprumux-scratch-of_another").mkdir()
    run_study(CONFIG, database, evaluator, Silent())  # has none

    assert [path.name for path in temporary.iterdir()] == ["of somebody else"]


def test_a_model_of_another_machine_is_exported_from_the_place(
    place: str,
    database: Database,
    storage_url: str,
    evaluator: SavingEvaluator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_study(CONFIG, database, evaluator, Silent(), artifacts=place)
    shutil.rmtree(evaluator.folder)

    with pytest.raises(NoModelError, match=r"The checkpoint of trial 1 .* is gone"):
        choose_stored(trial=1, storage=storage_url)
    choice = choose_stored(trial=1, storage=storage_url, artifacts=place)

    model = Path(choice.model.measurement.checkpoint)
    assert model.is_relative_to(tmp_path / "cache")
    assert {file.name for file in model.iterdir()} == {"config.json", "model.safetensors"}


def test_a_file_that_is_attached_again_takes_the_place_of_the_old_one(
    place: str, database: Database, evaluator: SavingEvaluator, tmp_path: Path
) -> None:
    import optuna

    run_study(CONFIG, database, evaluator, Silent())
    storage = database.optuna_storage()
    study = optuna.load_study(study_name=CONFIG.name, storage=storage)
    artifacts, file = Artifacts(place, storage), tmp_path / "report.html"

    for text in ("first", "second"):
        file.write_text(text)
        artifacts.attach_to_study(1, file)

    (meta,) = optuna.artifacts.get_all_artifact_meta(study)
    with artifacts.store.open_reader(meta.artifact_id) as stream:
        assert stream.read() == b"second"
    storage.close()


def test_beside_the_database_no_model_is_kept_twice(
    database: Database, evaluator: SavingEvaluator
) -> None:
    run_study(CONFIG, database, evaluator, Silent())

    assert metas(database, 1).keys() == {"log.txt", "history.csv"}
    assert default_artifact_folder(database) is not None


def test_a_store_that_fails_while_searching_costs_no_trial(
    s3: str,
    database: Database,
    evaluator: SavingEvaluator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened = Artifacts.__init__

    def lose_the_store(self: Artifacts, *arguments: Any, **options: Any) -> None:
        opened(self, *arguments, **options)
        self.store._store.client.meta.events.register_first(  # type: ignore[attr-defined]
            "before-send.s3", refuse
        )

    monkeypatch.setattr(Artifacts, "__init__", lose_the_store)

    run_study(CONFIG, database, evaluator, Silent(), artifacts=s3)

    study = Repository(database).load_study(CONFIG.name)
    assert [trial.state for trial in study.trials] == ["complete", "complete"]
    assert "the files of trial 1 are not kept: The store s3://studies/some/prefix" in caplog.text
    assert metas(database, 1) == {}


def refuse(**_: object) -> None:
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url="http://127.0.0.1:9")


def test_a_bucket_that_is_not_there_is_told_before_anything_runs(
    s3: str, database: Database, evaluator: SavingEvaluator
) -> None:
    with pytest.raises(UsageError, match="`--artifacts` s3://no-such-bucket/x cannot be used"):
        run_study(CONFIG, database, evaluator, Silent(), artifacts="s3://no-such-bucket/x")


@pytest.mark.parametrize("place", ["s3://", "s3:///prefix", "s3://UPPER/x"])
def test_a_malformed_place_is_refused(place: str, database: Database) -> None:
    with pytest.raises(UsageError, match="must look like `s3://BUCKET/PREFIX`"):
        open_artifacts(place, database, None, print)  # type: ignore[arg-type]  # not reached


def test_without_boto3_a_sentence_says_what_to_install(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)

    with pytest.raises(UsageError, match=r"needs boto3.*pip install \"autoprumux\[s3\]\""):
        open_artifacts("s3://bucket", database, None, print)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../evil.json", "/evil.json", "code.py", "a/b.json"])
def test_a_stored_model_with_other_files_is_refused(name: str, tmp_path: Path) -> None:
    file, directory = tmp_path / "model.zip", tmp_path / "model"
    directory.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "{}")

    with pytest.raises(StorageError, match="belongs to no model"):
        unpack_model(file, directory)
    assert list(directory.iterdir()) == []


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}" * 100)
    file = pack_model(tmp_path, tmp_path / "model.zip")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "model").mkdir()

    with pytest.raises(StorageError, match="damaged"):
        unpack_model(file, tmp_path / "model")
