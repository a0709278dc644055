"""Index-embedding prefixes: a position per instance whose state demultiplexes (DataMUX).

The N positions of the prefix stand before the text. Symbols: `p` state of a prefix position, `h`
mixed state of a text position.
"""

import torch
from torch import Tensor, nn

from trainers.models.demux import refine
from trainers.models.shape import MuxedBertShape


class InstancePrefix(nn.Module):
    """Embeddings of the prefix: instance i has its own token at position i, a filler elsewhere.

    Prefix tokens and positions are rows of their own tables, so the text keeps its positions and
    the vocabulary its ids.

    Args:
        shape: Sizes of the model.
    """

    def __init__(self, shape: MuxedBertShape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.num_instances + 1, shape.hidden_size)
        self.positions = nn.Embedding(shape.num_instances, shape.hidden_size)

    def forward(self) -> Tensor:
        """Yield the token embeddings `(N, N, D)` of each instance's prefix."""
        filler = self.positions.num_embeddings
        slots = torch.arange(filler, device=self.tokens.weight.device)
        is_own = slots[:, None] == slots
        embedded: Tensor = self.tokens(torch.where(is_own, slots, filler))
        return embedded


class IndexPrefixDemultiplexer(nn.Module):
    """Demultiplexer whose key of an instance is the state of its prefix position.

        LN(GELU(W [p_i; h_t] + b)), then `num_layers` - 1 residual layers as in `RsaDemultiplexer`

    One layer is DataMUX's (Murahari et al. 2022). W is kept in two halves: W_state h is computed
    once per position, W_key p + b once per instance of a group.

    Args:
        num_instances: N, also the length of the prefix.
        hidden_size: D of the mixed states; less than `dense_size` after compaction.
        dense_size: Width of the demultiplexed states.
        num_layers: Shared layers, at least 1.
        layer_norm_eps: Added to variances.
    """

    state_inputs = ("state.weight", "key.weight")
    """See `RsaDemultiplexer.state_inputs`."""

    def __init__(
        self,
        num_instances: int,
        hidden_size: int,
        dense_size: int,
        num_layers: int,
        layer_norm_eps: float,
    ) -> None:
        super().__init__()
        self.num_prefix = num_instances
        self.state = nn.Linear(hidden_size, dense_size, bias=False)
        self.key = nn.Linear(hidden_size, dense_size)
        self.layers = nn.ModuleList(
            nn.Linear(dense_size, dense_size) for _ in range(num_layers - 1)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(dense_size, eps=layer_norm_eps) for _ in range(num_layers)
        )

    def tokens(
        self, states: Tensor, chosen: tuple[Tensor, Tensor, Tensor] | None = None
    ) -> Tensor:
        """See `RsaDemultiplexer.tokens`; `states` is `(B, N + T, D)`, positions count the text."""
        constants = self._constants(states)
        if chosen is None:
            text = self.state(states[:, self.num_prefix :])  # (B, T, dense_size)
            hidden = text.unsqueeze(2) + constants.unsqueeze(1)
        else:
            groups, slots, places = chosen
            hidden = self.state(states[groups, self.num_prefix + places])
            hidden = hidden + constants[groups, slots]
        return refine(hidden, self.layers, self.norms)

    def sequences(self, states: Tensor) -> Tensor:
        """See `RsaDemultiplexer.sequences`; the first N + 1 positions are read."""
        first = self.state(states[:, self.num_prefix]).unsqueeze(1)  # (B, 1, dense_size)
        return refine(first + self._constants(states), self.layers, self.norms)

    def _constants(self, states: Tensor) -> Tensor:
        """Yield what each instance's prefix adds to the first layer, `(B, N, dense_size)`."""
        constants: Tensor = self.key(states[:, : self.num_prefix])
        return constants
