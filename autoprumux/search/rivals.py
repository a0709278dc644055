"""Optuna's own samplers on our grid, for comparison.

They see a width, a sparsity and every listed number as places in an ordered list, so that every
value they suggest is a candidate's; words are categories, and ranges are what they are. Asked for
one budget they maximise the speed-up under the constraint that the loss stays within it; for
several, accuracy and speed-up. Nothing keeps them from a candidate that was tried: a replay counts
that, and a search asks again (`rank_by_rival`).
"""

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autoprumux.hyperparameters import Hyperparameter, values_of, with_setting
from autoprumux.records import Candidate, Measurement, StudyRecord, Value
from autoprumux.search.space import SearchSpace, distribution_of, suggest
from autoprumux.storage.trials import objectives_of

Rival = Literal["optuna_random", "tpe", "gp", "nsga2", "brute_force"]

POPULATION = 8
"""Models in a generation of NSGA-II. Optuna's default of 50 is more than the grid has, so that the
sampler would never come to breed any."""

MAX_REPEATS = 20
"""Times that a sampler is asked again, after a candidate that was tried, before its nearest
neighbour is taken."""

SAMPLERS: Mapping[Rival, Callable[[int], BaseSampler]] = {
    "optuna_random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION),
    "brute_force": lambda seed: optuna.samplers.BruteForceSampler(seed=seed),
}

_WIDTH, _SPARSITY = "width_index", "sparsity_index"
_LOSS = "accuracy_loss"


