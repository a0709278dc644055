"""Several worker processes on one study of the synthetic evaluator, started at once.

Everything is imported before the processes fork, so that they start together and cheaply.

    python tests/worker_race.py URL NUM_WORKERS '{"num_sparsities": 10, "sleep_s": 0.2}'
"""

import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate
from autoprumux.search.runner import run_study
from autoprumux.storage.database import open_database
from trainers.config import TrainerConfig

NAME = "qnli-race"
WIDTHS = (1, 2, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Race:
    """What the workers do."""

    num_sparsities: int = 10
    sleep_s: float = 0.2
    sampler: str = "random"
    stop_chance: float = 0.0
    max_trials: int = 100_000
    num_killed: int = 0
    """Workers that are killed, one after the other, while they train."""
    kill_every_s: float = 0.6
    num_examples: int = 64
    account: str = ""
    """File that gets a line per worker: processor seconds from its first trial on, if named."""

    @property
    def candidates(self) -> set[Candidate]:
        return {Candidate(n, s) for n in WIDTHS for s in self._sparsities}

    @property
    def config(self) -> StudyConfig:
        search = SearchConfig(
            widths=WIDTHS,
            sparsities=self._sparsities,
            budgets=(0.01, 0.03, 0.1),
            max_trials=self.max_trials,
            stop_chance=self.stop_chance,
            sampler=self.sampler,  # type: ignore[arg-type]  # refused there if it is none
        )
        return StudyConfig(name=NAME, search=search, trainer=TrainerConfig(task="qnli"))

    @property
    def evaluator(self) -> SyntheticEvaluator:
        failing = frozenset({Candidate(10, self._sparsities[-1])})
        task = SyntheticTask(num_examples=self.num_examples)
        return SyntheticEvaluator(task=task, sleep_s=self.sleep_s, failing=failing)

    @property
    def _sparsities(self) -> tuple[float, ...]:
        return tuple(round(0.95 * k / self.num_sparsities, 4) for k in range(self.num_sparsities))


class Silent:
    """A listener that tells nobody, and notes when the first trial began."""

    started_s = 0.0

    def announce(self, text: str) -> None: ...

    def trial_started(self, *_: object) -> None:
        self.started_s = self.started_s or time.process_time()

    def progress(self, *_: object) -> None: ...

    def trial_finished(self, *_: object) -> None: ...


def work(url: str, race: Race) -> int:
    """Run one worker; yield its exit code."""
    try:
        database = open_database(url)
        listener = Silent()
        run_study(race.config, database, race.evaluator, listener)
        if race.account:
            with Path(race.account).open("a", encoding="utf-8") as file:
                file.write(f"{time.process_time() - listener.started_s}\n")
        database.close()
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(url: str, num_workers: int, settings: dict[str, Any]) -> None:
    race = Race(**settings)
    children = []
    for _ in range(num_workers):
        process = os.fork()
        if process == 0:
            os._exit(work(url, race))
        children.append(process)
    for process in children[: race.num_killed]:
        time.sleep(race.kill_every_s)
        os.kill(process, signal.SIGKILL)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in children]
    sys.stdout.write(json.dumps(codes))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]))
