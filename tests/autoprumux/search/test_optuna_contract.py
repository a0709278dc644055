"""Optuna's own test cases for samplers, on foreign parameters and on those of our space."""

from collections.abc import Callable
from types import ModuleType

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from autoprumux.config import SearchConfig
from autoprumux.search import sampler as sampler_module
from autoprumux.search import space as space_module
from autoprumux.search.sampler import PerformanceModelSampler
from autoprumux.search.space import SearchSpace
from autoprumux.storage import trials as trials_module

SPACE = SearchSpace.from_config(SearchConfig())
WIDTHS, SPARSITIES = SPACE.distributions().values()
NAMED: tuple[ModuleType, ...] = (sampler_module, space_module, trials_module)
"""Modules that call our parameters by their names."""


class OurSampler:
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return lambda: PerformanceModelSampler(SPACE, [0.02])


class TestForeignParameters(
    OurSampler, BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    pass


class TestOwnParameters(
    OurSampler, BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    """Sparsity is called `x` and width `y`, the names of the cases.

    Left out are those whose `x` is no float or whose `y` is no integer.
    """

    @pytest.fixture(autouse=True)
    def _names_of_the_cases(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in NAMED:
            monkeypatch.setattr(module, "SPARSITY", "x")
            monkeypatch.setattr(module, "NUM_INSTANCES", "y")

    test_single_parameter_objective = None
    test_conditional_parameter_objective = None
    test_combination_of_different_distributions_objective = None
    test_sample_relative_categorical = None
    test_sample_relative_mixed = None

    @pytest.mark.parametrize("distribution", [SPARSITIES])
    def test_float(
        self, sampler: Callable[[], BaseSampler], distribution: FloatDistribution
    ) -> None:
        super().test_float(sampler, distribution)

    @pytest.mark.parametrize("distribution", [WIDTHS])
    def test_int(self, sampler: Callable[[], BaseSampler], distribution: IntDistribution) -> None:
        super().test_int(sampler, distribution)

    @pytest.mark.parametrize("x_distribution", [SPARSITIES])
    @pytest.mark.parametrize("y_distribution", [WIDTHS])
    def test_sample_relative_numerical(
        self,
        sampler: Callable[[], BaseSampler],
        x_distribution: BaseDistribution,
        y_distribution: BaseDistribution,
    ) -> None:
        super().test_sample_relative_numerical(sampler, x_distribution, y_distribution)

    @pytest.mark.parametrize("distribution", [SPARSITIES, WIDTHS])
    def test_multi_objective_sample_independent(
        self, sampler: Callable[[], BaseSampler], distribution: BaseDistribution
    ) -> None:
        super().test_multi_objective_sample_independent(sampler, distribution)

    @pytest.mark.parametrize("n_jobs", [1, 2])
    def test_trial_relative_params(self, n_jobs: int, sampler: Callable[[], BaseSampler]) -> None:
        study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler())

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            candidate = SPACE.suggest(trial)
            assert trial.relative_params.keys() == {"x", "y"}
            assert candidate in SPACE.candidates
            return 0.9 - 0.01 * candidate.num_instances, 1.0 + candidate.sparsity

        study.optimize(objective, n_trials=10, n_jobs=n_jobs)

        assert len({(t.params["x"], t.params["y"]) for t in study.trials}) == 10
