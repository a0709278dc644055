"""Finished studies of any number of trials, for the measurements of `overhead.py`.

Every row is made by the code that a search stores it with, but all rows of a study are written in
one transaction, and Optuna's in bulk: trial by trial, 10,000 would take minutes.

    wide      no candidate twice, as a search leaves it: the grid grows with the number of trials
              (20 widths, as many sparsities as it takes), a fifth of it is untried; a grid has
              at most 10,000 candidates, so that 10,000 trials leave the last 6 untried and are
              9,994
    repeated  the default grid of 36 candidates, of which 30 are tried again and again with other
              seeds: not what a search of widths and sparsities alone does, but what a study looks
              like in which each pair was tried with many hyperparameters
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import sqlalchemy as sa

from autoprumux.config import MAX_CANDIDATES, SearchConfig, StudyConfig
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Choice, HistoryPoint, Measurement, PhaseRecord, RunnerUp
from autoprumux.search.opening import open_optuna_study, open_study
from autoprumux.search.space import SearchSpace
from autoprumux.search.told import trial_seed
from autoprumux.storage.database import Database, open_database
from autoprumux.storage.migrations import utc_now
from autoprumux.storage.repository import Repository
from autoprumux.storage.rows import insert_measurement, insert_runners_up
from autoprumux.storage.schema import ATTEMPTS, CLAIMS, STARTS
from autoprumux.storage.trials import objectives_of
from trainers.config import TrainerConfig

Kind = Literal["wide", "repeated"]

NAME = "qnli-large"
WIDTHS = tuple(range(1, 21))
NUM_UNTRIED = 6
"""Candidates that a study leaves untried at least."""
POINTS_PER_PHASE = 10
"""Values in the history of a trained phase."""
ENVIRONMENT = {f"fact_{k}": f"value {k} of the environment" for k in range(11)}
ENVIRONMENT["processor"] = "Imaginary 9000 at 3.1 GHz"
TASK = SyntheticTask(num_examples=1000)


@dataclass(frozen=True)
class LargeStudy:
    """What to make."""

    kind: Kind
    num_trials: int

    @property
    def config(self) -> StudyConfig:
        """The configuration whose grid holds all trials."""
        search = SearchConfig(
            budgets=(0.01, 0.02, 0.05), max_trials=10 * self.num_trials + 100, stop_chance=0.0
        )
        if self.kind == "wide":
            most = MAX_CANDIDATES // len(WIDTHS)
            num = min(most, max(2, math.ceil(1.25 * self.num_trials / len(WIDTHS))))
            sparsities = tuple(round(0.95 * k / (num - 1), 6) for k in range(num))
            search = replace(search, widths=WIDTHS, sparsities=sparsities)
        return StudyConfig(name=NAME, search=search, trainer=TrainerConfig(task="qnli"))

    @property
    def evaluator(self) -> SyntheticEvaluator:
        """Measures the trials."""
        return SyntheticEvaluator(task=TASK)

    def tried(self) -> list[Candidate]:
        """Yield the candidates of the trials, the dense baseline first, the others shuffled."""
        baseline, *others = SearchSpace.from_config(self.config.search).candidates
        order = np.random.default_rng(0).permutation(len(others))
        shuffled = [others[i] for i in order]
        if self.kind == "repeated":
            shuffled = list(
                itertools.islice(itertools.cycle(shuffled[:-NUM_UNTRIED]), self.num_trials)
            )
        else:
            shuffled = shuffled[:-NUM_UNTRIED]
        return [baseline, *shuffled][: self.num_trials]


def build(study: LargeStudy, file: Path) -> None:
    """Make the database `file` with the study in it."""
    database = open_database(f"sqlite:///{file}")
    record = open_study(study.config, Repository(database), study.evaluator)
    storage = database.optuna_storage()
    open_optuna_study(record, storage)
    storage.close()
    add_trials(database, study, study.tried())
    database.close()


def add_trials(database: Database, study: LargeStudy, tried: Sequence[Candidate]) -> None:
    """Add finished trials of these candidates, in Optuna's tables too."""
    rows = [_measure(study.evaluator, candidate, k) for k, candidate in enumerate(tried)]
    with database.write() as connection:
        first = connection.execute(sa.select(sa.func.count()).select_from(STARTS)).scalar_one()
        for number, (candidate, measurement) in enumerate(
            zip(tried, rows, strict=True), start=first
        ):
            _add_ours(connection, number, candidate, measurement)
        if study.kind == "wide":
            claims = [_key(c) | _claim(n) for n, c in enumerate(tried, start=first)]
            connection.execute(sa.insert(CLAIMS), claims)
        _add_optunas(connection, first, tried, rows, study)


