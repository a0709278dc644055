"""A wide model that starts as N narrow models side by side.

A narrow model is a plain one (N = 1) cut to an N-th of its hidden dimensions, heads and
feed-forward units. N copies of it fill the dense sizes as blocks on the diagonals: block i reads
instance i alone, because key i of the multiplexer is N in block i and zero elsewhere, so that

    LN(mean over i of key_i * (token_i + type_i) + position)

holds the embeddings of all N instances side by side, and every later product keeps them apart.
Layer norms take mean and variance over all blocks together, so that the wide model repeats the
narrow one exactly for N equal instances and nearly so for others, if N divides the hidden size.
All weights are trained afterwards.

Symbols: `D` hidden size, `H` heads, `F` feed-forward units, `N` instances; `d` = D // N.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.errors import ConfigError
from trainers.models.demux import RsaDemultiplexer
from trainers.models.encoder import EncoderLayer, FeedForward, SelfAttention
from trainers.models.masks import Masks, open_masks
from trainers.models.mux import HadamardMultiplexer
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape

SHIFT = 4.0
"""Added to the states of an instance's own block before the GELU of the demultiplexer, and
subtracted from the others': normalised states are rarely longer, so that own ones pass unbent and
others are cut off."""
SPARE_SCALE = 0.1
"""Heads and units that N does not divide start with weights this much smaller than new ones."""


def check_blocks(shape: MuxedBertShape, num_instances: int) -> None:
    """Refuse a width that leaves a block without a head.

    Raises:
        ConfigError: With the largest width that the model has heads for.
    """
    if num_instances > shape.dense_num_heads:
        raise ConfigError(
            f"`model.widening` = `blocks` gives each instance heads of its own, and the model has "
            f"{shape.dense_num_heads}; N must be at most that, got {num_instances}."
        )


def block_masks(shape: MuxedBertShape, scores: Masks, num_blocks: int) -> Masks:
    """Yield masks that keep the best N-th of the hidden dimensions, and of every layer's units.

    Args:
        shape: Dense plain model.
        scores: What keeping each unit is worth; those of whole layers are not read.
        num_blocks: N.
    """
    return replace(
        open_masks(shape),
        hidden=_keep(scores.hidden, num_blocks),
        heads=_keep(scores.heads, num_blocks),
        intermediate=_keep(scores.intermediate, num_blocks),
    )


def _keep(scores: Tensor, num_blocks: int) -> Tensor:
    best = scores.topk(scores.shape[-1] // num_blocks, dim=-1).indices
    return torch.zeros_like(scores).scatter_(-1, best, 1.0)


@torch.no_grad()
def stack(narrow: MuxedBert, shape: MuxedBertShape) -> MuxedBert:
    """Yield the wide model of `shape` whose blocks are copies of `narrow`.

    Demultiplexer and head are new, but for the demultiplexer's first layer, which passes each
    instance its own block.

    Args:
        narrow: Model with N = 1, cut by `block_masks`.
        shape: Dense shape with N > 1, `single_pass`, keys per dimension, and an RSA demultiplexer.
    """
    wide = MuxedBert(shape)
    num_blocks, size = shape.num_instances, narrow.shape.hidden_size
    blocks = [slice(k * size, (k + 1) * size) for k in range(num_blocks)]
    for name in ("tokens", "positions", "token_types"):
        part, whole = getattr(narrow.embeddings, name), getattr(wide.embeddings, name)
        _repeat(whole.weight, part.weight, blocks)
    _repeat_norm(wide.embeddings.norm, narrow.embeddings.norm, blocks)
    mux, demux = wide.embeddings.mux, wide.demux
    assert isinstance(mux, HadamardMultiplexer)
    assert isinstance(demux, RsaDemultiplexer)
    mux.keys.zero_()
    for instance, block in enumerate(blocks):
        mux.keys[instance, block] = num_blocks
    for old, new in zip(narrow.encoder.layers, wide.encoder.layers, strict=True):
        assert isinstance(old, EncoderLayer)
        assert isinstance(new, EncoderLayer)
        _stack_layer(old, new, blocks)
    _open_blocks(demux, blocks)
    return wide


def _repeat(new: Tensor, old: Tensor, blocks: list[slice]) -> None:
    new.zero_()
    for block in blocks:
        new[..., block] = old


def _repeat_norm(new: nn.LayerNorm, old: nn.LayerNorm, blocks: list[slice]) -> None:
    _repeat(new.weight, old.weight, blocks)  # dimensions that are left over stay zero
    _repeat(new.bias, old.bias, blocks)


def _stack_layer(old: EncoderLayer, new: EncoderLayer, blocks: list[slice]) -> None:
    assert old.attention is not None
    assert new.attention is not None
    assert old.feedforward is not None
    assert new.feedforward is not None
    for layer in (
        *(new.attention.query_key_value, new.attention.output),
        *(new.feedforward.input, new.feedforward.output),
    ):
        layer.weight.mul_(SPARE_SCALE)
        layer.bias.zero_()
    _stack_attention(old.attention, new.attention, blocks)
    _stack_feedforward(old.feedforward, new.feedforward, blocks)


def _stack_attention(old: SelfAttention, new: SelfAttention, blocks: list[slice]) -> None:
    width = old.num_heads * old.head_size
    for part in range(3):  # query, key, value
        rows = slice(part * width, (part + 1) * width)
        for block, inner in zip(blocks, _inner_blocks(width, blocks), strict=True):
            start = part * new.num_heads * new.head_size
            outputs = slice(start + inner.start, start + inner.stop)
            new.query_key_value.weight[outputs] = 0
            new.query_key_value.weight[outputs, block] = old.query_key_value.weight[rows]
            new.query_key_value.bias[outputs] = old.query_key_value.bias[rows]
    _stack_outputs(old.output, new.output, blocks, width)
    _repeat_norm(new.norm, old.norm, blocks)


def _stack_feedforward(old: FeedForward, new: FeedForward, blocks: list[slice]) -> None:
    num_units = old.input.out_features
    for block, inner in zip(blocks, _inner_blocks(num_units, blocks), strict=True):
        new.input.weight[inner] = 0
        new.input.weight[inner, block] = old.input.weight
        new.input.bias[inner] = old.input.bias
    _stack_outputs(old.output, new.output, blocks, num_units)
    _repeat_norm(new.norm, old.norm, blocks)


def _stack_outputs(old: nn.Linear, new: nn.Linear, blocks: list[slice], num_inner: int) -> None:
    for block, inner in zip(blocks, _inner_blocks(num_inner, blocks), strict=True):
        new.weight[:, inner] = 0
        new.weight[block, inner] = old.weight
        new.bias[block] = old.bias


def _inner_blocks(size: int, blocks: list[slice]) -> Iterator[slice]:
    return (slice(k * size, (k + 1) * size) for k in range(len(blocks)))


def _open_blocks(demux: RsaDemultiplexer, blocks: list[slice]) -> None:
    """Let the first layer copy the mixed state, with the blocks of other instances cut off."""
    demux.state.weight.copy_(torch.eye(*demux.state.weight.shape))
    demux.key.weight.zero_()
    demux.key.bias.zero_()
    demux.keys.zero_()
    for instance, block in enumerate(blocks):
        demux.keys[instance, instance] = 1
        demux.key.weight[:, instance] = -SHIFT
        demux.key.weight[block, instance] = SHIFT
