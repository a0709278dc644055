"""Examples of a task, whatever their source."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

KINDS = ("word", "match", "relation")
"""Kinds of built-in examples by rising difficulty; `Examples.kinds` indexes this."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Texts with their labels, in a fixed order."""

    texts: tuple[tuple[str, ...], ...]
    """One row for each example: one or two texts, in the order of the task's columns."""
    labels: npt.NDArray[np.int64]
    """`(num_examples,)` class ids."""
    kinds: npt.NDArray[np.int8] | None = None
    """`(num_examples,)` indices of `KINDS`; None for data from files."""

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: npt.NDArray[np.int64]) -> "Examples":
        """Yield the examples at `indices`, in that order."""
        texts = tuple(self.texts[index] for index in indices)
        kinds = None if self.kinds is None else self.kinds[indices]
        return Examples(texts, self.labels[indices], kinds)


@dataclass(frozen=True)
class Splits:
    """What a training may see, what it chooses checkpoints by, and what is reported."""

    train: Examples
    """Examples to train on."""
    held_out: Examples
    """Cut from the training split; checkpoints and stopping points are chosen on these."""
    validation: Examples
    """Reported accuracy is on these, and nothing else is decided by them."""
    fingerprint: str
    """Short word for exactly these examples: source, task and a hash."""