def _measure(evaluator: SyntheticEvaluator, candidate: Candidate, place: int) -> Measurement:
    """Yield a measurement as large as a real one."""
    seed = trial_seed(place, candidate)
    made = evaluator.evaluate(candidate, seed, lambda *_: None)
    return replace(
        made,
        phases=tuple(map(_with_history, made.phases)),
        environment=ENVIRONMENT,
        checkpoint=f"checkpoints/n{candidate.num_instances}-s{candidate.sparsity:.4f}-{seed}",
    )


def _with_history(phase: PhaseRecord) -> PhaseRecord:
    if phase.is_cached:
        return phase
    steps = np.linspace(1, phase.num_updates, POINTS_PER_PHASE).astype(int)
    points = (HistoryPoint(name="loss", value=1.0 / (1 + k), step=int(k)) for k in steps)
    return replace(phase, history=tuple(points))


def _add_ours(
    connection: sa.Connection, number: int, candidate: Candidate, measurement: Measurement
) -> None:
    now = utc_now()
    numbers: dict[str, Any] = dict.fromkeys(
        (
            *("chance", "chance_best", "expected_speedup", "expected_gain", "log_gain"),
            *("predicted_minutes", "score"),
        ),
        0.5,
    )
    others = tuple(RunnerUp(candidate=candidate, **numbers) for _ in range(5))
    choice = Choice(reason="chance 0.50 to meet 5.0 points, gain 1.65x", runners_up=others)
    start = {"number": number, "seed": measurement.seed, "reason": choice.reason} | numbers
    connection.execute(sa.insert(STARTS), _key(candidate) | start | {"started_at": now})
    insert_runners_up(connection, 1, number, choice)
    insert_measurement(connection, 1, number, measurement)
    attempt = {"study_id": 1, "number": number, "attempt": 1, "worker": "builder", "remedy": ""}
    times = dict.fromkeys(("began_at", "training_at", "ended_at"), now)
    connection.execute(sa.insert(ATTEMPTS), attempt | times | {"outcome": "told"})


def _key(candidate: Candidate) -> dict[str, Any]:
    return {
        "study_id": 1,
        "num_instances": candidate.num_instances,
        "sparsity": candidate.sparsity,
    }


def _claim(number: int) -> dict[str, Any]:
    return {"number": number, "worker": "builder", "claimed_at": utc_now()}


def _add_optunas(
    connection: sa.Connection,
    first: int,
    tried: Sequence[Candidate],
    measurements: Sequence[Measurement],
    study: LargeStudy,
) -> None:
    """Write what Optuna itself would have, as `Study.add_trial` does one by one."""
    metadata = sa.MetaData()
    metadata.reflect(connection, only=lambda name, _: name.startswith("trial"))
    now, tables = datetime.now(), metadata.tables
    shared = {"study_id": 1, "state": "COMPLETE", "datetime_start": now, "datetime_complete": now}
    numbered = list(enumerate(zip(tried, measurements, strict=True), start=first))
    connection.execute(
        sa.insert(tables["trials"]),
        [shared | {"trial_id": n + 1, "number": n} for n, _ in numbered],
    )
    space = SearchSpace.from_config(study.config.search)
    texts = {
        name: optuna.distributions.distribution_to_json(d)
        for name, d in space.distributions().items()
    }
    for table, rows in (
        ("trial_params", _params(numbered, space, texts)),
        ("trial_values", _values(numbered)),
        ("trial_user_attributes", _attributes(numbered)),
    ):
        connection.execute(sa.insert(tables[table]), list(rows))


_Numbered = Sequence[tuple[int, tuple[Candidate, Measurement]]]


def _params(
    numbered: _Numbered, space: SearchSpace, texts: dict[str, str]
) -> Iterator[dict[str, Any]]:
    for number, (candidate, _) in numbered:
        for name, value in space.encode(candidate).items():
            row = {"param_name": name, "param_value": value, "distribution_json": texts[name]}
            yield {"trial_id": number + 1} | row


def _values(numbered: _Numbered) -> Iterator[dict[str, Any]]:
    for number, (_, measurement) in numbered:
        for objective, value in enumerate(objectives_of(measurement)):
            row = {"objective": objective, "value": value, "value_type": "FINITE"}
            yield {"trial_id": number + 1} | row


def _attributes(numbered: _Numbered) -> Iterator[dict[str, Any]]:
    for number, (_, measurement) in numbered:
        for key, value in (("minutes", measurement.duration_s / 60), ("throughput", 1000.0)):
            yield {"trial_id": number + 1, "key": key, "value_json": str(value)}
