"""What everything but training costs, by the number of stored trials.

    python benchmarks/overhead.py --trials 100 1000 10000 --out benchmarks/results/overhead.json

makes studies of so many trials (see `large_studies.py`), then measures each of these in a process
of its own, so that its peak memory counts too:

    proposal   the choice of the next trial, after one more was stored; by our sampler alone
    trial      a whole trial whose evaluator takes no time: what choosing and storing cost
    query      budget answers in Python, the first in a process and later ones
    cli-query  `autoprumux query`, a new process
    report     `autoprumux report`; also the size of its page
    dashboard  `autoprumux dashboard` until it listens, its first answers, and opening it again

Processor seconds count beside those on the clock, which other programs disturb. Pin it to one
core and one thread to compare: `OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/overhead.py`.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from large_studies import LargeStudy

BUDGETS = "0:10:0.5"

COLD_QUERY = """
import sys
from pathlib import Path
from autoprumux.cli.main import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text(), file=sys.stderr)
"""

Row = dict[str, float]
Study = Callable[[], "LargeStudy"]
"""Yields the study; what makes it loads more than some of the measured commands do."""


@contextmanager
def timed(row: Row, name: str) -> Iterator[None]:
    """Add what the block takes to `row`: milliseconds on the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    row[f"{name}_cpu_ms"] = 1e3 * (time.process_time() - processor)
    row[f"{name}_ms"] = 1e3 * (time.perf_counter() - wall)


def measure_proposal(study: Study, file: Path, repeats: int) -> Row:
    """Yield the median cost of a choice; each has one trial more to learn from."""
    import optuna
    from large_studies import add_trials

    from autoprumux.search.sampler import PerformanceModelSampler
    from autoprumux.search.space import SearchSpace
    from autoprumux.storage.database import open_database
    from autoprumux.storage.repository import Repository
    from trainers.allocator import keep_freed_memory

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keep_freed_memory()  # as a search does
    made = study()
    database = open_database(f"sqlite:///{file}")
    repository, space = Repository(database), SearchSpace.from_config(made.config.search)
    sampler = PerformanceModelSampler(
        space, made.config.search.budgets, history=lambda: repository.load_study(made.config.name)
    )
    asked = optuna.create_study(directions=["maximize"] * 2)
    rows = []
    for number in range(1 + repeats):
        trial = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
        trial.number = number
        row: Row = {}
        with timed(row, "proposal"):
            chosen = sampler.sample_relative(asked, trial, space.distributions())
        rows.append(row)
        candidate = next(c for c in space.candidates if _is(c, chosen))
        add_trials(database, made, [candidate])
    database.close()
    first = {f"first_{name}": value for name, value in rows[0].items()}
    return first | _medians(rows[1:])


def measure_trial(study: Study, file: Path, repeats: int) -> Row:
    """Yield the mean cost of a trial in a search that goes on."""
    from dataclasses import replace

    from autoprumux.search.runner import run_study
    from autoprumux.storage.database import open_database

    made, database = study(), open_database(f"sqlite:///{file}")
    search = replace(made.config.search, max_trials=made.num_trials + repeats)
    config = replace(made.config, search=search)
    row: Row = {}
    with timed(row, "trial"):
        run_study(config, database, made.evaluator, _Silent())
    database.close()
    return {name: value / repeats for name, value in row.items()}


def measure_query(study: Study, file: Path, repeats: int) -> Row:
    """Yield the cost of answers in Python: the first, and the median of the others."""
    from autoprumux import query

    rows = []
    for _ in range(1 + repeats):
        row: Row = {}
        with timed(row, "query"):
            query(budget=BUDGETS, storage=f"sqlite:///{file}")
        rows.append(row)
    return {f"first_{name}": value for name, value in rows[0].items()} | _medians(rows[1:])


def measure_report(study: Study, file: Path, repeats: int) -> Row:
    """Yield the cost of the page and its size."""
    from autoprumux.api.stored import report_task

    row: Row = {}
    page = file.with_suffix(".html")
    with timed(row, "report"):
        report_task(storage=f"sqlite:///{file}", out=page)
    return row | {"page_mb": page.stat().st_size / 1e6}


