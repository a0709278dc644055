"""Write `schema-V.sql` beside this script: a database as the program of schema V leaves it.

Run it once for every released schema, with that release's program; the files of earlier releases
stay as they are. The study is small and synthetic. Its search was stopped in a trial, so that the
database holds complete, failed and running ones. Times, processes and hosts are made the same in
every run, so that the file only differs if what the program writes does.

    python tests/golden/make_database.py
"""

import re
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autoprumux.config import SearchConfig, StudyConfig
from autoprumux.evaluators.base import Report
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Measurement
from autoprumux.search.runner import run_study
from autoprumux.storage.database import open_database
from autoprumux.storage.migrations import newest_version
from trainers.config import TrainerConfig

FOLDER = Path(__file__).parent

CONFIG = StudyConfig(
    name="qnli-golden",
    search=SearchConfig(
        widths=(1, 2), sparsities=(0.0, 0.6, 0.9), budgets=(0.01, 0.05), sampler="grid"
    ),
    trainer=TrainerConfig(task="qnli"),
)

STOPPED_AT = Candidate(2, 0.0)
"""The trial that was running when the search was stopped."""

_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
"""Name of an artifact."""

_SAME = (
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00"), "2026-01-01T00:00:00.000+00:00"),
    (re.compile(r"'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?'"), "'2026-01-01 00:00:00'"),
    (re.compile(r"'[^':]*:\d+'"), "'elsewhere:1'"),
    (re.compile(r"'[^':]*:\d+:[0-9a-f]{8}'"), "'elsewhere:1:00000000'"),
    (
        re.compile(r"('elsewhere:1:0{8}'),'[^']*','[^']*',\d+,'\d*'"),
        r"\1,'elsewhere','elsewhere',1,'1'",
    ),
    (re.compile(r'\["[^"]*", \d+, "\d+"\]'), '["elsewhere", 1, "1"]'),
    (re.compile(r"('minutes',)'[\d.e-]+'"), r"\1'0.0'"),
    (re.compile(r"^(INSERT INTO \"version_info\" VALUES\(1,12,)'[^']*'"), r"\1'5.0.0'"),
)


class StoppedEvaluator(SyntheticEvaluator):
    """Is interrupted in one trial."""

    def evaluate(self, candidate: Candidate, seed: int, report: Report) -> Measurement:
        if candidate == STOPPED_AT:
            raise KeyboardInterrupt
        return super().evaluate(candidate, seed, report)


class SilentListener:
    """Tells nobody."""

    def announce(self, text: str) -> None: ...

    def trial_started(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...

    def trial_finished(self, *_: object) -> None: ...


def make_evaluator(kind: type[SyntheticEvaluator] = SyntheticEvaluator) -> SyntheticEvaluator:
    """Yield the evaluator of the study; one candidate fails."""
    return kind(task=SyntheticTask(num_examples=64), failing=frozenset({Candidate(1, 0.9)}))


def make_database(file: Path) -> None:
    """Run the search until it is stopped, and leave its database in `file`."""
    database = open_database(f"sqlite:///{file}")
    try:
        run_study(CONFIG, database, make_evaluator(StoppedEvaluator), SilentListener())
    except KeyboardInterrupt:
        pass
    finally:
        database.close()


def dump(file: Path) -> Iterator[str]:
    """Yield the SQL statements that make the database anew."""
    uuids: dict[str, str] = {}
    with sqlite3.connect(file) as connection:
        for line in connection.iterdump():
            for pattern, text in _SAME:
                line = pattern.sub(text, line)
            for uuid in _UUID.findall(line):
                uuids.setdefault(uuid, f"00000000-0000-0000-0000-{len(uuids):012}")
            yield _UUID.sub(lambda found: uuids[found[0]], line)
    connection.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "study.db"
        make_database(file)
        text = "\n".join(dump(file)) + "\n"
    (FOLDER / f"schema-{newest_version()}.sql").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
