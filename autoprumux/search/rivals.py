"""Optuna's own samplers on our grid, for comparison.

They see a width and a sparsity as places in an ordered list, so that every value they suggest is a
candidate. Asked for one budget they maximise the speed-up under the constraint that the loss stays
within it; for several, accuracy and speed-up. Nothing keeps them from a candidate that was tried.
"""

import contextlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autoprumux.records import Candidate, Measurement
from autoprumux.search.space import SearchSpace
from autoprumux.storage.trials import objectives_of

Rival = Literal["optuna_random", "tpe", "gp", "nsga2", "brute_force"]

SAMPLERS: Mapping[Rival, Callable[[int], BaseSampler]] = {
    "optuna_random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
    "brute_force": lambda seed: optuna.samplers.BruteForceSampler(seed=seed),
}

_WIDTH, _SPARSITY = "width_index", "sparsity_index"
_LOSS = "accuracy_loss"


@dataclass(frozen=True)
class RivalStudy:
    """A study of one of Optuna's samplers; the dense baseline is asked for first."""

    study: optuna.Study
    widths: tuple[int, ...]
    sparsities: tuple[float, ...]
    budgets: tuple[float, ...]

    @classmethod
    def create(
        cls, rival: Rival, space: SearchSpace, budgets: tuple[float, ...], seed: int
    ) -> "RivalStudy":
        """Yield a study in memory."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler = SAMPLERS[rival](seed)
        directions = [StudyDirection.MAXIMIZE] * (1 if len(budgets) == 1 else 2)
        study = optuna.create_study(directions=directions, sampler=sampler)
        study.enqueue_trial({_WIDTH: 0, _SPARSITY: 0})
        return cls(
            study,
            tuple(sorted({c.num_instances for c in space.candidates})),
            tuple(sorted({c.sparsity for c in space.candidates})),
            budgets,
        )

    def ask(self) -> tuple[optuna.Trial, Candidate]:
        """Yield a trial and its candidate, which may have been tried before."""
        trial = self.study.ask()
        width = trial.suggest_int(_WIDTH, 0, len(self.widths) - 1)
        sparsity = trial.suggest_int(_SPARSITY, 0, len(self.sparsities) - 1)
        return trial, Candidate(self.widths[width], self.sparsities[sparsity])

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
