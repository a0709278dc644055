"""Where and in which precision a phase computes, and how much of a batch at once."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class Precision:
    """Device and autocast of one training."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    num_parts: int = 1
    """Parts that a batch goes through the model in, for want of memory."""

    def parts(self, groups: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], float]]:
        """Yield the `(B, N)` groups of a batch in parts, each with its share of the whole.

        The shares weigh the losses, whose gradients then sum to that of the batch.
        """
        for part in np.array_split(groups, min(self.num_parts, len(groups))):
            yield part, len(part) / len(groups)

    def autocast(self) -> AbstractContextManager[object]:
        """Yield the context for forward passes; weights and updates stay float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)
