"""The candidates of a study and how Optuna sees them.

Width, sparsity and every hyperparameter that is a number are integer and float parameters, not
categories: Optuna stores the index of a category, which no SQL reader could use. Of a list only
its values are ever suggested, so the range between them does no harm.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any, cast

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial, FrozenTrial

from autoprumux.config import SearchConfig
from autoprumux.hyperparameters import (
    MOST_COMBINATIONS,
    Hyperparameter,
    settings_of,
    values_of,
    with_setting,
)
from autoprumux.records import Candidate
from autoprumux.storage.trials import NUM_INSTANCES, SPARSITY, candidate_of

NUM_DRAWN = 32
"""Settings that are drawn for a cell where they cannot be listed."""


@dataclass(frozen=True)
class SearchSpace:
    """All candidates of a study."""

    candidates: tuple[Candidate, ...]
    """Cells (N, s) in order of width, then sparsity; the baseline is the first."""
    hyperparameters: tuple[Hyperparameter, ...] = ()
    """What is searched beside N and s, in order of the keys."""

    @classmethod
    def from_config(cls, config: SearchConfig) -> "SearchSpace":
        """Yield the full grid of widths and sparsities, and the searched hyperparameters."""
        grid = {Candidate(n, s) for n in config.widths for s in config.sparsities}
        return cls(tuple(sorted(grid)), config.hyperparameters)

    @property
    def num_points(self) -> int | None:
        """Number of candidates with all their settings; None if there is no end of them."""
        return None if any(h.listed is None for h in self.hyperparameters) else self._count()

    def points(self, seed: int, number: int) -> list[Candidate]:
        """Yield the candidates that may be tried next: all of them, or of too many some of each.

        A cell's own values always come first.

        Args:
            seed: Of the study; it decides with `number` which ones are drawn.
            number: Of the trial that is to try one.
        """
        if not self.hyperparameters:
            return list(self.candidates)
        num = self.num_points
        if num is not None and num <= MOST_COMBINATIONS:
            return [point for cell in self.candidates for point in self._settings(cell)]
        generator = np.random.default_rng([seed, number, len(self.candidates)])
        shares = generator.random((NUM_DRAWN, len(self.hyperparameters)))
        drawn = [
            [h.draw(share) for h, share in zip(self.hyperparameters, row, strict=True)]
            for row in shares
        ]
        points = (
            with_setting(self.hyperparameters, cell, values)
            for cell in self.candidates
            for values in ([h.own for h in self.hyperparameters], *drawn)
        )
        return list(dict.fromkeys(points))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Yield Optuna's parameters, wide enough for every candidate."""
        widths = [c.num_instances for c in self.candidates]
        sparsities = [c.sparsity for c in self.candidates]
        return {
            NUM_INSTANCES: IntDistribution(min(widths), max(widths)),
            SPARSITY: FloatDistribution(min(sparsities), max(sparsities)),
            **{h.key: distribution_of(h) for h in self.hyperparameters},
        }

    def suggest(self, trial: BaseTrial) -> Candidate:
        """Yield the candidate of an Optuna trial, asking its sampler for what isn't stored yet."""
        values = {
            name: suggest(trial, name, distribution)
            for name, distribution in self.distributions().items()
        }
        return self.candidate(values)

    def candidate(self, params: Mapping[str, Any]) -> Candidate:
        """Yield the candidate that Optuna's parameter values stand for."""
        cell = Candidate(params[NUM_INSTANCES], params[SPARSITY])
        values = [h.snapped(params.get(h.key, h.own)) for h in self.hyperparameters]
        return with_setting(self.hyperparameters, cell, values)

    def candidate_of(self, trial: FrozenTrial) -> Candidate | None:
        """Yield the candidate of an Optuna trial, or None while it has none."""
        return None if candidate_of(trial) is None else self.candidate(trial.params)

    def encode(self, candidate: Candidate) -> dict[str, Any]:
        """Yield Optuna's parameter values of `candidate`."""
        values = values_of(self.hyperparameters, candidate)
        return {
            NUM_INSTANCES: candidate.num_instances,
            SPARSITY: candidate.sparsity,
            **{h.key: values[h.key] for h in self.hyperparameters},
        }

    def _count(self) -> int:
        return sum(
            prod(len(h.listed or ()) for h in self.hyperparameters if h.concerns(cell))
            for cell in self.candidates
        )

    def _settings(self, cell: Candidate) -> list[Candidate]:
        return list(islice(settings_of(self.hyperparameters, cell), MOST_COMBINATIONS))


def distribution_of(hyperparameter: Hyperparameter) -> BaseDistribution:
    """Yield Optuna's parameter of a hyperparameter."""
    if not hyperparameter.is_number:
        return CategoricalDistribution(hyperparameter.listed or ())
    low, high = hyperparameter.span
    step, is_log = hyperparameter.step, hyperparameter.is_log
    if isinstance(hyperparameter.own, int):
        return IntDistribution(int(low), int(high), log=is_log, step=int(step or 1))
    return FloatDistribution(low, high, log=is_log, step=step)


def suggest(trial: BaseTrial, name: str, distribution: BaseDistribution) -> Any:
    """Yield the value of any parameter of an Optuna trial."""
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        low, high = distribution.low, distribution.high
        return trial.suggest_int(name, low, high, step=distribution.step, log=distribution.log)
    floats = cast(FloatDistribution, distribution)
    return trial.suggest_float(name, floats.low, floats.high, step=floats.step, log=floats.log)
