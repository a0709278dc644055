"""Ground truth for `search.py`: what every candidate of a task yields, and the budget asked for.

Made-up tables have the structure of published results (`tuning`, `reporting`) or another form
(`foreign`); `recorded` are trainings that were made once and kept.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from autoprumux.errors import TrialError
from autoprumux.evaluators.recorded import RecordedEvaluator
from autoprumux.evaluators.recording import RecordedTrial, Recording
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.evaluators.synthetic import DEFAULT_GRID, SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Measurement
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
BASELINE = Candidate(1, 0.0)
SPACE = SearchSpace(tuple(sorted(DEFAULT_GRID)))
LEAST_CELLS = 20
"""Of a recorded grid; among fewer, what a search tries first is hardly a choice."""
_RECORDINGS = Path(__file__).parents[1] / "studies" / "recorded"
_TRIAL_S = 60.0


@dataclass(frozen=True)
class Table:
    """A task, all of whose candidates are known, and the budget asked for."""

    recording: Recording
    budget: float

    @property
    def space(self) -> SearchSpace:
        """All candidates."""
        return SearchSpace(self.recording.candidates)

    def evaluator(self) -> RecordedEvaluator:
        """Yield an evaluator that looks trials up."""
        return RecordedEvaluator(self.recording)

    def measured(self, seed: int = 0) -> dict[Candidate, Measurement]:
        """Yield what a search with this seed would measure; failed candidates are left out."""
        evaluator, found = self.evaluator(), {}
        for candidate in self.recording.candidates:
            try:
                found[candidate] = evaluator.evaluate(
                    candidate, trial_seed(seed, candidate), lambda *_: None
                )
            except TrialError:
                continue
        return found

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
        return Table(replace(self.recording, trials=trials), self.budget)


def num_tables(family: str, most: int) -> int:
    """Yield how many tables of a family there are, at most `most` of made-up ones."""
    return len(_recorded_tables()) if family == RECORDED else most


def make_table(family: str, index: int) -> Table:
    """Draw a task and a budget, or take a recorded one."""
    if family == RECORDED:
        return _recorded_tables()[index]
    rng = np.random.default_rng([FAMILIES[family], index])
    task = _draw_task(rng)
    if family == "foreign":
        return _with_budget(_foreign(task, rng), rng)
    return _with_budget(_draw_measured(task, rng), rng)


def make_related(family: str, index: int) -> tuple[Table, list[Table]]:
    """Yield a task with a budget, and other tasks of the same model on the same device.

    Of made-up ones, each parameter of a loss is that of the model, give or take its spread between
    tasks, and speeds are those of the model. Recorded ones are the recordings of other tasks.
    """
    if family == RECORDED:
        table = make_table(family, index)
        others = [r for r in _recordings() if _is_other(r, table.recording)]
        return table, [Table(recording, table.budget) for recording in others]
    rng = np.random.default_rng([FAMILIES[family], index, 1])
    model, bend = _draw_task(rng), rng.uniform(0.85, 1.15)

    def task() -> SyntheticTask:
        return replace(
            _draw_task(rng),
            width_loss=model.width_loss * math.exp(0.3 * rng.standard_normal()),
            width_power=float(np.clip(model.width_power + rng.normal(0, 0.15), 0.6, 2.0)),
            sparsity_loss=model.sparsity_loss * math.exp(0.3 * rng.standard_normal()),
            sparsity_power=float(np.clip(model.sparsity_power + rng.normal(0, 0.5), 1.2, 5.0)),
            latency=model.latency,
        )

    tables = [_with_budget(_draw_measured(task(), rng, bend), rng) for _ in range(NUM_OTHERS + 1)]
    return tables[0], tables[1:]


def _draw_task(rng: np.random.Generator) -> SyntheticTask:
    return SyntheticTask(
        baseline_accuracy=rng.uniform(0.80, 0.96),
        chance_accuracy=float(rng.choice([1 / 3, 0.5])),
        width_loss=0.09 * math.exp(0.6 * rng.standard_normal()),
        width_power=rng.uniform(0.8, 1.8),
        sparsity_loss=0.06 * math.exp(0.6 * rng.standard_normal()),
        sparsity_power=rng.uniform(1.5, 4.5),
        interaction=rng.uniform(0.0, 0.06),
        collapse=rng.uniform(1.3, 1.8) if rng.random() < 0.4 else math.inf,
        latency=(
            0.10 * math.exp(0.5 * rng.standard_normal()),
            0.90,
            0.02 * math.exp(0.8 * rng.standard_normal()),
        ),
        num_examples=int(rng.choice([872, 2000, 4000, 5463, 9815])),
    )


def _draw_measured(
    task: SyntheticTask, rng: np.random.Generator, bend: float | None = None
) -> dict[Candidate, Measurement]:
    plateau = rng.uniform(0.0, 0.01) if rng.random() < 0.5 else 0.0
    bend = rng.uniform(0.85, 1.15) if bend is None else bend
    return {c: _measure(task, c, plateau, bend, rng) for c in SPACE.candidates}


def _measure(
    task: SyntheticTask,
    candidate: Candidate,
    plateau: float,
    bend: float,
    rng: np.random.Generator,
) -> Measurement:
    """Yield the closed form with a plateau, a bent law and noise in both targets."""
    demo = SyntheticEvaluator(task=replace(task, num_examples=8)).evaluate(
        candidate, 0, lambda *_: None
    )
    accuracy = task.accuracy(candidate)
    if accuracy > task.chance_accuracy and not candidate.is_baseline:
        rough = 0.0025 * rng.standard_normal()
        accuracy = min(accuracy + plateau, task.baseline_accuracy) + rough
    share = min(max(accuracy, 0.0), 1.0)
    bent = Candidate(candidate.num_instances, 1.0 - (1.0 - candidate.sparsity) ** bend)
    noise = 0.0 if candidate.is_baseline else 0.02 * rng.standard_normal()
    speedup = task.speedup(bent) * math.exp(noise)
    return replace(
        demo,
        accuracy=rng.binomial(task.num_examples, share) / task.num_examples,
        num_examples=task.num_examples,
        throughput=replace(demo.throughput, speedup=speedup),
    )


def _foreign(task: SyntheticTask, rng: np.random.Generator) -> dict[Candidate, Measurement]:
    """Yield losses that multiply, saturate at a floor, and rise in steps between widths."""
    steps = np.sort(rng.gamma(1.5, 0.035, 3))
    jumps = dict(zip((1, 2, 5, 10), (0.0, *steps), strict=True))
    knee, depth = rng.uniform(0.7, 0.97), rng.uniform(0.02, 0.3)
    sharpness, floor = rng.uniform(8.0, 30.0), rng.uniform(0.08, 0.4)
    measured = _draw_measured(replace(task, collapse=math.inf), rng)
    for candidate, measurement in measured.items():
        if not candidate.is_baseline:
            pruned = depth / (1.0 + math.exp(-sharpness * (candidate.sparsity - knee)))
            kept = (1.0 - jumps[candidate.num_instances] / floor) * (1.0 - pruned / floor)
            loss = floor * (1.0 - max(kept, 0.0)) + 0.0025 * rng.standard_normal()
            share = min(max(task.baseline_accuracy - loss, 0.0), 1.0)
            num = task.num_examples
            measured[candidate] = replace(measurement, accuracy=rng.binomial(num, share) / num)
    return measured


def _with_budget(measured: Mapping[Candidate, Measurement], rng: np.random.Generator) -> Table:
    faster = [budget for budget in BUDGETS if verified_best(measured, budget) > 1.0]
    trials = tuple(
        RecordedTrial(candidate=candidate, seed=0, measurement=measurement)
        for candidate, measurement in measured.items()
    )
    recording = Recording(
        name="table",
        task="synthetic",
        data_fingerprint="synthetic",
        trainer={},
        commands=(),
        environment={},
        recorded="",
        trials=trials,
    )
    return Table(recording, float(rng.choice(faster or BUDGETS[-1:])))


@lru_cache
def _recordings() -> tuple[Recording, ...]:
    files = sorted(_RECORDINGS.glob("*.csv"))
    recordings = (load_recording(str(file)).of_best_settings() for file in files)
    return tuple(r for r in recordings if len({t.candidate for t in r.trials}) >= LEAST_CELLS)


@lru_cache
def _recorded_tables() -> tuple[Table, ...]:
    """Yield every recording with every budget that a model faster than the baseline meets."""
    tables = [Table(recording, budget) for recording in _recordings() for budget in BUDGETS]
    return tuple(t for t in tables if verified_best(t.measured(), t.budget) > 1.0)


def _is_other(recording: Recording, own: Recording) -> bool:
    is_same_model = recording.trainer.get("model") == own.trainer.get("model")
    return is_same_model and recording.task != own.task
