"""Ground truth for `search.py`: what a search would measure of a task, and the budget asked for.

Made-up tables have the structure of published results (`tuning`, `reporting`) or another form
(`foreign`); `recorded` are trainings that were made once and kept. A seed is one search of a
table: it draws the noise of all measurements anew, or which of the recorded trainings it gets.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from calibrations import stored_calibrations
from search_tasks import MadeUpTask, Yields, additive, draw_task, draw_yields, foreign, measure

from autoprumux.errors import TrialError
from autoprumux.evaluators.recorded import RecordedEvaluator
from autoprumux.evaluators.recording import RecordedTrial, Recording
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.evaluators.synthetic import SyntheticTask
from autoprumux.records import (
    Calibration,
    Candidate,
    Failure,
    Measurement,
    TrialRecord,
    known_cause,
)
from autoprumux.search.acquisition import verified_best
from autoprumux.search.objective import trial_seed
from autoprumux.search.space import SearchSpace

FAMILIES = {"tuning": 1, "reporting": 2, "foreign": 3}
"""Seed of each made-up family; constants of the package may depend on the first alone."""
RECORDED = "recorded"
NUM_TABLES = 200
NUM_OTHERS = 3
"""Other tasks of the same model."""

BUDGETS = tuple(half_points / 200 for half_points in range(21))
NUM_SEEDS = len(BUDGETS)
"""Searches of a table, so that each of the budgets is asked once."""
BASELINE = Candidate(1, 0.0)
LEAST_CELLS = 36
"""Of a recorded grid: the whole of it."""
_RECORDINGS = Path(__file__).parents[1] / "studies" / "recorded"
_TRIAL_S = 60.0
_NOISE, _OTHER_NOISE, _POSSIBLE = 3, 4, 5
"""Streams of random numbers beside those that draw a task (none) and related ones (1)."""


@dataclass(frozen=True)
class Table:
    """A task, all of whose candidates are known, as one search sees it."""

    recording: Recording
    budget: float
    seed: int
    """Of the search."""
    source: MadeUpTask | None = None
    """What is true of it; None of a recorded one."""
    key: tuple[int, ...] = ()
    """Of the random numbers of a made-up one."""

    @property
    def space(self) -> SearchSpace:
        """All candidates."""
        return SearchSpace(self.recording.candidates)

    def evaluator(self) -> RecordedEvaluator:
        """Yield an evaluator that looks trials up."""
        return RecordedEvaluator(self.recording)

    @property
    def calibrations(self) -> tuple[Calibration, ...]:
        """Of the device that a recorded task was measured on, for its model."""
        return (stored_calibrations()[self.recording.name],)

    @cached_property
    def outcomes(self) -> dict[Candidate, Measurement | Failure]:
        """What the search would get of every candidate."""
        evaluator, found = self.evaluator(), dict[Candidate, Measurement | Failure]()
        for candidate in self.recording.candidates:
            seed = trial_seed(self.seed, candidate)
            try:
                found[candidate] = evaluator.evaluate(candidate, seed, lambda *_: None)
            except TrialError as error:
                found[candidate] = Failure(cause=known_cause(error.cause), message=str(error))
        return found

    @cached_property
    def measured(self) -> dict[Candidate, Measurement]:
        """What it would measure; failed candidates are left out."""
        return {c: m for c, m in self.outcomes.items() if isinstance(m, Measurement)}

    def possible(self, num: int) -> Yields:
        """Draw what `num` other searches would measure of `recording.candidates`, in order."""
        rng = np.random.default_rng([*self.key, _POSSIBLE, self.seed])
        if self.source is not None:
            return draw_yields(self.source, num, rng)
        return _draw_recorded(self.recording, num, rng)

    def as_trial(self, number: int, candidate: Candidate) -> TrialRecord:
        """Yield the outcome of `candidate` as the trial of this number."""
        found = self.outcomes[candidate]
        if isinstance(found, Failure):
            return TrialRecord(number=number, candidate=candidate, state="failed", failure=found)
        return TrialRecord(number=number, candidate=candidate, state="complete", measurement=found)

    def other_speedups(self) -> dict[Candidate, float]:
        """Yield the speed-ups of another task of the same model on the same device.

        Of recorded tasks, QQP's, as in the paper, or another's if this is QQP; its own if there is
        no other.
        """
        if self.source is not None:
            drawn = draw_yields(self.source, 1, np.random.default_rng([*self.key, _OTHER_NOISE]))
            return dict(zip(self.recording.candidates, drawn.speedups[0].tolist(), strict=True))
        others = sorted(others_of(self.recording), key=lambda r: (r.task != "qqp", r.name))
        other = replace(self, recording=others[0]) if others else self
        return {candidate: m.speedup for candidate, m in other.measured.items()}

    def with_equal_costs(self) -> "Table":
        """Yield the table with a minute for each trial, whatever it trains."""
        trials = tuple(
            replace(
                trial,
                measurement=trial.measurement
                and replace(trial.measurement, phases=(), duration_s=_TRIAL_S),
            )
            for trial in self.recording.trials
        )
        return replace(self, recording=replace(self.recording, trials=trials))


def num_tables(family: str, most: int) -> int:
    """Yield how many tables of a family there are, at most `most` of made-up ones."""
    return len(_recorded_tables()) if family == RECORDED else most


def is_first_of_task(family: str, index: int) -> bool:
    """True for one table of each task: recorded tasks have one for each budget."""
    if family != RECORDED or index == 0:
        return True
    before, own = (_recorded_tables()[i][0].name for i in (index - 1, index))
    return before != own


def has_others(family: str, index: int) -> bool:
    """True if there are other tasks of the same model, for a prior."""
    return family != RECORDED or bool(others_of(_recorded_tables()[index][0]))


def make_table(family: str, index: int, seed: int = 0) -> Table:
    """Draw a task, or take a recorded one, as the search with this seed sees it.

    A made-up table's budgets are those that some faster model meets; the seeds 0 to 20 go through
    them from the smallest to the largest. A recorded table has one budget.
    """
    if family == RECORDED:
        recording, budget = _recorded_tables()[index]
        return Table(recording, budget, seed)
    key = (FAMILIES[family], index)
    rng = np.random.default_rng(key)
    task = draw_task(rng)
    return _seen(foreign(task, rng) if family == "foreign" else additive(task, rng), key, seed)


def make_related(family: str, index: int, seed: int = 0) -> tuple[Table, list[Table]]:
    """Yield a task as the search with this seed sees it, and other tasks of the same model.

    Of made-up ones, each parameter of a loss is that of the model, give or take its spread between
    tasks, and speeds are those of the model. Recorded ones are the recordings of other tasks. The
    others are the same for all seeds.
    """
    if family == RECORDED:
        table = make_table(family, index, seed)
        return table, [Table(r, table.budget, 0) for r in others_of(table.recording)]
    rng = np.random.default_rng([FAMILIES[family], index, 1])
    model, bend = draw_task(rng), rng.uniform(0.85, 1.15)

    def task() -> SyntheticTask:
        return replace(
            draw_task(rng),
            width_loss=model.width_loss * math.exp(0.3 * rng.standard_normal()),
            width_power=float(np.clip(model.width_power + rng.normal(0, 0.15), 0.6, 2.0)),
            sparsity_loss=model.sparsity_loss * math.exp(0.3 * rng.standard_normal()),
            sparsity_power=float(np.clip(model.sparsity_power + rng.normal(0, 0.5), 1.2, 5.0)),
            latency=model.latency,
        )

    tasks = [additive(task(), rng, bend) for _ in range(NUM_OTHERS + 1)]
    keys = [(FAMILIES[family], index, 1, place) for place in range(NUM_OTHERS + 1)]
    others = [_seen(t, k, k[-1]) for t, k in zip(tasks[1:], keys[1:], strict=True)]
    return _seen(tasks[0], keys[0], seed), others


def others_of(recording: Recording) -> list[Recording]:
    """Yield the recordings of other tasks with the same model."""
    return [
        r
        for r in grids()
        if r.trainer.get("model") == recording.trainer.get("model") and r.task != recording.task
    ]


def _seen(task: MadeUpTask, key: tuple[int, ...], seed: int) -> Table:
    """Yield a made-up task with the noise of one search, and a budget."""
    found = measure(task, np.random.default_rng([*key, _NOISE, seed]))
    measured = {c: m for c, m in found.items() if isinstance(m, Measurement)}
    return Table(_as_recording(found), _budget(measured, seed), seed, task, key)


def _budget(measured: Mapping[Candidate, Measurement], seed: int) -> float:
    """Yield one of the budgets that some faster model meets, a larger one for a larger seed."""
    met = [b for b in BUDGETS if verified_best(measured, b) > 1.0] or BUDGETS[-1:]
    return met[(seed % NUM_SEEDS) * len(met) // NUM_SEEDS]


def _as_recording(found: Mapping[Candidate, Measurement | Failure]) -> Recording:
    trials = tuple(
        RecordedTrial(
            candidate=c,
            seed=0,
            measurement=m if isinstance(m, Measurement) else None,
            failure=m if isinstance(m, Failure) else None,
        )
        for c, m in found.items()
    )
    return Recording(
        name="table",
        task="synthetic",
        data_fingerprint="synthetic",
        trainer={},
        commands=(),
        environment={},
        recorded="",
        trials=trials,
    )


def _draw_recorded(recording: Recording, num: int, rng: np.random.Generator) -> Yields:
    """Draw one of the recorded trainings of each candidate, `num` times."""
    columns = []
    for candidate in recording.candidates:
        own = [t.measurement for t in recording.trials if t.candidate == candidate]
        values = [(m.accuracy, m.speedup, 1.0) if m else (0.0, 1.0, 0.0) for m in own]
        columns.append(np.array(values)[rng.integers(len(own), size=num)])
    accuracies, speedups, is_trained = np.stack(columns, axis=1).transpose(2, 0, 1)
    return Yields(accuracies=accuracies, speedups=speedups, is_trained=is_trained > 0.0)


@lru_cache
def grids() -> tuple[Recording, ...]:
    """Yield the recordings that are searched."""
    files = sorted(_RECORDINGS.glob("*.csv"))
    recordings = (load_recording(str(file)).of_best_settings() for file in files)
    return tuple(r for r in recordings if len({t.candidate for t in r.trials}) >= LEAST_CELLS)


@lru_cache
def _recorded_tables() -> tuple[tuple[Recording, float], ...]:
    """Yield every recording with every budget that, with any seed, a faster model meets."""
    found = []
    for recording in grids():
        seen = [Table(recording, 0.0, seed).measured for seed in range(NUM_SEEDS)]
        met = [b for b in BUDGETS if all(verified_best(measured, b) > 1.0 for measured in seen)]
        found += [(recording, budget) for budget in met]
    return tuple(found)
