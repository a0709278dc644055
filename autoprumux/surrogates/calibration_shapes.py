"""Which untrained models a calibration times: few shapes that tell the terms of the law apart."""

from collections.abc import Sequence

from autoprumux.records import EncoderFacts, EncoderShape
from autoprumux.surrogates.structure_latency import MAX_TIMINGS, dense_shape

_HALF = (1.0, 0.5, 0.5, 1.0)
_ATTENTION = (1.0, 1.0, 0.1, 0.98)
_FEEDFORWARD = (1.0, 0.25, 0.6, 0.98)
_THIN = (1.0, 0.25, 0.02, 1.0)
_FRONT = (0.5, 0.75, 0.25, 0.98)
_TINY = (0.25, 0.5, 0.02, 1.0)
"""Shares of the layers that stay, from the first, of their heads and feed-forward units, and of
the hidden dimensions. Pruning leaves attention rather than feed-forward units and the first layers
rather than the last; what it leaves is seldom a round number, and round ones are faster."""


def calibration_shapes(encoder: EncoderFacts, widths: Sequence[int]) -> list[EncoderShape]:
    """Yield at most ten shapes to time, the dense baseline first.

    Args:
        encoder: What they have in common.
        widths: Mux widths N that will be asked about; 1 is added.
    """
    ordered = sorted({1, *widths})
    middle, widest = ordered[len(ordered) // 2], ordered[-1]
    shapes = [dense_shape(encoder, 1), dense_shape(encoder, widest)]
    plan = (
        (1, _THIN),
        (widest, _TINY),
        (1, _ATTENTION),
        (1, _FRONT),
        (widest, _FRONT),
        (middle, _FEEDFORWARD),
        (middle, _HALF),
        (middle, _TINY),
    )
    shapes += [_pruned(encoder, num_instances, shares) for num_instances, shares in plan]
    return list(dict.fromkeys(shapes))[:MAX_TIMINGS]


def _pruned(
    encoder: EncoderFacts, num_instances: int, shares: tuple[float, float, float, float]
) -> EncoderShape:
    layers, heads, units, hidden = shares
    num_kept = max(1, round(layers * encoder.num_layers))
    num_heads = max(1, round(heads * encoder.dense_num_heads))
    gone = (0,) * (encoder.num_layers - num_kept)
    return EncoderShape(
        num_instances,
        _size(hidden, encoder.dense_hidden_size),
        (num_heads,) * num_kept + gone,
        (_size(units, encoder.dense_feedforward_size),) * num_kept + gone,
    )


def _size(share: float, dense_size: int) -> int:
    """Yield an odd number near the share, or all."""
    return dense_size if share == 1.0 else min(round(share * dense_size) | 1, dense_size)
