import pytest
import torch

from trainers.errors import OutOfMemoryError
from trainers.measure.parts import Parts


def make_scarce(most, seen, error):
    """Yield what fails for more than `most` groups at once, and remembers the sizes it served."""

    def compute(rows):
        if rows.stop - rows.start > most:
            raise error
        seen.append(rows.stop - rows.start)
        return torch.arange(rows.start, rows.stop)

    return compute


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("no memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_what_does_not_fit_is_computed_in_halves_and_so_is_what_follows(error):
    seen, parts = [], Parts()
    compute = make_scarce(3, seen, error)

    first, second = parts.map(10, compute), parts.map(7, compute)

    assert first.tolist() == list(range(10))
    assert second.tolist() == list(range(7))
    assert seen == [3, 3, 2, 2, 2, 2, 2, 1]
    assert parts.num_halvings == 2


def test_one_group_that_does_not_fit_is_an_error_of_ours():
    with pytest.raises(OutOfMemoryError, match="one group at a time in evaluation; use a smaller"):
        Parts().map(5, make_scarce(0, [], MemoryError()))


def test_other_errors_are_not_taken_for_memory():
    with pytest.raises(RuntimeError, match="a bug"):
        Parts().map(5, make_scarce(1, [], RuntimeError("a bug")))
