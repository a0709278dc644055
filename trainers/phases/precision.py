"""Where, with whom and in which precision a phase computes, and how much of a batch at once."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from trainers.processes import ALONE, Processes


@dataclass(frozen=True)
class Precision:
    """Device and autocast of one training."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    num_parts: int = 1
    """Parts that a batch goes through the model in, for want of memory; see `MicroBatches`."""
    processes: Processes = ALONE
    """Those that share every batch."""

    def autocast(self) -> AbstractContextManager[object]:
        """Yield the context for forward passes; weights and updates stay float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)
