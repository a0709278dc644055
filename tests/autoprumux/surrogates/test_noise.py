"""What is known of a measurement's noise."""

from dataclasses import replace

import pytest

from autoprumux.records import Candidate
from autoprumux.surrogates.noise import (
    SEED_STD,
    expected_variances,
    measurement_variance,
    sampling_variance,
)


@pytest.fixture
def measured(demo_measurement):
    def make(accuracy=0.9, accuracy_std=0.0, num_examples=4000, num_compositions=1):
        return replace(
            demo_measurement(Candidate(2, 0.6)),
            accuracy=accuracy,
            accuracy_std=accuracy_std,
            num_examples=num_examples,
            num_compositions=num_compositions,
        )

    return make


def test_one_composition_has_the_noise_of_its_examples(measured):
    assert sampling_variance(measured()) == pytest.approx(0.9 * 0.1 / 4000)


@pytest.mark.parametrize("num", [2, 3, 10])
def test_the_part_by_compositions_shrinks_with_their_number(measured, num):
    spread = 0.003
    once = 0.9 * 0.1 / 4000

    found = sampling_variance(measured(accuracy_std=spread, num_compositions=num))

    assert found == pytest.approx(once - spread**2 + spread**2 / num)


def test_a_spread_above_that_of_the_examples_counts_as_it_is(measured):
    found = sampling_variance(measured(accuracy_std=0.02, num_compositions=4))

    assert found == pytest.approx(0.02**2 / 4)


def test_another_seed_would_yield_another_model(measured):
    model = measured(accuracy_std=0.002, num_compositions=3)

    assert measurement_variance(model) == pytest.approx(sampling_variance(model) + SEED_STD**2)
    assert expected_variances([0.9], 4000)[0] == pytest.approx(measurement_variance(measured()))


@pytest.mark.parametrize("accuracy", [0.0, 1.0, 1.0000001])
def test_nobody_is_right_always(measured, accuracy):
    assert sampling_variance(measured(accuracy)) > 0.0


def test_examples_that_nobody_counted_are_as_many_as_given(measured):
    bare = measured(num_examples=0)

    assert sampling_variance(bare, 500) == pytest.approx(0.09 / 500)
    assert sampling_variance(measured(), 500) == pytest.approx(0.09 / 4000)
