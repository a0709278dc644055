"""Shapes such as pruning leaves: drawn at random, of any sparsity or of a given one.

Which heads and units a training keeps is not known before. What is common to such as were trained:
layers lose unequal shares, the last ones most, some lose all units, and hidden dimensions go last.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from autoprumux.records import EncoderFacts, EncoderShape
from autoprumux.surrogates.structure_latency import dense_shape, sparsity_of

_LEAST_LEFT, _MOST_LEFT = 0.1, 0.9
"""Shares of the heads of the first layer, on average."""
_DECLINE = 0.5
"""What is left of the last layer over what is left of the first: pruning prefers the first."""
_UNITS_LEFT = 0.3
"""Share of the feed-forward units that is left, on average, where all heads are."""
_NO_UNITS = 0.25
"""Share of the layers that lose all units."""
_FULL_HIDDEN, _LEAST_HIDDEN = 0.4, 0.92
"""Share of the models that keep all hidden dimensions, and least share that others keep."""
_SEED, _NUM_DRAWN, _NUM_LIKELY = 0, 2000, 32
"""Shapes of all sparsities that likely ones are chosen from, and how many are."""
_CLOSE, _NUM_HALVINGS = 0.01, 12


def draw_pruned(
    encoder: EncoderFacts, num_instances: int, random: np.random.Generator
) -> EncoderShape:
    """Draw a shape of any sparsity, most of them above 0.5."""
    most = random.uniform(_LEAST_LEFT, _MOST_LEFT)
    left = most * np.linspace(1.0, _DECLINE, encoder.num_layers)
    heads = random.binomial(encoder.dense_num_heads, left)
    heads[0] = max(heads[0], 1)
    means = _UNITS_LEFT * left * encoder.dense_feedforward_size
    units = np.minimum(np.ceil(random.exponential(means)), encoder.dense_feedforward_size)
    units[random.random(encoder.num_layers) < _NO_UNITS] = 0
    hidden = encoder.dense_hidden_size
    if random.random() >= _FULL_HIDDEN:
        hidden = round(hidden * random.uniform(_LEAST_HIDDEN, 1.0))
    return EncoderShape(num_instances, hidden, tuple(map(int, heads)), tuple(map(int, units)))


@lru_cache(maxsize=128)
def likely_shapes(encoder: EncoderFacts, sparsity: float) -> tuple[EncoderShape, ...]:
    """Yield shapes of N = 1 that pruning to `sparsity` may leave, the same at each call.

    Args:
        encoder: What shapes have in common.
        sparsity: Requested s; 0 yields the dense shape alone.
    """
    if sparsity == 0.0:
        return (dense_shape(encoder, 1),)
    pool, sparsities = _pool(encoder)
    first = min(int(np.searchsorted(sparsities, sparsity)), len(pool) - _NUM_LIKELY)
    places = range(first, first + _NUM_LIKELY)
    return tuple(
        pool[place]
        if sparsities[place] <= sparsity + _CLOSE
        else _grown(encoder, pool[place], sparsity)
        for place in places
    )


@lru_cache(maxsize=8)
def _pool(encoder: EncoderFacts) -> tuple[Sequence[EncoderShape], np.ndarray]:
    """Yield shapes of N = 1 in the order of their sparsities, and these."""
    random = np.random.default_rng(_SEED)
    drawn = [draw_pruned(encoder, 1, random) for _ in range(_NUM_DRAWN)]
    sparsities = np.array([sparsity_of(encoder, shape) for shape in drawn])
    order = np.argsort(sparsities, kind="stable")
    return [drawn[place] for place in order], sparsities[order]


def _grown(encoder: EncoderFacts, shape: EncoderShape, sparsity: float) -> EncoderShape:
    """Give a sparser shape back the same share of all that it has lost, down to `sparsity`."""
    dense = dense_shape(encoder, 1)

    def with_share(lost: float) -> EncoderShape:
        def size(full: int, left: int) -> int:
            return full - round(lost * (full - left))

        return EncoderShape(
            1,
            size(dense.hidden_size, shape.hidden_size),
            tuple(map(size, dense.head_counts, shape.head_counts)),
            tuple(map(size, dense.feedforward_sizes, shape.feedforward_sizes)),
        )

    low, high = 0.0, 1.0
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2.0
        if sparsity_of(encoder, with_share(middle)) < sparsity:
            low = middle
        else:
            high = middle
    return with_share(high)
