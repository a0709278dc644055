"""Sequences form groups of N and predictions come back in the order of the data set."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trainers.errors import ConfigError, ShapeError

Value = TypeVar("Value", bound=np.generic)


def group_indices(
    num_examples: int, num_instances: int, *, seed: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Yield which examples form which group; no example is left out.

    The last group is padded with the examples that come first in the order, again from the start
    if they are fewer than the gap. Padding is marked, so that it is neither scored nor counted.

    Args:
        num_examples: Size of the data set.
        num_instances: Examples in a group, N.
        seed: Seed of a random order; None keeps the order of the data set.

    Returns:
        `(G, N)` indices of examples, and `(G, N)` booleans that are False for padding, where
        G = ceil(num_examples / N).

    Raises:
        ConfigError: If there is no example or N is below 1.
    """
    if num_examples < 1:
        raise ConfigError(f"At least 1 example is needed to form groups, got {num_examples}.")
    if num_instances < 1:
        raise ConfigError(f"`num_instances` must be at least 1, got {num_instances}.")
    order = np.arange(num_examples, dtype=np.int64)
    if seed is not None:
        np.random.default_rng(seed).shuffle(order)
    shape = (-(-num_examples // num_instances), num_instances)
    is_real = np.arange(shape[0] * shape[1]) < num_examples
    return np.resize(order, shape), is_real.reshape(shape)


def ungroup(
    values: npt.NDArray[Value],
    indices: npt.NDArray[np.int64],
    is_real: npt.NDArray[np.bool_],
    num_examples: int,
) -> npt.NDArray[Value]:
    """Yield the values of the groups in the order of the data set, padding left out.

    Args:
        values: `(G, N, ...)` one value for each place in each group.
        indices: `(G, N)` from `group_indices`.
        is_real: `(G, N)` from `group_indices`.
        num_examples: Size of the data set.

    Returns:
        `(num_examples, ...)` values.

    Raises:
        ShapeError: If the shapes disagree or the groups don't hold every example once.
    """
    if values.shape[:2] != indices.shape or indices.shape != is_real.shape:
        raise ShapeError(
            f"Values of groups have shape {values.shape}, their indices {indices.shape} and their "
            f"padding mask {is_real.shape}; all must begin with the same two numbers."
        )
    places = indices[is_real]
    if not np.array_equal(np.sort(places), np.arange(num_examples)):
        raise ShapeError(f"The groups don't hold each of the {num_examples} examples once.")
    restored = np.empty((num_examples, *values.shape[2:]), dtype=values.dtype)
    restored[places] = values[is_real]
    return restored