@dataclass(frozen=True)
class RivalStudy:
    """A study in memory of one of Optuna's samplers."""

    study: optuna.Study
    widths: tuple[int, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[float, ...]
    hyperparameters: tuple[Hyperparameter, ...] = ()

    @classmethod
    def create(
        cls, rival: Rival, space: SearchSpace, budgets: tuple[float, ...], seed: int
    ) -> "RivalStudy":
        """Yield a study in memory."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = SAMPLERS[rival](seed)
        directions = [StudyDirection.MAXIMIZE] * (1 if len(budgets) == 1 else 2)
        return cls(
            optuna.create_study(directions=directions, sampler=sampler),
            tuple(sorted({c.num_instances for c in space.candidates})),
            tuple(sorted({c.sparsity for c in space.candidates})),
            budgets,
            space.hyperparameters,
        )

    def enqueue(self, candidate: Candidate) -> None:
        """Have `candidate` be the next that is asked for."""
        width, sparsity = self.place(candidate)
        values = values_of(self.hyperparameters, candidate)
        codes = {h.key: _code(h, values[h.key]) for h in self.hyperparameters}
        self.study.enqueue_trial({_WIDTH: width, _SPARSITY: sparsity, **codes})

    def place(self, candidate: Candidate) -> tuple[int, int]:
        """Yield the places of width and sparsity in their lists."""
        width = self.widths.index(candidate.num_instances)
        return width, self.sparsities.index(candidate.sparsity)

    def ask(self) -> tuple[optuna.Trial, Candidate]:
        """Yield a trial and its candidate, which may have been tried before."""
        trial = self.study.ask()
        width = trial.suggest_int(_WIDTH, 0, len(self.widths) - 1)
        sparsity = trial.suggest_int(_SPARSITY, 0, len(self.sparsities) - 1)
        cell = Candidate(self.widths[width], self.sparsities[sparsity])
        values = [_decode(h, suggest(trial, h.key, _coded(h))) for h in self.hyperparameters]
        return trial, with_setting(self.hyperparameters, cell, values)

    def tell(
        self, trial: optuna.Trial, measurement: Measurement | None, baseline: Measurement | None
    ) -> None:
        """Pass on what a trial yielded; `None` if it failed."""
        if measurement is None or baseline is None:
            self._tell(trial, None)
        elif len(self.budgets) == 1:
            loss = baseline.accuracy - measurement.accuracy
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                trial.set_constraint(_LOSS, loss - self.budgets[0])
            self._tell(trial, [measurement.speedup])
        else:
            self._tell(trial, objectives_of(measurement))

    def _tell(self, trial: optuna.Trial, values: list[float] | None) -> None:
        state = TrialState.FAIL if values is None else None
        with contextlib.suppress(RuntimeError):  # brute force stops `Study.optimize`, unused here
            self.study.tell(trial, values, state=state)


def rank_by_rival(
    rival: Rival,
    space: SearchSpace,
    record: StudyRecord,
    free: Sequence[Candidate],
    budgets: tuple[float, ...],
    seed: int,
) -> list[Candidate]:
    """Yield what may come next, the candidate that a sampler of Optuna's asks for first.

    Where candidates cannot be listed, that one need not be among the `free` ones.

    The sampler is made anew from the study's trials, so that a resumed search goes on as an
    undisturbed one. Asking for what was tried, it is told the same again; the candidates after
    the first are its nearest neighbours, for a process that is too late for the first.

    Args:
        rival: Name of the sampler.
        space: The candidates.
        record: The study with its trials, running ones included.
        free: What may be chosen, at least one candidate.
        budgets: Largest accuracy losses, fractions.
        seed: Seed of the sampler.
    """
    rivals = RivalStudy.create(rival, space, budgets, seed)
    _fill(rivals, rival, space, record)
    outcomes = {t.candidate: t.measurement for t in record.trials}
    chosen: list[Candidate] = []
    wanted = free[0]
    for _ in range(MAX_REPEATS):
        trial, wanted = rivals.ask()
        is_new = space.num_points is None and wanted not in outcomes
        if wanted in free or is_new:
            chosen = [wanted]
            break
        rivals.tell(trial, outcomes.get(wanted), record.baseline)
    place, setting = rivals.place(wanted), wanted.hyperparameters

    def distance(candidate: Candidate) -> tuple[int, bool, Candidate]:
        steps = _distance(rivals.place(candidate), place)
        return steps, candidate.hyperparameters != setting, candidate

    return chosen + [c for c in sorted(free, key=distance) if c not in chosen]


def _fill(rivals: RivalStudy, rival: Rival, space: SearchSpace, record: StudyRecord) -> None:
    """Put the trials of a study into that of a sampler; running ones stay running there."""
    sampler = rivals.study.sampler
    if rival != "nsga2":  # it notes the generation of a trial when it is asked for it
        rivals.study.sampler = optuna.samplers.RandomSampler(seed=0)
    for trial in record.trials:
        if trial.candidate.cell in space.candidates:
            rivals.enqueue(trial.candidate)
            asked, _ = rivals.ask()
            if trial.state != "running":
                rivals.tell(asked, trial.measurement, record.baseline)
    rivals.study.sampler = sampler


def _coded(hyperparameter: Hyperparameter) -> BaseDistribution:
    """Yield the parameter that a sampler sees: places in a list of numbers, else the values."""
    if hyperparameter.is_number and hyperparameter.values:
        return IntDistribution(0, len(hyperparameter.values) - 1)
    return distribution_of(hyperparameter)


def _code(hyperparameter: Hyperparameter, value: Value) -> Value:
    if hyperparameter.is_number and hyperparameter.values:
        known = _ascending(hyperparameter)
        return min(range(len(known)), key=lambda place: abs(known[place] - float(value)))
    return value


def _decode(hyperparameter: Hyperparameter, code: Value) -> Value:
    if hyperparameter.is_number and hyperparameter.values:
        number = _ascending(hyperparameter)[int(code)]
        return type(hyperparameter.own)(number)
    return hyperparameter.snapped(code)


def _ascending(hyperparameter: Hyperparameter) -> list[float]:
    return sorted(float(value) for value in hyperparameter.values)


def _distance(one: tuple[int, int], other: tuple[int, int]) -> int:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])
