"""Batches without gradients go through a model in as many parts as memory asks for."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from trainers.errors import OutOfMemoryError
from trainers.processes import is_out_of_memory


class Parts:
    """In how many parts batches go through a model; remembers what memory allowed."""

    def __init__(self) -> None:
        self.num_halvings = 0

    def map(self, num_groups: int, compute: Callable[[slice], Tensor]) -> Tensor:
        """Yield what `compute` yields for the groups of a batch, joined in their order.

        What does not fit in memory is computed again in twice as many parts, and so are the
        batches after it. Parts that keep the padding of the batch (`Batch.rows`) yield what the
        whole would have, up to rounding.

        Args:
            num_groups: B.
            compute: Yields `(..., *)` for some of the groups.

        Raises:
            OutOfMemoryError: If not even single groups fit.
        """
        while True:
            num_parts = min(num_groups, 1 << self.num_halvings)
            try:
                return torch.cat([compute(rows) for rows in _slices(num_groups, num_parts)])
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if num_parts == num_groups:
                    raise OutOfMemoryError(
                        "The device ran out of memory with one group at a time in evaluation; use "
                        "a smaller `data.max_length` or a smaller model."
                    ) from error
            self.num_halvings += 1
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _slices(num_groups: int, num_parts: int) -> list[slice]:
    parts = np.array_split(np.arange(num_groups), num_parts)
    return [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
