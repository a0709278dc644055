"""Masked model to smaller dense model with the same outputs.

Every state of a gated model is h = z * LN(.), so scaling a norm's gain and bias by z covers both
the residual branch and all consumers, which then need no scaling. J: the kept hidden dimensions.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.errors import ShapeError
from trainers.models.contextual_mux import ContextualMultiplexer, hidden_masks
from trainers.models.encoder import EncoderLayer, FeedForward, SelfAttention
from trainers.models.masks import Masks, check_masks
from trainers.models.mux import HadamardMultiplexer
from trainers.models.muxed_bert import MuxedBert
from trainers.models.shape import MuxedBertShape


def compacted_shape(shape: MuxedBertShape, masks: Masks) -> MuxedBertShape:
    """Yield the shape that remains of a dense `shape` under `masks`.

    Raises:
        ShapeError: If the masks close every hidden dimension or are of another shape, or if the
            shape is not dense.
    """
    check_masks(masks, shape)
    num_hidden = int((masks.hidden != 0).sum())
    if num_hidden == 0:
        raise ShapeError("The masks close all hidden dimensions; at least one must stay open.")
    heads = (masks.heads != 0).sum(dim=1).masked_fill(masks.skips_attention, 0)
    units = (masks.intermediate != 0).sum(dim=1).masked_fill(masks.skips_feedforward, 0)
    return replace(
        shape,
        hidden_size=num_hidden,
        head_counts=tuple(int(n) for n in heads),
        feedforward_sizes=tuple(int(n) for n in units),
    )


@torch.no_grad()
def compact(model: MuxedBert, masks: Masks) -> MuxedBert:
    """Fold gate values into the weights and slice away what is closed.

    Args:
        model: Dense model.
        masks: Gate values in [0, 1], soft or binary.

    Returns:
        A new model in evaluation mode whose logits equal the gated model's (up to rounding).

    Raises:
        ShapeError: If the masks close every hidden dimension or are of another shape, or if the
            model is compacted already.
    """
    small = MuxedBert(compacted_shape(model.shape, masks)).to(masks.hidden)
    keep = masks.hidden.nonzero().squeeze(1)  # J
    _fold_embeddings(model, small, masks.hidden)
    for index, (old, new) in enumerate(
        zip(model.encoder.layers, small.encoder.layers, strict=True)
    ):
        assert isinstance(old, EncoderLayer)
        assert isinstance(new, EncoderLayer)
        _fold_layer(old, new, masks, index)
    small.sequence_head.load_state_dict(model.sequence_head.state_dict())
    if model.demux is not None and small.demux is not None:
        state = model.demux.state_dict()
        narrowed = {name: state[name][:, keep] for name in model.demux.state_inputs}
        small.demux.load_state_dict({**state, **narrowed})
    if model.pooler is not None and small.pooler is not None:
        small.pooler.weight.copy_(model.pooler.weight[:, keep])
        small.pooler.bias.copy_(model.pooler.bias)
    return small.eval()


def _fold_norm(old: nn.LayerNorm, new: nn.LayerNorm, keep: Tensor, z: Tensor) -> None:
    new.weight.copy_(old.weight[keep] * z)
    new.bias.copy_(old.bias[keep] * z)


def _fold_embeddings(model: MuxedBert, small: MuxedBert, hidden: Tensor) -> None:
    old, new = model.embeddings, small.embeddings
    keep = hidden.nonzero().squeeze(1)
    z = hidden[keep]
    for name in ("tokens", "positions", "token_types"):
        getattr(new, name).weight.copy_(getattr(old, name).weight[:, keep] * z)
    _fold_norm(old.norm, new.norm, keep, z)
    if old.prefix is not None and new.prefix is not None:
        new.prefix.tokens.weight.copy_(old.prefix.tokens.weight[:, keep] * z)
        new.prefix.positions.weight.copy_(old.prefix.positions.weight[:, keep] * z)
    if isinstance(old.mux, HadamardMultiplexer) and isinstance(new.mux, HadamardMultiplexer):
        # Two passes: the mixture is gated again. One pass: its table rows carry the gate already.
        scale = z if model.shape.embed_mode == "two_pass" else torch.ones_like(z)
        new.mux.keys.copy_(old.mux.keys[:, keep] * scale)
    if isinstance(old.mux, ContextualMultiplexer) and isinstance(new.mux, ContextualMultiplexer):
        new.mux.keys.copy_(old.mux.keys[:, keep])  # the mixture is gated once
        masks = hidden_masks(model.shape, hidden)
        _fold_layer(old.mux.sequence_layer, new.mux.sequence_layer, masks, 0)
        _fold_layer(old.mux.instance_layer, new.mux.instance_layer, masks, 0)


def _fold_layer(old: EncoderLayer, new: EncoderLayer, masks: Masks, index: int) -> None:
    if old.attention is not None and new.attention is not None:
        _fold_attention(old.attention, new.attention, masks, index)
    if old.feedforward is not None and new.feedforward is not None:
        _fold_feedforward(old.feedforward, new.feedforward, masks, index)


def _fold_attention(old: SelfAttention, new: SelfAttention, masks: Masks, index: int) -> None:
    keep = masks.hidden.nonzero().squeeze(1)
    heads = masks.heads[index].nonzero().squeeze(1)
    offsets = torch.arange(old.head_size, device=heads.device)
    rows = (heads[:, None] * old.head_size + offsets).flatten()  # of the kept heads
    width = old.num_heads * old.head_size
    all_rows = torch.cat([rows, rows + width, rows + 2 * width])
    value_scale = masks.heads[index][heads].repeat_interleave(old.head_size)
    scale = torch.cat([torch.ones(2 * len(rows)).to(value_scale), value_scale])
    weight = old.query_key_value.weight[all_rows][:, keep]
    new.query_key_value.weight.copy_(weight * scale[:, None])
    new.query_key_value.bias.copy_(old.query_key_value.bias[all_rows] * scale)
    gate = masks.hidden[keep] * masks.head_layers[index]
    _fold_output(old, new, lambda weight: weight[keep][:, rows] * gate[:, None], keep, gate)
    _fold_norm(old.norm, new.norm, keep, masks.hidden[keep])


def _fold_feedforward(old: FeedForward, new: FeedForward, masks: Masks, index: int) -> None:
    keep = masks.hidden.nonzero().squeeze(1)
    units = masks.intermediate[index].nonzero().squeeze(1)
    new.input.weight.copy_(old.input.weight[units][:, keep])
    new.input.bias.copy_(old.input.bias[units])
    gate = masks.hidden[keep] * masks.feedforward_layers[index]
    scale = gate[:, None] * masks.intermediate[index][units]  # (J, units)
    _fold_output(old, new, lambda weight: weight[keep][:, units] * scale, keep, gate)
    _fold_norm(old.norm, new.norm, keep, masks.hidden[keep])


def _fold_output(
    old: SelfAttention | FeedForward,
    new: SelfAttention | FeedForward,
    fold: Callable[[Tensor], Tensor],
    keep: Tensor,
    gate: Tensor,
) -> None:
    new.output.weight.copy_(fold(old.output.weight))
    new.output.bias.copy_(old.output.bias[keep] * gate)
