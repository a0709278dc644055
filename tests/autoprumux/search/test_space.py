import optuna
import pytest

from autoprumux.config import SearchConfig
from autoprumux.records import Candidate
from autoprumux.search.space import SearchSpace

SPACE = SearchSpace.from_config(SearchConfig(widths=(10, 1, 2), sparsities=(0.95, 0.0, 0.6)))


def test_space_is_the_full_grid_with_the_baseline_first() -> None:
    assert len(SPACE.candidates) == 9
    assert SPACE.candidates[0] == Candidate(1, 0.0)
    assert SPACE.candidates == tuple(sorted(SPACE.candidates))


@pytest.mark.parametrize("candidate", SPACE.candidates, ids=str)
def test_optuna_stores_every_candidate_exactly(candidate: Candidate) -> None:
    study = optuna.create_study()
    study.enqueue_trial(SPACE.encode(candidate))

    found = SPACE.suggest(study.ask())

    assert found == candidate
    assert study.trials[0].params == {
        "num_instances": candidate.num_instances,
        "sparsity": candidate.sparsity,
    }


def test_width_is_stored_as_a_number_that_sql_can_read() -> None:
    distributions = SPACE.distributions()

    assert distributions["num_instances"].to_internal_repr(10) == 10.0
