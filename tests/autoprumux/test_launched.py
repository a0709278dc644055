"""Searches by two processes of a launch, as users start them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from sqlalchemy import text

from autoprumux.api.processes import launch
from autoprumux.cli import main
from autoprumux.storage.database import open_database

TIMEOUT_S = 600
"""Many times what is needed on a free machine."""

SETTINGS = (
    "search.stop_hopeless=false",
    "trainer.data.num_train=256",
    "trainer.data.num_validation=64",
    "trainer.data.num_held_out=32",
    "trainer.finetune.num_updates=6",
    "trainer.finetune.batch_size=8",
    "trainer.prune.num_updates=12",
    "trainer.prune.batch_size=8",
    "trainer.prune.tolerance=0.9",
    "trainer.prune.gate_learning_rate=1",
    "trainer.finetune_pruned.num_updates=4",
    "trainer.finetune_pruned.batch_size=8",
    "trainer.throughput.num_repeats=2",
    "trainer.throughput.batch_size=2",
    "trainer.checkpoint_interval_s=0.000001",
)
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "autoprumux")
ACCELERATE = (
    *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    *("-m", "autoprumux"),
)


def arguments(folder: Path, **changes: object) -> list[str]:
    settings = [*SETTINGS, *(f"trainer.{k}={v}" for k, v in changes.items())]
    return [
        *("search", "--task", "sst2", "--device", "cpu", "--widths", "1,2"),
        *("--sparsities", "0,0.6", "--max-trials", "3", "--storage", f"sqlite:///{folder}/s.db"),
        *("--cache-dir", str(folder / "cache")),
        *(part for setting in settings for part in ("--set", setting)),
    ]


def environment(**variables: object) -> dict[str, str]:
    path = os.pathsep.join(filter(None, sys.path))
    extra = {name: str(value) for name, value in variables.items()}
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **extra}


def start_pair(folder: Path, **changes: object) -> list[subprocess.Popen[str]]:
    """Start both processes without a launcher, which would end one after the other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = []
    for rank in (0, 1):
        variables: dict[str, Any] = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": rank}
        variables |= {"LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        (folder / str(rank)).mkdir(exist_ok=True)
        command = [sys.executable, "-m", "autoprumux", *arguments(folder, **changes)]
        pair.append(
            subprocess.Popen(
                command,
                cwd=folder / str(rank),
                env=environment(**variables),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return pair


def finish(pair: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Yield exit codes and what was printed; end what does not end."""
    try:
        printed = [process.communicate(timeout=TIMEOUT_S) for process in pair]
    finally:
        for process in pair:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(pair, printed, strict=True)]


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    database = open_database(f"sqlite:///{folder}/s.db", must_exist=True)
    try:
        with database.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        database.close()


def require_complete(folder: Path) -> None:
    """Three trials, each once, measured by two processes; one worker wrote them."""
    trials = rows(folder, "SELECT number, state, num_instances, sparsity FROM prumux_trials")
    assert sorted(trial[0] for trial in trials) == [0, 1, 2]
    assert {trial[1] for trial in trials} == {"complete"}
    assert len({trial[2:] for trial in trials}) == 3
    processes = "SELECT DISTINCT value FROM prumux_environments WHERE name = 'num_processes'"
    assert rows(folder, processes) == [("2",)]


def wait_for(is_there: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_without_a_launcher_is_the_first_of_one(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launch().is_first
    assert launch().count == 1


def test_what_processes_cannot_share_the_first_one_does_alone(monkeypatch, capsys):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["autoprumux", "query", "--storage", "junk"])

    main.main()

    assert capsys.readouterr() == ("", "")


def test_a_rank_that_is_no_number_is_told_in_one_sentence(monkeypatch, capsys):
    for name, value in {"WORLD_SIZE": "2", "RANK": "one", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["autoprumux", "search"])

    with pytest.raises(SystemExit) as ended:
        main.main()

    assert ended.value.code != 0
    told = capsys.readouterr().err
    assert told.startswith("error: The variable `RANK` is 'one'")
    assert told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_launched_search_is_one_search(tmp_path, launcher):
    done = subprocess.run(
        [sys.executable, "-m", *launcher, *arguments(tmp_path)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Within 2.0 points") == 1
    assert done.stderr.count("trial  0  N=1  s=0.00  accuracy") == 1
    require_complete(tmp_path)
    assert rows(tmp_path, "SELECT count(*) FROM prumux_workers") == [(1,)]


@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_next_launch_goes_on(tmp_path):
    pair = start_pair(tmp_path, **{"finetune.num_updates": 4000})
    wait_for(lambda: list(tmp_path.glob("cache/finetune-n*/progress.safetensors")))
    pair[1].send_signal(signal.SIGKILL)
    killed = time.monotonic()

    (code, printed, told), (code_of_killed, *_) = finish(pair)

    assert time.monotonic() - killed < 60
    assert code_of_killed == -signal.SIGKILL
    assert code == 1
    assert printed == ""
    assert told.count("error: Another process of this launch is gone") == 1
    assert "Traceback" not in told
    running = "SELECT state FROM prumux_trials"
    assert rows(tmp_path, running) == [("running",)]

    pair = start_pair(tmp_path, **{"finetune.num_updates": 4000})
    wait_for(lambda: "taken up again" in (pair[0].stderr.readline() if pair[0].stderr else ""))
    pair[0].send_signal(signal.SIGINT)  # and Ctrl-C of the first one ends both
    (code, _, told), (code_of_other, *silent) = finish(pair)

    assert (code, code_of_other) == (130, 0)
    assert "Stopped." in told
    assert silent == ["", ""]


@pytest.mark.slow
def test_what_one_process_lacks_ends_both_with_one_sentence(tmp_path):
    (tmp_path / "0" / "data").mkdir(parents=True)
    for split in ("train", "dev"):
        table = "sentence\tlabel\n" + "".join(f"word {i}\t{i % 2}\n" for i in range(200))
        (tmp_path / "0" / "data" / f"{split}.tsv").write_text(table, encoding="utf-8")

    (code, printed, told), (code_of_other, *silent) = finish(
        start_pair(tmp_path, **{"data.source": "data"})
    )

    assert (code, code_of_other) == (1, 0)
    assert printed == ""
    assert told.count("error:") == 1
    assert "`data`" in told
    assert told.rstrip().endswith("(process 1)")
    assert silent == ["", ""]
    assert not (tmp_path / "s.db").exists()
