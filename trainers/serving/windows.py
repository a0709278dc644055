"""Many sequences to batches of groups that pad little, and logits back to the sequences.

B groups in a batch, N instances in a group, T tokens, C classes, n sequences in a window.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainers.data.grouping import group_indices
from trainers.data.token_tables import TokenTable

Run = Callable[
    [NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]],
    NDArray[np.float32],
]
"""`Backend.run`."""


@dataclass(frozen=True)
class GroupBatch:
    """Groups of sequences of similar length."""

    places: NDArray[np.int64]
    """`(B, N)` places of the sequences in their window."""
    is_real: NDArray[np.bool_]
    """`(B, N)`; false where a sequence only fills its group."""
    input_ids: NDArray[np.int64]
    """`(B, N, T)`."""
    mask: NDArray[np.bool_]
    """`(B, N, T)`; false at padding."""
    types: NDArray[np.int64]
    """`(B, N, T)`."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the real sequences."""
        return int(self.mask[self.is_real].sum())


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """How sequences become batches."""

    num_instances: int
    """N."""
    pad: int
    """Token id at padding."""
    num_positions: int
    """Largest B * T of a batch; more use the processor better until its caches are full."""
    batch_size: int | None = None
    """Groups in a batch, whatever their length; None leaves it to `num_positions`."""


def make_batches(tokens: TokenTable, grouping: Grouping) -> list[GroupBatch]:
    """Form groups of sequences of similar length, and batches of such groups.

    Sequences of the same length are grouped at random (always the same way), as they were when the
    accuracy was measured: in a file sorted by class, neighbours would be of one class.
    """
    if not len(tokens):
        return []
    lengths, starts = tokens.lengths, tokens.starts
    shuffled = np.random.default_rng(0).permutation(len(lengths))
    order = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    indices, is_real = group_indices(len(order), grouping.num_instances, seed=None)
    groups = order[indices]  # (G, N)
    longest = lengths[groups].max(axis=1)
    return [
        _gather(tokens, starts, groups[start:end], is_real[start:end], grouping.pad)
        for start, end in _spans(longest, grouping)
    ]


def run_batches(
    run: Run, batches: Sequence[GroupBatch], num_sequences: int, num_classes: int
) -> NDArray[np.float32]:
    """Yield the `(n, C)` logits of the sequences of a window, in their order."""
    logits = np.empty((num_sequences, num_classes), np.float32)
    for batch in batches:
        found = run(batch.input_ids, batch.mask, batch.types)  # (B, N, C)
        logits[batch.places[batch.is_real]] = found[batch.is_real]
    return logits


def _spans(longest: NDArray[np.int64], grouping: Grouping) -> Iterator[tuple[int, int]]:
    """Yield the first group of each batch and the one after its last; lengths only rise."""
    start = 0
    while start < len(longest):
        if grouping.batch_size is not None:
            end = start + grouping.batch_size
        else:
            end = start + max(1, grouping.num_positions // int(longest[start]))
            last = int(longest[min(end, len(longest)) - 1])
            end = start + max(1, grouping.num_positions // last)
        end = min(end, len(longest))
        yield start, end
        start = end


def _gather(
    tokens: TokenTable,
    starts: NDArray[np.int64],
    groups: NDArray[np.int64],
    is_real: NDArray[np.bool_],
    pad: int,
) -> GroupBatch:
    lengths = tokens.lengths[groups][..., None]  # (B, N, 1)
    positions = np.arange(lengths.max())
    mask = positions < lengths  # (B, N, T)
    found = (starts[groups][..., None] + positions)[mask]
    input_ids, types = np.full(mask.shape, pad, np.int64), np.zeros(mask.shape, np.int64)
    input_ids[mask], types[mask] = tokens.ids[found], tokens.types[found]
    return GroupBatch(groups, is_real, input_ids, mask, types)
