"""Every choice can be explained from what is stored of it."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from autoprumux.config import StudyConfig
from autoprumux.evaluators.base import Evaluator
from autoprumux.evaluators.recorded import RecordedEvaluator
from autoprumux.evaluators.recording_files import load_recording
from autoprumux.evaluators.synthetic import SyntheticEvaluator
from autoprumux.search.runner import run_study
from autoprumux.storage.database import Database

GRID: dict[str, Any] = {
    "widths": (1, 2, 5, 10),
    "sparsities": (0.0, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
}
EVALUATORS: dict[str, Callable[[], Evaluator]] = {
    "synthetic": SyntheticEvaluator,
    "recorded": lambda: RecordedEvaluator(load_recording("sst2-builtin-builtin")),
}


@pytest.fixture(params=EVALUATORS)
def choices(
    request: pytest.FixtureRequest,
    config: Callable[..., StudyConfig],
    database: Database,
    listener: Any,
) -> list[dict[str, Any]]:
    """Rows of `prumux_choices` after a search with the default sampler, without the baseline's."""
    asked = config(**GRID, max_trials=6, stop_chance=0.0, budgets=(0.01, 0.05))
    assert asked.search.sampler == "performance_model"
    run_study(asked, database, EVALUATORS[request.param](), listener)
    query = "SELECT * FROM prumux_choices WHERE number > 0 ORDER BY number, place"
    with database.read() as connection:
        return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def test_each_choice_has_five_runners_up(choices: list[dict[str, Any]]) -> None:
    places = [(row["number"], row["place"]) for row in choices]

    assert places == [(number, place) for number in range(1, 6) for place in range(6)]


def test_every_score_follows_from_the_columns_beside_it(choices: list[dict[str, Any]]) -> None:
    for row in choices:
        gain, chance = row["log_gain"], row["chance_best"]
        score = gain ** (2 / 3) * chance ** (1 / 3) / math.sqrt(row["predicted_minutes"])

        assert row["score"] == pytest.approx(score, rel=1e-12)
        assert 0.0 < chance <= 1.0
        assert row["score"] > 0.0


def test_no_runner_up_scores_more_than_a_near_tie_above_the_chosen_one(
    choices: list[dict[str, Any]],
) -> None:
    chosen = {row["number"]: row["score"] for row in choices if row["place"] == 0}

    assert all(0.95 * row["score"] <= chosen[row["number"]] for row in choices)
