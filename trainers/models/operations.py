"""Multiply-adds of a forward pass, by shape alone.

Symbols: `D` hidden size, `W` width of a layer's heads, `F` its feed-forward units, `E` dense
hidden size, `T` tokens, `P` prefix positions, `N` instances, `Q` positions that are asked for.
Biases, norms, activations and look-ups are not counted.
"""

from dataclasses import dataclass

from trainers.models.shape import MuxedBertShape


@dataclass(frozen=True, kw_only=True)
class MultiplyAdds:
    """Of one group of N sequences."""

    multiplexer: int
    encoder: int
    demultiplexer: int
    """The pooler's with N = 1."""
    head: int

    @property
    def total(self) -> int:
        """Yield the sum."""
        return self.multiplexer + self.encoder + self.demultiplexer + self.head


def multiply_adds(
    shape: MuxedBertShape, length: int, *, is_classifying: bool = True
) -> MultiplyAdds:
    """Count the multiply-adds of a group of N sequences of `length` tokens.

    Args:
        shape: Sizes, dense or compacted.
        length: T.
        is_classifying: Whether the last attending layer and what follows is computed for the
            positions that a classifier reads alone, as `MuxedBert` does; else for all.
    """
    positions = shape.num_prefix + length
    num_read = shape.num_prefix + 1 if is_classifying else positions
    return MultiplyAdds(
        multiplexer=_multiplexer(shape, positions),
        encoder=_encoder(shape, positions, num_read),
        demultiplexer=_demultiplexer(shape),
        head=shape.num_instances * shape.dense_hidden_size * shape.num_classes,
    )


def _encoder(shape: MuxedBertShape, positions: int, num_read: int) -> int:
    """See `Encoder.first_states` for the rule of the last layers."""
    attending = [index for index, count in enumerate(shape.head_counts) if count > 0]
    last, size = attending[-1] if attending else 0, shape.hidden_size
    total = 0
    for index, sizes in enumerate(zip(shape.head_counts, shape.feedforward_sizes, strict=True)):
        asked = num_read if index >= last else positions
        total += _layer(size, sizes[0] * shape.head_size, sizes[1], asked, positions)
    return total


def _layer(size: int, width: int, units: int, asked: int, positions: int) -> int:
    """Count D, W, F, Q and T: query and output, key and value, attention, feed-forward."""
    projections = 2 * asked * size * width + 2 * positions * size * width
    return projections + 2 * asked * positions * width + 2 * asked * size * units


def _multiplexer(shape: MuxedBertShape, positions: int) -> int:
    if shape.num_instances == 1:
        return 0
    count, size = shape.num_instances, shape.hidden_size
    if shape.multiplexer != "contextual":
        return count * positions * size
    width, units = shape.dense_num_heads * shape.head_size, shape.dense_feedforward_size
    within = count * _layer(size, width, units, positions, positions)
    return within + positions * _layer(size, width, units, count, count)


def _demultiplexer(shape: MuxedBertShape) -> int:
    """Count what depends on the group; the products of learned keys do not."""
    size, dense, count = shape.hidden_size, shape.dense_hidden_size, shape.num_instances
    first = size * dense
    if count == 1:
        return first
    if shape.demultiplexer == "index_prefix":
        first += count * size * dense  # the keys are states of this group
    num_further = shape.num_demux_layers - 1  # `published` has one layer less and one of its own
    return first + count * num_further * dense * dense
