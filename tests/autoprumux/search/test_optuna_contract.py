"""Optuna's own test cases for samplers, on parameters that are not of our space."""

from collections.abc import Callable

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from autoprumux.config import SearchConfig
from autoprumux.search.sampler import PerformanceModelSampler
from autoprumux.search.space import SearchSpace


class TestPerformanceModelSampler(
    BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase
):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        space = SearchSpace.from_config(SearchConfig())
        return lambda: PerformanceModelSampler(space, [0.02])
