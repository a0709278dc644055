"""Encoded examples to batches of groups; shared by training and measuring."""

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.data.encoding import Encoded
from trainers.models.muxed_bert import Batch


def make_batch(encoded: Encoded, groups: NDArray[np.int64], device: torch.device) -> Batch:
    """Gather the examples `groups` `(B, N)` and cut the padding that all of them share."""
    lengths = encoded.lengths[groups]  # (B, N)
    longest = int(lengths.max())
    positions = np.arange(longest)
    return Batch(
        torch.from_numpy(encoded.input_ids[groups, :longest]),
        torch.from_numpy(positions < lengths[..., None]),
        torch.from_numpy(encoded.token_type_ids[groups, :longest]),
    ).to(device)


class GroupSampler:
    """Random groups for training, computed from the step alone: a resumed run repeats them.

    Args:
        num_examples: Size of the training set.
        num_instances: N.
        num_groups: Groups in a batch.
        seed: Decides the order of every epoch.
    """

    def __init__(self, num_examples: int, num_instances: int, num_groups: int, seed: int) -> None:
        self.num_examples, self.seed = num_examples, seed
        self.shape = (num_groups, num_instances)
        self.size = num_groups * num_instances
        self._epoch, self._order = -1, np.zeros(0, dtype=np.int64)

    def groups(self, step: int) -> NDArray[np.int64]:
        """Yield the `(B, N)` example indices of one update."""
        epoch, place = divmod(step, max(1, self.num_examples // self.size))
        if epoch != self._epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_examples)
            self._order = np.resize(order, max(self.size, self.num_examples))
            self._epoch = epoch
        return self._order[place * self.size : (place + 1) * self.size].reshape(self.shape)
