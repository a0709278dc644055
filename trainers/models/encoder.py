"""BERT encoder that runs dense, gated or compacted through one code path."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.models.batch import is_all
from trainers.models.masks import Masks
from trainers.models.shape import MuxedBertShape


def masked_layer_norm(x: Tensor, norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """Layer norm over the dimensions whose gate is not zero, in closed form without gathering.

    Args:
        x: `(..., D)`, zero where `hidden` is zero.
        norm: Gain, bias and epsilon.
        hidden: `(D,)` gate values.

    Returns:
        `(..., D)`: the layer norm of the sub-vector scaled by the gate, zero elsewhere.
    """
    if hidden.device.type == "cpu" and is_all(hidden != 0):
        normed: Tensor = norm(x)  # exactly what a model without gates computes, and faster
        return normed * hidden
    is_open = (hidden != 0).to(x.dtype)
    count = is_open.sum().clamp(min=1)
    mean = (x * is_open).sum(dim=-1, keepdim=True) / count
    centred = (x - mean) * is_open
    variance = centred.square().sum(dim=-1, keepdim=True) / count
    return (norm.weight * centred * torch.rsqrt(variance + norm.eps) + norm.bias) * hidden


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention; written out where torch's fused one is slow.

    Training in bfloat16 on a CPU is such a place: the fused backward pass takes three to six times
    as long as these four operations (torch 2.13, sequences of 14 to 128 tokens).

    Args:
        query: `(B, H, Q, head_size)`.
        key: `(B, H, T, head_size)`.
        value: `(B, H, T, head_size)`.
        mask: Booleans that broadcast to `(B, H, Q, T)`, True where a token may be attended to.
    """
    is_slow = query.dtype == torch.bfloat16 and query.device.type == "cpu" and query.requires_grad
    if not is_slow:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).to(value.dtype) @ value


LINEAR_STEP = 8
"""Outputs of a linear layer that a CPU computes together; what is left over costs it as much."""
FEWEST_ROWS = 128
"""Rows from which on a product saves more than preparing it takes."""


def linear(states: Tensor, layer: nn.Linear) -> Tensor:
    """Yield what `layer` yields, in inference on a CPU with a whole number of `LINEAR_STEP`s.

    Pruning leaves sizes such as 371, which take a quarter longer than 376 (torch 2.13, MKL).
    """
    if not (_is_uneven(layer) and _is_inference_on_cpu(states)):
        return layer(states)
    surplus = -layer.out_features % LINEAR_STEP
    weight, bias = F.pad(layer.weight, (0, 0, 0, surplus)), F.pad(layer.bias, (0, surplus))
    return F.linear(states, weight, bias)[..., : layer.out_features]


def add_linear(states: Tensor, inner: Tensor, layer: nn.Linear, dropout: nn.Dropout) -> Tensor:
    """Yield `states` + `dropout(layer(inner))`, in inference on a CPU in one pass less.

    Args:
        states: `(B, T, D)`.
        inner: `(B, T, units)`.
        layer: From units to D.
        dropout: Of the sub-layer; does nothing in evaluation mode.
    """
    if _is_uneven(layer) or dropout.training or not _is_inference_on_cpu(inner):
        return states + dropout(linear(inner, layer))
    total = (states + layer.bias).flatten(0, 1)
    return total.addmm_(inner.flatten(0, 1), layer.weight.T).view_as(states)


def _is_uneven(layer: nn.Linear) -> bool:
    return layer.out_features % LINEAR_STEP > 0 and layer.out_features > 4 * LINEAR_STEP


def _is_inference_on_cpu(states: Tensor) -> bool:
    """Whether a large float32 product is at hand that nothing is trained with."""
    return (
        not torch.compiler.is_compiling()  # which fuses better, and cannot ask for the mode
        and torch.is_inference_mode_enabled()
        and states.device.type == "cpu"
        and states.dtype == torch.float32
        and states.numel() >= FEWEST_ROWS * states.shape[-1]
        and not torch.is_autocast_enabled("cpu")
    )


