"""A search in a process of its own that meets a fault at a place that is the same in every run.

Processes are forked from one that has imported everything, so that they start cheaply.
"""

import functools
import importlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import optuna_dashboard  # noqa: F401  # here and below: imported once, before processes are forked
import sklearn.ensemble  # noqa: F401
from sqlalchemy import Engine, event
from worker_race import Silent

from autoprumux.api.export import export_task
from autoprumux.api.stored import report_task
from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.dashboard.writer import NoteWriter
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.evaluators.trained import TrainedEvaluator
from autoprumux.records import Candidate
from autoprumux.report.page import document  # noqa: F401
from autoprumux.search import presence
from autoprumux.search.runner import run_study
from autoprumux.storage import attempts, repository
from autoprumux.storage.database import open_database
from trainers.config import AccuracyConfig, DataConfig, ThroughputConfig, TrainerConfig
from trainers.phase_config import (
    FinetuneConfig,
    FinetunePrunedConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
)
from trainers.serving import export  # noqa: F401

NAME = "qnli-faulty"
FAILING = Candidate(1, 0.9)

_SIZE = {"batch_size": 4, "learning_rate": 1e-3}
TINY = TrainerConfig(
    task="sst2",
    device="cpu",
    data=DataConfig(num_train=64, num_validation=33, num_held_out=16),
    prime=PrimeConfig(num_updates=2, **_SIZE),
    pretrain=PretrainConfig(num_updates=2, **_SIZE),
    finetune=FinetuneConfig(num_updates=3, num_evaluations=2, distill_weight=0.5, **_SIZE),
    prune=PruneConfig(num_updates=12, gate_learning_rate=1.0, tolerance=0.5, **_SIZE),
    finetune_pruned=FinetunePrunedConfig(num_updates=3, num_evaluations=2, **_SIZE),
    accuracy=AccuracyConfig(num_compositions=1),
    throughput=ThroughputConfig(batch_size=2, num_repeats=2, num_warmup=0),
    checkpoint_interval_s=1e-6,
)
"""All phases of a real training in a second or two; nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a process does and where; all of it lies below one folder unless told otherwise."""

    folder: Path
    url: str = ""
    is_real: bool = False
    cache: Path | None = None
    sleep_s: float = 0.0
    kind: Literal["search", "export", "report"] = "search"
    out: Path | None = None
    stale_s: float | None = None
    """Silence that counts as a death, scaled down."""
    clock_ahead_s: float = 0.0
    machine: str = ""

    @property
    def storage(self) -> str:
        return self.url or f"sqlite:///{self.folder}/study.db"

    @property
    def config(self) -> StudyConfig:
        if self.is_real:
            grid: dict[str, Any] = {"widths": (1, 3), "sparsities": (0.0, 0.6), "max_trials": 4}
        else:
            grid = {"widths": (1, 2, 5), "sparsities": (0.0, 0.6, 0.9), "max_trials": 5}
        search = SearchConfig(sampler="grid", stop_chance=0.0, budgets=(0.02, 0.1), **grid)
        trainer = TINY if self.is_real else TrainerConfig(task="qnli")
        return StudyConfig(name=NAME, search=search, trainer=trainer)

    @property
    def evaluator(self) -> Any:
        if not self.is_real:
            return SyntheticEvaluator(failing=frozenset({FAILING}), sleep_s=self.sleep_s)
        search = self.config.search
        cache = self.cache or self.folder / "cache"
        return TrainedEvaluator(TINY, cache, search.seed, search.sparsities)


@dataclass(frozen=True, kw_only=True)
class Kill:
    """`kill -9` at the `at`th write, or at a call of a function."""

    at: int = 0
    """Of the writes of the main thread: files opened for it, renamed, removed, made; commits."""
    function: str = ""
    """`module:Class.method`."""
    when: Literal["before", "after"] = "before"
    occurrence: int = 1


