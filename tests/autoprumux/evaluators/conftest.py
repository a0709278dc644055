"""A recording of the synthetic evaluator: two seeds, and one candidate that failed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoprumux.config import SearchConfig, StudyConfig, config_hash, study_to_dict
from autoprumux.errors import TrialError
from autoprumux.evaluators.synthetic import SyntheticEvaluator, SyntheticTask
from autoprumux.records import Candidate, Failure, StudyRecord, TrialRecord
from trainers.config import TrainerConfig

FAILED = Candidate(5, 0.9)


def make_study(*, seed: int = 0, widths: tuple[int, ...] = (1, 2, 5)) -> StudyRecord:
    """Yield the full grid of a small study as the synthetic evaluator measures it."""
    config = StudyConfig(
        name=f"qnli-seed{seed}",
        search=SearchConfig(widths=widths, sparsities=(0.0, 0.6, 0.9), seed=seed),
        trainer=TrainerConfig(task="qnli"),
    )
    evaluator = SyntheticEvaluator(
        task=SyntheticTask(num_examples=200), is_noisy=True, failing=frozenset({FAILED})
    )
    grid = [Candidate(n, s) for n in widths for s in config.search.sparsities]
    return StudyRecord(
        name=config.name,
        task="qnli",
        config=study_to_dict(config),
        config_hash=config_hash(config),
        data_fingerprint="builtin:qnli:0123",
        seed=seed,
        budgets=config.search.budgets,
        trials=tuple(_trial(evaluator, number, c, seed) for number, c in enumerate(grid)),
    )


@pytest.fixture
def make_recorded_study() -> Callable[..., StudyRecord]:
    """Factory: `make_recorded_study(seed=1)`, see `make_study`."""
    return make_study


def _trial(
    evaluator: SyntheticEvaluator, number: int, candidate: Candidate, seed: int
) -> TrialRecord:
    try:
        measurement = evaluator.evaluate(candidate, 100 + seed, lambda *_: None)
    except TrialError as error:
        failure = Failure(cause=error.cause, message=str(error), last_accuracy=0.55)
        return TrialRecord(number=number, candidate=candidate, state="failed", failure=failure)
    measurement = replace(measurement, environment={"device": "cpu", "seed": f"{seed}"})
    return TrialRecord(
        number=number, candidate=candidate, state="complete", measurement=measurement
    )
