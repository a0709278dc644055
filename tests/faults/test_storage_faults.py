"""Databases that fill, are locked, damaged, taken away and given back while a search runs."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import fault_process
import pytest
import sqlalchemy as sa
from fault_accounts import Undisturbed, account, filled, leftovers, num_told
from fault_process import Kill, Scene
from postgresql_server import NoServerError, stoppable_server

EndsAs = Callable[[Scene], None]


def wait_for_trials(scene: Scene, count: int) -> None:
    deadline = time.monotonic() + 300
    while num_told(scene) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("free_kib", [0, 32, 64])
def test_full_disk_under_the_database_loses_nothing(
    free_kib: int,
    small_disk: Callable[[int], Path],
    tmp_path: Path,
    ends_as_undisturbed: EndsAs,
) -> None:
    disk = small_disk(4096)
    scene = Scene(folder=tmp_path, url=f"sqlite:///{disk}/study.db")

    assert fault_process.run(scene, Kill(function="optuna:Study.tell", occurrence=2)) < 0
    with filled(disk, but_kib=free_kib):
        code = fault_process.run(scene)
        told = fault_process.told(scene)

    assert code == 1
    assert told.startswith("StorageError: ")
    ends_as_undisturbed(scene)


@pytest.mark.parametrize(
    "free_kib", [4, *(pytest.param(kib, marks=pytest.mark.slow) for kib in (900, 16000))]
)
def test_full_disk_under_the_cache_fails_no_trial(
    free_kib: int,
    small_disk: Callable[[int], Path],
    tmp_path: Path,
    ends_as_undisturbed: EndsAs,
) -> None:
    cache = small_disk(65536) / "cache"
    scene = Scene(folder=tmp_path, is_real=True, num_trials=2, cache=cache)

    with filled(cache.parent, but_kib=free_kib):
        assert fault_process.run(scene) == 1
        told = fault_process.told(scene)

    assert told.startswith("TrialError: `")
    assert "No space left on device" in told
    assert told.endswith("Free some space; the same command takes the trial up again.")
    assert not list(cache.rglob("*.partial"))
    ends_as_undisturbed(scene)


def test_full_disk_leaves_no_report_and_the_old_page(
    small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    scene, disk = Scene(folder=tmp_path), small_disk(8192)
    report = Scene(folder=tmp_path, kind="report", out=disk / "report.html")
    assert fault_process.run(scene) == 0
    assert report.out is not None
    report.out.write_text("old")

    with filled(disk, but_kib=64):
        assert fault_process.run(report) == 1
        assert sorted(p.name for p in disk.iterdir()) == ["ballast", "report.html"]

    told = fault_process.told(report)
    assert told == f"UsageError: `--out` {report.out} cannot be written: No space left on device."
    assert report.out.read_text() == "old"
    assert fault_process.run(report) == 0


@pytest.mark.slow
@pytest.mark.parametrize("free_kib", [0, 16, 1000])
def test_full_disk_leaves_no_export(
    free_kib: int, small_disk: Callable[[int], Path], tmp_path: Path
) -> None:
    scene, disk = Scene(folder=tmp_path, is_real=True, num_trials=2), small_disk(32768)
    export = Scene(folder=tmp_path, kind="export", out=disk / "model")
    assert fault_process.run(scene) == 0

    with filled(disk, but_kib=free_kib):
        assert fault_process.run(export) == 1
        assert [p.name for p in disk.iterdir()] == ["ballast"]

    assert "No space left on device" in fault_process.told(export)
    assert fault_process.run(export) == 0


@pytest.mark.parametrize("locked_s", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_locked_file_is_waited_for(
    locked_s: float, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, sleep_s=0.2)
    process = fault_process.start(scene)
    wait_for_trials(scene, 1)

    holder = sqlite3.connect(tmp_path / "study.db", isolation_level=None, timeout=60)
    holder.execute("BEGIN EXCLUSIVE")
    before = len(holder.execute("SELECT * FROM prumux_attempts").fetchall())
    time.sleep(locked_s)
    after = len(holder.execute("SELECT * FROM prumux_attempts").fetchall())
    holder.execute("ROLLBACK")
    holder.close()
    process.join(300)

    assert before == after
    assert process.exitcode == 0, fault_process.told(scene)
    ends_as_undisturbed(scene)


@pytest.mark.parametrize("num_told_before", [1, 2])
def test_file_that_is_moved_away_and_back_loses_nothing(
    num_told_before: int, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, sleep_s=0.3)
    process = fault_process.start(scene)
    wait_for_trials(scene, num_told_before)
    away = tmp_path / "away"
    away.mkdir()

    names = [p.name for p in tmp_path.glob("study.db*") if p.is_file()]
    for name in names:
        (tmp_path / name).rename(away / name)
    time.sleep(1.0)
    assert not (tmp_path / "study.db").exists()
    for name in names:
        (away / name).rename(tmp_path / name)
    process.join(300)

    assert process.exitcode is not None
    assert process.exitcode == 0 or fault_process.told(scene).startswith("StorageError: ")
    ends_as_undisturbed(scene)


def test_server_that_stops_and_starts_is_waited_for(
    tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    try:
        with stoppable_server() as server:
            url = server.url.render_as_string(hide_password=False)
            scene = Scene(folder=tmp_path, url=url, sleep_s=0.4)
            process = fault_process.start(scene)
            wait_for_rows(url, 1)
            server.stop()
            time.sleep(2.0)
            server.start()
            process.join(300)

            assert process.exitcode is not None
            told = fault_process.told(scene)
            assert process.exitcode == 0 or told.startswith("StorageError: "), told
            ends_as_undisturbed(scene)
    except NoServerError as error:
        pytest.skip(str(error))


def wait_for_rows(url: str, count: int) -> None:
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    query = sa.text("SELECT count(*) FROM prumux_attempts WHERE outcome = 'told'")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            with engine.connect() as connection:
                is_done = connection.execute(query).scalar_one() >= count
            if is_done:
                engine.dispose()
                return
        except sa.exc.ProgrammingError:  # no tables yet
            time.sleep(0.05)
    pytest.fail("no trial was told")


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_clock_that_is_set_loses_no_trial_of_a_dead_machine(
    ahead_s: float, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    other = Scene(folder=tmp_path, clock_ahead_s=ahead_s, machine="elsewhere", stale_s=2.0)
    kill = Kill(function="optuna:Study.tell", occurrence=2)
    assert fault_process.run(other, kill) < 0

    ends_as_undisturbed(Scene(folder=tmp_path, stale_s=2.0))


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
@pytest.mark.parametrize("kill", [None, Kill(function="optuna:Study.tell", occurrence=3)])
def test_clock_that_is_set_while_a_search_runs_changes_nothing(
    ahead_s: float, kill: Kill | None, tmp_path: Path, ends_as_undisturbed: EndsAs
) -> None:
    scene = Scene(folder=tmp_path, clock_ahead_s=ahead_s, clock_set_at_ask=3)

    code = fault_process.run(scene, kill)

    assert code == (-9 if kill else 0)
    ends_as_undisturbed(Scene(folder=tmp_path))


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_two_machines_whose_clocks_differ_share_the_work(
    ahead_s: float, tmp_path: Path, undisturbed: Callable[[Scene], Undisturbed]
) -> None:
    here = Scene(folder=tmp_path, num_trials=5, machine="here", sleep_s=0.3)
    (tmp_path / "other").mkdir()
    there = Scene(
        folder=tmp_path / "other",
        url=here.storage,
        num_trials=5,
        machine="there",
        clock_ahead_s=ahead_s,
        sleep_s=0.3,
    )

    processes = [fault_process.start(here), fault_process.start(there)]
    for process in processes:
        process.join(300)

    assert [process.exitcode for process in processes] == [0, 0]
    found, alone = account(here), undisturbed(here).account
    assert {t[1:] for t in found.trials} == {t[1:] for t in alone.trials}
    assert len(found.trials) == len(alone.trials)
    assert (found.best, found.claims) == (alone.best, alone.claims)
    assert {state for _, state in found.optuna} == {"COMPLETE", "FAIL"}
    assert leftovers(tmp_path) == []