def start(scene: Scene, kill: Kill | None = None) -> BaseProcess:
    """Start a process; `told` yields what it said in the end."""
    context = multiprocessing.get_context("forkserver")
    _import_beforehand()
    process = context.Process(target=_work, args=(scene, kill))
    process.start()
    return process


def run(scene: Scene, kill: Kill | None = None, *, timeout_s: float = 900.0) -> int:
    """Run a process to its end; yield its exit code, negative for a signal."""
    process = start(scene, kill)
    process.join(timeout_s)
    code = process.exitcode
    if code is None:
        process.kill()
        raise AssertionError(f"still running after {timeout_s} s")
    return code


def told(scene: Scene) -> str:
    """Yield what the last process ended with: `done`, or the error."""
    return (scene.folder / "told").read_text()


def writes(scene: Scene) -> list[str]:
    """Yield what the last process that came to its end had written, in order."""
    found: list[str] = json.loads((scene.folder / "writes").read_text())
    return found


@functools.cache
def _import_beforehand() -> None:
    """Start the process that the others are forked from; it finds modules by its environment."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*folders, *([before] if before else [])])
    try:
        forkserver.set_forkserver_preload(["fault_process"])
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _work(scene: Scene, kill: Kill | None) -> None:
    temporary = scene.folder / "temporary"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = str(temporary)
    _set_the_clock(scene)
    counted = _count_writes(kill.at if kill else 0)
    if kill is not None and kill.function:
        _kill_at_call(kill)
    try:
        _do(scene)
        text, code = "done", 0
    except Exception as error:
        traceback.print_exc()
        text, code = f"{type(error).__name__}: {error}", 1
    counted.append("end")  # nothing below counts
    (scene.folder / "told").write_text(text)
    (scene.folder / "writes").write_text(json.dumps(counted[:-1]))
    sys.stderr.flush()
    os._exit(code)


def _do(scene: Scene) -> None:
    if scene.is_real:
        import torch

        torch.set_num_threads(1)
    if scene.kind == "export":
        assert scene.out is not None
        export_task(scene.out, storage=scene.storage, trial=1)
        return
    if scene.kind == "report":
        assert scene.out is not None
        report_task(storage=scene.storage, out=scene.out)
        return
    database = open_database(scene.storage)
    try:
        noted = NoteWriter(Silent(), database, NAME)
        run_study(scene.config, database, scene.evaluator, noted)
        noted.write_all()
    finally:
        database.close()


def _count_writes(at: int) -> list[str]:
    """Note the writes of this thread, and die before the `at`th."""
    seen: list[str] = []
    own = threading.get_ident()

    def note(label: str) -> None:
        if threading.get_ident() != own or (seen and seen[-1] == "end"):
            return
        seen.append(label)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            note(f"{name} {Path(os.fsdecode(arguments[0])).name}")
        elif name == "open" and isinstance(arguments[0], str):
            mode, flags = arguments[1], arguments[2]
            is_new = isinstance(mode, str) and mode[:1] in ("w", "x", "a")
            if is_new or (mode is None and flags & os.O_CREAT):
                note(f"open {Path(arguments[0]).name}")

    sys.addaudithook(audit)
    event.listen(Engine, "commit", lambda _: note("commit"))
    return seen


def _kill_at_call(kill: Kill) -> None:
    module_name, _, path = kill.function.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapper(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == kill.occurrence and kill.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if calls == kill.occurrence:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapper)


def _set_the_clock(scene: Scene) -> None:
    if scene.stale_s is not None:
        presence.STALE_S = scene.stale_s
        presence.WATCHED_S = scene.stale_s / 4
        presence.HEARTBEAT_S = scene.stale_s / 10
    if scene.machine:
        presence._this_machine = lambda: scene.machine
    if scene.clock_ahead_s:
        ahead, now, wall = timedelta(seconds=scene.clock_ahead_s), attempts._now, time.time
        attempts._now = lambda connection: now(connection) + ahead
        repository.utc_now = lambda: (datetime.now(UTC) + ahead).isoformat()
        time.time = lambda: wall() + scene.clock_ahead_s
