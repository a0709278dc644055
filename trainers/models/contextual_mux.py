"""The contextual multiplexer: attention within each sequence, then across the instances.

Symbols: `e` embedded instances after the first pass, `v` keys.
"""

from dataclasses import replace

from torch import Tensor, nn

from trainers.models.encoder import EncoderLayer
from trainers.models.masks import Masks, masks_to, open_masks
from trainers.models.mux import gaussian_keys
from trainers.models.shape import MuxedBertShape


class ContextualMultiplexer(nn.Module):
    """Attention-based multiplexer (MUX-PLM, Murahari et al. 2023).

        u_i = layer_1(e_i) + e_i, over the positions of each instance
        w_t = layer_2(v * u_t) + v * u_t, over the N instances at each position
        m_t = mean over i of w_i,t

    Both layers are whole Transformer layers of the dense encoder's size; keys are fixed. Neither
    attends to padding, in any phase (the published pre-training leaves the second mask out, the
    published fine-tuning does not).

    Args:
        shape: Sizes of the model; heads and feed-forward units are those of the dense one.
    """

    def __init__(self, shape: MuxedBertShape) -> None:
        super().__init__()
        self.shape = shape
        keys = gaussian_keys(shape.num_instances, shape.hidden_size, shape.key_norm)
        self.keys = nn.Parameter(keys, requires_grad=False)
        sizes = (shape.dense_num_heads, shape.dense_feedforward_size)
        self.sequence_layer = EncoderLayer(shape, *sizes)
        self.instance_layer = EncoderLayer(shape, *sizes)

    def forward(
        self, embeddings: Tensor, attention_mask: Tensor | None, hidden: Tensor | None
    ) -> Tensor:
        """Mix instances.

        Args:
            embeddings: `(B, N, T, D)`, zero where `hidden` is.
            attention_mask: `(B, N, T)` booleans, or none to attend everywhere.
            hidden: `(D,)` gate values or none.

        Returns:
            `(B, T, D)`, zero where `hidden` is.
        """
        gates = None if hidden is None else hidden_masks(self.shape, hidden)
        batch, num_instances, length, size = embeddings.shape
        within = across = None
        if attention_mask is not None:
            within = attention_mask.flatten(0, 1)  # (B * N, T)
            # Where all instances are padding they attend to each other; nothing reads the result.
            is_read = attention_mask | ~attention_mask.any(dim=1, keepdim=True)
            across = is_read.transpose(1, 2).flatten(0, 1)  # (B * T, N)
        sequences = embeddings.flatten(0, 1)  # (B * N, T, D)
        sequences = sequences + run_layer(self.sequence_layer, sequences, within, gates)
        keyed = sequences.view_as(embeddings) * self.keys[:, None]
        instances = keyed.transpose(1, 2).reshape(batch * length, num_instances, size)
        instances = instances + run_layer(self.instance_layer, instances, across, gates)
        return instances.mean(dim=1).view(batch, length, size)


def hidden_masks(shape: MuxedBertShape, hidden: Tensor) -> Masks:
    """Yield masks that gate the hidden dimensions alone."""
    return replace(masks_to(open_masks(shape), hidden), hidden=hidden)


def run_layer(
    layer: EncoderLayer, states: Tensor, attention_mask: Tensor | None, gates: Masks | None
) -> Tensor:
    """Yield the next states `(B, T, D)` of a layer, attending where `(B, T)` is true."""
    attend = None if attention_mask is None else attention_mask[:, None, None, :]
    if gates is None:
        updated: Tensor = layer(states, attend)
        return updated
    return layer.forward_gated(states, attend, gates, 0)
