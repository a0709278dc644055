import pytest

from autoprumux.errors import MixedDevicesError
from autoprumux.timing import TimingSetting, require_one_setting

OWN = TimingSetting("cpu", "Old 1", 2, "float32", 64, 32)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, None),
        ({"device": "H200", "num_threads": 0}, "device"),
        ({"processor": "New 2"}, "processor"),
        ({"processor": ""}, None),
        ({"processor": "", "num_threads": 4}, "num_threads"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"batch_size": 1}, "batch_size"),
        ({"length": 128}, "length"),
    ],
)
def test_the_first_field_that_differs_is_named(change, field):
    other = OWN._replace(**change)

    assert OWN.difference(other) == other.difference(OWN) == field


def test_one_setting_is_all_right():
    require_one_setting("Study `mood`", OWN, {"trial 1": OWN._replace(processor="")}, "Go.")


def test_the_first_speed_of_another_setting_is_told_with_both_values():
    others = {
        f"trial {n}": OWN._replace(num_threads=threads) for n, threads in enumerate((2, 8, 4))
    }

    with pytest.raises(MixedDevicesError) as error:
        require_one_setting("Study `mood`", OWN, others, "Search again.")

    assert str(error.value) == (
        "Study `mood` was measured in several settings, whose speed-ups cannot be compared: its "
        "dense baseline with `num_threads` 2, trial 1 with `num_threads` 8 (and 1 more). "
        "Search again."
    )
