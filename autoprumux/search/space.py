"""The grid of candidates and how Optuna sees it.

Width and sparsity are an integer and a float parameter, not categories: Optuna stores the index
of a category, which no SQL reader could use. Only grid values are ever suggested, so the range
between them does no harm.
"""

from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial

from autoprumux.config import SearchConfig
from autoprumux.records import Candidate
from autoprumux.storage.trials import NUM_INSTANCES, SPARSITY


@dataclass(frozen=True)
class SearchSpace:
    """All candidates of a study."""

    candidates: tuple[Candidate, ...]
    """In order of width, then sparsity; the baseline is the first."""

    @classmethod
    def from_config(cls, config: SearchConfig) -> "SearchSpace":
        """Yield the full grid of widths and sparsities."""
        grid = {Candidate(n, s) for n in config.widths for s in config.sparsities}
        return cls(tuple(sorted(grid)))

    def distributions(self) -> dict[str, BaseDistribution]:
        """Yield Optuna's parameters, wide enough for every candidate."""
        widths = [c.num_instances for c in self.candidates]
        sparsities = [c.sparsity for c in self.candidates]
        return {
            NUM_INSTANCES: IntDistribution(min(widths), max(widths)),
            SPARSITY: FloatDistribution(min(sparsities), max(sparsities)),
        }

    def suggest(self, trial: BaseTrial) -> Candidate:
        """Yield the candidate of an Optuna trial, asking its sampler for what isn't stored yet."""
        widths, sparsities = self.distributions().values()
        assert isinstance(widths, IntDistribution)
        assert isinstance(sparsities, FloatDistribution)
        return Candidate(
            trial.suggest_int(NUM_INSTANCES, widths.low, widths.high),
            trial.suggest_float(SPARSITY, sparsities.low, sparsities.high),
        )


def encode(candidate: Candidate) -> dict[str, Any]:
    """Yield Optuna's parameter values of `candidate`."""
    return {NUM_INSTANCES: candidate.num_instances, SPARSITY: candidate.sparsity}