def measure_dashboard(study: Study, file: Path, repeats: int) -> Row:
    """Yield the cost until it listens, of its first answers, and of opening it again."""
    from autoprumux.api.dashboard import open_dashboard

    row: Row = {}
    for name in ("start", "again"):
        opened = open_dashboard(storage=f"sqlite:///{file}", address=("localhost", 0))
        with timed(row, name):
            dashboard = opened.__enter__()
        if name == "start":
            thread = threading.Thread(target=dashboard.server.serve_forever, daemon=True)
            thread.start()
            host = f"http://localhost:{dashboard.server.server_port}"
            with timed(row, "page"):
                for path in ("/dashboard", "/api/studies", "/api/studies/1"):
                    with urllib.request.urlopen(host + path) as answer:
                        answer.read()
            dashboard.server.shutdown()
        opened.__exit__(None, None, None)
    return row


MEASURES: dict[str, Callable[[Study, Path, int], Row]] = {
    "proposal": measure_proposal,
    "trial": measure_trial,
    "query": measure_query,
    "report": measure_report,
    "dashboard": measure_dashboard,
}


COLD = "cli-query"


class _Silent:
    """A listener that tells nobody."""

    def announce(self, text: str) -> None: ...

    def trial_started(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...

    def trial_finished(self, *_: object) -> None: ...


def _is(candidate: Any, chosen: dict[str, Any]) -> bool:
    return (candidate.num_instances, candidate.sparsity) == tuple(chosen.values())


def _medians(rows: list[Row]) -> Row:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def peak_mib(status: str) -> float:
    """Yield the most memory that a process has had, in MiB, from its `/proc/PID/status`.

    `getrusage` would count that of the process which started it.
    """
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure_here(what: str, study: Study, file: Path, repeats: int) -> Row:
    """Yield one measurement with the peak memory of this process."""
    row = MEASURES[what](study, file, repeats)
    return row | {"peak_mib": peak_mib(Path("/proc/self/status").read_text())}


def measure_apart(what: str, kind: str, num_trials: int, file: Path, repeats: int) -> Row:
    """Measure in a process of its own, on a copy of the database."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "study.db"
        shutil.copyfile(file, copy)
        if what == COLD:
            return measure_cold(copy)
        words = [what, kind, str(num_trials), str(copy), str(repeats)]
        row: Row = json.loads(_finished([__file__, "--measure", *words]).stdout)
        return row


def measure_cold(file: Path) -> Row:
    """Yield what `autoprumux query` takes, the start of its process included."""
    wall, before = time.perf_counter(), os.times()
    words = ["query", "--budget", BUDGETS, "--storage", f"sqlite:///{file}"]
    done = _finished(["-c", COLD_QUERY, *words])
    after, row = os.times(), {"cold_ms": 1e3 * (time.perf_counter() - wall)}
    processor = [t.children_user + t.children_system for t in (before, after)]
    row["cold_cpu_ms"] = 1e3 * (processor[1] - processor[0])
    return row | {"peak_mib": peak_mib(done.stderr)}


def _finished(words: list[str]) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{words} ended with {done.returncode}: {done.stderr}")
    return done


def run(options: argparse.Namespace) -> None:
    """Make the studies, measure, print the table and write the JSON file."""
    import large_studies
    from common import write_record

    rows = []
    for kind in options.kinds:
        for num_trials in options.trials:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "study.db"
                large_studies.build(large_studies.LargeStudy(kind, num_trials), file)
                size = file.stat().st_size / 1e6
                for what in options.measures:
                    values = measure_apart(what, kind, num_trials, file, options.repeats)
                    rows.append({"kind": kind, "trials": num_trials, "what": what} | values)
                    print_row(rows[-1])
                print(f"{kind:>9} {num_trials:>6} database: {size:.1f} MB")
    if options.out:
        environment = {
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": {p: version(p) for p in ("autoprumux", "numpy", "optuna", "sqlalchemy")},
        }
        write_record(options.out, environment, {"rows": rows})


def print_row(row: dict[str, Any]) -> None:
    """Print one measurement."""
    values = "  ".join(f"{k} {v:.1f}" for k, v in row.items() if isinstance(v, float))
    print(f"{row['kind']:>9} {row['trials']:>6} {row['what']:>9}: {values}", flush=True)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["--measure"]:
        what, kind, num_trials, file, repeats = sys.argv[2:]

        def study() -> "LargeStudy":
            from large_studies import LargeStudy

            return LargeStudy(kind, int(num_trials))  # type: ignore[arg-type]  # one of the two

        print(json.dumps(measure_here(what, study, Path(file), int(repeats))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--kinds", nargs="+", choices=["wide", "repeated"], default=["wide"])
    parser.add_argument(
        "--measures", nargs="+", choices=[*MEASURES, COLD], default=[*MEASURES, COLD]
    )
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, help="JSON file of the rows")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
