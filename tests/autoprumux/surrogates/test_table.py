import math

import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.table import TableSurrogate

TABLE = {
    Candidate(1, 0.6): 2.0,
    Candidate(1, 0.8): 4.0,
    Candidate(2, 0.6): 4.0,
    Candidate(2, 0.8): 7.0,
}


@pytest.fixture
def surrogate() -> TableSurrogate:
    table = TableSurrogate()
    table.fit(list(TABLE), [math.log(speedup) for speedup in TABLE.values()])
    return table


def test_the_table_is_reproduced(surrogate: TableSurrogate) -> None:
    speedups = [math.exp(p.mean) for p in surrogate.predict(list(TABLE)) if p]

    assert speedups == pytest.approx(list(TABLE.values()), rel=1e-12)


def test_the_speedup_itself_is_linear_between_the_points(surrogate: TableSurrogate) -> None:
    (prediction,) = surrogate.predict([Candidate(1, 0.7)])

    assert prediction is not None
    assert math.exp(prediction.mean) == pytest.approx(3.0, rel=1e-12)


def test_outside_the_table_nothing_is_predicted(surrogate: TableSurrogate) -> None:
    assert surrogate.predict([Candidate(5, 0.6)]) == [None]
