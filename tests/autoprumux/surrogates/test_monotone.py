"""Values are moved until they never fall with N or s, and no further."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprumux.records import Candidate
from autoprumux.surrogates.monotone import MonotoneValues

candidates = st.builds(
    Candidate, st.sampled_from([1, 2, 3, 5, 10]), st.sampled_from([0.0, 0.6, 0.8, 0.9, 0.95])
)
values = st.floats(-0.05, 0.5)
tables = st.dictionaries(candidates, values, min_size=1)


def is_below(small: Candidate, large: Candidate) -> bool:
    return small.num_instances <= large.num_instances and small.sparsity <= large.sparsity


def made(table: dict[Candidate, float], asked: dict[Candidate, float]) -> dict[Candidate, float]:
    found = MonotoneValues(list(table), np.array(list(table.values())))
    return dict(zip(asked, found.at(list(asked), np.array(list(asked.values()))), strict=True))


def mean_of_envelopes(table: dict[Candidate, float], candidate: Candidate) -> float:
    largest = max(v for c, v in table.items() if is_below(c, candidate))
    smallest = min(v for c, v in table.items() if is_below(candidate, c))
    return 0.5 * (largest + smallest)


@given(table=tables)
def test_values_of_the_set_never_fall(table):
    found = made(table, table)

    for small in table:
        for large in table:
            if is_below(small, large):
                assert found[small] <= found[large]


@given(table=tables)
def test_each_is_the_mean_of_the_bounds_from_below_and_above(table):
    found = made(table, table)

    for candidate, value in found.items():
        assert value == pytest.approx(mean_of_envelopes(table, candidate))


@given(table=tables, others=tables)
def test_a_candidate_beside_the_set_is_kept_between_its_neighbours(table, others):
    found = made(table, table)
    beside = {c: v for c, v in others.items() if c not in table}

    for candidate, value in made(table, beside).items():
        low = max((v for c, v in found.items() if is_below(c, candidate)), default=-np.inf)
        high = min((v for c, v in found.items() if is_below(candidate, c)), default=np.inf)
        assert value == np.clip(beside[candidate], low, high)


@given(table=tables)
def test_monotone_values_stay_as_they_are(table):
    rising = {c: 0.01 * c.num_instances + 0.1 * c.sparsity for c in table}

    assert made(rising, rising) == pytest.approx(rising)


def test_without_a_set_values_stay_as_they_are():
    assert made({}, {Candidate(2, 0.5): 0.3}) == {Candidate(2, 0.5): 0.3}