class SelfAttention(nn.Module):
    """Multi-head attention with `num_heads` of the dense heads left.

    Args:
        shape: Sizes; `hidden_size` is the width of the states.
        num_heads: Heads of this layer, at least 1.
    """

    def __init__(self, shape: MuxedBertShape, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_size = num_heads, shape.head_size
        width = num_heads * shape.head_size
        self.query_key_value = nn.Linear(shape.hidden_size, 3 * width)
        self.output = nn.Linear(width, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(
        self,
        states: Tensor,
        attention_mask: Tensor | None,
        heads: Tensor | None,
        num_queries: int | None = None,
        *,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Yield `(B, Q, D)` before dropout, residual and norm, or what the norm gets.

        Args:
            states: `(B, T, D)`.
            attention_mask: `(B, 1, 1, T)` booleans, True where a token may be attended to.
            heads: `(H,)` gate values or none.
            num_queries: Q, the first positions that are asked for; all T without it.
            residual: `(B, Q, D)` to which the output is added after dropout.
        """
        batch, length, _ = states.shape
        sizes = (self.num_heads, self.head_size)
        if num_queries is None:
            projected = self.query_key_value(states).view(batch, length, 3, *sizes)
            query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (B, H, T, head_size)
        else:
            width, all_three = self.num_heads * self.head_size, self.query_key_value
            weight, bias = all_three.weight, all_three.bias
            asking = F.linear(states[:, :num_queries], weight[:width], bias[:width])
            query = asking.view(batch, num_queries, *sizes).transpose(1, 2)
            others = F.linear(states, weight[width:], bias[width:])
            key, value = others.view(batch, length, 2, *sizes).permute(2, 0, 3, 1, 4)
        context = attend(query, key, value, attention_mask)
        if heads is not None:
            context = context * heads[:, None, None]
        context = context.transpose(1, 2).flatten(2)  # (B, Q, H * head_size)
        if residual is None:
            return linear(context, self.output)
        return add_linear(residual, context, self.output, self.dropout)


class FeedForward(nn.Module):
    """Two-layer perceptron with `num_units` of the dense units left.

    Args:
        shape: Sizes; `hidden_size` is the width of the states.
        num_units: Feed-forward units of this layer, at least 1.
    """

    def __init__(self, shape: MuxedBertShape, num_units: int) -> None:
        super().__init__()
        self.input = nn.Linear(shape.hidden_size, num_units)
        self.output = nn.Linear(num_units, shape.hidden_size)
        self.norm = nn.LayerNorm(shape.hidden_size, eps=shape.layer_norm_eps)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(
        self, states: Tensor, intermediate: Tensor | None, *, residual: Tensor | None = None
    ) -> Tensor:
        """Yield `(B, T, D)` before dropout, residual and norm, or what the norm gets.

        Args:
            states: `(B, T, D)`.
            intermediate: `(F,)` gate values or none.
            residual: `(B, T, D)` to which the output is added after dropout.
        """
        units = F.gelu(linear(states, self.input))
        if intermediate is not None:
            units = units * intermediate
        if residual is None:
            return linear(units, self.output)
        return add_linear(residual, units, self.output, self.dropout)


class EncoderLayer(nn.Module):
    """One layer; a sub-layer that compaction removed is absent together with its norm.

    Args:
        shape: Sizes of the model.
        num_heads: Heads of this layer; 0 for no attention.
        num_units: Feed-forward units of this layer; 0 for no feed-forward sub-layer.
    """

    def __init__(self, shape: MuxedBertShape, num_heads: int, num_units: int) -> None:
        super().__init__()
        self.attention = SelfAttention(shape, num_heads) if num_heads else None
        self.feedforward = FeedForward(shape, num_units) if num_units else None

    def forward(
        self, states: Tensor, attention_mask: Tensor | None, num_queries: int | None = None
    ) -> Tensor:
        """Yield the next `(B, T, D)` states, or those of the first `num_queries` positions."""
        kept = states[:, :num_queries]
        if self.attention is not None:
            total = self.attention(states, attention_mask, None, num_queries, residual=kept)
            kept = self.attention.norm(total)
        states = kept
        if self.feedforward is not None:
            total = self.feedforward(states, None, residual=states)
            states = self.feedforward.norm(total)
        return states

    def forward_gated(
        self,
        states: Tensor,
        attention_mask: Tensor | None,
        masks: Masks,
        index: int,
        num_queries: int | None = None,
    ) -> Tensor:
        """Yield the next states of a dense layer under gates; see `Masks` for the skip rule."""
        assert self.attention is not None
        assert self.feedforward is not None
        update = self.attention(states, attention_mask, masks.heads[index], num_queries)
        states = states[:, :num_queries]
        update = self.attention.dropout(update * masks.head_layers[index] * masks.hidden)
        normed = masked_layer_norm(states + update, self.attention.norm, masks.hidden)
        states = torch.where(masks.skips_attention[index], states, normed)
        update = self.feedforward(states, masks.intermediate[index])
        update = self.feedforward.dropout(update * masks.feedforward_layers[index] * masks.hidden)
        normed = masked_layer_norm(states + update, self.feedforward.norm, masks.hidden)
        return torch.where(masks.skips_feedforward[index], states, normed)


class Encoder(nn.Module):
    """All layers.

    Args:
        shape: Sizes of the model.
    """

    def __init__(self, shape: MuxedBertShape) -> None:
        super().__init__()
        sizes = zip(shape.head_counts, shape.feedforward_sizes, strict=True)
        self.layers = nn.ModuleList(EncoderLayer(shape, *size) for size in sizes)

    def forward(
        self, states: Tensor, attention_mask: Tensor | None, masks: Masks | None = None
    ) -> list[Tensor]:
        """Yield the `(B, T, D)` states after each layer, the last one being the output.

        Args:
            states: `(B, T, D)` embeddings.
            attention_mask: `(B, T)` booleans, or none to attend everywhere.
            masks: Gate values, for dense models only.
        """
        attend = _broadcast(attention_mask)
        outputs = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, EncoderLayer)
            if masks is None:
                states = layer(states, attend)
            else:
                states = layer.forward_gated(states, attend, masks, index)
            outputs.append(states)
        return outputs

    def first_states(
        self,
        states: Tensor,
        attention_mask: Tensor | None,
        num_positions: int = 1,
        masks: Masks | None = None,
    ) -> Tensor:
        """Yield the `(B, num_positions, D)` last states of the first positions, and no more.

        Nothing reads the other positions once the last attention has, so from there on they are
        left out: with one position, the last layer of a dense model costs about a sixth.
        """
        attend = _broadcast(attention_mask)
        layers = [layer for layer in self.layers if isinstance(layer, EncoderLayer)]
        attending = [i for i, layer in enumerate(layers) if layer.attention is not None]
        last = attending[-1] if attending else 0
        for index, layer in enumerate(layers):
            num_queries = num_positions if index >= last else None
            if masks is None:
                states = layer(states, attend, num_queries=num_queries)
            else:
                states = layer.forward_gated(states, attend, masks, index, num_queries)
        return states[:, :num_positions]


def _broadcast(attention_mask: Tensor | None) -> Tensor | None:
    return None if attention_mask is None else attention_mask[:, None, None, :]
