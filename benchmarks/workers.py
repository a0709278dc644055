"""How many trials per second do several workers store, and what does each cost the processor?

    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/workers.py --workers 1 8 --trials 160

starts a PostgreSQL server of its own (`--sqlite`: a file), lets each number of workers search an
empty database with an evaluator that sleeps, and prints a line of JSON per search and the ratio
of their paces. With `--trees OLD .` each search is run by the code of every folder in turn, so
that two versions are compared under the same load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import sqlalchemy as sa

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from postgresql_server import Server, new_database, stoppable_server  # noqa: E402

WIDTHS = 4
"""Of the grid of `tests/worker_race.py`."""


def main() -> None:
    """Run the searches and print what they took."""
    options = _parse()
    settings = {"num_sparsities": options.trials // WIDTHS, "sleep_s": options.seconds}
    paces: dict[tuple[str, int], list[float]] = {}
    with _databases(options.sqlite) as (server, databases):
        for repeat in range(options.repeats):
            for num_workers in options.workers:
                for tree in options.trees:
                    row = _race(server, next(databases), tree, num_workers, settings)
                    paces.setdefault((tree, num_workers), []).append(row["trials_per_second"])
                    where = {"repeat": repeat, "tree": tree, "workers": num_workers}
                    print(json.dumps(where | row), flush=True)
    for tree in options.trees:
        first = median(paces[tree, options.workers[0]])
        for num_workers in options.workers[1:]:
            share = median(paces[tree, num_workers]) / first
            print(
                f"{tree}: {num_workers} workers are {share:.2f} times as fast as "
                f"{options.workers[0]}"
            )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--trials", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=0.2, help="what a trial sleeps")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--trees", nargs="+", default=["."], help="folders of the code to run")
    parser.add_argument("--sqlite", action="store_true", help="an SQLite file, no server")
    return parser.parse_args()


@contextmanager
def _databases(is_sqlite: bool) -> Iterator[tuple[Server | None, Iterator[str]]]:
    """Give the server, if there is one, and URLs of empty databases."""
    if is_sqlite:
        with tempfile.TemporaryDirectory() as folder:
            yield None, (f"sqlite:///{folder}/{n}.db" for n in range(1_000_000))
        return
    with stoppable_server() as server:

        def fresh() -> Iterator[str]:
            for number in range(1_000_000):
                with new_database(server.url, f"race{number}") as url:
                    yield url

        yield server, fresh()


def _race(
    server: Server | None, url: str, tree: str, num_workers: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Let workers search; yield trials per second and processor milliseconds per trial."""
    with tempfile.NamedTemporaryFile("r") as account:
        command = [sys.executable, str(TESTS / "worker_race.py"), url, str(num_workers)]
        before = _server_seconds(server)
        done = subprocess.run(
            [*command, json.dumps(settings | {"account": account.name})],
            env=os.environ | {"PYTHONPATH": str(Path(tree).resolve())},
            capture_output=True,
            text=True,
            check=True,
        )
        server_s = _server_seconds(server) - before
        worker_s = sum(map(float, account.read().split()))
    assert json.loads(done.stdout) == [0] * num_workers, done.stderr
    num_trials, elapsed_s = _span(url)
    return {
        "trials": num_trials,
        "trials_per_second": round(num_trials / elapsed_s, 2),
        "worker_ms": round(1000 * worker_s / num_trials, 1),
        "server_ms": round(1000 * server_s / num_trials, 1),
    }


def _span(url: str) -> tuple[int, float]:
    """Yield how many trials there are, all different, and the seconds from first to last."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        query = "SELECT started_at, finished_at, num_instances, sparsity FROM prumux_trials"
        rows = connection.exec_driver_sql(query).all()
    engine.dispose()
    assert len({tuple(row[2:]) for row in rows}) == len(rows)
    first = min(datetime.fromisoformat(row[0]) for row in rows)
    last = max(datetime.fromisoformat(row[1]) for row in rows)
    return len(rows), (last - first).total_seconds()


def _server_seconds(server: Server | None) -> float:
    """Yield the processor seconds of a server and its connections, ended ones included."""
    if server is None:
        return 0.0
    first = int((server.folder / "data" / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(file.parent.name) == first:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == first:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
