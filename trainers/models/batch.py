"""What a model reads: token ids of groups of sequences."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.errors import ShapeError


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


def check_sizes(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> None:
    """Refuse inputs of different shapes, or without a token.

    Raises:
        ShapeError: With the three shapes.
    """
    if not input_ids.shape == attention_mask.shape == token_type_ids.shape:
        raise ShapeError(
            "`input_ids`, `attention_mask` and `token_type_ids` must have one shape, got "
            f"{tuple(input_ids.shape)}, {tuple(attention_mask.shape)} and "
            f"{tuple(token_type_ids.shape)}."
        )
    if 0 in input_ids.shape[-1:]:
        raise ShapeError("Sequences need at least 1 token, got 0.")


def check_ids(batch: Batch, vocab_size: int, num_token_types: int) -> None:
    """Refuse ids that are in no table. It reads them all, so ask once something went wrong.

    Raises:
        ShapeError: With the first kind of ids that do not fit, and one of them.
    """
    tables = (("input_ids", vocab_size), ("token_type_ids", num_token_types))
    for name, num_rows in tables:
        low, high = (int(value) for value in getattr(batch, name).aminmax())
        if low < 0 or high >= num_rows:
            raise ShapeError(
                f"`{name}` must be in 0 to {num_rows - 1}, the rows of the model's table, got "
                f"{low if low < 0 else high}."
            )


def is_traced() -> bool:
    """True while torch records a graph, which must serve batches with other contents too."""
    return torch.compiler.is_compiling()


def is_all(mask: Tensor) -> bool:
    """True if `mask` is true throughout; never in a traced graph, where that is open."""
    return not is_traced() and bool(mask.all())
