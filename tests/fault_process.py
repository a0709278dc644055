"""A search in a process of its own that meets a fault at a place that is the same in every run.

Processes are forked from one that has imported everything (`fault_server`), so that they start
cheaply.
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
from autoprumux.api.predict import PredictOptions, predict_file
from autoprumux.api.stored import report_task
from autoprumux.cli.interrupts import leaving_at_checkpoints, stopped_by_signals
from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.dashboard.writer import NoteWriter
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.evaluators.trained import TrainedEvaluator
from autoprumux.records import Candidate
from autoprumux.report.page import document  # noqa: F401
from autoprumux.search import presence
from autoprumux.search.runner import run_study
from autoprumux.storage import attempts, repository, rows
from autoprumux.storage.database import open_database
from trainers.config import AccuracyConfig, DataConfig, ThroughputConfig, TrainerConfig
from trainers.measure import throughput
from trainers.phase_config import (
    FinetuneConfig,
    FinetunePrunedConfig,
    PretrainConfig,
    PrimeConfig,
    PruneConfig,
)
from trainers.serving import export  # noqa: F401
from trainers.serving import predict as serving  # noqa: F401

NAME = "qnli-faulty"
FAILING = Candidate(1, 0.9)
EXIT_INTERRUPTED = 130
_WRITING = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")
"""Python's names of the events that may change a folder."""

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
    """What a process does and where; all of it lies below one folder unless told otherwise.

    A prediction labels `in.tsv` with `model`.
    """

    folder: Path
    url: str = ""
    is_real: bool = False
    num_trials: int = 3
    """Of the closed form the third fails; of a real training 2 are of N = 1, and 4 are all."""
    cache: Path | None = None
    sleep_s: float = 0.0
    kind: Literal["search", "export", "report", "predict"] = "search"
    out: Path | None = None
    stale_s: float | None = None
    """Silence that counts as a death, scaled down."""
    clock_ahead_s: float = 0.0
    clock_set_at_ask: int = 0
    """The trial before which the clock is set; 0: from the beginning."""
    machine: str = ""

    @property
    def storage(self) -> str:
        return self.url or f"sqlite:///{self.folder}/study.db"

    @property
    def config(self) -> StudyConfig:
        grid: dict[str, Any] = {"widths": (1, 2, 5), "sparsities": (0.0, 0.6, 0.9)}
        if self.is_real:
            grid = {"widths": (1, 3), "sparsities": (0.0, 0.6)}
        settings: dict[str, Any] = {"sampler": "grid", "stop_chance": 0.0, "budgets": (0.02, 0.1)}
        search = SearchConfig(**settings, **grid, max_trials=self.num_trials)
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
    """`kill -9`, or other signals, at the `at`th write or at a call of a function."""

    at: int = 0
    """Of the writes of the main thread: files opened for it, renamed, removed, made; commits."""
    function: str = ""
    """`module:Class.method`."""
    when: Literal["before", "after"] = "before"
    occurrence: int = 1
    signals: tuple[signal.Signals, ...] = (signal.SIGKILL,)
    """What the process gets there, in this order."""

    def strike(self) -> None:
        for number in self.signals:
            signal.raise_signal(number)


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
        forkserver.set_forkserver_preload(["fault_server"])
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
    throughput.PAUSE_S = 0.0  # other work may disturb every measurement, and none is asked for
    counted = _count_writes(kill)
    if kill is not None and kill.function:
        _act_at_call(kill.function, kill.strike, occurrence=kill.occurrence, when=kill.when)
    try:
        with stopped_by_signals():
            do(scene)
        text, code = "done", 0
    except KeyboardInterrupt:
        text, code = "stopped", EXIT_INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        text, code = f"{type(error).__name__}: {error}", 1
    counted.append("end")  # nothing below counts
    (scene.folder / "told").write_text(text)
    (scene.folder / "writes").write_text(json.dumps(counted[:-1]))
    sys.stderr.flush()
    os._exit(code)


def do(scene: Scene) -> None:
    """Do in this process what a scene says."""
    if scene.is_real or scene.kind == "predict":
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
    if scene.kind == "predict":
        assert scene.out is not None
        table, options = scene.folder / "in.tsv", PredictOptions(columns=("text",))
        predict_file(scene.folder / "model", str(table), str(scene.out), options)
        return
    database = open_database(scene.storage)
    try:
        noted = NoteWriter(Silent(), database, NAME)
        with leaving_at_checkpoints() as stop:
            run_study(scene.config, database, scene.evaluator, noted, stop=stop)
        noted.write_all()
    finally:
        database.close()


def _count_writes(kill: Kill | None) -> list[str]:
    """Note the writes of this thread, and meet the fault before the `at`th."""
    seen: list[str] = []
    own = threading.get_ident()

    def note(label: str) -> None:
        if threading.get_ident() != own or (seen and seen[-1] == "end"):
            return
        seen.append(label)
        if kill is not None and len(seen) == kill.at:
            kill.strike()

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name not in _WRITING or not isinstance(arguments[0], str | bytes):
            return
        path = Path(os.fsdecode(arguments[0]))
        if "__pycache__" not in path.parts and (name != "open" or _is_for_writing(*arguments[1:])):
            note(f"{name} {path.name}")

    sys.addaudithook(audit)
    event.listen(Engine, "commit", lambda _: note("commit"))
    return seen


def _is_for_writing(mode: str | None, flags: int) -> bool:
    return bool(flags & os.O_CREAT) if mode is None else mode[:1] in ("w", "x", "a")


def _act_at_call(
    function: str, act: Callable[[], None], *, occurrence: int, when: str = "before"
) -> None:
    """Do something before or after a call of a function, `module:Class.method`."""
    module_name, _, path = function.partition(":")
    owner: Any = importlib.import_module(module_name)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def wrapper(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        is_meant = calls == occurrence
        if is_meant and when == "before":
            act()
        result = original(*arguments, **options)
        if is_meant and when == "after":
            act()
        return result

    setattr(owner, name, wrapper)


def _set_the_clock(scene: Scene) -> None:
    if scene.stale_s is not None:
        presence.STALE_S = scene.stale_s
        presence.WATCHED_S = scene.stale_s / 4
        presence.HEARTBEAT_S = scene.stale_s / 10
    if scene.machine:
        presence._this_machine = lambda: scene.machine
    if scene.clock_ahead_s and scene.clock_set_at_ask:
        put_forward = functools.partial(_put_forward, scene.clock_ahead_s)
        _act_at_call("optuna:Study.ask", put_forward, occurrence=scene.clock_set_at_ask)
    elif scene.clock_ahead_s:
        _put_forward(scene.clock_ahead_s)


def _put_forward(ahead_s: float) -> None:
    ahead, now, wall = timedelta(seconds=ahead_s), attempts._now, time.time
    attempts._now = lambda connection: now(connection) + ahead
    repository.utc_now = rows.utc_now = lambda: (datetime.now(UTC) + ahead).isoformat()
    time.time = lambda: wall() + ahead_s
