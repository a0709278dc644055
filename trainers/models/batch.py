"""What a model reads: token ids of groups of sequences."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Token ids of groups of sequences, each `(B, N, T)`; `attention_mask` is boolean."""

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor

    def to(self, device: torch.device) -> "Batch":
        """Move to `device`."""
        return Batch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.token_type_ids.to(device),
        )

    def split(self, num_groups: int) -> Iterator["Batch"]:
        """Yield batches of at most `num_groups` groups, in order."""
        parts = (self.input_ids, self.attention_mask, self.token_type_ids)
        for chunk in zip(*(part.split(num_groups) for part in parts), strict=True):
            yield Batch(*chunk)

    def rows(self, rows: slice) -> "Batch":
        """Yield some of the groups, padded as they are here."""
        return Batch(self.input_ids[rows], self.attention_mask[rows], self.token_type_ids[rows])

    def as_single(self) -> "Batch":
        """Yield the same sequences as groups of one, `(B * N, 1, T)`, in order."""
        length = self.input_ids.shape[-1]
        return Batch(
            self.input_ids.reshape(-1, 1, length),
            self.attention_mask.reshape(-1, 1, length),
            self.token_type_ids.reshape(-1, 1, length),
        )


def is_traced() -> bool:
    """True while torch records a graph, which must serve batches with other contents too."""
    return torch.compiler.is_compiling()


def is_all(mask: Tensor) -> bool:
    """True if `mask` is true throughout; never in a traced graph, where that is open."""
    return not is_traced() and bool(mask.all())
