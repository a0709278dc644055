"""Encoded examples to batches of groups; shared by training and measuring."""

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.data.encoding import Encoded
from trainers.errors import ConfigError
from trainers.models.batch import Batch
from trainers.phase_config import PhaseConfig


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


def check_groups(num_examples: int, num_instances: int) -> None:
    """Refuse groups that training examples cannot fill without one of them twice.

    Raises:
        ConfigError: With the largest N.
    """
    if num_instances > num_examples:
        raise ConfigError(
            f"A group of N={num_instances} would hold an example twice, as there are "
            f"{num_examples} to train on; N must be at most that."
        )


NUM_SORTED_BATCHES = 50
"""Batches among which groups are sorted by length: enough to pad little, few enough that an
epoch stays random."""


def order_by_length(lengths: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Yield the order of `groups` `(G, N)` by the length of their longest sequence, `(G,)`."""
    return np.argsort(lengths[groups].max(axis=1), kind="stable")


class GroupSampler:
    """Random groups for training, computed from the step alone: a resumed run repeats them.

    Args:
        encoded: Training set.
        num_instances: N.
        config: Groups in a batch, and whether a batch gets groups of similar length. Which
            sequences share a group is random in any case.
        seed: Decides the order of every epoch.

    Raises:
        ConfigError: If N is larger than the training set.
    """

    def __init__(
        self, encoded: Encoded, num_instances: int, config: PhaseConfig, seed: int
    ) -> None:
        check_groups(len(encoded), num_instances)
        self.lengths = encoded.lengths if config.bucket_by_length else None
        self.num_examples, self.seed = len(encoded), seed
        self.shape = (config.num_groups(num_instances), num_instances)
        self.size = self.shape[0] * num_instances
        self.num_batches = max(1, self.num_examples // self.size)
        self._epoch, self._batches = -1, np.zeros((0, *self.shape), dtype=np.int64)

    def groups(self, step: int) -> NDArray[np.int64]:
        """Yield the `(B, N)` example indices of one update."""
        epoch, place = divmod(step, self.num_batches)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(epoch)
        return self._batches[place]

    def _draw(self, epoch: int) -> NDArray[np.int64]:
        """Yield the `(batches, B, N)` groups of an epoch; the rest of the examples waits."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.num_examples)
        batches = np.resize(order, (self.num_batches, *self.shape))
        if self.lengths is None:
            return batches
        for start in range(0, self.num_batches, NUM_SORTED_BATCHES):
            block = batches[start : start + NUM_SORTED_BATCHES]
            groups = block.reshape(-1, self.shape[1])
            block[:] = groups[order_by_length(self.lengths, groups)].reshape(block.shape)
        return batches[random.permutation(self.num_batches)]
