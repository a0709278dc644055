import math
from dataclasses import dataclass

import pytest

from autoprumux.errors import DamagedError
from autoprumux.storage.checks import checked_columns


@dataclass
class Reading:
    name: str
    count: int
    value: float
    error: float | None


RIGHT = {"name": "a", "count": 2, "value": 0.5, "error": None, "another": "left out"}


@pytest.mark.parametrize("number_of_rows", [0, 1, 2])
@pytest.mark.parametrize(
    "change",
    [
        {"value": math.inf},
        {"value": math.nan},
        {"error": -math.inf},
        {"value": None},
        {"value": True},
        {"count": False},
        {"count": 2.0},
        {"name": b"a"},
    ],
)
def test_a_wrong_column_is_refused_however_many_right_rows_came_before(number_of_rows, change):
    for _ in range(number_of_rows):
        checked_columns(Reading, RIGHT)
        checked_columns(Reading, RIGHT | {"error": 0.1})

    with pytest.raises(DamagedError, match=f"`{next(iter(change))}`"):
        checked_columns(Reading, RIGHT | change)


def test_a_missing_column_is_refused_after_right_rows():
    checked_columns(Reading, RIGHT)

    with pytest.raises(DamagedError, match="got nothing"):
        checked_columns(Reading, {key: RIGHT[key] for key in ("name", "count", "error")})


@pytest.mark.parametrize("without", [(), ("name",), ("name", "count", "error"), tuple(RIGHT)])
def test_columns_are_those_of_the_fields_that_are_asked_for(without):
    fields = ("name", "count", "value", "error")
    expected = {key: RIGHT[key] for key in fields if key not in without}

    for _ in range(2):
        assert checked_columns(Reading, RIGHT, without=without) == expected


def test_whole_numbers_may_stand_for_others():
    assert checked_columns(Reading, RIGHT | {"value": 1})["value"] == 1
